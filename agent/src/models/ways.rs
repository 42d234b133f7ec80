//! The ways by which the rest of an artifact comes from afar, the cheapest first: as a delta from a file that is here, in chunks
//! without those that are here, whole. A way that fails gives place to the next, which goes on where it was: what was verified is
//! kept. A line that broke is no failure of the way: the next attempt goes on with it.

use super::fetch::{FetchError, blocking, without_query};
use super::own::Own;
use super::receive::{Line, Pieces, Trouble, Whole, receive};
use crate::state::Download;
use aidos_protocol::artifact::{Chunk, Digest, MAX_RECIPE_BYTES, Recipe};
use aidos_protocol::delta::{self, Header};
use aidos_protocol::frame::{ArtifactChunks, ArtifactDelta, ArtifactGrant};
use aidos_protocol::twin::Way;
use reqwest::StatusCode;
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Packed bytes of one request: so many that a request's round trip does not show, so few that a grant that expires within it
/// costs little.
const RUN: u64 = 32 << 20;

/// Fetches what `download` lacks. `bases` are the files that the grant was asked with.
pub(super) async fn afar(
    line: &mut Line<'_>,
    grant: &ArtifactGrant,
    bases: &[Digest],
    window_log: u8,
    mut download: Download,
) -> Result<(Download, Way), FetchError> {
    let lacks = |download: &Download| download.size() - download.offset();
    if let Some(offered) = grant.delta.as_ref().filter(|offered| offered.size < lacks(&download)) {
        let (back, outcome) = by_delta(line, offered, bases, window_log, download).await?;
        download = back;
        match outcome {
            Ok(()) => return Ok((download, Way::Delta)),
            Err(Failed::Later(trouble)) => return Err(refused(line, &offered.url, &download, trouble)),
            Err(Failed::Passed(why)) => {
                tracing::warn!(digest = %line.target, why, "a delta is passed over; the rest comes in chunks or whole");
            }
        }
    }
    let recipe = match &grant.chunks {
        None => None,
        Some(chunks) => match recipe(line, chunks, download.offset()).await? {
            Ok(recipe) => Some((chunks, recipe)),
            Err(Failed::Later(trouble)) => return Err(refused(line, &chunks.recipe_url, &download, trouble)),
            Err(Failed::Passed(why)) => {
                tracing::warn!(digest = %line.target, why, "a list of chunks is passed over; the rest comes whole");
                None
            }
        },
    };
    match recipe {
        Some((chunks, recipe)) => {
            let (download, outcome) = by_chunks(line, chunks, &grant.url, Arc::new(recipe), bases, download).await?;
            match outcome {
                Ok(()) => Ok((download, Way::Chunks)),
                Err((url, trouble)) => Err(refused(line, &url, &download, trouble)),
            }
        }
        None => {
            let range = download.offset()..download.size();
            let (whole, outcome) = receive(line, &grant.url, range, line.size, Whole { download, lead: 0 }).await?;
            match outcome {
                Ok(()) => Ok((whole.download, Way::Whole)),
                Err(trouble) => Err(refused(line, &grant.url, &whole.download, trouble)),
            }
        }
    }
}

/// Why a way did not end.
enum Failed {
    /// The line broke on the way: the next attempt goes on.
    Later(Trouble),
    /// It leads nowhere.
    Passed(String),
}

fn refused(line: &Line<'_>, url: &str, download: &Download, trouble: Trouble) -> FetchError {
    let (digest, offset, size) = (line.target, download.offset(), line.size);
    match trouble {
        Trouble::Status(status) => FetchError::Status { digest, url: without_query(url), status },
        Trouble::Broken(reason) => FetchError::Broken { digest, offset, size, reason },
        Trouble::Wrong(reason) => FetchError::Wrong { digest, url: without_query(url), reason },
        Trouble::Store(error) => FetchError::Store(error),
        Trouble::Client(reason) => FetchError::Client(reason),
    }
}

