//! The link over QUIC: one bidirectional stream that the device opens, each frame preceded by its length (u32, big-endian).
//!
//! No 0-RTT, since early data can be replayed. Migration is QUIC's own: a device that changes its network keeps its session.

use super::endpoint::Endpoint;
use super::meter::{Gauge, Traffic};
use super::transport::{ConnectError, Connection, FrameSink, FrameStream, Lost, Transport};
use crate::identity::Identity;
use aidos_protocol::frame::{ALPN, MAX_FRAME_BYTES};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// Two round trips over a satellite with one packet lost; silence beyond it means that UDP does not get through.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);
/// A peer that vanished is noticed after this long at the latest. Session pings notice sooner where the plane asks for them,
/// and the session's own timeouts where something was sent.
const IDLE_TIMEOUT: VarInt = VarInt::from_u32(600_000);
/// How long a close waits for the last frames to be acknowledged.
const LINGER: Duration = Duration::from_secs(1);

/// QUIC to the endpoint that the identity knows.
pub struct Quic {
    identity: Identity,
    /// A link where each byte costs: no MTU discovery, which saves 3 to 11 KB per connection.
    constrained: bool,
    /// Segmentation offload makes sending 2.7× cheaper, and makes packets vanish on some network adapters. It is given up for
    /// good once a handshake stalls with it and succeeds without.
    offload: AtomicBool,
    /// Kept while the certificate is the same, since it holds the tickets that make a reconnect cheaper.
    tls: Mutex<Option<(u64, Arc<QuicClientConfig>)>>,
}

impl Quic {
    /// `constrained`: save bytes rather than processor time.
    pub fn new(identity: Identity, constrained: bool) -> Self {
        Self { identity, constrained, offload: AtomicBool::new(true), tls: Mutex::new(None) }
    }

    fn tls(&self) -> Result<Arc<QuicClientConfig>, ConnectError> {
        let generation = self.identity.generation();
        let mut cached = self.tls.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((of, tls)) = &*cached
            && *of == generation
        {
            return Ok(Arc::clone(tls));
        }
        let tls = self.identity.client_tls(&[ALPN]).map_err(|e| ConnectError::Failed(e.to_string()))?;
        let tls = Arc::new(QuicClientConfig::try_from(tls).map_err(|e| ConnectError::Failed(e.to_string()))?);
        *cached = Some((generation, Arc::clone(&tls)));
        Ok(tls)
    }

    fn config(&self, tls: Arc<QuicClientConfig>, offload: bool) -> ClientConfig {
        let mut transport = TransportConfig::default();
        transport
            .receive_window(VarInt::from_u32(256 * 1024))
            .stream_receive_window(VarInt::from_u32(64 * 1024))
            .send_window(256 * 1024)
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(IdleTimeout::from(IDLE_TIMEOUT)))
            .mtu_discovery_config((!self.constrained).then(MtuDiscoveryConfig::default))
            .enable_segmentation_offload(offload);
        let mut config = ClientConfig::new(tls);
        config.transport_config(Arc::new(transport));
        config
    }

    async fn dial(&self, address: SocketAddr, host: &str, tls: Arc<QuicClientConfig>) -> Result<Dialled, ConnectError> {
        let offload = self.offload.load(Ordering::Relaxed);
        match handshake(address, host, self.config(Arc::clone(&tls), offload)).await {
            Err(Attempt::Stalled) if offload => {
                let dialled = handshake(address, host, self.config(tls, false)).await.map_err(Attempt::into_error)?;
                tracing::info!("QUIC works without segmentation offload only; it stays off");
                self.offload.store(false, Ordering::Relaxed);
                Ok(dialled)
            }
            result => result.map_err(Attempt::into_error),
        }
    }
}

struct Dialled {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
}

enum Attempt {
    /// Nothing came back at all.
    Silent,
    /// The server's first packets came, and then nothing more.
    Stalled,
    Failed(String),
}

