//! The tenant's update repository: `/api/v1/trust`.
//!
//! ```text
//! GET /trust                                    → where the repository is, the control plane's key, the roles' versions
//! PUT /trust {files: [{role, body}]}            → the same, after signed files were taken; all of them or none
//! GET /tuf/{tenant}/{access}/anchor             → the newest root, signed by the deployment's CA, for devices that have none
//! GET /tuf/{tenant}/{access}/metadata/{file}    → metadata as TUF clients ask for it
//! GET /tuf/{tenant}/{access}/targets/{path}     → target files by their hash-prefixed names
//! ```

use crate::time::Micros;
use crate::trust::Key;
use serde::{Deserialize, Serialize};

/// The most files in one `PUT`: a root, the targets and some publishers.
pub const MAX_FILES: usize = 16;

/// The state of a tenant's update repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrustView {
    /// Where TUF clients find the metadata. Whoever knows the address may read; only signatures give trust.
    pub metadata_url: String,
    /// Where TUF clients find target files.
    pub targets_url: String,
    /// The control plane's public key: a root must name it for snapshot and timestamp.
    #[schema(value_type = Object)]
    pub online_key: Key,
    /// Every role's newest file; empty before the first root.
    pub roles: Vec<TrustRoleView>,
    /// Who else may sign some of the targets, in the order in which they are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publishers: Vec<PublisherView>,
}

/// Somebody whom targets delegates to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PublisherView {
    /// The role's name.
    pub name: String,
    /// Patterns of the target paths that it may sign.
    pub paths: Vec<String>,
    /// Its keys' ids.
    pub keys: Vec<String>,
}

/// A role's newest file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrustRoleView {
    /// `root`, `targets`, `snapshot`, `timestamp`, or a publisher's name.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// When it stops being valid.
    pub expires_at: Micros,
    /// When it was taken or made.
    pub created_at: Micros,
    /// By whom.
    pub created_by: String,
}

/// `PUT /api/v1/trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutTrust {
    /// Signed files, each the next version of its role. A root comes first.
    #[schema(max_items = 16)]
    pub files: Vec<SignedFile>,
}

/// A signed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedFile {
    /// `root`, `targets`, or the name of a publisher that targets delegates to.
    pub role: String,
    /// The file's text, byte for byte.
    pub body: String,
}
