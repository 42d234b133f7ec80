//! What to do about one model, as a pure machine: what is known and what happened go in, what is known now and the one thing
//! to do next come out. It never acts, never waits and never asks a clock.
//!
//! ```text
//! Admit → Download → Verify → Hold → Load → Test → [Trial] → Await → Activate → Watch → Committed
//!    └──────────┴────────┴───────┴──────┴──────┴───────┴────────┘                │
//!                    Failed (never answered)                        RolledBack (answered)
//! ```
//! Invariants, which the tests below hold against every order of events and restarts:
//! - At most two versions are in memory. The one that answers leaves only when another answers, when it was given up with
//!   nothing before it, or when intent asks for none.
//! - What answers was committed, or has passed its self-test.
//! - What was given up is not tried again for the same wish; a load that ends the process is counted before it begins, and a
//!   version is loaded [`MAX_STARTS`] times at most before it is given up.
//!
//! The driver writes the new state down before it does what comes with it.

use super::conditions::{Admission, Conditions, judge};
use super::record::{Kept, Life, Memory, Refused, Slot, Stage, Starts, State, Update, Wait, WaitKind};
use aidos_protocol::manifest::Manifest;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{DesiredModel, Measures, SelfTestReport};

/// Loads of one version after which a process that keeps ending is blamed on it. Two may be a power cut and bad luck.
pub const MAX_STARTS: u32 = 3;
/// Failures of one update that will most likely come again (a file that does not load): more would only wear the device.
pub const MAX_FAILURES: u32 = 3;
/// Wishes that are remembered as given up: rollouts overlap a few at a time.
const MAX_REFUSED: usize = 8;
/// Bytes of a reason: it travels in the device's status.
const MAX_REASON: usize = 1_024;
/// How the reason of a version begins that kept ending the process.
const ENDED: &str = "the agent ended";
/// Seconds of a watch that a restart may cost: each step is a write.
const WRITE_WATCH_S: u32 = 60;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Intent asks for this; also told first after a restart.
    Desire(Option<Box<DesiredModel>>),
    /// The process has begun: nothing is in memory.
    Restarted {
        /// What is suspected to have ended the process before: of all versions of all models one.
        charged: Option<Slot>,
    },
    /// A person asks to try again what was given up.
    Retry,
    /// A pause is over.
    Tick,
    /// The conditions, as they are now.
    Looked(Conditions),
    /// All artifacts of the update are here.
    Fetched,
    /// The file is whole, and this is the manifest.
    Verified(Box<Manifest>),
    /// A step of the update failed.
    Failed(Trouble, String),
    /// A version is in memory, run by this engine.
    Loaded(Slot, String),
    /// A version could not be loaded; whether its file is whole.
    LoadFailed(Slot, String, bool),
    /// The golden cases ran, or the model was asked once where it brings none.
    Tested(Result<Option<SelfTestReport>, String>),
    /// A version answers; what the one before it had measured.
    Activated(Slot, Option<Measures>),
    /// A version could not be made to answer.
    ActivateFailed(Slot, String),
    /// A version has left the memory.
    Unloaded(Slot),
    /// What was measured while the new version answered.
    Measured(Box<Measured>),
    /// The process has outlived for long enough what is in memory.
    Settled,
    /// The process ends as it should.
    Stopping,
}

/// A look at the version that is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What it did since it answers.
    pub candidate: Measures,
    /// Seconds since the look before, by a clock that does not jump.
    pub elapsed_s: u32,
}

/// What a failure means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no link.
    Link,
    /// There is no room for the file.
    Room,
    /// It may go better by itself.
    Passing,
    /// It will most likely fail again.
    Final,
    /// The stored file is not what it was: fetch it again.
    Damaged,
    /// Nobody vouches for it yet.
    Unsigned,
    /// Something else was signed under its name: no attempt to come can end better.
    Forged,
}

/// What to do next. Each brings one event.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read the conditions.
    Look,
    /// Wait for a reason of this kind: longer with each try.
    Pause(WaitKind, u32),
    /// Bring the update's artifacts into the store.
    Fetch,
    /// Read the update's file once more, and its manifest.
    Verify,
    /// Build a version beside the one that answers.
    Load(Box<Kept>),
    /// Take a version out of memory.
    Unload(Slot),
    /// Run the update's golden cases.
    Test(Slot),
    /// Let a version answer.
    Activate(Slot),
    /// Look at the version that is watched, after a moment.
    Measure(Slot),
    /// Wait until the process has outlived what is in memory.
    Settle,
}

