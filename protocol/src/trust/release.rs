//! How releases of the agent stand in targets metadata.

use super::Target;
use crate::artifact::Digest;
use serde::{Deserialize, Serialize};

/// The field of a target's `custom` that holds a [`ReleaseTarget`].
const FIELD: &str = "aidos-release";

/// The agent's binary of one version for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseTarget {
    /// The version.
    pub version: String,
    /// What it runs on.
    pub arch: String,
    /// Counts the tenant's releases. Signed, so that nobody can give an old binary a number above a device's security floor.
    pub counter: u64,
}

impl ReleaseTarget {
    /// Its target path: `agent/<version>/<arch>`.
    pub fn path(&self) -> String {
        format!("agent/{}/{}", self.version, self.arch)
    }

    /// The target that describes its file.
    pub fn target(&self, digest: Digest, length: u64) -> Target {
        Target { custom: Some(serde_json::json!({ FIELD: self })), ..Target::of(digest, length) }
    }

    /// What a target says about the release that it is; `None` for one that is none.
    pub fn of(target: &Target) -> Option<Self> {
        serde_json::from_value(target.custom.as_ref()?.get(FIELD)?.clone()).ok()
    }
}
