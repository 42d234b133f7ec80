//! Fetches artifacts by range over HTTP, checks their digest and keeps nothing of them: a fleet's models would fill a disk.

use aidos_protocol::artifact::Digest;
use reqwest::{Client, StatusCode, header};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Downloads at a time, of all devices together: each takes a connection of the plane's and of this process.
const AT_ONCE: usize = 64;
/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why an artifact did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the server sent {came} of {size} bytes")]
    Short { came: u64, size: u64 },
    #[error("the server sent {0} instead")]
    Digest(Digest),
}

/// The client of all devices. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Downloads {
    client: Client,
    seats: Arc<Semaphore>,
    bytes: Arc<AtomicU64>,
}

impl Downloads {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let client = Client::builder().no_proxy().read_timeout(PATIENCE).pool_max_idle_per_host(AT_ONCE).build()?;
        Ok(Self { client, seats: Arc::new(Semaphore::new(AT_ONCE)), bytes: Arc::default() })
    }

    /// Bytes that came so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Fetches what must have `digest` and `size`; in two ranges where `broken`, as after a link that was cut half-way.
    pub(crate) async fn fetch(&self, url: &str, digest: Digest, size: u64, broken: bool) -> Result<(), DownloadError> {
        let _seat = self.seats.acquire().await.expect("the seats are never closed");
        let mut hash = Sha256::new();
        let mut offset = 0;
        let half = if broken { size / 2 } else { 0 };
        for end in [half, size] {
            if end > offset {
                offset = self.range(url, offset, end, &mut hash).await?;
            }
        }
        let came = Digest::from_bytes(&hash.finalize()).expect("SHA-256 has 32 bytes");
        if came == digest { Ok(()) } else { Err(DownloadError::Digest(came)) }
    }

    async fn range(&self, url: &str, from: u64, to: u64, hash: &mut Sha256) -> Result<u64, DownloadError> {
        let range = format!("bytes={from}-{}", to - 1);
        let mut response = self.client.get(url).header(header::RANGE, range).send().await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(DownloadError::Status(response.status()));
        }
        let mut at = from;
        while let Some(piece) = response.chunk().await? {
            at += piece.len() as u64;
            self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            hash.update(&piece);
        }
        if at == to { Ok(at) } else { Err(DownloadError::Short { came: at, size: to }) }
    }
}
