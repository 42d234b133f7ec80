//! A UDP relay between agents and the QUIC listener that a test can cut, as a firewall would: packets vanish, nothing answers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The largest datagram there is.
const MAX_DATAGRAM: usize = 65_535;

/// Forwards datagrams while it is open. Dropping ends it.
pub struct UdpRelay {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    _guard: DropGuard,
}

impl UdpRelay {
    /// Listens on a free loopback port and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("loopback has a free port"));
        let address = socket.local_addr().expect("a bound socket has an address");
        let open = Arc::new(AtomicBool::new(true));
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(forward(socket, target, open.clone(), stop.clone())));
        Self { address, open, _guard: stop.drop_guard() }
    }

    /// Where agents connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets packets through, or not.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
    }
}

async fn forward(socket: Arc<UdpSocket>, target: SocketAddr, open: Arc<AtomicBool>, stop: CancellationToken) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        if !open.load(Ordering::SeqCst) {
            continue;
        }
        let upstream = match clients.entry(client) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                let Ok(upstream) = connected(target).await else { continue };
                let back = answers(socket.clone(), upstream.clone(), client, open.clone());
                tokio::spawn(stop.clone().run_until_cancelled_owned(back));
                place.insert(upstream).clone()
            }
        };
        // A lost datagram is what UDP may do.
        let _ = upstream.send(&buffer[..length]).await;
    }
}

async fn connected(target: SocketAddr) -> std::io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(target).await?;
    Ok(Arc::new(socket))
}

async fn answers(socket: Arc<UdpSocket>, upstream: Arc<UdpSocket>, client: SocketAddr, open: Arc<AtomicBool>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // A refused datagram comes back as an error once; the next may pass.
        let Ok(length) = upstream.recv(&mut buffer).await else { continue };
        if open.load(Ordering::SeqCst) {
            let _ = socket.send_to(&buffer[..length], client).await;
        }
    }
}
