//! Which transport, and when: prefers the first, falls back to the others, and finds its way back.
//!
//! Pure: no socket, no clock, no randomness of its own. Time is a [`Duration`] since the loop began.
//! Invariants, property-tested: there is never more than one session; every transport is tried again and again while nothing
//! works; while a session runs on another transport the first is probed, and once that succeeds the session moves to it.
//!
//! ```text
//! Waiting ─due/poke→ Connecting(t) ─ok→ Session(t) ─ended→ Waiting
//!    ↑                 │ failed            │ probe of the first ok
//!    └── all failed ───┤                   ▼
//!                      └→ Connecting(u)  Leaving(t → first) ─ended→ Session(first)
//! ```

use super::backoff::Backoff;
use std::time::Duration;

/// Failures in a row that make a transport give way to the next. One may be chance; silence counts at once, because that is
/// what a firewall that drops UDP looks like.
const FAILURES_TO_GIVE_WAY: u32 = 2;
/// A session this long shows that the transport works, not only its handshake.
const STABLE: Duration = Duration::from_secs(60);
/// First interval between probes of the preferred transport while on another; a probe costs about 6 KB.
const PROBE_MIN: Duration = Duration::from_secs(60);
/// The interval that probes grow to: 144 KB a day where UDP is blocked for ever.
const PROBE_MAX: Duration = Duration::from_secs(3600);
/// Where the control plane said no for good, somebody has to change something first.
const SLOW: Duration = Duration::from_secs(3600);

/// When a session that ended may be followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// As soon as the backoff allows.
    Backoff,
    /// The plane asked for this pause.
    After(Duration),
    /// Only if something changes: hourly, or when poked.
    Slow,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer, or the transport is not offered: more of the same is pointless now.
    Silent,
    /// An error.
    Error,
    /// The server is there and asks for a pause.
    Later(Duration),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// The time named by the last output has come.
    Due,
    /// The network may have changed.
    Poke,
    /// The attempt succeeded; its session begins.
    Connected,
    /// The attempt failed.
    Failed(Failure),
    /// The session is over.
    Ended(Retry),
    /// The probe has a connection.
    ProbeConnected,
    /// The probe failed.
    ProbeFailed,
}

