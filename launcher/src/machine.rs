//! Which version runs, as a pure machine: no process, no file, no clock.
//!
//! The driver writes the state down before it does what the machine says, so a start is counted before it happens. Whatever
//! the launcher is killed in the midst of, the next one begins with [`Event::Begin`] from what was written.
//!
//! ```text
//! Idle ──Begin──▶ Running ──Exited──▶ Paused ──Tick──▶ Running …         Stop ──▶ Over
//!                    │ silence, memory, deadline: ended by the launcher, then as Exited
//! ```

use crate::EXIT_SWITCH;
use crate::state::{Held, Outcome, Request, Slot, State, Trial, Verdict};
use std::time::Duration;

/// What a version is held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Starts of a version on trial: one may fall into a power cut, and a second into the next.
    pub starts: u32,
    /// The longest that the agent may be silent.
    pub silence: Duration,
    /// By when a version on trial must have said that it is healthy, from each of its starts.
    pub deadline: Duration,
    /// How long an agent that is asked to end may take to.
    pub stop: Duration,
    /// The pause before a version that ended is started again; it doubles each time.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// A run of this length ends the row of failures.
    pub sound: Duration,
    /// Bytes that no version may exceed.
    pub memory: Option<u64>,
    /// Bytes that a version on trial may take beyond twice what the one before took.
    pub growth: u64,
}

impl Default for Limits {
    /// Heartbeats come every 20 s; a slow flash may hold one up. Half an hour outlasts the five minutes of health that are asked
    /// for and a link that roams. Model runtimes allocate in steps of tens of MiB.
    fn default() -> Self {
        Self {
            starts: 3,
            silence: Duration::from_secs(60),
            deadline: Duration::from_secs(30 * 60),
            stop: Duration::from_secs(30),
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            sound: Duration::from_secs(300),
            memory: None,
            growth: 128 << 20,
        }
    }
}

/// The machine: what is written down, and what goes on now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// What is written down.
    pub state: State,
    /// What goes on; begins idle after each start of the launcher.
    pub run: Run,
    /// Times in a row that the good version ended early.
    pub failures: u32,
}

/// What goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// Nothing yet.
    Idle,
    /// Waiting to start.
    Paused {
        /// Until then.
        until: Duration,
    },
    /// A version runs.
    Running {
        /// In which slot.
        slot: Slot,
        /// Since when.
        since: Duration,
        /// When it was last heard of.
        heard: Duration,
        /// The most bytes it was seen to take.
        memory: u64,
        /// It is being ended.
        ending: Option<Ending>,
    },
    /// The launcher ends.
    Over,
}

/// A version that is being ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What for; `None`: the launcher was asked to stop.
    pub fault: Option<Fault>,
    /// When it is killed.
    pub kill_at: Duration,
}

/// What is wrong with a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For people.
    pub why: String,
    /// Whether another start could end differently.
    pub again: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The launcher starts.
    Begin,
    /// The agent is alive.
    Beat,
    /// The agent says that the trial of this id is healthy.
    Healthy(String),
    /// Bytes that the agent takes.
    Memory(u64),
    /// The agent asked for a version, before it ended; `Err`: what is wrong with what it staged.
    Request(Request, Result<(), String>),
    /// The agent has ended with this status, in words.
    Exited(Option<i32>, String),
    /// The agent could not be started.
    NotStarted(String),
    /// The state could not be written, so the step that it came from did not happen.
    NotKept,
    /// The launcher is asked to stop.
    Stop,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start what lies in the slot; with a trial's id, after its staged binary was moved there.
    Start {
        /// Which slot.
        slot: Slot,
        /// The trial's id.
        trial: Option<String>,
    },
    /// Ask the agent to end.
    Terminate,
    /// End it.
    Kill,
    /// The launcher ends.
    Quit,
}

/// One step. The caller writes the state down, if it changed, before it does what is returned.
pub fn next(mut machine: Machine, event: Event, limits: &Limits, now: Duration) -> (Machine, Option<Action>) {
    let action = machine.step(event, limits, now);
    (machine, action)
}

impl Machine {
    /// A launcher that has just started.
    pub fn new(state: State) -> Self {
        Self { state, run: Run::Idle, failures: 0 }
    }

