//! One artifact on its way into the store: a `.part` file that grows, survives a crash and becomes visible only when verified.
//!
//! Invariant: the offset in the ledger is never beyond what is flushed to disk, so a resumed file never has a hole.

use super::chunks::{ChunkError, Chunks, digest_of, io};
use crate::fault;
use aidos_protocol::artifact::{Digest, Digester};
use rusqlite::{OptionalExtension as _, params};
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::PoisonError;

/// Bytes between two flushes: what an interruption costs at most, against one flush per 4 MiB.
const CHECKPOINT: u64 = 4 << 20;

/// An unfinished artifact. Dropping it keeps what is flushed; [`Download::finish`] makes it visible.
#[derive(Debug)]
pub struct Download {
    digest: Digest,
    size: u64,
    offset: u64,
    flushed: u64,
    file: File,
    part: PathBuf,
    digester: Hash,
    guard: Guard,
}

/// The digest so far; printable, which the library's is not.
#[derive(Clone, Default)]
struct Hash(Digester);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digester")
    }
}

/// Gives the digest free when the download ends in whatever way.
#[derive(Debug)]
struct Guard {
    store: Chunks,
    digest: Digest,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.store.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

impl Download {
    pub(super) fn open(store: Chunks, digest: Digest, size: u64) -> Result<Self, ChunkError> {
        let guard = Guard { store, digest };
        let part = guard.store.dir.join(format!("{}.part", digest.hex()));
        let text = digest.to_string();
        let known: Option<(i64, i64)> = guard.store.ledger.transaction(|tx| {
            let sql = "SELECT size, offset FROM downloads WHERE digest = ?1";
            Ok(tx.query_row(sql, [text], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
        })?;
        fault::point("download.create").map_err(io(&part))?;
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&part).map_err(io(&part))?;
        let length = file.metadata().map_err(io(&part))?.len();
        let mut offset = match known {
            Some((known_size, offset)) if known_size.cast_unsigned() == size => offset.cast_unsigned().min(length),
            _ => 0,
        };
        if offset > size {
            offset = 0;
        }
        fault::point("download.truncate").and_then(|()| file.set_len(offset)).map_err(io(&part))?;
        file.seek(SeekFrom::Start(offset)).map_err(io(&part))?;
        let digester = Hash(digest_of(&part, offset)?);
        Ok(Self { digest, size, offset, flushed: offset, file, part, digester, guard })
    }

    /// Bytes that are here: where the source should go on.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Its whole length.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether all bytes are here.
    pub fn is_complete(&self) -> bool {
        self.offset == self.size
    }

    /// Adds the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ChunkError> {
        if bytes.len() as u64 > self.size - self.offset {
            return Err(ChunkError::TooLong { digest: self.digest, size: self.size });
        }
        fault::point("download.write").and_then(|()| self.file.write_all(bytes)).map_err(io(&self.part))?;
        fault::after("download.written");
        self.digester.0.update(bytes);
        self.offset += bytes.len() as u64;
        if self.offset - self.flushed >= CHECKPOINT { self.checkpoint() } else { Ok(()) }
    }

    /// Flushes what is here, so that it survives whatever comes. Call it before a pause.
    pub fn checkpoint(&mut self) -> Result<(), ChunkError> {
        if self.flushed == self.offset {
            return Ok(());
        }
        fault::point("download.sync").and_then(|()| self.file.sync_data()).map_err(io(&self.part))?;
        fault::after("download.synced");
        let (text, size, offset) = (self.digest.to_string(), self.size.cast_signed(), self.offset.cast_signed());
        self.guard.store.ledger.transaction(|tx| {
            let sql = "INSERT INTO downloads (digest, size, offset) VALUES (?1, ?2, ?3)
                       ON CONFLICT (digest) DO UPDATE SET size = excluded.size, offset = excluded.offset";
            Ok(tx.execute(sql, params![text, size, offset]).map(drop)?)
        })?;
        self.flushed = self.offset;
        Ok(())
    }

    /// Throws away what is here and begins at 0: the source cannot resume.
    pub fn restart(&mut self) -> Result<(), ChunkError> {
        self.file.set_len(0).map_err(io(&self.part))?;
        self.file.seek(SeekFrom::Start(0)).map_err(io(&self.part))?;
        self.digester = Hash::default();
        (self.offset, self.flushed) = (0, 0);
        self.forget()
    }

    /// Verifies the whole and makes it visible under its digest. Wrong bytes are thrown away.
    pub fn finish(mut self) -> Result<PathBuf, ChunkError> {
        let is = std::mem::take(&mut self.digester).0.finish();
        if is != self.digest {
            self.restart()?;
            std::fs::remove_file(&self.part).map_err(io(&self.part))?;
            return Err(ChunkError::Mismatch { digest: self.digest, is });
        }
        let mut permissions = self.file.metadata().map_err(io(&self.part))?.permissions();
        permissions.set_readonly(true);
        fault::point("download.protect").and_then(|()| self.file.set_permissions(permissions)).map_err(io(&self.part))?;
        fault::point("download.flush").and_then(|()| self.file.sync_all()).map_err(io(&self.part))?;
        fault::after("download.flushed");
        let dir = &self.guard.store.dir;
        let path = dir.join(self.digest.hex());
        fault::point("download.rename").and_then(|()| std::fs::rename(&self.part, &path)).map_err(io(&path))?;
        fault::after("download.renamed");
        fault::point("download.folder").map_err(io(dir))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io(dir))?;
        self.forget()?;
        Ok(path)
    }

    fn forget(&self) -> Result<(), ChunkError> {
        let text = self.digest.to_string();
        Ok(self
            .guard
            .store
            .ledger
            .transaction(|tx| Ok(tx.execute("DELETE FROM downloads WHERE digest = ?1", [text]).map(drop)?))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Ledger;

    #[test]
    fn a_killed_download_goes_on_from_the_last_flushed_byte() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..9_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
        let digest = Digest::of(&bytes);
        let open = || Chunks::open(dir.path(), Ledger::open(dir.path()).unwrap(), 1 << 30).unwrap();
        {
            let mut download = open().download(digest, bytes.len() as u64).unwrap();
            for piece in bytes[..6_000_000].chunks(100_000) {
                download.write(piece).unwrap();
            }
            // Neither finished nor checkpointed: what a kill leaves.
        }
        let mut download = open().download(digest, bytes.len() as u64).unwrap();
        let offset = download.offset();
        assert!((CHECKPOINT..6_000_000).contains(&offset), "{offset}");
        download.write(&bytes[offset as usize..]).unwrap();
        assert!(download.is_complete());
        assert_eq!(std::fs::read(download.finish().unwrap()).unwrap(), bytes);
    }

    #[test]
    fn a_source_that_sends_too_much_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Chunks::open(dir.path(), Ledger::open(dir.path()).unwrap(), 1 << 30).unwrap();
        let mut download = store.download(Digest::of(b"ab"), 2).unwrap();
        assert!(matches!(download.write(b"abc"), Err(ChunkError::TooLong { .. })));
    }

    #[test]
    fn another_announced_length_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let store = Chunks::open(dir.path(), Ledger::open(dir.path()).unwrap(), 1 << 30).unwrap();
        let digest = Digest::of(b"abcdef");
        let mut download = store.download(digest, 5).unwrap();
        download.write(b"abc").unwrap();
        download.checkpoint().unwrap();
        drop(download);
        assert_eq!(store.download(digest, 5).unwrap().offset(), 3);
        assert_eq!(store.download(digest, 6).unwrap().offset(), 0);
    }
}
