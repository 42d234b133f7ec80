//! What is known of one model on this device: what was committed, what is being tried, and what was given up.
//!
//! Everything but what is marked so survives a restart, as JSON in the ledger; a field that is added later needs a default.

use aidos_protocol::DeploymentId;
use aidos_protocol::artifact::Digest;
use aidos_protocol::manifest::Manifest;
use aidos_protocol::rollout::Experiment;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{DesiredModel, Health, Measures, ModelState, SelfTestReport};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One version of a model: its number and the digest of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot {
    /// The version in the registry.
    pub version: u64,
    /// Digest of the file.
    pub digest: Digest,
}

/// One version with what is needed to load it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Number and digest.
    #[serde(flatten)]
    pub slot: Slot,
    /// As the publisher declared it.
    #[serde(default)]
    pub manifest: Manifest,
    /// What came of its golden cases, where it had any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTestReport>,
    /// What it did while it was watched, or by the time it was last replaced: a version that comes soon after a restart is
    /// compared with this, for what answers has hardly answered since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measures: Option<Measures>,
    /// When it was committed.
    #[serde(default)]
    pub since: Micros,
}

/// All that is known of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version that was committed last: it answers, or answers again when an update is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Kept>,
    /// The one that was committed before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Kept>,
    /// What intent asked for last, and how far that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// What was given up and is not tried again, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// Starts of versions that are not known to have gone well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<Starts>,
    /// What is in memory; lost with the process.
    #[serde(skip)]
    pub memory: Memory,
    /// Why something older than what was committed answers; lost with the process.
    #[serde(skip)]
    pub note: String,
}

/// What is in memory of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The version that answers.
    pub active: Option<Slot>,
    /// The versions in memory, `active` among them.
    pub loaded: BTreeSet<Slot>,
    /// What runs them.
    pub engine: String,
}

/// One update, under way or ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// As intent told.
    pub desired: DesiredModel,
    /// How far it is.
    pub stage: Stage,
    /// The manifest, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// What came of the golden cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTestReport>,
    /// Failures that will most likely come again, over the whole update.
    #[serde(default)]
    pub failures: u32,
    /// Whether it has answered: then giving it up is a way back, not a failure to arrive.
    #[serde(default)]
    pub activated: bool,
    /// Seconds that it was watched, in steps, so that a restart does not begin the watch anew.
    #[serde(default)]
    pub watched_s: u32,
    /// What the version before had measured when this one took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Measures>,
    /// What it did by the last look.
    #[serde(skip)]
    pub measured: Option<Measures>,
    /// Seconds watched since `watched_s` was written.
    #[serde(skip)]
    pub unwritten_s: u32,
    /// What it waits for.
    #[serde(skip)]
    pub wait: Option<Wait>,
    /// Failures in a row that may pass by themselves.
    #[serde(skip)]
    pub tries: u32,
}

/// How far an update is. Each is written down before what it stands for is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// To be weighed: is it too late, is there power, is the device cool?
    Admit,
    /// Its artifacts are to be fetched.
    Download,
    /// Its file is to be read once more, whole.
    Verify,
    /// It waits for its window, before it takes memory.
    Hold,
    /// To be built beside the version that answers.
    Load,
    /// To run its golden cases.
    Test,
    /// Beside the version that answers, in an experiment, until intent says how to go on.
    Trial,
    /// Tested, and waiting to take over.
    Await,
    /// To take over.
    Activate,
    /// It answers; what was committed stands beside it.
    Watch,
    /// It is what was committed.
    Committed,
    /// It never answered and is given up.
    Failed {
        /// For people.
        reason: String,
    },
    /// It answered and is given up.
    RolledBack {
        /// For people.
        reason: String,
    },
}

/// Why an update pauses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Which kind of reason.
    pub kind: WaitKind,
    /// For people.
    pub reason: String,
    /// Whether it is to be looked at again.
    pub due: bool,
}

/// What a pause is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitKind {
    /// A link.
    Link,
    /// Window, power, heat or room.
    Need,
    /// A signature, or metadata that is valid.
    Vouched,
    /// Trying once more.
    Again,
}

/// A version that was given up, with what asked for it: the same wish does not try it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Which version.
    #[serde(flatten)]
    pub slot: Slot,
    /// What asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// Where it ended.
    #[serde(flatten)]
    pub end: Stage,
    /// What came of its golden cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTestReport>,
}

/// How often a version was loaded without the process being known to have outlived it, less the ends of the process that
/// were charged to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts {
    /// Which version.
    #[serde(flatten)]
    pub slot: Slot,
    /// Loads begun.
    pub count: u32,
    /// How far the last one came.
    pub life: Life,
}

/// How far a load came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// It has not returned.
    Loading,
    /// It is in memory.
    Loaded,
    /// It was in a process that has ended.
    Past,
}

impl Update {
    /// A wish that was not looked at yet.
    pub fn new(desired: DesiredModel, stage: Stage) -> Self {
        Self {
            desired,
            stage,
            manifest: None,
            self_test: None,
            failures: 0,
            activated: false,
            watched_s: 0,
            baseline: None,
            measured: None,
            unwritten_s: 0,
            wait: None,
            tries: 0,
        }
    }

