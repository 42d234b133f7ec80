//! Uploads: bytes come in chunks, in order, and become an artifact once their digest is what was promised.
//!
//! Invariants: the offset in the database never exceeds what is synced to the staging file, so whatever was acknowledged
//! survives a crash. An artifact's row exists only after its bytes are in the object store. Nothing is learned about another
//! tenant's artifacts: each tenant uploads the bytes itself.

use super::builds::Builds;
use super::chunks::CHUNKED_FROM;
use super::error::RegistryError;
use super::staging::{Staging, blocking};
use super::store::artifacts::{self as store, ArtifactRow, UploadRow};
use super::store::chunks;
use crate::platform::{
    clock::Clock,
    db::Db,
    objects::{ObjectError, Objects},
};
use crate::tenants::{Activity, Caller};
use aidos_protocol::{
    ArtifactUploadId, TenantId,
    api::artifacts::MAX_CHUNK_BYTES,
    artifact::{Digest, MAX_ARTIFACT_BYTES},
};
use bytes::Bytes;
use serde_json::json;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// An unfinished upload is kept this long: a working day of a site whose line was down.
const KEEP_SECONDS: i64 = 24 * 60 * 60;
/// Open uploads of one tenant: more than people and pipelines run at once.
const MAX_UPLOADS: u64 = 32;
/// Bytes that one tenant's open uploads may have in all: four of the largest artifacts, so that staging cannot fill a disk.
const MAX_STAGED_BYTES: u64 = 4 * MAX_ARTIFACT_BYTES;
/// How often expired uploads are discarded; they are refused from the moment they expire.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Locks over all uploads and digests: enough that two rarely share one.
const LOCKS: usize = 64;

/// A cheap handle to the uploads.
#[derive(Clone)]
pub(crate) struct Uploads {
    db: Db,
    objects: Objects,
    activity: Activity,
    clock: Clock,
    staging: Staging,
    builds: Builds,
    locks: Arc<[Mutex<()>; LOCKS]>,
}

/// What came of beginning an upload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// The tenant has these bytes.
    Done(ArtifactRow),
    /// Chunks are expected; it is new.
    New(UploadRow),
    /// Chunks are expected; it was begun before and goes on.
    Resumed(UploadRow),
}

impl Uploads {
    pub(super) fn new(db: Db, objects: Objects, activity: Activity, clock: Clock, staging: Staging, builds: Builds) -> Self {
        Self { db, objects, activity, clock, staging, builds, locks: Arc::new(std::array::from_fn(|_| Mutex::new(()))) }
    }

    /// Begins an upload, or finds the one that was begun before.
    pub(crate) async fn begin(&self, caller: &Caller, digest: Digest, size: u64) -> Result<Begun, RegistryError> {
        if size == 0 {
            return Err(RegistryError::Invalid { field: "size", message: "an artifact has at least one byte".into() });
        }
        if size > MAX_ARTIFACT_BYTES {
            return Err(RegistryError::TooLarge { what: "the artifact", is: size, limit: MAX_ARTIFACT_BYTES });
        }
        let tenant = caller.tenant;
        if let Some(artifact) = store::artifact(self.db.pool(), tenant, &digest).await? {
            return Ok(Begun::Done(artifact));
        }
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        if let Some(row) = store::upload_of(&mut tx, tenant, &digest).await? {
            if row.expires > now && row.size == size {
                drop(tx);
                return Ok(Begun::Resumed(self.with_file(tenant, row).await?));
            }
            // Its file is removed by the sweep, which removes files without a row.
            store::delete_upload(&mut tx, tenant, row.id).await?;
        }
        let (uploads, bytes) = store::open_uploads(&mut tx, tenant).await?;
        if uploads >= MAX_UPLOADS || bytes.saturating_add(size) > MAX_STAGED_BYTES {
            return Err(RegistryError::Quota(format!(
                "{uploads} uploads of {bytes} bytes are open, the limits are {MAX_UPLOADS} and {MAX_STAGED_BYTES}: complete or \
                 delete some first"
            )));
        }
        let row = UploadRow {
            id: ArtifactUploadId::new(now.as_millis()),
            digest,
            size,
            stored: 0,
            created_by: caller.actor.clone(),
            expires: now.plus_seconds(KEEP_SECONDS),
        };
        store::insert_upload(&mut tx, tenant, &row, now).await?;
        tx.commit().await?;
        Ok(Begun::New(row))
    }

    /// The upload, with the offset to go on from.
    pub(crate) async fn get(&self, tenant: TenantId, id: ArtifactUploadId) -> Result<UploadRow, RegistryError> {
        let row = store::upload(self.db.pool(), tenant, id).await?.filter(|row| row.expires > self.clock.now());
        self.with_file(tenant, row.ok_or_else(RegistryError::no_upload)?).await
    }

    /// A staging file that was lost or cut takes the offset back with it.
    async fn with_file(&self, tenant: TenantId, mut row: UploadRow) -> Result<UploadRow, RegistryError> {
        let (staging, id) = (self.staging.clone(), row.id);
        let length = blocking(move || staging.length(tenant, id)).await?;
        row.stored = row.stored.min(length);
        Ok(row)
    }

