//! Wires the components together and owns the order of start and shutdown; the one place where they meet.
//!
//! Start: data directory and its lock → ledger → identity → models from disk → inference API → telemetry → twin → admin
//! socket → link. What answers offline is there before anything touches a network.
//!
//! Shutdown: first what begins new work (admin socket, reconciler, telemetry), then the inference API, which lets running
//! requests end, then the link, so that the last results and status still go out, and last the spool and the ledger. A kill at
//! any point loses none of what was acknowledged to anybody.

mod admin;
mod checkup;
mod components;
mod follow;
mod offline;
mod place;
mod ports;
mod readings;
#[cfg(test)]
mod tests;

pub use offline::{ImportError, Offline, import_bundle, offline};
pub use place::identity_dir;

use crate::admin as socket;
use crate::clock;
use crate::commands::{Commands, Means};
use crate::config::Config;
use crate::identity::{Identity, IdentityError};
use crate::infer::{self, Models};
use crate::link::{self, Ports, Transport};
use crate::models::{Reconciler, Setup};
use crate::neighbours::{Neighbours, Revoked};
use crate::observe::{self, Gpus, Logging, telemetry};
use crate::selfupdate::{self, Deed, Launcher, SelfUpdate, Supply, Witness};
use crate::serve::{self, ServeContext};
use crate::state::{ChunkError, Chunks, Inbox, Ledger, LedgerError, Pins, Spool};
use crate::trust::Guard;
use crate::twin::{Replica, Signer, StatusMap, Voucher};
use crate::update::{Here, Journal, Surroundings};
use aidos_protocol::twin::path;
use aidos_protocol::{DeviceId, Subject};
use checkup::Checkup;
use components::{Components, Tell};
use follow::{Layers, follow_intent};
use place::Place;
use ports::{Links, Statuses};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long the last words of a component are waited for at each step of the shutdown.
const LAST_WORDS: Duration = Duration::from_secs(9);

/// Why the agent did not start, or did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("{path}: {source}; choose another folder with --data-dir, or make this one writable")]
    Folder {
        /// Which folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another agent runs there.
    #[error("another agent (process {pid}) uses {dir}; stop it, or choose another folder with --data-dir")]
    Taken {
        /// Which folder.
        dir: PathBuf,
        /// The other agent's process.
        pid: String,
    },
    /// This device has no identity yet.
    #[error(
        "this device has not joined a fleet; run the `aidos-agent join` line that `aidos token create` prints, with the same --data-dir ({0})"
    )]
    NotJoined(PathBuf),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store of artifacts cannot be used.
    #[error(transparent)]
    Store(#[from] ChunkError),
    /// The inference API's port is not free.
    #[error("cannot listen on {address}: {source}; choose another with --serve, or 127.0.0.1:0 for any free one")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A task of the shutdown failed.
    #[error("the agent did not end cleanly; see its log")]
    Unclean,
}

/// An agent that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it answers inference.
    pub serve_addr: SocketAddr,
    /// Which device it is.
    pub device_id: DeviceId,
    ended: JoinHandle<Result<Ended, StartError>>,
}

/// Why an agent has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// It asks its launcher for the version that it has staged.
    Switch,
}

impl Running {
    /// Waits until the agent has ended, which the token that was passed to [`run`] brings about, or its own update.
    pub async fn join(self) -> Result<Ended, StartError> {
        self.ended.await.unwrap_or(Err(StartError::Unclean))
    }
}

/// Starts an agent within this process; `shutdown` ends it. Returns once models from disk answer. The configuration must
/// have been checked ([`Config::check`]), and the process must have a rustls provider.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<Running, StartError> {
    run_with(config, Logging::default(), shutdown).await
}

/// [`run`] for an agent whose lines are kept: it owns the process's log, or has a layer in it ([`Logging::within`]).
pub async fn run_with(config: Config, logging: Logging, shutdown: CancellationToken) -> Result<Running, StartError> {
    // Boxed: the futures of a start are large, and a start happens once.
    Box::pin(start(config, logging, shutdown)).await
}

