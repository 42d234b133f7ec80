//! Rollouts: a version of a model, of the agent or of its settings that goes out in waves, judged by what the devices measure.
//!
//! A rollout has the id of its deployment: `POST /deployments` is a rollout of one wave.

use super::deployments::{PlannedDevice, Progress};
use crate::rollout::{Plan, Verdict};
use crate::{DeploymentId, DeviceId, Subject, selector::Selector, time::Micros};
use serde::{Deserialize, Serialize};

/// `POST /rollouts`. With `?dry_run=true` nothing is made and the answer is a [`RolloutForecast`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRollout {
    /// What: `name@3`, `name@alias`, or `name` for the latest version of a model; `agent.release@1.4.0` for the agent itself,
    /// `agent.config@3` for its settings. It is resolved once, now.
    pub subject: String,
    /// The devices; those that match later follow.
    pub selector: String,
    /// How.
    #[serde(default)]
    pub plan: Plan,
}

/// What a rollout would do now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutForecast {
    /// What of the devices it changes.
    pub subject: Subject,
    /// The version that the reference means now: a number, or a release's version.
    pub version: String,
    /// The selector as it was understood.
    #[schema(value_type = String)]
    pub selector: Selector,
    /// Devices that match.
    pub matching: u64,
    /// Those of them that do not fit the constraints.
    pub unfit: u64,
    /// Why, of the first of those.
    pub unfit_reasons: Vec<String>,
    /// Devices that have this file wanted already and fetch nothing.
    pub present: u64,
    /// Bytes that the others fetch at most: chunks they have and deltas make it less.
    pub bytes_at_most: u64,
    /// Seconds of soaks and experiments: it cannot be done sooner.
    pub seconds_at_least: u64,
    /// How many devices each wave adds.
    pub waves: Vec<ForecastWave>,
    /// The first devices, in the order in which they get it.
    pub devices: Vec<PlannedDevice>,
}

/// A wave that would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ForecastWave {
    /// As the plan says it.
    pub share: String,
    /// Devices that it adds.
    pub devices: u64,
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RolloutPhase {
    /// It goes on by itself.
    Running,
    /// It waits for a person.
    Paused,
    /// Everyone has it; late joiners get it.
    Finished,
    /// It was ended before.
    Aborted,
    /// A newer one of the same subject on the same selector took its place.
    Superseded,
}

impl RolloutPhase {
    /// Whether nothing happens to it by itself any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Aborted | Self::Superseded)
    }
}

/// What the open wave is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RolloutStage {
    /// The version takes part in an experiment beside the running one.
    Trial,
    /// Devices change to it.
    Change,
    /// All run it, and are looked at.
    Soak,
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutView {
    /// Its id.
    pub id: DeploymentId,
    /// What of the devices it changes.
    pub subject: Subject,
    /// The version: a number, or a release's version.
    pub version: String,
    /// The devices.
    #[schema(value_type = String)]
    pub selector: Selector,
    /// As it was made.
    pub plan: Plan,
    /// Where it stands.
    pub phase: RolloutPhase,
    /// Why it is paused or was aborted; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The open wave, from 1; the last one when it is over.
    pub wave: u32,
    /// What that wave is doing.
    pub stage: RolloutStage,
    /// When its soak or experiment is over, where that is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak_until: Option<Micros>,
    /// Whether its devices went, or go, back.
    #[serde(default)]
    pub reverted: bool,
    /// All waves.
    pub waves: Vec<WaveView>,
    /// The gates over the open wave; the last judgement when it is over.
    pub gates: Vec<GateView>,
    /// Bytes that came over the sites' lines for the file, as far as its devices have told.
    pub bytes_fetched: u64,
    /// Bytes that those devices' lines were spared by deltas, chunks they had, and neighbours.
    pub bytes_saved: u64,
    /// The rollout that this one undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<DeploymentId>,
    /// When it was made.
    pub created_at: Micros,
    /// Who made it.
    pub created_by: String,
    /// When something last happened to it.
    pub updated_at: Micros,
    /// The one that holds in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<DeploymentId>,
}

