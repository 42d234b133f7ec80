//! The loop that keeps the link: does what `failover` says, with real connections and a real clock.

use super::failover::{Failover, Failure, Input, Output, Retry};
use super::ports::{LinkControl, LinkState, Ports};
use super::session::{self, Context, End};
use super::transport::{ConnectError, Connection, Transport};
use crate::identity::Identity;
use aidos_protocol::frame::Welcome;
use aidos_protocol::time::Micros;
use std::future::pending;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Above what a transport allows itself for its handshake, name resolution included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(12);

/// Keeps a session with the control plane, over the first of `transports` wherever it works and over the others elsewhere,
/// until `shutdown`. Then the session is ended in order. Never fails: whatever goes wrong is shown in the state, and tried again.
pub async fn run(
    transports: Vec<Box<dyn Transport>>,
    ports: Ports,
    identity: Identity,
    control: LinkControl,
    shutdown: CancellationToken,
) {
    if transports.is_empty() {
        tracing::warn!("no transport is configured: this device stays offline");
        return shutdown.cancelled().await;
    }
    let link = Link {
        failover: Failover::new(transports.len()),
        errors: vec![None; transports.len()],
        last_end: String::new(),
        kept: None,
        started: Instant::now(),
        transports,
        ports,
        identity,
        control,
    };
    Box::pin(link.run(shutdown)).await;
}

struct Link {
    transports: Vec<Box<dyn Transport>>,
    ports: Ports,
    identity: Identity,
    control: LinkControl,
    failover: Failover,
    /// Why each transport did not work when it was last tried; `None` when it did.
    errors: Vec<Option<String>>,
    last_end: String,
    /// The connection that a probe made, for the next session.
    kept: Option<Connection>,
    started: Instant,
}

fn jitter() -> f64 {
    rand::random()
}