async fn start(config: Config, logging: Logging, shutdown: CancellationToken) -> Result<Running, StartError> {
    let started = clock::now();
    // The agent's own update ends it, too, but not what it may be embedded in.
    let shutdown = shutdown.child_token();
    let (switching, beating) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let still_beating = beating.clone().drop_guard();
    tokio::spawn(selfupdate::heartbeat(beating));
    let place = Place::take(&config.data_dir)?;
    let ledger = Ledger::open(&config.data_dir)?;
    let boot = ledger.next_boot_id()?;
    let identity =
        Identity::load(&identity_dir(&config.data_dir))?.ok_or_else(|| StartError::NotJoined(config.data_dir.clone()))?;
    let device_id = identity.device_id();

    let statuses = Statuses::new(StatusMap::new(boot));
    let intent = Replica::open(ledger.clone(), identity.tenant_id(), device_id, signer(&identity), statuses.map())?;
    let voucher = voucher(&identity, boot);
    let layers = Layers::open(ledger.clone(), config, &intent.view().borrow(), voucher.clone())?;
    let config = layers.config();

    let store = Chunks::open(&config.data_dir, ledger.clone(), config.storage.max_bytes)?;
    let pins = Pins::open(ledger.clone())?;
    let models = Models::new(infer::Settings::default());
    let (links, link_control) = Links::new(identity.clone());
    let revoked = Revoked::open(ledger.clone())?;
    let guard = Guard::open(ledger.clone(), device_id, Arc::new(identity.clone())).await?;
    let neighbours = match config.neighbours.settings() {
        Some(settings) => {
            let (site, refused) = (ports::site(&intent), ports::refused(&intent, &revoked));
            Neighbours::new(settings, identity.clone(), Arc::new(store.clone()), site, refused)
        }
        None => Neighbours::off(),
    };
    let (rules, house) = watch::channel(config.update.house_rules());
    let here: Arc<dyn Surroundings> = Arc::new(Here { clock: links.plane_clock(), rules: house });
    let reconciler = Reconciler::new(
        Arc::new(models.clone()),
        Arc::new(links.clone()),
        Arc::new(statuses.clone()),
        store.clone(),
        Journal::open(ledger.clone())?,
        pins.clone(),
        Setup {
            voucher: Some(voucher.clone()),
            neighbours: neighbours.clone(),
            guard: Arc::new(guard.clone()),
            surroundings: here.clone(),
            ..Setup::default()
        },
    );
    reconciler.restore().await?;

    // Before anything answers: who sees that the agent runs may ask here at once, and waits in the queue until it is served.
    let admin_socket = socket::listen(&config.data_dir)
        .map_err(|source| StartError::Folder { path: config.data_dir.join(socket::SOCKET), source })?;
    let address = config.serve.address;
    let listener = TcpListener::bind(address).await.map_err(io_at(address))?;
    let serve_addr = listener.local_addr().map_err(io_at(address))?;
    let spool = Spool::open(ledger.clone(), config.spool_limits())?;

    let tell: Tell = {
        let statuses = statuses.clone();
        Arc::new(move |name, status| statuses.set(&format!("{}{name}", path::COMPONENTS), status))
    };
    let components = Components::new(tell);
    let (intake, serving, linking) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());

    let drain = ports::drain(ledger.clone(), statuses.clone())?;
    let context = ServeContext {
        not_ready: {
            let shutdown = shutdown.clone();
            Arc::new(move || shutdown.is_cancelled().then(|| "the agent is stopping".to_owned()))
        },
        traffic: drain.traffic().clone(),
        metrics: ports::metrics(links.clone(), spool.clone(), neighbours.clone(), started),
    };
    let serve_task = tokio::spawn(serve::run(listener, serve::router(models.clone(), context), serving.clone()));
    place.announce(serve_addr)?;
    selfupdate::ready();

    let gpus = Gpus::find();
    statuses.set(path::INVENTORY, &observe::collect(&config.data_dir, &gpus, &["tract"]));
    statuses.set(path::AGENT_VERSION, &env!("CARGO_PKG_VERSION"));
    drop(gpus);
    let constrained = config.link.constrained;
    let wanted = follow_intent(&intent, layers, &logging, statuses.clone(), (links.limit(), rules), intake.clone());
    let (desired, interval) = (wanted.models.clone(), wanted.interval.clone());

    let telemetry = {
        let (links, spool, models, dir) = (links.clone(), spool.clone(), models.clone(), config.data_dir.clone());
        components.supervise("telemetry", intake.clone(), move |stop| {
            let extra = readings::all(links.clone(), spool.clone(), models.clone());
            let sampler = telemetry::Sampler::new(&dir, Gpus::find(), extra);
            let (spool, interval) = (spool.clone(), interval.clone());
            async move {
                Box::pin(telemetry::run(sampler, spool, interval, stop)).await;
                Ok(())
            }
        })
    };
    let reconciling = {
        let reconciler = reconciler.clone();
        components.supervise("models", intake.clone(), move |stop| {
            let (reconciler, desired) = (reconciler.clone(), desired.clone());
            async move {
                reconciler.run(desired, stop).await;
                Ok(())
            }
        })
    };
    let trusting = trust_component(&components, guard.clone(), statuses.clone(), intake.clone());
    let sharing = neighbour_component(&components, &config, neighbours.clone(), intake.clone());

    let updating = {
        let switch: Arc<dyn Fn() + Send + Sync> = {
            let (shutdown, switching) = (shutdown.clone(), Arc::clone(&switching));
            Arc::new(move || {
                switching.store(true, Ordering::SeqCst);
                shutdown.cancel();
            })
        };
        let (links, statuses, guard) = (links.clone(), statuses.clone(), guard.clone());
        let supply = {
            let (told, at) = (statuses.clone(), format!("{}{}", path::TRANSFERS, Subject::Release));
            Supply {
                source: Arc::new(links.clone()),
                neighbours: neighbours.clone(),
                store: store.clone(),
                pins: pins.clone(),
                running: "/proc/self/exe".into(),
                told: Arc::new(move |transfer| told.set(&at, transfer)),
            }
        };
        let witness = {
            let (told, at) = (statuses.clone(), format!("{}{}", path::HEALTH, Subject::Release));
            Witness::new(voucher, ledger.clone(), Arc::new(move |signed| told.set(&at, signed)))
        };
        components.supervise("release", intake.clone(), move |stop| {
            let (online, told) = (links.clone(), statuses.clone());
            let deed = Deed {
                launcher: Launcher::of_environment(),
                guard: Arc::new(guard.clone()),
                supply: supply.clone(),
                online: Arc::new(move || online.handle().state().borrow().synced),
                healthy_after_s: wanted.healthy_after_s.clone(),
                surroundings: Arc::clone(&here),
                witness: witness.clone(),
                report: Arc::new(move |status| told.set(path::AGENT_RELEASE, status)),
                switch: Arc::clone(&switch),
            };
            let release = wanted.release.clone();
            async move {
                Box::pin(SelfUpdate::new(deed).run(release, stop)).await;
                Ok(())
            }
        })
    };

    let traffic = drain.traffic().clone();
    let checkup = Checkup {
        data_dir: config.data_dir.clone(),
        serve_addr,
        ledger: ledger.clone(),
        links: links.clone(),
        models: models.clone(),
        reconciler: reconciler.clone(),
        neighbours,
        guard: guard.clone(),
        spool: spool.clone(),
        traffic: traffic.clone(),
    };
    let (restart, examine) = (Arc::new(components.clone()), Arc::new(checkup.clone()));
    let means = Means { models, logs: logging.logs.clone(), restart, drain, examine };
    let commands = Commands::new(Inbox::open(ledger.clone(), boot)?, means, links.plane_clock());
    let ports = Ports {
        intent: Arc::new(intent.clone()),
        status: Arc::new(statuses.map()),
        spool: Arc::new(spool.clone()),
        commands: Arc::new(commands),
        revocations: Arc::new(revoked),
    };
    let desk = Arc::new(admin::Desk {
        started,
        data_dir: config.data_dir.clone(),
        serve_addr,
        identity: identity.clone(),
        links: links.clone(),
        intent,
        reconciler,
        traffic,
        checkup,
        store,
        pins,
        guard,
        spool: spool.clone(),
        logs: logging.logs,
    });
    let (admin_stop, admin_dir) = (intake.clone(), config.data_dir.clone());
    let admin_task = tokio::spawn(async move { socket::serve(admin_socket, &admin_dir, desk, admin_stop).await });

    let linking_task = link_component(&components, links.clone(), link_control, ports, statuses, constrained, linking.clone());
    tracing::info!(device = %device_id, serve = %serve_addr, "the agent runs");

    let ended = tokio::spawn(async move {
        shutdown.cancelled().await;
        tracing::info!("stopping");
        intake.cancel();
        let last = async { tokio::join!(telemetry, reconciling, updating, trusting, sharing, admin_task) };
        let _ = tokio::time::timeout(LAST_WORDS, last).await;
        serving.cancel();
        let served = serve_task.await;
        linking.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, linking_task).await;
        spool.close().await?;
        ledger.fold_log()?;
        place.leave();
        drop(still_beating);
        match served {
            Ok(Ok(())) if switching.load(Ordering::SeqCst) => Ok(Ended::Switch),
            Ok(Ok(())) => Ok(Ended::Stopped),
            _ => Err(StartError::Unclean),
        }
    });
    Ok(Running { serve_addr, device_id, ended })
}

