//! The QUIC link: accepts connections, learns from the certificate who is there, and carries frames.
//!
//! Each connection has one bidirectional stream, opened by the device; on it every frame follows its length (u32,
//! big-endian). Nothing here reads a frame's content, and no device is served whose certificate this deployment's CA did
//! not sign. There is no 0-RTT: a replayed first flight must never act.
//!
//! ```text
//! datagram ─► limits ─► Retry when busy ─► TLS 1.3, client certificate ─► Peer ─► one stream ─► Sessions::run
//! ```

use super::peer;
use super::ports::Transport;
use super::sessions::{Incoming, Sessions};
use crate::platform::clock::Clock;
use crate::platform::pki::Pki;
use aidos_protocol::frame::{ALPN, FrameError, MAX_FRAME_BYTES};
use bytes::Bytes;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A handshake takes 2 round trips; a satellite link has 700 ms each.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Must outlive three pings of a quiet device, which the session judges.
const IDLE_TIMEOUT: Duration = Duration::from_secs(210);
/// How long the last frames may take to reach the device.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// From this part of the handshakes on, addresses have to be proven by a Retry, before any TLS work: in quiet times devices
/// are spared the round trip.
const RETRY_FROM_PART: usize = 8;
/// Frames read ahead of the session; with the stream's window this bounds a connection's memory.
const READ_AHEAD: usize = 4;
/// Frames the session may be ahead of the network.
const WRITE_AHEAD: usize = 16;
/// Application error code of a connection that the plane closes in order.
const CLOSED: VarInt = VarInt::from_u32(0);
/// Application error code of a connection that is not a device's.
const NOT_A_DEVICE: VarInt = VarInt::from_u32(1);

/// How the QUIC link listens.
#[derive(Debug, Clone)]
pub(crate) struct QuicSettings {
    /// Where; port 0 takes any.
    pub(crate) listen: SocketAddr,
    /// Host names and addresses that devices reach it by, for its certificate.
    pub(crate) names: Vec<String>,
    /// Connections at a time: 30 KiB each.
    pub(crate) max_connections: usize,
    /// Handshakes at a time: about 1 ms of CPU each.
    pub(crate) max_handshakes: usize,
    /// Generic segmentation offload: 2.7 times cheaper, and broken on some network cards. Off: works everywhere.
    pub(crate) segmentation_offload: bool,
}

impl Default for QuicSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 7070)),
            names: vec!["localhost".into(), "127.0.0.1".into()],
            max_connections: 35_000,
            max_handshakes: 256,
            segmentation_offload: true,
        }
    }
}

/// Why the QUIC link cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuicError {
    /// The address is taken or not ours.
    #[error("cannot listen for QUIC on {address}/udp: {source}; free the port or choose another with --quic")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The server certificate does not make a QUIC configuration.
    #[error("the TLS configuration cannot carry QUIC: {0}")]
    Tls(String),
}

/// The QUIC listener.
pub(crate) struct Quic {
    endpoint: Endpoint,
    pki: Pki,
    settings: QuicSettings,
}

struct Context {
    pki: Pki,
    clock: Clock,
    sessions: Sessions,
    settings: QuicSettings,
    handshakes: Semaphore,
    connections: Semaphore,
}

impl Quic {
    /// Binds the socket. Nothing is accepted before [`Self::run`].
    pub(crate) fn bind(settings: QuicSettings, pki: Pki) -> Result<Self, QuicError> {
        let tls = pki.server_tls(&settings.names, &[ALPN], true).map_err(|e| QuicError::Tls(e.to_string()))?;
        let crypto = QuicServerConfig::try_from(tls).map_err(|e| QuicError::Tls(e.to_string()))?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport(settings.segmentation_offload)));
        // Unaccepted first flights are held in memory; past this they are refused.
        config.max_incoming(1_024).incoming_buffer_size(16 * 1024).incoming_buffer_size_total(8 << 20);
        let bind = |source| QuicError::Bind { address: settings.listen, source };
        let socket = std::net::UdpSocket::bind(settings.listen).map_err(bind)?;
        let endpoint = Endpoint::new(endpoint(&pki), Some(config), socket, Arc::new(TokioRuntime)).map_err(bind)?;
        Ok(Self { endpoint, pki, settings })
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Serves until `shutdown`, then waits for the connections to end; sessions are ended by their owner, before or while.
    pub(crate) async fn run(self, clock: Clock, sessions: Sessions, shutdown: CancellationToken) {
        let context = Arc::new(Context {
            pki: self.pki,
            clock,
            sessions,
            handshakes: Semaphore::new(self.settings.max_handshakes),
            connections: Semaphore::new(self.settings.max_connections),
            settings: self.settings,
        });
        let connections = TaskTracker::new();
        loop {
            let incoming = tokio::select! {
                () = shutdown.cancelled() => break,
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            let under_way = context.settings.max_handshakes - context.handshakes.available_permits();
            if under_way >= context.settings.max_handshakes / RETRY_FROM_PART
                && !incoming.remote_address_validated()
                && incoming.may_retry()
            {
                // Cannot fail: it may retry.
                let _ = incoming.retry();
                continue;
            }
            let context = context.clone();
            if context.handshakes.available_permits() == 0 || context.connections.available_permits() == 0 {
                incoming.refuse();
                continue;
            }
            connections.spawn(async move { context.serve(incoming).await });
        }
        connections.close();
        connections.wait().await;
        self.endpoint.close(CLOSED, b"shutting down");
        self.endpoint.wait_idle().await;
    }
}

