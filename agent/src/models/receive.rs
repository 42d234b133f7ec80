//! One answer of a server, streamed to the disk: the range that was asked for and no byte more. What came is kept, whatever ended
//! the stream; what a server may send instead of the range is told apart before any of it is used.

use super::fetch::{FetchError, Source};
use crate::neighbours::Pursuit;
use crate::state::{ChunkError, Chunks, Download};
use aidos_protocol::artifact::{Chunk, Digest, unpack};
use bytes::Bytes;
use reqwest::{Response, StatusCode, header};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Pieces between the network and the disk: enough to overlap them, a few hundred KiB at most.
const QUEUE: usize = 8;
/// Bytes that came between two notes of how many: what a kill leaves uncounted.
const COUNT: u64 = 4 << 20;

/// What ended a stream early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The server answered something else.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// The connection failed, or nothing came.
    #[error("{0}")]
    Broken(String),
    /// What came is not what it should be.
    #[error("{0}")]
    Wrong(String),
    /// The disk or the store.
    #[error(transparent)]
    Store(#[from] ChunkError),
    /// No client could be made.
    #[error("{0}")]
    Client(String),
}

/// Over which line and for what bytes come.
pub(super) struct Line<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) store: &'a Chunks,
    pub(super) pursuit: &'a mut Pursuit,
    /// What it is all for.
    pub(super) target: Digest,
    pub(super) size: u64,
}

/// Where bytes go. Its methods block.
pub(super) trait Sink: Send + 'static {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble>;
    /// Bytes that are here.
    fn offset(&self) -> u64;
    /// Makes what is here survive.
    fn keep(&mut self) -> Result<(), ChunkError>;
}

/// A file as it is.
pub(super) struct Whole {
    pub(super) download: Download,
    /// What is added to its offset where neighbours are told how far the target is: it is an aid.
    pub(super) lead: u64,
}

impl Sink for Whole {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        Ok(self.download.write(bytes)?)
    }
    fn offset(&self) -> u64 {
        self.lead + self.download.offset()
    }
    fn keep(&mut self) -> Result<(), ChunkError> {
        self.download.checkpoint()
    }
}

/// A file's next chunks, packed or as they are; each is verified before it is written.
pub(super) struct Pieces {
    pub(super) download: Download,
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) packed: bool,
    /// The beginning of the next one.
    pub(super) part: Vec<u8>,
}

impl Sink for Pieces {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Trouble> {
        while let (Some(chunk), false) = (self.chunks.front().copied(), bytes.is_empty()) {
            let length = if self.packed { chunk.packed } else { chunk.length } as usize;
            let (now, later) = bytes.split_at(bytes.len().min(length - self.part.len()));
            self.part.extend_from_slice(now);
            bytes = later;
            if self.part.len() == length {
                let as_it_is = Chunk { packed: chunk.length, ..chunk };
                let came = unpack(if self.packed { &chunk } else { &as_it_is }, &self.part);
                self.download.write(&came.map_err(|error| Trouble::Wrong(error.to_string()))?)?;
                self.part.clear();
                self.chunks.pop_front();
            }
        }
        Ok(())
    }
    fn offset(&self) -> u64 {
        self.download.offset()
    }
    fn keep(&mut self) -> Result<(), ChunkError> {
        self.download.checkpoint()
    }
}

/// Asks `url`, behind which are `of` bytes, for `range` of them, and gives them to `sink`. An error outside means that the sink is
/// lost with what it held unflushed.
pub(super) async fn receive<S: Sink>(
    line: &mut Line<'_>,
    url: &str,
    range: Range<u64>,
    of: u64,
    sink: S,
) -> Result<(S, Result<(), Trouble>), FetchError> {
    let (response, skip) = match begin(line.source, url, &range, of).await {
        Ok(begun) => begun,
        Err(trouble) => return Ok((sink, Err(trouble))),
    };
    let (pieces, arrived) = mpsc::channel::<(Bytes, u64)>(QUEUE);
    let here = Arc::new(AtomicU64::new(sink.offset()));
    let (store, target, size, told) = (line.store.clone(), line.target, line.size, Arc::clone(&here));
    let writer = tokio::task::spawn_blocking(move || write(sink, arrived, &told, |bytes| store.count(target, size, bytes, 0)));
    let ended = pump(line, response, skip, range.end - range.start, pieces, &here).await;
    let (sink, written) = writer.await.map_err(|_| FetchError::Stopping)?;
    // The disk's trouble is the cause where both are.
    Ok((sink, written.and(ended)))
}

