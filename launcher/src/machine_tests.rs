//! The machine under everything that can happen to it, in any order.

use crate::machine::{Action, Event, Limits, Machine, Run, next};
use crate::state::{Release, Request, Slot, State, Verdict};
use proptest::prelude::*;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits { memory: Some(1 << 30), ..Limits::default() }
}

fn request(id: &str, counter: u64, floor: u64) -> Request {
    let release = Release { version: id.into(), counter, floor, digest: String::new() };
    Request { id: id.into(), release }
}

/// A machine with the time, as a driver has it.
struct Rig {
    machine: Machine,
    now: Duration,
}

impl Rig {
    fn new() -> Self {
        let mut rig = Self { machine: Machine::new(State::installed(Release::default())), now: Duration::ZERO };
        assert_eq!(rig.happen(Event::Begin), Some(Action::Start { slot: Slot::A, trial: None }));
        rig
    }

    fn happen(&mut self, event: Event) -> Option<Action> {
        let (machine, action) = next(self.machine.clone(), event, &limits(), self.now);
        self.machine = machine;
        action
    }

    fn after(&mut self, pause: Duration, event: Event) -> Option<Action> {
        self.now += pause;
        self.happen(event)
    }

    /// The agent asks for a version and ends.
    fn switch(&mut self, request: Request) -> Option<Action> {
        self.happen(Event::Request(request, Ok(())));
        self.happen(Event::Exited(Some(85), "exit status 85".into()))
    }

    fn why(&self) -> String {
        match &self.machine.state.last.as_ref().unwrap().verdict {
            Verdict::Good => String::new(),
            Verdict::Refused { why } | Verdict::Failed { why } => why.clone(),
        }
    }
}

fn crash() -> Event {
    Event::Exited(None, "signal 11".into())
}

fn trial(id: &str) -> Option<Action> {
    Some(Action::Start { slot: Slot::B, trial: Some(id.into()) })
}

fn good() -> Option<Action> {
    Some(Action::Start { slot: Slot::A, trial: None })
}

#[test]
fn a_healthy_version_becomes_the_good_one_and_its_floor_holds() {
    let mut rig = Rig::new();
    assert_eq!(rig.switch(request("x", 5, 4)), trial("x"));
    rig.happen(Event::Healthy("another".into()));
    assert_eq!(rig.machine.state.good, Slot::A, "the mark of another trial is no mark");
    rig.happen(Event::Healthy("x".into()));
    let state = &rig.machine.state;
    assert_eq!((state.good, state.floor, &state.trial), (Slot::B, 4, &None));
    assert_eq!(state.previous().unwrap().counter, 0);
    // What is below the floor is refused, and the version that runs goes on.
    assert_eq!(rig.switch(request("y", 3, 0)), None);
    assert!(rig.why().contains("below this device's security floor 4"), "{}", rig.why());
    let again = rig.after(SECOND, Event::Tick);
    assert_eq!(again, Some(Action::Start { slot: Slot::B, trial: None }));
}

#[test]
fn a_version_that_crashes_is_started_three_times() {
    let mut rig = Rig::new();
    assert_eq!(rig.switch(request("x", 1, 0)), trial("x"));
    for _ in 0..2 {
        assert_eq!(rig.happen(crash()), None);
        assert_eq!(rig.after(4 * SECOND, Event::Tick), trial("x"));
    }
    assert_eq!(rig.happen(crash()), good());
    assert!(rig.why().contains("3 starts") && rig.why().contains("signal 11"), "{}", rig.why());
    // The same request again is not taken up.
    assert_eq!(rig.switch(request("x", 1, 0)), None);
    assert_eq!(rig.machine.state.trial, None);
}

