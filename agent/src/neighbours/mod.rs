//! Neighbours: the agents of one site give each other what they have fetched, so that it comes over the site's line once.
//!
//! ```text
//! who is there     configured addresses, or mDNS (`_aidos._tcp.local.`)       → hints, nothing more
//! HEAD /v1/site                                                               → 200, same tenant (TLS) and site (header)
//! GET  /v1/artifacts/{sha256}   Range: bytes=N-                               → 206 bytes, at most 2 MiB of them
//!      /v1/chunks/{sha256}                                                      202 wants it, too (`aidos-has: N`: fetches it)
//!                                                                               404 has no part in it · 503 no seat free
//! HEAD of the same                                                            → the same without bytes
//! ```
//!
//! Everything goes over TLS with device certificates: another tenant's is refused by the handshake. The site is what the other
//! end says it is; a lie there gains bandwidth only, since content is believed by its digest alone. Only whole content that was
//! verified is given away. Who fetches first is computed, not agreed (`rank`); how the others wait is `hunt`.
//!
//! Off unless it is configured: it opens a port towards the network around the device, which nobody should find open unasked.

mod client;
mod counts;
mod discovery;
mod hunt;
mod pieces;
mod pursuit;
mod rank;
mod revoked;
mod roster;
mod seats;
mod server;
#[cfg(test)]
mod tests;

pub use counts::Totals;
pub use pieces::Pieces;
pub use pursuit::Pursuit;
pub use revoked::Revoked;
pub use roster::MOST as MOST_PEERS;

use crate::bandwidth::Throttle;
use crate::identity::{Identity, Refused};
use aidos_protocol::artifact::Digest;
use bytes::Bytes;
use client::Dialler;
use counts::Counts;
use roster::Roster;
use seats::Seats;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bytes of one answer: large enough that questions cost nothing, small enough that each seat holds little memory.
pub(crate) const RANGE: u64 = 2 << 20;
/// Neighbours served at a time: more would each get less, and the first to be done serves others.
const SEATS: usize = 4;
/// The pause after discovery failed.
const DISCOVERY_PAUSE: Duration = Duration::from_secs(60);
/// Names of the two headers.
const SITE: &str = "aidos-site";
const HAS: &str = "aidos-has";

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Neighbours' addresses, `host:port`.
    pub peers: Vec<String>,
    /// Whether to look for neighbours, and to be found, by mDNS.
    pub mdns: bool,
    /// Bytes per second that are sent to neighbours, all together.
    pub upload_bytes_per_s: u64,
}

/// Tells which site this device is at, if any.
pub type Site = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The neighbours of this agent. Cheap to clone.
#[derive(Clone)]
pub struct Neighbours {
    shared: Option<Arc<Shared>>,
    counts: Arc<Counts>,
}

/// How it goes, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// Whether neighbours are used at all.
    pub enabled: bool,
    /// Whether this device is at a site.
    pub sited: bool,
    /// Addresses that are known.
    pub known: usize,
    /// Those of them that answered.
    pub met: usize,
    /// Devices that are not asked because they sent wrong bytes.
    pub shunned: usize,
    /// What has gone where.
    pub totals: Totals,
}

struct Shared {
    settings: Settings,
    identity: Identity,
    pieces: Arc<dyn Pieces>,
    site: Site,
    refused: Refused,
    dialler: Dialler,
    began: Instant,
    roster: Mutex<Roster>,
    /// What this agent wants at present, and how far it is where it fetches from afar.
    wanted: Mutex<BTreeMap<Digest, Wanted>>,
    seats: Mutex<Seats>,
    throttle: Throttle,
    counts: Arc<Counts>,
    /// One look around at a time.
    looking: tokio::sync::Mutex<()>,
}