/// The answer, and how many of its bytes lie before the range.
async fn begin(source: &dyn Source, url: &str, range: &Range<u64>, of: u64) -> Result<(Response, u64), Trouble> {
    let client = source.client(url).map_err(Trouble::Client)?;
    let asked =
        if range.end == of { format!("bytes={}-", range.start) } else { format!("bytes={}-{}", range.start, range.end - 1) };
    let request = client.get(url).header(header::RANGE, asked).send();
    let response = tokio::time::timeout(source.patience(), request)
        .await
        .map_err(|_| Trouble::Broken("the server does not answer".into()))?
        .map_err(|error| Trouble::Broken(describe(error)))?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => match place(&response) {
            Some((start, total)) if start == range.start && total.is_none_or(|total| total == of) => Ok((response, 0)),
            _ => Err(Trouble::Wrong("the server sent another range than was asked for, or its file has changed".into())),
        },
        // A server without ranges sends the whole.
        StatusCode::OK if response.content_length().is_none_or(|length| length == of) => Ok((response, range.start)),
        StatusCode::OK => Err(Trouble::Wrong("the server has a file of another length".into())),
        status => Err(Trouble::Status(status)),
    }
}

/// Where a part begins, and of how many bytes it is one.
fn place(response: &Response) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (part, total) = text.split_once('/')?;
    Some((part.split('-').next()?.parse().ok()?, total.parse().ok()))
}

async fn pump(
    line: &mut Line<'_>,
    mut response: Response,
    mut skip: u64,
    mut left: u64,
    pieces: mpsc::Sender<(Bytes, u64)>,
    here: &AtomicU64,
) -> Result<(), Trouble> {
    let (bandwidth, patience) = (line.source.bandwidth(), line.source.patience());
    line.pursuit.came_from_afar(here.load(Ordering::Relaxed), 0);
    while left > 0 {
        let mut piece = match tokio::time::timeout(patience, response.chunk()).await {
            Err(_) => return Err(Trouble::Broken(format!("nothing came for {} s", patience.as_secs()))),
            Ok(Err(error)) => return Err(Trouble::Broken(describe(error))),
            Ok(Ok(None)) => return Err(Trouble::Broken("the server ended early".into())),
            Ok(Ok(Some(piece))) => piece,
        };
        let came = piece.len() as u64;
        line.pursuit.came_from_afar(here.load(Ordering::Relaxed), came);
        if let Some(bandwidth) = &bandwidth {
            bandwidth.pass(came).await;
        }
        let before = skip.min(came);
        skip -= before;
        let useful = left.min(came - before);
        left -= useful;
        // Both are at most the piece's length.
        let from = usize::try_from(before).unwrap_or(usize::MAX);
        piece = piece.slice(from..from + usize::try_from(useful).unwrap_or_default());
        if pieces.send((piece, came)).await.is_err() {
            // The writer tells why it ended.
            return Ok(());
        }
    }
    Ok(())
}

/// Gives what arrives to the sink, until it ends or fails.
fn write<S: Sink>(
    mut sink: S,
    mut arrived: mpsc::Receiver<(Bytes, u64)>,
    here: &AtomicU64,
    count: impl Fn(u64) -> Result<(), ChunkError>,
) -> (S, Result<(), Trouble>) {
    let (mut outcome, mut uncounted) = (Ok(()), 0);
    while let Some((piece, came)) = arrived.blocking_recv() {
        uncounted += came;
        outcome = sink.take(&piece);
        here.store(sink.offset(), Ordering::Relaxed);
        if outcome.is_ok() && uncounted >= COUNT {
            outcome = count(std::mem::take(&mut uncounted)).map_err(Trouble::from);
        }
        if outcome.is_err() {
            break;
        }
    }
    // What came is kept, whatever ended the stream; the first trouble is the one to tell.
    let kept = sink.keep().and_then(|()| count(uncounted));
    (sink, outcome.and(kept.map_err(Trouble::from)))
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
