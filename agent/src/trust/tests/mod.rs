//! The driver and the store on real files: a repository in a folder, as a USB stick carries it.

mod guard;

use super::*;
use crate::state::Ledger;
use aidos_protocol::artifact::Digest;
use aidos_protocol::time::Micros;
use aidos_protocol::trust::{
    Expires, MAX_TIMESTAMP_BYTES, MetaFile, ModelTarget, Role, Root, RootRoles, SigningKey, Snapshot, Targets, Timestamp,
    TrustError, sign,
};
use std::path::Path;

const DAY: i64 = 86_400;
/// When the agent of these tests was built.
const BUILT: Micros = Micros(1_790_000_000_000_000);

/// The tenant's people and plane, and the folder that they publish into.
struct Stick {
    folder: tempfile::TempDir,
    key: SigningKey,
}

impl Stick {
    fn new() -> Self {
        let key = SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
        let stick = Self { folder: tempfile::tempdir().unwrap(), key };
        let role = || Role::of(vec![stick.key.id()], 1);
        let roles = RootRoles::new(role(), role(), role());
        let root = Root::new(1, Expires::at(BUILT.plus_seconds(3_650 * DAY)), roles, [stick.key.public()]);
        stick.write("1.root.json", &sign(&root, &[&stick.key]).unwrap());
        stick
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path().join(name), bytes).unwrap();
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn root(&self) -> Vec<u8> {
        std::fs::read(self.path().join("1.root.json")).unwrap()
    }

    /// Publishes version `version` of everything, signed at that time and valid for 30 days.
    fn publish(&self, version: u64, at: Micros) {
        let expires = Expires::at(at.plus_seconds(30 * DAY));
        let model = ModelTarget::original("digits".parse().unwrap(), version);
        let mut targets = Targets::new(version, expires);
        targets.targets.insert(model.path(), model.target(Digest::of(b"model"), 5));
        let targets = sign(&targets, &[&self.key]).unwrap();
        let meta = [("targets.json".to_owned(), MetaFile::of(version, &targets))].into();
        let snapshot = sign(&Snapshot::new(version, expires, meta), &[&self.key]).unwrap();
        let timestamp = Timestamp::new(version, expires, MetaFile::of(version, &snapshot), Expires::at(at));
        self.write(&format!("{version}.targets.json"), &targets);
        self.write(&format!("{version}.snapshot.json"), &snapshot);
        self.write("timestamp.json", &sign(&timestamp, &[&self.key]).unwrap());
    }
}

async fn open(store: &TrustStore, stick: &Stick, built: Micros) -> Repository<Folder, TrustedClock> {
    let clock = TrustedClock::new(built, store.seen().await.unwrap());
    Repository::open(store.clone(), Folder::new(stick.path()), clock).await.unwrap()
}

/// A store that trusts the stick's root, and where its ledger lies.
async fn device(stick: &Stick) -> (TrustStore, Ledger, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).unwrap();
    let store = TrustStore::open(ledger.clone()).unwrap();
    Repository::<Folder, _>::init(&store, &stick.root(), &TrustedClock::new(BUILT, None)).await.unwrap();
    (store, ledger, folder)
}

fn version<S: Source, C: Clock>(repository: &Repository<S, C>) -> u64 {
    repository.trusted().targets().map_or(0, |targets| targets.version)
}

#[tokio::test]
async fn a_stick_is_verified_like_a_server_and_what_it_brought_is_there_after_a_restart() {
    let stick = Stick::new();
    stick.publish(1, BUILT);
    let (store, _ledger, folder) = device(&stick).await;
    let mut repository = open(&store, &stick, BUILT).await;
    repository.refresh().await.unwrap();
    let found = repository.find("models/digits/1/model.onnx").await.unwrap().unwrap();
    assert_eq!(found.target.digest(), Some(Digest::of(b"model")));
    assert_eq!(repository.find("models/digits/7/model.onnx").await.unwrap(), None);

    let again = TrustStore::open(Ledger::open(folder.path()).unwrap()).unwrap();
    let mut repository = open(&again, &stick, BUILT).await;
    assert_eq!(version(&repository), 1);
    // No file but the timestamp is needed again.
    std::fs::remove_file(stick.path().join("1.targets.json")).unwrap();
    repository.refresh().await.unwrap();
}

