//! What to do about the desired release, from what is known. Pure.

use crate::update::{Admission, Conditions, judge};
use aidos_launcher::{Release, State, Verdict};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{DesiredRelease, ReleaseBinary, ReleaseState, ReleaseStatus};

/// What is known.
#[derive(Debug, Clone)]
pub struct Standing<'a> {
    /// The launcher's state; `Err`: why there is none.
    pub launcher: Result<&'a State, String>,
    /// Whether this process was started on trial.
    pub on_trial: bool,
    /// The version that is compiled in.
    pub own_version: &'a str,
    /// What this process runs on.
    pub arch: &'a str,
    /// How the device fares.
    pub conditions: Conditions,
    /// Now, by the control plane's clock as far as it is known.
    pub now: Micros,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing until something changes.
    Rest,
    /// Nothing yet; look again soon.
    Wait,
    /// See whether this version, which is on trial, is healthy.
    Prove,
    /// Bring this binary of it and hand over.
    Update(ReleaseBinary),
}

/// The step, and the status that goes with it. `desired`: `Err` for one that cannot be read.
pub fn plan(desired: Option<&Result<DesiredRelease, String>>, standing: &Standing<'_>) -> (Step, ReleaseStatus) {
    let mut status = ReleaseStatus { active: standing.own_version.to_owned(), ..ReleaseStatus::default() };
    if let Some(Ok(desired)) = desired {
        status.desired = Some(desired.version.clone());
        status.deployment = desired.deployment;
    }
    let told = |status: ReleaseStatus, step, state, error: String| (step, ReleaseStatus { state, error, ..status });
    let state = match &standing.launcher {
        Ok(state) => *state,
        Err(_) if desired.is_none() => return (Step::Rest, status),
        Err(why) => return told(status, Step::Rest, ReleaseState::Failed, why.clone()),
    };
    // One that has proved itself is the good one, although this process was started on trial.
    let on_trial = standing.on_trial && state.trial.is_some();
    let named = |release: &Release| match release.version.as_str() {
        "" if on_trial => "installed".to_owned(),
        "" => standing.own_version.to_owned(),
        version => version.to_owned(),
    };
    let running = if on_trial { state.held(state.good.other()).map(|held| &held.release) } else { state.good_release() };
    if let Some(release) = running {
        (status.active, status.active_counter) = (named(release), release.counter);
    }
    let before = if on_trial { state.good_release() } else { state.previous() };
    status.previous = before.map(|release| if release.version.is_empty() { "installed".to_owned() } else { named(release) });
    status.floor = state.floor;
    if on_trial {
        return told(status, Step::Prove, ReleaseState::Trial, String::new());
    }
    let desired = match desired {
        None => return (Step::Rest, status),
        Some(Err(why)) => return told(status, Step::Rest, ReleaseState::Failed, why.clone()),
        Some(Ok(desired)) => desired,
    };
    let Some(binary) = desired.binary(standing.arch) else {
        let why = format!("there is no binary of {} for {}; push one, and deploy it again", desired.version, standing.arch);
        return told(status, Step::Rest, ReleaseState::Failed, why);
    };
    let digest = binary.digest.to_string();
    if running.is_some_and(|release| release.digest == digest) {
        return told(status, Step::Rest, ReleaseState::Ready, String::new());
    }
    let attempt = desired.attempt();
    if let Some(last) = state.last.as_ref().filter(|last| last.id == attempt) {
        match &last.verdict {
            Verdict::Refused { why } => return told(status, Step::Rest, ReleaseState::Failed, why.clone()),
            Verdict::Failed { why } => return told(status, Step::Rest, ReleaseState::RolledBack, why.clone()),
            // It was good and something else runs now: the binary was lost. It may be brought again.
            Verdict::Good => {}
        }
    }
    if let Err(error) = desired.check() {
        return told(status, Step::Rest, ReleaseState::Failed, error.to_string());
    }
    if desired.counter < state.floor {
        let why = format!("its counter {} is below this device's security floor {}", desired.counter, state.floor);
        return told(status, Step::Rest, ReleaseState::Failed, why);
    }
    // Handing over ends what runs: what a model waits for before it begins and before it takes over, this waits for at once.
    for window in [false, true] {
        match judge(&desired.update, standing.now, &standing.conditions, window) {
            Admission::Go => {}
            Admission::Wait(why) => return told(status, Step::Wait, ReleaseState::Waiting, why),
            Admission::TooLate => {
                let why = "it came after its time; deploy it again".to_owned();
                return told(status, Step::Rest, ReleaseState::Waiting, why);
            }
        }
    }
    told(status, Step::Update(binary.clone()), ReleaseState::Downloading, String::new())
}
