//! Releases of the agent and settings for agents: what there is, and what came of sending it to devices.

use crate::rollout::UpdatePolicy;
use crate::settings::Settings;
use crate::{DeploymentId, DeviceId, artifact::Digest, selector::Selector, time::Micros};
use serde::{Deserialize, Serialize};

/// Devices that one answer names as left out.
pub const MAX_LEFT_OUT: usize = 100;

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

/// `POST /agent-releases/{version}/deploy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRelease {
    /// The devices that match now.
    pub selector: String,
    /// How they go about it.
    #[serde(default)]
    pub update: UpdatePolicy,
}

/// What came of sending something to devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SentView {
    /// The release's or the settings' version.
    pub version: String,
    /// Names this deed, for releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// The selector as it was understood.
    #[schema(value_type = String)]
    pub selector: Selector,
    /// Devices whose intent says so now.
    pub sent: u64,
    /// How many were left out.
    pub left_out: u64,
    /// The first [`MAX_LEFT_OUT`] of them.
    pub devices_left_out: Vec<LeftOut>,
}

/// A device that matched and was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeftOut {
    /// The device.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
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

/// `POST /agent-settings/{version}/apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplySettings {
    /// The devices that match now.
    pub selector: String,
}
