//! What can go wrong in a store, sorted by what to do about it. Must never carry a value that a row held.

use sqlx::migrate::MigrateError;
use std::error::Error as _;

/// Why a store function failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// What was asked for is not there (or is another tenant's).
    #[error("not found")]
    NotFound,
    /// It exists already, or something still refers to it.
    #[error("{0}")]
    Conflict(String),
    /// The database cannot do it now; the text says what to do.
    #[error("{0}")]
    Unavailable(String),
    /// A row does not hold what it should.
    #[error("the database holds something unreadable: {0}")]
    Corrupt(String),
    /// Anything else: a defect.
    #[error("database error: {0}")]
    Sql(#[source] sqlx::Error),
}

const BUSY: &str =
    "the database is locked by another writer; try again, and look for a backup or a second control plane that holds it";
/// The pool keeps trying while a server refuses connections, and then says only that it waited.
const WAITED: &str =
    "no connection to the database in time: it does not run or cannot be reached, or too much waits for it; see that it runs";
const GONE: &str = "the database cannot be reached; see that it runs and that `database` in the configuration names it";
const FULL: &str = "the disk of the database is full; free some space, nothing was changed";
const READ_ONLY: &str = "the database cannot be written; give the control plane's user write access to its file and folder";
const BROKEN: &str = "the database file is damaged; stop the control plane and restore a backup";

impl StoreError {
    pub(super) fn busy() -> Self {
        Self::Unavailable(BUSY.into())
    }

    pub(super) fn stopping() -> Self {
        Self::Unavailable("the control plane is stopping; try again".into())
    }

    pub(super) fn from_migration(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMissing(version) => Self::Unavailable(format!(
                "the database was used by a newer control plane (it has migration {version}); start that version instead"
            )),
            other => Self::Corrupt(format!("its tables cannot be brought up to date: {other}")),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let unavailable = |text: &str| Self::Unavailable(text.to_owned());
        match &error {
            E::RowNotFound => Self::NotFound,
            E::PoolTimedOut => unavailable(WAITED),
            E::PoolClosed => Self::stopping(),
            E::WorkerCrashed | E::Io(_) | E::Tls(_) => unavailable(GONE),
            E::ColumnDecode { index, source } => Self::Corrupt(format!("column {index}: {source}")),
            E::Decode(source) => Self::Corrupt(source.to_string()),
            E::Database(inner) if inner.is_unique_violation() => Self::Conflict("it exists already".into()),
            E::Database(inner) if inner.is_foreign_key_violation() => {
                Self::Conflict("something that it belongs to is not there, or something still refers to it".into())
            }
            E::Database(inner) => match inner.code().as_deref().and_then(what) {
                Some(text) => unavailable(text),
                None => Self::Sql(error),
            },
            E::Configuration(source) => unavailable(&format!("the database URL is not usable: {source}")),
            other if is_io(other) => unavailable(GONE),
            _ => Self::Sql(error),
        }
    }
}

fn is_io(error: &sqlx::Error) -> bool {
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.is::<std::io::Error>() {
            return true;
        }
        source = inner.source();
    }
    false
}

/// What to do about a code: five characters are an SQLSTATE, fewer are SQLite's number, whose low byte is the kind.
fn what(code: &str) -> Option<&'static str> {
    if code.len() == 5 {
        return match code {
            "53100" => Some(FULL),
            "53200" | "53300" | "57P01" | "57P02" | "57P03" | "3D000" | "28P01" | "28000" => Some(GONE),
            "40001" | "40P01" | "55P03" | "57014" => Some(BUSY),
            "25006" | "42501" => Some(READ_ONLY),
            code if code.starts_with("08") => Some(GONE),
            _ => None,
        };
    }
    match code.parse::<u32>().ok()? & 0xff {
        5 | 6 => Some(BUSY),
        13 => Some(FULL),
        8 | 3 => Some(READ_ONLY),
        10 | 14 => Some(GONE),
        11 | 26 => Some(BROKEN),
        _ => None,
    }
}
