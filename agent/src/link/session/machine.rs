//! What to do with each frame, piece of news and passing of time in a session. Pure; time is a [`Duration`] since any fixed point.
//!
//! Of status, site changes and telemetry there is at most one frame in flight each, and the next is read from its port only
//! after the acknowledgement: a slow plane slows the device down instead of filling its memory. Each has its own flight, so a
//! stuck one does not hold up the others. Everything waited for has a deadline.

use super::super::failover::Retry;
use super::super::ports::{Held, IntentPosition, StatusPosition};
use super::flow::Flow;
use aidos_protocol::artifact::Digest;
use aidos_protocol::frame::{
    self, ArtifactGrant, ArtifactRequest, Body, Command, CommandResult, Endpoints, Goodbye, Hello, IntentAck, IntentChanges,
    IntentDocument, MAX_BASES, Ping, Pong, RenewRequest, RenewResponse, Revocations, SiteAck, SiteChanges, StatusAck,
    StatusDelta, Telemetry, Welcome, refused,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// From `Hello` to `Welcome`: the plane reads one device from its store.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);
/// What the agent asks of the plane is answered from memory or one query.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Beyond the interval that the plane asked for: the slowest link that is still of use.
const PONG_TIMEOUT: Duration = Duration::from_secs(15);
/// The least time between two round trips that are timed for their own sake: a ping goes along with telemetry, so that no device
/// is woken for it, and both ways together take some 100 bytes.
const TIME_EVERY: Duration = Duration::from_secs(60);
/// Commands that run at once. A hung one must not block the others; more would compete with inference for memory.
const MAX_RUNNING: usize = 8;
/// A command that takes longer gives its place away; its result still reaches the plane when it ends.
const COMMAND_SLOT: Duration = Duration::from_secs(600);
/// Commands that wait for a place. The plane keeps those that are refused.
const MAX_WAITING: usize = 64;
/// Two agents with one identity would otherwise throw each other out without end.
const REPLACED_PAUSE: Duration = Duration::from_secs(60);
/// A frame of ours that the plane cannot read is a defect that a quick retry does not mend.
const DEFECT_PAUSE: Duration = Duration::from_secs(300);

/// The session is over, and when another may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct End {
    pub(in super::super) reason: String,
    pub(in super::super) retry: Retry,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    Begin {
        status: StatusPosition,
        intent: IntentPosition,
        revocations: [u8; 32],
        note: String,
    },
    Frame(Body),
    StatusChanged,
    SiteChanged,
    SpoolChanged,
    Status(Option<StatusDelta>),
    Site(Option<SiteChanges>),
    Batch(Option<Telemetry>),
    IntentApplied(IntentAck),
    Executed(CommandResult),
    Artifact(Digest, Held),
    Renew(Vec<u8>),
    /// Time has passed.
    Tick,
    /// The agent wants to go, for this reason.
    Leave(String),
}

/// What the driver has to do.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    Send(Body),
    Opened(Welcome),
    ReadStatus(Option<StatusPosition>),
    ReadSite,
    ReadBatch { after: u64 },
    ApplyChanges(IntentChanges),
    ApplyDocument(IntentDocument),
    StatusAcked(StatusAck),
    SiteAcked(SiteAck),
    SpoolAcked(u64),
    Execute(Command),
    Granted(ArtifactGrant),
    GrantTimedOut(Digest),
    Renewed(RenewResponse),
    RenewTimedOut,
    RoundTrip(Duration),
    Revoked(Revocations),
    End(End),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Opening { deadline: Duration },
    Open,
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct SentStatus {
    position: StatusPosition,
    full: bool,
}

