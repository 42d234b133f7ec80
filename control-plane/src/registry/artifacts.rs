//! Artifacts: immutable bytes named by their digest, one set per tenant.
//!
//! A tenant sees the artifacts that it has uploaded itself and no others: whether someone else has the same bytes is never
//! told, not by a status, a message or a missing transfer.

use super::builds::{Builds, MAKER};
use super::deltas::Held;
use super::error::RegistryError;
use super::grants::{GRANT_SECONDS, Grants, KEY_BYTES, Refusal};
use super::staging::Staging;
use super::store::artifacts::{self as store, ArtifactRow};
use super::store::chunks;
use super::uploads::Uploads;
use crate::platform::{
    clock::Clock,
    db::Db,
    objects::{ObjectError, Objects},
};
use crate::tenants::Activity;
use aidos_protocol::{TenantId, artifact::Digest, frame, time::Micros};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// A cheap handle to the artifacts.
#[derive(Clone)]
pub(crate) struct Artifacts {
    pub(super) db: Db,
    objects: Objects,
    grants: Arc<Grants>,
    pub(super) clock: Clock,
    pub(super) builds: Builds,
    /// Where devices find the API, without a slash at the end.
    api_url: Arc<str>,
    uploads: Uploads,
}

impl Artifacts {
    /// Opens the artifacts. `staging` is a local folder for uploads in progress, which must outlive restarts; what is
    /// being made lies beside it, in `builds`. `api_url` is the
    /// address of this API as devices see it; grants begin with it.
    pub(crate) async fn open(
        db: Db,
        objects: Objects,
        activity: Activity,
        clock: Clock,
        staging: &Path,
        api_url: &str,
    ) -> Result<Self, RegistryError> {
        let mut tx = db.begin().await?;
        let secret = store::secret(&mut tx, "blob", &rand::random::<[u8; KEY_BYTES]>()).await?;
        tx.commit().await?;
        let (builds, staged) = (Builds::open(staging.with_file_name("builds"))?, Staging::open(staging)?);
        let uploads = Uploads::new(db.clone(), objects.clone(), activity, clock.clone(), staged, builds.clone());
        let grants = Arc::new(Grants::new(&secret, clock.clone()));
        Ok(Self { db, objects, grants, clock, builds, api_url: api_url.trim_end_matches('/').into(), uploads })
    }

    /// Bytes on their way in.
    pub(crate) fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// What is known of an artifact.
    pub(crate) async fn get(&self, tenant: TenantId, digest: &Digest) -> Result<ArtifactRow, RegistryError> {
        store::artifact(self.db.pool(), tenant, digest).await?.ok_or_else(|| RegistryError::no_artifact(digest))
    }

