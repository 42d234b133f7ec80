//! What a device reports: the JSON values of its status, path by path (see [`super::path`]).
//!
//! A reader meets devices of other years: unknown fields are ignored, absent ones have defaults.

use crate::DeploymentId;
use crate::artifact::Digest;
use crate::time::Micros;
use serde::{Deserialize, Serialize};

/// Where a model stands on a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// Wanted, not begun.
    #[default]
    Pending,
    /// Not begun, or not activated yet: it waits for its window, for space or for power; `error` says for what.
    Waiting,
    /// The file is being fetched.
    Downloading,
    /// The file is complete and its digest is computed.
    Verifying,
    /// The engine is building it.
    Loading,
    /// It runs the golden cases.
    Testing,
    /// It runs beside the active version, as an experiment.
    Trial,
    /// It answers and is being watched; the version before stays at hand.
    Watching,
    /// The desired version is active, answers, and was watched as long as asked.
    Ready,
    /// The desired version could not be made active; `error` says why, the active one goes on.
    Failed,
    /// The desired version was active and was given up; `error` says why, the version before answers again.
    RolledBack,
}

/// Status of one model, at `models/<name>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelStatus {
    /// The version that intent asks for; absent when it asks for none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_version: Option<u64>,
    /// The version that answers now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_version: Option<u64>,
    /// The version that is kept beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_version: Option<u64>,
    /// Where the desired version stands.
    #[serde(default)]
    pub state: ModelState,
    /// Why it failed, went back or waits; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What asked for the desired version; absent when a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// Digest of the active version's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What runs it (`tract`); empty while none does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub engine: String,
    /// Since when it is in `state`.
    #[serde(default)]
    pub since_us: Micros,
}

/// How the file of the newest version of a model or of the agent came to the device, at `transfers/<subject>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Transfer {
    /// The version; of the agent, its release's counter.
    pub version: u64,
    /// Its file.
    pub digest: Digest,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes that came over the site's line for it, in all attempts: of the file, or of what it was made from.
    pub fetched: u64,
    /// Bytes of it that neighbours gave.
    #[serde(default)]
    pub near: u64,
    /// By which way it was completed.
    pub way: Way,
}

impl Transfer {
    /// Bytes that the site's line was spared.
    pub fn saved(&self) -> u64 {
        self.size.saturating_sub(self.fetched)
    }
}

/// A way by which a file comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// As it is, from its beginning to its end.
    #[default]
    Whole,
    /// In chunks, without those that the device had in other files.
    Chunks,
    /// As a delta from a file that the device had.
    Delta,
    /// From neighbours alone.
    Neighbours,
}

/// Status of the link, at `link`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkStatus {
    /// `quic` or `mqtt`; empty while there is no session.
    #[serde(default)]
    pub transport: String,
    /// Since when.
    #[serde(default)]
    pub since_us: Micros,
    /// Times the transport changed since the agent started.
    #[serde(default)]
    pub failovers: u64,
    /// Why it is not the preferred transport, or what keeps this device from following; empty when all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Status of a drained device, at `drain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// Since when it takes no inference requests over HTTP.
    #[serde(default)]
    pub since_us: Micros,
}

/// Where a component of the agent stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComponentState {
    /// Not up yet.
    #[default]
    Starting,
    /// Doing its work.
    Running,
    /// Ended with an error; it is started again after a pause.
    Failed,
    /// Ended as asked.
    Stopped,
}

/// Status of one component of the agent, at `components/<name>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ComponentStatus {
    /// Where it stands.
    #[serde(default)]
    pub state: ComponentState,
    /// Times it was started again since the agent started.
    #[serde(default)]
    pub restarts: u64,
    /// Its last error; empty when there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// Where the agent's own update stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// Nothing else is wanted than what runs.
    #[default]
    Current,
    /// Not begun; `error` says what it waits for.
    Waiting,
    /// The binary is being fetched.
    Downloading,
    /// It is being written to disk and asked for its version.
    Staging,
    /// The agent ends, so that the launcher starts the new one.
    Switching,
    /// The new version runs and has not proved itself yet.
    Trial,
    /// The desired version runs and has proved itself.
    Ready,
    /// The desired version could not be started or may not be; `error` says why.
    Failed,
    /// The desired version was started and given up; `error` says why, the version before runs again.
    RolledBack,
}

/// Status of the agent's own version, at `agent/release`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReleaseStatus {
    /// The version that intent asks for; absent when it asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<String>,
    /// The version that runs.
    #[serde(default)]
    pub active: String,
    /// Its counter; 0 for the one that was installed with the launcher.
    #[serde(default)]
    pub active_counter: u64,
    /// The proven version that is kept beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// No release with a lower counter is started on this device.
    #[serde(default)]
    pub floor: u64,
    /// Where the desired version stands.
    #[serde(default)]
    pub state: ReleaseState,
    /// Why it failed, went back or waits; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What asked for the desired version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// Since when it is in `state`.
    #[serde(default)]
    pub since_us: Micros,
}

/// Where the settings of the control plane stand on a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingsState {
    /// There are none: the device's own file holds.
    #[default]
    None,
    /// They hold, but for those in `at_restart`.
    Applied,
    /// They are not valid here; `error` says why, and those before go on.
    Rejected,
}

/// Status of the settings, at `agent/config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SettingsStatus {
    /// The version that intent asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_version: Option<u64>,
    /// The version that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// What asked for the desired version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// Where the desired version stands.
    #[serde(default)]
    pub state: SettingsState,
    /// Why it was rejected; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Settings that this agent does not know and has passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// Settings that take effect when the agent starts next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_restart: Vec<String>,
}

/// What of intent the device has applied, at `intent`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IntentStatus {
    /// The document's epoch.
    #[serde(default)]
    pub epoch: u32,
    /// Its heads, hexadecimal.
    #[serde(default)]
    pub heads: Vec<String>,
    /// Edits made at the site that the plane has not acknowledged.
    #[serde(default)]
    pub pending: u64,
}

/// By whose word a device installs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrustState {
    /// It was never given a root: what the control plane says is installed.
    #[default]
    Unsigned,
    /// Only what is signed is installed, and what is known of it is valid.
    Verified,
    /// Only what is signed is installed, and nothing new before there is valid metadata again; `error` says why.
    Stale,
}

/// Status of what the device believes of its tenant's update repository, at `trust`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrustStatus {
    /// By whose word it installs.
    #[serde(default)]
    pub state: TrustState,
    /// The version of the root that it trusts; 0 for none.
    #[serde(default)]
    pub root: u64,
    /// The version of the timestamp; 0 for none.
    #[serde(default)]
    pub timestamp: u64,
    /// The version of the targets; 0 for none.
    #[serde(default)]
    pub targets: u64,
    /// When the first of the metadata expires, and with it every new install until there is newer; 0 where there is none.
    #[serde(default)]
    pub expires_us: Micros,
    /// Why nothing new is installed, or why the last look failed; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}
