//! Deployments: a version of a model, of the agent or of its settings that is wanted on the devices of a selector, and how far each
//! of them has come.

use crate::{DeploymentId, DeviceId, Subject, selector::Selector, time::Micros};
use serde::{Deserialize, Serialize};

/// `POST /deployments`. With `?dry_run=true` nothing is made and the answer is a [`DeploymentPlan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDeployment {
    /// What: `name@3`, `name@alias`, or `name` for the latest version of a model; `agent.release@1.4.0` for the agent itself,
    /// `agent.config@3` for its settings. It is resolved once, now.
    pub subject: String,
    /// The devices, those that match later included.
    pub selector: String,
}

/// What a deployment would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentPlan {
    /// What of the devices it changes.
    pub subject: Subject,
    /// The version that the reference means now: a number, or a release's version.
    pub version: String,
    /// The selector as it was understood.
    #[schema(value_type = String)]
    pub selector: Selector,
    /// How many devices match now.
    pub matching: u64,
    /// The first of them.
    pub devices: Vec<PlannedDevice>,
}

/// A device that a deployment would reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlannedDevice {
    /// The device.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// Whether it is connected now.
    pub online: bool,
    /// The version that is wanted there until now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
}

/// Whether a deployment still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeploymentState {
    /// Devices that match get it, late ones too.
    Active,
    /// It changes nothing any more.
    Stopped,
    /// A newer deployment of the same subject on the same selector took its place.
    Superseded,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentView {
    /// Its id.
    pub id: DeploymentId,
    /// What of the devices it changes.
    pub subject: Subject,
    /// The version: a number, or a release's version.
    pub version: String,
    /// The devices.
    #[schema(value_type = String)]
    pub selector: Selector,
    /// Whether it still holds.
    pub state: DeploymentState,
    /// How far its devices are.
    pub counts: DeploymentCounts,
    /// When it was made.
    pub created_at: Micros,
    /// Who made it.
    pub created_by: String,
    /// When it was stopped or superseded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Micros>,
    /// The deployment that holds in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<DeploymentId>,
    /// Whether stopping it took it off its devices.
    #[serde(default)]
    pub removed: bool,
}

/// How many of a deployment's devices are in each [`Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentCounts {
    /// All devices it governs: the sum of the others.
    pub total: u64,
    /// Told, connected, not begun.
    pub pending: u64,
    /// Fetching, verifying or loading.
    pub downloading: u64,
    /// The device itself reports this version active.
    pub ready: u64,
    /// The device itself reports a failure.
    pub failed: u64,
    /// Not connected and not known to be ready or failed.
    pub offline: u64,
}

/// How far one device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Told, connected, not begun.
    Pending,
    /// Fetching, verifying or loading.
    Downloading,
    /// The device itself reports this version active.
    Ready,
    /// The device itself reports a failure.
    Failed,
    /// Not connected and not known to be ready or failed.
    Offline,
}

/// One device of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentDeviceView {
    /// The device.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// How far it is.
    pub progress: Progress,
    /// The device's own word for its step: `downloading`, `verifying`, `loading`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The version that holds there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_version: Option<String>,
    /// Why it failed, or for what it waits, in the device's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it is connected now.
    pub online: bool,
    /// When the device was told.
    pub told_at: Micros,
    /// When its progress last changed.
    pub updated_at: Micros,
}