/// The machine of one session.
#[derive(Debug)]
pub(super) struct Session {
    phase: Phase,
    version: u32,
    status: Flow<SentStatus>,
    /// What the plane holds of the status.
    status_acked: Option<StatusPosition>,
    site: Flow<()>,
    spool: Flow<()>,
    spool_acked: u64,
    running: BTreeMap<String, Duration>,
    waiting: VecDeque<Command>,
    grants: BTreeMap<Digest, Duration>,
    renewal: Option<Duration>,
    keepalive: Option<Duration>,
    last_heard: Duration,
    /// Nonce and deadline of the ping that waits for its answer.
    ping: Option<(u64, Duration)>,
    pings: u64,
    /// Whether the transport leaves it to the session to time round trips.
    times_pings: bool,
    /// Nonce of the newest ping, and when it was sent; its answer, however late, is a round trip.
    timing: Option<(u64, Duration)>,
    /// When the newest ping was sent.
    timed: Option<Duration>,
}

impl Session {
    /// `times_pings`: the transport does not measure its round trip itself.
    pub(super) fn new(times_pings: bool) -> Self {
        Self {
            phase: Phase::New,
            version: frame::VERSION,
            status: Flow::new(),
            status_acked: None,
            site: Flow::new(),
            spool: Flow::new(),
            spool_acked: 0,
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            grants: BTreeMap::new(),
            renewal: None,
            keepalive: None,
            last_heard: Duration::ZERO,
            ping: None,
            pings: 0,
            times_pings,
            timing: None,
            timed: None,
        }
    }

