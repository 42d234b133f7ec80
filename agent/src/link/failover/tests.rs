use super::*;
use proptest::prelude::*;

const QUIC: usize = 0;
const MQTT: usize = 1;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A world in which each transport works or not; drives the machine as the loop does and checks what must always hold.
struct World {
    machine: Failover,
    now: Duration,
    up: [bool; 2],
    session: Option<usize>,
    kept: Option<usize>,
    tried: Vec<usize>,
    jitter: f64,
}

impl World {
    fn new(up: [bool; 2], jitter: f64) -> Self {
        Self { machine: Failover::new(2), now: Duration::ZERO, up, session: None, kept: None, tried: Vec::new(), jitter }
    }

    fn input(&mut self, input: Input) {
        if matches!(input, Input::Ended(_)) {
            assert!(self.session.take().is_some(), "only a running session can end");
        }
        let before = self.session;
        let output = self.machine.step(input, self.now, self.jitter);
        if let Output::Session { transport, .. } = output
            && before.is_none()
        {
            self.session = Some(transport);
            self.kept = None;
        }
        match output {
            Output::Wait(_) | Output::Connect(_) => assert_eq!(self.session, None, "connecting beside a session"),
            Output::Session { transport, .. } | Output::Probe { transport, .. } => assert_eq!(self.session, Some(transport)),
            Output::Switch { .. } => assert!(self.session.is_some() && self.kept.is_some()),
        }
    }

    /// Does what the machine asks for, and lets time pass where it waits.
    fn turn(&mut self) {
        match self.machine.output() {
            Output::Wait(until) => {
                self.now = self.now.max(until);
                self.input(Input::Due);
            }
            Output::Connect(transport) => {
                self.tried.push(transport);
                self.now += seconds(if self.up[transport] { 1 } else { 8 });
                let failed = Input::Failed(if transport == QUIC { Failure::Silent } else { Failure::Error });
                self.input(if self.up[transport] { Input::Connected } else { failed });
            }
            Output::Session { transport, .. } if !self.up[transport] => {
                self.now += seconds(30);
                self.input(Input::Ended(Retry::Backoff));
            }
            Output::Session { probe_at, .. } => {
                self.now = probe_at.unwrap_or(self.now + seconds(120)).max(self.now);
                self.input(Input::Due);
            }
            Output::Probe { probe, .. } => {
                self.tried.push(probe);
                self.kept = self.up[probe].then_some(probe);
                self.input(if self.up[probe] { Input::ProbeConnected } else { Input::ProbeFailed });
            }
            Output::Switch { .. } => self.input(Input::Ended(Retry::Backoff)),
        }
    }
}

#[test]
fn silence_on_the_preferred_transport_leads_to_the_other_without_a_pause() {
    let mut world = World::new([false, true], 0.5);
    world.turn();
    world.turn();
    world.turn();
    assert_eq!((world.session, world.now), (Some(MQTT), seconds(9)));
    assert_eq!(world.tried, [QUIC, MQTT]);
}

#[test]
fn a_session_returns_when_a_probe_succeeds_and_both_moves_are_counted() {
    let mut world = World::new([true, true], 0.5);
    world.turn();
    world.turn();
    assert_eq!(world.session, Some(QUIC));
    world.up[QUIC] = false;
    while world.session != Some(MQTT) {
        world.turn();
    }
    world.up[QUIC] = true;
    while world.session != Some(QUIC) {
        world.turn();
    }
    assert_eq!(world.machine.counts(), (3, 2));
}

#[test]
fn probes_grow_apart_while_they_fail() {
    let mut world = World::new([false, true], 1.0);
    let mut probes = Vec::new();
    while probes.len() < 9 {
        if let Output::Probe { .. } = world.machine.output() {
            probes.push(world.now);
        }
        world.turn();
    }
    let gaps: Vec<u64> = probes.windows(2).map(|w| (w[1] - w[0]).as_secs()).collect();
    assert!(gaps.is_sorted() && gaps.last() == Some(&3600), "{gaps:?}");
}

#[test]
fn a_poke_cuts_our_own_pause_short_but_not_the_servers() {
    let mut world = World::new([true, true], 0.9);
    world.turn();
    world.turn();
    world.input(Input::Ended(Retry::Slow));
    world.input(Input::Poke);
    assert_eq!(world.machine.output(), Output::Connect(QUIC));
    world.input(Input::Failed(Failure::Later(seconds(600))));
    world.input(Input::Poke);
    assert!(matches!(world.machine.output(), Output::Wait(until) if until >= world.now + seconds(600)));
}

#[test]
fn a_refusal_for_good_is_retried_hourly() {
    let mut world = World::new([true, true], 0.5);
    world.turn();
    world.turn();
    world.input(Input::Ended(Retry::Slow));
    assert_eq!(world.machine.output(), Output::Wait(world.now + seconds(3600)));
}

proptest! {
    #[test]
    fn any_inputs_in_any_order_never_make_two_sessions(inputs in proptest::collection::vec((0u8..9, 0u64..4000, 0.0f64..1.0), 0..200)) {
        let mut machine = Failover::new(2);
        let mut now = Duration::ZERO;
        let mut running = false;
        for (input, pass, jitter) in inputs {
            now += seconds(pass);
            let input = match input {
                0 | 1 => Input::Due,
                2 => Input::Poke,
                3 => Input::Connected,
                4 => Input::Failed(Failure::Error),
                5 => Input::Failed(Failure::Later(seconds(pass))),
                6 => Input::Ended(if pass % 2 == 0 { Retry::Backoff } else { Retry::Slow }),
                7 => Input::ProbeConnected,
                _ => Input::ProbeFailed,
            };
            let sessions = machine.counts().0;
            let output = machine.step(input, now, jitter);
            if machine.counts().0 > sessions {
                prop_assert!(!running || matches!(input, Input::Ended(_)), "a session began beside another");
            }
            running = matches!(output, Output::Session { .. } | Output::Probe { .. } | Output::Switch { .. });
        }
    }

    #[test]
    fn whatever_works_is_found_and_the_preferred_one_is_returned_to(
        history in proptest::collection::vec((any::<bool>(), any::<bool>(), 1usize..40), 0..12),
        last in (any::<bool>(), any::<bool>()),
        jitter in 0.0f64..1.0,
    ) {
        let mut world = World::new([true, true], jitter);
        for (quic, mqtt, turns) in history {
            world.up = [quic, mqtt];
            (0..turns).for_each(|_| world.turn());
        }
        world.up = [last.0, last.1];
        world.tried.clear();
        (0..60).for_each(|_| world.turn());
        let expected = if last.0 { Some(QUIC) } else { last.1.then_some(MQTT) };
        prop_assert_eq!(world.session, expected);
        if expected.is_none() {
            prop_assert!(world.tried.contains(&QUIC) && world.tried.contains(&MQTT));
        }
    }
}