/// What is to be done until the next input. It is derived from the state alone, so asking twice does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Nothing before this time.
    Wait(Duration),
    /// Connect this transport.
    Connect(usize),
    /// Keep the session on this transport; at `probe_at` something is due.
    Session { transport: usize, probe_at: Option<Duration> },
    /// Keep the session on `transport`, and connect the other one beside it.
    Probe { transport: usize, probe: usize },
    /// End the session in order; the connection that the probe made carries the next.
    Switch { to: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { until: Duration },
    Connecting { transport: usize },
    Session { transport: usize, since: Duration, probe: Probe },
    Leaving { from: usize, since: Duration, to: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// On the preferred transport there is nothing to probe.
    Needless,
    At(Duration),
    Running,
}

const PREFERRED: usize = 0;

/// The machine.
#[derive(Debug, Clone)]
pub(super) struct Failover {
    state: State,
    backoff: Backoff,
    /// Failures in a row, by transport.
    failures: Vec<u32>,
    /// Tried since the last pause, by transport.
    tried: Vec<bool>,
    /// What the next round begins with.
    first: usize,
    probe_interval: Duration,
    last_session: Option<usize>,
    sessions: u64,
    failovers: u64,
}

impl Failover {
    /// With this many transports, the preferred one first; at least one.
    pub(super) fn new(transports: usize) -> Self {
        assert!(transports > 0, "a link has at least one transport");
        Self {
            state: State::Waiting { until: Duration::ZERO },
            backoff: Backoff::default(),
            failures: vec![0; transports],
            tried: vec![false; transports],
            first: PREFERRED,
            probe_interval: PROBE_MIN,
            last_session: None,
            sessions: 0,
            failovers: 0,
        }
    }

    /// Sessions so far, and how many of them were on another transport than the one before.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.sessions, self.failovers)
    }

    /// What is to be done now.
    pub(super) fn output(&self) -> Output {
        match self.state {
            State::Waiting { until } => Output::Wait(until),
            State::Connecting { transport } => Output::Connect(transport),
            State::Session { transport, probe: Probe::Running, .. } => Output::Probe { transport, probe: PREFERRED },
            State::Session { transport, probe: Probe::At(at), .. } => Output::Session { transport, probe_at: Some(at) },
            State::Session { transport, probe: Probe::Needless, .. } => Output::Session { transport, probe_at: None },
            State::Leaving { to, .. } => Output::Switch { to },
        }
    }

    /// Takes in what happened. An input that does not fit the state changes nothing. `jitter` is uniform in 0..1.
    pub(super) fn step(&mut self, input: Input, now: Duration, jitter: f64) -> Output {
        match (self.state, input) {
            (State::Waiting { until }, Input::Due) if now >= until => self.begin_round(),
            (State::Waiting { until }, Input::Poke) => {
                // A pause of our own may be cut short, one that the server asked for may not.
                let until = until.min(self.backoff.not_before().max(now));
                self.state = State::Waiting { until };
                if now >= until {
                    self.begin_round();
                }
            }
            (State::Connecting { transport }, Input::Connected) => self.begin_session(transport, now, jitter),
            (State::Connecting { transport }, Input::Failed(failure)) => self.attempt_failed(transport, failure, now, jitter),
            (State::Session { transport, since, .. }, Input::Ended(retry)) => {
                self.session_ended(transport, since, retry, now, jitter);
            }
            (State::Session { transport, since, probe: Probe::At(at) }, Input::Due) if now >= at => {
                self.state = State::Session { transport, since, probe: Probe::Running };
            }
            (State::Session { transport, since, probe: Probe::At(_) }, Input::Poke) => {
                self.state = State::Session { transport, since, probe: Probe::Running };
            }
            (State::Session { transport, since, probe: Probe::Running }, Input::ProbeFailed) => {
                let probe = self.next_probe(now, jitter);
                self.state = State::Session { transport, since, probe };
            }
            (State::Session { transport, since, probe: Probe::Running }, Input::ProbeConnected) => {
                // Should the handshake succeed but the session soon fail, the next probe comes later, not at once.
                self.probe_interval = (self.probe_interval * 2).min(PROBE_MAX);
                self.state = State::Leaving { from: transport, since, to: PREFERRED };
            }
            (State::Leaving { from, since, to }, Input::Ended(_)) => {
                self.judge(from, since, now);
                self.begin_session(to, now, jitter);
            }
            _ => {}
        }
        self.output()
    }

    fn begin_round(&mut self) {
        self.tried.fill(false);
        self.state = State::Connecting { transport: self.first };
    }

    fn begin_session(&mut self, transport: usize, now: Duration, jitter: f64) {
        self.sessions += 1;
        self.failovers += u64::from(self.last_session.is_some_and(|last| last != transport));
        self.last_session = Some(transport);
        self.first = transport;
        let probe = if transport == PREFERRED { Probe::Needless } else { self.next_probe(now, jitter) };
        self.state = State::Session { transport, since: now, probe };
    }

    /// Between a half and the whole of the interval from now, which then doubles.
    fn next_probe(&mut self, now: Duration, jitter: f64) -> Probe {
        let at = now + self.probe_interval.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        self.probe_interval = (self.probe_interval * 2).min(PROBE_MAX);
        Probe::At(at)
    }

    fn attempt_failed(&mut self, transport: usize, failure: Failure, now: Duration, jitter: f64) {
        self.tried[transport] = true;
        self.failures[transport] = self.failures[transport].saturating_add(1);
        let gives_way = match failure {
            Failure::Silent => true,
            Failure::Error => self.failures[transport] >= FAILURES_TO_GIVE_WAY,
            Failure::Later(pause) => {
                self.backoff.retry_after(now, pause, jitter);
                false
            }
        };
        let next = self.tried.iter().position(|tried| !tried);
        match next.filter(|_| gives_way) {
            Some(next) => self.state = State::Connecting { transport: next },
            None => {
                // After a whole round the preferred one is first again; otherwise the same gets its second chance.
                self.first = if gives_way { PREFERRED } else { transport };
                self.state = State::Waiting { until: self.backoff.failed(now, jitter) };
            }
        }
    }

    /// What the length of a session says about its transport.
    fn judge(&mut self, transport: usize, since: Duration, now: Duration) -> bool {
        let stable = now.saturating_sub(since) >= STABLE;
        if stable {
            self.failures[transport] = 0;
            self.backoff.reset();
            if transport == PREFERRED {
                self.probe_interval = PROBE_MIN;
            }
        }
        stable
    }

    fn session_ended(&mut self, transport: usize, since: Duration, retry: Retry, now: Duration, jitter: f64) {
        let stable = self.judge(transport, since, now);
        let until = match retry {
            Retry::Backoff => {
                if !stable {
                    self.failures[transport] = self.failures[transport].saturating_add(1);
                }
                if self.failures[transport] >= FAILURES_TO_GIVE_WAY {
                    self.first = (transport + 1) % self.failures.len();
                }
                self.backoff.failed(now, jitter)
            }
            Retry::After(pause) => {
                self.backoff.retry_after(now, pause, jitter);
                self.backoff.failed(now, jitter)
            }
            Retry::Slow => now + SLOW.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0),
        };
        self.state = State::Waiting { until };
    }
}

#[cfg(test)]
mod tests;
