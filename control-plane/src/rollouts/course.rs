//! The course of one rollout: which wave is open, what it is doing, and when it goes on, waits or ends. Pure: what was seen,
//! the time and people's commands come in, the next course and what is to be done come out. It must never know a device:
//! which ones are admitted is the driver's choice among those of the wave.
//!
//! ```text
//!            ┌──────────── next wave (or approval) ────────────┐
//! Running: [Trial: experiment beside the old] → Change → Soak ─┴→ Finished
//!    │ ▲                      failures, a gate → Paused | Aborted
//!    ▼ │ resume, promote
//!  Paused ── abort ──▶ Aborted (with or without bringing the devices back)
//! ```

use aidos_protocol::api::rollouts::{Outcome, RolloutPhase as Phase, RolloutStage as Stage};
use aidos_protocol::rollout::{Breach, Gate, Metric, Plan, Threshold, Verdict};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::HealthReport;
use serde::{Deserialize, Serialize};

/// Where a rollout stands; written down before anything follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Course {
    pub(super) phase: Phase,
    /// Why it is paused or was aborted.
    pub(super) reason: String,
    /// The open wave, from 0.
    pub(super) wave: usize,
    pub(super) stage: Stage,
    /// Since when the open wave's experiment or soak counts.
    pub(super) since: Option<Micros>,
    /// It waits for a person's word on the open wave, nothing is wrong.
    pub(super) approval: bool,
    /// A person said to go on with the open wave in spite of failures and gates.
    pub(super) waived: bool,
    /// Everyone at once: no soak, no gates.
    pub(super) hurried: bool,
    /// Its devices go back.
    pub(super) reverted: bool,
}

/// How far the devices of one wave are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) waiting: u64,
    /// Told to take part in the experiment, and not in it yet.
    pub(super) entering: u64,
    /// In the experiment.
    pub(super) trying: u64,
    /// Told to run it, and not running it yet.
    pub(super) changing: u64,
    pub(super) running: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) silent: u64,
}

impl Tally {
    /// Where devices of an outcome are counted. `trial`: told to take part in the experiment only.
    pub(super) fn of(&mut self, outcome: Outcome, trial: bool) -> &mut u64 {
        match outcome {
            Outcome::Waiting => &mut self.waiting,
            Outcome::Changing if trial => &mut self.entering,
            Outcome::Changing => &mut self.changing,
            Outcome::Trying => &mut self.trying,
            Outcome::Running => &mut self.running,
            Outcome::Succeeded => &mut self.succeeded,
            Outcome::Failed => &mut self.failed,
            Outcome::Silent => &mut self.silent,
        }
    }

    pub(super) fn total(&self) -> u64 {
        let told = self.entering + self.trying + self.changing + self.running;
        self.waiting + told + self.succeeded + self.failed + self.silent
    }
}

/// What a look at the rollout's devices found.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// One for each wave.
    pub(super) waves: Vec<Tally>,
    /// Devices on their way that are connected: those that cannot be reached take up no place among the unavailable.
    pub(super) unavailable: u64,
    /// The plan's gates over the open wave.
    pub(super) gates: Vec<Reading>,
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Reading {
    pub(super) gate: Gate,
    pub(super) candidate: Option<f64>,
    pub(super) baseline: Option<f64>,
    pub(super) devices: u64,
    pub(super) verdict: Verdict,
}

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Pause {
        reason: String,
    },
    Resume,
    Promote {
        all: bool,
    },
    Abort {
        revert: Option<bool>,
        reason: String,
    },
    /// A newer rollout of the same model on the same selector takes its place.
    Supersede,
}

/// What the driver does, once the course is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Tells at most so many of a wave's waiting devices to take part in the experiment.
    Try { wave: usize, most: u64 },
    /// Tells at most so many of a wave's devices to run it: waiting ones, and those that the experiment is over for.
    Change { wave: usize, most: u64 },
}

