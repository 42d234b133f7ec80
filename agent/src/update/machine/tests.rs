//! The machine against a world that does what it says, fails, ends the process at any point and changes its mind.

use super::*;
use aidos_protocol::DeploymentId;
use aidos_protocol::artifact::Digest;
use aidos_protocol::rollout::{Experiment, UpdatePolicy};
use aidos_protocol::twin::{Health, ModelState};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn slot(version: u64, bytes: u8) -> Slot {
    Slot { version, digest: Digest::of(&[bytes]) }
}

fn wish(version: u64, bytes: u8) -> DesiredModel {
    DesiredModel::new(version, Digest::of(&[bytes]), 1)
}

/// What a version is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    Good,
    DoesNotLoad,
    FailsTest,
    Errors,
    Slow,
    CrashesAtLoad,
    CrashesAnswering,
    /// Good, and nobody has signed it.
    Unsigned,
    /// Something else was signed under its name.
    Forged,
}

/// The driver and the device, in one place, with what must always hold.
struct World {
    makes: BTreeMap<Slot, Make>,
    state: State,
    /// What the disk holds.
    disk: String,
    effect: Option<Effect>,
    loaded: BTreeSet<Slot>,
    active: Option<Slot>,
    tested: BTreeSet<Slot>,
    committed: BTreeSet<Slot>,
    loads: BTreeMap<Slot, u32>,
    online: bool,
    /// Whether people have signed what was unsigned.
    signed: bool,
    /// What was vouched for before it was fetched.
    vouched: BTreeSet<Slot>,
    crashes: u32,
    /// Requests that what answers has had in this process, by the time it is replaced.
    requests: u64,
    at: i64,
}

impl World {
    fn new(makes: &[(Slot, Make)]) -> Self {
        Self {
            makes: makes.iter().copied().collect(),
            state: State::default(),
            disk: "{}".into(),
            effect: None,
            loaded: BTreeSet::new(),
            active: None,
            tested: BTreeSet::new(),
            committed: BTreeSet::new(),
            loads: BTreeMap::new(),
            online: true,
            signed: false,
            vouched: BTreeSet::new(),
            crashes: 0,
            requests: 100,
            at: 0,
        }
    }

    fn make(&self, slot: Slot) -> Make {
        self.makes.get(&slot).copied().unwrap_or(Make::Good)
    }

    fn tell(&mut self, event: Event) {
        self.at += 1;
        let (state, effect) = step(self.state.clone(), event, Micros(self.at));
        self.state = state;
        self.disk = serde_json::to_string(&self.state).unwrap();
        self.effect = effect;
        if let Some(kept) = &self.state.answers {
            self.committed.insert(kept.slot);
        }
        self.check();
    }

    fn check(&self) {
        assert!(self.loaded.len() <= 2, "three in memory");
        assert_eq!((self.state.memory.active, &self.state.memory.loaded), (self.active, &self.loaded), "memory is known");
        if let Some(active) = self.active {
            assert!(self.loaded.contains(&active));
            assert!(self.tested.contains(&active) || self.committed.contains(&active), "an untested version answers");
        }
        let (standing, _) = self.state.standing();
        if let Some((Health::Healthy, _)) = self.state.verdict() {
            assert_eq!(self.active, self.state.update.as_ref().map(Update::slot), "healthy without answering");
            assert_eq!(standing, ModelState::Ready);
        }
        if standing == ModelState::RolledBack {
            assert_ne!(self.active, self.state.update.as_ref().map(Update::slot));
        }
        assert!(self.state.refused.len() <= MAX_REFUSED && self.state.starts.len() <= 4);
    }

    /// The process ends without a word and begins again with what the disk holds.
    fn crash(&mut self) {
        self.crashes += 1;
        self.state = serde_json::from_str(&self.disk).unwrap();
        self.begin();
    }

    fn begin(&mut self) {
        (self.loaded, self.active) = (BTreeSet::new(), None);
        self.requests = 2;
        let charged = self.state.suspect().map(|(_, slot)| slot);
        // Told at once, as the driver does, since the disk holds what is wanted.
        let desired = self.state.update.as_ref().map(|update| Box::new(update.desired.clone()));
        self.tell(Event::Restarted { charged });
        if desired.is_some() {
            self.tell(Event::Desire(desired));
        }
    }

