//! Asked before anything is installed: whether the people of this device's tenant signed it.
//!
//! ```text
//! root known? ── no ──► told one by the control plane? ── no ──► the control plane's word counts, and the status says so
//!     │ yes                      │ yes: kept for ever
//!     ▼                          ▼
//! refresh ── out of reach ──► what is stored, while it is valid in trusted time
//!     │ not believed: nothing new       │
//!     ▼                                 ▼
//! search by name and version ──► same digest, length, manifest, golden cases, counter? ──► install
//! ```
//! Invariant: with a root, nothing passes that a valid chain of signatures does not describe. What was installed before is
//! never asked about again.

use super::{
    Brought, Clock as _, Http, Nowhere, Origin, Repository, RepositoryError, SharedClock, Source, SourceError, TrustStore,
    TrustedClock, built,
};
use crate::state::{Ledger, LedgerError};
use aidos_protocol::DeviceId;
use aidos_protocol::enrol::TrustAnchor;
use aidos_protocol::trust::{Refusal, TrustError, Trusted, Wanted};
use aidos_protocol::twin::{TrustState, TrustStatus};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often metadata is refreshed although nothing is to be installed: the timestamp is renewed daily and valid for a week, so
/// that a device which is cut off begins that with a fresh one.
const REFRESH_EVERY: Duration = Duration::from_secs(6 * 3_600);
/// How often the time is written down and a refresh that failed is tried again: what a restart may set trusted time back by.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// The most bytes of an anchor: the largest root as a JSON string, with a signature.
const MAX_ANCHOR_BYTES: usize = 1 << 20;
/// How long the whole of it may take.
const ANCHOR_PATIENCE: Duration = Duration::from_secs(60);

/// Why something is not vouched for.
#[derive(Debug, thiserror::Error)]
pub enum Unvouched {
    /// It was not signed, or something else was.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The repository is not believed; what is installed goes on.
    #[error("nothing new is installed, since the update repository is not believed: {0}")]
    NotBelieved(#[from] TrustError),
    /// The repository cannot be reached, and what is stored does not suffice.
    #[error("nothing new is installed before the update repository can be reached: {stored} ({reason})")]
    OutOfReach {
        /// What is stored lacks.
        stored: TrustError,
        /// Why it cannot be reached.
        reason: SourceError,
    },
    /// The first root that the control plane tells is not one.
    #[error("nothing new is installed, since the root of trust that the control plane tells cannot be taken: {0}")]
    Anchor(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] LedgerError),
}

impl Unvouched {
    /// Whether no later signature can change it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(Refusal::Differs { .. }))
    }
}

/// Says whether something may be installed.
#[async_trait]
pub trait Vouch: Send + Sync + 'static {
    /// Returns once it is known that `wanted` may be installed.
    async fn vouch(&self, wanted: &Wanted) -> Result<(), Unvouched>;
}

/// Takes the control plane's word for everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanesWord;

#[async_trait]
impl Vouch for PlanesWord {
    async fn vouch(&self, _: &Wanted) -> Result<(), Unvouched> {
        Ok(())
    }
}

/// The guard of one device. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    store: TrustStore,
    origin: Arc<dyn Origin>,
    clock: SharedClock,
    /// One refresh at a time: each begins from what the one before has stored.
    one: Mutex<()>,
    status: watch::Sender<TrustStatus>,
}

impl Guard {
    /// Opens the guard of `device` with what it trusts in `ledger`.
    pub async fn open(ledger: Ledger, device: DeviceId, origin: Arc<dyn Origin>) -> Result<Self, LedgerError> {
        let store = TrustStore::open(ledger)?;
        store.bind(device).await?;
        let clock = SharedClock::new(TrustedClock::new(built(), store.seen().await?));
        Self::with_clock(store, clock, origin).await
    }

    pub(super) async fn with_clock(store: TrustStore, clock: SharedClock, origin: Arc<dyn Origin>) -> Result<Self, LedgerError> {
        let inner = Inner { store, origin, clock, one: Mutex::default(), status: watch::Sender::default() };
        let guard = Self { inner: Arc::new(inner) };
        if let Err(error) = guard.inner.known().await {
            tracing::warn!(%error, "the root of trust that this device began with cannot be used");
        }
        guard.inner.show(None).await?;
        Ok(guard)
    }

    /// By whose word this device installs; a watch, so that changes can be told.
    pub fn status(&self) -> watch::Receiver<TrustStatus> {
        self.inner.status.subscribe()
    }

    /// By whose word it installs now.
    pub fn told(&self) -> TrustStatus {
        self.inner.status.borrow().clone()
    }