    /// Bytes of an artifact, in pieces.
    pub(crate) async fn bytes(
        &self,
        tenant: TenantId,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, ObjectError>>, RegistryError> {
        Ok(self.objects.get_range(tenant, digest, range).await?)
    }

    /// All bytes of an artifact that is small enough to be held, which the caller has made sure of.
    pub(super) async fn read(&self, tenant: TenantId, artifact: &ArtifactRow) -> Result<Vec<u8>, RegistryError> {
        let mut pieces = self.bytes(tenant, &artifact.digest, 0..artifact.size).await?;
        let mut all = Vec::with_capacity(usize::try_from(artifact.size).unwrap_or(0));
        while let Some(piece) = pieces.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    /// An address at the object store itself, where that signs addresses.
    pub(crate) async fn address(&self, tenant: TenantId, digest: &Digest) -> Result<Option<String>, RegistryError> {
        Ok(self.objects.presign(tenant, digest, Duration::from_secs(GRANT_SECONDS.unsigned_abs())).await?)
    }

    /// Where a stored object may be fetched from, and until when: an address at the object store, or one of this API.
    pub(super) async fn locate(&self, tenant: TenantId, digest: &Digest) -> Result<(String, Micros), RegistryError> {
        let signed = self.grants.sign(tenant, digest);
        let url = self.address(tenant, digest).await?.unwrap_or_else(|| format!("{}{}", self.api_url, signed.path));
        Ok((url, signed.expires))
    }

    /// Where a device of `tenant` may fetch the artifact from, for [`GRANT_SECONDS`], and by what other ways, given what it has.
    /// A refusal stands in the grant's `error`.
    pub(crate) async fn grant(&self, tenant: TenantId, digest: Digest, held: &Held) -> frame::ArtifactGrant {
        let refused = |error: String| frame::ArtifactGrant {
            digest: Bytes::copy_from_slice(digest.as_bytes()),
            error,
            ..frame::ArtifactGrant::default()
        };
        let granted = async {
            let row = self.get(tenant, &digest).await?;
            let (url, expires) = self.locate(tenant, &digest).await?;
            Ok::<_, RegistryError>(frame::ArtifactGrant {
                digest: Bytes::copy_from_slice(digest.as_bytes()),
                url,
                size: row.size,
                expires_us: expires.0,
                error: String::new(),
                chunks: passed_over(self.chunks_of(tenant, &row).await).map(Box::new),
                delta: passed_over(self.delta_of(tenant, &row, held).await).map(Box::new),
            })
        };
        granted.await.unwrap_or_else(|error| match error {
            RegistryError::NotFound(_) => refused(error.to_string()),
            error => {
                tracing::warn!(%tenant, %digest, error = &error as &dyn std::error::Error, "an artifact could not be granted");
                refused("the control plane cannot give this artifact now; ask again later".into())
            }
        })
    }

    /// Checks a signed address that [`Self::grant`] gave out.
    pub(crate) fn check_grant(
        &self,
        tenant: TenantId,
        digest: &Digest,
        expires: Micros,
        signature: &str,
    ) -> Result<(), RegistryError> {
        self.grants.verify(tenant, digest, expires, signature).map_err(|refusal| {
            RegistryError::Denied(match refusal {
                Refusal::Expired => "this address has expired: ask for a new grant",
                Refusal::Forged => "this address was not signed by this control plane: ask for a new grant",
            })
        })
    }

    /// Removes those of `digests` that no model version needs any more.
    pub(super) async fn discard_unreferenced(&self, tenant: TenantId, digests: &[Digest]) -> Result<(), RegistryError> {
        for digest in digests {
            // An upload of the same bytes waits until they are gone from both stores, or comes first and is kept.
            let _same_bytes = self.uploads.lock_bytes(tenant, digest).await;
            let mut tx = self.db.begin().await?;
            let made = chunks::made_from(&mut tx, tenant, digest).await?;
            if store::delete_unreferenced(&mut tx, tenant, digest).await? {
                tx.commit().await?;
                // A crash here leaves bytes without a row: the next upload of them finds them stored.
                self.objects.delete(tenant, digest).await?;
                drop(_same_bytes);
                self.discard_made(tenant, &made).await?;
            }
        }
        Ok(())
    }

    /// Removes those of `digests` that were made here and that nothing needs any more.
    pub(super) async fn discard_made(&self, tenant: TenantId, digests: &[Digest]) -> Result<(), RegistryError> {
        for digest in digests {
            let _same_bytes = self.uploads.lock_bytes(tenant, digest).await;
            let mut tx = self.db.begin().await?;
            if store::delete_made(&mut tx, tenant, digest, MAKER).await? {
                tx.commit().await?;
                self.objects.delete(tenant, digest).await?;
            }
        }
        Ok(())
    }

    /// All bytes of an artifact, which the caller knows to be few enough.
    pub(super) async fn whole(&self, tenant: TenantId, digest: &Digest, size: u64) -> Result<Vec<u8>, RegistryError> {
        let mut whole = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let mut pieces = self.bytes(tenant, digest, 0..size).await?;
        while let Some(piece) = pieces.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok(whole)
    }

    /// Writes all bytes of an artifact to the file at `path`.
    pub(super) async fn copy_out(&self, tenant: TenantId, digest: &Digest, size: u64, path: &Path) -> Result<(), RegistryError> {
        let mut file = tokio::fs::File::create(path).await?;
        let mut pieces = self.bytes(tenant, digest, 0..size).await?;
        while let Some(piece) = pieces.next().await {
            file.write_all(&piece?).await?;
        }
        Ok(file.flush().await?)
    }

    /// Stores bytes that the control plane itself made.
    pub(super) async fn put(&self, tenant: TenantId, actor: &str, bytes: &[u8], now: Micros) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let file = self.builds.scratch()?;
        tokio::fs::write(file.path(), bytes).await?;
        self.put_file(tenant, actor, &digest, bytes.len() as u64, file.path(), now).await?;
        Ok(digest)
    }

    /// The same for a file.
    pub(super) async fn put_file(
        &self,
        tenant: TenantId,
        actor: &str,
        digest: &Digest,
        size: u64,
        path: &Path,
        now: Micros,
    ) -> Result<(), RegistryError> {
        let _same_bytes = self.uploads.lock_bytes(tenant, digest).await;
        self.objects.put_file(tenant, digest, path).await?;
        let row = ArtifactRow { digest: *digest, size, created: now, created_by: actor.to_owned() };
        let mut tx = self.db.begin().await?;
        store::insert_artifact(&mut tx, tenant, &row).await?;
        Ok(tx.commit().await?)
    }
}

/// Another way that cannot be told must not keep a device from the artifact itself.
fn passed_over<T>(way: Result<Option<T>, RegistryError>) -> Option<T> {
    way.unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "an artifact is granted without its chunks or a delta");
        None
    })
}
