//! What a deployment puts on devices: a model version, a release of the agent, or settings for it. All go the same way; only here
//! do they differ.

use super::machine::Standing;
use super::ports::Status;
use aidos_protocol::api::deployments::Progress;
use aidos_protocol::artifact::Digest;
use aidos_protocol::rollout::{Metric, Plan, PlanError};
use aidos_protocol::settings::SettingsDocument;
use aidos_protocol::twin::{AGENT_CONFIG, AGENT_RELEASE, DesiredModel, DesiredRelease, Edit, IntentView};
use aidos_protocol::twin::{HealthReport, ModelState, ModelStatus, ReleaseState, ReleaseStatus, SettingsState, SettingsStatus};
use aidos_protocol::{DeploymentId, Subject};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// What a device is told about a subject. The three have no form in common: a release's version is text, and only settings have
/// `settings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Desired {
    /// A version of the agent.
    Release(DesiredRelease),
    /// Settings for the agent.
    Settings(SettingsDocument),
    /// A model version.
    Model(Box<DesiredModel>),
}

impl Desired {
    /// What a device's intent asks for.
    pub(crate) fn of_intent(intent: IntentView) -> BTreeMap<Subject, Self> {
        let mut all: BTreeMap<Subject, Self> =
            intent.models.into_iter().map(|(name, model)| (Subject::Model(name), Self::Model(Box::new(model)))).collect();
        let read = |key: &str| intent.config.get(key).cloned();
        // What cannot be read counts as not there: a deployment writes it anew.
        let release = read(AGENT_RELEASE).and_then(|value| serde_json::from_value(value).ok()).map(Self::Release);
        let settings = read(AGENT_CONFIG).and_then(|value| serde_json::from_value(value).ok()).map(Self::Settings);
        all.extend(release.map(|release| (Subject::Release, release)));
        all.extend(settings.map(|settings| (Subject::Settings, settings)));
        all
    }

    /// Says to a device that it should have it.
    pub(super) fn edit(&self, subject: &Subject) -> Edit {
        match (self, subject) {
            (Self::Model(model), Subject::Model(name)) => Edit::SetModel { name: name.clone(), model: (**model).clone() },
            (desired, _) => Edit::SetConfig { key: subject.to_string(), value: json!(desired) },
        }
    }

    /// Says to a device that nothing is wanted of a subject.
    pub(super) fn removal(subject: &Subject) -> Edit {
        match subject {
            Subject::Model(name) => Edit::RemoveModel { name: name.clone() },
            Subject::Release | Subject::Settings => Edit::RemoveConfig { key: subject.to_string() },
        }
    }

    /// What asked for it.
    pub(super) fn deployment(&self) -> Option<DeploymentId> {
        match self {
            Self::Model(model) => model.deployment,
            Self::Release(release) => release.deployment,
            Self::Settings(settings) => settings.deployment,
        }
    }

    /// As it is when `deployment` asks for it.
    pub(super) fn by(mut self, deployment: DeploymentId) -> Self {
        match &mut self {
            Self::Model(model) => model.deployment = Some(deployment),
            Self::Release(release) => release.deployment = Some(deployment),
            Self::Settings(settings) => settings.deployment = Some(deployment),
        }
        self
    }

    /// As a rollout by `plan` asks for it.
    pub(super) fn planned(mut self, plan: &Plan) -> Self {
        match &mut self {
            Self::Model(model) => model.update = plan.policy(true),
            Self::Release(release) => release.update = plan.policy(true),
            // They hold at once.
            Self::Settings(_) => {}
        }
        self
    }

    /// The same without the experiment.
    pub(super) fn settled(mut self) -> Self {
        if let Self::Model(model) = &mut self {
            model.update.experiment = None;
        }
        self
    }