/// A file that the target is made from, in the store. `lead` is how far the target is.
async fn aid(
    line: &mut Line<'_>,
    digest: Digest,
    size: u64,
    url: &str,
    lead: u64,
) -> Result<Result<PathBuf, Failed>, FetchError> {
    let (store, target) = (line.store.clone(), line.target);
    let opened = tokio::task::spawn_blocking(move || {
        if let Some(path) = store.path(&digest) {
            return Ok(Err(path));
        }
        store.aid(digest, target)?;
        store.download(digest, size).map(Ok)
    });
    let download = match opened.await.map_err(|_| FetchError::Stopping)? {
        Ok(Ok(download)) => download,
        Ok(Err(path)) => return Ok(Ok(path)),
        // No room for it most likely; the other ways need less.
        Err(error) => return Ok(Err(Failed::Passed(error.to_string()))),
    };
    let before = download.offset();
    let mut download = download;
    if !download.is_complete() {
        let (whole, outcome) = receive(line, url, before..size, size, Whole { download, lead }).await?;
        download = whole.download;
        match outcome {
            Ok(()) => {}
            Err(trouble @ Trouble::Broken(_)) if download.offset() > before => return Ok(Err(Failed::Later(trouble))),
            Err(trouble) => return Ok(Err(Failed::Passed(trouble.to_string()))),
        }
    }
    match tokio::task::spawn_blocking(move || download.finish()).await.map_err(|_| FetchError::Stopping)? {
        Ok(path) => Ok(Ok(path)),
        Err(error) => Ok(Err(Failed::Passed(error.to_string()))),
    }
}

async fn forget(line: &Line<'_>, aid: Digest) {
    let store = line.store.clone();
    // What stays behind is collected with what it was for.
    if let Err(error) = blocking(move || store.drop_aid(&aid)).await {
        tracing::debug!(%aid, %error, "an aid was not removed");
    }
}

async fn recipe(line: &mut Line<'_>, chunks: &ArtifactChunks, lead: u64) -> Result<Result<Recipe, Failed>, FetchError> {
    let passed = |why: String| Ok(Err(Failed::Passed(why)));
    let Ok(digest) = Digest::from_bytes(&chunks.recipe) else { return passed("the list has no digest".into()) };
    if chunks.recipe_size > MAX_RECIPE_BYTES as u64 {
        return passed(format!("the list has {} bytes, the longest has {MAX_RECIPE_BYTES}", chunks.recipe_size));
    }
    let path = match aid(line, digest, chunks.recipe_size, &chunks.recipe_url, lead).await? {
        Ok(path) => path,
        Err(failed) => {
            if matches!(failed, Failed::Passed(_)) {
                forget(line, digest).await;
            }
            return Ok(Err(failed));
        }
    };
    let read = tokio::fs::read(&path).await.map_err(|error| error.to_string());
    let recipe = read.and_then(|bytes| Recipe::decode(&bytes).map_err(|error| error.to_string()));
    match recipe.and_then(|recipe| recipe.expect(&line.target, line.size).map_err(|error| error.to_string())) {
        Ok(recipe) => Ok(Ok(recipe)),
        Err(why) => {
            forget(line, digest).await;
            passed(why)
        }
    }
}

async fn by_delta(
    line: &mut Line<'_>,
    offered: &ArtifactDelta,
    bases: &[Digest],
    window_log: u8,
    download: Download,
) -> Result<(Download, Result<(), Failed>), FetchError> {
    let passed = |download, why: &str| Ok((download, Err(Failed::Passed(why.to_owned()))));
    let (Ok(base), Ok(patch)) = (Digest::from_bytes(&offered.base), Digest::from_bytes(&offered.digest)) else {
        return passed(download, "it has no digests");
    };
    let Some(base_path) = line.store.path(&base).filter(|_| bases.contains(&base)) else {
        return passed(download, "its base is not here");
    };
    let patch_path = match aid(line, patch, offered.size, &offered.url, download.offset()).await? {
        Ok(path) => path,
        Err(failed) => {
            if matches!(failed, Failed::Passed(_)) {
                forget(line, patch).await;
            }
            return Ok((download, Err(failed)));
        }
    };
    let stop = CancellationToken::new();
    let (stopped, _guard) = (stop.clone(), stop.drop_guard());
    let expected = (base, line.target, line.size);
    let apply = move || apply(&base_path, &patch_path, expected, window_log, download, stopped);
    let (download, outcome) = tokio::task::spawn_blocking(apply).await.map_err(|_| FetchError::Stopping)??;
    forget(line, patch).await;
    if outcome.is_ok() {
        line.pursuit.came_from_afar(download.offset(), 0);
    }
    Ok((download, outcome.map_err(Failed::Passed)))
}

