//! Ports that keep everything in memory, and a transport whose other end is a small control plane.

use super::ports::{
    CommandPort, IntentPort, IntentPosition, PortError, Ports, RevocationPort, SpoolPort, StatusPort, StatusPosition,
};
use super::transport::{ConnectError, Connection, FrameSink, FrameStream, Lost, Transport};
use aidos_protocol::frame::{
    self, ArtifactGrant, Body, Command, CommandResult, IntentAck, IntentChanges, IntentDocument, Pong, RenewResponse,
    Revocations, Sample, SiteAck, SiteChange, SiteChanges, StatusAck, StatusDelta, Telemetry, TelemetryAck, Welcome,
    command_result::Outcome,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};

/// The state of a device in a few fields.
pub(super) struct Device {
    pub(super) status: Mutex<(u64, u64)>,
    pub(super) site: Mutex<Vec<SiteChange>>,
    pub(super) samples: Mutex<Vec<Sample>>,
    pub(super) intent: Mutex<Vec<Bytes>>,
    pub(super) results: Mutex<HashMap<String, CommandResult>>,
    pub(super) executions: AtomicUsize,
    pub(super) revoked: Mutex<Vec<Bytes>>,
    news: watch::Sender<u64>,
}

impl Device {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            status: Mutex::new((1, 0)),
            site: Mutex::default(),
            samples: Mutex::default(),
            intent: Mutex::default(),
            results: Mutex::default(),
            executions: AtomicUsize::new(0),
            revoked: Mutex::default(),
            news: watch::Sender::new(0),
        })
    }

    pub(super) fn ports(self: &Arc<Self>) -> Ports {
        Ports {
            intent: self.clone(),
            status: self.clone(),
            spool: self.clone(),
            commands: self.clone(),
            revocations: self.clone(),
        }
    }

    pub(super) fn report(&self) {
        self.status.lock().unwrap().1 += 1;
        self.news.send_modify(|n| *n += 1);
    }

    pub(super) fn sample(&self, seq: u64) {
        self.samples.lock().unwrap().push(Sample { seq, time_us: 0, values: vec![1.0] });
        self.news.send_modify(|n| *n += 1);
    }
}