    /// Orders the versions of a subject, and names one in a health report: a number, or a release's counter.
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Model(model) => model.version,
            Self::Release(release) => release.counter,
            Self::Settings(settings) => settings.version,
        }
    }

    /// The version as people name it.
    pub(crate) fn version(&self) -> String {
        match self {
            Self::Model(model) => model.version.to_string(),
            Self::Release(release) => release.version.clone(),
            Self::Settings(settings) => settings.version.to_string(),
        }
    }

    /// Names the content: the same for the same, whoever asks for it and however it goes out.
    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Model(model) => model.digest,
            Self::Release(release) => Digest::of(&serde_json::to_vec(&release.binaries).expect("binaries have only text keys")),
            Self::Settings(settings) => settings.digest(),
        }
    }

    /// Whether it is the same version with the same content. A release may have got another binary since.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        (self.number(), self.digest()) == (other.number(), other.digest())
    }

    /// Bytes that a device fetches for it at most.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Model(model) => model.size,
            Self::Release(release) => release.binaries.iter().map(|binary| binary.size).max().unwrap_or(0),
            Self::Settings(_) => 0,
        }
    }

    /// The architectures that it is for; none: for all.
    pub(super) fn archs(&self) -> Vec<&str> {
        match self {
            Self::Release(release) => release.binaries.iter().map(|binary| binary.arch.as_str()).collect(),
            Self::Model(_) | Self::Settings(_) => Vec::new(),
        }
    }

    /// Whether a device that has it has this file, or says this.
    pub(super) fn holds(&self, digest: Digest) -> bool {
        match self {
            Self::Model(_) | Self::Settings(_) => digest == self.digest(),
            Self::Release(release) => release.binaries.iter().any(|binary| binary.digest == digest),
        }
    }

    /// Whether a device's health report speaks of it, asked for by `deployment`.
    pub(super) fn is_in(&self, report: &HealthReport, deployment: DeploymentId) -> bool {
        self.holds(report.digest) && report.version == self.number() && report.deployment == Some(deployment)
    }

    /// Checks what of a plan only some can do. `named`: as people name it.
    pub(super) fn check(&self, named: &str, plan: &Plan) -> Result<(), PlanError> {
        let fail = |field, message: String| Err(PlanError { field, message });
        if let Self::Model(model) = self {
            return match plan.gates.iter().find(|gate| gate.metric == Metric::SelfTest) {
                Some(_) if model.golden_digest.is_none() => {
                    let text = "brings no golden cases to test itself with: push it with `--golden`, or leave this gate out";
                    fail("gates", format!("{named} {text}"))
                }
                _ => Ok(()),
            };
        }
        if plan.experiment.is_some() {
            return fail("experiment", "only models can be tried beside the running version: leave the experiment out".into());
        }
        let measured = |metric: &Metric| matches!((self, metric), (Self::Release(_), Metric::Memory));
        if let Some(gate) = plan.gates.iter().find(|gate| !measured(&gate.metric)) {
            let text = match self {
                Self::Release(_) => {
                    "an agent measures of itself `memory` only, and goes back by itself when it cannot keep in touch"
                }
                _ => "settings have no measurements: each device vouches that they hold there, or says why not",
            };
            return fail("gates", format!("{text}: leave `{gate}` out"));
        }
        if let (Self::Settings(_), Some(_)) = (self, &plan.window) {
            return fail("window", "settings hold as soon as a device hears of them: leave the window out".into());
        }
        Ok(())
    }

    /// How far a device is with it, as far as its own report goes. Ready is only what the device itself says is active, and a
    /// report about something else says nothing about this.
    pub(super) fn standing(&self, report: Option<&Status>) -> Standing {
        match (self, report) {
            (Self::Model(told), Some(Status::Model(report))) => of_model(told, report),
            (Self::Release(told), Some(Status::Release(report))) => of_release(told, report),
            (Self::Settings(told), Some(Status::Settings(report))) => of_settings(told, report),
            _ => Standing::pending(None),
        }
    }
}

fn of_model(told: &DesiredModel, report: &ModelStatus) -> Standing {
    let active = report.active_version.map(|version| version.to_string());
    if report.desired_version != Some(told.version) {
        return Standing::pending(active);
    }
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
    Standing::said(progress, step, active, &report.error)
}

fn of_release(told: &DesiredRelease, report: &ReleaseStatus) -> Standing {
    let active = Some(report.active.clone()).filter(|version| !version.is_empty());
    if report.desired.as_ref() != Some(&told.version) || report.deployment != told.deployment {
        return Standing::pending(active);
    }
    let (progress, step) = match report.state {
        ReleaseState::Current => (Progress::Pending, "pending"),
        ReleaseState::Waiting => (Progress::Pending, "waiting"),
        ReleaseState::Downloading => (Progress::Downloading, "downloading"),
        ReleaseState::Staging => (Progress::Downloading, "staging"),
        ReleaseState::Switching => (Progress::Downloading, "switching"),
        ReleaseState::Trial => (Progress::Downloading, "trial"),
        ReleaseState::Ready => (Progress::Ready, "ready"),
        ReleaseState::Failed => (Progress::Failed, "failed"),
        ReleaseState::RolledBack => (Progress::Failed, "rolled_back"),
    };
    Standing::said(progress, step, active, &report.error)
}

fn of_settings(told: &SettingsDocument, report: &SettingsStatus) -> Standing {
    let active = report.version.map(|version| version.to_string());
    if report.desired_version != Some(told.version) || report.deployment != told.deployment {
        return Standing::pending(active);
    }
    let (progress, step) = match report.state {
        SettingsState::None => (Progress::Pending, "pending"),
        SettingsState::Applied => (Progress::Ready, "applied"),
        SettingsState::Rejected => (Progress::Failed, "rejected"),
    };
    Standing::said(progress, step, active, &report.error)
}
