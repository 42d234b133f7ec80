//! The embedded MQTT listener: TLS with required client certificates, one session per connection.
//!
//! ```text
//! TCP ─► limits ─► TLS, client certificate ─► Peer ─► CONNECT within time ─► frames ⇄ Sessions::run
//! ```
//! What is allowed on a connection is decided in `wire`; this moves bytes, measures time and bounds memory: it reads no
//! further while the session has not taken what was read.

use super::topics;
use super::wire::{Received, Wire};
use crate::fleet::peer;
use crate::fleet::ports::Transport;
use crate::fleet::sessions::{Incoming, Sessions};
use crate::platform::clock::Clock;
use crate::platform::pki::Pki;
use bytes::{Bytes, BytesMut};
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A TLS handshake takes 2 round trips; a satellite link has 700 ms each.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the handshake to CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer whose window stays shut for so long is gone, or hostile.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last frames, and the peer's own close, may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Frames read ahead of the session; with one packet this bounds a connection's memory.
const READ_AHEAD: usize = 4;
/// Frames the session may be ahead of the network.
const WRITE_AHEAD: usize = 16;
/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 16 * 1024;

/// How the MQTT link listens.
#[derive(Debug, Clone)]
pub(crate) struct MqttSettings {
    /// Where; port 0 takes any.
    pub(crate) listen: SocketAddr,
    /// Host names and addresses that devices reach it by, for its certificate.
    pub(crate) names: Vec<String>,
    /// Connections at a time.
    pub(crate) max_connections: usize,
    /// TLS handshakes at a time: about 1 ms of CPU each.
    pub(crate) max_handshakes: usize,
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8883)),
            names: vec!["localhost".into(), "127.0.0.1".into()],
            max_connections: 20_000,
            max_handshakes: 256,
        }
    }
}

/// Why the MQTT link cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MqttError {
    /// The address is taken or not ours.
    #[error("cannot listen for MQTT on {address}/tcp: {source}; free the port or choose another with --mqtt")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No server certificate.
    #[error("no TLS configuration for MQTT: {0}")]
    Tls(String),
}

/// The embedded listener.
pub(crate) struct MqttListener {
    listener: TcpListener,
    tls: TlsAcceptor,
    pki: Pki,
    settings: MqttSettings,
}

struct Context {
    tls: TlsAcceptor,
    pki: Pki,
    clock: Clock,
    sessions: Sessions,
    handshakes: Semaphore,
    connections: Arc<Semaphore>,
}

