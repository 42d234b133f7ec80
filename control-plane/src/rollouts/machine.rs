//! What follows from the deployments for one device. Pure: it takes no handle and no clock.
//!
//! The rules, per subject – a model, the agent, its settings:
//! 1. The newest active deployment that matches the device's labels wins (of those with the highest priority), also over what a
//!    person set by hand. One that goes out in waves counts only where its rollout has admitted the device.
//! 2. A device that no active deployment matches any more loses what it was told, unless the deployment that put it there was
//!    stopped without removal.
//! 3. Stopping without removal freezes: no deployment older than the stopped one changes such a device.
//! 4. What a reverted rollout put there gives way to what else holds, or else to what was there before.
//! 5. What no deployment put there stays.

use super::desired::Desired;
use super::store::{Deployment, State};
use aidos_protocol::{DeploymentId, Subject, api::deployments::Progress, time::Micros, twin::Edit};
use std::collections::{BTreeMap, BTreeSet};

/// What has become of a deployment that a device's intent names, at the end of its chain of successors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It holds.
    Active,
    /// It is on its way to some.
    Gradual,
    /// It was stopped, and its devices keep what they have.
    Left { created: Micros },
    /// It was stopped, and its devices lose what it put there.
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
    pub(super) before: Option<Option<Desired>>,
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
    /// The deployment that each subject is as it is by, after the edits.
    pub(super) governed: BTreeMap<Subject, DeploymentId>,
}

/// Judges one device. `active` is sorted by priority and age, what wins last; `fates` holds those deployments that `wanted` names and that
/// are known, `admissions` the rollouts that have told the device something.
pub(super) fn decide(
    active: &[Deployment],
    fates: &BTreeMap<DeploymentId, Fate>,
    admissions: &BTreeMap<DeploymentId, Admission>,
    labels: &BTreeMap<String, String>,
    wanted: &BTreeMap<Subject, Desired>,
) -> Decision {
    let mut winners: BTreeMap<&Subject, &Deployment> = BTreeMap::new();
    let reaches = |deployment: &&Deployment| {
        deployment.selector.matches(labels) && (!deployment.gradual || admissions.contains_key(&deployment.id))
    };
    for deployment in active.iter().filter(reaches) {
        winners.insert(&deployment.subject, deployment);
    }
    let mut decision = Decision::default();
    let subjects: BTreeSet<&Subject> = winners.keys().copied().chain(wanted.keys()).collect();
    for subject in subjects {
        let current = wanted.get(subject);
        let by = current.and_then(Desired::deployment);
        let fate = by.and_then(|id| fates.get(&id).copied());
        match (winners.get(subject), fate) {
            (Some(winner), Some(Fate::Left { created })) if created > winner.created => {
                decision.governed.extend(by.map(|id| (subject.clone(), id)));
            }
            (Some(winner), _) => {
                let told = winner.told(admissions.get(&winner.id).is_some_and(|admission| admission.trial));
                if current != Some(&told) {
                    decision.edits.push(told.edit(subject));
                }
                decision.governed.insert(subject.clone(), winner.id);
            }
            (None, Some(Fate::Left { .. })) => decision.governed.extend(by.map(|id| (subject.clone(), id))),
            (None, Some(Fate::Gradual | Fate::Reverted))
                if let Some(before) = by.and_then(|id| admissions.get(&id)?.before.as_ref()) =>
            {
                decision.edits.push(before.as_ref().map_or_else(|| Desired::removal(subject), |before| before.edit(subject)));
            }
            (None, Some(Fate::Active | Fate::Gradual | Fate::Removed | Fate::Reverted)) => {
                decision.edits.push(Desired::removal(subject));
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
    pub(super) active_version: Option<String>,
    pub(super) error: Option<String>,
}

impl Standing {
    /// It has said nothing of what it was told.
    pub(super) fn pending(active_version: Option<String>) -> Self {
        Self { progress: Progress::Pending, step: None, active_version, error: None }
    }
    /// It says this; `error` tells why it failed or for what it waits.
    pub(super) fn said(progress: Progress, step: &str, active_version: Option<String>, error: &str) -> Self {
        let why = if error.is_empty() && progress == Progress::Failed { "the device gives no reason" } else { error };
        let error = Some(why.to_owned()).filter(|why| !why.is_empty() && progress != Progress::Ready);
        Self { progress, step: Some(step.to_owned()), active_version, error }
    }
    /// The device could not even be told.
    pub(super) fn untold(error: String) -> Self {
        Self { progress: Progress::Failed, step: None, active_version: None, error: Some(error) }
    }
    /// Whether this is what [`Self::untold`] makes: nothing the device reports can change it.
    pub(super) fn is_untold(&self) -> bool {
        self.progress == Progress::Failed && self.step.is_none()
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