    /// Brings what is known up to date; takes a root where there was none and the control plane tells one.
    pub async fn refresh(&self) -> Result<(), Unvouched> {
        let _one = self.inner.one.lock().await;
        let refreshed = self.inner.refreshed().await.map(drop);
        self.inner.show(refreshed.as_ref().err()).await?;
        refreshed
    }

    /// Takes in the metadata that a bundle brought, and judges its models by it. A device without a root takes neither: a stick
    /// is no way by which trust may begin. Without metadata what is stored must do.
    pub async fn bring(&self, metadata: BTreeMap<String, Vec<u8>>, models: &[Wanted]) -> Result<(), Unvouched> {
        let _one = self.inner.one.lock().await;
        let judged = self.inner.brought(metadata, models).await;
        self.inner.show(judged.as_ref().err()).await?;
        judged
    }

    /// Keeps what is known fresh, and the time written down, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut refreshed: Option<Instant> = None;
        loop {
            if refreshed.is_none_or(|at| at.elapsed() >= REFRESH_EVERY) {
                tokio::select! {
                    () = stop.cancelled() => return,
                    done = self.refresh() => match done {
                        Ok(()) => refreshed = Some(Instant::now()),
                        Err(error) => tracing::warn!(%error, "the update repository was not refreshed"),
                    },
                }
            }
            if let Err(error) = self.inner.store.keep_time(self.inner.clock.now()).await {
                tracing::warn!(%error, "trusted time could not be written down");
            }
            // Half as long again at most, so that a fleet that started at once does not ask at once.
            let pause = LOOK_EVERY.mul_f64(1.0 + rand::random::<f64>() / 2.0);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.origin.changed() => refreshed = None,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

#[async_trait]
impl Vouch for Guard {
    async fn vouch(&self, wanted: &Wanted) -> Result<(), Unvouched> {
        let _one = self.inner.one.lock().await;
        let judged = self.inner.judged(wanted).await;
        // That one thing is not signed says nothing about the repository.
        let trouble = judged.as_ref().err().filter(|error| !matches!(error, Unvouched::Refused(_)));
        self.inner.show(trouble).await?;
        judged
    }
}

type Opened = Repository<Box<dyn Source>, SharedClock>;

impl Inner {
    /// Whether this device has a root; where its store was lost, it begins again with the one that its identity keeps.
    async fn known(&self) -> Result<bool, Unvouched> {
        let stored = self.store.load().await?;
        match (&stored, self.origin.anchor()) {
            (Some(Ok(_)), _) => Ok(true),
            (_, Some(root)) => {
                self.begin(root.as_bytes()).await?;
                Ok(true)
            }
            (Some(Err(error)), None) => Err(error.clone().into()),
            (None, None) => Ok(false),
        }
    }

    async fn begin(&self, root: &[u8]) -> Result<(), Unvouched> {
        Ok(self.store.save(&Trusted::begin(root)?, self.clock.now()).await?)
    }

    /// Whether this device has a root, after the control plane was asked for one.
    async fn begun(&self) -> Result<bool, Unvouched> {
        if self.known().await? {
            return Ok(true);
        }
        let told = match self.told_anchor().await {
            Ok(Some(anchor)) => anchor,
            Ok(None) => return Ok(false),
            // Never given a root and out of reach is as it was before.
            Err(reason) => {
                tracing::debug!(%reason, "the control plane could not be asked for a root of trust");
                return Ok(false);
            }
        };
        Trusted::begin(told.root.as_bytes()).map_err(|error| Unvouched::Anchor(error.to_string()))?;
        let root = told.root.clone();
        self.origin.take_anchor(told).await.map_err(Unvouched::Anchor)?;
        self.begin(root.as_bytes()).await?;
        tracing::info!("this device trusts its tenant's root from now on, and installs only what is signed");
        Ok(true)
    }

    async fn told_anchor(&self) -> Result<Option<TrustAnchor>, String> {
        let Some(repository) = self.origin.repository() else { return Ok(None) };
        let url = format!("{repository}anchor");
        let client = self.origin.client(&url)?;
        let ask = async {
            let mut response = client.get(&url).send().await.map_err(|error| error.without_url().to_string())?;
            match response.status().as_u16() {
                200 => {}
                404 => return Ok(None),
                status => return Err(format!("it answered {status}")),
            }
            let mut body = Vec::new();
            while let Some(piece) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
                if body.len() + piece.len() > MAX_ANCHOR_BYTES {
                    return Err(format!("its answer is longer than {MAX_ANCHOR_BYTES} bytes"));
                }
                body.extend_from_slice(&piece);
            }
            serde_json::from_slice(&body).map(Some).map_err(|error| error.to_string())
        };
        tokio::time::timeout(ANCHOR_PATIENCE, ask).await.map_err(|_| "it does not answer".to_owned())?
    }

    fn source(&self) -> Box<dyn Source> {
        let http = self.origin.repository().and_then(|repository| {
            let metadata = format!("{repository}metadata/");
            let client = self.origin.client(&metadata);
            let client = client.inspect_err(|reason| tracing::warn!(%reason, "no client for the update repository")).ok()?;
            Some(Box::new(Http::new(client, &metadata)) as Box<dyn Source>)
        });
        http.unwrap_or_else(|| Box::new(Nowhere))
    }

    async fn open(&self, source: Box<dyn Source>) -> Result<Opened, Unvouched> {
        Repository::open(self.store.clone(), source, self.clock.clone()).await.map_err(|error| self.unvouched(error, None))
    }

    /// The repository after a refresh, or as it is stored where it is out of reach and what is stored is valid. `None`: there is
    /// no root.
    async fn refreshed(&self) -> Result<Option<Opened>, Unvouched> {
        if !self.begun().await? {
            return Ok(None);
        }
        let mut repository = self.open(self.source()).await?;
        self.refresh_or_keep(&mut repository).await?;
        Ok(Some(repository))
    }

    async fn refresh_or_keep(&self, repository: &mut Opened) -> Result<(), Unvouched> {
        match repository.refresh().await {
            Ok(()) => Ok(()),
            Err(RepositoryError::Source(reason)) => match repository.trusted().check_fresh(self.clock.now()) {
                Ok(()) => Ok(()),
                Err(stored) => Err(Unvouched::OutOfReach { stored, reason }),
            },
            Err(error) => Err(self.unvouched(error, None)),
        }
    }

    async fn judged(&self, wanted: &Wanted) -> Result<(), Unvouched> {
        match self.refreshed().await? {
            None => Ok(()),
            Some(mut repository) => self.find(&mut repository, wanted).await,
        }
    }

    async fn brought(&self, metadata: BTreeMap<String, Vec<u8>>, models: &[Wanted]) -> Result<(), Unvouched> {
        if !self.known().await? {
            return Ok(());
        }
        let source: Box<dyn Source> = if metadata.is_empty() { Box::new(Nowhere) } else { Box::new(Brought(metadata)) };
        let mut repository = self.open(source).await?;
        self.refresh_or_keep(&mut repository).await?;
        for wanted in models {
            self.find(&mut repository, wanted).await?;
        }
        Ok(())
    }

    async fn find(&self, repository: &mut Opened, wanted: &Wanted) -> Result<(), Unvouched> {
        let found = repository.find(&wanted.path()).await.map_err(|error| self.unvouched(error, Some(wanted)))?;
        Ok(wanted.judge(found.as_ref())?)
    }

    fn unvouched(&self, error: RepositoryError, wanted: Option<&Wanted>) -> Unvouched {
        match (error, wanted) {
            // A publisher who was let in and has signed nothing yet.
            (RepositoryError::Trust(TrustError::NotListed { .. }), Some(wanted)) => wanted.unsigned().into(),
            (RepositoryError::Trust(error), _) => error.into(),
            (RepositoryError::Source(reason), _) => {
                Unvouched::OutOfReach { stored: TrustError::TooEarly { lacks: "file of a publisher" }, reason }
            }
            (RepositoryError::Store(error), _) => error.into(),
            (error @ (RepositoryError::NoRoot | RepositoryError::HasRoot { .. }), _) => Unvouched::Anchor(error.to_string()),
        }
    }

    /// Tells by whose word this device installs now.
    async fn show(&self, trouble: Option<&Unvouched>) -> Result<(), LedgerError> {
        let status = match self.store.load().await? {
            Some(Ok(trusted)) => {
                let fresh = trusted.check_fresh(self.clock.now());
                let error = trouble.map(ToString::to_string).or_else(|| Some(fresh.err()?.to_string()));
                TrustStatus {
                    state: if error.is_none() { TrustState::Verified } else { TrustState::Stale },
                    root: trusted.root().version,
                    timestamp: trusted.timestamp().map_or(0, |signed| signed.version),
                    targets: trusted.targets().map_or(0, |signed| signed.version),
                    expires_us: trusted.expires(),
                    error: error.unwrap_or_default(),
                }
            }
            Some(Err(error)) => TrustStatus { state: TrustState::Stale, error: error.to_string(), ..TrustStatus::default() },
            None => TrustStatus { error: trouble.map(ToString::to_string).unwrap_or_default(), ..TrustStatus::default() },
        };
        self.status.send_if_modified(|shown| {
            let changed = *shown != status;
            *shown = status;
            changed
        });
        Ok(())
    }
}