/// The state after `event`, and what to do next; `None`: nothing until intent changes.
pub fn step(mut state: State, event: Event, now: Micros) -> (State, Option<Effect>) {
    state.take(event, now);
    state.advance(now);
    let effect = state.next();
    if let Some(Effect::Load(kept)) = &effect {
        state.count_start(kept.slot);
    }
    (state, effect)
}

impl State {
    fn take(&mut self, event: Event, now: Micros) {
        match event {
            Event::Desire(None) => *self = Self { memory: std::mem::take(&mut self.memory), ..Self::default() },
            Event::Desire(Some(desired)) => self.desire(*desired),
            Event::Restarted { charged } => self.restarted(charged),
            Event::Retry => self.retry(),
            Event::Stopping => self.stopping(),
            Event::Settled => {
                let loaded = &self.memory.loaded;
                self.starts.retain(|starts| !loaded.contains(&starts.slot));
            }
            Event::Loaded(slot, engine) => {
                self.memory.loaded.insert(slot);
                self.memory.engine = engine;
                for starts in self.starts.iter_mut().filter(|starts| starts.slot == slot) {
                    starts.life = Life::Loaded;
                }
                if self.is_candidate(slot) {
                    self.go(Stage::Load, Stage::Test);
                }
            }
            Event::LoadFailed(slot, reason, whole) => {
                self.forget_starts(slot);
                if self.answers.as_ref().is_some_and(|kept| kept.slot == slot) {
                    self.fall_back(&format!("version {} did not load after the restart: {reason}", slot.version));
                } else if self.is_candidate(slot) {
                    self.trouble(if whole { Trouble::Final } else { Trouble::Damaged }, reason);
                }
            }
            Event::Activated(slot, baseline) => {
                self.memory.active = Some(slot);
                if let Some(update) =
                    self.update.as_mut().filter(|update| update.slot() == slot && update.stage == Stage::Activate)
                {
                    update.activated = true;
                    update.measured = None;
                    update.stage = Stage::Watch;
                    self.compare_with(baseline);
                }
            }
            Event::ActivateFailed(slot, reason) => {
                self.memory.loaded.remove(&slot);
                self.forget_starts(slot);
                if self.answers.as_ref().is_some_and(|kept| kept.slot == slot) {
                    self.fall_back(&format!("version {} cannot answer: {reason}", slot.version));
                } else if self.is_candidate(slot) {
                    self.go(Stage::Activate, Stage::Load);
                    self.trouble(Trouble::Final, reason);
                }
            }
            Event::Unloaded(slot) => {
                self.memory.loaded.remove(&slot);
                self.memory.active.take_if(|active| *active == slot);
                // It left while the process lived.
                self.forget_starts(slot);
            }
            Event::Tick => match self.update.as_mut().map(|update| &mut update.wait) {
                // What is waited for is told until it is there.
                Some(Some(wait)) if matches!(wait.kind, WaitKind::Need | WaitKind::Vouched) => wait.due = true,
                Some(wait) => *wait = None,
                None => {}
            },
            Event::Looked(conditions) => self.looked(&conditions, now),
            Event::Fetched => self.go(Stage::Download, Stage::Verify),
            Event::Verified(manifest) => {
                if let Some(update) = self.update.as_mut().filter(|update| update.stage == Stage::Verify) {
                    update.manifest = Some(*manifest);
                    update.tries = 0;
                    update.stage = Stage::Hold;
                }
            }
            Event::Failed(trouble, reason) => self.trouble(trouble, reason),
            Event::Tested(outcome) => self.tested(outcome),
            Event::Measured(measured) => self.measured(&measured),
        }
    }

    /// Steps that need nothing from outside.
    fn advance(&mut self, now: Micros) {
        let active = self.memory.active;
        let Some(update) = &mut self.update else { return };
        let slot = update.slot();
        if update.stage == Stage::Load && self.memory.loaded.contains(&slot) {
            update.stage = Stage::Test;
        }
        if update.stage == Stage::Trial && (update.desired.update.experiment.is_none() || active.is_none()) {
            update.stage = Stage::Await;
        }
        let watched = update.watched_s.saturating_add(update.unwritten_s);
        if update.stage == Stage::Watch && active == Some(slot) && watched >= update.desired.update.watch_s {
            self.commit(now);
        }
    }

