//! Chunks of an artifact that are on this device already: in its other files, and further up in the artifact itself.
//!
//! Files are cut anew each time, which costs their reading and saves an index that would have to be kept right. A chunk is
//! verified as it is taken, so a file that has rotted costs only the chunks that it does not have any more.

use crate::state::{ChunkError, Chunks, Download};
use aidos_protocol::artifact::{Chunk, Chunker, Digest, Recipe};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use tokio_util::sync::CancellationToken;

/// Bytes of files that are cut to look for chunks: a few seconds of one core.
const SEARCHED: u64 = 2 << 30;
/// Files that are looked through: the versions of a model that a device keeps, and one or two more.
const FILES: usize = 4;

/// Where chunks lie.
pub(super) struct Own {
    files: Vec<File>,
    /// Which file, or [`PART`], and where in it.
    places: HashMap<Digest, (usize, u64)>,
    part: Option<File>,
    /// Chunks of the artifact, from its beginning, whose places are known.
    known: usize,
}

/// Stands for the artifact's own part where a file is named.
const PART: usize = usize::MAX;

impl Own {
    /// Looks through `bases` for what `download` lacks. Ends early with what it has found when it is called off.
    pub(super) fn find(store: &Chunks, bases: &[Digest], recipe: &Recipe, download: &Download, stop: &CancellationToken) -> Self {
        let lacking: HashSet<Digest> =
            recipe.places().skip_while(|(_, at, _)| at.start < download.offset()).map(|(chunk, ..)| chunk.digest).collect();
        let mut own = Self { files: Vec::new(), places: HashMap::new(), part: store.part(&download.digest()), known: 0 };
        let mut searched = 0;
        for base in bases.iter().take(FILES) {
            let Some(path) = store.path(base) else { continue };
            let Ok(file) = File::open(&path) else { continue };
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            if lacking.is_empty() || searched + length > SEARCHED {
                continue;
            }
            searched += length;
            let mut at = 0;
            for chunk in Chunker::new(BufReader::new(&file)) {
                // Half a file that cannot be read has the chunks of that half.
                let (Ok(chunk), false) = (chunk, stop.is_cancelled()) else { break };
                let digest = Digest::of(&chunk);
                if lacking.contains(&digest) {
                    own.places.entry(digest).or_insert((own.files.len(), at));
                }
                at += chunk.len() as u64;
            }
            own.files.push(file);
        }
        own
    }

    /// Whether the chunk is here.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.places.contains_key(digest)
    }

    /// Writes the next chunks as long as they are here.
    pub(super) fn give(&mut self, recipe: &Recipe, download: &mut Download) -> Result<(), ChunkError> {
        for (chunk, at, _) in recipe.places().skip(self.known) {
            if at.start >= download.offset() {
                let Some(place) = self.places.get(&chunk.digest).copied() else { break };
                let Some(bytes) = self.read(place, &chunk) else {
                    // Not what it was: it comes from afar.
                    self.places.remove(&chunk.digest);
                    break;
                };
                download.write(&bytes)?;
            }
            self.places.entry(chunk.digest).or_insert((PART, at.start));
            self.known += 1;
        }
        Ok(())
    }

    fn read(&self, (file, at): (usize, u64), chunk: &Chunk) -> Option<Vec<u8>> {
        let mut file = self.files.get(file).or(self.part.as_ref())?;
        let mut bytes = vec![0; chunk.length as usize];
        file.seek(SeekFrom::Start(at)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        (Digest::of(&bytes) == chunk.digest).then_some(bytes)
    }
}
