//! The QUIC transport of simulated devices: what the agent's does on a socket of its own, on a few sockets that all share, since
//! ten thousand sockets are more than a process may have.

use aidos_agent::identity::Identity;
use aidos_agent::link::{ConnectError, Connection, FrameSink, FrameStream, Lost, Transport, quic_gauge};
use aidos_protocol::frame::{ALPN, MAX_FRAME_BYTES};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, IdleTimeout, TransportConfig, VarInt};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// The plane has two processors for thousands of handshakes.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// As the agent has it.
const IDLE_TIMEOUT: VarInt = VarInt::from_u32(600_000);
/// How long a close waits for the last frames to be acknowledged.
const LINGER: Duration = Duration::from_secs(1);

/// Sockets that many devices share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sockets {
    endpoints: Arc<[Endpoint]>,
    transport: Arc<TransportConfig>,
}

impl Sockets {
    /// Binds `count` of them on loopback.
    pub fn bind(count: usize) -> std::io::Result<Self> {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let endpoints: Vec<_> = (0..count.max(1)).map(|_| Endpoint::client(local)).collect::<Result<_, _>>()?;
        let mut transport = TransportConfig::default();
        // As the agent's link has it, less the search for a larger MTU.
        transport
            .receive_window(VarInt::from_u32(256 * 1024))
            .stream_receive_window(VarInt::from_u32(64 * 1024))
            .send_window(256 * 1024)
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(IdleTimeout::from(IDLE_TIMEOUT)))
            .mtu_discovery_config(None);
        Ok(Self { endpoints: endpoints.into(), transport: Arc::new(transport) })
    }

    /// The transport of the device `index`.
    pub(crate) fn transport(&self, index: usize, identity: Identity) -> Box<dyn Transport> {
        let endpoint = self.endpoints[index % self.endpoints.len()].clone();
        Box::new(Shared { endpoint, transport: Arc::clone(&self.transport), identity })
    }
}

struct Shared {
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
    identity: Identity,
}

fn failed(error: impl ToString) -> ConnectError {
    ConnectError::Failed(error.to_string())
}

#[async_trait]
impl Transport for Shared {
    fn name(&self) -> &'static str {
        "quic"
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let quic = self.identity.endpoints().quic;
        let (host, port) = quic.rsplit_once(':').ok_or(ConnectError::NotOffered)?;
        let port: u16 = port.parse().map_err(failed)?;
        let tls = self.identity.client_tls(&[ALPN]).map_err(failed)?;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(failed)?));
        config.transport_config(Arc::clone(&self.transport));
        // Simulated devices are on the plane's own machine; the name is what its certificate must carry.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connecting = self.endpoint.connect_with(config, address, host).map_err(failed)?;
        let connection = match timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Err(_) | Ok(Err(quinn::ConnectionError::TimedOut)) => return Err(ConnectError::Silent),
            Ok(connected) => connected.map_err(failed)?,
        };
        let (send, receive) = connection.open_bi().await.map_err(failed)?;
        let gauge = quic_gauge(connection.clone());
        let sink = Sink { frames: FramedWrite::new(send, codec()), connection };
        let stream = Stream(FramedRead::new(receive, codec()));
        Ok(Connection { sink: Box::new(sink), stream: Box::new(stream), gauge: Some(gauge) })
    }
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(4).max_frame_length(MAX_FRAME_BYTES).new_codec()
}

struct Sink {
    frames: FramedWrite<quinn::SendStream, LengthDelimitedCodec>,
    connection: quinn::Connection,
}

#[async_trait]
impl FrameSink for Sink {
    async fn send(&mut self, frame: Bytes) -> Result<(), Lost> {
        let lost = |error: std::io::Error, connection: &quinn::Connection| {
            Lost(connection.close_reason().map_or_else(|| error.to_string(), |reason| reason.to_string()))
        };
        self.frames.send(frame).await.map_err(|error| lost(error, &self.connection))
    }

    async fn close(&mut self, reason: &str) {
        let stream = self.frames.get_mut();
        if stream.finish().is_ok() {
            // Closing at once would discard what the peer has not acknowledged.
            let _ = timeout(LINGER, stream.stopped()).await;
        }
        self.connection.close(VarInt::from_u32(0), reason.as_bytes());
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
