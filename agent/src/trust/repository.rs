//! Drives a refresh and a search: fetch, verify, store, go on. What the verifier accepted is on disk before the next file is
//! asked for, so that a crash at any point costs at most a fetch.

use super::{Clock, Source, SourceError, TrustStore};
use crate::state::LedgerError;
use aidos_protocol::trust::{Answer, Found, Refresh, Search, Step, TrustError, Trusted};

/// Why a repository could not be refreshed or searched. What was trusted before stays trusted.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The repository is not believed.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] LedgerError),
    /// There is no root to begin with.
    #[error("no root is trusted here yet; begin with the root.json that the tenant's people gave out")]
    NoRoot,
    /// There is a root already.
    #[error("this device trusts root version {version} already; later roots come from the repository by themselves")]
    HasRoot {
        /// Its version.
        version: u64,
    },
}

/// The update repository as this device knows it.
#[derive(Debug)]
pub struct Repository<S, C> {
    store: TrustStore,
    source: S,
    clock: C,
    trusted: Trusted,
}

impl<S: Source, C: Clock> Repository<S, C> {
    /// Goes on from what is stored.
    pub async fn open(store: TrustStore, source: S, clock: C) -> Result<Self, RepositoryError> {
        let trusted = store.load().await?.ok_or(RepositoryError::NoRoot)??;
        Ok(Self { store, source, clock, trusted })
    }

    /// Begins to trust `root`, which must have come by a way that is trusted. Once only: later roots prove themselves.
    pub async fn init(store: &TrustStore, root: &[u8], clock: &C) -> Result<(), RepositoryError> {
        if let Some(Ok(known)) = store.load().await? {
            return Err(RepositoryError::HasRoot { version: known.root().version });
        }
        Ok(store.save(&Trusted::begin(root)?, clock.now()).await?)
    }

    /// Brings the four top-level roles up to date.
    pub async fn refresh(&mut self) -> Result<(), RepositoryError> {
        let mut refresh = Refresh::default();
        while let Some(want) = refresh.want(&self.trusted, self.clock.now())? {
            let bytes = self.source.get(&want).await?;
            let had_timestamp = self.trusted.timestamp().is_some();
            refresh.take(&mut self.trusted, answer(bytes.as_deref()), self.clock.now())?;
            if had_timestamp && self.trusted.timestamp().is_none() {
                self.clock.recover();
            }
            if let Some(at) = self.trusted.signed_at() {
                self.clock.observe(at);
            }
            self.store.save(&self.trusted, self.clock.now()).await?;
        }
        Ok(())
    }

    /// Who vouches for `path` and how its file is described; `None` when nobody who may does. Refresh first.
    pub async fn find(&mut self, path: &str) -> Result<Option<Found>, RepositoryError> {
        let mut search = Search::new(path);
        loop {
            match search.step(&self.trusted, self.clock.now())? {
                Step::Done(found) => return Ok(found),
                Step::Fetch(want) => {
                    let bytes = self.source.get(&want).await?;
                    search.take(&mut self.trusted, answer(bytes.as_deref()), self.clock.now())?;
                    self.store.save(&self.trusted, self.clock.now()).await?;
                }
            }
        }
    }

    /// What is trusted now.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }
}

fn answer(bytes: Option<&[u8]>) -> Answer<'_> {
    bytes.map_or(Answer::Missing, Answer::Bytes)
}
