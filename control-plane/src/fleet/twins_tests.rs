//! Twins on both stores.

use super::store::{self, DeviceKey, DeviceRow};
use super::twins::{TwinError, Twins, What};
use crate::platform::db::Db;
use crate::platform::testing::{START, both_stores, clock, events};
use crate::tenants::{Activity, Caller};
use aidos_protocol::frame::{Body, SiteChange, SiteChanges, StatusDelta};
use aidos_protocol::twin::sign::site_change_message;
use aidos_protocol::twin::{Author, Edit, Intent, Status};
use aidos_protocol::{DeviceId, TenantId};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

struct Bench {
    twins: Twins,
    db: Db,
    tenant: TenantId,
    device: DeviceId,
    key: KeyPair,
    caller: Caller,
}

fn label(key: &str, value: &str) -> Edit {
    Edit::SetLabel { key: key.into(), value: value.into() }
}

impl Bench {
    async fn new(db: Db) -> Self {
        let (tenant, device) = (TenantId::new(1), DeviceId::new(2));
        let activity = Activity::new(db.clone(), clock(), events(&clock()));
        let twins = Twins::new(db.clone(), clock(), activity);
        let mut tx = db.begin().await.unwrap();
        sqlx::query("INSERT INTO tenants (id, name, created_us) VALUES ($1, 'acme', 0)")
            .bind(tenant.to_string())
            .execute(&mut *tx)
            .await
            .unwrap();
        let row = DeviceRow {
            tenant,
            id: device,
            name: "one".into(),
            revoked: None,
            token: None,
            created: START,
            revision: 1,
            online: false,
            transport: None,
            address: None,
            agent_version: None,
            last_seen: None,
            certificate_end: START,
        };
        store::insert_device(&mut tx, &row).await.unwrap();
        twins.create(&mut tx, tenant, device, &[("site".to_owned(), "lab".to_owned())].into()).await.unwrap();
        tx.commit().await.unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let caller = Caller::key(tenant, aidos_protocol::ApiKeyId::new(3), aidos_protocol::api::keys::Role::Operator, None);
        Self { twins, db, tenant, device, key, caller }
    }

    fn keys(&self) -> Vec<DeviceKey> {
        let spki = self.key.subject_public_key_info();
        vec![DeviceKey { key_id: hex::encode(Sha256::digest(&spki)), spki, serial: "1".into(), created: START }]
    }

    async fn edit(&self, edits: &[Edit]) -> u64 {
        self.twins.edit(&self.caller, self.device, edits, None).await.unwrap().revision
    }

