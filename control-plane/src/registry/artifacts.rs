//! Artifacts: immutable bytes named by their digest, one set per tenant.
//!
//! A tenant sees the artifacts that it has uploaded itself and no others: whether someone else has the same bytes is never
//! told, not by a status, a message or a missing transfer.

use super::error::RegistryError;
use super::grants::{GRANT_SECONDS, Grants, KEY_BYTES, Refusal};
use super::staging::Staging;
use super::store::artifacts::{self as store, ArtifactRow};
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

/// A cheap handle to the artifacts.
#[derive(Clone)]
pub(crate) struct Artifacts {
    db: Db,
    objects: Objects,
    grants: Arc<Grants>,
    /// Where devices find the API, without a slash at the end.
    api_url: Arc<str>,
    uploads: Uploads,
}

impl Artifacts {
    /// Opens the artifacts. `staging` is a local folder for uploads in progress; it must outlive restarts. `api_url` is the
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
        let uploads = Uploads::new(db.clone(), objects.clone(), activity, clock.clone(), Staging::open(staging)?);
        let grants = Arc::new(Grants::new(&secret, clock));
        Ok(Self { db, objects, grants, api_url: api_url.trim_end_matches('/').into(), uploads })
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

    /// Where a device of `tenant` may fetch the artifact from, for [`GRANT_SECONDS`]: an address at the object store, or one
    /// of this API. A refusal stands in the grant's `error`.
    pub(crate) async fn grant(&self, tenant: TenantId, digest: Digest) -> frame::ArtifactGrant {
        let refused = |error: String| frame::ArtifactGrant {
            digest: Bytes::copy_from_slice(digest.as_bytes()),
            error,
            ..frame::ArtifactGrant::default()
        };
        let granted = async {
            let size = self.get(tenant, &digest).await?.size;
            let signed = self.grants.sign(tenant, &digest);
            let url = self.address(tenant, &digest).await?.unwrap_or_else(|| format!("{}{}", self.api_url, signed.path));
            Ok::<_, RegistryError>(frame::ArtifactGrant {
                digest: Bytes::copy_from_slice(digest.as_bytes()),
                url,
                size,
                expires_us: signed.expires.0,
                error: String::new(),
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
            if store::delete_unreferenced(&mut tx, tenant, digest).await? {
                tx.commit().await?;
                // A crash here leaves bytes without a row: the next upload of them finds them stored.
                self.objects.delete(tenant, digest).await?;
            }
        }
        Ok(())
    }

    /// Stores bytes that the control plane itself made.
    pub(super) async fn put(&self, tenant: TenantId, actor: &str, bytes: &[u8], now: Micros) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let file = tempfile::NamedTempFile::new()?;
        tokio::fs::write(file.path(), bytes).await?;
        let _same_bytes = self.uploads.lock_bytes(tenant, &digest).await;
        self.objects.put_file(tenant, &digest, file.path()).await?;
        let row = ArtifactRow { digest, size: bytes.len() as u64, created: now, created_by: actor.to_owned() };
        let mut tx = self.db.begin().await?;
        store::insert_artifact(&mut tx, tenant, &row).await?;
        tx.commit().await?;
        Ok(digest)
    }
}