impl MqttListener {
    /// Binds the socket. Nothing is accepted before [`Self::run`].
    pub(crate) async fn bind(settings: MqttSettings, pki: Pki) -> Result<Self, MqttError> {
        let tls = pki.server_tls(&settings.names, &[], true).map_err(|e| MqttError::Tls(e.to_string()))?;
        let bind = |source| MqttError::Bind { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(bind)?;
        Ok(Self { listener, tls: TlsAcceptor::from(Arc::new(tls)), pki, settings })
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then waits for the connections to end; sessions are ended by their owner, before or while.
    pub(crate) async fn run(self, clock: Clock, sessions: Sessions, shutdown: CancellationToken) {
        let context = Arc::new(Context {
            tls: self.tls,
            pki: self.pki,
            clock,
            sessions,
            handshakes: Semaphore::new(self.settings.max_handshakes),
            connections: Arc::new(Semaphore::new(self.settings.max_connections)),
        });
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: connections have to end before it goes on.
                    tracing::warn!(%error, "cannot accept an MQTT connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Full: the connection is dropped before any TLS work is done for it.
            let Ok(permit) = context.connections.clone().try_acquire_owned() else { continue };
            let (context, shutdown) = (context.clone(), shutdown.clone());
            connections.spawn(async move {
                let _permit = permit;
                context.serve(stream, address, shutdown).await;
            });
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}

impl Context {
    async fn serve(&self, stream: TcpStream, address: SocketAddr, shutdown: CancellationToken) {
        let _ = stream.set_nodelay(true);
        let handshake = async {
            let _permit = self.handshakes.acquire().await;
            self.tls.accept(stream).await
        };
        let stream = tokio::select! {
            () = shutdown.cancelled() => return,
            done = timeout(HANDSHAKE_TIMEOUT, handshake) => match done {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%address, %error, "MQTT handshake failed"),
                Err(_) => return tracing::debug!(%address, "MQTT handshake timed out"),
            },
        };
        let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
        let chain = chain.map(|chain| chain.into_iter().map(|c| c.into_owned()).collect());
        let peer = match peer::identify(&self.pki, self.clock.now(), chain, Transport::Mqtt, address) {
            Ok(peer) => peer,
            Err(error) => return tracing::debug!(%address, %error, "not a device's certificate"),
        };
        let wire = Wire::new(peer.device, CONNECT_TIMEOUT);
        let (frames, incoming) = mpsc::channel(READ_AHEAD);
        let (outgoing, written) = mpsc::channel(WRITE_AHEAD);
        tracing::debug!(%address, topic = %topics::up(peer.device), "MQTT connection");
        let mut session = pin!(self.sessions.run(peer, incoming, outgoing));
        let mut link = pin!(pump(stream, wire, frames, written));
        tokio::select! {
            // A device that takes nothing must not hold the connection.
            () = &mut session => { let _ = timeout(2 * FLUSH_TIMEOUT, link).await; }
            // The link has dropped its ends: the session notices, and still has to say that the device is gone.
            () = &mut link => session.await,
        }
    }
}

/// Moves bytes between the socket, the wire and the session, until either ends.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    mut wire: Wire,
    frames: mpsc::Sender<Incoming>,
    mut written: mpsc::Receiver<Bytes>,
) {
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let mut pending: Option<Received> = None;
    let mut heard = Instant::now();
    // Once the session is over: until when its last frames may still be acknowledged.
    let mut last: Option<Instant> = None;
    loop {
        while !wire.output().is_empty() {
            match timeout(WRITE_TIMEOUT, stream.write_buf(wire.output())).await {
                Ok(Ok(1..)) => {}
                _ => return,
            }
        }
        if stream.flush().await.is_err() || wire.is_closed() {
            break;
        }
        if last.is_some() && wire.is_settled() {
            // Only now: clients drop what they have read when a DISCONNECT comes right behind it.
            wire.disconnect(DisconnectReasonCode::NormalDisconnection);
            continue;
        }
        if pending.is_none() && !input.is_empty() {
            pending = wire.receive(&mut input);
            continue;
        }
        tokio::select! {
            permit = frames.reserve(), if pending.is_some() => {
                let Some(Received { frame, packet_id }) = pending.take() else { continue };
                // Without a permit the session is over: what it still sends goes out below.
                if let Ok(permit) = permit {
                    permit.send(Ok(frame));
                    wire.accepted(packet_id);
                }
            }
            read = stream.read_buf(&mut input), if pending.is_none() => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => heard = Instant::now(),
            },
            frame = written.recv(), if wire.can_send() && last.is_none() => match frame {
                Some(frame) => wire.send(&frame),
                None => last = Some(Instant::now() + FLUSH_TIMEOUT),
            },
            () = tokio::time::sleep_until(last.unwrap_or(heard + wire.patience())), if last.is_some() || pending.is_none() => {
                wire.disconnect(match last {
                    Some(_) => DisconnectReasonCode::NormalDisconnection,
                    None => DisconnectReasonCode::KeepAliveTimeout,
                });
            }
        }
    }
    // With unread input a close becomes a reset, and the peer may lose the last frames: read it out, for a moment.
    let _ = stream.shutdown().await;
    let drain = async { while matches!(stream.read(&mut [0; 4_096]).await, Ok(1..)) {} };
    let _ = timeout(FLUSH_TIMEOUT, drain).await;
}
