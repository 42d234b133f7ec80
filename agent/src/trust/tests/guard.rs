//! The guard against a repository that grows, goes back, stands still, lies, or is not there, and against restarts.

use super::*;
use aidos_protocol::enrol::TrustAnchor;
use aidos_protocol::trust::Wanted;
use aidos_protocol::twin::{DesiredModel, TrustState};
use aidos_protocol::{DeviceId, ModelName};
use async_trait::async_trait;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A control plane that serves a stick, and what an identity keeps.
#[derive(Clone)]
struct Plane {
    stick: Arc<Stick>,
    up: Arc<AtomicBool>,
    /// Whether it tells of a root.
    tells: Arc<AtomicBool>,
    kept: Arc<Mutex<Option<String>>>,
    url: String,
}

async fn metadata(State(plane): State<Plane>, UrlPath(file): UrlPath<String>) -> Result<Vec<u8>, StatusCode> {
    if !plane.up.load(Ordering::SeqCst) {
        return Err(StatusCode::BAD_GATEWAY);
    }
    std::fs::read(plane.stick.path().join(file)).map_err(|_| StatusCode::NOT_FOUND)
}

async fn anchor(State(plane): State<Plane>) -> Result<axum::Json<TrustAnchor>, StatusCode> {
    if !plane.up.load(Ordering::SeqCst) {
        return Err(StatusCode::BAD_GATEWAY);
    }
    let root = String::from_utf8(plane.stick.root()).unwrap();
    let told = plane.tells.load(Ordering::SeqCst).then_some(TrustAnchor { root, signature: "good".into() });
    told.map(axum::Json).ok_or(StatusCode::NOT_FOUND)
}

#[async_trait]
impl Origin for Plane {
    fn repository(&self) -> Option<String> {
        Some(self.url.clone())
    }
    fn client(&self, _: &str) -> Result<reqwest::Client, String> {
        reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())
    }
    fn anchor(&self) -> Option<String> {
        self.kept.lock().unwrap().clone()
    }
    async fn take_anchor(&self, anchor: TrustAnchor) -> Result<(), String> {
        if anchor.signature != "good" {
            return Err("not signed by the CA".into());
        }
        self.kept.lock().unwrap().get_or_insert(anchor.root);
        Ok(())
    }
    async fn changed(&self) {
        std::future::pending().await
    }
}

impl Plane {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plane = Self {
            stick: Arc::new(Stick::new()),
            up: Arc::new(AtomicBool::new(true)),
            tells: Arc::new(AtomicBool::new(true)),
            kept: Arc::default(),
            url: format!("http://{}/", listener.local_addr().unwrap()),
        };
        let router = axum::Router::new()
            .route("/anchor", axum::routing::get(anchor))
            .route("/metadata/{file}", axum::routing::get(metadata))
            .with_state(plane.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        plane
    }

    /// The metadata as it is now, as a bundle carries it.
    fn bundle(&self) -> BTreeMap<String, Vec<u8>> {
        let files = std::fs::read_dir(self.stick.path()).unwrap().map(|entry| entry.unwrap());
        files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
    }
}

/// A device whose program was built at `built`; its state is in `folder`.
async fn guard(folder: &Path, plane: &Plane, device: DeviceId, built: Micros) -> Guard {
    let store = TrustStore::open(Ledger::open(folder).unwrap()).unwrap();
    store.bind(device).await.unwrap();
    let clock = SharedClock::new(TrustedClock::new(built, store.seen().await.unwrap()));
    Guard::with_clock(store, clock, Arc::new(plane.clone())).await.unwrap()
}

fn name() -> ModelName {
    "digits".parse().unwrap()
}

/// What the stick's version `version` describes.
fn model(version: u64) -> Wanted {
    Wanted::model(&name(), &DesiredModel::new(version, Digest::of(b"model"), 5))
}

fn tampered(version: u64) -> Wanted {
    Wanted::model(&name(), &DesiredModel::new(version, Digest::of(b"other"), 5))
}

