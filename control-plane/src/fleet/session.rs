//! One session with one device as a pure machine: events in, effects out.
//!
//! It knows the order of frames and every limit of a session. It must never touch a socket, a database, a clock or a task:
//! the driver in `sessions` does what the effects say, one after the other, and feeds the answers back.
//!
//! ```text
//! Waiting ── Hello ──► Admitting ── Admitted ──► Open ── Hello again ──► Admitting
//!    │                     │                      │
//!    └──── refusal, timeout, Goodbye, End ────────┴──► Closed
//! ```
//! Invariants: nothing but Hello is acted on before the device is admitted; at most one intent update is unacknowledged; at
//! most [`MAX_COMMANDS`] commands are; a closed session has no effects. Every frame may come twice.

use super::ports::{IntentPosition, TwinPosition, Wish};
use super::refusal;
use aidos_protocol::artifact::Digest;
use aidos_protocol::frame::{self, Body, Command, Hello, Refused};
use aidos_protocol::{CommandId, time::Micros};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A device that has connected but says nothing holds memory; a slow link needs a few round trips at most.
const HELLO_TIMEOUT_S: i64 = 10;
/// A device writes an update to disk before it acknowledges; a slow SD card under load takes seconds, never this long.
const INTENT_ACK_TIMEOUT_S: i64 = 30;
/// Updates without an acknowledgement, and documents asked for again, before the device is judged unable.
const MAX_INTENT_TRIES: u32 = 3;
/// Commands a device has at a time, so that one stuck command leaves room for others and none of them starves the link.
pub(super) const MAX_COMMANDS: usize = 8;
/// How long after a command's end its answer is waited for before its place is given to another.
const COMMAND_GRACE_S: i64 = 30;
/// Pings that may be lost before the device counts as gone.
const LOST_PINGS: i64 = 3;

/// What the machine is set up with.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// How often a quiet device pings, in seconds.
    pub(super) keepalive_s: u32,
    /// Where devices connect from now on.
    pub(super) endpoints: frame::Endpoints,
}

/// What the plane holds of a device when it is admitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) twin: TwinPosition,
    pub(super) telemetry_seq: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The bytes of one frame came.
    Received(Bytes),
    /// The device may have its session; the answer to [`Effect::Admit`].
    Admitted(Position),
    /// The frame that answers [`Effect::ApplyStatus`], [`Effect::MergeSite`], [`Effect::StoreTelemetry`],
    /// [`Effect::Grant`] or [`Effect::Renew`].
    Answer(Body),
    /// What the device lacks, `IntentChanges` or `IntentDocument`; the answer to [`Effect::PullIntent`].
    IntentPulled(Option<Body>),
    /// The answer to [`Effect::FetchCommands`].
    CommandsPending(Vec<Command>),
    /// Somebody edited this device's intent.
    IntentChanged,
    /// A command was queued for this device.
    CommandsWaiting,
    /// Somebody was revoked, of this tenant or another.
    RevocationsChanged,
    /// The list where it is another than the device's; the answer to [`Effect::PullRevocations`].
    RevocationsPulled(Option<frame::Revocations>),
    /// Time went by.
    Tick,
    /// The session ends, by the plane's will.
    End(Refused),
}

/// What is to be done. All but `Send`, `AckIntent`, `CommandSent`, `FinishCommand` and `Close` are answered by an event.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    Send(Body),
    /// Authenticate the device, make it online and tell what the plane holds of it.
    Admit(Hello),
    /// What does the device lack whose intent stands here?
    PullIntent(IntentPosition),
    /// The device has applied everything up to here.
    AckIntent {
        at: IntentPosition,
        /// The earliest epoch of which the device has edits to send; 0: none.
        pending: u32,
    },
    ApplyStatus(frame::StatusDelta),
    MergeSite(frame::SiteChanges),
    StoreTelemetry(frame::Telemetry),
    /// Who is revoked, for a device that holds the list of this digest?
    PullRevocations(Bytes),
    FetchCommands,
    CommandSent(CommandId),
    FinishCommand(frame::CommandResult),
    Grant(Wish),
    Renew(Bytes),
    /// Flush and end the link.
    Close,
}