impl Course {
    /// Before the first look.
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            phase: Phase::Running,
            reason: String::new(),
            wave: 0,
            stage: first_stage(plan),
            since: None,
            approval: false,
            waived: false,
            hurried: false,
            reverted: false,
        }
    }

    /// Follows a person's command; an error says why it cannot be followed.
    pub(super) fn command(mut self, plan: &Plan, command: &Command) -> Result<Self, String> {
        let over = |course: &Self| match course.phase {
            Phase::Finished => Some("it is finished: `undo` brings back the version before"),
            Phase::Aborted => Some("it was aborted: make a new rollout"),
            Phase::Superseded => Some("a newer rollout took its place: look at that one"),
            Phase::Running | Phase::Paused => None,
        };
        if let Some(why) = over(&self) {
            return Err(why.into());
        }
        match command {
            Command::Pause { reason } => {
                if self.phase == Phase::Paused {
                    return Err("it is paused already".into());
                }
                let reason = if reason.is_empty() { "a person paused it" } else { reason };
                (self.phase, self.reason) = (Phase::Paused, reason.into());
            }
            Command::Resume => {
                if self.phase == Phase::Running {
                    return Err("it is running".into());
                }
                if self.approval {
                    return Err("it waits for approval of its next wave: `promote` approves it".into());
                }
                (self.phase, self.reason) = (Phase::Running, String::new());
                // What was seen before the pause is not what is seen now.
                self.since = None;
            }
            Command::Promote { all } => {
                if !self.approval {
                    self.waived = true;
                }
                (self.phase, self.approval) = (Phase::Running, false);
                self.reason.clear();
                if *all {
                    (self.hurried, self.waived) = (true, true);
                    self.wave = plan.waves.shares().len() - 1;
                    (self.stage, self.since) = (Stage::Change, None);
                }
            }
            Command::Abort { revert, reason } => {
                let reason = if reason.is_empty() { "a person aborted it" } else { reason };
                self.abort(reason.into(), revert.unwrap_or(plan.auto_revert));
            }
            Command::Supersede => (self.phase, self.approval) = (Phase::Superseded, false),
        }
        Ok(self)
    }

    /// Goes on as far as what was seen allows.
    pub(super) fn look(mut self, plan: &Plan, seen: &Seen, now: Micros) -> (Self, Vec<Act>) {
        let mut acts = Vec::new();
        let total: u64 = seen.waves.iter().map(Tally::total).sum();
        let most = plan.max_unavailable.map_or(u64::MAX, |limit| limit.of(total).max(1));
        let mut places = most.saturating_sub(seen.unavailable);
        // Each turn opens a wave or ends the loop.
        while self.phase == Phase::Running {
            let wave = seen.waves.get(self.wave).copied().unwrap_or_default();
            if self.breached(plan, wave, &seen.gates) {
                break;
            }
            // Those that came late to a wave that is over, or that haste passed by.
            for late in 0..self.wave {
                let behind = seen.waves.get(late).map_or(0, |tally| tally.waiting + tally.trying);
                take(&mut acts, &mut places, late, behind);
            }
            let acted = acts.len();
            match self.stage {
                Stage::Trial => {
                    if wave.waiting > 0 {
                        acts.push(Act::Try { wave: self.wave, most: wave.waiting });
                    } else if wave.entering == 0 && self.soaked(plan, i64::from(plan.experiment_s), &seen.gates, now) {
                        (self.stage, self.since) = (Stage::Change, None);
                        continue;
                    }
                }
                Stage::Change => {
                    take(&mut acts, &mut places, self.wave, wave.waiting + wave.entering + wave.trying);
                    if acts.len() == acted && wave.waiting + wave.entering + wave.trying + wave.changing == 0 {
                        (self.stage, self.since) = (Stage::Soak, None);
                        continue;
                    }
                }
                Stage::Soak => {
                    let soak = if self.hurried { 0 } else { i64::from(plan.soak_s) };
                    if self.soaked(plan, soak, &seen.gates, now) && wave.changing + wave.running == 0 {
                        if wave.succeeded == 0 && wave.total() > 0 && !self.waived {
                            self.pause(format!("no device of wave {} runs it", self.wave + 1));
                        } else {
                            self.finish_wave(plan);
                            continue;
                        }
                    }
                }
            }
            break;
        }
        if self.phase != Phase::Running {
            acts.clear();
        }
        (self, acts)
    }

    /// When after `now` a look may lead on although no device says anything.
    pub(super) fn due(&self, plan: &Plan, now: Micros) -> Option<Micros> {
        let since = self.since.filter(|_| self.phase == Phase::Running)?;
        let seconds = match self.stage {
            Stage::Change => return None,
            Stage::Trial => plan.experiment_s,
            Stage::Soak => plan.soak_s,
        };
        let end = since.0.saturating_add(i64::from(seconds) * 1_000_000);
        [end, end.saturating_add(plan.deadline_us())].map(Micros).into_iter().find(|at| *at > now)
    }

    /// Judges failures and gates; what is breached pauses or aborts.
    fn breached(&mut self, plan: &Plan, wave: Tally, gates: &[Reading]) -> bool {
        if self.waived {
            return false;
        }
        let allowed = plan.max_failed.of(wave.total());
        let mut breach = None;
        if wave.failed > allowed {
            let of = wave.total();
            let text = format!("{} of {of} devices of wave {} failed, {allowed} may", wave.failed, self.wave + 1);
            breach = Some((plan.on_failure, text));
        }
        // The worse of two breaches counts.
        for reading in gates.iter().filter(|reading| reading.verdict == Verdict::Fails) {
            if breach.as_ref().is_none_or(|(what, _)| *what == Breach::Pause && reading.gate.breach == Breach::Abort) {
                breach = Some((reading.gate.breach, reading.to_string()));
            }
        }
        match breach {
            None => false,
            Some((Breach::Pause, text)) => {
                self.pause(text);
                true
            }
            Some((Breach::Abort, text)) => {
                self.abort(text, plan.auto_revert);
                true
            }
        }
    }

    /// Whether the wave was looked at for `seconds` and every gate has something to judge. Where one still has nothing after the
    /// deadline, a person is asked.
    fn soaked(&mut self, plan: &Plan, seconds: i64, gates: &[Reading], now: Micros) -> bool {
        let since = self.since.get_or_insert(now).0;
        if self.hurried {
            return true;
        }
        let end = since.saturating_add(seconds * 1_000_000);
        if now.0 < end {
            return false;
        }
        let unknown = gates.iter().find(|reading| reading.verdict == Verdict::Unknown);
        match unknown.filter(|_| !self.waived) {
            None => true,
            Some(reading) if now.0 >= end.saturating_add(plan.deadline_us()) => {
                self.pause(format!("{} has nothing to judge in wave {}: no device measured enough", reading.gate, self.wave + 1));
                false
            }
            Some(_) => false,
        }
    }

    fn finish_wave(&mut self, plan: &Plan) {
        if self.wave + 1 == plan.waves.shares().len() {
            self.phase = Phase::Finished;
            return;
        }
        self.wave += 1;
        (self.since, self.waived, self.stage) = (None, false, first_stage(plan));
        if plan.approve {
            self.pause(format!("wave {} is done; wave {} waits for approval", self.wave, self.wave + 1));
            self.approval = true;
        }
    }

    fn pause(&mut self, reason: String) {
        (self.phase, self.reason) = (Phase::Paused, reason);
    }

    fn abort(&mut self, reason: String, revert: bool) {
        (self.phase, self.reason, self.reverted, self.approval) = (Phase::Aborted, reason, revert, false);
    }
}

