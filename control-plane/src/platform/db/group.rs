//! Group commit for SQLite: writers that wait at the same time share one flush of the disk.
//!
//! SQLite takes one writer at a time, and each commit waits for the disk. So writers take turns on one open transaction, each within a
//! savepoint of its own, and a task that stands behind all who waited when it was opened commits for all of them. Nobody is told of
//! success before that commit. This must never let one writer see that another one failed, except when the commit itself does.
//!
//! ```text
//! turn:   A opens, writes │ B writes │ C drops │ the task commits │ D opens, writes │ …
//! told:                                         A and B: durable
//! ```

use super::error::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Executor as _};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

/// How a group ended: the text is why nothing of it was kept.
type Outcome = Option<Result<(), String>>;

/// The writers' queue; a clone shares it.
#[derive(Clone)]
pub(super) struct Writers {
    pool: AnyPool,
    /// Fair: whoever asks first, writes first.
    turn: Arc<Mutex<Turn>>,
}

#[derive(Default)]
struct Turn {
    open: Option<Group>,
}

/// One transaction of the database that several writers share.
struct Group {
    conn: PoolConnection<Any>,
    /// The last writer gave up: what it did is undone before anything else happens.
    undo: bool,
    ended: watch::Sender<Outcome>,
}

/// One writer's turn.
pub(super) struct Write {
    turn: OwnedMutexGuard<Turn>,
    kept: bool,
}

impl Writers {
    pub(super) fn new(pool: AnyPool) -> Self {
        Self { pool, turn: Arc::default() }
    }

    /// Waits for a turn, no longer than `patience`, and begins.
    pub(super) async fn begin(&self, patience: Duration) -> Result<Write, StoreError> {
        let turn = tokio::time::timeout(patience, Arc::clone(&self.turn).lock_owned()).await;
        let turn = turn.map_err(|_| StoreError::busy())?;
        // A task of its own: a caller that goes away must not leave it half begun.
        whole(self.clone().open(turn)).await
    }

    async fn open(self, mut turn: OwnedMutexGuard<Turn>) -> Result<Write, StoreError> {
        if let Some(group) = &mut turn.open
            && let Err(error) = group.undo().await
        {
            // The database gave the whole transaction up by itself, as it does when its disk is full.
            turn.end(Err(error));
        }
        if turn.open.is_none() {
            let mut conn = self.pool.acquire().await?;
            // IMMEDIATE takes the write lock now: a transaction that upgrades later can fail although it waited.
            conn.execute("BEGIN IMMEDIATE").await?;
            turn.open = Some(Group { conn, undo: false, ended: watch::Sender::new(None) });
            let queue = Arc::clone(&self.turn);
            tokio::spawn(async move { queue.lock().await.commit().await });
        }
        let mut write = Write { turn, kept: false };
        write.group().conn.execute("SAVEPOINT turn").await?;
        Ok(write)
    }

    /// Ends what is open.
    pub(super) async fn close(&self) {
        self.turn.lock().await.commit().await;
    }
}

impl Turn {
    async fn commit(&mut self) {
        let Some(group) = &mut self.open else { return };
        let done = match group.undo().await {
            Ok(()) => group.conn.execute("COMMIT").await.map(drop),
            Err(error) => Err(error),
        };
        self.end(done);
    }

    fn end(&mut self, done: Result<(), sqlx::Error>) {
        let Some(mut group) = self.open.take() else { return };
        if done.is_err() {
            // Nobody else gets a connection whose transaction may still be open; closing it rolls back.
            group.conn.close_on_drop();
        }
        group.ended.send_replace(Some(done.map_err(|error| StoreError::from(error).to_string())));
    }
}

impl Group {
    async fn undo(&mut self) -> Result<(), sqlx::Error> {
        if self.undo {
            self.conn.execute("ROLLBACK TO turn; RELEASE turn").await?;
            self.undo = false;
        }
        Ok(())
    }
}

impl Write {
    fn group(&mut self) -> &mut Group {
        self.turn.open.as_mut().expect("a turn has a group until it is committed")
    }

    /// Ends the turn and waits until it is durable. A caller that goes away meanwhile does not learn how it ended.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        let mut ended = whole(self.keep()).await?;
        let outcome = ended.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        match outcome {
            Some(done) => done.map_err(StoreError::Unavailable),
            None => Err(StoreError::stopping()),
        }
    }

    async fn keep(mut self) -> Result<watch::Receiver<Outcome>, StoreError> {
        self.group().conn.execute("RELEASE turn").await?;
        self.kept = true;
        Ok(self.group().ended.subscribe())
    }
}

/// Runs to its end although the caller goes away.
async fn whole<T: Send + 'static>(work: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Result<T, StoreError> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(StoreError::stopping()),
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if !self.kept
            && let Some(group) = &mut self.turn.open
        {
            group.undo = true;
        }
    }
}

impl Deref for Write {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        &self.turn.open.as_ref().expect("a turn has a group until it is committed").conn
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.group().conn
    }
}
