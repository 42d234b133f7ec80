//! The ledger: one SQLite database for everything small that must survive a crash. Never holds keys, certificates or models.
//!
//! Invariants: a transaction that returned is on disk (`synchronous=FULL` on a write-ahead log); one connection, so that
//! transactions never wait for each other longer than one of them takes; a damaged file is set aside, never repaired in place
//! and never deleted unseen.

use crate::fault;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The database's file name within the data directory.
const FILE: &str = "ledger.db";
/// How long a statement waits for another process's lock. Only a person's `sqlite3` shell could hold one.
const BUSY: Duration = Duration::from_secs(5);
/// Pages kept in memory, as negative KiB: the working set is a few hundred small rows, and the agent has 25 MiB in all.
const CACHE_KIB: i64 = -256;
/// Pages of log before it is folded back: 1 MiB, where SQLite's default of 4 MiB would double a small device's state.
const CHECKPOINT_PAGES: i64 = 256;
/// The most that the log's file keeps after it was folded back.
const LOG_BYTES: i64 = 1 << 20;
/// Damaged databases kept for a person to look at; a failing flash must not fill itself with them.
const KEEP_SET_ASIDE: usize = 2;
/// The key under which the number of the agent's latest start is kept.
const BOOT_KEY: &str = "boot_id";

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;";

/// Why the ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No space left.
    #[error("the disk that holds {path} is full; free some space, nothing that was stored is lost")]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// Not writable.
    #[error(
        "{path} cannot be written ({source}); check the owner of the folder and that its file system is not mounted read-only"
    )]
    ReadOnly {
        /// The database.
        path: PathBuf,
        /// What the system said.
        source: rusqlite::Error,
    },
    /// Another process holds a lock for longer than the agent waits.
    #[error("{path} is locked by another process; close whatever has it open (`fuser {path}` names it)")]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// Damaged while in use.
    #[error("{path} is damaged ({source}); restart the agent, which sets it aside and begins a new one")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The folder or a file in it could not be made, moved or removed.
    #[error("{path}: {source}; check that the folder exists and belongs to the user that runs the agent")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row that this version cannot read.
    #[error("the ledger holds {what} that cannot be read: {why}")]
    Row {
        /// Which kind of row.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A statement that failed for another reason: a defect of the agent.
    #[error("the ledger failed: {0}")]
    Sql(#[from] rusqlite::Error),
    /// The agent is ending and takes no more work.
    #[error("the ledger is closing")]
    Closed,
}

/// A database that was found damaged at open and put out of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

/// The open ledger. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Mutex<Connection>,
    path: PathBuf,
    set_aside: Option<SetAside>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the ledger in `dir`, which is made when it is missing, and checks it. A damaged one is moved to
    /// `ledger.db.damaged-<seconds>` and a new one begun; [`Ledger::set_aside`] then tells so.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        std::fs::create_dir_all(dir).map_err(|source| LedgerError::Io { path: dir.to_owned(), source })?;
        let path = dir.join(FILE);
        let (connection, set_aside) = match open_checked(&path) {
            Ok(connection) => (connection, None),
            Err(LedgerError::Damaged { source, .. }) => {
                let aside = put_aside(dir, &path, source.to_string())?;
                tracing::error!(path = %aside.path.display(), reason = %aside.reason,
                    "the ledger was damaged and has been set aside; unsent telemetry and unmerged site edits are in it");
                (open_checked(&path)?, Some(aside))
            }
            Err(error) => return Err(error),
        };
        let ledger = Self { inner: Arc::new(Inner { connection: Mutex::new(connection), path, set_aside }) };
        ledger.declare(SCHEMA)?;
        Ok(ledger)
    }

    /// Runs a module's `CREATE … IF NOT EXISTS` statements. Each module that keeps rows calls this once as it opens.
    pub fn declare(&self, schema: &str) -> Result<(), LedgerError> {
        let connection = self.lock();
        self.point("ledger.declare")?;
        connection.execute_batch(schema).map_err(|e| self.sort(e))?;
        fault::after("ledger.declared");
        Ok(())
    }

    /// The value of `key`, if there is one.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        self.transaction(|tx| get(tx, key))
    }

    /// Sets `key`. Durable on return.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), LedgerError> {
        self.transaction(|tx| put(tx, key, value))
    }

    /// Forgets `key`; no error when there is no such key.
    pub fn remove(&self, key: &str) -> Result<(), LedgerError> {
        self.transaction(|tx| Ok(tx.execute("DELETE FROM kv WHERE key = ?1", [key]).map(drop)?))
    }

    /// Runs `work` in one transaction, durable on `Ok`, undone on `Err` and on panic. Blocks for a disk flush:
    /// from async code call [`Ledger::run`]. `work` must not call the ledger itself, only `tx`.
    pub fn transaction<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let mut connection = self.lock();
        self.point("ledger.begin")?;
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| self.sort(e))?;
        let value = work(&tx).map_err(|e| self.sort_any(e))?;
        self.point("ledger.commit")?;
        tx.commit().map_err(|e| self.sort(e))?;
        fault::after("ledger.committed");
        Ok(value)
    }

    /// [`Ledger::transaction`] on the blocking pool, for async code.
    pub async fn run<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, LedgerError> + Send + 'static,
    {
        let ledger = self.clone();
        match tokio::task::spawn_blocking(move || ledger.transaction(work)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(LedgerError::Closed),
        }
    }

    /// The number of this start of the agent: greater than that of every start before, also when the ledger was lost
    /// between them (the first number of a new ledger is the clock's seconds). Call it once per start.
    pub fn next_boot_id(&self) -> Result<u64, LedgerError> {
        self.transaction(|tx| {
            let last = get(tx, BOOT_KEY)?.map(|bytes| read_u64("the boot id", &bytes)).transpose()?;
            let next = last.map_or_else(first_of_a_new_ledger, |last| last + 1);
            put(tx, BOOT_KEY, &next.to_be_bytes())?;
            Ok(next)
        })
    }

    /// The damaged database that [`Ledger::open`] found, if it did.
    pub fn set_aside(&self) -> Option<&SetAside> {
        self.inner.set_aside.as_ref()
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Reads every page and says what is wrong, if anything. Takes as long as reading the file does.
    pub fn check(&self) -> Result<(), LedgerError> {
        let connection = self.lock();
        quick_check(&connection, &self.inner.path).map_err(|e| self.sort_any(e))
    }

    /// Folds the log back into the database, so that a copy of the one file is whole. The last step of a shutdown.
    pub fn fold_log(&self) -> Result<(), LedgerError> {
        let connection = self.lock();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(|e| self.sort(e))
    }

    /// Makes the database as full as a full disk would, for tests of that.
    #[cfg(test)]
    pub(crate) fn fill_up(&self, full: bool) {
        let connection = self.lock();
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("the database is open");
        let most = if full { pages } else { i64::from(u32::MAX) - 1 };
        connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(())).expect("a limit can be set");
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic within a transaction has rolled it back as it unwound, so the connection is sound.
        self.inner.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn point(&self, name: &'static str) -> Result<(), LedgerError> {
        fault::point(name).map_err(|source| LedgerError::Io { path: self.inner.path.clone(), source })
    }

    fn sort(&self, error: rusqlite::Error) -> LedgerError {
        sort(&self.inner.path, error)
    }

    fn sort_any(&self, error: LedgerError) -> LedgerError {
        match error {
            LedgerError::Sql(error) => self.sort(error),
            other => other,
        }
    }
}