#[test]
fn a_version_that_is_silent_is_killed() {
    let mut rig = Rig::new();
    rig.switch(request("x", 1, 0));
    rig.after(50 * SECOND, Event::Beat);
    assert_eq!(rig.after(50 * SECOND, Event::Tick), None);
    assert_eq!(rig.after(20 * SECOND, Event::Tick), Some(Action::Kill));
    assert_eq!(rig.happen(crash()), None);
    assert!(rig.machine.state.trial.as_ref().unwrap().last_fault.contains("no heartbeat"));
    // The good version is held to the same, and started again.
    let mut rig = Rig::new();
    assert_eq!(rig.after(61 * SECOND, Event::Tick), Some(Action::Kill));
    rig.happen(crash());
    assert_eq!(rig.after(SECOND, Event::Tick), good());
}

#[test]
fn a_version_that_lives_but_never_becomes_healthy_is_given_up_at_its_deadline() {
    let mut rig = Rig::new();
    rig.switch(request("x", 1, 0));
    for _ in 0..60 {
        rig.after(30 * SECOND, Event::Beat);
        assert_eq!(rig.happen(Event::Tick), None);
    }
    rig.after(SECOND, Event::Beat);
    assert_eq!(rig.happen(Event::Tick), Some(Action::Terminate));
    // One that does not hear is killed.
    assert_eq!(rig.after(30 * SECOND, Event::Tick), Some(Action::Kill));
    assert_eq!(rig.happen(crash()), good());
    assert!(rig.why().contains("not healthy within 1800 s"), "{}", rig.why());
}

#[test]
fn a_version_whose_memory_grows_is_given_up() {
    let mut rig = Rig::new();
    rig.happen(Event::Memory(40 << 20));
    rig.switch(request("x", 1, 0));
    assert_eq!(rig.happen(Event::Memory(200 << 20)), None);
    assert_eq!(rig.happen(Event::Memory(209 << 20)), Some(Action::Terminate));
    assert_eq!(rig.happen(crash()), good());
    assert!(rig.why().contains("209 MiB"), "{}", rig.why());
}

#[test]
fn a_lost_good_binary_gives_way_to_the_proven_one_before_it() {
    let mut rig = Rig::new();
    rig.switch(request("x", 1, 0));
    rig.happen(Event::Healthy("x".into()));
    rig.happen(crash());
    rig.after(SECOND, Event::Tick);
    assert_eq!(rig.happen(Event::NotStarted("no such file".into())), good());
}

#[test]
fn a_trial_whose_starts_cannot_be_counted_is_not_started() {
    let mut rig = Rig::new();
    rig.happen(Event::Request(request("x", 1, 0), Ok(())));
    // The driver could not write the count: nothing runs and the step did not happen.
    rig.machine.run = Run::Idle;
    assert_eq!(rig.happen(Event::NotKept), good());
}

#[test]
fn a_stop_is_passed_on_and_ends_the_launcher_once_the_agent_has_ended() {
    let mut rig = Rig::new();
    assert_eq!(rig.happen(Event::Stop), Some(Action::Terminate));
    assert_eq!(rig.happen(Event::Stop), None);
    assert_eq!(rig.after(31 * SECOND, Event::Tick), Some(Action::Kill));
    assert_eq!(rig.happen(crash()), Some(Action::Quit));
    assert_eq!(rig.machine.run, Run::Over);
}