    /// Keeps what the new version is compared with. After a restart the one before has answered little or nothing; what it did
    /// before that is then the better measure.
    fn compare_with(&mut self, measured: Option<Measures>) {
        let Some(update) = &mut self.update else { return };
        let least = u64::from(update.desired.update.requests());
        let kept = self.answers.as_ref().filter(|kept| kept.slot != update.slot()).and_then(|kept| kept.measures.clone());
        let known = [measured, update.baseline.take(), kept];
        let best = known.iter().flatten().find(|measures| measures.requests >= least);
        update.baseline = best.or_else(|| known.iter().flatten().max_by_key(|measures| measures.requests)).cloned();
        if let Some(kept) = self.answers.as_mut().filter(|kept| kept.slot != update.slot()) {
            kept.measures.clone_from(&update.baseline);
        }
    }

    fn commit(&mut self, now: Micros) {
        let Some(update) = &mut self.update else { return };
        update.stage = Stage::Committed;
        (update.watched_s, update.unwritten_s) = (update.watched_s.saturating_add(update.unwritten_s), 0);
        let mut kept = Kept { since: now, ..update.kept() };
        if kept.measures.is_none() {
            // Without a watch of its own it is as it was.
            let known = [&self.answers, &self.before].into_iter().flatten().find(|known| known.slot == kept.slot);
            kept.measures = known.and_then(|known| known.measures.clone());
        }
        match &self.answers {
            Some(answers) if answers.slot == kept.slot => {}
            _ => self.before = self.answers.take(),
        }
        self.answers = Some(kept);
        self.note.clear();
    }

    fn desire(&mut self, desired: DesiredModel) {
        let slot = Slot { version: desired.version, digest: desired.digest };
        if let Some(update) = &mut self.update {
            let same = update.key() == (slot, desired.deployment);
            if same || (update.slot() == slot && !update.is_given_up()) {
                update.desired = desired;
                update.wait = None;
                if !same {
                    update.failures = 0;
                }
                if update.stage == Stage::Committed && update.desired.golden_digest.is_some() && update.self_test.is_none() {
                    update.stage = Stage::Download;
                }
                return;
            }
        }
        let refused = self.refused.iter().find(|refused| (refused.slot, refused.deployment) == (slot, desired.deployment));
        let kept = [&self.answers, &self.before].into_iter().flatten().find(|kept| kept.slot == slot);
        let is_answer = self.answers.as_ref().is_some_and(|kept| kept.slot == slot);
        // What answers already is only to run the golden cases, where it never did.
        let untested = desired.golden_digest.is_some() && kept.is_some_and(|kept| kept.self_test.is_none());
        let stage = match refused {
            _ if is_answer && untested => Stage::Download,
            _ if is_answer => Stage::Committed,
            Some(refused) => refused.end.clone(),
            None => Stage::Admit,
        };
        let mut update = Update::new(desired, stage);
        update.self_test = match refused {
            Some(refused) if !is_answer => refused.self_test.clone(),
            _ => kept.and_then(|kept| kept.self_test.clone()),
        };
        update.manifest = kept.map(|kept| kept.manifest.clone());
        let valid = update.desired.update.check();
        self.update = Some(update);
        if let Err(error) = valid {
            self.give_up(&error.to_string());
        }
    }

    fn restarted(&mut self, charged: Option<Slot>) {
        self.memory = Memory::default();
        self.note.clear();
        if let Some(update) = &mut self.update {
            (update.wait, update.tries, update.unwritten_s, update.measured) = (None, 0, 0, None);
            if matches!(update.stage, Stage::Load | Stage::Test | Stage::Trial | Stage::Await | Stage::Activate | Stage::Watch) {
                update.stage = Stage::Load;
            }
        }
        for starts in &mut self.starts {
            // An end of the process is charged to one version only, or one bad model would cost all of them.
            if starts.life != Life::Past && Some(starts.slot) != charged {
                starts.count = starts.count.saturating_sub(1);
            }
            starts.life = Life::Past;
        }
        self.starts.retain(|starts| starts.count > 0);
        let blamed = self.starts.iter().find(|starts| Some(starts.slot) == charged && starts.count >= MAX_STARTS);
        if let Some(slot) = blamed.map(|starts| starts.slot) {
            let reason = format!("{ENDED} {MAX_STARTS} times while version {} was loaded or had just been", slot.version);
            self.forget_starts(slot);
            if self.answers.as_ref().is_some_and(|kept| kept.slot == slot) {
                self.fall_back(&reason);
                // Also where nothing is left of what asked for it, the same wish must not bring it back.
                if self.update.is_none() {
                    self.refuse(Refused { slot, deployment: None, end: Stage::Failed { reason }, self_test: None });
                }
            } else if self.is_candidate(slot) {
                self.give_up(&reason);
            }
        }
    }