    /// The version that is wanted.
    pub fn slot(&self) -> Slot {
        Slot { version: self.desired.version, digest: self.desired.digest }
    }

    /// What makes two wishes the same.
    pub(super) fn key(&self) -> (Slot, Option<DeploymentId>) {
        (self.slot(), self.desired.deployment)
    }

    /// Whether it was given up.
    pub fn is_given_up(&self) -> bool {
        matches!(self.stage, Stage::Failed { .. } | Stage::RolledBack { .. })
    }

    /// The version as it is kept once it is committed.
    pub fn kept(&self) -> Kept {
        let manifest = self.manifest.clone().or_else(|| self.desired.manifest.clone()).unwrap_or_default();
        let (self_test, measures) = (self.self_test.clone(), self.measured.clone());
        Kept { slot: self.slot(), manifest, self_test, measures, since: Micros(0) }
    }
}

impl State {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.answers.is_none() && self.update.is_none()
    }

    /// The digests whose files must stay: what was committed, and what is on its way.
    pub fn digests(&self) -> BTreeSet<Digest> {
        let kept = [&self.answers, &self.before].into_iter().flatten().map(|kept| kept.slot.digest);
        let wanted = self.update.iter().filter(|update| !update.is_given_up()).flat_map(|update| {
            let desired = &update.desired;
            [Some(desired.digest), desired.manifest_digest, desired.golden_digest].into_iter().flatten()
        });
        kept.chain(wanted).chain(self.memory.loaded.iter().map(|slot| slot.digest)).collect()
    }

    /// The version that is suspected to have ended the process, with how much it is so: one that was being loaded before one
    /// that was not, and what is new here before what has answered for long.
    pub fn suspect(&self) -> Option<((bool, Micros), Slot)> {
        let committed = |slot: Slot| {
            let mut kept = [&self.answers, &self.before].into_iter().flatten();
            kept.find(|kept| kept.slot == slot).map_or(Micros(i64::MAX), |kept| kept.since)
        };
        let begun = self.starts.iter().filter(|begun| begun.life != Life::Past);
        begun.map(|begun| ((begun.life == Life::Loading, committed(begun.slot)), begun.slot)).max()
    }

    /// The experiment that runs now: the version beside, and how it takes part.
    pub fn trial(&self) -> Option<(Slot, Experiment)> {
        let update = self.update.as_ref().filter(|update| update.stage == Stage::Trial)?;
        let slot = update.slot();
        let experiment = update.desired.update.experiment.clone()?;
        (self.memory.loaded.contains(&slot) && self.memory.active != Some(slot)).then_some((slot, experiment))
    }

    /// Where the model stands, in the words of the device's status, and why.
    pub fn standing(&self) -> (ModelState, String) {
        let active = self.memory.active;
        let Some(update) = &self.update else {
            return match (active, self.note.is_empty()) {
                (Some(_), true) => (ModelState::Ready, String::new()),
                (_, false) => (ModelState::Failed, self.note.clone()),
                (None, true) => (ModelState::Pending, String::new()),
            };
        };
        let reason = update.wait.as_ref().map_or_else(String::new, |wait| wait.reason.clone());
        let state = match &update.stage {
            Stage::Failed { reason } => return (ModelState::Failed, reason.clone()),
            // Not said before it is so.
            Stage::RolledBack { reason } if active != Some(update.slot()) => return (ModelState::RolledBack, reason.clone()),
            Stage::RolledBack { reason } => return (ModelState::Watching, reason.clone()),
            _ if update.wait.as_ref().is_some_and(|wait| matches!(wait.kind, WaitKind::Need | WaitKind::Vouched)) => {
                ModelState::Waiting
            }
            _ if update.wait.as_ref().is_some_and(|wait| wait.kind == WaitKind::Link) => ModelState::Pending,
            Stage::Admit => ModelState::Pending,
            Stage::Download => ModelState::Downloading,
            Stage::Verify | Stage::Hold => ModelState::Verifying,
            Stage::Load => ModelState::Loading,
            Stage::Test | Stage::Await | Stage::Activate => ModelState::Testing,
            Stage::Trial => ModelState::Trial,
            Stage::Watch => ModelState::Watching,
            Stage::Committed if active == Some(update.slot()) => ModelState::Ready,
            Stage::Committed => ModelState::Loading,
        };
        (state, reason)
    }

    /// What the device vouches for, once there is something to vouch for.
    pub fn verdict(&self) -> Option<(Health, String)> {
        let update = self.update.as_ref()?;
        let answers = self.memory.active == Some(update.slot());
        match &update.stage {
            Stage::Trial => Some((Health::Watching, String::new())),
            Stage::Watch if answers => Some((Health::Watching, String::new())),
            Stage::Committed if answers => Some((Health::Healthy, String::new())),
            Stage::Failed { reason } | Stage::RolledBack { reason } if !answers => Some((Health::Unhealthy, reason.clone())),
            _ => None,
        }
    }
}