    fn stop_and_begin(&mut self) {
        self.tell(Event::Stopping);
        self.begin();
    }

    /// Does what the machine said; `false` when nothing is left to do.
    fn act(&mut self) -> bool {
        let Some(effect) = self.effect.clone() else { return false };
        match effect {
            Effect::Look => self.tell(Event::Looked(Conditions::default())),
            Effect::Pause(..) => self.tell(Event::Tick),
            Effect::Fetch if self.online => {
                let slot = self.state.update.as_ref().map(Update::slot).expect("only what is wanted is fetched");
                match self.make(slot) {
                    Make::Forged => self.tell(Event::Failed(Trouble::Forged, "something else was signed".into())),
                    Make::Unsigned if !self.signed => self.tell(Event::Failed(Trouble::Unsigned, "not signed".into())),
                    _ => {
                        self.vouched.insert(slot);
                        self.tell(Event::Fetched);
                    }
                }
            }
            Effect::Fetch => self.tell(Event::Failed(Trouble::Link, "not connected".into())),
            Effect::Verify => self.tell(Event::Verified(Box::default())),
            Effect::Load(kept) => {
                let slot = kept.slot;
                assert!(!self.loaded.contains(&slot));
                assert!(self.vouched.contains(&slot), "nobody vouched for what is loaded");
                *self.loads.entry(slot).or_default() += 1;
                match self.make(slot) {
                    Make::CrashesAtLoad => self.crash(),
                    Make::DoesNotLoad => self.tell(Event::LoadFailed(slot, "not a model".into(), true)),
                    _ => {
                        self.loaded.insert(slot);
                        self.tell(Event::Loaded(slot, "memo".into()));
                    }
                }
            }
            Effect::Unload(slot) => {
                if self.active == Some(slot) {
                    let forgotten = self.state.is_empty();
                    let given_up = self.state.answers.is_none() && self.state.update.as_ref().is_some_and(Update::is_given_up);
                    assert!(forgotten || given_up, "the active version left too early");
                    self.active = None;
                }
                self.loaded.remove(&slot);
                self.tell(Event::Unloaded(slot));
            }
            Effect::Test(slot) => {
                assert!(self.loaded.contains(&slot));
                let passed = self.make(slot) != Make::FailsTest;
                if passed {
                    self.tested.insert(slot);
                }
                let golden = self.state.update.as_ref().is_some_and(|update| update.desired.golden_digest.is_some());
                self.tell(Event::Tested(match (golden, passed) {
                    (true, passed) => Ok(Some(SelfTestReport { passed, ..Default::default() })),
                    (false, true) => Ok(None),
                    (false, false) => Err("it does not answer".into()),
                }));
            }
            Effect::Activate(slot) => {
                assert!(self.loaded.contains(&slot));
                let before = self.active.replace(slot).filter(|before| *before != slot);
                let before = before.map(|before| self.measures(before, self.requests));
                self.tell(Event::Activated(slot, before));
                if self.make(slot) == Make::CrashesAnswering {
                    self.crash();
                }
            }
            Effect::Measure(slot) => {
                assert_eq!(self.active, Some(slot));
                let candidate = self.measures(slot, 100);
                self.tell(Event::Measured(Box::new(Measured { candidate, elapsed_s: 30 })));
            }
            Effect::Settle => self.tell(Event::Settled),
        }
        true
    }

    fn measures(&self, slot: Slot, requests: u64) -> Measures {
        let errors = if self.make(slot) == Make::Errors { requests / 2 } else { 0 };
        let p95_us = Some(if self.make(slot) == Make::Slow { 9_000 } else { 1_000 });
        Measures { requests, errors, p95_us, ..Measures::default() }
    }

    /// Lets everything happen; panics when it never ends.
    fn run(&mut self) {
        for _ in 0..400 {
            if !self.act() {
                return;
            }
        }
        panic!("it never comes to rest: {:?} {:?}", self.effect, self.state);
    }

