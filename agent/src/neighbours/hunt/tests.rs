//! A site in miniature: agents that hunt one piece, in virtual time, among neighbours of every kind.

use super::*;
use crate::neighbours::seats::Seats;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

const RANGE: u64 = 2 << 20;
const LAN_RATE: u64 = 50 << 20;
const AFAR_RATE: u64 = 2 << 20;
const LATENCY: Duration = Duration::from_millis(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Kind,
    /// Says that it has the piece and sends something else.
    Lies,
    /// Says that it is fetching, with progress, for ever.
    Pretends,
    /// Has no part in it.
    Absent,
    /// Hunts like a kind one and is switched off at some time.
    Vanishes,
    /// Answers nothing; whoever asks waits for the timeout.
    Silent,
}

enum Doing {
    Idle,
    Hunting(Hunt),
    Afar { since: Duration, from: u64 },
    Has,
    Gone,
}

struct Agent {
    id: DeviceId,
    nature: Nature,
    doing: Doing,
    offset: u64,
    givers: BTreeSet<usize>,
    seats: Seats,
}

enum Event {
    Start,
    Wake,
    Answer(usize, Answer),
    Arrived,
    Vanish,
}

struct Site {
    agents: Vec<Agent>,
    piece: Digest,
    size: u64,
    afar: u64,
    requests: u64,
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    what: Vec<Option<(usize, Event)>>,
    now: Duration,
}

impl Site {
    fn new(natures: &[Nature], starts_ms: &[u64], size: u64, seed: u8) -> Self {
        let agent = |(n, nature): (usize, &Nature)| {
            let id = *Digest::of(&[n as u8, seed]).as_bytes();
            let id = DeviceId::from_bytes(id[..16].try_into().unwrap());
            Agent { id, nature: *nature, doing: Doing::Idle, offset: 0, givers: BTreeSet::new(), seats: Seats::new(4) }
        };
        let mut site = Self {
            agents: natures.iter().enumerate().map(agent).collect(),
            piece: Digest::of(&[seed]),
            size,
            afar: 0,
            requests: 0,
            events: BinaryHeap::new(),
            what: Vec::new(),
            now: Duration::ZERO,
        };
        for (n, nature) in natures.iter().enumerate() {
            let start = Duration::from_millis(starts_ms[n % starts_ms.len()]);
            if matches!(nature, Nature::Kind | Nature::Vanishes) {
                site.at(start, n, Event::Start);
            }
            if *nature == Nature::Vanishes {
                site.at(start * 3 + Duration::from_secs(1), n, Event::Vanish);
            }
        }
        site
    }

    fn at(&mut self, time: Duration, agent: usize, event: Event) {
        self.events.push(Reverse((time, self.what.len() as u64)));
        self.what.push(Some((agent, event)));
    }

    /// Runs until nothing happens any more.
    fn run(&mut self) {
        while let Some(Reverse((time, which))) = self.events.pop() {
            self.now = time;
            assert!(time < Duration::from_secs(86_400), "somebody waits for ever");
            let (agent, event) = self.what[which as usize].take().unwrap();
            self.happen(agent, event);
        }
    }

    fn happen(&mut self, n: usize, event: Event) {
        let now = self.now;
        if matches!(self.agents[n].doing, Doing::Gone) {
            return;
        }
        match event {
            Event::Start => {
                let others = self.agents.iter().map(|agent| agent.id).filter(|id| *id != self.agents[n].id);
                let hunt = Hunt::new(&self.piece, self.size, self.agents[n].id, others.collect::<Vec<_>>(), now);
                self.agents[n].doing = Doing::Hunting(hunt);
                self.act(n);
            }
            Event::Wake => self.act(n),
            Event::Arrived => self.agents[n].doing = Doing::Has,
            Event::Vanish => self.agents[n].doing = Doing::Gone,
            Event::Answer(from, answer) => {
                let id = self.agents[from].id;
                let me = self.agents[n].id;
                if answer == Answer::Bytes {
                    self.agents[from].seats.leave(me, now);
                    self.agents[n].offset = (self.agents[n].offset + RANGE).min(self.size);
                    self.agents[n].givers.insert(from);
                }
                let agent = &mut self.agents[n];
                let Doing::Hunting(hunt) = &mut agent.doing else { return };
                hunt.heard(id, answer, now);
                if agent.offset == self.size {
                    let givers = agent.givers.clone();
                    if givers.iter().all(|giver| self.agents[*giver].nature != Nature::Lies) {
                        self.agents[n].doing = Doing::Has;
                        return;
                    }
                    self.agents[n].givers.clear();
                    for giver in givers {
                        let id = self.agents[giver].id;
                        let Doing::Hunting(hunt) = &mut self.agents[n].doing else { unreachable!() };
                        hunt.heard(id, Answer::Wrong, now);
                    }
                    self.agents[n].offset = 0;
                }
                self.act(n);
            }
        }
    }

