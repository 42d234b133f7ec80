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
            && let Err(error) = group.next().await
        {
            // The database gave the whole transaction up by itself, as it does when its disk is full.
            turn.end(Err(error));
        }
        if turn.open.is_none() {
            let mut conn = self.pool.acquire().await?;
            // IMMEDIATE takes the write lock now: a transaction that upgrades later can fail although it waited.
            if let Err(error) = conn.execute("BEGIN IMMEDIATE; SAVEPOINT turn").await {
                conn.close_on_drop();
                return Err(error.into());
            }
            turn.open = Some(Group { conn, undo: false, ended: watch::Sender::new(None) });
            let queue = Arc::clone(&self.turn);
            tokio::spawn(async move { queue.lock().await.commit().await });
        }
        Ok(Write { turn, kept: false })
    }

    /// Ends what is open.
    pub(super) async fn close(&self) {
        self.turn.lock().await.commit().await;
    }
}

impl Turn {
    async fn commit(&mut self) {
        let Some(group) = &mut self.open else { return };
        let sql = if group.undo { "ROLLBACK TO turn; COMMIT" } else { "COMMIT" };
        let done = group.conn.execute(sql).await.map(drop);
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
    /// Keeps or undoes what the last writer did, and begins the next one's part.
    async fn next(&mut self) -> Result<(), sqlx::Error> {
        // One trip to the database for the end of one turn and the beginning of the next.
        let sql = if self.undo { "ROLLBACK TO turn" } else { "RELEASE turn; SAVEPOINT turn" };
        self.conn.execute(sql).await?;
        self.undo = false;
        Ok(())
    }
}

impl Write {
    fn group(&mut self) -> &mut Group {
        self.turn.open.as_mut().expect("a turn has a group until it is committed")
    }

    /// Ends the turn and waits until it is durable. A caller that goes away meanwhile does not learn how it ended.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        self.kept = true;
        let mut ended = self.group().ended.subscribe();
        drop(self);
        let outcome = ended.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        match outcome {
            Some(done) => done.map_err(StoreError::Unavailable),
            None => Err(StoreError::stopping()),
        }
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
