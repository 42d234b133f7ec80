//! The HTTP server: HTTP/1.1 and 2, plain or TLS, on a listener that it is given. It must never choose an address or a
//! certificate.
//!
//! On the stop it takes no new connections, lets requests under way finish for [`DRAIN`], and then cuts what is left.

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Connections at once; more wait in the kernel's queue. Each may hold some 100 KiB.
const MAX_CONNECTIONS: usize = 2_048;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// How long a client may take for its TLS handshake, and for the head of a request: a slow mobile link needs a few seconds.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// How long requests under way may take after the stop.
const DRAIN: Duration = Duration::from_secs(10);
/// The pause after the system refused a connection, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `app` until `stop`.
pub(crate) async fn serve(listener: TcpListener, app: Router, tls: Option<Arc<rustls::ServerConfig>>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tls = tls.map(TlsAcceptor::from);
    while let Some(slot) = stop.run_until_cancelled(slots.clone().acquire_owned()).await {
        let slot = slot.expect("the semaphore is never closed");
        let (stream, from) = match stop.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection was not accepted; `ulimit -n` may be too low");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (app, tls, stop, cut) = (app.clone(), tls.clone(), stop.clone(), cut.clone());
        connections.spawn(async move {
            let _slot = slot;
            cut.run_until_cancelled(greet(stream, from, app, tls, stop)).await;
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "requests were cut, they took longer than the drain lasts");
        cut.cancel();
        connections.wait().await;
    }
}

async fn greet(stream: TcpStream, from: SocketAddr, app: Router, tls: Option<TlsAcceptor>, stop: CancellationToken) {
    // Latency over packets: answers are small.
    let _ = stream.set_nodelay(true);
    match tls {
        None => talk(stream, from, app, stop).await,
        Some(tls) => match tokio::time::timeout(HEAD_PATIENCE, tls.accept(stream)).await {
            Ok(Ok(stream)) => talk(stream, from, app, stop).await,
            Ok(Err(error)) => tracing::debug!(%from, %error, "no TLS handshake"),
            Err(_) => tracing::debug!(%from, "the TLS handshake took too long"),
        },
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    from: SocketAddr,
    app: Router,
    stop: CancellationToken,
) {
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(from));
        app.clone().oneshot(request.map(Body::new))
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%from, error = &*error as &dyn std::error::Error, "a connection broke");
    }
}