/// The value of `key` within a transaction.
pub(super) fn get(tx: &Transaction<'_>, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
    Ok(tx.prepare_cached("SELECT value FROM kv WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()?)
}

/// Sets `key` within a transaction.
pub(super) fn put(tx: &Transaction<'_>, key: &str, value: &[u8]) -> Result<(), LedgerError> {
    let sql = "INSERT INTO kv (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    tx.prepare_cached(sql)?.execute(rusqlite::params![key, value])?;
    Ok(())
}

pub(super) fn read_u64(what: &'static str, bytes: &[u8]) -> Result<u64, LedgerError> {
    let array = bytes.try_into().map_err(|_| LedgerError::Row { what, why: format!("{} bytes where 8 belong", bytes.len()) })?;
    Ok(u64::from_be_bytes(array))
}

/// Where a counter begins that the plane has seen before: the clock's seconds. No counter of the agent advances more than
/// once a second on average, so this lies above every number given out by a ledger that was lost.
pub(super) fn first_of_a_new_ledger() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs().max(1))
}

fn open_checked(path: &Path) -> Result<Connection, LedgerError> {
    let sorted = |error| sort(path, error);
    let connection = Connection::open(path).map_err(sorted)?;
    connection.busy_timeout(BUSY).map_err(sorted)?;
    for (pragma, value) in
        [("cache_size", CACHE_KIB), ("wal_autocheckpoint", CHECKPOINT_PAGES), ("journal_size_limit", LOG_BYTES)]
    {
        connection.pragma_update(None, pragma, value).map_err(sorted)?;
    }
    for (pragma, value) in [("journal_mode", "WAL"), ("synchronous", "FULL"), ("foreign_keys", "ON")] {
        connection.pragma_update(None, pragma, value).map_err(sorted)?;
    }
    quick_check(&connection, path)?;
    Ok(connection)
}

/// `quick_check` reads every page like `integrity_check`, but does not compare indexes with their tables, which makes it
/// fast enough for every start.
fn quick_check(connection: &Connection, path: &Path) -> Result<(), LedgerError> {
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| sort(path, error))?;
    if verdict == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(LedgerError::Damaged { path: path.to_owned(), source: rusqlite::Error::SqliteFailure(code, Some(verdict)) })
}

