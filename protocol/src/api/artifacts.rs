//! Artifacts and their resumable uploads.
//!
//! ```text
//! POST  /uploads {digest, size}          → 201 with an id, or 200 `done` when the tenant has these bytes
//! PATCH /uploads/{id}  Upload-Offset: n  → 200 with the new offset, 409 with the right one when n differs
//! GET   /uploads/{id}                    → the offset to go on from
//! POST  /uploads/{id}/complete           → 201 with the artifact, 422 when the bytes have another digest
//! ```

use crate::{ArtifactUploadId, artifact::Digest, time::Micros};
use serde::{Deserialize, Serialize};

/// The header that says where a chunk begins, in bytes from the file's start.
pub const UPLOAD_OFFSET: &str = "upload-offset";
/// The largest chunk of an upload: what a slow link sends in a minute or so, and what the server holds in memory.
pub const MAX_CHUNK_BYTES: usize = 8 << 20;

/// `POST /uploads`: an artifact that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUpload {
    /// SHA-256 of the whole.
    pub digest: Digest,
    /// Bytes of the whole.
    pub size: u64,
}

/// An upload, finished or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UploadView {
    /// The upload to send chunks to; absent when nothing has to be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ArtifactUploadId>,
    /// SHA-256 of the whole.
    pub digest: Digest,
    /// Bytes of the whole.
    pub size: u64,
    /// How many bytes are stored: the next chunk begins here.
    pub offset: u64,
    /// The artifact is there; nothing has to be sent.
    pub done: bool,
    /// When an unfinished upload is discarded; absent when done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Micros>,
}

/// A stored artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ArtifactView {
    /// SHA-256 of its bytes: its name.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// When it was completed.
    pub created_at: Micros,
    /// Who sent it.
    pub created_by: String,
}