    fn want(&mut self, desired: Option<DesiredModel>) {
        self.tell(Event::Desire(desired.map(Box::new)));
    }

    fn end(&self) -> (ModelState, Option<u64>) {
        (self.state.standing().0, self.active.map(|active| active.version))
    }
}

fn watched(desired: DesiredModel) -> DesiredModel {
    let update = UpdatePolicy { watch_s: 100, max_error_rate: Some(0.1), max_p95_ratio: Some(2.0), ..Default::default() };
    DesiredModel { update, ..desired }
}

fn with_golden(desired: DesiredModel) -> DesiredModel {
    DesiredModel { golden_digest: Some(Digest::of(b"golden")), ..desired }
}

#[test]
fn what_answers_already_runs_golden_cases_that_come_later_and_answers_on_whatever_comes_of_them() {
    for make in [Make::Good, Make::FailsTest] {
        let mut world = World::new(&[]);
        world.want(Some(wish(1, 1)));
        world.run();
        world.makes.insert(slot(1, 1), make);
        let deployment = Some(DeploymentId::new(7));
        let closed = UpdatePolicy { window: Some("Tue 00:00-01:00".parse().unwrap()), ..Default::default() };
        world.want(Some(DesiredModel { deployment, update: closed, ..with_golden(wish(1, 1)) }));
        assert_eq!(world.active, Some(slot(1, 1)));
        world.run();
        assert_eq!((world.end(), world.loads[&slot(1, 1)]), ((ModelState::Ready, Some(1)), 1));
        let update = world.state.update.as_ref().unwrap();
        assert_eq!(update.self_test.as_ref().unwrap().passed, make == Make::Good);
    }
}

#[test]
fn a_good_version_is_committed_and_the_way_back_is_one_swap() {
    let mut world = World::new(&[]);
    for version in [1, 2] {
        world.want(Some(watched(wish(version, version as u8))));
        world.run();
        assert_eq!(world.end(), (ModelState::Ready, Some(version)));
    }
    let loads: u32 = world.loads.values().sum();
    world.want(Some(wish(1, 1)));
    world.run();
    assert_eq!((world.end(), world.loads.values().sum::<u32>()), ((ModelState::Ready, Some(1)), loads));
    world.want(None);
    world.run();
    assert!(world.loaded.is_empty() && world.disk == "{}");
}

#[test]
fn each_kind_of_bad_version_is_given_up_and_the_one_before_it_answers() {
    for make in [Make::DoesNotLoad, Make::FailsTest, Make::Errors, Make::Slow, Make::CrashesAtLoad, Make::CrashesAnswering] {
        let mut world = World::new(&[(slot(2, 2), make)]);
        world.want(Some(wish(1, 1)));
        world.run();
        world.want(Some(watched(wish(2, 2))));
        world.run();
        let answered = matches!(make, Make::Errors | Make::Slow | Make::CrashesAnswering);
        let state = if answered { ModelState::RolledBack } else { ModelState::Failed };
        assert_eq!(world.end(), (state, Some(1)), "{make:?}");
        assert_eq!(world.state.verdict().unwrap().0, Health::Unhealthy);
        assert!(world.loads[&slot(2, 2)] <= MAX_STARTS, "{make:?} was loaded {} times", world.loads[&slot(2, 2)]);
        // The same wish does not try again, whatever came between; another deployment's does.
        let loads = world.loads.clone();
        world.want(Some(wish(1, 1)));
        world.run();
        assert_eq!(world.end(), (ModelState::Ready, Some(1)));
        world.stop_and_begin();
        world.want(Some(watched(wish(2, 2))));
        world.run();
        assert_eq!(world.end(), (state, Some(1)));
        assert_eq!(world.loads[&slot(2, 2)], loads[&slot(2, 2)], "{make:?}");
        world.makes.clear();
        world.want(Some(DesiredModel { deployment: Some(DeploymentId::new(7)), ..wish(2, 2) }));
        world.run();
        assert_eq!(world.end(), (ModelState::Ready, Some(2)));
    }
}

