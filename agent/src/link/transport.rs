//! What every transport offers the link: whole frames in order, in both directions at once.
//!
//! A transport never looks into a frame and never reconnects by itself: when a connection is lost it says so, and `failover`
//! decides what comes next.

use super::meter::Gauge;
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;

/// A way to reach the control plane.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Its name in status, logs and metrics: `quic`, `mqtt`.
    fn name(&self) -> &'static str;

    /// Makes a connection, over which no frame has gone yet. May be dropped at any time.
    async fn connect(&self) -> Result<Connection, ConnectError>;
}

/// A connection's two directions, so that neither waits for the other.
pub struct Connection {
    /// Towards the control plane.
    pub sink: Box<dyn FrameSink>,
    /// From the control plane.
    pub stream: Box<dyn FrameStream>,
    /// Round trip and bytes, where the transport knows them; otherwise the session times its pings and counts its frames.
    pub gauge: Option<Gauge>,
}

/// The sending half.
#[async_trait]
pub trait FrameSink: Send {
    /// Hands a frame over. Waits while the peer takes no more.
    async fn send(&mut self, frame: Bytes) -> Result<(), Lost>;

    /// Delivers what was handed over as far as that succeeds soon, then closes both directions.
    async fn close(&mut self, reason: &str);
}

/// The receiving half.
#[async_trait]
pub trait FrameStream: Send {
    /// The next frame; `None` when the peer closed in order. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Option<Bytes>, Lost>;
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The control plane does not offer this transport.
    #[error("not offered")]
    NotOffered,
    /// Nothing came back: blocked, or nobody there.
    #[error("no answer")]
    Silent,
    /// Somebody answered, and it did not work.
    #[error("{0}")]
    Failed(String),
    /// The server asks to come back later.
    #[error("{detail}")]
    Later {
        /// What it said.
        detail: String,
        /// Not before this has passed.
        retry_after: Duration,
    },
}

/// The connection ended, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connection lost: {0}")]
pub struct Lost(pub String);
