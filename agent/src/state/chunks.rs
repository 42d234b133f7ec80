//! The store of artifacts on this device: whole files named by the SHA-256 of their bytes, and those that are on their way.
//!
//! Invariants: a file under its digest's name is complete and was verified before it got that name (temp → fsync → rename →
//! fsync of the folder); files are read-only once visible; what is removed is removed because the caller's list of what is
//! needed lacks it. The store never decides what is needed.

use super::{Download, Ledger, LedgerError, transfers};
use crate::fault;
use aidos_protocol::artifact::{Digest, Digester, MAX_ARTIFACT_BYTES};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The folder within the data directory.
const FOLDER: &str = "artifacts";
/// Space that downloads leave free on the disk: the ledger, the log and the host's own needs go on.
const RESERVE_BYTES: u64 = 64 << 20;
/// Buffer for reading files: large enough that a disk streams, small against the agent's memory.
pub(super) const BUFFER: usize = 128 << 10;

/// Where a download stands, so that it goes on from the last byte known to be on disk.
pub(super) const SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS downloads (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, offset INTEGER NOT NULL);";

/// Why an artifact could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// Too little room on the disk.
    #[error(
        "{needed} more bytes are needed for {digest} and {reserve} stay reserved, but {dir} has {free} free; free some space"
    )]
    NoSpace {
        /// What was to be stored.
        digest: Digest,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes kept free.
        reserve: u64,
        /// Bytes free now.
        free: u64,
        /// Where.
        dir: PathBuf,
    },
    /// Beyond the store's own limit.
    #[error(
        "{digest} has {size} bytes, the store holds {used} of at most {limit}; raise `storage.max_bytes` or deploy fewer models"
    )]
    StoreFull {
        /// What was to be stored.
        digest: Digest,
        /// Its length.
        size: u64,
        /// Bytes stored.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// Longer than any artifact may be, or empty.
    #[error("{digest} is said to have {size} bytes; an artifact has 1 to {MAX_ARTIFACT_BYTES}")]
    Size {
        /// What was to be stored.
        digest: Digest,
        /// Its length.
        size: u64,
    },
    /// Already being downloaded.
    #[error("{0} is being downloaded already")]
    Busy(Digest),
    /// More bytes than announced.
    #[error("the source sent more than the {size} bytes that {digest} has")]
    TooLong {
        /// What was to be stored.
        digest: Digest,
        /// Its length.
        size: u64,
    },
    /// The bytes are not what they should be.
    #[error("the bytes received are {is}, not {digest}; they were thrown away and will be fetched again")]
    Mismatch {
        /// What was to be stored.
        digest: Digest,
        /// What came.
        is: Digest,
    },
    /// A file of the store could not be read or written.
    #[error("{path}: {source}; check free space, and that the folder belongs to the user that runs the agent")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl ChunkError {
    /// Whether it goes on once somebody has made room, and not before.
    pub fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::NoSpace { .. } | Self::StoreFull { .. } | Self::Ledger(LedgerError::Full { .. }) => true,
            Self::Io { source, .. } => matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
            _ => false,
        }
    }
}

pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> ChunkError + '_ {
    move |source| ChunkError::Io { path: path.to_owned(), source }
}

/// The store. Cheap to clone. Its methods block; call them from `spawn_blocking`.
#[derive(Debug, Clone)]
pub struct Chunks {
    pub(super) dir: PathBuf,
    pub(super) ledger: Ledger,
    max_bytes: u64,
    /// What is on its way, each with the bytes that are reserved for it and not yet written.
    pub(super) running: Arc<Mutex<HashMap<Digest, u64>>>,
}

impl Chunks {
    /// Opens the store in the data directory `data`, with at most `max_bytes` of files.
    pub fn open(data: &Path, ledger: Ledger, max_bytes: u64) -> Result<Self, ChunkError> {
        let dir = data.join(FOLDER);
        std::fs::create_dir_all(&dir).map_err(io(&dir))?;
        ledger.declare(SCHEMA)?;
        ledger.declare(transfers::SCHEMA)?;
        Ok(Self { dir, ledger, max_bytes, running: Arc::default() })
    }

    /// The file of `digest`, when it is here. Its bytes were verified as it was stored; [`Chunks::verify`] reads them again.
    pub fn path(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.dir.join(digest.hex());
        path.is_file().then_some(path)
    }

