//! What follows from the deployments for one device. Pure: it takes no handle and no clock.
//!
//! The rules, per model:
//! 1. The newest active deployment that matches the device's labels wins (of those with the highest priority), also over what a
//!    person set by hand. One that goes out in waves counts only where its rollout has admitted the device.
//! 2. A device that no active deployment matches any more loses the model, unless the deployment that put it there was
//!    stopped without removal.
//! 3. Stopping without removal freezes: no deployment older than the stopped one changes such a device.
//! 4. What a reverted rollout put there gives way to what else holds, or else to what was there before.
//! 5. What no deployment put there stays.

use super::store::{Deployment, State};
use aidos_protocol::{
    DeploymentId, ModelName,
    api::deployments::Progress,
    time::Micros,
    twin::{DesiredModel, Edit, ModelState, ModelStatus},
};
use std::collections::{BTreeMap, BTreeSet};

/// What has become of a deployment that a device's intent names, at the end of its chain of successors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It holds.
    Active,
    /// It is on its way to some.
    Gradual,
    /// It was stopped, and its devices keep the model.
    Left { created: Micros },
    /// It was stopped, and its devices lose the model.
    Removed,
    /// It was aborted, and its devices go back to what they had.
    Reverted,
}

/// A device's place in a rollout that has told it something.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Admission {
    /// To take part in the experiment only.
    pub(super) trial: bool,
    /// What was wanted there before, `Some(None)` for nothing; `None` until it was written down.
    pub(super) before: Option<Option<DesiredModel>>,
}

impl Fate {
    pub(super) fn of(deployment: &Deployment) -> Option<Self> {
        match deployment.state {
            State::Active if deployment.gradual => Some(Self::Gradual),
            State::Active => Some(Self::Active),
            State::Stopped { removed: true } => Some(Self::Removed),
            State::Stopped { removed: false } => Some(Self::Left { created: deployment.created }),
            State::Reverted => Some(Self::Reverted),
            State::Superseded { .. } => None,
        }
    }
}

/// What is to be done on one device.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Decision {
    /// Edits of its intent.
    pub(super) edits: Vec<Edit>,
    /// The deployment that each model is there by, after the edits.
    pub(super) governed: BTreeMap<ModelName, DeploymentId>,
}

/// Judges one device. `active` is sorted by priority and age, what wins last; `fates` holds those deployments that `wanted` names and that
/// are known, `admissions` the rollouts that have told the device something.
pub(super) fn decide(
    active: &[Deployment],
    fates: &BTreeMap<DeploymentId, Fate>,
    admissions: &BTreeMap<DeploymentId, Admission>,
    labels: &BTreeMap<String, String>,
    wanted: &BTreeMap<ModelName, DesiredModel>,
) -> Decision {
    let mut winners: BTreeMap<&ModelName, &Deployment> = BTreeMap::new();
    let reaches = |deployment: &&Deployment| {
        deployment.selector.matches(labels) && (!deployment.gradual || admissions.contains_key(&deployment.id))
    };
    for deployment in active.iter().filter(reaches) {
        winners.insert(&deployment.model, deployment);
    }
    let mut decision = Decision::default();
    let models: BTreeSet<&ModelName> = winners.keys().copied().chain(wanted.keys()).collect();
    for model in models {
        let current = wanted.get(model);
        let by = current.and_then(|desired| desired.deployment);
        let fate = by.and_then(|id| fates.get(&id).copied());
        match (winners.get(model), fate) {
            (Some(winner), Some(Fate::Left { created })) if created > winner.created => {
                decision.governed.extend(by.map(|id| (model.clone(), id)));
            }
            (Some(winner), _) => {
                let told = winner.told(admissions.get(&winner.id).is_some_and(|admission| admission.trial));
                if current != Some(&told) {
                    decision.edits.push(Edit::SetModel { name: model.clone(), model: told });
                }
                decision.governed.insert(model.clone(), winner.id);
            }
            (None, Some(Fate::Left { .. })) => decision.governed.extend(by.map(|id| (model.clone(), id))),
            (None, Some(Fate::Gradual | Fate::Reverted))
                if let Some(before) = by.and_then(|id| admissions.get(&id)?.before.as_ref()) =>
            {
                decision.edits.push(match before {
                    Some(before) => Edit::SetModel { name: model.clone(), model: before.clone() },
                    None => Edit::RemoveModel { name: model.clone() },
                });
            }
            (None, Some(Fate::Active | Fate::Gradual | Fate::Removed | Fate::Reverted)) => {
                decision.edits.push(Edit::RemoveModel { name: model.clone() })
            }
            (None, None) => {}
        }
    }
    decision
}

/// How far a device is with what it was told, as far as its own report goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Never [`Progress::Offline`]: that depends on the moment of asking.
    pub(super) progress: Progress,
    pub(super) step: Option<String>,
    pub(super) active_version: Option<u64>,
    pub(super) error: Option<String>,
}

impl Standing {
    /// The device could not even be told.
    pub(super) fn untold(error: String) -> Self {
        Self { progress: Progress::Failed, step: None, active_version: None, error: Some(error) }
    }
    /// Whether this is what [`Self::untold`] makes: nothing the device reports can change it.
    pub(super) fn is_untold(&self) -> bool {
        self.progress == Progress::Failed && self.step.is_none()
    }
}

/// Reads a device's report of a model against the version and file it was told. Ready is only what the device itself says is
/// active, by version and digest; a report about another version says nothing about this one.
pub(super) fn standing(told: &DesiredModel, report: Option<&ModelStatus>) -> Standing {
    let mut standing = Standing {
        progress: Progress::Pending,
        step: None,
        active_version: report.and_then(|report| report.active_version),
        error: None,
    };
    let Some(report) = report.filter(|report| report.desired_version == Some(told.version)) else { return standing };
    let (progress, step) = match report.state {
        ModelState::Pending => (Progress::Pending, "pending"),
        ModelState::Waiting => (Progress::Pending, "waiting"),
        ModelState::Downloading => (Progress::Downloading, "downloading"),
        ModelState::Verifying => (Progress::Downloading, "verifying"),
        ModelState::Loading => (Progress::Downloading, "loading"),
        ModelState::Testing => (Progress::Downloading, "testing"),
        ModelState::Trial => (Progress::Downloading, "trial"),
        ModelState::Watching => (Progress::Downloading, "watching"),
        ModelState::Failed => (Progress::Failed, "failed"),
        ModelState::RolledBack => (Progress::Failed, "rolled_back"),
        ModelState::Ready => {
            let this_one = report.active_version == Some(told.version) && report.digest.is_none_or(|is| is == told.digest);
            (if this_one { Progress::Ready } else { Progress::Pending }, "ready")
        }
    };
    standing.progress = progress;
    standing.step = Some(step.to_owned());
    if progress == Progress::Failed {
        standing.error = Some(if report.error.is_empty() { "the device gives no reason".into() } else { report.error.clone() });
    }
    standing
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
