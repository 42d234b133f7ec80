//! Releases of the agent and settings for agents: what there is. Deployments and rollouts bring them to devices.

use crate::settings::Settings;
use crate::{artifact::Digest, time::Micros};
use serde::{Deserialize, Serialize};

/// `POST /agent-releases`: an uploaded binary becomes a release for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRelease {
    /// As the binary's `--version` prints it; what follows a `+` is the packager's.
    pub version: String,
    /// `x86_64`, `aarch64`, …, as the binary's header says.
    pub arch: String,
    /// The uploaded artifact.
    pub digest: Digest,
    /// Whether a device that runs it takes nothing older any more. Decided by the version's first binary.
    #[serde(default)]
    pub raise_floor: bool,
}

/// A release for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReleaseView {
    /// The version.
    pub version: String,
    /// What it runs on.
    pub arch: String,
    /// The binary.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Counts the tenant's releases; all binaries of a version share it.
    pub counter: u64,
    /// Whether a device that runs it takes nothing older any more.
    pub raises_floor: bool,
    /// When it was registered.
    pub created_at: Micros,
    /// Who registered it.
    pub created_by: String,
}

/// `POST /agent-settings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSettings {
    /// The settings; a field that there is not is refused.
    #[schema(value_type = Settings)]
    pub settings: serde_json::Value,
}

/// One version of the tenant's settings for agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SettingsView {
    /// Counts from 1.
    pub version: u64,
    /// What it says.
    pub settings: Settings,
    /// When it was made.
    pub created_at: Micros,
    /// Who made it.
    pub created_by: String,
}
