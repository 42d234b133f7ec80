//! What an agent that does not run would answer: its models from disk, served on loopback for as long as somebody asks.
//!
//! No link, no telemetry, no reconciling, and nothing on disk changes, except that [`import_bundle`] fills the store. The data directory is locked meanwhile, so that an
//! agent never starts beside it.

use super::place::{Place, identity_dir};
use super::ports::{Links, Statuses};
use super::{StartError, io_at};
use crate::bundle::{self, BundleError, Imported};
use crate::clock;
use crate::config::Config;
use crate::identity::Identity;
use crate::infer::{self, Models};
use crate::models::{Reconciler, Setup};
use crate::serve::{self, ServeContext};
use crate::state::{Chunks, Ledger, Pins};
use crate::trust::Guard;
use crate::twin::StatusMap;
use crate::update::Journal;
use aidos_protocol::trust::Wanted;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Models that answer while this lives.
#[derive(Debug)]
pub struct Offline {
    /// Where they answer inference.
    pub serve_addr: SocketAddr,
    _serving: DropGuard,
    _place: Place,
}

/// Serves the models of the agent in `config.data_dir`. Fails when that agent runs, or when no device ever joined there.
pub async fn offline(config: &Config) -> Result<Offline, StartError> {
    let identity_dir = identity_dir(&config.data_dir);
    if !identity_dir.exists() {
        return Err(StartError::NotJoined(config.data_dir.clone()));
    }
    let place = Place::take(&config.data_dir)?;
    let ledger = Ledger::open(&config.data_dir)?;
    let identity = Identity::load(&identity_dir)?.ok_or_else(|| StartError::NotJoined(config.data_dir.clone()))?;
    let store = Chunks::open(&config.data_dir, ledger.clone(), config.storage.max_bytes)?;
    let models = Models::new(infer::Settings::default());
    let (links, _control) = Links::new(identity);
    // Nobody reads this status: the next real start counts from the ledger.
    let statuses = Statuses::new(StatusMap::new(0));
    let (runner, links, journal) = (Arc::new(models.clone()), Arc::new(links), Journal::open(ledger.clone())?);
    let setup = Setup { durable: false, ..Setup::default() };
    let reconciler = Reconciler::new(runner, links, Arc::new(statuses), store, journal, Pins::open(ledger)?, setup);
    reconciler.restore().await?;

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(address).await.map_err(io_at(address))?;
    let serve_addr = listener.local_addr().map_err(io_at(address))?;
    let stop = CancellationToken::new();
    tokio::spawn(serve::run(listener, serve::router(models, ServeContext::default()), stop.clone()));
    Ok(Offline { serve_addr, _serving: stop.drop_guard(), _place: place })
}

/// Why an agent that does not run has not imported a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Its data directory cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Fills the store of the agent in `config.data_dir` from a bundle. Fails when that agent runs: it then has to be asked. A device
/// may be filled before it joins.
pub async fn import_bundle(config: &Config, file: &Path) -> Result<Imported, ImportError> {
    let _place = Place::take(&config.data_dir)?;
    let ledger = Ledger::open(&config.data_dir).map_err(StartError::from)?;
    let store = Chunks::open(&config.data_dir, ledger.clone(), config.storage.max_bytes).map_err(StartError::from)?;
    let pins = Pins::open(ledger.clone()).map_err(StartError::from)?;
    let guard = match Identity::load(&identity_dir(&config.data_dir)).map_err(StartError::from)? {
        Some(identity) => {
            let device = identity.device_id();
            Some(Guard::open(ledger, device, Arc::new(identity)).await.map_err(StartError::from)?)
        }
        None => None,
    };
    take_bundle(file.to_owned(), store, pins, guard).await
}

/// Imports a bundle beside what else this process does. Without a guard there is no root to judge it by.
pub(super) async fn take_bundle(file: PathBuf, store: Chunks, pins: Pins, guard: Option<Guard>) -> Result<Imported, ImportError> {
    let runtime = tokio::runtime::Handle::current();
    let import = move || {
        let judge = |metadata, models: &[Wanted]| match &guard {
            Some(guard) => runtime.block_on(guard.bring(metadata, models)),
            None => Ok(()),
        };
        bundle::import_file(&file, &store, &pins, &judge, clock::now())
    };
    match tokio::task::spawn_blocking(import).await {
        Ok(imported) => Ok(imported?),
        Err(_) => Err(StartError::Unclean.into()),
    }
}