#[async_trait]
impl IntentPort for Device {
    async fn position(&self) -> Result<IntentPosition, PortError> {
        Ok(IntentPosition { epoch: 1, heads: vec![vec![0; 32]] })
    }
    async fn apply_changes(&self, changes: IntentChanges) -> Result<IntentAck, PortError> {
        self.intent.lock().unwrap().push(changes.changes);
        Ok(IntentAck { epoch: changes.epoch, ..Default::default() })
    }
    async fn apply_document(&self, document: IntentDocument) -> Result<IntentAck, PortError> {
        self.intent.lock().unwrap().push(document.document);
        Ok(IntentAck { epoch: document.epoch, ..Default::default() })
    }
    async fn pending_site_changes(&self) -> Result<Option<SiteChanges>, PortError> {
        let changes = self.site.lock().unwrap().clone();
        Ok((!changes.is_empty()).then_some(SiteChanges { epoch: 1, changes }))
    }
    async fn site_ack(&self, _: SiteAck) -> Result<(), PortError> {
        self.site.lock().unwrap().clear();
        Ok(())
    }
    fn changed(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

#[async_trait]
impl StatusPort for Device {
    async fn position(&self) -> Result<StatusPosition, PortError> {
        let (boot_id, seq) = *self.status.lock().unwrap();
        Ok(StatusPosition { boot_id, seq })
    }
    async fn delta_since(&self, acked: Option<StatusPosition>) -> Result<Option<StatusDelta>, PortError> {
        let now = StatusPort::position(self).await?;
        let delta = StatusDelta { boot_id: now.boot_id, seq: now.seq, full: acked.is_none(), ..StatusDelta::default() };
        Ok((acked != Some(now)).then_some(delta))
    }
    async fn ack(&self, _: StatusAck) -> Result<(), PortError> {
        Ok(())
    }
    fn changed(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

#[async_trait]
impl SpoolPort for Device {
    async fn batch(&self, after: u64, max_samples: usize) -> Result<Option<Telemetry>, PortError> {
        let samples = self.samples.lock().unwrap();
        let samples: Vec<_> = samples.iter().filter(|s| s.seq > after).take(max_samples.min(2)).cloned().collect();
        let batch = Telemetry { names: vec!["cpu".into()], samples, ..Telemetry::default() };
        Ok((!batch.samples.is_empty()).then_some(batch))
    }
    async fn ack(&self, seq: u64) -> Result<(), PortError> {
        self.samples.lock().unwrap().retain(|s| s.seq > seq);
        Ok(())
    }
    fn changed(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

#[async_trait]
impl RevocationPort for Device {
    fn digest(&self) -> [u8; 32] {
        let revoked = self.revoked.lock().unwrap();
        frame::revocations_digest(revoked.iter().map(|device| &device[..]))
    }
    async fn replace(&self, list: Revocations) -> Result<(), PortError> {
        *self.revoked.lock().unwrap() = list.devices;
        Ok(())
    }
}

#[async_trait]
impl CommandPort for Device {
    async fn execute(&self, command: Command) -> CommandResult {
        if let Some(result) = self.results.lock().unwrap().get(&command.id) {
            return result.clone();
        }
        self.executions.fetch_add(1, Ordering::Relaxed);
        let result = CommandResult { id: command.id.clone(), outcome: Outcome::Ok.into(), ..CommandResult::default() };
        self.results.lock().unwrap().insert(command.id, result.clone());
        result
    }
}

type Issue = Box<dyn Fn(&[u8]) -> String + Send>;

/// What a control plane in miniature has seen, over all its connections.
#[derive(Default)]
pub(super) struct Plane {
    pub(super) frames: Mutex<Vec<Body>>,
    /// Sent right after `Welcome`.
    pub(super) greet: Mutex<Vec<Body>>,
    /// Sent instead of `Welcome`, once each.
    pub(super) refuse: Mutex<Vec<Body>>,
    /// Makes a chain for a signing request.
    pub(super) issue: Mutex<Option<Issue>>,
    telemetry_seq: Mutex<u64>,
    sessions: AtomicUsize,
    pub(super) most_sessions: AtomicUsize,
}

impl Plane {
    /// The answers to one frame.
    pub(super) fn answer(&self, body: Body) -> Vec<Body> {
        self.frames.lock().unwrap().push(body.clone());
        match body {
            Body::Hello(_) => {
                if let Some(refused) = self.refuse.lock().unwrap().pop() {
                    return vec![refused];
                }
                let sessions = self.sessions.fetch_add(1, Ordering::SeqCst) + 1;
                self.most_sessions.fetch_max(sessions, Ordering::SeqCst);
                let telemetry_seq = *self.telemetry_seq.lock().unwrap();
                let server_time_us = crate::clock::now().0;
                let welcome = Welcome { version: frame::VERSION, server_time_us, telemetry_seq, ..Welcome::default() };
                [vec![Body::Welcome(welcome)], self.greet.lock().unwrap().clone()].concat()
            }
            Body::StatusDelta(d) => vec![Body::StatusAck(StatusAck { boot_id: d.boot_id, seq: d.seq, resync: false })],
            Body::Ping(ping) => vec![Body::Pong(Pong { nonce: ping.nonce })],
            Body::SiteChanges(_) => vec![Body::SiteAck(SiteAck::default())],
            Body::Telemetry(batch) => {
                let seq = batch.samples.last().unwrap().seq;
                *self.telemetry_seq.lock().unwrap() = seq;
                vec![Body::TelemetryAck(TelemetryAck { seq })]
            }
            Body::ArtifactRequest(r) => {
                vec![Body::ArtifactGrant(ArtifactGrant { digest: r.digest, url: "https://x".into(), ..ArtifactGrant::default() })]
            }
            Body::RenewRequest(request) => {
                let chain_pem = self.issue.lock().unwrap().as_ref().unwrap()(&request.csr_der);
                vec![Body::RenewResponse(RenewResponse { chain_pem, error: String::new() })]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn saw(&self, matches: impl Fn(&Body) -> bool) -> usize {
        self.frames.lock().unwrap().iter().filter(|body| matches(body)).count()
    }
}

/// A transport in memory that works while `up`.
pub(super) struct Pipe {
    pub(super) name: &'static str,
    pub(super) up: Arc<AtomicBool>,
    pub(super) plane: Arc<Plane>,
}

#[async_trait]
impl Transport for Pipe {
    fn name(&self) -> &'static str {
        self.name
    }
    async fn connect(&self) -> Result<Connection, ConnectError> {
        if !self.up.load(Ordering::SeqCst) {
            return Err(ConnectError::Silent);
        }
        let (to_plane, mut from_device) = mpsc::channel::<Bytes>(16);
        let (to_device, from_plane) = mpsc::channel(16);
        let (plane, up) = (Arc::clone(&self.plane), Arc::clone(&self.up));
        tokio::spawn(async move {
            let mut open = false;
            let mut look = tokio::time::interval(std::time::Duration::from_secs(1));
            loop {
                tokio::select! {
                    frame = from_device.recv() => {
                        let Some(frame) = frame else { break };
                        for body in plane.answer(frame::decode(frame).unwrap().1) {
                            open |= matches!(body, Body::Welcome(_));
                            let _ = to_device.send(frame::encode(frame::VERSION, body).unwrap()).await;
                        }
                    }
                    _ = look.tick() => if !up.load(Ordering::SeqCst) { break },
                }
            }
            plane.sessions.fetch_sub(usize::from(open), Ordering::SeqCst);
        });
        Ok(Connection { sink: Box::new(PipeSink(Some(to_plane))), stream: Box::new(PipeStream(from_plane)), gauge: None })
    }
}

struct PipeSink(Option<mpsc::Sender<Bytes>>);

#[async_trait]
impl FrameSink for PipeSink {
    async fn send(&mut self, frame: Bytes) -> Result<(), Lost> {
        let sent = self.0.as_ref().unwrap().send(frame).await;
        sent.map_err(|_| Lost("the pipe broke".into()))
    }
    async fn close(&mut self, _: &str) {
        let sender = self.0.take().unwrap();
        let closed = sender.clone();
        drop(sender);
        // The plane's end must have seen everything, as a real close waits for acknowledgements.
        while closed.capacity() < closed.max_capacity() && !closed.is_closed() {
            tokio::task::yield_now().await;
        }
    }
}

struct PipeStream(mpsc::Receiver<Bytes>);

#[async_trait]
impl FrameStream for PipeStream {
    async fn next(&mut self) -> Result<Option<Bytes>, Lost> {
        Ok(self.0.recv().await)
    }
}