    fn step(&mut self, event: Event, limits: &Limits, now: Duration) -> Option<Action> {
        match (event, &mut self.run) {
            (Event::Begin, Run::Idle) => self.start(limits, now),
            (Event::Request(request, fit), _) => {
                self.request(request, fit);
                None
            }
            (Event::Beat, Run::Running { heard, .. }) => {
                *heard = now;
                None
            }
            (Event::Healthy(id), Run::Running { slot, heard, .. }) => {
                *heard = now;
                let slot = *slot;
                self.healthy(slot, &id);
                None
            }
            (Event::Memory(bytes), Run::Running { slot, memory, ending: None, .. }) => {
                *memory = bytes.max(*memory);
                let slot = *slot;
                let fault = self.too_much(slot, bytes, limits)?;
                self.end(Some(fault), limits, now)
            }
            (Event::Tick, Run::Paused { until }) if now >= *until => self.start(limits, now),
            (Event::Tick, Run::Running { ending: Some(ending), .. }) if now >= ending.kill_at => {
                // Again if it is still there by then.
                ending.kill_at = now + limits.stop;
                Some(Action::Kill)
            }
            (Event::Tick, Run::Running { slot, since, heard, ending: ending @ None, .. }) => {
                if now.saturating_sub(*heard) > limits.silence {
                    let why = format!("it hung: no heartbeat for {} s", limits.silence.as_secs());
                    // It would not hear that it should end.
                    *ending = Some(Ending { fault: Some(Fault { why, again: true }), kill_at: now + limits.stop });
                    return Some(Action::Kill);
                }
                let (slot, since) = (*slot, *since);
                if self.on_trial(slot) && now.saturating_sub(since) > limits.deadline {
                    let why = format!(
                        "it was not healthy within {} s: no lasting session with the control plane",
                        limits.deadline.as_secs()
                    );
                    return self.end(Some(Fault { why, again: false }), limits, now);
                }
                None
            }
            (Event::Exited(code, words), Run::Running { .. }) => self.ended(code, words, limits, now),
            (Event::NotStarted(why), Run::Running { slot, .. }) => {
                let slot = *slot;
                self.not_started(slot, why, limits, now)
            }
            (Event::NotKept, _) => self.not_kept(limits, now),
            (Event::Stop, Run::Running { ending, .. }) => {
                let already = ending.is_some();
                *ending = Some(Ending { fault: None, kill_at: now + limits.stop });
                (!already).then_some(Action::Terminate)
            }
            (Event::Stop, Run::Idle | Run::Paused { .. }) => {
                self.run = Run::Over;
                Some(Action::Quit)
            }
            _ => None,
        }
    }

    fn on_trial(&self, slot: Slot) -> bool {
        self.state.trial.is_some() && slot == self.state.good.other()
    }

    fn start(&mut self, limits: &Limits, now: Duration) -> Option<Action> {
        let beside = self.state.good.other();
        let counter = self.state.held(beside).map_or(0, |held| held.release.counter);
        if let Some(trial) = &mut self.state.trial {
            if trial.starts >= limits.starts {
                let fault = if trial.last_fault.is_empty() { "it was cut off each time" } else { &trial.last_fault };
                let why = format!("{} starts, the last one: {fault}", trial.starts);
                self.give_up(why);
            } else if counter < self.state.floor {
                self.give_up(format!("its counter {counter} is below the floor {}", self.state.floor));
            } else {
                trial.starts += 1;
                let trial = Some(trial.id.clone());
                return Some(self.running(beside, trial, now));
            }
        }
        Some(self.running(self.state.good, None, now))
    }

    fn running(&mut self, slot: Slot, trial: Option<String>, now: Duration) -> Action {
        self.run = Run::Running { slot, since: now, heard: now, memory: 0, ending: None };
        Action::Start { slot, trial }
    }

    fn give_up(&mut self, why: String) {
        let Some(trial) = self.state.trial.take() else { return };
        let release = self.state.held(self.state.good.other()).map(|held| held.release.clone()).unwrap_or_default();
        self.state.last = Some(Outcome { id: trial.id, release, verdict: Verdict::Failed { why } });
    }

    fn healthy(&mut self, slot: Slot, id: &str) {
        if !self.on_trial(slot) || self.state.trial.as_ref().is_none_or(|trial| trial.id != id) {
            return;
        }
        let Some(held) = self.state.held_mut(slot) else { return };
        held.proven = true;
        let release = held.release.clone();
        self.state.trial = None;
        self.state.good = slot;
        // A release cannot lift the floor above itself: the device would have nothing left to start.
        self.state.floor = self.state.floor.max(release.floor.min(release.counter));
        self.state.last = Some(Outcome { id: id.to_owned(), release, verdict: Verdict::Good });
        self.failures = 0;
    }

    fn request(&mut self, request: Request, fit: Result<(), String>) {
        let state = &mut self.state;
        let handled = state.last.as_ref().is_some_and(|last| last.id == request.id);
        let slot_in_use = match &self.run {
            Run::Running { slot, .. } => *slot == state.good.other(),
            _ => false,
        };
        if handled || state.trial.is_some() || slot_in_use {
            return;
        }
        let counter = request.release.counter;
        let refusal = match fit {
            Err(why) => Some(why),
            Ok(()) if counter < state.floor => {
                Some(format!("its counter {counter} is below this device's security floor {}", state.floor))
            }
            Ok(()) => None,
        };
        if let Some(why) = refusal {
            state.last = Some(Outcome { id: request.id, release: request.release, verdict: Verdict::Refused { why } });
            return;
        }
        let memory_before = match &self.run {
            Run::Running { memory, .. } => *memory,
            _ => 0,
        };
        *state.held_mut(state.good.other()) = Some(Held { release: request.release, proven: false });
        state.trial = Some(Trial { id: request.id, starts: 0, memory_before, last_fault: String::new() });
    }