fn io_at(address: SocketAddr) -> impl Fn(std::io::Error) -> StartError {
    move |source| StartError::Listen { address, source }
}

/// The link as a component: each run has its own channel, so that it can be started again.
fn link_component(
    components: &Components,
    links: Links,
    first: link::LinkControl,
    ports: Ports,
    statuses: Statuses,
    constrained: bool,
    stop: CancellationToken,
) -> JoinHandle<()> {
    let first = std::sync::Mutex::new(Some(first));
    components.supervise("link", stop, move |stop| {
        let taken = first.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let control = taken.unwrap_or_else(|| links.renew_channel());
        let (identity, handle, ports, statuses) = (links.identity(), links.handle(), ports.clone(), statuses.clone());
        async move {
            let transports: Vec<Box<dyn Transport>> =
                vec![Box::new(link::Quic::new(identity.clone(), constrained)), Box::new(link::Mqtt::new(identity.clone()))];
            tokio::join!(
                link::run(transports, ports, identity.clone(), control, stop.clone()),
                link::keep_certificate_fresh(identity, handle.clone(), stop.clone()),
                ports::report_link(handle, statuses, stop),
            );
            Ok(())
        }
    })
}

/// What keeps the update repository's metadata fresh, as a component, and tells by whose word this device installs.
fn trust_component(components: &Components, guard: Guard, statuses: Statuses, stop: CancellationToken) -> JoinHandle<()> {
    components.supervise("trust", stop, move |stop| {
        let (guard, statuses, mut status) = (guard.clone(), statuses.clone(), guard.status());
        let tell = async move {
            loop {
                let now = status.borrow_and_update().clone();
                statuses.set(path::TRUST, &now);
                if status.changed().await.is_err() {
                    return;
                }
            }
        };
        async move {
            let told = stop.clone();
            tokio::join!(guard.run(stop), told.run_until_cancelled(tell));
            Ok(())
        }
    })
}

/// Neighbours as a component, which listens anew at each of its runs; nothing where they are off.
fn neighbour_component(
    components: &Components,
    config: &Config,
    neighbours: Neighbours,
    stop: CancellationToken,
) -> futures::future::OptionFuture<JoinHandle<()>> {
    let address = config.neighbours.listen;
    let task = config.neighbours.settings().map(|_| {
        components.supervise("neighbours", stop, move |stop| {
            let neighbours = neighbours.clone();
            async move {
                let listener = TcpListener::bind(address).await;
                let listener =
                    listener.map_err(|error| format!("cannot listen on {address}: {error}; set `neighbours.listen`"))?;
                neighbours.run(listener, stop).await
            }
        })
    });
    task.into()
}

fn signer(identity: &Identity) -> Signer {
    let identity = identity.clone();
    Arc::new(move |message| {
        let (key, signature) = identity.sign(message).map_err(|error| error.to_string())?;
        Ok((key.as_ref().to_vec(), signature))
    })
}

fn voucher(identity: &Identity, boot_id: u64) -> Voucher {
    Voucher { tenant: identity.tenant_id(), device: identity.device_id(), boot_id, sign: signer(identity) }
}