/// A session. See the module's documentation.
#[derive(Debug)]
pub(super) struct Session {
    settings: Settings,
    state: State,
    /// The version that frames to the device carry.
    version: u32,
    heard: Micros,
}

#[derive(Debug)]
enum State {
    Waiting,
    Admitting(Hello),
    Open(Open),
    Closed,
}

#[derive(Debug, Default)]
struct Open {
    /// Where the device's intent stands as far as it said.
    device: IntentPosition,
    /// When the update went out that is not acknowledged yet.
    in_flight: Option<Micros>,
    /// The intent changed while an update was in flight.
    stale: bool,
    /// Updates in a row that led to nothing.
    tries: u32,
    /// Digest of the list of revocations that the device has, or was sent; `None`: it takes none.
    revocations: Option<Bytes>,
    /// Commands handed over and not answered, and until when their places are held.
    commands: BTreeMap<CommandId, Micros>,
}

impl Session {
    pub(super) fn new(settings: Settings, now: Micros) -> Self {
        Self { settings, state: State::Waiting, version: frame::VERSION, heard: now }
    }

    /// The version to encode frames with.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// When to call with [`Event::Tick`] at the latest.
    pub(super) fn deadline(&self) -> Option<Micros> {
        match &self.state {
            State::Waiting => Some(self.heard.plus_seconds(HELLO_TIMEOUT_S)),
            State::Admitting(_) | State::Closed => None,
            State::Open(open) => {
                let idle = self.idle_seconds().map(|s| self.heard.plus_seconds(s));
                let ack = open.in_flight.map(|since| since.plus_seconds(INTENT_ACK_TIMEOUT_S));
                idle.into_iter().chain(ack).chain(open.commands.values().copied()).min()
            }
        }
    }

    /// Takes one event. The effects are to be done in their order.
    pub(super) fn step(&mut self, event: Event, now: Micros) -> Vec<Effect> {
        if self.is_closed() {
            return Vec::new();
        }
        match event {
            Event::Received(bytes) => self.received(bytes, now),
            Event::Admitted(position) => self.admitted(position, now),
            Event::Answer(body) => self.when_open(|_| vec![Effect::Send(body)]),
            Event::IntentPulled(update) => self.when_open(|open| open.pulled(update, now)),
            Event::CommandsPending(commands) => self.when_open(|open| open.commands_pending(commands, now)),
            Event::IntentChanged => self.when_open(Open::intent_changed),
            Event::CommandsWaiting => self.when_open(|open| open.fetch_commands()),
            Event::RevocationsChanged => self.when_open(|open| open.pull_revocations()),
            Event::RevocationsPulled(list) => self.when_open(|open| open.revocations_pulled(list)),
            Event::Tick => self.tick(now),
            Event::End(refused) => self.refuse(refused),
        }
    }

    fn when_open(&mut self, then: impl FnOnce(&mut Open) -> Vec<Effect>) -> Vec<Effect> {
        match &mut self.state {
            State::Open(open) => then(open),
            // A notice that comes before Welcome is covered by what Welcome leads to.
            _ => Vec::new(),
        }
    }

    fn refuse(&mut self, refused: Refused) -> Vec<Effect> {
        self.state = State::Closed;
        vec![Effect::Send(Body::Refused(refused)), Effect::Close]
    }