#[test]
fn a_committed_version_that_ends_the_process_again_and_again_gives_way_to_the_one_before() {
    let mut world = World::new(&[]);
    for version in [1, 2] {
        world.want(Some(wish(version, version as u8)));
        world.run();
    }
    world.makes.insert(slot(2, 2), Make::CrashesAnswering);
    world.crash();
    world.run();
    assert_eq!(world.end(), (ModelState::RolledBack, Some(1)));
    assert!(world.crashes <= MAX_STARTS + 1, "{}", world.crashes);
}

#[test]
fn every_version_in_memory_is_settled_also_one_that_was_replaced_before_it_was() {
    let mut world = World::new(&[]);
    world.want(Some(wish(1, 1)));
    while world.effect != Some(Effect::Settle) {
        world.act();
    }
    world.want(Some(wish(2, 2)));
    world.run();
    assert_eq!((world.loaded.len(), world.state.starts.len()), (2, 0));
}

#[test]
fn the_first_version_of_a_model_that_is_bad_leaves_nothing_and_says_so() {
    let mut world = World::new(&[(slot(1, 1), Make::Errors)]);
    world.want(Some(watched(wish(1, 1))));
    world.run();
    assert_eq!(world.end(), (ModelState::Failed, None));
    assert!(world.state.standing().1.contains("no version before it") && world.loaded.is_empty());
}

#[test]
fn a_slower_version_is_given_up_once_there_are_enough_requests() {
    let mut update = Update::new(watched(wish(2, 2)), Stage::Watch);
    let measures = |requests, p95| Measures { requests, p95_us: Some(p95), ..Measures::default() };
    update.baseline = Some(measures(100, 1_000));
    assert_eq!(too_bad(&update, &measures(19, 9_000)), None);
    assert_eq!(too_bad(&update, &measures(20, 2_000)), None);
    assert!(too_bad(&update, &measures(20, 2_001)).unwrap().contains("2001 µs"));
    update.baseline = Some(measures(19, 1_000));
    assert_eq!(too_bad(&update, &measures(20, 9_000)), None);
}

#[test]
fn a_slower_version_is_given_up_wherever_the_power_was_cut_and_however_little_was_answered_since() {
    let mut steps = 0;
    loop {
        let mut world = World::new(&[(slot(2, 2), Make::Slow)]);
        world.want(Some(watched(wish(1, 1))));
        world.run();
        world.stop_and_begin();
        world.run();
        world.want(Some(watched(wish(2, 2))));
        for _ in 0..steps {
            world.act();
        }
        let ended = world.state.standing().0 == ModelState::RolledBack;
        world.crash();
        world.run();
        assert_eq!(world.end(), (ModelState::RolledBack, Some(1)), "cut after {steps} steps");
        if ended {
            break;
        }
        steps += 1;
    }
    assert!(steps > 8, "the whole way was cut: {steps}");
}

#[test]
fn what_a_version_did_is_known_after_a_way_back_to_it() {
    let mut world = World::new(&[(slot(3, 3), Make::Slow)]);
    for version in [1, 2] {
        world.want(Some(watched(wish(version, version as u8))));
        world.run();
    }
    world.want(Some(wish(1, 1)));
    world.run();
    world.crash();
    world.run();
    world.want(Some(watched(wish(3, 3))));
    world.run();
    assert_eq!(world.end(), (ModelState::RolledBack, Some(1)));
}

#[test]
fn a_window_is_waited_for_with_the_reason_and_an_experiment_until_intent_ends_it() {
    let mut world = World::new(&[]);
    world.want(Some(wish(1, 1)));
    world.run();
    let window = UpdatePolicy { window: Some("Tue 00:00-01:00".parse().unwrap()), ..Default::default() };
    world.want(Some(DesiredModel { update: window.clone(), ..wish(2, 2) }));
    for _ in 0..8 {
        world.act();
    }
    let (state, reason) = world.state.standing();
    assert_eq!((state, world.loaded.len()), (ModelState::Waiting, 1));
    assert!(reason.contains("opens in 24 h"), "{reason}");
    let experiment = Some(Experiment::Shadow { percent: 10 });
    let trial = DesiredModel { update: UpdatePolicy { experiment, ..window }, ..wish(2, 2) };
    world.want(Some(trial));
    world.run();
    assert_eq!(world.end(), (ModelState::Trial, Some(1)));
    assert_eq!(world.state.trial().unwrap().0, slot(2, 2));
    world.crash();
    world.run();
    assert_eq!(world.end(), (ModelState::Trial, Some(1)));
    world.want(Some(wish(2, 2)));
    world.run();
    assert_eq!((world.end(), world.state.trial()), ((ModelState::Ready, Some(2)), None));
}

