//! What a session needs from others, as traits: who implements them must never know of frames' order or of transports.
//!
//! All of them are idempotent: a frame may arrive twice, and a session may end between a call and its answer.

use crate::platform::db::StoreError;
use aidos_protocol::{CommandId, DeviceId, TenantId, artifact::Digest, frame};
use async_trait::async_trait;
use std::fmt;

/// Which link a session travels on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
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
pub struct Peer {
    /// The device's tenant.
    pub tenant: TenantId,
    /// The device.
    pub device: DeviceId,
    /// The link.
    pub transport: Transport,
    /// The other end's address, for people.
    pub address: String,
    /// SHA-256 of the certificate's SubjectPublicKeyInfo, hexadecimal; `None` behind an external broker, which checked the
    /// certificate and does not pass it on.
    pub key_id: Option<String>,
}

/// The commands that wait for a device.
#[async_trait]
pub trait CommandQueue: Send + Sync + 'static {
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
pub trait TelemetrySink: Send + Sync + 'static {
    /// The highest sequence number stored for `device`, 0 for none.
    async fn highest(&self, tenant: TenantId, device: DeviceId) -> Result<u64, StoreError>;

    /// Stores what is new in `batch` and returns the highest sequence number stored, durable by then.
    async fn store(&self, tenant: TenantId, device: DeviceId, batch: frame::Telemetry) -> Result<u64, StoreError>;
}

/// Where artifacts come from. Implemented by the registry, which this room must not import.
#[async_trait]
pub trait ArtifactSource: Send + Sync + 'static {
    /// Where `tenant` may fetch `digest` from. A refusal stands in the grant's `error`.
    async fn grant(&self, tenant: TenantId, digest: Digest) -> frame::ArtifactGrant;
}
