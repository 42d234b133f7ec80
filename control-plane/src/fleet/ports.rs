//! What a session needs from others, as traits: who implements them must never know of frames' order or of transports.
//!
//! All of them are idempotent: a frame may arrive twice, and a session may end between a call and its answer.

use super::store::DeviceKey;
use crate::platform::db::{StoreError, Tx};
use aidos_protocol::enrol::TrustAnchor;
use aidos_protocol::{CommandId, DeviceId, TenantId, artifact::Digest, frame};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;

/// Which link a session travels on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// QUIC, directly.
    Quic,
    /// MQTT, through the embedded listener or an external broker.
    Mqtt,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Mqtt => "mqtt",
        })
    }
}

/// Who is at the other end of a link, as its certificate says. Made by transports only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The device's tenant.
    pub(crate) tenant: TenantId,
    /// The device.
    pub(crate) device: DeviceId,
    /// The link.
    pub(crate) transport: Transport,
    /// The other end's address, for people.
    pub(crate) address: String,
    /// SHA-256 of the certificate's SubjectPublicKeyInfo, hexadecimal; `None` behind an external broker, which checked the
    /// certificate and does not pass it on.
    pub(crate) key_id: Option<String>,
}

/// Why a twin could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TwinFault {
    /// What was asked for is not allowed; the text says what is.
    #[error("{0}")]
    Refused(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An epoch and heads of an intent document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IntentPosition {
    /// The document's epoch.
    pub(crate) epoch: u32,
    /// The heads of its history, 32 bytes each.
    pub(crate) heads: Vec<Bytes>,
}

/// What the plane holds of a device's twin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TwinPosition {
    /// Where its intent stands.
    pub(crate) intent: IntentPosition,
    /// The device's start that the status is of.
    pub(crate) status_boot_id: u64,
    /// The last change of it that is stored.
    pub(crate) status_seq: u64,
}

/// Devices' intent and status.
#[async_trait]
pub(crate) trait TwinSource: Send + Sync + 'static {
    /// The twin of a new device. Refuses labels that are none.
    async fn create(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        device: DeviceId,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), TwinFault>;

    /// What the plane holds.
    async fn position(&self, tenant: TenantId, device: DeviceId) -> Result<TwinPosition, TwinFault>;

    /// What a device whose intent stands at `at` lacks: `IntentChanges`, or `IntentDocument` where changes would not do
    /// (always for the default position), or nothing.
    async fn pull(&self, tenant: TenantId, device: DeviceId, at: &IntentPosition) -> Result<Option<frame::Body>, TwinFault>;

    /// The device has applied everything up to `at`; `pending` is the earliest epoch of which it has edits to send, 0 for none.
    async fn ack(&self, tenant: TenantId, device: DeviceId, at: &IntentPosition, pending: u32) -> Result<(), TwinFault>;

    /// Stores what the device reports. A second arrival changes nothing.
    async fn apply_status(
        &self,
        tenant: TenantId,
        device: DeviceId,
        delta: frame::StatusDelta,
    ) -> Result<frame::StatusAck, TwinFault>;

    /// Merges edits made at the site that one of `keys` signed. Refusals stand in the answer.
    async fn merge_site(
        &self,
        tenant: TenantId,
        device: DeviceId,
        changes: frame::SiteChanges,
        keys: &[DeviceKey],
    ) -> Result<frame::SiteAck, TwinFault>;
}

/// The commands that wait for a device.
#[async_trait]
pub(crate) trait CommandQueue: Send + Sync + 'static {
    /// At most `limit` commands of `device` that are neither finished nor expired, oldest first, delivered ones included: a
    /// session that begins anew sends those again, and the device's inbox makes it a no-op.
    async fn pending(&self, tenant: TenantId, device: DeviceId, limit: usize) -> Result<Vec<frame::Command>, StoreError>;

    /// `command` was handed to the device's link. A second call changes nothing.
    async fn delivered(&self, tenant: TenantId, device: DeviceId, command: CommandId) -> Result<(), StoreError>;

    /// The device's answer. Unknown, foreign or already finished commands are left as they are, without an error.
    async fn result(&self, tenant: TenantId, device: DeviceId, result: frame::CommandResult) -> Result<(), StoreError>;
}

/// Where telemetry goes.
#[async_trait]
pub(crate) trait TelemetrySink: Send + Sync + 'static {
    /// The highest sequence number stored for `device`, 0 for none.
    async fn highest(&self, tenant: TenantId, device: DeviceId) -> Result<u64, StoreError>;

    /// Stores what is new in `batch` and returns the highest sequence number stored, durable by then.
    async fn store(&self, tenant: TenantId, device: DeviceId, batch: frame::Telemetry) -> Result<u64, StoreError>;
}

/// Where artifacts come from. Implemented by the registry, which this room must not import.
#[async_trait]
pub(crate) trait ArtifactSource: Send + Sync + 'static {
    /// Where `tenant` may fetch what is wished for. A refusal stands in the grant's `error`.
    async fn grant(&self, tenant: TenantId, wish: Wish) -> frame::ArtifactGrant;
}

/// An artifact that a device wants, and what it has to make it from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Which artifact.
    pub(crate) digest: Digest,
    /// Artifacts that it holds, the likeliest base first.
    pub(crate) bases: Vec<Digest>,
    /// The largest window of a delta that it has memory for; 0: it takes none.
    pub(crate) window_log: u8,
}

impl Wish {
    /// As `request` says. A base that is no digest is passed over: it is a hint, no more.
    pub(crate) fn of(digest: Digest, request: &frame::ArtifactRequest) -> Self {
        let bases = request.bases.iter().filter_map(|base| Digest::from_bytes(base).ok()).collect();
        Self { digest, bases, window_log: u8::try_from(request.window_log).unwrap_or(u8::MAX) }
    }
}

/// Where the tenants' update repositories are. Implemented by the registry, which this room must not import.
#[async_trait]
pub(crate) trait TrustSource: Send + Sync + 'static {
    /// The path of the tenant's repository.
    fn repository(&self, tenant: TenantId) -> String;

    /// The root to begin with; `None` where the tenant's people have made none, or where it cannot be told now: a device then
    /// asks for it at the repository.
    async fn anchor(&self, tenant: TenantId) -> Option<TrustAnchor>;
}
