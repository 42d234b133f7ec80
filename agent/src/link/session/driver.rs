//! Runs one session over a connection: feeds the machine, calls the ports, and delivers the agent's questions.
//!
//! Frames are written by a task of their own, so that two sides that both send much never wait for each other. Port calls are
//! made one after the other; commands run beside them and are never cancelled, since their effects are not.

use super::super::meter::Meter;
use super::super::ports::{LinkError, PortError, Ports, Request};
use super::super::transport::{Connection, FrameSink, FrameStream, Lost};
use super::machine::{Effect, End, Event, Session, endpoints};
use crate::identity::Identity;
use crate::link::failover::Retry;
use aidos_protocol::artifact::Digest;
use aidos_protocol::enrol::EndpointsView;
use aidos_protocol::frame::{self, ArtifactGrant, Body, CommandResult, FrameError, MAX_SAMPLES, RenewResponse, Welcome};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Frames that wait for the transport. A session has some ten in flight; more than this means that the peer does not read.
const OUTBOX: usize = 64;
/// A ledger that takes longer is stuck, and with it everything the session could do.
const PORT_TIMEOUT: Duration = Duration::from_secs(30);
/// How soon the plane is asked again for what the ledger could not keep: a person who frees space waits for it, a disk that stays full
/// costs two sessions a minute.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// For the last frames and the close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Agents that wait for one and the same artifact.
const MAX_WAITERS: usize = 32;

/// What outlives the session.
pub(in super::super) struct Context<'a> {
    pub(in super::super) ports: &'a Ports,
    pub(in super::super) identity: &'a Identity,
    pub(in super::super) requests: &'a mut mpsc::Receiver<Request>,
    /// Told of frames and round trips.
    pub(in super::super) meter: &'a Meter,
    /// What time the machine measures from.
    pub(in super::super) started: Instant,
    /// Told of what is wrong while the session goes on.
    pub(in super::super) trouble: &'a (dyn Fn(&str) + Send + Sync),
    /// Told when the control plane has taken what the device reports.
    pub(in super::super) synced: &'a (dyn Fn() + Send + Sync),
}

/// Runs the session to its end. `note` tells the plane how the one before ended; `opened` is called upon `Welcome`; `leave`
/// ends it in order.
pub(in super::super) async fn run(
    connection: Connection,
    context: Context<'_>,
    note: String,
    leave: &CancellationToken,
    opened: impl FnMut(&Welcome) + Send,
) -> End {
    let (outbox, queue) = mpsc::channel(OUTBOX);
    let times_pings = connection.gauge.is_none();
    let _measuring = context.meter.begin(connection.gauge);
    let mut writer = AbortOnDropHandle::new(tokio::spawn(write(connection.sink, queue, context.meter.clone())));
    let (executed, results) = mpsc::channel(OUTBOX);
    let mut driver = Driver {
        session: Session::new(times_pings),
        context,
        outbox,
        executed,
        grants: HashMap::new(),
        renewal: None,
        opened,
        events: VecDeque::new(),
        unkept: None,
    };
    let end = driver.drive(connection.stream, &mut writer, results, note, leave).await;
    // The writer delivers what is queued, Goodbye included, and closes.
    drop(driver);
    if !writer.is_finished() {
        let _ = timeout(CLOSE_TIMEOUT, writer).await;
    }
    end
}

/// Answers a question while there is no session.
pub(in super::super) fn refuse(request: Request) {
    // Whoever asked may have gone.
    match request {
        Request::Artifact(_, _, answer) => drop(answer.send(Err(LinkError::Offline))),
        Request::Renew(_, answer) => drop(answer.send(Err(LinkError::Offline))),
    }
}

async fn write(mut sink: Box<dyn FrameSink>, mut queue: mpsc::Receiver<Bytes>, meter: Meter) -> Result<(), Lost> {
    while let Some(frame) = queue.recv().await {
        let bytes = frame.len();
        sink.send(frame).await?;
        meter.sent(bytes);
    }
    sink.close("session over").await;
    Ok(())
}

type Waiters = Vec<oneshot::Sender<Result<ArtifactGrant, LinkError>>>;

struct Driver<'a, F> {
    session: Session,
    context: Context<'a>,
    outbox: mpsc::Sender<Bytes>,
    executed: mpsc::Sender<CommandResult>,
    grants: HashMap<Digest, Waiters>,
    renewal: Option<oneshot::Sender<Result<RenewResponse, LinkError>>>,
    opened: F,
    events: VecDeque<Event>,
    /// When to begin anew, since the ledger could not keep what came, and why.
    unkept: Option<(Instant, String)>,
}

