//! What the session needs from the rest of the agent, and the handle that the rest of the agent has on the link.
//!
//! The session drives these traits; twin, spool and commands implement them. Nothing here knows a transport, and an
//! implementation must never call back into the session: it tells of news through the `changed` watches only.
//! Every method that takes something from the plane returns only when that is durable, because its acknowledgement is sent next.

use super::meter::{Meter, Traffic};
use aidos_protocol::artifact::Digest;
use aidos_protocol::frame::{
    ArtifactGrant, Command, CommandResult, IntentAck, IntentChanges, IntentDocument, RenewResponse, Revocations, SiteAck,
    SiteChanges, StatusAck, StatusDelta, Telemetry,
};
use aidos_protocol::time::Micros;
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// A port could not do its work (disk full, ledger closed). The session ends and is begun anew after a pause.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl PortError {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Where the device's intent document stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntentPosition {
    /// The document's epoch.
    pub epoch: u32,
    /// Its heads, 32 bytes each.
    pub heads: Vec<Vec<u8>>,
}

/// A point in the device's status: which start of the agent, and which change since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatusPosition {
    /// Counts the agent's starts.
    pub boot_id: u64,
    /// Counts the changes since that start.
    pub seq: u64,
}

/// The device's replica of its intent.
#[async_trait]
pub trait IntentPort: Send + Sync + 'static {
    /// Epoch and heads, for `Hello`.
    async fn position(&self) -> Result<IntentPosition, PortError>;

    /// Applies changes on top of the present document. The answer is sent as it is; it has `resync` set when they do not
    /// apply (other epoch, missing dependencies, refused by authorisation), upon which the plane sends the whole document.
    async fn apply_changes(&self, changes: IntentChanges) -> Result<IntentAck, PortError>;

    /// Replaces the document; edits made here that it does not hold yet are replayed on top and become pending again.
    async fn apply_document(&self, document: IntentDocument) -> Result<IntentAck, PortError>;

    /// Edits made here that the plane has not acknowledged, oldest first, at most as many as fit one frame
    /// (`MAX_SITE_CHANGES`, `MAX_FRAME_BYTES`). `None`: nothing is pending. Asked again after each `site_ack`.
    async fn pending_site_changes(&self) -> Result<Option<SiteChanges>, PortError>;

    /// The plane has merged or rejected what was sent.
    async fn site_ack(&self, ack: SiteAck) -> Result<(), PortError>;

    /// Changes whenever `pending_site_changes` may have more to say.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// The device's status, of which the device is the one writer.
#[async_trait]
pub trait StatusPort: Send + Sync + 'static {
    /// The newest change, for `Hello`.
    async fn position(&self) -> Result<StatusPosition, PortError>;

    /// What changed after `acked`, or the full map when `acked` is `None` or of another start. `None`: nothing.
    async fn delta_since(&self, acked: Option<StatusPosition>) -> Result<Option<StatusDelta>, PortError>;

    /// The plane holds everything up to here; with `resync` it asks for a full map, which the session then sends.
    async fn ack(&self, ack: StatusAck) -> Result<(), PortError>;

    /// Changes with every change of the status.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// The bounded store of telemetry that waits to be sent.
#[async_trait]
pub trait SpoolPort: Send + Sync + 'static {
    /// The oldest samples after sequence number `after`, at most `max_samples`, all with the same names, within one frame.
    /// `None`: there are none.
    async fn batch(&self, after: u64, max_samples: usize) -> Result<Option<Telemetry>, PortError>;

    /// The plane has stored everything up to and including `seq`; it may be dropped here. A `seq` seen before is a no-op.
    async fn ack(&self, seq: u64) -> Result<(), PortError>;

    /// Changes whenever samples were added.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// Carries out commands.
#[async_trait]
pub trait CommandPort: Send + Sync + 'static {
    /// Carries out `command` at most once in the life of the device: the id goes into a durable inbox before the effect, and
    /// an id that is already there is answered with its recorded result. Expired ones are answered `EXPIRED` and not begun.
    /// Every failure is a result; the session only delivers. It runs to its end even when the session that brought it ends.
    async fn execute(&self, command: Command) -> CommandResult;
}

/// Keeps which devices of the tenant are revoked.
#[async_trait]
pub trait RevocationPort: Send + Sync + 'static {
    /// `frame::revocations_digest` of the list that is held, for `Hello`.
    fn digest(&self) -> [u8; 32];

    /// The list is another one now.
    async fn replace(&self, list: Revocations) -> Result<(), PortError>;
}

/// The ports together, as assembly passes them in.
#[derive(Clone)]
pub struct Ports {
    /// Intent replica and site edits.
    pub intent: Arc<dyn IntentPort>,
    /// Status map.
    pub status: Arc<dyn StatusPort>,
    /// Telemetry.
    pub spool: Arc<dyn SpoolPort>,
    /// Commands.
    pub commands: Arc<dyn CommandPort>,
    /// Which devices are revoked.
    pub revocations: Arc<dyn RevocationPort>,
}

