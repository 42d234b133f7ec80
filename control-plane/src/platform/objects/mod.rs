//! Objects: files too large for the database, in a local folder or an S3-compatible store. The only user of `object_store`.
//!
//! An object is named by its tenant and the SHA-256 of its bytes (`t/<tenant>/sha256/<hex>`), is verified while it is stored,
//! and never changes. So storing twice is harmless, and a reader never sees half of one.

use aidos_protocol::{TenantId, artifact::Digest, artifact::Digester};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::signer::Signer;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, WriteMultipart};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// Larger files go up in parts: S3 takes 5 GiB in one piece but a failed piece begins again.
const MULTIPART_FROM: u64 = 16 << 20;
/// One part: S3 wants at least 5 MiB and at most 10,000 of them; 8 MiB covers [`aidos_protocol::artifact::MAX_ARTIFACT_BYTES`].
const PART: usize = 8 << 20;
/// Parts under way at once: bounds the memory of one upload to 32 MiB.
const PARTS_IN_FLIGHT: usize = 4;

/// Why objects cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// There is no such object in this tenant.
    #[error("stored object {0}")]
    NotFound(Digest),
    /// Bytes that the object does not have were asked for.
    #[error("bytes {}–{} of an object of {size}", range.start, range.end)]
    Range {
        /// What was asked for.
        range: Range<u64>,
        /// What there is.
        size: u64,
    },
    /// The bytes are not those that the name says.
    #[error("the bytes have the digest {actual}, not {expected}")]
    Digest {
        /// The name.
        expected: Digest,
        /// What the bytes are.
        actual: Digest,
    },
    /// The folder or the store does not take or give bytes now.
    #[error("the object store does not answer as it should; see that its disk has space and that its credentials are right")]
    Unavailable {
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is configured wrongly.
    #[error("the object store cannot be used: {0}")]
    Setup(String),
}

/// An S3-compatible store.
#[derive(Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The bucket; it must exist.
    pub bucket: String,
    /// Where it is; AWS needs it, others mostly ignore it.
    #[serde(default = "region")]
    pub region: String,
    /// The URL of a store other than AWS.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The key's id; absent: from the environment or the machine's role.
    #[serde(default)]
    pub access_key_id: Option<String>,
    /// The key.
    #[serde(default)]
    pub secret_access_key: Option<String>,
    /// Whether the endpoint may be plain HTTP.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether devices fetch from the store directly, by URLs that it signs; else through the control plane.
    #[serde(default)]
    pub presign: bool,
}

fn region() -> String {
    "us-east-1".into()
}

impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the secret.
        f.debug_struct("S3Config").field("bucket", &self.bucket).field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The objects of all tenants; a clone shares them.
#[derive(Clone)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    signer: Option<Arc<AmazonS3>>,
}

impl std::fmt::Display for Objects {
    /// The folder or the bucket.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

impl Objects {
    /// Objects in `folder`, which is made if it is not there.
    pub(crate) fn local(folder: &Path) -> Result<Self, ObjectError> {
        let setup = |e: &dyn std::fmt::Display| ObjectError::Setup(format!("{}: {e}", folder.display()));
        std::fs::create_dir_all(folder).map_err(|e| setup(&e))?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| setup(&e))?.with_fsync(true);
        Ok(Self { store: Arc::new(store), signer: None })
    }

    /// Objects in a bucket.
    pub(crate) fn s3(config: &S3Config) -> Result<Self, ObjectError> {
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_allow_http(config.allow_http);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        let store = Arc::new(builder.build().map_err(|e| ObjectError::Setup(e.to_string()))?);
        Ok(Self { store: store.clone(), signer: config.presign.then_some(store) })
    }

    /// Whether devices may be sent to the store itself.
    pub(crate) fn presigns(&self) -> bool {
        self.signer.is_some()
    }