    /// Stores the chunk that begins at `offset`. Returns the upload as it stands then.
    pub(crate) async fn append(
        &self,
        tenant: TenantId,
        id: ArtifactUploadId,
        offset: u64,
        chunk: Bytes,
    ) -> Result<UploadRow, RegistryError> {
        if chunk.len() > MAX_CHUNK_BYTES {
            return Err(RegistryError::TooLarge { what: "the chunk", is: chunk.len() as u64, limit: MAX_CHUNK_BYTES as u64 });
        }
        let _one_writer = self.lock(&id).await;
        let row = store::upload(self.db.pool(), tenant, id).await?.filter(|row| row.expires > self.clock.now());
        let recorded = row.ok_or_else(RegistryError::no_upload)?;
        let mut row = self.with_file(tenant, recorded.clone()).await?;
        if offset != row.stored {
            return Err(RegistryError::Offset { stored: row.stored });
        }
        let end = offset + chunk.len() as u64;
        if end > row.size {
            return Err(RegistryError::TooLarge { what: "the upload with this chunk", is: end, limit: row.size });
        }
        let staging = self.staging.clone();
        blocking(move || staging.write(tenant, id, offset, &chunk)).await?;
        let mut tx = self.db.begin().await?;
        if !store::advance(&mut tx, tenant, id, recorded.stored, end).await? {
            return Err(RegistryError::no_upload());
        }
        tx.commit().await?;
        row.stored = end;
        Ok(row)
    }

    /// Makes the upload an artifact. When its bytes are not what was promised it is discarded.
    pub(crate) async fn complete(&self, caller: &Caller, id: ArtifactUploadId) -> Result<ArtifactRow, RegistryError> {
        let tenant = caller.tenant;
        let _one_writer = self.lock(&id).await;
        let row = self.get(tenant, id).await?;
        if row.stored < row.size {
            return Err(RegistryError::Offset { stored: row.stored });
        }
        let artifact =
            ArtifactRow { digest: row.digest, size: row.size, created: self.clock.now(), created_by: caller.actor.clone() };
        {
            // Keeps a deletion of the same bytes from running between the two stores.
            let _same_bytes = self.lock_bytes(tenant, &row.digest).await;
            match self.objects.put_file(tenant, &row.digest, &self.staging.path(tenant, id)).await {
                Err(ObjectError::Digest { expected, actual }) => {
                    self.remove(tenant, id).await?;
                    return Err(RegistryError::Mismatch { promised: expected, is: actual });
                }
                stored => stored?,
            }
            let mut tx = self.db.begin().await?;
            store::insert_artifact(&mut tx, tenant, &artifact).await?;
            store::delete_upload(&mut tx, tenant, id).await?;
            if artifact.size >= CHUNKED_FROM {
                chunks::ask(&mut tx, tenant, &artifact.digest, artifact.created).await?;
            }
            let target = artifact.digest.to_string();
            self.activity.record(&mut tx, caller, "artifact.upload", &target, json!({ "size": row.size })).await?;
            tx.commit().await?;
        }
        self.builds.wake();
        let staging = self.staging.clone();
        blocking(move || staging.remove(tenant, id)).await?;
        Ok(artifact)
    }

    /// Discards the upload.
    pub(crate) async fn cancel(&self, tenant: TenantId, id: ArtifactUploadId) -> Result<(), RegistryError> {
        let _one_writer = self.lock(&id).await;
        if self.remove(tenant, id).await? { Ok(()) } else { Err(RegistryError::no_upload()) }
    }

    /// Discards what has expired, and files that no upload needs. Call it at the start, and let [`Self::run`] go on.
    pub(crate) async fn sweep(&self) -> Result<(), RegistryError> {
        let now = self.clock.now();
        for tenant in store::tenants_uploading(self.db.pool()).await? {
            for row in store::expired_uploads(self.db.pool(), tenant, now).await? {
                let _one_writer = self.lock(&row.id).await;
                self.remove(tenant, row.id).await?;
            }
        }
        let staging = self.staging.clone();
        for (tenant, id) in blocking(move || staging.present()).await? {
            let _one_writer = self.lock(&id).await;
            if store::upload(self.db.pool(), tenant, id).await?.is_none() {
                let staging = self.staging.clone();
                blocking(move || staging.remove(tenant, id)).await?;
            }
        }
        Ok(())
    }

    /// Sweeps until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut every = tokio::time::interval(SWEEP_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(every.tick()).await.is_some() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "expired uploads could not be discarded; trying again later");
            }
        }
    }

    async fn remove(&self, tenant: TenantId, id: ArtifactUploadId) -> Result<bool, RegistryError> {
        let mut tx = self.db.begin().await?;
        let removed = store::delete_upload(&mut tx, tenant, id).await?;
        tx.commit().await?;
        let staging = self.staging.clone();
        blocking(move || staging.remove(tenant, id)).await?;
        Ok(removed)
    }

    /// One at a time per upload.
    async fn lock(&self, id: &ArtifactUploadId) -> MutexGuard<'_, ()> {
        self.stripe(id, 0).await
    }

    /// One at a time per artifact. Taken after an upload's lock, never before it.
    pub(super) async fn lock_bytes(&self, tenant: TenantId, digest: &Digest) -> MutexGuard<'_, ()> {
        self.stripe(&(tenant, digest), LOCKS / 2).await
    }

    /// The two kinds share no stripe, so that holding one of each cannot wait for itself.
    async fn stripe(&self, key: &impl Hash, first: usize) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % (LOCKS as u64 / 2)).unwrap_or(0);
        self.locks[first + index].lock().await
    }
}
