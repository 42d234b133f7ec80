//! Drives sessions: does what the machine in `session` says, one effect after the other, and feeds the answers back.
//!
//! One task per session, no queue between sessions: a slow device slows down itself. Whatever fails here ends the session
//! with a time to come back, and the device then continues from what both sides have stored. This must never decide what
//! a frame means.

use super::devices::Devices;
use super::live::{Live, Mailbox, Note};
use super::ports::{ArtifactSource, CommandQueue, Peer, TelemetrySink, TrustSource, TwinFault, TwinSource};
use super::refusal;
use super::renew::Renewal;
use super::session::{Effect, Event, MAX_COMMANDS, Position, Session, Settings};
use crate::platform::clock::Clock;
use crate::platform::db::StoreError;
use aidos_protocol::frame::{self, Body, FrameError, Hello, Refused};
use aidos_protocol::time::Micros;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A device that takes no frame for so long is gone, or hostile.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// The reason of an end is a courtesy: a revoked device that takes no frames is not waited for.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a connected device's `last_seen` is written: minutes are enough for people, and the database is spared.
const TOUCH_EVERY_S: i64 = 300;

/// What a transport hands to a session: the bytes of a frame, or why there are none.
pub(super) type Incoming = Result<Bytes, FrameError>;

/// How sessions are held.
#[derive(Debug, Clone)]
pub(crate) struct SessionSettings {
    /// Devices connected at a time, over all transports.
    pub(crate) limit: usize,
    /// How often a quiet device pings. A minute keeps most NAT bindings open and costs 190 KB a day.
    pub(crate) keepalive_s: u32,
    /// Where devices connect from now on.
    pub(crate) endpoints: frame::Endpoints,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { limit: 50_000, keepalive_s: 60, endpoints: frame::Endpoints::default() }
    }
}

/// What sessions call.
pub(crate) struct SessionPorts {
    /// Who may connect.
    pub(crate) devices: Devices,
    /// Intent and status.
    pub(crate) twins: Arc<dyn TwinSource>,
    /// Commands.
    pub(crate) commands: Arc<dyn CommandQueue>,
    /// Telemetry.
    pub(crate) telemetry: Arc<dyn TelemetrySink>,
    /// Artifacts.
    pub(crate) artifacts: Arc<dyn ArtifactSource>,
    /// Update repositories.
    pub(crate) trust: Arc<dyn TrustSource>,
    /// Certificates.
    pub(crate) renewal: Renewal,
}

/// The handle that transports run sessions with.
#[derive(Clone)]
pub(crate) struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    live: Live,
    clock: Clock,
    ports: SessionPorts,
    settings: SessionSettings,
}

/// What doing an effect led to.
enum Done {
    Nothing,
    Then(Box<Event>),
    /// The link is gone.
    Over,
}

impl Done {
    fn then(event: Event) -> Self {
        Self::Then(Box::new(event))
    }
}

impl Sessions {
    /// Sessions that are known to `live`, which others notify and disconnect them through.
    pub(crate) fn new(live: Live, clock: Clock, ports: SessionPorts, settings: SessionSettings) -> Self {
        Self { inner: Arc::new(Inner { live, clock, ports, settings }) }
    }

    /// Runs one session over a link, until either side ends it. On return `outgoing` is dropped: the transport then sends
    /// what is left in it and closes.
    pub(super) async fn run(&self, peer: Peer, incoming: mpsc::Receiver<Incoming>, outgoing: mpsc::Sender<Bytes>) {
        let now = self.inner.clock.now();
        let trust = self.inner.ports.trust.repository(peer.tenant);
        let endpoints = frame::Endpoints { trust, ..self.inner.settings.endpoints.clone() };
        let settings = Settings { keepalive_s: self.inner.settings.keepalive_s, endpoints };
        let mut driver = Driver {
            inner: &self.inner,
            peer: &peer,
            session: Session::new(settings, now),
            mailbox: None,
            outgoing,
            touched: now,
        };
        driver.drive(incoming).await;
        if let Some(mailbox) = driver.mailbox.take() {
            if let Err(error) = self.inner.ports.devices.mark_offline(&peer, mailbox.session).await {
                tracing::warn!(device = %peer.device, %error, "a device could not be marked offline");
            }
            self.inner.live.leave(peer.device, &mailbox);
            tracing::info!(device = %peer.device, transport = %peer.transport, "session ended");
        }
    }
}