    /// The version that frames are sent with.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Whether `Welcome` has come and nothing has ended the session.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// When a [`Event::Tick`] is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let opening = match self.phase {
            Phase::Opening { deadline } => Some(deadline),
            _ => None,
        };
        let next_ping = self.keepalive.map(|interval| self.ping.map_or(self.last_heard + interval, |(_, deadline)| deadline));
        let flows = [opening, self.status.deadline(), self.site.deadline(), self.spool.deadline(), self.renewal, next_ping];
        flows.into_iter().flatten().chain(self.grants.values().copied()).chain(self.running.values().copied()).min()
    }

    /// Takes in what happened, and says what to do, in order. After [`Effect::End`] nothing more comes.
    pub(super) fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        match (self.phase, event) {
            (Phase::Ended, _) => Vec::new(),
            (Phase::New, Event::Begin { status, intent, revocations, note }) => {
                self.phase = Phase::Opening { deadline: now + WELCOME_TIMEOUT };
                vec![Effect::Send(hello(status, intent, revocations, note))]
            }
            (_, Event::Leave(reason)) => {
                let goodbye = Goodbye { reason: reason.clone(), retry_after_ms: 0 };
                let mut effects = self.end(reason, Retry::Backoff);
                effects.insert(0, Effect::Send(Body::Goodbye(goodbye)));
                effects
            }
            (_, Event::Tick) => self.tick(now),
            (_, Event::Frame(body)) => {
                self.last_heard = now;
                self.ping = None;
                self.frame(body, now)
            }
            (Phase::Open, event) => self.news(event, now),
            _ => Vec::new(),
        }
    }

    fn end(&mut self, reason: impl Into<String>, retry: Retry) -> Vec<Effect> {
        self.phase = Phase::Ended;
        vec![Effect::End(End { reason: reason.into(), retry })]
    }

    fn frame(&mut self, body: Body, now: Duration) -> Vec<Effect> {
        match (self.phase, body) {
            (Phase::Opening { .. }, Body::Welcome(welcome)) => self.open(welcome, now),
            (phase, Body::Refused(refused)) => self.refused(&refused, matches!(phase, Phase::Open)),
            (_, Body::Goodbye(bye)) => {
                let retry = after(bye.retry_after_ms).unwrap_or(Retry::Backoff);
                self.end(format!("the control plane said goodbye: {}", short(&bye.reason)), retry)
            }
            (_, Body::Ping(ping)) => vec![Effect::Send(Body::Pong(Pong { nonce: ping.nonce }))],
            (Phase::Open, body) => self.open_frame(body, now),
            // MQTT may deliver what was meant for the session before this one.
            _ => Vec::new(),
        }
    }

    fn open(&mut self, welcome: Welcome, now: Duration) -> Vec<Effect> {
        if !(frame::MIN_VERSION..=frame::VERSION).contains(&welcome.version) {
            return self.end(format!("the control plane chose version {}, which was not offered", welcome.version), Retry::Slow);
        }
        self.phase = Phase::Open;
        self.version = welcome.version;
        let held = StatusPosition { boot_id: welcome.status_boot_id, seq: welcome.status_seq };
        self.status_acked = (held != StatusPosition::default()).then_some(held);
        self.spool_acked = welcome.telemetry_seq;
        self.keepalive = (welcome.keepalive_s > 0).then(|| Duration::from_secs(welcome.keepalive_s.into()));
        let mut effects = vec![Effect::Opened(welcome)];
        if self.spool_acked > 0 {
            effects.push(Effect::SpoolAcked(self.spool_acked));
        }
        for event in [Event::StatusChanged, Event::SiteChanged, Event::SpoolChanged] {
            effects.extend(self.news(event, now));
        }
        effects
    }

    fn refused(&mut self, refused: &frame::Refused, open: bool) -> Vec<Effect> {
        use refused::Code;
        let reason = format!("the control plane refused ({}): {}", refused.code().as_str_name(), short(&refused.message));
        let asked = after(refused.retry_after_ms);
        match refused.code() {
            Code::Revoked | Code::UnknownDevice | Code::Version => self.end(reason, Retry::Slow),
            Code::Forbidden if !open => self.end(reason, asked.unwrap_or(Retry::Slow)),
            Code::Replaced => self.end(reason, Retry::After(REPLACED_PAUSE.max(Duration::from_millis(refused.retry_after_ms)))),
            Code::Malformed | Code::TooLarge => self.end(reason, asked.unwrap_or(Retry::After(DEFECT_PAUSE))),
            // One frame was refused, not the session. What it carried runs into its own deadline.
            Code::Forbidden => {
                tracing::warn!("{reason}");
                Vec::new()
            }
            Code::Overloaded | Code::ShuttingDown | Code::Internal | Code::Unspecified => {
                self.end(reason, asked.unwrap_or(Retry::Backoff))
            }
        }
    }

    fn open_frame(&mut self, body: Body, now: Duration) -> Vec<Effect> {
        match body {
            Body::StatusAck(ack) => self.status_ack(ack),
            Body::IntentChanges(changes) => vec![Effect::ApplyChanges(changes)],
            Body::IntentDocument(document) => vec![Effect::ApplyDocument(document)],
            Body::SiteAck(ack) => {
                // Even one that nobody waits for is passed on: it may answer the session before this.
                let awaited = self.site.in_flight().is_some();
                let mut effects = vec![Effect::SiteAcked(ack)];
                if awaited {
                    self.site.landed();
                    effects.push(Effect::ReadSite);
                }
                effects
            }
            Body::TelemetryAck(ack) => {
                if ack.seq <= self.spool_acked {
                    return Vec::new();
                }
                self.spool_acked = ack.seq;
                let mut effects = vec![Effect::SpoolAcked(ack.seq)];
                if self.spool.in_flight().is_some() {
                    self.spool.landed();
                    effects.push(Effect::ReadBatch { after: ack.seq });
                }
                effects
            }
            Body::Command(command) => self.command(command, now),
            Body::ArtifactGrant(grant) => {
                if let Ok(digest) = Digest::from_bytes(&grant.digest) {
                    self.grants.remove(&digest);
                }
                vec![Effect::Granted(grant)]
            }
            Body::RenewResponse(response) => {
                if self.renewal.take().is_some() {
                    vec![Effect::Renewed(response)]
                } else {
                    Vec::new()
                }
            }
            Body::Revocations(list) => vec![Effect::Revoked(list)],
            // Beyond its round trip, a Pong has done its work by being heard.
            Body::Pong(pong) => {
                let timing = self.timing.take_if(|(nonce, _)| *nonce == pong.nonce);
                timing.map(|(_, sent)| Effect::RoundTrip(now.saturating_sub(sent))).into_iter().collect()
            }
            // A second Welcome and frames of the other direction mean nothing here.
            _ => Vec::new(),
        }
    }

    fn status_ack(&mut self, ack: StatusAck) -> Vec<Effect> {
        let Some(sent) = self.status.in_flight().copied() else { return Vec::new() };
        let position = StatusPosition { boot_id: ack.boot_id, seq: ack.seq };
        if ack.resync {
            if sent.full {
                return self.end("the control plane asks for the full status although it was sent", Retry::Backoff);
            }
            self.status_acked = None;
        } else if position < sent.position {
            // Of an earlier frame, delivered twice.
            return Vec::new();
        } else {
            self.status_acked = Some(position);
        }
        self.status.landed();
        vec![Effect::StatusAcked(ack), Effect::ReadStatus(self.status_acked)]
    }

    fn command(&mut self, command: Command, now: Duration) -> Vec<Effect> {
        if self.running.contains_key(&command.id) || self.waiting.iter().any(|c| c.id == command.id) {
            return Vec::new();
        }
        if self.running.len() < MAX_RUNNING {
            self.running.insert(command.id.clone(), now + COMMAND_SLOT);
            return vec![Effect::Execute(command)];
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(command);
            return Vec::new();
        }
        let message = format!("{MAX_WAITING} commands already wait on this device; send it again later");
        let outcome = frame::command_result::Outcome::Refused.into();
        vec![Effect::Send(Body::CommandResult(CommandResult { id: command.id, outcome, message, ..CommandResult::default() }))]
    }

    fn news(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::StatusChanged if self.status.wants_read() => vec![Effect::ReadStatus(self.status_acked)],
            Event::SiteChanged if self.site.wants_read() => vec![Effect::ReadSite],
            Event::SpoolChanged if self.spool.wants_read() => vec![Effect::ReadBatch { after: self.spool_acked }],
            Event::Status(Some(delta)) => {
                let position = StatusPosition { boot_id: delta.boot_id, seq: delta.seq };
                self.status.sent(SentStatus { position, full: delta.full }, now);
                vec![Effect::Send(Body::StatusDelta(delta))]
            }
            Event::Status(None) => self.status.nothing().then_some(Effect::ReadStatus(self.status_acked)).into_iter().collect(),
            Event::Site(Some(changes)) => {
                self.site.sent((), now);
                vec![Effect::Send(Body::SiteChanges(changes))]
            }
            Event::Site(None) => self.site.nothing().then_some(Effect::ReadSite).into_iter().collect(),
            Event::Batch(Some(batch)) => {
                self.spool.sent((), now);
                let due = self.times_pings && self.timed.is_none_or(|sent| now >= sent + TIME_EVERY);
                // Ahead of the batch, whose storing is no part of the way there and back.
                let ping = due.then(|| self.timed_ping(now));
                ping.into_iter().chain([Effect::Send(Body::Telemetry(batch))]).collect()
            }
            Event::Batch(None) => {
                let after = self.spool_acked;
                self.spool.nothing().then_some(Effect::ReadBatch { after }).into_iter().collect()
            }
            Event::IntentApplied(ack) => vec![Effect::Send(Body::IntentAck(ack))],
            Event::Executed(result) => {
                self.running.remove(&result.id);
                let mut effects = vec![Effect::Send(Body::CommandResult(fitting(result)))];
                effects.extend(self.next_command(now));
                effects
            }
            Event::Artifact(digest, held) => {
                let asked = self.grants.insert(digest, now + ANSWER_TIMEOUT).is_some();
                let bytes = |digest: &Digest| digest.as_bytes().to_vec().into();
                let request = Body::ArtifactRequest(ArtifactRequest {
                    digest: bytes(&digest),
                    bases: held.bases.iter().take(MAX_BASES).map(bytes).collect(),
                    window_log: held.window_log.into(),
                });
                if asked { Vec::new() } else { vec![Effect::Send(request)] }
            }
            Event::Renew(csr_der) => {
                self.renewal = Some(now + ANSWER_TIMEOUT);
                vec![Effect::Send(Body::RenewRequest(RenewRequest { csr_der: csr_der.into() }))]
            }
            _ => Vec::new(),
        }
    }

    fn next_command(&mut self, now: Duration) -> Option<Effect> {
        if self.running.len() >= MAX_RUNNING {
            return None;
        }
        let command = self.waiting.pop_front()?;
        self.running.insert(command.id.clone(), now + COMMAND_SLOT);
        Some(Effect::Execute(command))
    }

    fn tick(&mut self, now: Duration) -> Vec<Effect> {
        let due = |deadline: Option<Duration>| deadline.is_some_and(|d| now >= d);
        if let Phase::Opening { deadline } = self.phase
            && now >= deadline
        {
            return self.end("the control plane did not answer Hello", Retry::Backoff);
        }
        for (what, deadline) in [
            ("status", self.status.deadline()),
            ("site edits", self.site.deadline()),
            ("telemetry", self.spool.deadline()),
            ("a ping", self.ping.map(|(_, deadline)| deadline)),
        ] {
            if due(deadline) {
                return self.end(format!("the control plane did not acknowledge {what} in time"), Retry::Backoff);
            }
        }
        let mut effects = Vec::new();
        self.grants.retain(|digest, deadline| {
            let keep = now < *deadline;
            if !keep {
                effects.push(Effect::GrantTimedOut(*digest));
            }
            keep
        });
        if due(self.renewal) {
            self.renewal = None;
            effects.push(Effect::RenewTimedOut);
        }
        self.running.retain(|_, deadline| now < *deadline);
        while let Some(effect) = self.next_command(now) {
            effects.push(effect);
        }
        if let Some(interval) = self.keepalive
            && self.ping.is_none()
            && now >= self.last_heard + interval
        {
            effects.push(self.timed_ping(now));
            self.ping = Some((self.pings, now + PONG_TIMEOUT));
        }
        effects
    }

    fn timed_ping(&mut self, now: Duration) -> Effect {
        self.pings += 1;
        (self.timing, self.timed) = (Some((self.pings, now)), Some(now));
        Effect::Send(Body::Ping(Ping { nonce: self.pings }))
    }
}