impl Link {
    async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            match self.failover.output() {
                Output::Wait(until) => self.wait(until, &shutdown).await,
                Output::Connect(transport) => self.connect(transport, &shutdown).await,
                Output::Session { transport, .. } => self.session(transport, &shutdown).await,
                Output::Probe { .. } | Output::Switch { .. } => unreachable!("only while a session runs, see `session`"),
            }
        }
    }

    fn step(&mut self, input: Input) -> Output {
        self.failover.step(input, self.started.elapsed(), jitter())
    }

    async fn wait(&mut self, until: Duration, shutdown: &CancellationToken) {
        let input = tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(self.started + until) => Input::Due,
            () = self.control.poke.notified() => Input::Poke,
            // A renewed certificate or new addresses may be what was missing.
            () = self.identity.changed() => Input::Poke,
            Some(request) = self.control.requests.recv() => return session::refuse(request),
        };
        self.step(input);
    }

    async fn connect(&mut self, index: usize, shutdown: &CancellationToken) {
        let outcome = {
            let mut attempt = Box::pin(attempt(&*self.transports[index]));
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    outcome = &mut attempt => break outcome,
                    Some(request) = self.control.requests.recv() => session::refuse(request),
                }
            }
        };
        match outcome {
            Ok(connection) => {
                self.errors[index] = None;
                self.kept = Some(connection);
                self.step(Input::Connected);
            }
            Err(error) => {
                tracing::debug!(transport = self.transports[index].name(), %error, "no connection");
                self.errors[index] = Some(error.to_string());
                self.step(Input::Failed(failure(&error)));
                self.show_offline();
            }
        }
    }

    /// Runs one session, and probes the preferred transport meanwhile if this is another.
    async fn session(&mut self, index: usize, shutdown: &CancellationToken) {
        let connection = self.kept.take().expect("a session begins with the connection that was just made");
        let name = self.transports[index].name();
        let note = self.note_for_plane();
        let leave = shutdown.child_token();
        let (sessions, failovers) = self.failover.counts();
        let why_not_first = self.errors[0].clone().filter(|_| index != 0);
        let first = self.transports[0].name();
        let (state, meter, identity) = (&self.control.state, &self.control.meter, &self.identity);
        let opened = |welcome: &Welcome| {
            let now = now();
            identity.time_told(Micros(welcome.server_time_us));
            tracing::info!(transport = name, "connected to the control plane");
            state.send_replace(LinkState {
                transport: Some(name),
                synced: false,
                since: now,
                sessions,
                failovers,
                note: why_not_first.as_ref().map(|why| format!("{first}: {why}")).unwrap_or_default(),
                clock_offset_us: Some(welcome.server_time_us.saturating_sub(now.0)),
            });
        };
        let trouble = |why: &str| state.send_modify(|state| state.note = why.to_owned());
        let (ports, requests, started) = (&self.ports, &mut self.control.requests, self.started);
        let synced = || {
            state.send_if_modified(|state| !std::mem::replace(&mut state.synced, true));
        };
        let context = Context { ports, identity, requests, meter, started, trouble: &trouble, synced: &synced };
        let mut session = Box::pin(session::run(connection, context, note, &leave, opened));
        let mut kept = None;
        let end = loop {
            let (probe_at, probe) = match self.failover.output() {
                Output::Session { probe_at, .. } => (probe_at, None),
                Output::Probe { probe, .. } => (None, Some(probe)),
                _ => (None, None),
            };
            let started = self.started;
            let input = tokio::select! {
                end = &mut session => break end,
                () = due(probe_at.map(|at| started + at)) => Input::Due,
                () = self.control.poke.notified(), if probe_at.is_some() => Input::Poke,
                outcome = probing(probe.map(|p| &*self.transports[p])) => match outcome {
                    Ok(connection) => {
                        kept = Some(connection);
                        self.errors[0] = None;
                        Input::ProbeConnected
                    }
                    Err(error) => {
                        self.errors[0] = Some(error.to_string());
                        Input::ProbeFailed
                    }
                },
            };
            if let Output::Switch { to } = self.failover.step(input, started.elapsed(), jitter()) {
                tracing::info!(from = name, to = self.transports[to].name(), "the preferred transport works again");
                leave.cancel();
            }
        };
        drop(session);
        self.kept = kept;
        self.ended(index, end);
    }

    fn ended(&mut self, index: usize, end: End) {
        let name = self.transports[index].name();
        match end.retry {
            Retry::Slow => tracing::warn!(
                transport = name,
                "{}; trying again hourly. If this device was revoked by mistake, join again with `aidos-agent join … --force`",
                end.reason
            ),
            _ => tracing::info!(transport = name, "session over: {}", end.reason),
        }
        self.last_end = format!("{name}: {}", end.reason);
        if !matches!(self.failover.output(), Output::Switch { .. }) {
            self.errors[index] = Some(end.reason);
        }
        self.step(Input::Ended(end.retry));
        self.show_offline();
    }

    fn show_offline(&self) {
        let (sessions, failovers) = self.failover.counts();
        let note = self.errors_text();
        self.control.state.send_if_modified(|state| {
            let was_online = state.transport.take().is_some();
            state.synced = false;
            let changed = was_online || state.note != note;
            if was_online || state.since == Micros::default() {
                state.since = now();
            }
            (state.sessions, state.failovers, state.note) = (sessions, failovers, note);
            changed
        });
    }

    /// Of each transport that does not work, why.
    fn errors_text(&self) -> String {
        let named = self.transports.iter().zip(&self.errors);
        let texts = named.filter_map(|(transport, error)| Some(format!("{}: {}", transport.name(), error.as_ref()?)));
        texts.collect::<Vec<_>>().join("; ")
    }

    /// What the operator reads about the time before this session.
    fn note_for_plane(&self) -> String {
        let errors = self.errors_text();
        let texts = [self.last_end.as_str(), errors.as_str()];
        let texts: Vec<&str> = texts.into_iter().filter(|t| !t.is_empty()).collect();
        // A few hundred characters tell what there is to tell.
        texts.join("; ").chars().take(400).collect()
    }
}

async fn attempt(transport: &dyn Transport) -> Result<Connection, ConnectError> {
    timeout(CONNECT_TIMEOUT, transport.connect()).await.unwrap_or(Err(ConnectError::Silent))
}

async fn probing(transport: Option<&dyn Transport>) -> Result<Connection, ConnectError> {
    match transport {
        Some(transport) => attempt(transport).await,
        None => pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

fn failure(error: &ConnectError) -> Failure {
    match error {
        ConnectError::NotOffered | ConnectError::Silent => Failure::Silent,
        ConnectError::Failed(_) => Failure::Error,
        ConnectError::Later { retry_after, .. } => Failure::Later(*retry_after),
    }
}

fn now() -> Micros {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