/// One piece that this agent is after.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    hunters: usize,
    afar: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Neighbours {
    /// No neighbours: everything comes from afar, and is counted.
    pub fn off() -> Self {
        Self { shared: None, counts: Arc::default() }
    }

    /// Neighbours that are not yet asked or served; [`Neighbours::run`] does that.
    pub fn new(settings: Settings, identity: Identity, pieces: Arc<dyn Pieces>, site: Site, refused: Refused) -> Self {
        let counts = Arc::new(Counts::default());
        let shared = Shared {
            throttle: Throttle::new(settings.upload_bytes_per_s),
            dialler: Dialler::new(identity.clone(), Arc::clone(&refused)),
            settings,
            identity,
            pieces,
            site,
            refused,
            began: Instant::now(),
            roster: Mutex::default(),
            wanted: Mutex::default(),
            seats: Mutex::new(Seats::new(SEATS)),
            counts: Arc::clone(&counts),
            looking: tokio::sync::Mutex::default(),
        };
        Self { shared: Some(Arc::new(shared)), counts }
    }

    /// Serves neighbours on `listener` and looks for them until `stop`.
    pub async fn run(&self, listener: TcpListener, stop: CancellationToken) -> Result<(), String> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let discovery = async {
            while shared.settings.mdns && !stop.is_cancelled() {
                let Err(reason) = discovery::run(shared, address, stop.clone()).await else { break };
                // A network that is not up yet, most likely. Whoever is known is served meanwhile.
                tracing::warn!(reason, "neighbours are not looked for; trying again");
                let _ = tokio::time::timeout(DISCOVERY_PAUSE, stop.cancelled()).await;
            }
        };
        tokio::join!(server::run(Arc::clone(shared), listener, stop.clone()), discovery);
        Ok(())
    }

    /// Begins to go after `digest`. Neighbours that ask for it hear that this agent wants it for as long as the value lives.
    pub async fn pursue(&self, digest: Digest, size: u64) -> Pursuit {
        Pursuit::begin(self.shared.clone(), Arc::clone(&self.counts), digest, size).await
    }

    /// A small piece as a whole, verified. `None`: it is this agent's turn to fetch it from afar.
    pub async fn piece(&self, digest: Digest, size: u64) -> Option<Bytes> {
        let mut pursuit = self.pursue(digest, size).await;
        let mut whole = Vec::with_capacity(usize::try_from(size.min(RANGE)).unwrap_or_default());
        loop {
            while (whole.len() as u64) < size {
                whole.extend_from_slice(&pursuit.next(whole.len() as u64).await?);
            }
            if Digest::of(&whole) == digest {
                return Some(whole.into());
            }
            pursuit.wrong();
            whole.clear();
        }
    }

    /// What has gone where since the start.
    pub fn totals(&self) -> Totals {
        self.counts.totals()
    }

    /// How it goes.
    pub fn view(&self) -> View {
        let totals = self.totals();
        let Some(shared) = &self.shared else { return View { totals, ..View::default() } };
        let (known, met, shunned) = lock(&shared.roster).counts(shared.now());
        View { enabled: true, sited: (shared.site)().is_some(), known, met, shunned, totals }
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Learns who is there: asks every address of which nothing is known any more.
    async fn look_around(&self, site: &str) {
        let _one = self.looking.lock().await;
        for peer in self.settings.peers.iter().take(roster::MOST) {
            match tokio::time::timeout(client::CONNECT, tokio::net::lookup_host(peer)).await {
                Ok(Ok(addresses)) => addresses.for_each(|address| lock(&self.roster).name(address, self.now())),
                _ => tracing::warn!(peer, "a neighbour's name is not known here; check `neighbours.peers`"),
            }
        }
        let stale = lock(&self.roster).stale(self.now());
        let asked = futures::future::join_all(
            stale.into_iter().map(|address| async move { (address, self.dialler.who(address, site).await) }),
        );
        for (address, who) in asked.await {
            let mut roster = lock(&self.roster);
            match who {
                Ok(device) if device != self.identity.device_id() => roster.met(address, device, self.now()),
                Ok(_) => roster.missed(address, self.now()),
                Err(reason) => {
                    tracing::debug!(%address, reason, "no neighbour there");
                    roster.missed(address, self.now());
                }
            }
        }
    }

    /// An address that discovery came upon.
    fn named(&self, address: SocketAddr) {
        lock(&self.roster).name(address, self.now());
    }
}