    fn received(&mut self, bytes: Bytes, now: Micros) -> Vec<Effect> {
        self.heard = now;
        let (version, body) = match frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => return self.refuse(refusal::frame(&error)),
        };
        match (&mut self.state, body) {
            (_, Body::Hello(hello)) => self.hello(hello),
            (_, Body::Goodbye(_)) => {
                self.state = State::Closed;
                vec![Effect::Send(Body::Goodbye(frame::Goodbye::default())), Effect::Close]
            }
            (State::Open(_), _) if version != self.version => {
                let agreed = self.version;
                self.refuse(refusal::version(format!("frame of version {version} in a session that agreed on {agreed}")))
            }
            (State::Open(open), body) => match open.received(body) {
                Ok(effects) => effects,
                Err(refused) => self.refuse(refused),
            },
            _ => self.refuse(refusal::malformed("a session begins with Hello")),
        }
    }

    fn hello(&mut self, hello: Hello) -> Vec<Effect> {
        let Some(version) = frame::negotiate(hello.min_version, hello.max_version) else {
            // The device must be able to read the refusal: it is written in the newest version it speaks.
            self.version = hello.max_version;
            let (min, max) = (hello.min_version, hello.max_version);
            return self.refuse(refusal::version(format!(
                "the agent speaks versions {min} to {max}, this control plane {} to {}: update the older one",
                frame::MIN_VERSION,
                frame::VERSION
            )));
        };
        self.version = version;
        self.state = State::Admitting(hello.clone());
        vec![Effect::Admit(hello)]
    }

    fn admitted(&mut self, position: Position, now: Micros) -> Vec<Effect> {
        let State::Admitting(hello) = &mut self.state else { return Vec::new() };
        let device = IntentPosition { epoch: hello.intent_epoch, heads: std::mem::take(&mut hello.intent_heads) };
        self.heard = now;
        let welcome = Body::Welcome(frame::Welcome {
            version: self.version,
            server_time_us: now.0,
            status_boot_id: position.twin.status_boot_id,
            status_seq: position.twin.status_seq,
            intent_epoch: position.twin.intent.epoch,
            intent_heads: position.twin.intent.heads,
            telemetry_seq: position.telemetry_seq,
            keepalive_s: self.settings.keepalive_s,
            endpoints: Some(self.settings.endpoints.clone()),
        });
        let revocations = Some(std::mem::take(&mut hello.revocations)).filter(|held| !held.is_empty());
        let mut open = Open { device, revocations, ..Open::default() };
        // Also when the heads are equal: the twin is the judge of what the device lacks, and a notice that came while the
        // device was being admitted is covered by this.
        let effects = [vec![Effect::Send(welcome)], open.pull_revocations(), open.pull(), open.fetch_commands()].concat();
        self.state = State::Open(open);
        effects
    }

    fn idle_seconds(&self) -> Option<i64> {
        (self.settings.keepalive_s > 0).then(|| i64::from(self.settings.keepalive_s) * LOST_PINGS)
    }

    fn tick(&mut self, now: Micros) -> Vec<Effect> {
        let idle = self.idle_seconds();
        match &mut self.state {
            State::Waiting if now >= self.heard.plus_seconds(HELLO_TIMEOUT_S) => {
                self.refuse(refusal::malformed("no Hello in time"))
            }
            State::Open(_) if idle.is_some_and(|s| now >= self.heard.plus_seconds(s)) => {
                self.state = State::Closed;
                vec![Effect::Close]
            }
            State::Open(open) => match open.tick(now) {
                Ok(effects) => effects,
                Err(refused) => self.refuse(refused),
            },
            _ => Vec::new(),
        }
    }
}

impl Open {
    fn received(&mut self, body: Body) -> Result<Vec<Effect>, Refused> {
        Ok(match body {
            Body::StatusDelta(delta) => vec![Effect::ApplyStatus(delta)],
            Body::IntentAck(ack) => self.acknowledged(ack)?,
            Body::SiteChanges(changes) => vec![Effect::MergeSite(changes)],
            Body::Telemetry(batch) => vec![Effect::StoreTelemetry(batch)],
            Body::CommandResult(result) => self.command_result(result),
            Body::ArtifactRequest(request) => match Digest::from_bytes(&request.digest) {
                Ok(digest) => vec![Effect::Grant(Wish::of(digest, &request))],
                Err(error) => vec![Effect::Send(Body::ArtifactGrant(frame::ArtifactGrant {
                    digest: request.digest,
                    error: error.to_string(),
                    ..Default::default()
                }))],
            },
            Body::RenewRequest(request) => vec![Effect::Renew(request.csr_der)],
            Body::Ping(ping) => vec![Effect::Send(Body::Pong(frame::Pong { nonce: ping.nonce }))],
            Body::Pong(_) => Vec::new(),
            Body::Hello(_) | Body::Goodbye(_) => unreachable!("the session takes these in every state"),
            Body::Welcome(_)
            | Body::Refused(_)
            | Body::StatusAck(_)
            | Body::IntentChanges(_)
            | Body::IntentDocument(_)
            | Body::SiteAck(_)
            | Body::TelemetryAck(_)
            | Body::Command(_)
            | Body::ArtifactGrant(_)
            | Body::RenewResponse(_)
            | Body::Revocations(_) => return Err(refusal::forbidden("only the control plane sends this frame")),
        })
    }