/// How far a wave's devices are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WaveView {
    /// As the plan says it.
    pub share: String,
    /// Devices that it adds: the sum of the others.
    pub devices: u64,
    /// Not told yet.
    pub waiting: u64,
    /// Told, and not running it yet.
    pub changing: u64,
    /// In the experiment.
    pub trying: u64,
    /// Running it, and watching it.
    pub running: u64,
    /// They vouch for it.
    pub succeeded: u64,
    /// They gave it up.
    pub failed: u64,
    /// They said nothing by the deadline.
    pub silent: u64,
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GateView {
    /// As the plan says it.
    pub gate: String,
    /// Of the new version, in the metric's unit (latency in microseconds, rates 0 to 1, memory in bytes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<f64>,
    /// Of the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// Devices that it was measured on.
    pub devices: u64,
    /// What follows.
    pub verdict: Verdict,
}

/// Points of each gate when the caller does not say: what a chart has columns.
pub const DEFAULT_POINTS: u32 = 1_000;
/// The most points of each gate: more than are kept.
pub const MAX_POINTS: u32 = 10_000;

/// `GET /rollouts/{id}/gates`: what the gates said over time, in the order of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutGatesView {
    /// One for each gate of the plan.
    pub gates: Vec<GateSeries>,
}

/// A gate over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GateSeries {
    /// As the plan says it.
    pub gate: String,
    /// In the order of time; the last one is the newest judgement. A judgement that says what the one before said is no point.
    pub points: Vec<GatePoint>,
}

/// What a gate said at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GatePoint {
    /// When it was judged.
    pub at: Micros,
    /// The wave that was judged, from 1.
    pub wave: u32,
    /// Of the new version, in the metric's unit (latency in microseconds, rates 0 to 1, memory in bytes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<f64>,
    /// Of the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// Devices that it was measured on.
    pub devices: u64,
    /// What follows.
    pub verdict: Verdict,
}

/// What has become of a device in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not told yet.
    Waiting,
    /// Told, and not running it yet.
    Changing,
    /// In the experiment.
    Trying,
    /// Running it, and watching it.
    Running,
    /// It vouches for it, signed.
    Succeeded,
    /// It gave it up.
    Failed,
    /// It said nothing by the deadline; it may still come back.
    Silent,
}

/// One device of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutDeviceView {
    /// The device.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// Its wave, from 1.
    pub wave: u32,
    /// How far it is.
    pub outcome: Outcome,
    /// Why it failed; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether it is connected now.
    pub online: bool,
    /// When it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Micros>,
    /// When that last changed.
    pub updated_at: Micros,
}

/// By what a device gets a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpdateKind {
    /// A rollout, wave by wave.
    Rollout,
    /// A deployment, to everyone at once.
    Deployment,
}

/// `GET /devices/{device}/updates`: what became of a rollout or a deployment on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceUpdateView {
    /// The rollout or deployment.
    pub id: DeploymentId,
    /// Which of the two.
    pub kind: UpdateKind,
    /// What of the device it changes.
    pub subject: Subject,
    /// The version: a number, or a release's version.
    pub version: String,
    /// The device's wave, from 1; absent where it came after the last one, and in deployments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u32>,
    /// What has become of it in that wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// How far the device is with it; present only while this is what it was told last about the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it failed, or for what it waits; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Micros>,
    /// When that last changed.
    pub updated_at: Micros,
    /// When the rollout or deployment was made.
    pub created_at: Micros,
}

/// `GET /rollouts/{id}/cells`: every device of a rollout in as few bytes as can be, for who draws them all.
///
/// Devices stand wave by wave, within a wave by id: a device keeps its place until another joins its wave or an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutCellsView {
    /// How many devices each wave has.
    pub waves: Vec<u32>,
    /// A byte for each device, in base64: its outcome, counted from 0 in the order waiting, changing, trying, running, succeeded,
    /// failed, silent.
    pub outcomes: String,
    /// Sixteen bytes for each device, in base64: its id without `dev_`. Left out with `?ids=false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<String>,
}

/// `POST /rollouts/{id}/pause` and `/resume`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Because {
    /// For those who read the history.
    pub reason: String,
}

/// `POST /rollouts/{id}/promote`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromoteRollout {
    /// Go on to everyone now, without soaks and gates.
    pub all: bool,
    /// For those who read the history.
    pub reason: String,
}

/// `POST /rollouts/{id}/abort`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AbortRollout {
    /// Bring the devices back; absent: as the plan says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revert: Option<bool>,
    /// For those who read the history.
    pub reason: String,
}

/// `POST /rollouts/{id}/undo`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UndoRollout {
    /// The version to go back to; absent: the one that held before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// For those who read the history.
    pub reason: String,
}