    fn too_much(&self, slot: Slot, bytes: u64, limits: &Limits) -> Option<Fault> {
        let mib = |bytes: u64| bytes >> 20;
        if let Some(limit) = limits.memory.filter(|limit| bytes > *limit) {
            let why = format!("it takes {} MiB of memory, the limit is {} MiB", mib(bytes), mib(limit));
            return Some(Fault { why, again: true });
        }
        let before = self.state.trial.as_ref().filter(|_| self.on_trial(slot)).map_or(0, |trial| trial.memory_before);
        let limit = before.saturating_mul(2).saturating_add(limits.growth);
        (before > 0 && bytes > limit).then(|| {
            let why = format!("its memory grew to {} MiB, where the version before took {} MiB", mib(bytes), mib(before));
            Fault { why, again: false }
        })
    }

    fn end(&mut self, fault: Option<Fault>, limits: &Limits, now: Duration) -> Option<Action> {
        let Run::Running { ending, .. } = &mut self.run else { return None };
        *ending = Some(Ending { fault, kill_at: now + limits.stop });
        Some(Action::Terminate)
    }

    fn ended(&mut self, code: Option<i32>, words: String, limits: &Limits, now: Duration) -> Option<Action> {
        let Run::Running { slot, since, ending, .. } = std::mem::replace(&mut self.run, Run::Idle) else { return None };
        let fault = match ending {
            Some(Ending { fault: None, .. }) => {
                self.run = Run::Over;
                return Some(Action::Quit);
            }
            Some(Ending { fault: Some(fault), .. }) => fault,
            None => Fault { why: format!("it ended by itself ({words})"), again: true },
        };
        if self.on_trial(slot) {
            return self.trial_ended(fault, limits, now);
        }
        if code == Some(i32::from(EXIT_SWITCH)) && self.state.trial.is_some() {
            return self.start(limits, now);
        }
        self.failures = if now.saturating_sub(since) > limits.sound { 0 } else { self.failures.saturating_add(1) };
        self.pause(self.failures.saturating_sub(1), limits, now)
    }

    fn trial_ended(&mut self, fault: Fault, limits: &Limits, now: Duration) -> Option<Action> {
        let starts = self.state.trial.as_ref().map_or(0, |trial| trial.starts);
        if !fault.again || starts >= limits.starts {
            let times = if starts > 1 { format!("{starts} starts, the last one: ") } else { String::new() };
            self.give_up(format!("{times}{}", fault.why));
            return self.start(limits, now);
        }
        if let Some(trial) = &mut self.state.trial {
            trial.last_fault = fault.why;
        }
        self.pause(starts.saturating_sub(1), limits, now)
    }

    fn pause(&mut self, doublings: u32, limits: &Limits, now: Duration) -> Option<Action> {
        let pause = limits.pause.saturating_mul(1 << doublings.min(16)).min(limits.longest_pause);
        self.run = Run::Paused { until: now + pause };
        None
    }

    fn not_started(&mut self, slot: Slot, why: String, limits: &Limits, now: Duration) -> Option<Action> {
        let fault = Fault { why: format!("it could not be started: {why}"), again: false };
        if self.on_trial(slot) {
            return self.trial_ended(fault, limits, now);
        }
        // The good binary is gone or damaged. The one before it has worked, too.
        let beside = self.state.good.other();
        let usable = |held: &Held| held.proven && held.release.counter >= self.state.floor;
        if self.state.trial.is_none() && self.state.held(beside).is_some_and(usable) {
            let lost = self.state.held_mut(self.state.good).take();
            self.state.good = beside;
            let release = lost.map(|held| held.release).unwrap_or_default();
            self.state.last = Some(Outcome { id: String::new(), release, verdict: Verdict::Failed { why: fault.why } });
            return self.start(limits, now);
        }
        self.failures = self.failures.saturating_add(1);
        self.pause(self.failures.saturating_sub(1), limits, now)
    }

    /// A trial whose starts cannot be counted is not started; the good version needs no counting.
    fn not_kept(&mut self, limits: &Limits, now: Duration) -> Option<Action> {
        match &self.run {
            Run::Running { .. } => None,
            Run::Over => None,
            _ if self.failures == 0 || self.state.trial.is_some() => Some(self.running(self.state.good, None, now)),
            _ => self.pause(self.failures, limits, now),
        }
    }
}
