//! Brings a release's binary into the store, by the ways that models come: from neighbours, as a delta or in chunks beside the binary
//! that runs, or whole.

use crate::clock;
use crate::models::{FetchError, Source, fetch};
use crate::neighbours::Neighbours;
use crate::state::{ChunkError, Chunks, Pins, Tally};
use aidos_protocol::artifact::{Digest, Digester};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{DesiredRelease, ReleaseBinary, Transfer};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What comes is kept for so long although nothing else refers to it: the longest pause between two attempts, many times over.
const KEPT_US: i64 = 24 * 3_600 * 1_000_000;
/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// From where binaries come, and where they are kept.
#[derive(Clone)]
pub struct Supply {
    /// The control plane.
    pub source: Arc<dyn Source>,
    /// Who is asked before it.
    pub neighbours: Neighbours,
    /// Where they are kept.
    pub store: Chunks,
    /// Keeps them there until they are staged.
    pub pins: Pins,
    /// The binary that runs: the next one has much in common with it.
    pub running: PathBuf,
    /// Takes how one came.
    pub told: Arc<dyn Fn(&Transfer) + Send + Sync>,
}

impl Supply {
    /// Brings a binary into the store. What is here of it already is not fetched again.
    pub(super) async fn bring(&self, binary: &ReleaseBinary) -> Result<(), FetchError> {
        let kin = match self.lend().await {
            Ok(running) => vec![running],
            // It comes without, too.
            Err(why) => {
                tracing::info!(why, "the binary that runs is no help for the next one");
                Vec::new()
            }
        };
        self.pin(&[&[binary.digest], kin.as_slice()].concat()).await;
        let (digest, size) = (binary.digest, Some(binary.size));
        fetch(&*self.source, &self.neighbours, &self.store, digest, size, &kin).await?;
        Ok(())
    }

    /// Tells how a binary of `release` came. The version that it started tells it anew: what was told before ended with that process.
    pub(super) async fn tell(&self, release: &DesiredRelease, binary: &ReleaseBinary) {
        let (store, digest) = (self.store.clone(), binary.digest);
        match tokio::task::spawn_blocking(move || store.tally(&digest)).await {
            Ok(Ok(Some(Tally { size, fetched, near, way: Some(way) }))) => {
                (self.told)(&Transfer { version: release.counter, digest, size, fetched, near, way });
            }
            Ok(Err(error)) => tracing::warn!(%error, "how the agent's binary came cannot be read"),
            Ok(Ok(_)) | Err(_) => {}
        }
    }

    /// Puts the binary that runs into the store. Its digest is told by the bytes, whatever it was called when it came.
    async fn lend(&self) -> Result<Digest, String> {
        let (store, path) = (self.store.clone(), self.running.clone());
        let lent = move || lend(&store, &path).map_err(|error| error.to_string());
        tokio::task::spawn_blocking(lent).await.map_err(|_| "the agent is stopping".to_owned())?
    }

    async fn pin(&self, digests: &[Digest]) {
        let (pins, digests) = (self.pins.clone(), digests.to_vec());
        let until = Micros(clock::now().0.saturating_add(KEPT_US));
        let pinned = tokio::task::spawn_blocking(move || pins.pin(&digests, until)).await;
        if let Ok(Err(error)) = pinned {
            // At worst it is fetched again.
            tracing::warn!(%error, "a binary on its way could not be pinned");
        }
    }
}

fn lend(store: &Chunks, path: &Path) -> Result<Digest, ChunkError> {
    let at = |source| ChunkError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(at)?;
    let mut piece = vec![0; PIECE];
    let (mut digester, mut size) = (Digester::default(), 0);
    loop {
        match file.read(&mut piece).map_err(at)? {
            0 => break,
            length => {
                digester.update(&piece[..length]);
                size += length as u64;
            }
        }
    }
    let digest = digester.finish();
    if store.path(&digest).is_none() {
        let mut download = store.download(digest, size)?;
        file.seek(SeekFrom::Start(download.offset())).map_err(at)?;
        while !download.is_complete() {
            match file.read(&mut piece).map_err(at)? {
                0 => break,
                length => download.write(&piece[..length])?,
            }
        }
        download.finish()?;
    }
    Ok(digest)
}