/// Connection ids and reset tokens (RFC 9000, 10.3) follow from the CA's key: a plane that was killed and starts again, or
/// another process of the same plane, tells a device that its connection is gone at its first packet.
fn endpoint(pki: &Pki) -> EndpointConfig {
    let ids = ring::hmac::sign(&pki.shared_key("aidos quic connection ids v1"), &[]);
    let ids = ids.as_ref().first_chunk().copied().map(u64::from_le_bytes).expect("a tag has 32 bytes");
    let mut config = EndpointConfig::new(Arc::new(pki.shared_key("aidos quic stateless reset v1")));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

fn transport(segmentation_offload: bool) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        // Small windows: 30 KiB of memory per idle connection, and a bound on what a hostile peer can make us hold.
        .receive_window(VarInt::from_u32(256 * 1024))
        .stream_receive_window(VarInt::from_u32(64 * 1024))
        .send_window(256 * 1024)
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("minutes fit")))
        // A reconnect costs 5.6 KB without discovery and up to 16 KB with it, and control frames are small.
        .mtu_discovery_config(None)
        .enable_segmentation_offload(segmentation_offload);
    transport
}

impl Context {
    async fn serve(&self, incoming: quinn::Incoming) {
        let address = incoming.remote_address();
        let (Ok(handshake), Ok(_connection)) = (self.handshakes.try_acquire(), self.connections.try_acquire()) else {
            return incoming.refuse();
        };
        let connection = match tokio::time::timeout(HANDSHAKE_TIMEOUT, incoming).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!(%address, %error, "QUIC handshake failed"),
            Err(_) => return tracing::debug!(%address, "QUIC handshake timed out"),
        };
        let chain = connection.peer_identity().and_then(|identity| identity.downcast().ok());
        let peer = match peer::identify(&self.pki, self.clock.now(), chain.map(|c| *c), Transport::Quic, address) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::debug!(%address, %error, "not a device's certificate");
                return connection.close(NOT_A_DEVICE, error.to_string().as_bytes());
            }
        };
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, connection.accept_bi()).await;
        drop(handshake);
        let Ok(Ok((send, receive))) = stream else {
            return connection.close(NOT_A_DEVICE, b"no stream in time");
        };
        let (frames, incoming) = mpsc::channel(READ_AHEAD);
        let (outgoing, written) = mpsc::channel(WRITE_AHEAD);
        let mut session = pin!(self.sessions.run(peer, incoming, outgoing));
        let link = async { tokio::join!(read(receive, frames), write(send, written)) };
        let mut link = pin!(link);
        tokio::select! {
            // A device that takes nothing must not hold the connection.
            () = &mut session => { let _ = tokio::time::timeout(FLUSH_TIMEOUT, link).await; }
            // The link has dropped its ends: the session notices, and still has to say that the device is gone.
            _ = &mut link => session.await,
        }
        connection.close(CLOSED, b"");
    }
}

/// Frames into `frames`, until the stream or the session ends.
async fn read(mut stream: RecvStream, frames: mpsc::Sender<Incoming>) {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME_BYTES {
            // Said by the prefix alone: the bytes themselves are never read.
            let _ = frames.send(Err(FrameError::TooLarge(length))).await;
            return;
        }
        let mut frame = vec![0; length];
        if stream.read_exact(&mut frame).await.is_err() || frames.send(Ok(Bytes::from(frame))).await.is_err() {
            return;
        }
    }
}

/// Frames from `written`, until the session ends; then waits until the device has them.
async fn write(mut stream: SendStream, mut written: mpsc::Receiver<Bytes>) {
    while let Some(frame) = written.recv().await {
        let length = u32::try_from(frame.len()).expect("frames are below 1 MiB").to_be_bytes();
        let mut parts = [Bytes::copy_from_slice(&length), frame];
        if stream.write_all_chunks(&mut parts).await.is_err() {
            return;
        }
    }
    if stream.finish().is_ok() {
        let _ = stream.stopped().await;
    }
}