fn sort(path: &Path, error: rusqlite::Error) -> LedgerError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => LedgerError::Full { path },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure) => {
            LedgerError::ReadOnly { path, source: error }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::Locked { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => LedgerError::Damaged { path, source: error },
        _ => LedgerError::Sql(error),
    }
}

fn put_aside(dir: &Path, path: &Path, reason: String) -> Result<SetAside, LedgerError> {
    let io = |path: &Path, source| LedgerError::Io { path: path.to_owned(), source };
    let mut old = set_aside_files(dir).map_err(|e| io(dir, e))?;
    old.sort();
    while old.len() >= KEEP_SET_ASIDE {
        let oldest = old.remove(0);
        std::fs::remove_file(&oldest).map_err(|e| io(&oldest, e))?;
    }
    let mut stamp = first_of_a_new_ledger();
    let aside = loop {
        let candidate = dir.join(format!("{FILE}.damaged-{stamp}"));
        if !candidate.exists() {
            break candidate;
        }
        stamp += 1;
    };
    std::fs::rename(path, &aside).map_err(|e| io(path, e))?;
    // The log belongs to the damaged file; read against a new one it would damage that too.
    for suffix in ["-wal", "-shm"] {
        let file = dir.join(format!("{FILE}{suffix}"));
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&file, error)),
            _ => {}
        }
    }
    Ok(SetAside { path: aside, reason })
}

fn set_aside_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let prefix = format!("{FILE}.damaged-");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there_after_a_reopen_and_a_failed_transaction_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        ledger.put("a", b"1").unwrap();
        let failed: Result<(), _> = ledger.transaction(|tx| {
            put(tx, "a", b"2")?;
            Err(LedgerError::Closed)
        });
        assert!(matches!(failed, Err(LedgerError::Closed)));
        // Not dropped in order: the second connection reads what a killed process would have left.
        let again = Ledger::open(dir.path()).unwrap();
        assert_eq!(again.get("a").unwrap().as_deref(), Some(b"1".as_slice()));
        ledger.remove("a").unwrap();
        assert_eq!(again.get("a").unwrap(), None);
        assert!(again.set_aside().is_none());
    }

    #[test]
    fn a_panic_within_a_transaction_undoes_it_and_leaves_the_ledger_usable() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let other = ledger.clone();
        let panicked = std::thread::spawn(move || {
            let _: Result<(), LedgerError> = other.transaction(|tx| {
                put(tx, "a", b"2")?;
                panic!("within a transaction")
            });
        });
        assert!(panicked.join().is_err());
        assert_eq!(ledger.get("a").unwrap(), None);
    }

    #[test]
    fn boot_ids_grow_also_when_the_ledger_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let first = ledger.next_boot_id().unwrap();
        let second = Ledger::open(dir.path()).unwrap().next_boot_id().unwrap();
        assert_eq!(second, first + 1);
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(Ledger::open(elsewhere.path()).unwrap().next_boot_id().unwrap() >= first);
    }

    #[test]
    fn a_damaged_database_is_set_aside_and_a_new_one_begun() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..4u8 {
            std::fs::write(dir.path().join(FILE), [round; 8192]).unwrap();
            let ledger = Ledger::open(dir.path()).unwrap();
            let aside = ledger.set_aside().expect("damage was noticed");
            assert_eq!(std::fs::read(&aside.path).unwrap(), [round; 8192]);
            ledger.put("a", b"1").unwrap();
        }
        assert_eq!(set_aside_files(dir.path()).unwrap().len(), KEEP_SET_ASIDE);
    }

    #[test]
    fn a_flipped_page_is_noticed_at_open() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        for i in 0..200 {
            ledger.put(&format!("key-{i}"), &[i as u8; 400]).unwrap();
        }
        ledger.fold_log().unwrap();
        drop(ledger);
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        for page in bytes.chunks_mut(4096).skip(2) {
            page[..64].fill(0xAB);
        }
        std::fs::write(&path, bytes).unwrap();
        assert!(Ledger::open(dir.path()).unwrap().set_aside().is_some());
    }

    #[test]
    fn a_full_disk_is_said_to_be_full_and_costs_nothing_that_was_stored() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        ledger.put("a", b"1").unwrap();
        ledger.fill_up(true);
        let error = ledger.put("b", &[7; 100_000]).unwrap_err();
        assert!(matches!(error, LedgerError::Full { .. }) && error.to_string().contains("free some space"), "{error}");
        assert_eq!(ledger.get("a").unwrap().as_deref(), Some(b"1".as_slice()));
        ledger.fill_up(false);
        ledger.put("b", &[7; 100_000]).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = Ledger::open(&file.join("data")).unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("check that the folder"), "{error}");
    }

    #[tokio::test]
    async fn work_runs_off_the_async_threads() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let read = ledger.run(|tx| {
            put(tx, "a", b"1")?;
            get(tx, "a")
        });
        assert_eq!(read.await.unwrap().as_deref(), Some(b"1".as_slice()));
    }
}