    fn retry(&mut self) {
        let Some(update) = &mut self.update else { return };
        if update.is_given_up() {
            let key = update.key();
            self.refused.retain(|refused| (refused.slot, refused.deployment) != key);
            self.update = Some(Update::new(update.desired.clone(), Stage::Admit));
        } else {
            (update.wait, update.tries) = (None, 0);
        }
    }

    fn stopping(&mut self) {
        let loaded = &self.memory.loaded;
        for starts in self.starts.iter_mut().filter(|starts| loaded.contains(&starts.slot)) {
            starts.count = starts.count.saturating_sub(1);
            starts.life = Life::Past;
        }
        self.starts.retain(|starts| starts.count > 0);
        if let Some(update) = &mut self.update {
            (update.watched_s, update.unwritten_s) = (update.watched_s.saturating_add(update.unwritten_s), 0);
        }
    }

    fn looked(&mut self, conditions: &Conditions, now: Micros) {
        let loaded = |slot| self.memory.loaded.contains(&slot);
        let committed = self.answers.as_ref().map(|kept| kept.slot);
        let Some(update) = &mut self.update else { return };
        let committed = committed == Some(update.slot());
        let policy = &update.desired.update;
        let (window, next) = match update.stage {
            // What was committed before is still here: the way back is one swap.
            Stage::Admit if loaded(update.slot()) && self.before.as_ref().is_some_and(|kept| kept.slot == update.slot()) => {
                (false, Stage::Await)
            }
            Stage::Admit => (false, Stage::Download),
            // An experiment takes nobody's place, and what answers already neither.
            Stage::Hold => (policy.experiment.is_none() && !committed, Stage::Load),
            Stage::Await => (true, Stage::Activate),
            _ => return,
        };
        // It had answered when the process ended: it goes on where it was.
        let admission = if update.activated { Admission::Go } else { judge(policy, now, conditions, window) };
        match admission {
            Admission::Go => {
                (update.wait, update.tries) = (None, 0);
                update.stage = next;
            }
            Admission::Wait(reason) => update.wait = Some(Wait { kind: WaitKind::Need, reason, due: false }),
            Admission::TooLate => self.give_up("it came too late: what asked for it has ended"),
        }
    }

    fn tested(&mut self, outcome: Result<Option<SelfTestReport>, String>) {
        let answered = self.memory.active.is_some();
        let Some(update) = self.update.as_mut().filter(|update| update.stage == Stage::Test) else { return };
        if let Some(kept) = self.answers.as_mut().filter(|kept| kept.slot == update.slot()) {
            // It answers already, whatever comes of it; the report tells.
            let report = outcome.unwrap_or_else(|failure| Some(SelfTestReport { failure, ..SelfTestReport::default() }));
            kept.self_test.clone_from(&report);
            (update.self_test, update.stage) = (report, Stage::Committed);
            return;
        }
        let failure = match outcome {
            Ok(None) => None,
            Ok(Some(report)) => {
                let failure = (!report.passed).then(|| format!("the self-test failed: {}", report.failure));
                update.self_test = Some(report);
                failure
            }
            Err(reason) => Some(reason),
        };
        match failure {
            Some(reason) => self.give_up(&reason),
            None if update.desired.update.experiment.is_some() && !update.activated && answered => update.stage = Stage::Trial,
            None => update.stage = Stage::Await,
        }
    }