fn broken(reason: impl ToString) -> End {
    End { reason: reason.to_string(), retry: Retry::Backoff }
}

/// Wakes with the next change; never again once nobody can change anything.
async fn news(watch: &mut watch::Receiver<u64>) {
    if watch.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn port<T>(call: impl Future<Output = Result<T, PortError>>) -> Result<T, End> {
    match timeout(PORT_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(broken(format!("this device's state: {error}"))),
        Err(_) => Err(stuck()),
    }
}

fn stuck() -> End {
    broken("this device's state does not answer; is its disk stuck?")
}

impl<F: FnMut(&Welcome) + Send> Driver<'_, F> {
    /// A write to the ledger. One that fails, most likely for a full disk, does not end the session at once: status, telemetry and
    /// commands still pass, and tell what is wrong. What was not kept is not acknowledged; a session a little later is sent it again.
    async fn keep<T>(&mut self, call: impl Future<Output = Result<T, PortError>>) -> Result<Option<T>, End> {
        match timeout(PORT_TIMEOUT, call).await {
            Ok(Err(error)) => {
                if self.unkept.is_none() {
                    let why = format!("this device's state: {error}");
                    tracing::warn!("{why}; the control plane is asked again in {} s", ASK_AGAIN.as_secs());
                    (self.context.trouble)(&why);
                    self.unkept = Some((Instant::now() + ASK_AGAIN, why));
                }
                Ok(None)
            }
            Ok(Ok(value)) => Ok(Some(value)),
            Err(_) => Err(stuck()),
        }
    }

    async fn drive(
        &mut self,
        mut stream: Box<dyn FrameStream>,
        writer: &mut AbortOnDropHandle<Result<(), Lost>>,
        mut results: mpsc::Receiver<CommandResult>,
        note: String,
        leave: &CancellationToken,
    ) -> End {
        let ports = self.context.ports;
        let (mut status, mut site, mut spool) = (ports.status.changed(), ports.intent.changed(), ports.spool.changed());
        let positions = async { Ok::<_, PortError>((ports.status.position().await?, ports.intent.position().await?)) };
        match port(positions).await {
            Ok((status, intent)) => {
                let revocations = ports.revocations.digest();
                self.events.push_back(Event::Begin { status, intent, revocations, note });
            }
            Err(end) => return end,
        }
        loop {
            if let Err(end) = self.work().await {
                return end;
            }
            let due = self.session.deadline().map(|d| self.context.started + d);
            let open = self.session.is_open();
            let again = self.unkept.as_ref().map(|(at, _)| *at);
            let event = tokio::select! {
                () = leave.cancelled() => Event::Leave("leaving".into()),
                frame = stream.next() => match frame.map(|f| f.map(|frame| self.decode(frame))) {
                    Ok(Some(Ok((_, body)))) => Event::Frame(body),
                    Ok(Some(Err(error))) => return broken(format!("the control plane sent what is not a frame: {error}")),
                    Ok(None) => return broken("the control plane closed the connection"),
                    Err(lost) => return broken(lost),
                },
                lost = &mut *writer => match lost {
                    Ok(Err(lost)) => return broken(lost),
                    _ => return broken("the connection's writer stopped"),
                },
                Some(result) = results.recv() => Event::Executed(result),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Tick,
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    return broken(self.unkept.take().map_or_else(String::new, |(_, why)| why));
                }
                () = news(&mut status), if open => Event::StatusChanged,
                () = news(&mut site), if open => Event::SiteChanged,
                () = news(&mut spool), if open => Event::SpoolChanged,
                Some(request) = self.context.requests.recv(), if open => match self.asked(request) {
                    Some(event) => event,
                    None => continue,
                },
            };
            self.events.push_back(event);
        }
    }

    fn decode(&self, frame: Bytes) -> Result<(u32, Body), FrameError> {
        self.context.meter.received(frame.len());
        frame::decode(frame)
    }

    /// Works off all events and what follows from them.
    async fn work(&mut self) -> Result<(), End> {
        while let Some(event) = self.events.pop_front() {
            let now = self.context.started.elapsed();
            for effect in self.session.step(event, now) {
                self.act(effect).await?;
            }
        }
        Ok(())
    }

    /// Takes a question of the agent's; the event to feed the machine with, unless one is on its way already.
    fn asked(&mut self, request: Request) -> Option<Event> {
        match request {
            Request::Artifact(digest, held, answer) => {
                let waiters = self.grants.entry(digest).or_default();
                if waiters.len() >= MAX_WAITERS {
                    let _ = answer.send(Err(LinkError::Busy));
                    return None;
                }
                waiters.push(answer);
                (waiters.len() == 1).then_some(Event::Artifact(digest, held))
            }
            Request::Renew(_, answer) if self.renewal.is_some() => {
                let _ = answer.send(Err(LinkError::Busy));
                None
            }
            Request::Renew(csr, answer) => {
                self.renewal = Some(answer);
                Some(Event::Renew(csr))
            }
        }
    }

    async fn act(&mut self, effect: Effect) -> Result<(), End> {
        let ports = self.context.ports;
        match effect {
            Effect::Send(body) => {
                let frame = frame::encode(self.session.version(), body).map_err(|e| broken(format!("a frame of ours: {e}")))?;
                self.outbox.try_send(frame).map_err(|_| broken("the control plane does not read what this device sends"))?;
            }
            Effect::Opened(welcome) => {
                (self.opened)(&welcome);
                self.take_endpoints(&welcome).await;
            }
            Effect::ReadStatus(acked) => self.events.push_back(Event::Status(port(ports.status.delta_since(acked)).await?)),
            // What was acknowledged and still stands in the ledger would be sent again and again.
            Effect::ReadSite if self.unkept.is_some() => {}
            Effect::ReadSite => self.events.push_back(Event::Site(port(ports.intent.pending_site_changes()).await?)),
            Effect::ReadBatch { after } => {
                self.events.push_back(Event::Batch(port(ports.spool.batch(after, MAX_SAMPLES)).await?));
            }
            Effect::ApplyChanges(changes) => {
                let applied = self.keep(ports.intent.apply_changes(changes)).await?;
                self.events.extend(applied.map(Event::IntentApplied));
            }
            Effect::ApplyDocument(document) => {
                let applied = self.keep(ports.intent.apply_document(document)).await?;
                self.events.extend(applied.map(Event::IntentApplied));
            }
            Effect::StatusAcked(ack) => {
                port(ports.status.ack(ack)).await?;
                (self.context.synced)();
            }
            Effect::SiteAcked(ack) => drop(self.keep(ports.intent.site_ack(ack)).await?),
            Effect::SpoolAcked(seq) => drop(self.keep(ports.spool.ack(seq)).await?),
            Effect::Execute(command) => {
                let (commands, executed) = (ports.commands.clone(), self.executed.clone());
                tokio::spawn(async move {
                    let result = commands.execute(command).await;
                    // If the session is over the result stays recorded, and is asked for again.
                    let _ = executed.send(result).await;
                });
            }
            Effect::Granted(grant) => {
                let waiters = Digest::from_bytes(&grant.digest).ok().and_then(|digest| self.grants.remove(&digest));
                let error = (!grant.error.is_empty()).then(|| LinkError::Refused(grant.error.chars().take(300).collect()));
                for waiter in waiters.unwrap_or_default() {
                    let _ = waiter.send(error.clone().map_or_else(|| Ok(grant.clone()), Err));
                }
            }
            // Dropped senders tell whoever waits that no answer came.
            Effect::GrantTimedOut(digest) => drop(self.grants.remove(&digest)),
            Effect::RenewTimedOut => drop(self.renewal.take()),
            Effect::Renewed(response) => {
                if let Some(waiter) = self.renewal.take() {
                    let refused = !response.error.is_empty();
                    let _ = waiter.send(if refused { Err(LinkError::Refused(response.error)) } else { Ok(response) });
                }
            }
            Effect::RoundTrip(took) => self.context.meter.round_trip(took),
            Effect::Revoked(list) => drop(self.keep(ports.revocations.replace(list)).await?),
            Effect::End(end) => return Err(end),
        }
        Ok(())
    }

    async fn take_endpoints(&self, welcome: &Welcome) {
        let Some(told) = endpoints(welcome) else { return };
        let (api_url, quic, mqtt) = (told.api_url.clone(), told.quic.clone(), told.mqtt.clone());
        let told = EndpointsView { api_url, quic, mqtt, trust: told.trust.clone() };
        if let Err(error) = self.context.identity.install(None, told).await {
            tracing::warn!(%error, "the control plane's new addresses could not be kept");
        }
    }
}