/// Makes the target; where that fails, the download is where it was.
fn apply(
    base_path: &PathBuf,
    patch_path: &PathBuf,
    (base, target, size): (Digest, Digest, u64),
    window_log: u8,
    download: Download,
    stop: CancellationToken,
) -> Result<(Download, Result<(), String>), FetchError> {
    let mark = download.mark();
    let mut rest = Rest { skip: download.offset(), download, stop };
    let made = (|| {
        let file = |path: &PathBuf| File::open(path).map_err(|error| format!("{}: {error}", path.display()));
        let mut head = [0; delta::HEADER_BYTES];
        let mut patch = BufReader::new(file(patch_path)?);
        patch.read_exact(&mut head).map_err(|_| "it is shorter than its header".to_owned())?;
        let header = Header::decode(&head).map_err(|error| error.to_string())?;
        if (header.base, header.target, header.target_size) != (base, target, size) {
            return Err("it is a delta between other files".to_owned());
        }
        let patch = head.chain(patch);
        delta::apply(BufReader::new(file(base_path)?), patch, &mut rest, window_log).map(drop).map_err(|error| error.to_string())
    })();
    let mut download = rest.download;
    match made {
        Ok(()) if download.is_complete() => Ok((download, Ok(()))),
        Ok(()) => {
            download.go_to(mark)?;
            Ok((download, Err("it makes too few bytes".into())))
        }
        Err(why) => {
            download.go_to(mark)?;
            Ok((download, Err(why)))
        }
    }
}

/// Writes what comes after the bytes that are here already.
struct Rest {
    download: Download,
    skip: u64,
    stop: CancellationToken,
}

impl Write for Rest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("it was called off"));
        }
        let before = self.skip.min(bytes.len() as u64);
        self.skip -= before;
        let from = usize::try_from(before).unwrap_or(bytes.len());
        self.download.write(&bytes[from..]).map_err(io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.download.checkpoint().map_err(io::Error::other)
    }
}

/// Chunks that have to come, one after another, and their places.
struct Run {
    chunks: VecDeque<Chunk>,
    at: std::ops::Range<u64>,
    packed_at: std::ops::Range<u64>,
}

/// The URL that gave trouble, and which.
type ByChunks = Result<(), (String, Trouble)>;

async fn by_chunks(
    line: &mut Line<'_>,
    chunks: &ArtifactChunks,
    whole_url: &str,
    recipe: Arc<Recipe>,
    bases: &[Digest],
    download: Download,
) -> Result<(Download, ByChunks), FetchError> {
    let stop = CancellationToken::new();
    let (stopped, _guard) = (stop.clone(), stop.drop_guard());
    let (store, bases, list) = (line.store.clone(), bases.to_vec(), Arc::clone(&recipe));
    let (mut download, mut own) = blocking(move || {
        let mut download = download;
        download.salvage(&list)?;
        let own = Own::find(&store, &bases, &list, &download, &stopped);
        Ok((download, own))
    })
    .await?;
    let mut plain = false;
    loop {
        let list = Arc::clone(&recipe);
        let (back, back_own, run) = blocking(move || {
            let (mut download, mut own) = (download, own);
            own.give(&list, &mut download)?;
            let run = next_run(&list, &own, &download);
            Ok((download, own, run))
        })
        .await?;
        (download, own) = (back, back_own);
        let Some(run) = run else { return Ok((download, Ok(()))) };
        let before = download.offset();
        let (url, range, of) = match plain {
            true => (whole_url, run.at, line.size),
            false => (chunks.packed_url.as_str(), run.packed_at, recipe.packed_size()),
        };
        let sink = Pieces { download, chunks: run.chunks, packed: !plain, part: Vec::new() };
        let (sink, outcome) = receive(line, url, range, of, sink).await?;
        download = sink.download;
        let trouble = match outcome {
            Ok(()) => continue,
            Err(trouble) => trouble,
        };
        let goes_on = match &trouble {
            Trouble::Store(_) | Trouble::Client(_) => false,
            // The grant has expired: nothing that it gave opens any more.
            Trouble::Status(StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) => false,
            Trouble::Broken(_) => !plain && download.offset() == before,
            Trouble::Status(_) | Trouble::Wrong(_) => !plain,
        };
        if !goes_on {
            return Ok((download, Err((url.to_owned(), trouble))));
        }
        tracing::warn!(digest = %line.target, %trouble, "packed chunks do not come; the rest comes as it is, each chunk checked");
        plain = true;
    }
}

/// The next chunks that are not here; `None`: it is complete.
fn next_run(recipe: &Recipe, own: &Own, download: &Download) -> Option<Run> {
    let mut run: Option<Run> = None;
    let mut within = HashSet::new();
    for (chunk, at, packed_at) in recipe.places().skip_while(|(_, at, _)| at.start < download.offset()) {
        let Some(run) = &mut run else {
            within.insert(chunk.digest);
            run = Some(Run { chunks: VecDeque::from([chunk]), at, packed_at });
            continue;
        };
        // One that comes within this run is here after it.
        if packed_at.end - run.packed_at.start > RUN || own.has(&chunk.digest) || !within.insert(chunk.digest) {
            break;
        }
        run.chunks.push_back(chunk);
        (run.at.end, run.packed_at.end) = (at.end, packed_at.end);
    }
    run
}