    fn measured(&mut self, measured: &Measured) {
        let active = self.memory.active;
        let Some(update) = self.update.as_mut().filter(|update| update.stage == Stage::Watch) else { return };
        if active != Some(update.slot()) {
            return;
        }
        update.unwritten_s = update.unwritten_s.saturating_add(measured.elapsed_s);
        if update.unwritten_s >= WRITE_WATCH_S {
            (update.watched_s, update.unwritten_s) = (update.watched_s.saturating_add(update.unwritten_s), 0);
        }
        update.measured = Some(measured.candidate.clone());
        if let Some(reason) = too_bad(update, &measured.candidate) {
            self.give_up(&reason);
        }
    }

    fn trouble(&mut self, trouble: Trouble, reason: String) {
        let reason = shorten(&reason);
        let Some(update) = &mut self.update else { return };
        if update.is_given_up() || update.stage == Stage::Committed {
            return;
        }
        let kind = match trouble {
            Trouble::Forged => return self.give_up(&reason),
            Trouble::Link => WaitKind::Link,
            Trouble::Unsigned => WaitKind::Vouched,
            Trouble::Room => WaitKind::Need,
            Trouble::Passing => WaitKind::Again,
            Trouble::Final | Trouble::Damaged => {
                update.failures += 1;
                WaitKind::Again
            }
        };
        if update.failures >= MAX_FAILURES {
            return self.give_up(&reason);
        }
        if trouble == Trouble::Damaged {
            update.stage = Stage::Download;
        }
        update.tries = update.tries.saturating_add(1);
        update.wait = Some(Wait { kind, reason, due: false });
    }

    /// Ends the update; what was committed answers, or answers again.
    fn give_up(&mut self, reason: &str) {
        let back = self.answers.as_ref().map(|kept| kept.slot);
        let Some(update) = &mut self.update else { return };
        if update.is_given_up() {
            return;
        }
        if back == Some(update.slot()) {
            // It was committed before: there is nothing to give up.
            (update.stage, update.wait) = (Stage::Committed, None);
            return;
        }
        let mut reason = shorten(reason);
        if update.activated && back.is_none() {
            reason.push_str("; there is no version before it");
        }
        update.stage = if update.activated && back.is_some() { Stage::RolledBack { reason } } else { Stage::Failed { reason } };
        update.wait = None;
        let (slot, deployment) = update.key();
        let refused = Refused { slot, deployment, end: update.stage.clone(), self_test: update.self_test.clone() };
        self.refuse(refused);
    }

    fn refuse(&mut self, refused: Refused) {
        self.refused.retain(|old| (old.slot, old.deployment) != (refused.slot, refused.deployment));
        self.refused.push(refused);
        if self.refused.len() > MAX_REFUSED {
            self.refused.remove(0);
        }
    }

    /// What was committed does not come back: the version before it takes its place.
    fn fall_back(&mut self, reason: &str) {
        let gone = self.answers.take();
        self.answers = self.before.take();
        let ended = |update: &Update| gone.as_ref().is_some_and(|gone| gone.slot == update.slot());
        if let Some(update) = self.update.as_mut().filter(|update| update.stage == Stage::Committed && ended(update)) {
            if reason.starts_with(ENDED) {
                update.activated = true;
                // No longer committed, so that giving it up is a way back.
                update.stage = Stage::Load;
                return self.give_up(reason);
            }
            // A file that is gone is fetched again as soon as intent is told.
            self.update = None;
        }
        self.note = shorten(reason);
    }