#[test]
fn a_wish_that_is_changed_or_taken_back_takes_effect_at_the_next_step() {
    let mut world = World::new(&[]);
    world.want(Some(wish(1, 1)));
    world.run();
    for steps in 0..12 {
        world.want(Some(watched(wish(2, 2))));
        for _ in 0..steps {
            world.act();
        }
        world.want(Some(wish(1, 1)));
        world.run();
        assert_eq!(world.end(), (ModelState::Ready, Some(1)), "after {steps} steps");
    }
}

#[test]
fn the_same_number_with_other_bytes_is_tested_beside_before_it_answers() {
    let mut world = World::new(&[(slot(1, 9), Make::FailsTest)]);
    world.want(Some(wish(1, 1)));
    world.run();
    world.want(Some(wish(1, 9)));
    world.run();
    assert_eq!((world.state.standing().0, world.active), (ModelState::Failed, Some(slot(1, 1))));
    world.want(Some(wish(1, 2)));
    world.run();
    assert_eq!((world.end(), world.active), ((ModelState::Ready, Some(1)), Some(slot(1, 2))));
}

#[test]
fn too_late_and_not_valid_are_told_and_never_begun() {
    let mut world = World::new(&[]);
    world.at = 10;
    let late = UpdatePolicy { not_after_us: Some(Micros(5)), ..Default::default() };
    world.want(Some(DesiredModel { update: late, ..wish(1, 1) }));
    world.run();
    assert!(world.state.standing().1.contains("too late") && world.loads.is_empty());
    let odd = UpdatePolicy { max_error_rate: Some(7.0), ..Default::default() };
    world.want(Some(DesiredModel { update: odd, ..wish(2, 2) }));
    world.run();
    assert!(world.state.standing().1.contains("max_error_rate") && world.loads.is_empty());
}

#[test]
fn what_nobody_signed_waits_and_comes_once_it_is_signed_while_the_version_before_answers() {
    let (old, new) = (slot(1, 1), slot(2, 2));
    let mut world = World::new(&[(new, Make::Unsigned)]);
    world.want(Some(wish(1, 1)));
    world.run();
    world.want(Some(wish(2, 2)));
    for _ in 0..50 {
        assert!(world.act(), "it goes on looking for a signature");
        assert_eq!(world.active, Some(old));
    }
    while !matches!(world.effect, Some(Effect::Pause(WaitKind::Vouched, _))) {
        world.act();
    }
    assert_eq!(world.state.standing(), (ModelState::Waiting, "not signed".to_owned()));
    world.signed = true;
    world.run();
    assert_eq!(world.end(), (ModelState::Ready, Some(2)));
}

#[test]
fn what_differs_from_what_was_signed_is_given_up_at_once_and_the_version_before_answers() {
    let mut world = World::new(&[(slot(2, 2), Make::Forged)]);
    world.want(Some(wish(1, 1)));
    world.run();
    world.want(Some(wish(2, 2)));
    world.run();
    assert_eq!(world.end(), (ModelState::Failed, Some(1)));
    assert_eq!(world.loads.get(&slot(2, 2)), None);
    // Also after a restart it is not tried again for the same wish.
    world.stop_and_begin();
    world.run();
    assert_eq!(world.end(), (ModelState::Failed, Some(1)));
}

#[derive(Debug, Clone)]
enum Happening {
    Act,
    Want(Option<(u64, u8, u128)>),
    Crash,
    Stop,
    Retry,
    Online(bool),
    /// An event that nobody asked for.
    Stray(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        12 => Just(Happening::Act),
        3 => proptest::option::weighted(0.9, (1..4u64, 1..5u8, 0..3u128)).prop_map(Happening::Want),
        1 => Just(Happening::Crash),
        1 => Just(Happening::Stop),
        1 => Just(Happening::Retry),
        1 => any::<bool>().prop_map(Happening::Online),
        1 => (0..6u8).prop_map(Happening::Stray),
    ]
}