/// How the link is, for the device's status, the admin socket and `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Name of the transport that carries the session (`quic`, `mqtt`); `None` while there is no session.
    pub transport: Option<&'static str>,
    /// Whether the control plane has acknowledged in this session what the device reports: the link works in both directions.
    pub synced: bool,
    /// When this became so.
    pub since: Micros,
    /// Sessions begun since the agent started.
    pub sessions: u64,
    /// Times the transport of a session differed from that of the session before it.
    pub failovers: u64,
    /// Why there is no session, why it is not on the preferred transport, or what could not be kept; empty when all is well.
    pub note: String,
    /// The plane's clock minus this device's, in microseconds, as of the last `Welcome`.
    pub clock_offset_us: Option<i64>,
}

/// Why something asked of the control plane was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no session now. Wait until [`LinkHandle::state`] shows a transport.
    #[error("not connected to the control plane")]
    Offline,
    /// No answer in time, or the session ended first. Ask again.
    #[error("the control plane did not answer in time")]
    Timeout,
    /// The plane said no.
    #[error("the control plane refused: {0}")]
    Refused(String),
    /// Too many questions are waiting for an answer. Ask again later.
    #[error("too many requests wait for the control plane")]
    Busy,
}

/// What a device has to make an artifact from; a hint by which the plane chooses what it offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Whole artifacts, the likeliest base first; at most `frame::MAX_BASES` are told.
    pub bases: Vec<Digest>,
    /// The largest window of a delta that there is memory for, as a power of two; 0: no delta is taken.
    pub window_log: u8,
}

/// Something asked of the plane through the session.
#[derive(Debug)]
pub(super) enum Request {
    Artifact(Digest, Held, oneshot::Sender<Result<ArtifactGrant, LinkError>>),
    Renew(Vec<u8>, oneshot::Sender<Result<RenewResponse, LinkError>>),
}

/// Questions that may wait for the session at once; a device fetches a handful of models, not hundreds.
pub(super) const REQUEST_QUEUE: usize = 32;

/// What the rest of the agent does with the link. Cheap to clone; outlives any number of sessions.
#[derive(Debug, Clone)]
pub struct LinkHandle {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<LinkState>,
    meter: Meter,
    poke: Arc<Notify>,
}

/// The loop's end of a [`LinkHandle`]; it is passed to `link::run`.
#[derive(Debug)]
pub struct LinkControl {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) state: watch::Sender<LinkState>,
    pub(super) meter: Meter,
    pub(super) poke: Arc<Notify>,
}

/// A handle and the end of it that the link's loop serves.
pub fn channel() -> (LinkHandle, LinkControl) {
    let (requests_tx, requests_rx) = mpsc::channel(REQUEST_QUEUE);
    let (state_tx, state_rx) = watch::channel(LinkState::default());
    let (meter, poke) = (Meter::default(), Arc::new(Notify::new()));
    let handle = LinkHandle { requests: requests_tx, state: state_rx, meter: meter.clone(), poke: Arc::clone(&poke) };
    (handle, LinkControl { requests: requests_rx, state: state_tx, meter, poke })
}

impl LinkHandle {
    /// [`Self::request_artifact_with`] nothing to make it from.
    pub async fn request_artifact(&self, digest: Digest) -> Result<ArtifactGrant, LinkError> {
        self.request_artifact_with(digest, Held::default()).await
    }

    /// Asks where to fetch the artifact `digest` from, and by what other ways, `held` being what is here already. Answers within a minute, at once with [`LinkError::Offline`] when there
    /// is no session.
    pub async fn request_artifact_with(&self, digest: Digest, held: Held) -> Result<ArtifactGrant, LinkError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Artifact(digest, held, answer), answered).await
    }

    /// Asks for a certificate for the key that signed `csr_der`.
    pub async fn renew(&self, csr_der: Vec<u8>) -> Result<RenewResponse, LinkError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Renew(csr_der, answer), answered).await
    }

    async fn ask<T>(&self, request: Request, answered: oneshot::Receiver<Result<T, LinkError>>) -> Result<T, LinkError> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LinkError::Busy,
            mpsc::error::TrySendError::Closed(_) => LinkError::Offline,
        })?;
        answered.await.unwrap_or(Err(LinkError::Timeout))
    }

    /// How the link is; a watch, so that changes can be awaited.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// What has gone over the link since its loop began, and the round trip; `None` while there is no connection.
    pub fn traffic(&self) -> Option<Traffic> {
        self.meter.read()
    }

    /// The network may be back (an interface came up, an operator asks): the next attempt is made now. Harmless at any time.
    pub fn poke(&self) {
        self.poke.notify_one();
    }
}
