//! What this room's tests share: two tenants with keys of each role, and devices that exist without a link.

use super::commands::Commands;
use super::devices::Devices;
use super::live::Live;
use super::ports::{Peer, Transport};
use super::store::{self, DeviceRow};
use super::telemetry::{Retention, Telemetry};
use super::twins::Twins;
use crate::platform::clock::Clock;
use crate::platform::db::Db;
use crate::platform::http::Events;
use crate::platform::testing;
use crate::tenants::{Activity, ActivityQuery, Caller, Tenants};
use aidos_protocol::api::keys::{CreateKey, Role};
use aidos_protocol::{DeviceId, TenantId};
use axum::http::{HeaderMap, Method, header};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio_util::sync::CancellationToken;

/// One tenant's keys, as they stand in an Authorization header.
pub(super) struct Keys {
    pub(super) viewer: String,
    pub(super) operator: String,
    pub(super) owner: String,
}

/// A fleet of two tenants.
pub(super) struct Fleet {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) tenants: Tenants,
    pub(super) activity: Activity,
    pub(super) events: Events,
    pub(super) devices: Devices,
    pub(super) twins: Twins,
    pub(super) commands: Commands,
    pub(super) telemetry: Telemetry,
    /// An operator of the one tenant.
    pub(super) ours: Caller,
    /// An operator of the other.
    pub(super) theirs: Caller,
    pub(super) our_keys: Keys,
    pub(super) their_keys: Keys,
    sessions: AtomicI64,
}

/// Keeps little, so that tests reach the limits.
pub(super) const RETENTION: Retention =
    Retention { max_age: std::time::Duration::from_secs(3_600), max_samples: 100, interval: std::time::Duration::from_secs(1) };

impl Fleet {
    pub(super) async fn new(db: Db) -> Self {
        let clock = testing::clock();
        let events = testing::events(&clock);
        let activity = Activity::new(db.clone(), clock.clone(), events.clone());
        let tenants = Tenants::new(db.clone(), clock.clone(), activity.clone());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("owner.key");
        tenants.bootstrap(&file).await.unwrap();
        let owner_text = std::fs::read_to_string(&file).unwrap().trim().to_owned();
        let owner = authenticate(&tenants, &owner_text).await;
        let (_, other_text) = tenants.create(&owner, "other".parse().unwrap()).await.unwrap();
        let other = authenticate(&tenants, other_text.reveal()).await;
        let our_keys = keys(&tenants, &owner, owner_text).await;
        let their_keys = keys(&tenants, &other, other_text.reveal().to_owned()).await;
        let ours = authenticate(&tenants, &our_keys.operator).await;
        let theirs = authenticate(&tenants, &their_keys.operator).await;
        let live = Live::default();
        let devices = Devices::new(db.clone(), clock.clone(), activity.clone(), events.clone(), live.clone());
        let twins = Twins::new(db.clone(), clock.clone(), activity.clone());
        let commands = Commands::new(
            db.clone(),
            clock.clone(),
            activity.clone(),
            events.clone(),
            devices.clone(),
            live,
            CancellationToken::new(),
        );
        let telemetry = Telemetry::new(db.clone(), clock.clone(), RETENTION);
        let sessions = AtomicI64::new(1);
        Self {
            db,
            clock,
            tenants,
            activity,
            events,
            devices,
            twins,
            commands,
            telemetry,
            ours,
            theirs,
            our_keys,
            their_keys,
            sessions,
        }
    }

    /// A device of the caller's tenant, offline, as enrolment makes it.
    pub(super) async fn device(&self, caller: &Caller, name: &str, labels: &[(&str, &str)]) -> DeviceId {
        let now = self.clock.now();
        let id = DeviceId::new(now.as_millis());
        let row = DeviceRow {
            tenant: caller.tenant,
            id,
            name: name.to_owned(),
            revoked: None,
            token: None,
            created: now,
            revision: 1,
            online: false,
            transport: None,
            address: None,
            agent_version: None,
            last_seen: None,
            certificate_end: now.plus_seconds(30 * 24 * 3_600),
        };
        let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut tx = self.db.begin().await.unwrap();
        store::insert_device(&mut tx, &row).await.unwrap();
        self.twins.create(&mut tx, caller.tenant, id, &labels).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// Marks the device online, as a session does.
    pub(super) async fn online(&self, caller: &Caller, device: DeviceId) {
        let session = self.sessions.fetch_add(1, Ordering::SeqCst);
        self.devices.mark_online(&peer(caller.tenant, device), session, "0.1.0").await.unwrap();
    }

    /// The actions recorded of `target` in the caller's tenant, oldest first.
    pub(super) async fn actions(&self, caller: &Caller, target: impl ToString) -> Vec<String> {
        let query = ActivityQuery { target: Some(target.to_string()), ..Default::default() };
        let entries = self.activity.list(caller.tenant, &query, None, 100).await.unwrap();
        entries.into_iter().rev().map(|entry| entry.action).collect()
    }
}

pub(super) fn peer(tenant: TenantId, device: DeviceId) -> Peer {
    Peer { tenant, device, transport: Transport::Quic, address: "192.0.2.7:50000".into(), key_id: None }
}

async fn authenticate(tenants: &Tenants, key: &str) -> Caller {
    tenants
        .authenticate(
            &Method::GET,
            &HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {key}").try_into().unwrap())]),
            None,
        )
        .await
        .unwrap()
}

async fn keys(tenants: &Tenants, owner: &Caller, owner_text: String) -> Keys {
    let key = async |role: Role| {
        let wish = CreateKey { name: role.to_string(), role, ttl_s: None };
        tenants.create_key(owner, wish).await.unwrap().1.reveal().to_owned()
    };
    Keys { viewer: key(Role::Viewer).await, operator: key(Role::Operator).await, owner: owner_text }
}