fn first_stage(plan: &Plan) -> Stage {
    if plan.experiment.is_some() { Stage::Trial } else { Stage::Change }
}

fn take(acts: &mut Vec<Act>, places: &mut u64, wave: usize, wanted: u64) {
    let most = wanted.min(*places);
    let known = acts.iter().any(|act| matches!(act, Act::Change { wave: taken, .. } if *taken == wave));
    if most > 0 && !known {
        *places -= most;
        acts.push(Act::Change { wave, most });
    }
}

impl std::fmt::Display for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the gate {} fails", self.gate)?;
        match (self.candidate, self.baseline, &self.gate.metric) {
            (_, _, Metric::SelfTest) => write!(f, " on a device of {}", self.devices),
            (Some(is), Some(was), _) => write!(f, ": {is:.4}, and {was:.4} before, over {} devices", self.devices),
            (Some(is), None, _) => write!(f, ": {is:.4} over {} devices", self.devices),
            (None, ..) => Ok(()),
        }
    }
}

/// Reads the gates over what a wave's devices report. Errors are counted together; of a latency or another measurement it is the
/// median device that counts, candidate and baseline on the same devices; a self-test must pass everywhere. `requests` is
/// how many there must have been before errors and latencies say anything.
pub(super) fn read(gates: &[Gate], reports: &[HealthReport], requests: u64) -> Vec<Reading> {
    gates.iter().map(|gate| reading(gate, reports, requests)).collect()
}

fn reading(gate: &Gate, reports: &[HealthReport], requests: u64) -> Reading {
    let relative = matches!(gate.threshold, Threshold::Ratio(_));
    let traffic = matches!(gate.metric, Metric::ErrorRate | Metric::P50 | Metric::P95 | Metric::P99);
    // A device without a version before has nothing that a relative gate could compare with.
    let fit = || reports.iter().filter(|report| !relative || report.baseline.is_some());
    let nothing = Reading { gate: gate.clone(), candidate: None, baseline: None, devices: 0, verdict: Verdict::Unknown };
    if relative && !reports.is_empty() && fit().next().is_none() {
        return Reading { verdict: Verdict::Holds, ..nothing };
    }
    if traffic && fit().map(|report| report.candidate.requests).sum::<u64>() < requests {
        return nothing;
    }
    let measured = fit().filter_map(|report| {
        let (candidate, baseline) = report.measurement(&gate.metric);
        Some((candidate?, baseline, report)).filter(|(_, baseline, _)| !relative || baseline.is_some())
    });
    let measured: Vec<_> = measured.collect();
    if measured.is_empty() {
        return nothing;
    }
    let (candidate, baseline) = match gate.metric {
        Metric::ErrorRate => {
            let share = |counted: Vec<(u64, u64)>| {
                let (errors, requests) = counted.iter().fold((0, 0), |(e, r), (errors, of)| (e + errors, r + of));
                (requests > 0).then(|| errors as f64 / requests as f64)
            };
            let of = |report: &HealthReport| report.baseline.as_ref().map(|before| (before.errors, before.requests));
            (
                share(measured.iter().map(|(_, _, report)| (report.candidate.errors, report.candidate.requests)).collect()),
                share(measured.iter().filter_map(|(_, _, report)| of(report)).collect()),
            )
        }
        Metric::SelfTest => (measured.iter().map(|(passed, ..)| *passed).reduce(f64::min), None),
        _ => (
            median(measured.iter().map(|(candidate, ..)| *candidate).collect()),
            median(measured.iter().filter_map(|(_, baseline, _)| *baseline).collect()),
        ),
    };
    let verdict = gate.judge(candidate, baseline);
    Reading { gate: gate.clone(), candidate, baseline, devices: measured.len() as u64, verdict }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
#[path = "course_tests.rs"]
mod tests;
