//! Brings one artifact into the store: from a neighbour that has it, else asks the plane where it is and downloads by range,
//! from where the last attempt stopped.
//!
//! Nothing here decides whether to try again; the caller does, with a pause. Every wait has a limit.

use crate::link::LinkError;
use crate::neighbours::{Neighbours, Pursuit};
use crate::state::{ChunkError, Chunks, Download};
use aidos_protocol::artifact::Digest;
use aidos_protocol::frame::ArtifactGrant;
use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{StatusCode, header};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a server may take to begin its answer, and how long it may pause within. Half a minute outlasts a roaming modem.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pieces between the network and the disk: enough to overlap them, a few hundred KiB at most.
const QUEUE: usize = 8;

/// Where artifacts come from.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Asks the plane where the artifact is.
    async fn grant(&self, digest: Digest) -> Result<ArtifactGrant, LinkError>;
    /// The client that trusts who serves `url`.
    fn client(&self, url: &str) -> Result<reqwest::Client, String>;
    /// Returns when asking again may go better than before: the link came up.
    async fn reachable(&self);
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

/// Brings `digest` into the store and returns its file. `size` `None` takes the length that the plane names.
pub(crate) async fn fetch(
    source: &dyn Source,
    neighbours: &Neighbours,
    store: &Chunks,
    digest: Digest,
    size: Option<u64>,
) -> Result<PathBuf, FetchError> {
    if let Some(path) = store.path(&digest) {
        return Ok(path);
    }
    // Neighbours need no plane, but a length to ask for.
    let (mut granted, size) = match size {
        Some(size) => (None, size),
        None => {
            let grant = grant(source, digest, None).await?;
            let size = grant.size;
            (Some(grant), size)
        }
    };
    let mut pursuit = neighbours.pursue(digest, size).await;
    loop {
        let opened = store.clone();
        let download = blocking(move || opened.download(digest, size)).await?;
        let mut download = near(&mut pursuit, download).await?;
        if !download.is_complete() {
            let grant = match granted.take() {
                Some(grant) => grant,
                None => grant(source, digest, Some(size)).await?,
            };
            let client = source.client(&grant.url).map_err(FetchError::Client)?;
            download = receive(client, &grant.url, download, digest, &mut pursuit).await?;
        }
        match blocking(move || download.finish()).await {
            // Each neighbour can bring this about once; what came from afar alone is the caller's to try again.
            Err(FetchError::Store(ChunkError::Mismatch { .. })) if pursuit.wrong() => {}
            finished => return finished,
        }
    }
}

/// Asks the plane where the artifact is; `desired` is its length as intent has it.
async fn grant(source: &dyn Source, digest: Digest, desired: Option<u64>) -> Result<ArtifactGrant, FetchError> {
    let grant = source.grant(digest).await?;
    if !grant.error.is_empty() {
        return Err(FetchError::Refused { digest, reason: grant.error });
    }
    match desired {
        Some(desired) if grant.size != desired => Err(FetchError::Length { digest, announced: grant.size, desired }),
        _ => Ok(grant),
    }
}

/// Takes what neighbours give, until it is this agent's turn to fetch the rest from afar.
async fn near(pursuit: &mut Pursuit, mut download: Download) -> Result<Download, FetchError> {
    while !download.is_complete() {
        let Some(bytes) = pursuit.next(download.offset()).await else { break };
        download = blocking(move || download.write(&bytes).map(|()| download)).await?;
    }
    Ok(download)
}

async fn receive(
    client: reqwest::Client,
    url: &str,
    mut download: Download,
    digest: Digest,
    pursuit: &mut Pursuit,
) -> Result<Download, FetchError> {
    let size = download.size();
    let broken = |offset: u64, reason: String| FetchError::Broken { digest, offset, size, reason };
    let request = client.get(url).header(header::RANGE, format!("bytes={}-", download.offset())).send();
    let response = tokio::time::timeout(PATIENCE, request)
        .await
        .map_err(|_| broken(download.offset(), "the server does not answer".into()))?
        .map_err(|error| broken(download.offset(), describe(error)))?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if starts_at(&response, download.offset()) => {}
        // A server without ranges sends the whole.
        StatusCode::OK | StatusCode::PARTIAL_CONTENT if download.offset() == 0 => {}
        StatusCode::OK => {
            download = blocking(move || download.restart().map(|()| download)).await?;
        }
        status => return Err(FetchError::Status { digest, url: without_query(url), status }),
    }
    let begun = download.offset();
    let (pieces, mut arrived) = mpsc::channel::<Bytes>(QUEUE);
    let writer = tokio::task::spawn_blocking(move || {
        let mut failed = None;
        while let Some(piece) = arrived.blocking_recv() {
            if let Err(error) = download.write(&piece) {
                failed = Some(error);
                break;
            }
        }
        // What came is kept, whatever ended the stream.
        let kept = download.checkpoint();
        match failed {
            Some(error) => Err(error),
            None => kept.map(|()| download),
        }
    });
    let ended = pump(response, pieces, begun, pursuit).await;
    let download = writer.await.map_err(|_| FetchError::Stopping)??;
    match ended {
        _ if download.is_complete() => Ok(download),
        Ok(()) => Err(broken(download.offset(), "the server ended early".into())),
        Err(reason) => Err(broken(download.offset(), reason)),
    }
}

async fn pump(
    mut response: reqwest::Response,
    pieces: mpsc::Sender<Bytes>,
    mut offset: u64,
    pursuit: &mut Pursuit,
) -> Result<(), String> {
    pursuit.came_from_afar(offset);
    loop {
        let piece = tokio::time::timeout(PATIENCE, response.chunk()).await;
        match piece {
            Err(_) => return Err(format!("nothing came for {} s", PATIENCE.as_secs())),
            Ok(Err(error)) => return Err(describe(error)),
            Ok(Ok(None)) => return Ok(()),
            // A closed channel means that the disk failed, which the writer tells.
            Ok(Ok(Some(piece))) => {
                offset += piece.len() as u64;
                pursuit.came_from_afar(offset);
                if pieces.send(piece).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
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

fn starts_at(response: &reqwest::Response, offset: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.and_then(|text| text.strip_prefix("bytes ")?.split('-').next()?.parse().ok()) == Some(offset)
}

/// The innermost cause says what happened; the URL would carry the signature into status and logs.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}
