//! Brings one artifact into the store: from a neighbour that has it, else asks the plane where it is and fetches the rest by one
//! of several ways ([`super::ways`]), from where the last attempt stopped.
//!
//! Nothing here decides whether to try again; the caller does, with a pause. Every wait has a limit.

use super::receive::Line;
use super::ways;
use crate::bandwidth::Throttle;
use crate::link::{Held, LinkError};
use crate::neighbours::{Neighbours, Pursuit};
use crate::observe;
use crate::state::{ChunkError, Chunks, Download};
use aidos_protocol::artifact::Digest;
use aidos_protocol::delta::{MAX_WINDOW_LOG, MIN_WINDOW_LOG};
use aidos_protocol::frame::{ArtifactGrant, MAX_BASES};
use aidos_protocol::twin::Way;
use async_trait::async_trait;
use reqwest::StatusCode;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where artifacts come from.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Asks the plane where the artifact is, and by what other ways it comes, `held` being what is here.
    async fn grant(&self, digest: Digest, held: Held) -> Result<ArtifactGrant, LinkError>;
    /// The client that trusts who serves `url`.
    fn client(&self, url: &str) -> Result<reqwest::Client, String>;
    /// Returns when asking again may go better than before: the link came up.
    async fn reachable(&self);
    /// How long a server may take to begin its answer, and how long it may pause within. Half a minute outlasts a roaming modem.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
    /// What artifacts may take of the line; `None`: all of it.
    fn bandwidth(&self) -> Option<Arc<Throttle>> {
        None
    }
}

/// Why an artifact did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The plane could not be asked.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The plane will not give it.
    #[error("the control plane does not give {digest}: {reason}")]
    Refused {
        /// Which artifact.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// The plane names another length than intent does.
    #[error("{digest} has {announced} bytes at the control plane, but {desired} in what is deployed; push the model again")]
    Length {
        /// Which artifact.
        digest: Digest,
        /// In the grant.
        announced: u64,
        /// In intent.
        desired: u64,
    },
    /// The server answered something else than the file.
    #[error("downloading {digest}: {url} answered {status}")]
    Status {
        /// Which artifact.
        digest: Digest,
        /// Scheme, host and path; without the signature.
        url: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The connection failed.
    #[error("downloading {digest} stopped after {offset} of {size} bytes: {reason}")]
    Broken {
        /// Which artifact.
        digest: Digest,
        /// Bytes that are here and will not be fetched again.
        offset: u64,
        /// All bytes.
        size: u64,
        /// What happened.
        reason: String,
    },
    /// What came is not the artifact's; what was verified before it is kept.
    #[error("downloading {digest}: {url} sent what it should not: {reason}")]
    Wrong {
        /// Which artifact.
        digest: Digest,
        /// Scheme, host and path; without the signature.
        url: String,
        /// What was wrong.
        reason: String,
    },
    /// No client could be made, or its certificate is not usable.
    #[error("cannot connect to the artifact's server: {0}")]
    Client(String),
    /// The disk or the store.
    #[error(transparent)]
    Store(#[from] ChunkError),
    /// The agent is ending.
    #[error("the agent is stopping")]
    Stopping,
}

/// Brings `digest` into the store and returns its file. `size` `None` takes the length that the plane names; `kin` are files that
/// it may have much in common with.
pub(crate) async fn fetch(
    source: &dyn Source,
    neighbours: &Neighbours,
    store: &Chunks,
    digest: Digest,
    size: Option<u64>,
    kin: &[Digest],
) -> Result<PathBuf, FetchError> {
    if let Some(path) = store.path(&digest) {
        return Ok(path);
    }
    // Neighbours need no plane, but a length to ask for.
    let (mut granted, size) = match size {
        Some(size) => (None, size),
        None => {
            let held = held(store, kin, 0).await?;
            let grant = grant(source, digest, None, held.clone()).await?;
            let size = grant.size;
            (Some((grant, held)), size)
        }
    };
    let mut pursuit = neighbours.pursue(digest, size).await;
    loop {
        let opened = store.clone();
        let download = blocking(move || opened.download(digest, size)).await?;
        let mut download = near(&mut pursuit, store, download).await?;
        let mut way = Way::Neighbours;
        if !download.is_complete() {
            let (grant, held) = match granted.take() {
                Some(granted) => granted,
                None => {
                    let held = held(store, kin, size).await?;
                    (grant(source, digest, Some(size), held.clone()).await?, held)
                }
            };
            let mut line = Line { source, store, pursuit: &mut pursuit, target: digest, size };
            (download, way) = ways::afar(&mut line, &grant, &held.bases, held.window_log, download).await?;
        }
        let kept = store.clone();
        let finish = move || {
            let path = download.finish()?;
            kept.came_by(digest, size, way)?;
            Ok(path)
        };
        match blocking(finish).await {
            // Each neighbour can bring this about once; what came from afar alone is the caller's to try again.
            Err(FetchError::Store(ChunkError::Mismatch { .. })) if pursuit.wrong() => {}
            finished => return finished,
        }
    }
}

/// What there is to make an artifact of `size` bytes from.
async fn held(store: &Chunks, kin: &[Digest], size: u64) -> Result<Held, FetchError> {
    let (store, kin) = (store.clone(), kin.to_vec());
    blocking(move || {
        let bases = store.bases(&kin, size, MAX_BASES)?;
        Ok(Held { bases, window_log: window_log(observe::memory_bytes()) })
    })
    .await
}

/// The largest window of a delta that a device with so much memory allows: applying takes eight of them, and at most an eighth of
/// the memory. 0: none.
fn window_log(memory: u64) -> u8 {
    let fits = |log: &u8| memory / 8 >= 8 << u64::from(*log);
    (MIN_WINDOW_LOG..=MAX_WINDOW_LOG).rev().find(fits).unwrap_or(0)
}

/// Asks the plane where the artifact is; `desired` is its length as intent has it.
async fn grant(source: &dyn Source, digest: Digest, desired: Option<u64>, held: Held) -> Result<ArtifactGrant, FetchError> {
    let grant = source.grant(digest, held).await?;
    if !grant.error.is_empty() {
        return Err(FetchError::Refused { digest, reason: grant.error });
    }
    match desired {
        Some(desired) if grant.size != desired => Err(FetchError::Length { digest, announced: grant.size, desired }),
        _ => Ok(grant),
    }
}

/// Takes what neighbours give, until it is this agent's turn to fetch the rest from afar.
async fn near(pursuit: &mut Pursuit, store: &Chunks, mut download: Download) -> Result<Download, FetchError> {
    while !download.is_complete() {
        let Some(bytes) = pursuit.next(download.offset()).await else { break };
        let store = store.clone();
        let write = move || {
            download.write(&bytes)?;
            store.count(download.digest(), download.size(), 0, bytes.len() as u64)?;
            Ok(download)
        };
        download = blocking(write).await?;
    }
    Ok(download)
}

/// Runs `work` on the blocking pool.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChunkError> + Send + 'static,
) -> Result<T, FetchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(FetchError::Stopping),
    }
}

pub(super) fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_device_allows_smaller_windows() {
        assert_eq!(window_log(8 << 30), MAX_WINDOW_LOG);
        assert_eq!(window_log(512 << 20), 23);
        assert_eq!(window_log(128 << 20), 21);
        assert_eq!(window_log(1 << 20), 0);
    }
}
