//! The update repository on both stores, read by the verifier that devices run.

use super::{DIGITS, Registry};
use crate::platform::db::Db;
use crate::platform::pki::Pki;
use crate::platform::testing::both_stores;
use crate::registry::RegistryError;
use crate::tenants::Caller;
use aidos_protocol::api::keys::Role as KeyRole;
use aidos_protocol::api::trust::SignedFile;
use aidos_protocol::artifact::Digest;
use aidos_protocol::enrol::anchor_message;
use aidos_protocol::time::Micros;
use aidos_protocol::trust::{
    Answer, DelegatedRole, Delegations, Expires, ModelTarget, Refresh, Role, Root, RootRoles, Search, SigningKey, Step, Targets,
    TrustError, Trusted, sign,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use std::time::Duration;

both_stores!(
    what_people_sign_is_what_devices_verify,
    what_is_not_signed_well_is_refused_and_changes_nothing,
    timestamps_are_made_anew_daily_and_outlive_a_year,
    another_tenants_address_opens_nothing,
    a_publisher_is_held_to_what_was_delegated_to_it,
    the_root_is_told_with_the_cas_signature,
);

const DAY: i64 = 86_400;

struct People {
    root: SigningKey,
    targets: SigningKey,
}

fn key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap()
}

fn file(role: &str, body: &[u8]) -> SignedFile {
    SignedFile { role: role.into(), body: String::from_utf8(body.to_vec()).unwrap() }
}

impl People {
    fn new() -> Self {
        Self { root: key(), targets: key() }
    }

    async fn root(&self, registry: &Registry, version: u64, now: Micros) -> Root {
        let online = registry.trust.view(registry.alice.tenant).await.unwrap().online_key;
        let one = |key: &SigningKey| Role::of(vec![key.id()], 1);
        let roles = RootRoles::new(one(&self.root), one(&self.targets), Role::of(vec![online.id()], 1));
        let expires = Expires::at(now.plus_seconds(365 * DAY));
        Root::new(version, expires, roles, [self.root.public(), self.targets.public(), online])
    }

    fn targets(&self, version: u64, now: Micros, models: &[(ModelTarget, Digest, u64)]) -> Vec<u8> {
        let mut targets = Targets::new(version, Expires::at(now.plus_seconds(90 * DAY)));
        for (model, digest, length) in models {
            targets.targets.insert(model.path(), model.target(*digest, *length));
        }
        sign(&targets, &[&self.targets]).unwrap()
    }

    async fn init(&self, registry: &Registry) -> Vec<u8> {
        let now = registry.clock.now();
        let root = sign(&self.root(registry, 1, now).await, &[&self.root]).unwrap();
        let files = [file("root", &root), file("targets", &self.targets(1, now, &[]))];
        registry.trust.publish(&registry.alice, &files).await.unwrap();
        root
    }
}

fn digits(version: u64) -> ModelTarget {
    ModelTarget::original("digits".parse().unwrap(), version)
}

/// The access part of the tenant's address.
async fn access(registry: &Registry, caller: &Caller) -> String {
    let view = registry.trust.view(caller.tenant).await.unwrap();
    view.metadata_url.trim_end_matches("/metadata/").rsplit('/').next().unwrap().to_owned()
}

async fn refresh(registry: &Registry, trusted: &mut Trusted, now: Micros) -> Result<(), TrustError> {
    let (tenant, access) = (registry.alice.tenant, access(registry, &registry.alice).await);
    let mut refresh = Refresh::default();
    while let Some(want) = refresh.want(trusted, now)? {
        let got = registry.trust.metadata(tenant, &access, &want.address).await;
        let bytes = got.ok();
        refresh.take(trusted, bytes.as_deref().map_or(Answer::Missing, Answer::Bytes), now)?;
    }
    Ok(())
}

async fn what_people_sign_is_what_devices_verify(db: Db) {
    let registry = Registry::on(db).await;
    let people = People::new();
    let mut trusted = Trusted::begin(&people.init(&registry).await).unwrap();
    let now = registry.clock.now();
    refresh(&registry, &mut trusted, now).await.unwrap();
    assert_eq!(trusted.signed_at(), Some(now));

    let digest = registry.upload(&registry.alice, DIGITS).await;
    let targets = people.targets(2, now, &[(digits(1), digest, DIGITS.len() as u64)]);
    let view = registry.trust.publish(&registry.alice, &[file("targets", &targets)]).await.unwrap();
    let versions: Vec<_> = view.roles.iter().map(|role| (role.role.as_str(), role.version)).collect();
    assert_eq!(versions, [("root", 1), ("snapshot", 2), ("targets", 2), ("timestamp", 2)]);
    refresh(&registry, &mut trusted, now).await.unwrap();
    let Step::Done(Some(found)) = Search::new(&digits(1).path()).step(&trusted, now).unwrap() else { panic!("not found") };
    assert_eq!(ModelTarget::of(&found.target), Some(digits(1)));
    let access = access(&registry, &registry.alice).await;
    let address = found.target.address(&digits(1).path(), true);
    let toughs = format!("{}.{}", digest.hex(), digits(1).path());
    for name in [address, toughs] {
        assert_eq!(registry.trust.target(registry.alice.tenant, &access, &name).unwrap(), digest);
    }
    let unknown = registry.trust.target(registry.alice.tenant, &access, &digits(1).path()).unwrap_err();
    assert!(matches!(unknown, RegistryError::NotFound(_)));

    // A new root by both keys; then a device at the first finds the way.
    let next = People { root: key(), targets: key() };
    let root = next.root(&registry, 2, now).await;
    let root = sign(&root, &[&people.root, &next.root]).unwrap();
    let targets = next.targets(3, now, &[]);
    registry.trust.publish(&registry.alice, &[file("root", &root), file("targets", &targets)]).await.unwrap();
    refresh(&registry, &mut trusted, now).await.unwrap();
    assert_eq!((trusted.root().version, trusted.targets().unwrap().version), (2, 3));
}