    /// The document as the device gets it.
    async fn pulled(&self) -> Intent {
        match self.twins.pull::<Vec<u8>>(self.tenant, self.device, 0, &[]).await.unwrap() {
            Some(Body::IntentDocument(document)) => Intent::load(&document.document).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// A site's edit on `replica`, signed.
    fn site_edit(&self, replica: &mut Intent, user: &str, edits: &[Edit]) -> SiteChange {
        let author = Author::Site { device: self.device, run: 0, user: user.into() };
        let hash = replica.edit(&author, edits, START).unwrap().unwrap();
        let message = site_change_message(self.tenant, self.device, replica.epoch(), user, &hash);
        SiteChange {
            change: replica.change(&hash).unwrap().into(),
            user: user.into(),
            key_id: Sha256::digest(self.key.subject_public_key_info()).to_vec().into(),
            signature: self.key.sign(&message).unwrap().into(),
        }
    }

    async fn merge(&self, epoch: u32, changes: Vec<SiteChange>) -> aidos_protocol::frame::SiteAck {
        self.twins.merge_site(self.tenant, self.device, &SiteChanges { epoch, changes }, &self.keys()).await.unwrap()
    }

    async fn labels(&self) -> BTreeMap<String, String> {
        self.twins.intent(self.tenant, self.device).await.unwrap().view.labels
    }

    async fn mirrored(&self) -> BTreeMap<String, String> {
        use sqlx::Row as _;
        let sql = "SELECT key, value FROM device_labels WHERE device_id = $1";
        let rows = sqlx::query(sql).bind(self.device.to_string()).fetch_all(self.db.pool()).await.unwrap();
        rows.iter().map(|row| (row.get("key"), row.get("value"))).collect()
    }

    async fn actions(&self) -> Vec<(String, String)> {
        use sqlx::Row as _;
        let rows = sqlx::query("SELECT actor, action FROM activity ORDER BY id").fetch_all(self.db.pool()).await.unwrap();
        rows.iter().map(|row| (row.get("actor"), row.get("action"))).collect()
    }
}

both_stores!(
    an_edit_shows_is_mirrored_and_recorded_and_a_stale_one_is_refused,
    edits_at_once_all_take_effect,
    a_device_pulls_what_it_lacks,
    a_sites_edit_is_merged_once_and_recorded_as_its_users,
    a_forged_or_foreign_edit_quarantines_its_author,
    an_epoch_ends_when_the_device_has_all_of_it_and_an_edit_of_the_old_one_is_replayed,
    an_absent_device_does_not_let_its_document_grow_for_ever,
    status_is_mirrored_and_late_deltas_change_nothing,
    what_is_remembered_of_a_status_never_hides_what_another_plane_took,
    what_a_deployment_edits_is_told_as_such,
    another_tenant_sees_nothing,
);

async fn an_edit_shows_is_mirrored_and_recorded_and_a_stale_one_is_refused(db: Db) {
    let bench = Bench::new(db).await;
    let mut changes = bench.twins.changes();
    let before = bench.twins.intent(bench.tenant, bench.device).await.unwrap();
    assert_eq!((before.revision, before.view.labels["site"].as_str()), (1, "lab"));
    assert_eq!(bench.edit(&[label("tier", "gold"), Edit::RemoveLabel { key: "site".into() }]).await, 2);
    assert_eq!(changes.recv().await.unwrap(), (bench.tenant, bench.device, What::Intent));
    assert_eq!(bench.edit(&[label("tier", "gold")]).await, 2);
    assert_eq!(bench.labels().await, [("tier".to_owned(), "gold".to_owned())].into());
    assert_eq!(bench.mirrored().await, bench.labels().await);
    let stale = bench.twins.edit(&bench.caller, bench.device, &[label("a", "b")], Some(1)).await;
    assert!(matches!(stale, Err(TwinError::Stale { now: 2 })));
    let bad = bench.twins.edit(&bench.caller, bench.device, &[label("a b", "b")], None).await;
    assert!(matches!(bad, Err(TwinError::Edit(_))));
    assert_eq!(bench.actions().await, [(bench.caller.actor.clone(), "device.edit".to_owned())]);
}

async fn edits_at_once_all_take_effect(db: Db) {
    let bench = Bench::new(db).await;
    let all = (0..8).map(|n| {
        let (twins, caller, device) = (bench.twins.clone(), bench.caller.clone(), bench.device);
        tokio::spawn(async move { twins.edit(&caller, device, &[label(&format!("k{n}"), "v")], None).await.unwrap() })
    });
    for one in futures::future::join_all(all).await {
        one.unwrap();
    }
    assert_eq!(bench.labels().await.len(), 9);
    assert_eq!(bench.mirrored().await, bench.labels().await);
    assert_eq!(bench.twins.intent(bench.tenant, bench.device).await.unwrap().revision, 9);
}

async fn a_device_pulls_what_it_lacks(db: Db) {
    let bench = Bench::new(db).await;
    let mut device = bench.pulled().await;
    let pull = |intent: &Intent| {
        let (twins, heads, epoch) = (bench.twins.clone(), intent.wire_heads(), intent.epoch());
        async move { twins.pull(bench.tenant, bench.device, epoch, &heads).await.unwrap() }
    };
    assert_eq!(pull(&device).await, None);
    bench.edit(&[label("tier", "gold")]).await;
    let Some(Body::IntentChanges(changes)) = pull(&device).await else { panic!("changes were expected") };
    device.apply(&changes.changes).unwrap();
    assert_eq!(pull(&device).await, None);
    assert_eq!(device.view().labels, bench.labels().await);
    let unknown = bench.twins.pull(bench.tenant, bench.device, 1, &[vec![9; 32]]).await.unwrap();
    assert!(matches!(unknown, Some(Body::IntentDocument(_))));
}

async fn a_sites_edit_is_merged_once_and_recorded_as_its_users(db: Db) {
    let bench = Bench::new(db).await;
    let mut replica = bench.pulled().await;
    let first = bench.site_edit(&mut replica, "alice", &[label("site", "cellar")]);
    let second = bench.site_edit(&mut replica, "alice", &[label("row", "2")]);
    bench.edit(&[label("tier", "gold")]).await;
    for _ in 0..2 {
        let ack = bench.merge(1, vec![first.clone(), second.clone()]).await;
        assert_eq!((ack.merged.len(), ack.rejected.len()), (2, 0));
        assert_eq!(ack.heads, bench.pulled().await.wire_heads());
    }
    let labels: Vec<_> = bench.labels().await.into_iter().collect();
    let expected = [("row", "2"), ("site", "cellar"), ("tier", "gold")];
    assert_eq!(labels, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert_eq!(bench.mirrored().await, bench.labels().await);
    let site = ("site:alice".to_owned(), "device.edit".to_owned());
    assert_eq!(bench.actions().await.iter().filter(|entry| **entry == site).count(), 2);
}

async fn a_forged_or_foreign_edit_quarantines_its_author(db: Db) {
    let bench = Bench::new(db).await;
    let mut replica = bench.pulled().await;
    let honest = bench.site_edit(&mut bench.pulled().await, "alice", &[label("a", "1")]);
    let remove = Edit::RemoveModel { name: "digits".parse().unwrap() };
    let mut forged = bench.site_edit(&mut replica, "mallory", &[label("b", "1")]);
    forged.signature = b"none"[..].into();
    let follows = bench.site_edit(&mut replica, "mallory", &[label("c", "1")]);
    let ack = bench.merge(1, vec![forged, honest, follows.clone()]).await;
    assert_eq!((ack.merged.len(), ack.rejected.len()), (1, 2));
    assert!(ack.rejected[0].reason.contains("signature"), "{}", ack.rejected[0].reason);
    assert!(ack.rejected[1].reason.contains("an earlier change of the same author"));
    // Also in a later frame, and whoever asks.
    assert_eq!(bench.merge(1, vec![follows]).await.rejected.len(), 1);
    assert_eq!(bench.labels().await.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "site"]);
    assert!(bench.actions().await.iter().any(|(_, action)| action == "device.edit.refuse"));

    // Another user's name on it, another device's key.
    let mut other = bench.site_edit(&mut bench.pulled().await, "bob", &[label("d", "1")]);
    other.user = "carol".into();
    let ack = bench.merge(1, vec![other]).await;
    assert!(ack.rejected[0].reason.contains("by the user"), "{}", ack.rejected[0].reason);
    let mut stranger = bench.site_edit(&mut bench.pulled().await, "dave", &[label("d", "1")]);
    stranger.key_id = vec![0; 32].into();
    assert!(bench.merge(1, vec![stranger]).await.rejected[0].reason.contains("never had"));
    let model = bench.twins.edit(&bench.caller, bench.device, &[remove], None).await;
    assert!(model.is_ok());
    let junk = SiteChange { change: b"junk"[..].into(), ..Default::default() };
    assert_eq!(bench.merge(1, vec![junk]).await.rejected.len(), 1);
}

async fn an_epoch_ends_when_the_device_has_all_of_it_and_an_edit_of_the_old_one_is_replayed(db: Db) {
    let bench = Bench::new(db).await;
    let mut replica = bench.pulled().await;
    let edit = bench.site_edit(&mut replica, "alice", &[label("site", "cellar")]);
    for n in 0..80 {
        bench.edit(&[label("n", &n.to_string())]).await;
    }
    let revision = bench.twins.intent(bench.tenant, bench.device).await.unwrap().revision;
    let all = bench.pulled().await;
    assert_eq!(all.epoch(), 1);
    bench.twins.ack(bench.tenant, bench.device, (1, &all.wire_heads()), 1).await.unwrap();
    let next = bench.pulled().await;
    assert_eq!((next.epoch(), next.len()), (2, 2));
    // What people see is the same.
    assert_eq!(
        (bench.labels().await["n"].as_str(), bench.twins.intent(bench.tenant, bench.device).await.unwrap().revision),
        ("79", revision)
    );

    for _ in 0..2 {
        let ack = bench.merge(1, vec![edit.clone()]).await;
        assert_eq!((ack.epoch, ack.merged.len(), ack.rejected.len()), (2, 1, 0));
    }
    assert_eq!(bench.labels().await["site"], "cellar");
    assert_eq!(bench.mirrored().await["site"], "cellar");
    let site = bench.actions().await.into_iter().filter(|(actor, _)| actor == "site:alice").count();
    assert_eq!(site, 1);
    let ack = bench.merge(7, vec![edit.clone()]).await;
    assert!(ack.rejected[0].reason.contains("epoch 7"));

    // The ended one is kept until the device has the new one and nothing to send of the old.
    let now = bench.pulled().await;
    bench.twins.ack(bench.tenant, bench.device, (2, &now.wire_heads()), 1).await.unwrap();
    assert_eq!(bench.merge(1, vec![edit.clone()]).await.merged.len(), 1);
    bench.twins.ack(bench.tenant, bench.device, (2, &now.wire_heads()), 0).await.unwrap();
    assert!(bench.merge(1, vec![edit]).await.rejected[0].reason.contains("make the edit again"));
    let kept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM twin_epochs").fetch_one(bench.db.pool()).await.unwrap();
    assert_eq!(kept, 0);
}

async fn an_absent_device_does_not_let_its_document_grow_for_ever(db: Db) {
    let bench = Bench::new(db).await;
    let mut replica = bench.pulled().await;
    let edit = bench.site_edit(&mut replica, "alice", &[label("site", "cellar")]);
    for n in 0..520 {
        bench.edit(&[label("n", &n.to_string())]).await;
    }
    let document = bench.pulled().await;
    assert_eq!(document.epoch(), 2);
    assert!(document.save().len() < 1_024, "{}", document.save().len());
    bench.merge(1, vec![edit]).await;
    assert_eq!((bench.labels().await["site"].as_str(), bench.labels().await["n"].as_str()), ("cellar", "519"));
}

async fn status_is_mirrored_and_late_deltas_change_nothing(db: Db) {
    let bench = Bench::new(db).await;
    let mut changes = bench.twins.changes();
    let apply = |delta: StatusDelta| {
        let (twins, tenant, device) = (bench.twins.clone(), bench.tenant, bench.device);
        async move { twins.apply_status(tenant, device, &delta).await.unwrap() }
    };
    let mut status = Status::new(4);
    status.set("models/digits", &serde_json::json!({"state": "ready"})).unwrap();
    status.set("link", &"quic").unwrap();
    let first = status.full();
    assert_eq!(apply(first.clone()).await.unwrap().seq, 2);
    assert!(matches!(changes.recv().await.unwrap().2, What::Status(paths) if paths.len() == 2));
    status.remove("link");
    status.set("models/digits", &serde_json::json!({"state": "failed"})).unwrap();
    assert!(apply(status.delta_since(Some((4, 3))).unwrap()).await.unwrap().resync);
    assert_eq!(apply(status.delta_since(Some((4, 2))).unwrap()).await.unwrap().seq, 4);
    assert_eq!(apply(first).await.unwrap().seq, 4);
    let held = bench.twins.status(bench.tenant, bench.device).await.unwrap();
    assert_eq!((held.boot_id, held.seq, held.values.len()), (4, 4, 1));
    assert_eq!(held.values["models/digits"]["state"], "failed");
    let restarted = Status::new(5);
    apply(restarted.full()).await.unwrap();
    assert!(bench.twins.status(bench.tenant, bench.device).await.unwrap().values.is_empty());
    assert!(apply(StatusDelta::default()).await.is_err());
}

async fn what_is_remembered_of_a_status_never_hides_what_another_plane_took(db: Db) {
    let bench = Bench::new(db).await;
    let other = Twins::new(bench.db.clone(), clock(), Activity::new(bench.db.clone(), clock(), events(&clock())));
    let (tenant, device, both) = (bench.tenant, bench.device, [&bench.twins, &other]);
    let mut status = Status::new(1);
    for turn in 0..6u64 {
        let twins = both[turn as usize % 2];
        status.set("models/digits", &turn).unwrap();
        if turn == 3 {
            status.remove("link");
        } else {
            status.set("link", &turn).unwrap();
        }
        // The device was acknowledged by the other plane.
        let acked = twins.status_position(tenant, device).await.unwrap();
        let delta = status.delta_since(Some(acked)).unwrap();
        let ack = twins.apply_status(tenant, device, &delta).await.unwrap().unwrap();
        assert_eq!(((ack.boot_id, ack.seq), ack.resync), (status.position(), false));
        for twins in both {
            let seen = &twins.statuses(tenant, &[device, DeviceId::new(77)]).await.unwrap();
            let expected: Vec<_> =
                status.iter().map(|(at, value)| (at.to_owned(), serde_json::from_slice(value).unwrap())).collect();
            assert_eq!((seen.len(), &seen[&device]), (1, &expected.into_iter().collect()), "turn {turn}");
        }
    }
    // A delta that follows what only this plane still remembers is old.
    let old = StatusDelta { boot_id: 1, base_seq: 2, seq: 3, ..StatusDelta::default() };
    assert_eq!(bench.twins.apply_status(tenant, device, &old).await.unwrap().unwrap().seq, status.position().1);
}

async fn what_a_deployment_edits_is_told_as_such(db: Db) {
    let bench = Bench::new(db).await;
    let mut changes = bench.twins.changes();
    bench.twins.edit(&Caller::system(bench.tenant), bench.device, &[label("a", "b")], None).await.unwrap();
    bench.edit(&[label("a", "c")]).await;
    assert_eq!([changes.recv().await.unwrap().2, changes.recv().await.unwrap().2], [What::Told, What::Intent]);
    let intents = bench.twins.intents(bench.tenant, &[bench.device, DeviceId::new(77)]).await.unwrap();
    assert_eq!((intents.len(), intents[&bench.device].labels["a"].as_str()), (1, "c"));
}

async fn another_tenant_sees_nothing(db: Db) {
    let bench = Bench::new(db).await;
    let stranger = TenantId::new(99);
    assert!(bench.twins.intent(stranger, bench.device).await.is_err());
    assert!(bench.twins.pull::<Vec<u8>>(stranger, bench.device, 0, &[]).await.is_err());
    assert!(bench.twins.edit(&Caller::system(stranger), bench.device, &[label("a", "b")], None).await.is_err());
    assert!(bench.twins.status(stranger, bench.device).await.unwrap().values.is_empty());
    let status = Status::new(1);
    assert!(bench.twins.apply_status(stranger, bench.device, &status.full()).await.is_err());
}
