//! What the session needs of a simulated device: intent and telemetry in memory where a real one has its ledger. The status is
//! the agent's own.

use aidos_agent::link::{CommandPort, IntentPort, IntentPosition, PortError, RevocationPort, SpoolPort};
use aidos_agent::twin::StatusMap;
use aidos_protocol::ModelName;
use aidos_protocol::frame::command_result::Outcome;
use aidos_protocol::frame::{
    Command, CommandResult, IntentAck, IntentChanges, IntentDocument, Revocations, Sample, SiteAck, SiteChanges, Telemetry,
    revocations_digest,
};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{DesiredModel, FIRST_EPOCH, Intent, IntentStatus, path};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The models that a device is to run.
pub(crate) type Wanted = BTreeMap<ModelName, DesiredModel>;

/// The intent document as bytes, which a real device has on its disk: it outlives the process. A document in memory would weigh
/// a hundred times as much.
#[derive(Debug)]
pub(crate) struct Wishes {
    document: Mutex<Box<[u8]>>,
    wanted: watch::Sender<Arc<Wanted>>,
}

impl Default for Wishes {
    fn default() -> Self {
        let document = Mutex::new(Intent::genesis(FIRST_EPOCH).save().into());
        Self { document, wanted: watch::Sender::new(Arc::default()) }
    }
}

impl Wishes {
    /// The models, and when they are others.
    pub(crate) fn wanted(&self) -> watch::Receiver<Arc<Wanted>> {
        self.wanted.subscribe()
    }

    fn load(&self) -> Result<Intent, PortError> {
        let document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        Intent::load(&document).map_err(PortError::new)
    }

    fn keep(&self, intent: &Intent) {
        *self.document.lock().unwrap_or_else(PoisonError::into_inner) = intent.save().into();
        let models = intent.view().models;
        self.wanted.send_if_modified(|wanted| {
            let news = **wanted != models;
            if news {
                *wanted = Arc::new(models);
            }
            news
        });
    }
}

/// The wishes in one process, whose status tells what was applied.
pub(crate) struct Replica {
    pub(crate) wishes: Arc<Wishes>,
    pub(crate) status: StatusMap,
    pub(crate) never: watch::Sender<u64>,
}

impl Replica {
    fn ack(&self, intent: &Intent, resync: bool) -> IntentAck {
        let hex = |hash: &aidos_protocol::twin::ChangeHash| {
            hash.0.iter().fold(String::with_capacity(64), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        let heads = intent.heads().iter().map(hex).collect();
        self.status.set(path::INTENT, &IntentStatus { epoch: intent.epoch(), heads, pending: 0 });
        IntentAck { epoch: intent.epoch(), heads: intent.wire_heads(), resync, pending_epoch: 0 }
    }
}

#[async_trait]
impl IntentPort for Replica {
    async fn position(&self) -> Result<IntentPosition, PortError> {
        let intent = self.wishes.load()?;
        Ok(IntentPosition { epoch: intent.epoch(), heads: intent.heads().iter().map(|hash| hash.0.to_vec()).collect() })
    }

    async fn apply_changes(&self, changes: IntentChanges) -> Result<IntentAck, PortError> {
        let mut intent = self.wishes.load()?;
        if changes.epoch != intent.epoch() || intent.apply(&changes.changes).is_err() {
            return Ok(self.ack(&intent, true));
        }
        self.wishes.keep(&intent);
        Ok(self.ack(&intent, false))
    }

    async fn apply_document(&self, document: IntentDocument) -> Result<IntentAck, PortError> {
        let intent = Intent::load(&document.document).map_err(PortError::new)?;
        self.wishes.keep(&intent);
        Ok(self.ack(&intent, false))
    }

    async fn pending_site_changes(&self) -> Result<Option<SiteChanges>, PortError> {
        Ok(None)
    }

    async fn site_ack(&self, _ack: SiteAck) -> Result<(), PortError> {
        Ok(())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.never.subscribe()
    }
}

/// The newest sample only: what a real device would lose with a spool of one. It outlives the process.
#[derive(Debug)]
pub(crate) struct Gauges {
    newest: Mutex<Option<Sample>>,
    changed: watch::Sender<u64>,
}

impl Default for Gauges {
    fn default() -> Self {
        Self { newest: Mutex::new(None), changed: watch::Sender::new(0) }
    }
}

impl Gauges {
    /// Takes a sample of the requests that were answered since the last.
    pub(crate) fn sample(&self, now: Micros, requests: f64) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = newest.as_ref().map_or(0, |sample| sample.seq) + 1;
        *newest = Some(Sample { seq, time_us: now.0, values: vec![requests] });
        drop(newest);
        self.changed.send_replace(seq);
    }
}

#[async_trait]
impl SpoolPort for Gauges {
    async fn batch(&self, after: u64, _max_samples: usize) -> Result<Option<Telemetry>, PortError> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(newest.filter(|sample| sample.seq > after).map(|sample| Telemetry {
            names: vec!["sim.requests".into()],
            lost_samples: 0,
            lost_bytes: 0,
            samples: vec![sample],
        }))
    }

    async fn ack(&self, _seq: u64) -> Result<(), PortError> {
        Ok(())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Simulated devices have no neighbours. Each says that it holds the empty list, and is told of others as a real one is.
pub(crate) struct NoNeighbours;

#[async_trait]
impl RevocationPort for NoNeighbours {
    fn digest(&self) -> [u8; 32] {
        revocations_digest([])
    }

    async fn replace(&self, _list: Revocations) -> Result<(), PortError> {
        Ok(())
    }
}

/// There is nothing that a command could be for.
pub(crate) struct NoCommands;

#[async_trait]
impl CommandPort for NoCommands {
    async fn execute(&self, command: Command) -> CommandResult {
        let message = "a simulated device carries out no commands".to_owned();
        CommandResult { id: command.id, outcome: Outcome::Refused.into(), message, ..CommandResult::default() }
    }
}
