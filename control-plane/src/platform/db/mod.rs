//! The database: SQLite in a file or Postgres, behind one pool of sqlx's `Any` driver. It must never hold a room's
//! statements; those stand in the rooms' `store` files.
//!
//! Both dialects share each statement: `$1`, `RETURNING`, `ON CONFLICT`, and columns of TEXT, BIGINT, DOUBLE PRECISION and
//! BLOB/BYTEA only, since `Any` reads no other type. `SUM` of a BIGINT is NUMERIC in Postgres: cast it.

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyConnection, AnyPool, Connection, Executor};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

mod among;
mod error;
mod group;
pub(crate) use among::Among;
pub(crate) use error::StoreError;
use group::{Write, Writers};

/// Connections to SQLite: readers do not block one another in WAL mode, and more than a few only cost memory.
const SQLITE_CONNECTIONS: u32 = 8;
/// Connections to Postgres: its default allows 100 in all, and a few control planes share it.
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a request waits for a connection or for its turn to write: longer than any statement takes, shorter than the
/// patience of a client.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A file beside the control plane.
    Sqlite,
    /// A server.
    Postgres,
}

/// A database; a clone shares its pool.
#[derive(Clone)]
pub(crate) struct Db {
    pool: AnyPool,
    dialect: Dialect,
    /// SQLite takes one writer at a time and lets the others poll; a queue in front of it is fair, wakes at once, and shares the disk's
    /// flushes.
    writers: Option<Writers>,
}

/// A write transaction: it takes effect with [`Tx::commit`], and not at all when it is dropped.
pub(crate) struct Tx {
    inner: Inner,
    /// What follows once it is durable, in order.
    afterwards: Vec<Box<dyn FnOnce() + Send + Sync>>,
}

enum Inner {
    /// A turn among SQLite's writers.
    Turn(Write),
    Own(sqlx::Transaction<'static, Any>),
}

impl Tx {
    /// Makes all of it durable.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self.inner {
            Inner::Turn(turn) => turn.commit().await?,
            Inner::Own(own) => own.commit().await?,
        }
        self.afterwards.into_iter().for_each(|follow| follow());
        Ok(())
    }

    /// Has `follow` done once all of it is durable, and never when it does not become so. It must not wait for anything.
    pub(crate) fn afterwards(&mut self, follow: impl FnOnce() + Send + Sync + 'static) {
        self.afterwards.push(Box::new(follow));
    }
}
impl Deref for Tx {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        match &self.inner {
            Inner::Turn(turn) => turn,
            Inner::Own(own) => own,
        }
    }
}
impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match &mut self.inner {
            Inner::Turn(turn) => turn,
            Inner::Own(own) => own,
        }
    }
}

impl Db {
    /// The URL of an SQLite file.
    pub(crate) fn sqlite_url(file: &Path) -> String {
        let mut url = String::from("sqlite://");
        for c in file.to_string_lossy().chars() {
            match c {
                '%' => url.push_str("%25"),
                '?' => url.push_str("%3F"),
                '#' => url.push_str("%23"),
                c => url.push(c),
            }
        }
        url
    }

    /// The file of an SQLite URL; `None` for what is no file.
    pub(crate) fn sqlite_file(url: &str) -> Option<PathBuf> {
        let rest = url.strip_prefix("sqlite://").filter(|rest| !rest.contains('?'))?;
        let path = percent_encoding::percent_decode_str(rest).decode_utf8().ok()?;
        (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(path.as_ref()))
    }

    /// Opens `sqlite:///path` (made if it is not there) or `postgres://…` and brings its tables up to date.
    pub(crate) async fn connect(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let (dialect, url) = match url.split_once("://") {
            Some(("sqlite", rest)) if !rest.contains('?') => (Dialect::Sqlite, format!("sqlite://{rest}?mode=rwc")),
            Some(("sqlite", _)) => (Dialect::Sqlite, url.to_owned()),
            Some(("postgres" | "postgresql", _)) => (Dialect::Postgres, url.to_owned()),
            _ => {
                return Err(StoreError::Unavailable(
                    "the database URL must begin with `sqlite://` or `postgres://`; set `database` in the configuration".into(),
                ));
            }
        };
        let options = AnyConnectOptions::from_str(&url)?;
        // The pool would try what cannot work until its patience ends, and then say only that it waited.
        let mut first = AnyConnection::connect_with(&options).await?;
        prepare(&mut first, dialect).await?;
        first.close().await?;
        let pool = AnyPoolOptions::new()
            .max_connections(if dialect == Dialect::Sqlite { SQLITE_CONNECTIONS } else { POSTGRES_CONNECTIONS })
            .acquire_timeout(PATIENCE)
            .after_connect(move |conn, _| Box::pin(async move { prepare(conn, dialect).await }))
            .connect_with(options)
            .await?;
        let writers = (dialect == Dialect::Sqlite).then(|| Writers::new(pool.clone()));
        let db = Self { pool, dialect, writers };
        db.migrate().await?;
        Ok(db)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let migrator = match self.dialect {
            Dialect::Sqlite => sqlx::migrate!("migrations/sqlite"),
            Dialect::Postgres => sqlx::migrate!("migrations/postgres"),
        };
        migrator.run(&self.pool).await.map_err(StoreError::from_migration)
    }

    /// For statements that only read.
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a write. Never begin a second one while holding the first: on SQLite it would wait for itself.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        let inner = match &self.writers {
            Some(writers) => Inner::Turn(writers.begin(PATIENCE).await?),
            None => Inner::Own(self.pool.begin().await?),
        };
        Ok(Tx { inner, afterwards: Vec::new() })
    }

    /// `table` has many more rows than before. Postgres would go by what it was until it looks by itself, a minute later.
    pub(crate) async fn grown(&self, table: &'static str) {
        if self.dialect == Dialect::Postgres
            && let Err(error) = self.pool.execute(sqlx::AssertSqlSafe(format!("ANALYZE {table}"))).await
        {
            tracing::warn!(%error, table, "the database does not know how large the table has become, and may be slow for a minute");
        }
    }

    /// Which database speaks.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the database answers now.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.pool.acquire().await?.ping().await?)
    }

    /// Waits for what runs and closes all connections.
    pub(crate) async fn close(&self) {
        if let Some(writers) = &self.writers {
            writers.close().await;
            // The last connection does so as it closes, unless one of somebody else is open; then the file alone would be of yesterday.
            if let Err(error) = self.pool.execute("PRAGMA wal_checkpoint(TRUNCATE)").await {
                tracing::warn!(%error, "what was written last stays in the log beside the database");
            }
        }
        self.pool.close().await;
    }
}

async fn prepare(conn: &mut AnyConnection, dialect: Dialect) -> Result<(), sqlx::Error> {
    let settings = match dialect {
        // FULL: what was answered with success survives a power loss. 5 s: a backup tool may hold the lock for a moment.
        Dialect::Sqlite => {
            "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY"
        }
        // A client that vanished must not hold its locks.
        Dialect::Postgres => {
            "SET idle_in_transaction_session_timeout = '60s'; SET lock_timeout = '5s'; SET statement_timeout = '60s'"
        }
    };
    conn.execute(sqlx::raw_sql(settings)).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