#[tokio::test]
async fn a_device_without_a_root_says_so_and_takes_one_only_once() {
    let stick = Stick::new();
    let folder = tempfile::tempdir().unwrap();
    let store = TrustStore::open(Ledger::open(folder.path()).unwrap()).unwrap();
    let clock = TrustedClock::new(BUILT, None);
    let none = Repository::open(store.clone(), Folder::new(stick.path()), clock.clone()).await.unwrap_err();
    assert!(matches!(none, RepositoryError::NoRoot));
    let bad = Repository::<Folder, _>::init(&store, b"{}", &clock).await.unwrap_err();
    assert!(matches!(bad, RepositoryError::Trust(TrustError::Malformed { .. })));
    Repository::<Folder, _>::init(&store, &stick.root(), &clock).await.unwrap();
    let twice = Repository::<Folder, _>::init(&store, &stick.root(), &clock).await.unwrap_err();
    assert!(twice.to_string().contains("root version 1 already"), "{twice}");
}

#[tokio::test]
async fn a_full_disk_leaves_the_versions_that_belong_together() {
    let stick = Stick::new();
    stick.publish(1, BUILT);
    let (store, ledger, _folder) = device(&stick).await;
    let mut repository = open(&store, &stick, BUILT).await;
    repository.refresh().await.unwrap();
    let mut targets = Targets::new(2, Expires::at(BUILT.plus_seconds(DAY)));
    for n in 0..2_000u64 {
        let model = ModelTarget::original("digits".parse().unwrap(), n + 1);
        targets.targets.insert(model.path(), model.target(Digest::of(b"model"), 5));
    }
    stick.publish(2, BUILT.plus_seconds(60));
    let big = sign(&targets, &[&stick.key]).unwrap();
    let meta = [("targets.json".to_owned(), MetaFile::of(2, &big))].into();
    let snapshot = sign(&Snapshot::new(2, targets.expires, meta), &[&stick.key]).unwrap();
    let timestamp = Timestamp::new(2, targets.expires, MetaFile::of(2, &snapshot), Expires::at(BUILT));
    stick.write("2.targets.json", &big);
    stick.write("2.snapshot.json", &snapshot);
    stick.write("timestamp.json", &sign(&timestamp, &[&stick.key]).unwrap());
    ledger.fill_up(true);
    let error = repository.refresh().await.unwrap_err();
    assert!(error.to_string().contains("free some space"), "{error}");
    ledger.fill_up(false);
    // A restart judges from what is on disk, and the next refresh completes.
    let mut repository = open(&store, &stick, BUILT).await;
    assert_eq!(version(&repository), 1);
    repository.refresh().await.unwrap();
    assert_eq!(version(&repository), 2);
}

#[tokio::test]
async fn endless_data_on_a_stick_is_read_up_to_its_limit() {
    let stick = Stick::new();
    stick.publish(1, BUILT);
    stick.write("timestamp.json", &vec![b' '; 1 << 20]);
    let (store, _ledger, _folder) = device(&stick).await;
    let error = open(&store, &stick, BUILT).await.refresh().await.unwrap_err();
    assert!(matches!(error, RepositoryError::Trust(TrustError::TooLarge { max: MAX_TIMESTAMP_BYTES, .. })), "{error}");
}

#[tokio::test]
async fn time_comes_from_what_was_signed_and_survives_a_restart_with_any_wall_clock() {
    let stick = Stick::new();
    stick.publish(1, BUILT);
    let (store, _ledger, _folder) = device(&stick).await;
    open(&store, &stick, BUILT).await.refresh().await.unwrap();
    // Signed 100 days later: from now on the device knows that the first files are over.
    stick.publish(2, BUILT.plus_seconds(100 * DAY));
    open(&store, &stick, BUILT).await.refresh().await.unwrap();
    assert!(store.seen().await.unwrap().unwrap() >= BUILT.plus_seconds(100 * DAY));
    // A newer version that has expired by that time does not get in, although the wall clock and the build would allow it.
    stick.publish(3, BUILT.plus_seconds(10 * DAY));
    let mut repository = open(&store, &stick, BUILT).await;
    let error = repository.refresh().await.unwrap_err();
    assert!(matches!(error, RepositoryError::Trust(TrustError::Expired { .. })), "{error}");
    // What is trusted stays readable: nothing that is installed depends on the time.
    assert_eq!(version(&repository), 2);
}

#[tokio::test]
async fn a_program_that_is_newer_than_the_files_refuses_them() {
    let stick = Stick::new();
    stick.publish(1, BUILT);
    let (store, _ledger, _folder) = device(&stick).await;
    let error = open(&store, &stick, BUILT.plus_seconds(31 * DAY)).await.refresh().await.unwrap_err();
    assert!(matches!(error, RepositoryError::Trust(TrustError::Expired { .. })), "{error}");
}