struct Driver<'a> {
    inner: &'a Inner,
    peer: &'a Peer,
    session: Session,
    /// Ours from the device's admission on.
    mailbox: Option<Arc<Mailbox>>,
    outgoing: mpsc::Sender<Bytes>,
    touched: Micros,
}

impl Driver<'_> {
    async fn drive(&mut self, mut incoming: mpsc::Receiver<Incoming>) {
        while !self.session.is_closed() {
            let event = tokio::select! {
                biased;
                note = note(self.mailbox.as_deref()) => match note {
                    Note::End(refused) => Event::End(refused),
                    Note::IntentChanged => Event::IntentChanged,
                    Note::CommandsWaiting => Event::CommandsWaiting,
                    Note::RevocationsChanged => Event::RevocationsChanged,
                },
                frame = incoming.recv() => match frame {
                    Some(Ok(bytes)) => Event::Received(bytes),
                    Some(Err(error)) => Event::End(refusal::frame(&error)),
                    None => return,
                },
                () = sleep_until(self.inner.clock.now(), self.session.deadline()) => Event::Tick,
            };
            self.touch(&event).await;
            let mut effects = VecDeque::from(self.session.step(event, self.inner.clock.now()));
            while let Some(effect) = effects.pop_front() {
                match self.perform(effect).await {
                    Done::Nothing => {}
                    Done::Then(event) => effects.extend(self.session.step(*event, self.inner.clock.now())),
                    Done::Over => return,
                }
            }
        }
    }

    async fn perform(&mut self, effect: Effect) -> Done {
        let effect = match effect {
            Effect::Send(body) => return self.send(body).await,
            // The loop ends on the machine's state.
            Effect::Close => return Done::Nothing,
            Effect::Admit(hello) => {
                return Done::then(match self.admit(hello).await {
                    Ok(position) => Event::Admitted(position),
                    Err(refused) => Event::End(refused),
                });
            }
            other => other,
        };
        match self.call(effect).await {
            Ok(done) => done,
            Err(CallError::Twin(TwinFault::Refused(why))) => Done::then(Event::End(refusal::malformed(why))),
            Err(error) => {
                tracing::warn!(device = %self.peer.device, %error, "a session ends because of the control plane");
                Done::then(Event::End(refusal::internal()))
            }
        }
    }

    async fn admit(&mut self, hello: Hello) -> Result<Position, Refused> {
        let Peer { tenant, device, ref key_id, .. } = *self.peer;
        // First into the registry, then the look at the row: a revocation that comes between finds the session.
        let session = match &self.mailbox {
            Some(mailbox) => mailbox.session,
            None => {
                let mailbox = self.inner.live.open(device, self.inner.settings.limit)?;
                self.mailbox.insert(mailbox).session
            }
        };
        let ports = &self.inner.ports;
        ports.devices.authenticate(tenant, device, key_id.as_deref()).await.map_err(|denied| denied.refused())?;
        let internal = |error: &dyn std::fmt::Display| {
            tracing::warn!(%device, %error, "a device could not be admitted");
            refusal::internal()
        };
        let twin = ports.twins.position(tenant, device).await.map_err(|e| internal(&e))?;
        let telemetry_seq = ports.telemetry.highest(tenant, device).await.map_err(|e| internal(&e))?;
        ports.devices.mark_online(self.peer, session, &hello.agent_version).await.map_err(|denied| denied.refused())?;
        let Peer { transport, ref address, .. } = *self.peer;
        tracing::info!(%device, %transport, %address, note = %hello.transport_note, "session began");
        Ok(Position { twin, telemetry_seq })
    }

    /// The effects that ask the ports.
    async fn call(&self, effect: Effect) -> Result<Done, CallError> {
        let Peer { tenant, device, .. } = *self.peer;
        let ports = &self.inner.ports;
        Ok(match effect {
            Effect::PullIntent(at) => Done::then(Event::IntentPulled(ports.twins.pull(tenant, device, &at).await?)),
            Effect::AckIntent { at, pending } => {
                ports.twins.ack(tenant, device, &at, pending).await?;
                Done::Nothing
            }
            Effect::ApplyStatus(delta) => {
                let ack = ports.twins.apply_status(tenant, device, delta).await?;
                Done::then(Event::Answer(Body::StatusAck(ack)))
            }
            Effect::MergeSite(changes) => {
                let keys = ports.devices.keys(tenant, device).await?;
                let ack = ports.twins.merge_site(tenant, device, changes, &keys).await?;
                Done::then(Event::Answer(Body::SiteAck(ack)))
            }
            Effect::StoreTelemetry(batch) => {
                let seq = ports.telemetry.store(tenant, device, batch).await?;
                Done::then(Event::Answer(Body::TelemetryAck(frame::TelemetryAck { seq })))
            }
            Effect::FetchCommands => {
                Done::then(Event::CommandsPending(ports.commands.pending(tenant, device, MAX_COMMANDS).await?))
            }
            Effect::CommandSent(id) => {
                ports.commands.delivered(tenant, device, id).await?;
                Done::Nothing
            }
            Effect::FinishCommand(result) => {
                ports.commands.result(tenant, device, result).await?;
                Done::Nothing
            }
            Effect::PullRevocations(held) => {
                Done::then(Event::RevocationsPulled(ports.devices.revocations(tenant, &held).await?))
            }
            Effect::Grant(wish) => Done::then(Event::Answer(Body::ArtifactGrant(ports.artifacts.grant(tenant, wish).await))),
            Effect::Renew(csr) => Done::then(Event::Answer(Body::RenewResponse(ports.renewal.over_link(self.peer, &csr).await))),
            Effect::Send(_) | Effect::Close | Effect::Admit(_) => unreachable!("done by `perform`"),
        })
    }

    async fn send(&self, body: Body) -> Done {
        let bytes = match frame::encode(self.session.version(), body) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(device = %self.peer.device, %error, "a frame was too large to send");
                return Done::then(Event::End(refusal::internal()));
            }
        };
        let patience = if self.session.is_closed() { LAST_WORDS_TIMEOUT } else { SEND_TIMEOUT };
        // What is refused does not wait behind a device that takes nothing.
        let ended = async {
            match &self.mailbox {
                Some(mailbox) if !self.session.is_closed() => mailbox.ended().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            sent = tokio::time::timeout(patience, self.outgoing.send(bytes)) => match sent {
                Ok(Ok(())) => Done::Nothing,
                _ => Done::Over,
            },
            () = ended => Done::Over,
        }
    }

    async fn touch(&mut self, event: &Event) {
        let now = self.inner.clock.now();
        if matches!(event, Event::Received(_)) && self.mailbox.is_some() && now >= self.touched.plus_seconds(TOUCH_EVERY_S) {
            self.touched = now;
            if let Err(error) = self.inner.ports.devices.touch(self.peer).await {
                tracing::debug!(device = %self.peer.device, %error, "last_seen was not written");
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Twin(#[from] TwinFault),
}

async fn note(mailbox: Option<&Mailbox>) -> Note {
    match mailbox {
        Some(mailbox) => mailbox.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(now: Micros, deadline: Option<Micros>) {
    match deadline {
        // At least a millisecond: a clock that stands still must not make this spin.
        Some(at) => tokio::time::sleep(Duration::from_micros(u64::try_from(at.0 - now.0).unwrap_or(0).max(1_000))).await,
        None => std::future::pending().await,
    }
}