fn make() -> impl Strategy<Value = Make> {
    prop_oneof![
        4 => Just(Make::Good),
        1 => Just(Make::DoesNotLoad),
        1 => Just(Make::FailsTest),
        1 => Just(Make::Errors),
        1 => Just(Make::Slow),
        1 => Just(Make::CrashesAtLoad),
        1 => Just(Make::CrashesAnswering),
        1 => Just(Make::Unsigned),
        1 => Just(Make::Forged),
    ]
}

fn wanted(version: u64, bytes: u8, deployment: u128) -> DesiredModel {
    let golden = deployment == 2;
    let deployment = (deployment > 0).then(|| DeploymentId::from_bytes(deployment.to_be_bytes()));
    let desired = DesiredModel { deployment, ..wish(version, bytes) };
    let desired = if golden { with_golden(desired) } else { desired };
    if bytes.is_multiple_of(2) { watched(desired) } else { desired }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Any order of events, restarts at any point: `World::check` holds after each, and a kind world comes to rest.
    #[test]
    fn whatever_happens_a_whole_tested_version_answers_and_the_end_is_as_wanted(
        makes in proptest::collection::vec(((1..4u64, 1..5u8), make()), 0..6),
        steps in proptest::collection::vec(happening(), 1..120),
        (version, bytes) in (1..4u64, 1..5u8),
    ) {
        let makes: Vec<_> = makes.into_iter().map(|((version, bytes), make)| (slot(version, bytes), make)).collect();
        let mut world = World::new(&makes);
        for happened in steps {
            match happened {
                Happening::Act => drop(world.act()),
                Happening::Want(wish) => world.want(wish.map(|(version, bytes, deployment)| wanted(version, bytes, deployment))),
                Happening::Crash => world.crash(),
                Happening::Stop => world.stop_and_begin(),
                Happening::Retry => world.tell(Event::Retry),
                Happening::Online(online) => world.online = online,
                Happening::Stray(0) => {
                    // Only the driver says so, after it was vouched for.
                    let slot = world.state.update.as_ref().map(Update::slot).filter(|slot| world.vouched.contains(slot));
                    world.tell(slot.map_or(Event::Tick, |_| Event::Fetched));
                }
                Happening::Stray(1) => world.tell(Event::Tested(Err("stray".into()))),
                Happening::Stray(2) => world.tell(Event::Failed(Trouble::Passing, "stray".into())),
                Happening::Stray(3) => world.tell(Event::Looked(Conditions::default())),
                Happening::Stray(4) => world.tell(Event::Settled),
                Happening::Stray(_) => world.tell(Event::Tick),
            }
        }
        // From here on the world is kind, but for the version that is wanted.
        (world.online, world.signed) = (true, true);
        let answered = world.state.answers.as_ref().map(|kept| kept.slot);
        let is = world.make(slot(version, bytes));
        let desired = DesiredModel { deployment: Some(DeploymentId::from_bytes([9; 16])), ..watched(wanted(version, bytes, 0)) };
        world.want(Some(desired));
        world.run();
        let (state, _) = world.state.standing();
        let active = world.active == Some(slot(version, bytes));
        match is {
            Make::Good | Make::Unsigned => prop_assert!(state == ModelState::Ready && active, "{state:?} {:?}", world.active),
            // It may have been committed without a watch before.
            _ if active => prop_assert_eq!(state, ModelState::Ready),
            _ => {
                prop_assert!(matches!(state, ModelState::Failed | ModelState::RolledBack), "{:?}", state);
                if answered.is_some_and(|answered| world.make(answered) == Make::Good && answered != slot(version, bytes)) {
                    prop_assert!(world.active.is_some(), "what answered well is gone");
                }
            }
        }
        let before = world.loads.clone();
        world.stop_and_begin();
        world.run();
        for (slot, count) in &world.loads {
            prop_assert!(count - before.get(slot).unwrap_or(&0) <= MAX_STARTS + 1);
        }
    }
}