    /// Begins or goes on with the download of `digest`, after reserving room for `size` bytes, on the disk and among what else is
    /// on its way. A download that was interrupted resumes where it was last known to be on disk.
    pub fn download(&self, digest: Digest, size: u64) -> Result<Download, ChunkError> {
        if size == 0 || size > MAX_ARTIFACT_BYTES {
            return Err(ChunkError::Size { digest, size });
        }
        {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if running.contains_key(&digest) {
                return Err(ChunkError::Busy(digest));
            }
            running.insert(digest, 0);
        }
        // From here on the guard within the download gives the digest free again.
        let download = Download::open(self.clone(), digest, size)?;
        let needed = size - download.length();
        let used = self.used()?;
        {
            // One look and one mark for all that begin at the same time.
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let used = used.saturating_add(running.values().sum());
            if used.saturating_add(needed) > self.max_bytes {
                return Err(ChunkError::StoreFull { digest, size, used, limit: self.max_bytes });
            }
            running.insert(digest, needed);
        }
        let free = free_bytes(&self.dir)?;
        let no_space = || ChunkError::NoSpace { digest, needed, reserve: RESERVE_BYTES, free, dir: self.dir.clone() };
        if free < needed.saturating_add(RESERVE_BYTES) {
            return Err(no_space());
        }
        match download.reserve() {
            Err(ChunkError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => Err(no_space()),
            reserved => reserved.map(|()| download),
        }
    }

    /// Stores the bytes of a local file or buffer, verified like a download.
    pub fn import(&self, digest: Digest, bytes: &[u8]) -> Result<PathBuf, ChunkError> {
        if let Some(path) = self.path(&digest) {
            return Ok(path);
        }
        let mut download = self.download(digest, bytes.len() as u64)?;
        download.restart()?;
        download.write(bytes)?;
        download.finish()
    }

    /// What is stored, with lengths.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, ChunkError> {
        let mut list = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io(&self.dir))? {
            let entry = entry.map_err(io(&self.dir))?;
            let Ok(digest) = format!("sha256:{}", entry.file_name().to_string_lossy()).parse() else { continue };
            list.push((digest, entry.metadata().map_err(io(&self.dir))?.len()));
        }
        Ok(list)
    }

    /// Bytes that the store holds, unfinished downloads included.
    pub fn used(&self) -> Result<u64, ChunkError> {
        let mut used = 0;
        for entry in std::fs::read_dir(&self.dir).map_err(io(&self.dir))? {
            used += entry.and_then(|entry| entry.metadata()).map_err(io(&self.dir))?.len();
        }
        Ok(used)
    }

    /// Reads the file of `digest` and compares it with its name. A file that has rotted is removed, so that it is fetched again.
    pub fn verify(&self, digest: &Digest) -> Result<bool, ChunkError> {
        let Some(path) = self.path(digest) else { return Ok(false) };
        if digest_of(&path, u64::MAX)?.finish() == *digest {
            return Ok(true);
        }
        fault::point("chunks.remove").and_then(|()| std::fs::remove_file(&path)).map_err(io(&path))?;
        fault::after("chunks.removed");
        Ok(false)
    }

    /// Whether something is on its way that is neither `needed` nor helps what is.
    pub fn runs_beyond(&self, needed: &HashSet<Digest>) -> Result<bool, ChunkError> {
        let running: Vec<Digest> = self.running.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        let aids = self.aids()?;
        let helps = |digest: &Digest| aids.get(digest).is_some_and(|target| needed.contains(target));
        Ok(running.iter().any(|digest| !needed.contains(digest) && !helps(digest)))
    }

    /// Removes every file and every unfinished download that `needed` lacks and that is not running. Returns the bytes freed.
    pub fn collect(&self, needed: &HashSet<Digest>) -> Result<u64, ChunkError> {
        let running: HashSet<Digest> = self.running.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        let aids = self.aids()?;
        let wanted = |digest: &Digest| needed.contains(digest) || running.contains(digest);
        let helps = |digest: &Digest| aids.get(digest).is_some_and(wanted);
        let mut freed = 0;
        for entry in std::fs::read_dir(&self.dir).map_err(io(&self.dir))? {
            let entry = entry.map_err(io(&self.dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest: Option<Digest> = format!("sha256:{}", name.trim_end_matches(".part")).parse().ok();
            // A name that is no digest is not ours to remove.
            let Some(digest) = digest.filter(|digest| !wanted(digest) && !helps(digest)) else { continue };
            let length = entry.metadata().map_err(io(&self.dir))?.len();
            fault::point("chunks.remove").and_then(|()| std::fs::remove_file(entry.path())).map_err(io(&entry.path()))?;
            fault::after("chunks.removed");
            let text = digest.to_string();
            self.ledger.transaction(|tx| Ok(tx.execute("DELETE FROM downloads WHERE digest = ?1", [text]).map(drop)?))?;
            freed += length;
        }
        self.forget_transfers(wanted)?;
        Ok(freed)
    }

    /// What is here of an artifact that is on its way, to read from.
    pub fn part(&self, digest: &Digest) -> Option<File> {
        File::open(self.dir.join(format!("{}.part", digest.hex()))).ok()
    }

    /// The folder of the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Bytes free for this user on the file system of `dir`.
pub(crate) fn free_bytes(dir: &Path) -> Result<u64, ChunkError> {
    let stat = rustix::fs::statvfs(dir).map_err(|errno| io(dir)(errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The state of a digest after the first `length` bytes of a file.
pub(super) fn digest_of(path: &Path, length: u64) -> Result<Digester, ChunkError> {
    let mut file = File::open(path).map_err(io(path))?.take(length);
    let mut digester = Digester::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer).map_err(io(path))? {
            0 => return Ok(digester),
            n => digester.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path) -> Chunks {
        Chunks::open(dir, Ledger::open(dir).unwrap(), 1 << 20).unwrap()
    }

    #[test]
    fn a_file_is_visible_only_once_its_digest_was_verified() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let digest = Digest::of(b"weights");
        let mut download = store.download(digest, 7).unwrap();
        download.write(b"weigh").unwrap();
        assert_eq!(store.path(&digest), None);
        download.write(b"ts").unwrap();
        let path = download.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"weights");
        assert!(std::fs::metadata(&path).unwrap().permissions().readonly());
        assert_eq!(store.path(&digest), Some(path));
    }

    #[test]
    fn wrong_bytes_are_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let digest = Digest::of(b"weights");
        let mut download = store.download(digest, 7).unwrap();
        download.write(b"WEIGHTS").unwrap();
        assert!(matches!(download.finish(), Err(ChunkError::Mismatch { .. })));
        assert_eq!(store.used().unwrap(), 0);
        let download = store.download(digest, 7).unwrap();
        assert_eq!(download.offset(), 0);
    }

    #[test]
    fn rot_is_found_and_the_file_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let digest = Digest::of(b"weights");
        let path = store.import(digest, b"weights").unwrap();
        assert!(store.verify(&digest).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"weightz").unwrap();
        assert!(!store.verify(&digest).unwrap());
        assert_eq!(store.path(&digest), None);
    }

    #[test]
    fn only_what_nobody_needs_is_collected() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let (kept, gone) = (Digest::of(b"kept"), Digest::of(b"gone!"));
        store.import(kept, b"kept").unwrap();
        store.import(gone, b"gone!").unwrap();
        let running = Digest::of(b"running");
        let mut download = store.download(running, 7).unwrap();
        download.write(b"run").unwrap();
        assert_eq!(store.collect(&HashSet::from([kept])).unwrap(), 5);
        assert_eq!(store.list().unwrap(), [(kept, 4)]);
        download.write(b"ning").unwrap();
        download.finish().unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_begins() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let digest = Digest::of(b"x");
        assert!(matches!(store.download(digest, 2 << 20), Err(ChunkError::StoreFull { .. })));
        assert!(matches!(store.download(digest, u64::MAX), Err(ChunkError::Size { .. })));
        let huge = Chunks { max_bytes: u64::MAX, ..store };
        let free = free_bytes(dir.path()).unwrap();
        if free < MAX_ARTIFACT_BYTES {
            assert!(matches!(huge.download(digest, MAX_ARTIFACT_BYTES), Err(ChunkError::NoSpace { .. })));
        }
    }

    #[test]
    fn a_full_disk_is_a_want_of_room_wherever_it_shows_and_another_failure_is_none() {
        let at = |kind: ErrorKind| io(Path::new("x"))(kind.into());
        let full = ChunkError::Ledger(LedgerError::Full { path: "ledger.db".into() });
        assert!([at(ErrorKind::StorageFull), at(ErrorKind::QuotaExceeded), full].iter().all(ChunkError::is_for_want_of_room));
        assert!(
            !at(ErrorKind::PermissionDenied).is_for_want_of_room()
                && !ChunkError::from(LedgerError::Closed).is_for_want_of_room()
        );
    }

    #[test]
    fn room_is_reserved_before_the_start_and_counted_for_all_that_are_on_their_way() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let first = store.download(one, 600 << 10).unwrap();
        // The limit is 1 MiB: each alone would fit.
        assert!(matches!(store.download(other, 600 << 10), Err(ChunkError::StoreFull { .. })));
        let part = dir.path().join(FOLDER).join(format!("{}.part", one.hex()));
        let part = std::fs::metadata(part).unwrap();
        assert_eq!(part.len(), 0);
        assert!(part.blocks() * 512 >= 600 << 10, "{} blocks", part.blocks());
        drop(first);
        assert!(store.download(other, 600 << 10).is_ok());
    }

    #[test]
    fn one_artifact_is_downloaded_once_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let digest = Digest::of(b"weights");
        let first = store.download(digest, 7).unwrap();
        assert!(matches!(store.download(digest, 7), Err(ChunkError::Busy(_))));
        drop(first);
        assert!(store.download(digest, 7).is_ok());
    }
}