fn hello(status: StatusPosition, intent: IntentPosition, revocations: [u8; 32], transport_note: String) -> Body {
    Body::Hello(Hello {
        min_version: frame::MIN_VERSION,
        max_version: frame::VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: status.boot_id,
        status_seq: status.seq,
        intent_epoch: intent.epoch,
        intent_heads: intent.heads.into_iter().map(Into::into).collect(),
        transport_note,
        revocations: revocations.to_vec().into(),
    })
}

fn after(milliseconds: u64) -> Option<Retry> {
    (milliseconds > 0).then(|| Retry::After(Duration::from_millis(milliseconds)))
}

/// A text from outside, at a length that a log bears.
fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

/// A result that does not fit a frame is replaced by one that says so: the command did run.
fn fitting(result: CommandResult) -> CommandResult {
    // Each field has a few bytes of its own.
    let texts = result.id.len() + result.message.len() + result.content_type.len();
    if texts + result.payload.len() + 128 <= frame::MAX_FRAME_BYTES {
        return result;
    }
    CommandResult {
        id: result.id,
        outcome: frame::command_result::Outcome::Failed.into(),
        message: format!("the answer has {} bytes, more than one frame takes; ask the device over HTTP", result.payload.len()),
        ..CommandResult::default()
    }
}

/// New endpoints as far as `welcome` names any.
pub(super) fn endpoints(welcome: &Welcome) -> Option<&Endpoints> {
    welcome.endpoints.as_ref().filter(|e| **e != Endpoints::default())
}

#[cfg(test)]
mod tests;