async fn what_is_not_signed_well_is_refused_and_changes_nothing(db: Db) {
    let registry = Registry::on(db).await;
    let people = People::new();
    let now = registry.clock.now();
    let refused = async |files: &[SignedFile], part: &str| {
        let error = registry.trust.publish(&registry.alice, files).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(&[], "0 files").await;
    refused(&[file("targets", &people.targets(1, now, &[]))], "aidos trust init").await;
    let mut foreign = people.root(&registry, 1, now).await;
    foreign.roles.timestamp = Role::of(vec![people.root.id()], 1);
    refused(&[file("root", &sign(&foreign, &[&people.root]).unwrap())], "this control plane's key").await;
    people.init(&registry).await;
    let before = registry.trust.view(registry.alice.tenant).await.unwrap();

    refused(&[file("timestamp", b"{}")], "signed by the control plane").await;
    refused(&[file("targets", b"{}")], "not valid metadata").await;
    refused(&[file("targets", &people.targets(3, now, &[]))], "the next one is 2").await;
    refused(&[file("targets", &People::new().targets(2, now, &[]))], "0 valid signatures").await;
    refused(&[file("targets", &people.targets(2, now.plus_seconds(-91 * DAY), &[]))], "expired at").await;
    let nowhere = people.targets(2, now, &[(digits(1), Digest::of(b"nowhere"), 7)]);
    refused(&[file("targets", &nowhere)], "push the model first").await;
    let other = People::new();
    let unsigned_by_old = sign(&other.root(&registry, 2, now).await, &[&other.root]).unwrap();
    refused(&[file("root", &unsigned_by_old)], "0 valid signatures by keys of root version 1").await;
    refused(&[file("acme", &people.targets(1, now, &[]))], "not listed").await;
    // A good file does not carry a bad one along.
    refused(&[file("targets", &people.targets(2, now, &[])), file("targets", b"{}")], "not valid metadata").await;

    let operator = Caller { role: KeyRole::Operator, ..registry.alice.clone() };
    let root = sign(&people.root(&registry, 2, now).await, &[&people.root]).unwrap();
    let denied = registry.trust.publish(&operator, &[file("root", &root)]).await.unwrap_err();
    assert!(matches!(denied, RegistryError::Denied(_)));
    assert_eq!(registry.trust.view(registry.alice.tenant).await.unwrap(), before);
}

async fn timestamps_are_made_anew_daily_and_outlive_a_year(db: Db) {
    let registry = Registry::on(db).await;
    let people = People::new();
    let mut trusted = Trusted::begin(&people.init(&registry).await).unwrap();
    assert_eq!(registry.trust.renew_due().await.unwrap(), 0);
    for day in 1..=80 {
        registry.clock.advance(Duration::from_secs(DAY.unsigned_abs() + 1));
        assert_eq!(registry.trust.renew_due().await.unwrap(), 1, "day {day}");
        assert_eq!(registry.trust.renew_due().await.unwrap(), 0, "day {day}");
    }
    refresh(&registry, &mut trusted, registry.clock.now()).await.unwrap();
    // The snapshot was made anew at half its life, although nothing changed.
    let (timestamp, snapshot) = (trusted.timestamp().unwrap().version, trusted.snapshot().unwrap().version);
    assert_eq!((timestamp, snapshot), (81, 2));
}

async fn another_tenants_address_opens_nothing(db: Db) {
    let registry = Registry::on(db).await;
    People::new().init(&registry).await;
    let (own, other) = (access(&registry, &registry.alice).await, access(&registry, &registry.mallory).await);
    let (alice, mallory) = (registry.alice.tenant, registry.mallory.tenant);
    assert!(registry.trust.metadata(alice, &own, "timestamp.json").await.is_ok());
    for (tenant, access, name) in [
        (alice, other.as_str(), "timestamp.json"),
        (mallory, own.as_str(), "timestamp.json"),
        (mallory, other.as_str(), "timestamp.json"),
        (alice, own.as_str(), "2.root.json"),
        (alice, own.as_str(), "root.json"),
        (alice, own.as_str(), "x"),
        (alice, own.as_str(), "1.unknown.json"),
    ] {
        let error = registry.trust.metadata(tenant, access, name).await.unwrap_err();
        assert!(matches!(error, RegistryError::NotFound(_)), "{name}: {error}");
    }
}

async fn a_publisher_is_held_to_what_was_delegated_to_it(db: Db) {
    let registry = Registry::on(db).await;
    let (people, team, now) = (People::new(), key(), registry.clock.now());
    let root = people.init(&registry).await;
    let expires = Expires::at(now.plus_seconds(90 * DAY));
    let delegated = DelegatedRole {
        name: "team".into(),
        keyids: vec![team.id()],
        threshold: 1,
        terminating: true,
        paths: Some(vec!["models/digits/*/*".into()]),
        path_hash_prefixes: None,
        extra: Default::default(),
    };
    let delegations = |roles| Delegations { keys: [(team.id(), team.public())].into(), roles, extra: Default::default() };
    let top = |version, roles| {
        let targets = Targets { delegations: Some(delegations(roles)), ..Targets::new(version, expires) };
        file("targets", &sign(&targets, &[&people.targets]).unwrap())
    };
    let publish = async |files: &[SignedFile]| registry.trust.publish(&registry.alice, files).await;
    let view = publish(&[top(2, vec![delegated.clone()])]).await.unwrap();
    assert_eq!(view.publishers.len(), 1);
    assert_eq!((&view.publishers[0].name, &view.publishers[0].paths[0]), (&"team".to_owned(), &"models/digits/*/*".to_owned()));

    let digest = registry.upload(&registry.alice, DIGITS).await;
    let own = |version, model: ModelTarget| {
        let mut targets = Targets::new(version, expires);
        targets.targets.insert(model.path(), model.target(digest, DIGITS.len() as u64));
        targets
    };
    let signed = |targets: &Targets, key: &SigningKey| file("team", &sign(targets, &[key]).unwrap());
    let outside = signed(&own(1, ModelTarget::original("other".parse().unwrap(), 1)), &team);
    let further = Targets { delegations: Some(delegations(vec![delegated])), ..own(1, digits(1)) };
    let stolen = signed(&own(1, digits(1)), &people.targets);
    for (bad, part) in [(outside, "not among"), (signed(&further, &team), "delegates further"), (stolen, "0 valid signatures")] {
        let error = publish(&[bad]).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    publish(&[signed(&own(1, digits(1)), &team)]).await.unwrap();
    let find = async |version: u64| {
        let mut trusted = Trusted::begin(&root).unwrap();
        refresh(&registry, &mut trusted, now).await.unwrap();
        let access = access(&registry, &registry.alice).await;
        let mut search = Search::new(&digits(version).path());
        loop {
            match search.step(&trusted, now).unwrap() {
                Step::Done(found) => return found.map(|found| found.role),
                Step::Fetch(want) => {
                    let bytes = registry.trust.metadata(registry.alice.tenant, &access, &want.address).await.unwrap();
                    search.take(&mut trusted, Answer::Bytes(&bytes), now).unwrap();
                }
            }
        }
    };
    assert_eq!(find(1).await.as_deref(), Some("team"));
    // Revoked: its file stays listed, as clients demand, and nobody is led to it.
    let view = publish(&[top(3, Vec::new())]).await.unwrap();
    assert!(view.publishers.is_empty());
    assert_eq!(find(1).await, None);
    let error = publish(&[signed(&own(2, digits(1)), &team)]).await.unwrap_err().to_string();
    assert!(error.contains("not listed"), "{error}");
}

async fn the_root_is_told_with_the_cas_signature(db: Db) {
    let registry = Registry::on(db).await;
    let tenant = registry.alice.tenant;
    assert_eq!(registry.trust.anchor(tenant).await.unwrap(), None);
    let (own, other) = (access(&registry, &registry.alice).await, access(&registry, &registry.mallory).await);
    assert!(matches!(registry.trust.anchor_at(tenant, &own).await, Err(RegistryError::NotFound(_))));
    let root = People::new().init(&registry).await;
    let anchor = registry.trust.anchor_at(tenant, &own).await.unwrap();
    assert_eq!(anchor.root.as_bytes(), root);
    assert!(matches!(registry.trust.anchor_at(tenant, &other).await, Err(RegistryError::NotFound(_))));
    let pki = Pki::open_or_create(registry.folder.path(), "test", registry.clock.clone()).unwrap();
    let (_, ca) = x509_parser::parse_x509_certificate(pki.ca_der()).unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &ca.public_key().subject_public_key.data);
    let signature = STANDARD.decode(&anchor.signature).unwrap();
    key.verify(&anchor_message(tenant, &root), &signature).unwrap();
    assert!(key.verify(&anchor_message(registry.mallory.tenant, &root), &signature).is_err());
    // It is the newest that is told, also as the path that devices are given says.
    assert_eq!(registry.trust.path(tenant), format!("/api/v1/tuf/{tenant}/{own}/"));
}
