//! Why the registry refuses. Each message says what to do; none tells whether another tenant has something.

use crate::platform::{db::StoreError, objects::ObjectError};
use aidos_protocol::artifact::Digest;

/// A refusal or a failure of the registry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// There is no such thing in this tenant.
    #[error("there is no {0}")]
    NotFound(String),
    /// It exists already, or something needs it.
    #[error("{0}")]
    Conflict(String),
    /// A field cannot be so.
    #[error("{message}")]
    Invalid { field: &'static str, message: String },
    /// The uploaded file is not a model that can be taken.
    #[error("{0}")]
    NotAModel(String),
    /// It was changed by someone else meanwhile.
    #[error("it was changed meanwhile: it is at revision {present}; read it again and repeat the edit")]
    Stale { present: u64 },
    /// A chunk that does not continue the upload.
    #[error("the upload stands at byte {stored}: continue there")]
    Offset { stored: u64 },
    /// The bytes have another digest than was promised.
    #[error(
        "the uploaded bytes have the digest {is}, not {promised}; the upload was discarded: read the file again and start over"
    )]
    Mismatch { promised: Digest, is: Digest },
    /// Over a size limit.
    #[error("{what} has {is} bytes, the limit is {limit}")]
    TooLarge { what: &'static str, is: u64, limit: u64 },
    /// The tenant has too much in progress.
    #[error("{0}")]
    Quota(String),
    /// No room for the bytes.
    #[error(
        "the control plane's disk is full: free some space there and continue the upload, nothing that was acknowledged is lost"
    )]
    DiskFull,
    /// A signed address that is not valid, or not any more.
    #[error("{0}")]
    Denied(&'static str),
    /// The staging files cannot be used.
    #[error("the staging folder of uploads cannot be used")]
    Staging(#[source] std::io::Error),
    /// The object store.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Chunks or a delta were not made. Nothing waits for them.
    #[error("chunks or a delta were not made: {0}")]
    Build(String),
    /// A task of this process died: a defect.
    #[error("a task of the registry ended early")]
    Task(#[from] tokio::task::JoinError),
}

impl From<std::io::Error> for RegistryError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Staging(error),
        }
    }
}

impl RegistryError {
    pub(super) fn no_upload() -> Self {
        Self::NotFound("such upload: it was completed, discarded or has expired; begin a new one".into())
    }
    pub(super) fn no_artifact(digest: &Digest) -> Self {
        Self::NotFound(format!("artifact {digest}: upload its bytes first"))
    }
    pub(super) fn no_model(name: &aidos_protocol::ModelName) -> Self {
        Self::NotFound(format!("model `{name}`: `aidos model list` shows those there are"))
    }
    pub(super) fn no_version(name: &aidos_protocol::ModelName, which: &str) -> Self {
        Self::NotFound(format!("version `{which}` of model `{name}`: `aidos model show {name}` shows those there are"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::ApiError;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_full_disk_is_told_apart_from_a_broken_one() {
        let status = |kind| ApiError::from(RegistryError::from(Error::from(kind))).status().as_u16();
        assert_eq!((status(ErrorKind::StorageFull), status(ErrorKind::QuotaExceeded)), (507, 507));
        assert_eq!(status(ErrorKind::PermissionDenied), 500);
    }
}
