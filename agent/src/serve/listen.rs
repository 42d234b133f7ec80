//! Serves a router on a listener until told to stop, with a limit on connections and on draining.

use axum::{Router, serve::Listener};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

/// Connections at a time: local programs only, each with a few; far below the usual 1024 open files of a process.
const CONNECTIONS: usize = 256;
/// How long running requests may take to end after the stop: below the 10 s after which service managers kill.
const DRAIN: Duration = Duration::from_secs(8);

/// Answers until `shutdown` is cancelled, then lets running requests end for a while. Connections beyond the limit wait to be accepted.
pub async fn run(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let bounded = Bounded { listener, seats: Arc::new(Semaphore::new(CONNECTIONS)) };
    let stop = shutdown.clone();
    let server = axum::serve(bounded, router).with_graceful_shutdown(async move { stop.cancelled().await });
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = server.into_future() => ended,
        () = drained => {
            tracing::warn!("requests were still running {} s after the stop and were cut off", DRAIN.as_secs());
            Ok(())
        }
    }
}

struct Bounded {
    listener: TcpListener,
    seats: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed; without a seat the connection is merely not counted.
        let seat = Arc::clone(&self.seats).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Answers are small and waited for.
        _ = stream.set_nodelay(true);
        (Connection { stream, _seat: seat }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that gives its seat back when it ends.
struct Connection {
    stream: TcpStream,
    _seat: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
