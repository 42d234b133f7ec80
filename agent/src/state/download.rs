//! One artifact on its way into the store: a `.part` file that grows, survives a crash and becomes visible only when verified.
//!
//! Invariant: the offset in the ledger is never beyond what is flushed to disk, so a resumed file never has a hole.

use super::chunks::{ChunkError, Chunks, digest_of, io};
use crate::fault;
use aidos_protocol::artifact::{Digest, Digester, Recipe};
use rusqlite::{OptionalExtension as _, params};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
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
    /// Of the file; beyond `offset` lies what an interruption left, which is worth something only to who can check it.
    length: u64,
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

/// A place to go back to.
#[derive(Debug, Clone)]
pub struct Mark {
    offset: u64,
    digester: Hash,
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
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&part).map_err(io(&part))?;
        let mut length = file.metadata().map_err(io(&part))?.len();
        let mut offset = match known {
            Some((known_size, offset)) if known_size.cast_unsigned() == size => offset.cast_unsigned().min(length),
            _ => 0,
        };
        if offset > size {
            offset = 0;
        }
        if length > size {
            fault::point("download.truncate").and_then(|()| file.set_len(offset)).map_err(io(&part))?;
            length = offset;
        }
        file.seek(SeekFrom::Start(offset)).map_err(io(&part))?;
        let digester = Hash(digest_of(&part, offset)?);
        Ok(Self { digest, size, offset, flushed: offset, length, file, part, digester, guard })
    }

    /// Bytes of its file, what an interruption left included.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Takes the disk's blocks for all of it now. A file system that cannot do so is left to run full later.
    pub(super) fn reserve(&self) -> Result<(), ChunkError> {
        use rustix::io::Errno;
        fault::point("download.reserve").map_err(io(&self.part))?;
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, 0, self.size) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(errno) => Err(io(&self.part)(errno.into())),
        }
    }

    /// Which artifact.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Goes to the end of the last chunk that is here whole and right, as `recipe` has it: forward over what was written and not
    /// flushed before an interruption, or back before what is wrong.
    pub fn salvage(&mut self, recipe: &Recipe) -> Result<(), ChunkError> {
        self.file.seek(SeekFrom::Start(0)).map_err(io(&self.part))?;
        let (mut sound, mut digester) = (0, Hash::default());
        for (chunk, at, _) in recipe.places() {
            if at.end > self.length || at.end > self.size {
                break;
            }
            let mut bytes = vec![0; chunk.length as usize];
            self.file.read_exact(&mut bytes).map_err(io(&self.part))?;
            if Digest::of(&bytes) != chunk.digest {
                break;
            }
            digester.0.update(&bytes);
            sound = at.end;
        }
        self.go_to(Mark { offset: sound, digester })
    }

    /// This place, to go back to.
    pub fn mark(&self) -> Mark {
        Mark { offset: self.offset, digester: self.digester.clone() }
    }

    /// Goes back to where `mark` was taken: what came since is worth nothing.
    pub fn go_to(&mut self, mark: Mark) -> Result<(), ChunkError> {
        self.file.seek(SeekFrom::Start(mark.offset)).map_err(io(&self.part))?;
        (self.offset, self.digester) = (mark.offset, mark.digester);
        if self.flushed > self.offset {
            // The ledger never names more than what is right.
            self.record()?;
        }
        Ok(())
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
        self.length = self.length.max(self.offset);
        if self.offset.saturating_sub(self.flushed) >= CHECKPOINT { self.checkpoint() } else { Ok(()) }
    }

    /// Flushes what is here, so that it survives whatever comes. Call it before a pause.
    pub fn checkpoint(&mut self) -> Result<(), ChunkError> {
        if self.flushed == self.offset { Ok(()) } else { self.record() }
    }

    fn record(&mut self) -> Result<(), ChunkError> {
        fault::point("download.sync").and_then(|()| self.file.sync_data()).map_err(io(&self.part))?;
        fault::after("download.synced");
        let (text, size, offset) = (self.digest.to_string(), self.size.cast_signed(), self.offset.cast_signed());
        self.guard.store.ledger.transaction(|tx| {
            let sql = "INSERT INTO downloads (digest, size, offset) VALUES (?1, ?2, ?3)
                       ON CONFLICT (digest) DO UPDATE SET size = excluded.size, offset = excluded.offset";
            Ok(tx.execute(sql, params![text, size, offset]).map(drop)?)
        })?;
        self.flushed = self.offset;
        if let Some(reserved) = self.guard.store.running.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&self.digest) {
            *reserved = self.size - self.length;
        }
        Ok(())
    }

    /// Throws away what is here and begins at 0: the source cannot resume.
    pub fn restart(&mut self) -> Result<(), ChunkError> {
        fault::point("download.restart").and_then(|()| self.file.set_len(0)).map_err(io(&self.part))?;
        self.file.seek(SeekFrom::Start(0)).map_err(io(&self.part))?;
        self.digester = Hash::default();
        (self.offset, self.flushed, self.length) = (0, 0, 0);
        self.forget()
    }

    /// Verifies the whole and makes it visible under its digest. Wrong bytes are thrown away.
    pub fn finish(mut self) -> Result<PathBuf, ChunkError> {
        let is = std::mem::take(&mut self.digester).0.finish();
        if is != self.digest {
            self.restart()?;
            fault::point("download.discard").and_then(|()| std::fs::remove_file(&self.part)).map_err(io(&self.part))?;
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
        self.guard.store.drop_aids(&self.digest)?;
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
    fn a_list_of_chunks_saves_what_was_written_and_not_flushed_and_finds_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let recipe = aidos_protocol::artifact::pack(&bytes[..], std::io::sink()).unwrap();
        let digest = Digest::of(&bytes);
        let open = || Chunks::open(dir.path(), Ledger::open(dir.path()).unwrap(), 1 << 30).unwrap();
        let mut download = open().download(digest, bytes.len() as u64).unwrap();
        download.write(&bytes[..2_000_000]).unwrap();
        drop(download);

        // Nothing was flushed: the ledger knows of no byte, the list finds all whole chunks.
        let mut download = open().download(digest, bytes.len() as u64).unwrap();
        assert_eq!(download.offset(), 0);
        download.salvage(&recipe).unwrap();
        let sound = download.offset();
        assert!((1_900_000..=2_000_000).contains(&sound), "{sound}");
        download.checkpoint().unwrap();

        // What lies about its bytes is gone back on, to the chunk before; the ledger follows.
        download.write(&vec![0; 500_000]).unwrap();
        download.checkpoint().unwrap();
        download.salvage(&recipe).unwrap();
        assert_eq!(download.offset(), sound);
        drop(download);
        let mut download = open().download(digest, bytes.len() as u64).unwrap();
        assert_eq!(download.offset(), sound);
        let mark = download.mark();
        download.write(&[0; 5]).unwrap();
        download.go_to(mark).unwrap();
        download.write(&bytes[sound as usize..]).unwrap();
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
