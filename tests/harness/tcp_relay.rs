//! A TCP relay between agents and the API that a test can hold: after so many bytes of an answer nothing more comes, and the
//! connection stays open, as on a line that stalls.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes that are passed on at once.
const PIECE: usize = 16 << 10;

/// Passes bytes on. Dropping ends it.
pub struct TcpRelay {
    address: SocketAddr,
    limit: watch::Sender<u64>,
    _guard: DropGuard,
}

impl TcpRelay {
    /// Listens on a free loopback port and connects to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (limit, _) = watch::channel(u64::MAX);
        let stop = CancellationToken::new();
        let (limits, within) = (limit.clone(), stop.clone());
        let accept = async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let (there, back) = (pass(from_client, to_server, None), pass(from_server, to_client, Some(limits.subscribe())));
                tokio::spawn(within.clone().run_until_cancelled_owned(there));
                tokio::spawn(within.clone().run_until_cancelled_owned(back));
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept));
        Self { address, limit, _guard: stop.drop_guard() }
    }

    /// Where agents connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds each connection once that many bytes were answered on it from now on.
    pub fn hold_after(&self, bytes: u64) {
        self.limit.send_replace(bytes);
    }

    /// Lets everything through, also what was held.
    pub fn release(&self) {
        self.limit.send_replace(u64::MAX);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut limit: Option<watch::Receiver<u64>>) {
    let mut passed = 0;
    let mut buffer = vec![0; PIECE];
    loop {
        if let Some(limit) = &mut limit {
            loop {
                if limit.has_changed().unwrap_or(false) {
                    passed = 0;
                }
                if passed < *limit.borrow_and_update() {
                    break;
                }
                if limit.changed().await.is_err() {
                    return;
                }
                limit.mark_changed();
            }
        }
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) if to.write_all(&buffer[..read]).await.is_err() => return,
            Ok(read) => passed += read as u64,
        }
    }
}