    /// What to do next, by what is known alone.
    fn next(&self) -> Option<Effect> {
        let memory = &self.memory;
        let beside = |keep: &[Option<Slot>]| {
            memory.loaded.iter().find(|slot| Some(**slot) != memory.active && !keep.contains(&Some(**slot))).copied()
        };
        if self.is_empty() {
            // The one that answers goes last.
            return beside(&[]).or(memory.active).map(Effect::Unload);
        }
        let candidate = self.update.as_ref().map(Update::slot);
        let watched = self.update.as_ref().filter(|update| update.stage == Stage::Watch).map(Update::slot);
        let answers = self.answers.as_ref().map(|kept| kept.slot);
        if let Some(kept) = &self.answers
            && !memory.active.is_some_and(|active| active == kept.slot || Some(active) == watched)
        {
            return Some(if memory.loaded.contains(&kept.slot) {
                Effect::Activate(kept.slot)
            } else {
                beside(&[answers]).map_or_else(|| Effect::Load(Box::new(kept.clone())), Effect::Unload)
            });
        }
        let Some(update) = &self.update else { return self.settle(beside(&[answers])) };
        let slot = update.slot();
        if let Some(wait) = update.wait.as_ref().filter(|wait| !wait.due) {
            return Some(Effect::Pause(wait.kind, update.tries));
        }
        match update.stage {
            Stage::Admit | Stage::Hold | Stage::Await => Some(Effect::Look),
            Stage::Download => Some(Effect::Fetch),
            Stage::Verify => Some(Effect::Verify),
            // What stands beside goes before the load, not after it, so that a small device never holds three.
            Stage::Load => Some(beside(&[candidate]).map_or_else(|| Effect::Load(Box::new(update.kept())), Effect::Unload)),
            Stage::Test => Some(Effect::Test(slot)),
            Stage::Activate => Some(Effect::Activate(slot)),
            Stage::Watch => Some(Effect::Measure(slot)),
            Stage::Trial => None,
            Stage::Failed { .. } | Stage::RolledBack { .. } if memory.active == Some(slot) => Some(Effect::Unload(slot)),
            Stage::Failed { .. } | Stage::RolledBack { .. } | Stage::Committed => {
                let before = self.before.as_ref().map(|kept| kept.slot);
                self.settle(beside(&[answers, before]))
            }
        }
    }

    fn settle(&self, extra: Option<Slot>) -> Option<Effect> {
        let unsettled = self.starts.iter().any(|starts| self.memory.loaded.contains(&starts.slot));
        extra.map(Effect::Unload).or_else(|| unsettled.then_some(Effect::Settle))
    }

    fn go(&mut self, from: Stage, to: Stage) {
        if let Some(update) = self.update.as_mut().filter(|update| update.stage == from) {
            (update.wait, update.tries) = (None, 0);
            update.stage = to;
        }
    }

    fn is_candidate(&self, slot: Slot) -> bool {
        self.update.as_ref().is_some_and(|update| update.slot() == slot && !update.is_given_up())
    }

    fn count_start(&mut self, slot: Slot) {
        match self.starts.iter_mut().find(|starts| starts.slot == slot) {
            // Said before and not done yet: one start.
            Some(starts) if starts.life == Life::Loading => return,
            Some(starts) => {
                starts.count += 1;
                starts.life = Life::Loading;
            }
            None => self.starts.push(Starts { slot, count: 1, life: Life::Loading }),
        }
        // Only what may be loaded again can be counted again.
        let known = |slot: Slot| {
            let kept = [&self.answers, &self.before].into_iter().flatten().any(|kept| kept.slot == slot);
            kept || self.update.as_ref().is_some_and(|update| update.slot() == slot)
        };
        let stale: Vec<Slot> = self.starts.iter().map(|starts| starts.slot).filter(|slot| !known(*slot)).collect();
        self.starts.retain(|starts| !stale.contains(&starts.slot));
    }

    fn forget_starts(&mut self, slot: Slot) {
        self.starts.retain(|starts| starts.slot != slot);
    }
}

/// Whether the version that is watched is worse than its policy allows.
fn too_bad(update: &Update, candidate: &Measures) -> Option<String> {
    let policy = &update.desired.update;
    let enough = |measures: &Measures| measures.requests >= u64::from(policy.requests());
    if !enough(candidate) {
        return None;
    }
    let rate = candidate.errors as f64 / candidate.requests.max(1) as f64;
    if let Some(most) = policy.max_error_rate.filter(|most| rate > *most) {
        return Some(format!(
            "{} of {} requests failed ({:.1} %), {:.1} % are allowed",
            candidate.errors,
            candidate.requests,
            rate * 100.0,
            most * 100.0
        ));
    }
    let baseline = update.baseline.as_ref().filter(|baseline| enough(baseline))?;
    let (is, was) = (candidate.p95_us?, baseline.p95_us?);
    let most = policy.max_p95_ratio.filter(|most| is as f64 > *most * was as f64)?;
    Some(format!("its 95th percentile is {is} µs, that of the version before {was} µs; {most} times as much is allowed"))
}

fn shorten(reason: &str) -> String {
    reason[..reason.floor_char_boundary(MAX_REASON)].to_owned()
}

#[cfg(test)]
#[path = "machine/tests.rs"]
mod tests;