    fn act(&mut self, n: usize) {
        let now = self.now;
        let agent = &mut self.agents[n];
        let Doing::Hunting(hunt) = &agent.doing else { return };
        match hunt.next(now) {
            Act::Wait(until) => {
                assert!(until > now, "a wait for the past spins");
                self.at(until, n, Event::Wake);
            }
            Act::Afar => {
                // What a neighbour gave is kept only if nobody lied; the sum is judged at the end.
                let from = if agent.givers.is_empty() { agent.offset } else { 0 };
                agent.doing = Doing::Afar { since: now, from };
                self.afar += self.size - from;
                self.at(now + Duration::from_secs_f64((self.size - from) as f64 / AFAR_RATE as f64), n, Event::Arrived);
            }
            Act::Ask(id) => {
                self.requests += 1;
                let from = self.agents.iter().position(|agent| agent.id == id).unwrap();
                let (answer, takes) = self.answer(from, n);
                self.at(now + takes, n, Event::Answer(from, answer));
            }
        }
    }

    fn answer(&mut self, from: usize, to: usize) -> (Answer, Duration) {
        let (now, size, me) = (self.now, self.size, self.agents[to].id);
        let agent = &mut self.agents[from];
        let send = LATENCY + Duration::from_secs_f64(RANGE as f64 / LAN_RATE as f64);
        let answer = match (agent.nature, &agent.doing) {
            (Nature::Silent, _) | (_, Doing::Gone) => return (Answer::Failed, Duration::from_secs(2)),
            (Nature::Lies, _) => return (Answer::Bytes, send),
            (Nature::Pretends, _) => Answer::Coming((now.as_millis() as u64).min(size)),
            (Nature::Absent, _) | (_, Doing::Idle) => Answer::Absent,
            (_, Doing::Hunting(_)) => Answer::Wanted,
            (_, Doing::Afar { since, from }) => Answer::Coming(from + ((now - *since).as_secs_f64() * AFAR_RATE as f64) as u64),
            (_, Doing::Has) if agent.seats.take(me, now) => return (Answer::Bytes, send * 4),
            (_, Doing::Has) => Answer::Busy,
        };
        (answer, LATENCY)
    }

    fn all_have_it(&self) -> bool {
        self.agents.iter().filter(|agent| agent.nature == Nature::Kind).all(|agent| matches!(agent.doing, Doing::Has))
    }
}

#[test]
fn fifty_kind_agents_fetch_an_artifact_once() {
    for seed in 0..4 {
        // They learn of the deployment over two seconds.
        let starts: Vec<u64> = (0..50).map(|n| n * 7_919 % 2_000).collect();
        let size = 64 << 20;
        let mut site = Site::new(&[Nature::Kind; 50], &starts, size, seed);
        site.run();
        assert!(site.all_have_it());
        assert!(site.afar as f64 <= 1.1 * size as f64, "{} bytes from afar", site.afar);
        assert!(site.now < Duration::from_secs(32 + 200), "the last one had it after {:?}", site.now);
    }
}

#[test]
fn a_late_joiner_fetches_nothing_from_afar_wherever_it_stands() {
    for seed in 0..20 {
        let starts: Vec<u64> = (0..10).map(|n| if n == 9 { 600_000 } else { n * 100 }).collect();
        let mut site = Site::new(&[Nature::Kind; 10], &starts, 64 << 20, seed);
        site.run();
        assert!(site.all_have_it());
        assert_eq!(site.afar, 64 << 20);
    }
}

#[test]
fn an_agent_alone_goes_at_once_and_one_among_those_without_a_wish_soon() {
    let mut alone = Site::new(&[Nature::Kind], &[0], 1 << 20, 1);
    alone.run();
    assert!(alone.now < Duration::from_secs(1));
    let mut natures = [Nature::Absent; 20];
    natures[3] = Nature::Kind;
    let mut site = Site::new(&natures, &[0], 1 << 20, 1);
    site.run();
    assert!(site.all_have_it() && site.now < GRACE + Duration::from_secs(2), "{:?}", site.now);
}

fn nature() -> impl Strategy<Value = Nature> {
    prop_oneof![
        3 => Just(Nature::Kind),
        1 => Just(Nature::Lies),
        1 => Just(Nature::Pretends),
        1 => Just(Nature::Absent),
        1 => Just(Nature::Vanishes),
        1 => Just(Nature::Silent),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn whatever_the_neighbours_do_every_kind_agent_ends_with_the_piece_within_the_limit(
        natures in proptest::collection::vec(nature(), 1..16),
        starts in proptest::collection::vec(0u64..20_000, 1..16),
        size in 1u64..(64 << 20),
        seed in any::<u8>(),
    ) {
        let mut site = Site::new(&natures, &starts, size, seed);
        site.run();
        prop_assert!(site.all_have_it(), "{natures:?}");
        // A liar costs its transfer, and each that feeds or claims may renew the wait once; then this agent goes itself.
        let worst = limit(size) * (natures.len() as u32 + 1) + Duration::from_secs(600);
        prop_assert!(site.now <= worst, "{:?} > {worst:?}", site.now);
        // Nobody fetches more than the whole once.
        let kind = natures.iter().filter(|nature| matches!(nature, Nature::Kind | Nature::Vanishes)).count() as u64;
        prop_assert!(site.afar <= kind * size);
    }
}