impl Attempt {
    fn into_error(self) -> ConnectError {
        match self {
            Self::Silent => ConnectError::Silent,
            Self::Stalled => ConnectError::Failed("the handshake stalled".into()),
            Self::Failed(detail) => ConnectError::Failed(detail),
        }
    }
}

async fn handshake(address: SocketAddr, host: &str, config: ClientConfig) -> Result<Dialled, Attempt> {
    let failed = |e: &dyn std::fmt::Display| Attempt::Failed(e.to_string());
    let local: SocketAddr = if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let endpoint = quinn::Endpoint::client(local).map_err(|e| failed(&e))?;
    let mut connecting = endpoint.connect_with(config, address, host).map_err(|e| failed(&e))?;
    let mut answered = false;
    let outcome = timeout(HANDSHAKE_TIMEOUT, async {
        connecting.handshake_data().await?;
        answered = true;
        connecting.await
    })
    .await;
    match outcome {
        Ok(Ok(connection)) => Ok(Dialled { endpoint, connection }),
        Ok(Err(quinn::ConnectionError::TimedOut)) => Err(Attempt::Silent),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) if answered => Err(Attempt::Stalled),
        Err(_) => Err(Attempt::Silent),
    }
}

#[async_trait]
impl Transport for Quic {
    fn name(&self) -> &'static str {
        "quic"
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let endpoints = self.identity.endpoints();
        let endpoint = Endpoint::parse(&endpoints.quic, &endpoints.api_url)?;
        let tls = self.tls()?;
        let dialled = endpoint.race(|address| self.dial(address, &endpoint.host, Arc::clone(&tls))).await?;
        let (send, receive) = dialled.connection.open_bi().await.map_err(|e| ConnectError::Failed(e.to_string()))?;
        let gauge = quic_gauge(dialled.connection.clone());
        let sink = Sink { frames: FramedWrite::new(send, codec()), dialled };
        let stream = Stream(FramedRead::new(receive, codec()));
        Ok(Connection { sink: Box::new(sink), stream: Box::new(stream), gauge: Some(gauge) })
    }
}

/// What QUIC knows of its path, handshake included; also for a transport that shares its sockets among devices.
pub fn quic_gauge(connection: quinn::Connection) -> Gauge {
    Box::new(move || {
        let stats = connection.stats();
        Traffic { round_trip: Some(stats.path.rtt), sent: stats.udp_tx.bytes, received: stats.udp_rx.bytes }
    })
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(4).max_frame_length(MAX_FRAME_BYTES).new_codec()
}

struct Sink {
    frames: FramedWrite<quinn::SendStream, LengthDelimitedCodec>,
    dialled: Dialled,
}

/// The stream's own error says only that the connection is lost; the connection knows why.
fn lost(connection: &quinn::Connection, error: &std::io::Error) -> Lost {
    Lost(connection.close_reason().map_or_else(|| error.to_string(), |reason| reason.to_string()))
}

#[async_trait]
impl FrameSink for Sink {
    async fn send(&mut self, frame: Bytes) -> Result<(), Lost> {
        self.frames.send(frame).await.map_err(|e| lost(&self.dialled.connection, &e))
    }

    async fn close(&mut self, reason: &str) {
        let stream = self.frames.get_mut();
        if stream.finish().is_ok() {
            // Closing at once would discard what the peer has not acknowledged.
            let _ = timeout(LINGER, stream.stopped()).await;
        }
        self.dialled.connection.close(VarInt::from_u32(0), reason.as_bytes());
        let _ = timeout(LINGER, self.dialled.endpoint.wait_idle()).await;
    }
}

struct Stream(FramedRead<quinn::RecvStream, LengthDelimitedCodec>);

#[async_trait]
impl FrameStream for Stream {
    async fn next(&mut self) -> Result<Option<Bytes>, Lost> {
        match self.0.next().await {
            None => Ok(None),
            Some(Ok(frame)) => Ok(Some(frame.freeze())),
            Some(Err(error)) => Err(Lost(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