    fn pull_revocations(&self) -> Vec<Effect> {
        self.revocations.iter().map(|held| Effect::PullRevocations(held.clone())).collect()
    }

    fn revocations_pulled(&mut self, list: Option<frame::Revocations>) -> Vec<Effect> {
        let Some(list) = list else { return Vec::new() };
        let digest = frame::revocations_digest(list.devices.iter().map(|device| &device[..]));
        self.revocations = Some(digest.to_vec().into());
        vec![Effect::Send(Body::Revocations(list))]
    }

    fn pull(&mut self) -> Vec<Effect> {
        self.stale = false;
        vec![Effect::PullIntent(self.device.clone())]
    }

    fn intent_changed(&mut self) -> Vec<Effect> {
        if self.in_flight.is_some() {
            self.stale = true;
            return Vec::new();
        }
        self.pull()
    }

    fn pulled(&mut self, update: Option<Body>, now: Micros) -> Vec<Effect> {
        match update {
            // Two pulls may have been asked for before the first was answered: still one update at a time.
            Some(_) if self.in_flight.is_some() => {
                self.stale = true;
                Vec::new()
            }
            Some(update) => {
                self.in_flight = Some(now);
                vec![Effect::Send(update)]
            }
            None => Vec::new(),
        }
    }

    fn acknowledged(&mut self, ack: frame::IntentAck) -> Result<Vec<Effect>, Refused> {
        self.in_flight = None;
        if ack.resync {
            self.retry()?;
            // No heads at all: only a whole document follows from that.
            self.device = IntentPosition::default();
            return Ok(self.pull());
        }
        self.tries = 0;
        self.device = IntentPosition { epoch: ack.epoch, heads: ack.heads };
        let mut effects = vec![Effect::AckIntent { at: self.device.clone(), pending: ack.pending_epoch }];
        if self.stale {
            effects.extend(self.pull());
        }
        Ok(effects)
    }

    fn retry(&mut self) -> Result<(), Refused> {
        self.tries += 1;
        if self.tries >= MAX_INTENT_TRIES {
            return Err(refusal::malformed("the device could not take its intent; its log says why"));
        }
        Ok(())
    }

    fn fetch_commands(&self) -> Vec<Effect> {
        if self.commands.len() < MAX_COMMANDS { vec![Effect::FetchCommands] } else { Vec::new() }
    }

    fn commands_pending(&mut self, commands: Vec<Command>, now: Micros) -> Vec<Effect> {
        let mut effects = Vec::new();
        for command in commands {
            let Ok(id) = command.id.parse::<CommandId>() else { continue };
            let end = Micros(command.expires_us).plus_seconds(COMMAND_GRACE_S);
            if end <= now || self.commands.len() >= MAX_COMMANDS || self.commands.contains_key(&id) {
                continue;
            }
            self.commands.insert(id, end);
            effects.extend([Effect::Send(Body::Command(command)), Effect::CommandSent(id)]);
        }
        effects
    }

    fn command_result(&mut self, result: frame::CommandResult) -> Vec<Effect> {
        // An answer to a command of an earlier session counts as well; the queue judges it.
        let Ok(id) = result.id.parse::<CommandId>() else { return Vec::new() };
        self.commands.remove(&id);
        [vec![Effect::FinishCommand(result)], self.fetch_commands()].concat()
    }

    fn tick(&mut self, now: Micros) -> Result<Vec<Effect>, Refused> {
        let mut effects = Vec::new();
        if self.in_flight.is_some_and(|since| now >= since.plus_seconds(INTENT_ACK_TIMEOUT_S)) {
            self.in_flight = None;
            self.retry()?;
            effects.extend(self.pull());
        }
        let held = self.commands.len();
        self.commands.retain(|_, until| now < *until);
        if self.commands.len() < held {
            effects.extend(self.fetch_commands());
        }
        Ok(effects)
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