fn this() -> DeviceId {
    DeviceId::from_bytes([1; 16])
}

fn another() -> DeviceId {
    DeviceId::from_bytes([2; 16])
}

#[tokio::test]
async fn without_a_root_the_planes_word_counts_and_once_one_was_told_never_again() {
    let (plane, folder) = (Plane::start().await, tempfile::tempdir().unwrap());
    plane.stick.publish(1, BUILT);
    plane.tells.store(false, Ordering::SeqCst);
    let device = guard(folder.path(), &plane, this(), BUILT).await;
    device.vouch(&model(9)).await.unwrap();
    assert_eq!(device.told().state, TrustState::Unsigned);

    plane.tells.store(true, Ordering::SeqCst);
    let refused = device.vouch(&model(9)).await.unwrap_err();
    assert!(refused.to_string().contains("aidos trust sign digits@9") && !refused.is_final(), "{refused}");
    device.vouch(&model(1)).await.unwrap();
    assert_eq!((device.told().state, device.told().root, device.told().targets), (TrustState::Verified, 1, 1));
    let refused = device.vouch(&tampered(1)).await.unwrap_err();
    assert!(refused.is_final() && refused.to_string().contains("digest"), "{refused}");

    // The plane forgets its root, the device is restarted, its ledger is lost: it stays as it is.
    plane.tells.store(false, Ordering::SeqCst);
    drop(device);
    let lost = tempfile::tempdir().unwrap();
    for folder in [folder.path(), lost.path()] {
        let device = guard(folder, &plane, this(), BUILT).await;
        device.vouch(&tampered(1)).await.unwrap_err();
        device.vouch(&model(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_person_who_lets_the_machine_join_anew_begins_anew() {
    let (plane, folder) = (Plane::start().await, tempfile::tempdir().unwrap());
    plane.stick.publish(1, BUILT);
    guard(folder.path(), &plane, this(), BUILT).await.vouch(&model(1)).await.unwrap();
    let other = Plane::start().await;
    other.stick.publish(1, BUILT);
    let device = guard(folder.path(), &other, another(), BUILT).await;
    device.vouch(&model(1)).await.unwrap();
    // The other tenant's repository means nothing here.
    let device = guard(folder.path(), &Plane { kept: other.kept.clone(), ..plane }, another(), BUILT).await;
    assert!(device.vouch(&model(1)).await.is_err());
}

#[tokio::test]
async fn a_repository_that_goes_back_or_stands_still_lets_nothing_new_in() {
    let (plane, folder) = (Plane::start().await, tempfile::tempdir().unwrap());
    plane.stick.publish(1, BUILT);
    let old = plane.bundle();
    plane.stick.publish(2, BUILT.plus_seconds(60));
    let device = guard(folder.path(), &plane, this(), BUILT).await;
    device.vouch(&model(2)).await.unwrap();
    plane.stick.write("timestamp.json", &old["timestamp.json"]);
    let refused = device.vouch(&model(2)).await.unwrap_err();
    assert!(refused.to_string().contains("already trusts 2"), "{refused}");
    assert_eq!((device.told().state, device.told().timestamp), (TrustState::Stale, 2));
    drop(device);

    // Frozen: thirty-one days of trusted time later the same files are refused, whatever the wall clock says.
    plane.stick.publish(3, BUILT.plus_seconds(120));
    let device = guard(folder.path(), &plane, this(), BUILT.plus_seconds(31 * DAY)).await;
    let refused = device.vouch(&model(3)).await.unwrap_err();
    assert!(matches!(refused, Unvouched::NotBelieved(TrustError::Expired { .. })), "{refused}");
    plane.stick.publish(4, BUILT.plus_seconds(31 * DAY));
    device.vouch(&model(4)).await.unwrap();
    assert_eq!(device.told().state, TrustState::Verified);
}

#[tokio::test]
async fn out_of_reach_what_is_stored_counts_for_as_long_as_it_is_valid() {
    let (plane, folder) = (Plane::start().await, tempfile::tempdir().unwrap());
    plane.stick.publish(1, BUILT);
    let device = guard(folder.path(), &plane, this(), BUILT).await;
    device.refresh().await.unwrap();
    plane.up.store(false, Ordering::SeqCst);
    device.vouch(&model(1)).await.unwrap();
    device.vouch(&tampered(1)).await.unwrap_err();
    drop(device);
    let device = guard(folder.path(), &plane, this(), BUILT.plus_seconds(31 * DAY)).await;
    let refused = device.vouch(&model(1)).await.unwrap_err();
    assert!(matches!(refused, Unvouched::OutOfReach { .. }) && !refused.is_final(), "{refused}");
}

#[tokio::test]
async fn a_device_that_was_away_through_key_rotations_follows_them_one_by_one() {
    let (plane, folder) = (Plane::start().await, tempfile::tempdir().unwrap());
    plane.stick.publish(1, BUILT);
    guard(folder.path(), &plane, this(), BUILT).await.vouch(&model(1)).await.unwrap();
    let mut key = SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
    let root = |version, new: &SigningKey, old: &SigningKey| {
        let role = || Role::of(vec![new.id()], 1);
        let expires = Expires::at(BUILT.plus_seconds(3_650 * DAY));
        sign(&Root::new(version, expires, RootRoles::new(role(), role(), role()), [new.public()]), &[new, old]).unwrap()
    };
    plane.stick.write("2.root.json", &root(2, &key, &plane.stick.key));
    for version in 3..6 {
        let next = SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
        plane.stick.write(&format!("{version}.root.json"), &root(version, &next, &key));
        key = next;
    }
    let rotated = Stick { folder: tempfile::tempdir().unwrap(), key };
    rotated.publish(2, BUILT);
    for file in ["2.targets.json", "2.snapshot.json", "timestamp.json"] {
        std::fs::copy(rotated.path().join(file), plane.stick.path().join(file)).unwrap();
    }
    let device = guard(folder.path(), &plane, this(), BUILT).await;
    device.vouch(&model(2)).await.unwrap();
    assert_eq!(device.told().root, 5);
    // One of the roots between is missing: whoever is before the gap stays there.
    let late = tempfile::tempdir().unwrap();
    std::fs::remove_file(plane.stick.path().join("3.root.json")).unwrap();
    let behind = guard(late.path(), &Plane { kept: Arc::default(), ..plane.clone() }, this(), BUILT).await;
    assert!(behind.vouch(&model(2)).await.is_err());
}

#[tokio::test]
async fn a_stick_brings_newer_metadata_offline_and_an_older_one_or_a_foreign_one_is_refused() {
    let (plane, folder) = (Plane::start().await, tempfile::tempdir().unwrap());
    plane.stick.publish(1, BUILT);
    let old = plane.bundle();
    let device = guard(folder.path(), &plane, this(), BUILT).await;
    device.refresh().await.unwrap();
    plane.up.store(false, Ordering::SeqCst);
    plane.stick.publish(2, BUILT.plus_seconds(60));
    let new = plane.bundle();
    let refused = device.bring(new.clone(), &[model(2), tampered(2)]).await.unwrap_err();
    assert!(refused.is_final(), "{refused}");
    device.bring(new, &[model(2)]).await.unwrap();
    device.vouch(&model(2)).await.unwrap();
    let refused = device.bring(old, &[model(1)]).await.unwrap_err();
    assert!(matches!(refused, Unvouched::NotBelieved(TrustError::Rollback { .. })), "{refused}");
    let foreign = Plane::start().await;
    foreign.stick.publish(9, BUILT);
    assert!(device.bring(foreign.bundle(), &[model(9)]).await.is_err());
    // Without metadata what is stored must do.
    device.bring(BTreeMap::new(), &[model(2)]).await.unwrap();
    assert!(device.bring(BTreeMap::new(), &[model(3)]).await.is_err());
    assert_eq!(device.told().targets, 2);
}

#[tokio::test]
async fn no_trust_begins_with_a_stick() {
    let (plane, folder) = (Plane::start().await, tempfile::tempdir().unwrap());
    plane.stick.publish(1, BUILT);
    plane.up.store(false, Ordering::SeqCst);
    let device = guard(folder.path(), &plane, this(), BUILT).await;
    device.bring(plane.bundle(), &[tampered(1)]).await.unwrap();
    assert_eq!(device.told().state, TrustState::Unsigned);
    assert_eq!(plane.anchor(), None);
}

#[tokio::test]
async fn a_root_that_the_ca_did_not_sign_is_not_taken_and_nothing_is_installed_by_it() {
    let (plane, folder) = (Plane::start().await, tempfile::tempdir().unwrap());
    plane.stick.write("1.root.json", b"{}");
    let device = guard(folder.path(), &plane, this(), BUILT).await;
    let refused = device.vouch(&model(1)).await.unwrap_err();
    assert!(matches!(refused, Unvouched::Anchor(_)), "{refused}");
    assert_eq!(plane.anchor(), None);
}

#[derive(Debug, Clone)]
enum Happening {
    /// The people publish the next version.
    Publish,
    /// The plane serves files of an earlier time.
    GoBack(u64),
    /// It serves the newest again.
    GoOn,
    Up(bool),
    Restart,
    Install {
        version: u64,
        tampered: bool,
    },
    Stick,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => Just(Happening::Publish),
        2 => (1..6u64).prop_map(Happening::GoBack),
        2 => Just(Happening::GoOn),
        2 => any::<bool>().prop_map(Happening::Up),
        1 => Just(Happening::Restart),
        6 => (1..8u64, any::<bool>()).prop_map(|(version, tampered)| Happening::Install { version, tampered }),
        1 => Just(Happening::Stick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the repository does and wherever the device restarts: nothing is installed that was not signed in the newest
    /// metadata that the device has seen, and that never grows older.
    #[test]
    fn in_any_order_of_events_only_what_is_signed_and_not_older_is_installed(
        steps in proptest::collection::vec(happening(), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (plane, folder) = (Plane::start().await, tempfile::tempdir().unwrap());
            let mut newest = 1;
            plane.stick.publish(newest, BUILT);
            let mut past = BTreeMap::from([(newest, plane.bundle()["timestamp.json"].clone())]);
            let mut device = guard(folder.path(), &plane, this(), BUILT).await;
            device.refresh().await.unwrap();
            let mut seen = 1;
            for step in steps {
                match step {
                    Happening::Publish => {
                        newest += 1;
                        plane.stick.publish(newest, BUILT.plus_seconds(newest as i64));
                        past.insert(newest, plane.bundle()["timestamp.json"].clone());
                    }
                    Happening::GoBack(version) => {
                        if let Some(timestamp) = past.get(&version) {
                            plane.stick.write("timestamp.json", timestamp);
                        }
                    }
                    Happening::GoOn => plane.stick.write("timestamp.json", &past[&newest]),
                    Happening::Up(up) => plane.up.store(up, Ordering::SeqCst),
                    Happening::Restart => {
                        drop(device);
                        device = guard(folder.path(), &plane, this(), BUILT).await;
                    }
                    Happening::Install { version, tampered: true } => {
                        assert!(device.vouch(&tampered(version)).await.is_err());
                    }
                    Happening::Install { version, tampered: false } => {
                        let vouched = device.vouch(&model(version)).await.is_ok();
                        // The stick's targets describe one version each.
                        assert!(!vouched || (version == device.told().targets && version >= seen));
                    }
                    Happening::Stick => drop(device.bring(plane.bundle(), &[]).await),
                }
                let told = device.told();
                assert!(told.targets >= seen && told.timestamp >= seen, "{told:?} after {seen}");
                assert!(told.targets <= newest && told.state != TrustState::Unsigned);
                seen = told.targets;
            }
        });
    }
}