/// What the world does to the machine.
#[derive(Debug, Clone)]
enum Act {
    Wait(u16),
    Beat,
    Healthy,
    Memory(u32),
    Ask {
        counter: u8,
        floor: u8,
    },
    Exit(i32),
    NotStarted,
    /// The launcher is killed, with the agent, and started again from what is written.
    Cut,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1u16..200).prop_map(Act::Wait),
        2 => Just(Act::Beat),
        2 => Just(Act::Healthy),
        1 => (0u32..3_000).prop_map(Act::Memory),
        3 => (0u8..8, 0u8..10).prop_map(|(counter, floor)| Act::Ask { counter, floor }),
        2 => prop_oneof![Just(0), Just(1), Just(85)].prop_map(Act::Exit),
        1 => Just(Act::NotStarted),
        2 => Just(Act::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn whatever_happens_the_good_slot_holds_what_was_healthy_and_the_floor_is_kept(
        acts in proptest::collection::vec(acts(), 1..120),
    ) {
        let mut rig = Rig::new();
        // The versions that were healthy; the installed one has no name.
        let mut healthy = vec![String::new()];
        let (mut starts, mut floor, mut asked) = (0u32, 0u64, 0u32);
        for act in acts {
            let running = match &rig.machine.run { Run::Running { slot, ending, .. } => Some((*slot, ending.is_some())), _ => None };
            let mut actions = Vec::new();
            match act {
                Act::Wait(seconds) => actions.push(rig.after(SECOND * seconds.into(), Event::Tick)),
                Act::Beat => actions.push(rig.happen(Event::Beat)),
                Act::Healthy => {
                    let before = rig.machine.state.trial.clone();
                    if let (Some(trial), Some((slot, _))) = (before, running) {
                        actions.push(rig.happen(Event::Healthy(trial.id)));
                        if slot == rig.machine.state.good && rig.machine.state.trial.is_none() {
                            healthy.push(rig.machine.state.good_release().unwrap().version.clone());
                        }
                    }
                }
                Act::Memory(mib) => actions.push(rig.happen(Event::Memory(u64::from(mib) << 20))),
                Act::Ask { counter, floor } => {
                    asked += 1;
                    let asked = request(&format!("r{asked}"), counter.into(), floor.into());
                    if running.is_some() {
                        actions.push(rig.switch(asked));
                    }
                }
                Act::Exit(code) => actions.push(rig.happen(Event::Exited(Some(code), String::new()))),
                Act::NotStarted => actions.push(rig.happen(Event::NotStarted("gone".into()))),
                Act::Cut => {
                    rig.machine = Machine::new(rig.machine.state.clone());
                    actions.push(rig.happen(Event::Begin));
                }
            }
            let state = &rig.machine.state;
            for action in actions.into_iter().flatten() {
                if let Action::Start { slot, trial } = action {
                    let held = state.held(slot).expect("what is started is there");
                    prop_assert!(held.release.counter >= state.floor || slot == state.good, "below the floor");
                    match trial {
                        Some(_) => {
                            prop_assert!(held.release.counter >= state.floor);
                            // A new trial begins with 1; an old one goes on counting.
                            let counted = state.trial.as_ref().unwrap().starts;
                            prop_assert!(counted == 1 || counted == starts + 1, "{counted} after {starts}");
                            prop_assert!(counted <= limits().starts);
                            starts = counted;
                        }
                        None => prop_assert_eq!(slot, state.good),
                    }
                }
            }
            prop_assert!(state.floor >= floor, "the floor sank");
            floor = state.floor;
            let good = state.held(state.good).expect("the good slot is never empty");
            prop_assert!(good.proven && healthy.contains(&good.release.version), "the good slot holds what was never healthy");
            prop_assert!(good.release.counter >= state.floor, "the good version is below the floor");
        }
    }

    /// A version that fails in whatever way is gone after a bounded number of starts, and the good one runs.
    #[test]
    fn after_a_bounded_number_of_starts_the_good_version_runs(faults in proptest::collection::vec(0u8..4, 3..12)) {
        let mut rig = Rig::new();
        let mut action = rig.switch(request("x", 1, 0));
        let mut starts = 0;
        for fault in faults {
            match action {
                Some(Action::Start { slot: Slot::B, .. }) => starts += 1,
                Some(Action::Start { slot: Slot::A, .. }) => break,
                _ => {}
            }
            action = match fault {
                0 => rig.happen(crash()),
                1 => {
                    rig.after(61 * SECOND, Event::Tick);
                    rig.happen(crash())
                }
                2 => {
                    rig.machine = Machine::new(rig.machine.state.clone());
                    rig.happen(Event::Begin)
                }
                _ => rig.happen(Event::NotStarted("gone".into())),
            };
            if matches!(rig.machine.run, Run::Paused { .. }) {
                action = rig.after(60 * SECOND, Event::Tick);
            }
        }
        prop_assert!(starts <= 3);
        // Three faults are enough for any of them.
        let runs_good = matches!(&rig.machine.run, Run::Running { slot: Slot::A, .. });
        prop_assert!(runs_good && rig.machine.state.trial.is_none(), "{:?}", rig.machine);
    }
}
