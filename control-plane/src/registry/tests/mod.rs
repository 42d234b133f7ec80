//! The registry on both stores, through its handles and through HTTP.

mod http;
mod models;
mod releases;
mod settings;
mod trust;
mod uploads;
mod ways;

use super::{AgentSettings, Artifacts, Models, Releases, Trust, TrustKeys};
use crate::platform::clock::Clock;
use crate::platform::db::Db;
use crate::platform::objects::Objects;
use crate::platform::pki::Pki;
use crate::platform::testing;
use crate::tenants::{Activity, Caller};
use aidos_protocol::{TenantId, artifact::Digest};
use bytes::Bytes;

/// The sample model: a real ONNX file.
pub(crate) const DIGITS: &[u8] = include_bytes!("../../../../models/digits/digits.onnx");

/// Another file that is the same model: `doc_string` is set.
pub(crate) fn digits_again() -> Vec<u8> {
    [DIGITS, &[0x32, 1, b'x']].concat()
}

/// A registry in a fresh database and folder.
pub(crate) struct Registry {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) artifacts: Artifacts,
    pub(crate) models: Models,
    pub(crate) releases: Releases,
    pub(crate) settings: AgentSettings,
    pub(crate) trust: Trust,
    pub(crate) alice: Caller,
    /// Of another tenant.
    pub(crate) mallory: Caller,
    pub(crate) folder: tempfile::TempDir,
}

impl Registry {
    pub(crate) async fn on(db: Db) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = testing::clock();
        let artifacts = open(&db, &clock, folder.path()).await;
        let models = Models::new(
            db.clone(),
            artifacts.clone(),
            Activity::new(db.clone(), clock.clone(), testing::events(&clock)),
            testing::events(&clock),
            clock.clone(),
        );
        let releases = Releases::new(
            db.clone(),
            artifacts.clone(),
            Activity::new(db.clone(), clock.clone(), testing::events(&clock)),
            testing::events(&clock),
            clock.clone(),
        );
        let settings =
            AgentSettings::new(db.clone(), clock.clone(), Activity::new(db.clone(), clock.clone(), testing::events(&clock)));
        let trust = Trust::open(
            db.clone(),
            artifacts.clone(),
            Activity::new(db.clone(), clock.clone(), testing::events(&clock)),
            testing::events(&clock),
            clock.clone(),
            TrustKeys { folder: folder.path(), ca: Pki::open_or_create(folder.path(), "test", clock.clone()).unwrap() },
            "http://plane/",
        )
        .await
        .unwrap();
        let [alice, mallory] = [1, 2].map(|n| Caller::system(TenantId::new(n)));
        for caller in [&alice, &mallory] {
            tenant(&db, caller.tenant).await;
        }
        Self { db, clock, artifacts, models, releases, settings, trust, alice, mallory, folder }
    }

    /// Uploads `bytes` in one go.
    pub(crate) async fn upload(&self, caller: &Caller, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let uploads = self.artifacts.uploads();
        if let super::uploads::Begun::New(row) = uploads.begin(caller, digest, bytes.len() as u64).await.unwrap() {
            uploads.append(caller.tenant, row.id, 0, Bytes::copy_from_slice(bytes)).await.unwrap();
            uploads.complete(caller, row.id).await.unwrap();
        }
        digest
    }
}

/// The artifacts as a process that has just started opens them.
pub(super) async fn open(db: &Db, clock: &Clock, folder: &std::path::Path) -> Artifacts {
    let objects = Objects::local(&folder.join("objects")).unwrap();
    let activity = Activity::new(db.clone(), clock.clone(), testing::events(clock));
    let staging = folder.join("staging");
    Artifacts::open(db.clone(), objects, activity, clock.clone(), &staging, "http://plane/").await.unwrap()
}

/// Activity is recorded of tenants that exist.
pub(crate) async fn tenant(db: &Db, id: TenantId) {
    sqlx::query::<sqlx::Any>("INSERT INTO tenants (id, name, created_us) VALUES ($1, $1, 0)")
        .bind(id.to_string())
        .execute(db.pool())
        .await
        .unwrap();
}