    /// Stores the file at `path` under `digest`, unless it is there already. The bytes are verified on the way.
    pub(crate) async fn put_file(&self, tenant: TenantId, digest: &Digest, path: &Path) -> Result<(), ObjectError> {
        let file_error = |source: std::io::Error| ObjectError::Unavailable { source: Box::new(source) };
        if self.head(tenant, digest).await?.is_some() {
            return Ok(());
        }
        let mut file = tokio::fs::File::open(path).await.map_err(file_error)?;
        let size = file.metadata().await.map_err(file_error)?.len();
        let key = key(tenant, digest);
        if size < MULTIPART_FROM {
            let mut bytes = Vec::with_capacity(size as usize);
            file.take(MULTIPART_FROM).read_to_end(&mut bytes).await.map_err(file_error)?;
            verify(digest, Digest::of(&bytes))?;
            self.store.put(&key, bytes.into()).await.map_err(|e| failed(digest, e))?;
            return Ok(());
        }
        let upload = self.store.put_multipart(&key).await.map_err(|e| failed(digest, e))?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
        let mut digester = Digester::default();
        let outcome = async {
            let mut buffer = vec![0; 1 << 20];
            loop {
                let read = file.read(&mut buffer).await.map_err(file_error)?;
                if read == 0 {
                    return verify(digest, digester.finish());
                }
                digester.update(&buffer[..read]);
                writer.wait_for_capacity(PARTS_IN_FLIGHT).await.map_err(|e| failed(digest, e))?;
                writer.write(&buffer[..read]);
            }
        }
        .await;
        match outcome {
            Ok(()) => writer.finish().await.map(drop).map_err(|e| failed(digest, e)),
            Err(error) => {
                // The first error is the one to tell; parts that stay behind are the store's lifecycle rule's to sweep.
                if let Err(abort) = writer.abort().await {
                    tracing::warn!(error = &abort as &dyn std::error::Error, "an upload could not be aborted");
                }
                Err(error)
            }
        }
    }

    /// The object's size in bytes, or `None`.
    pub(crate) async fn head(&self, tenant: TenantId, digest: &Digest) -> Result<Option<u64>, ObjectError> {
        match self.store.head(&key(tenant, digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(digest, error)),
        }
    }

    /// The bytes `range` of the object, in pieces.
    pub(crate) async fn get_range(
        &self,
        tenant: TenantId,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, ObjectError>>, ObjectError> {
        let size = self.head(tenant, digest).await?.ok_or(ObjectError::NotFound(*digest))?;
        if range.start > range.end || range.end > size {
            return Err(ObjectError::Range { range, size });
        }
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = self.store.get_opts(&key(tenant, digest), options).await.map_err(|e| failed(digest, e))?;
        let digest = *digest;
        Ok(found.into_stream().map(move |piece| piece.map_err(|e| failed(&digest, e))).boxed())
    }

    /// Removes the object; one that is not there is no error.
    pub(crate) async fn delete(&self, tenant: TenantId, digest: &Digest) -> Result<(), ObjectError> {
        match self.store.delete(&key(tenant, digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(digest, error)),
        }
    }

    /// A URL by which anyone may read the object for `valid`; `None` where the store signs none.
    pub(crate) async fn presign(
        &self,
        tenant: TenantId,
        digest: &Digest,
        valid: Duration,
    ) -> Result<Option<String>, ObjectError> {
        let Some(signer) = &self.signer else { return Ok(None) };
        let url = signer.signed_url(axum::http::Method::GET, &key(tenant, digest), valid).await.map_err(|e| failed(digest, e))?;
        Ok(Some(url.to_string()))
    }
}

fn key(tenant: TenantId, digest: &Digest) -> Key {
    Key::from_iter(["t", &tenant.to_string(), "sha256", &digest.hex()])
}

fn verify(expected: &Digest, actual: Digest) -> Result<(), ObjectError> {
    if *expected == actual { Ok(()) } else { Err(ObjectError::Digest { expected: *expected, actual }) }
}

fn failed(digest: &Digest, error: object_store::Error) -> ObjectError {
    match error {
        object_store::Error::NotFound { .. } => ObjectError::NotFound(*digest),
        source => ObjectError::Unavailable { source: Box::new(source) },
    }
}

#[cfg(test)]
mod tests;
