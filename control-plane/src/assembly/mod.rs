//! Wires the rooms together and owns the order of start and shutdown; the one place where they meet.
//!
//! Start: certificates, database, objects; then all sockets are bound, rooms are opened, `<data>/run.json` names the addresses,
//! and only then anything is served. What cannot start says so before a device or a person is answered. A first start may end at any
//! point; the next goes on. Once the first owner is in the database, a mark beside the CA says so, and without that database nothing starts.
//!
//! Shutdown, once the token is cancelled: the API takes nothing new, ends live events and lets requests under way finish;
//! devices are told to come back a little later, each at its own moment; the links close; background tasks end; the database
//! closes. Each step has its own patience, so that the whole takes at most 30 s.

mod api;
mod endpoints;
mod installation;
mod links;
mod overview;
mod ports;
mod rooms;
#[cfg(test)]
mod tests;
mod ui;

use crate::config::Config;
use crate::platform::clock::Clock;
use crate::platform::db::Db;
use crate::platform::http::{self, Events};
use crate::platform::metrics::Metrics;
use crate::platform::objects::Objects;
use crate::platform::pki::Pki;
use crate::platform::private_file;
use crate::platform::tasks::Tasks;
use aidos_protocol::enrol::EndpointsView;
use endpoints::Endpoints;
use links::Links;
use rooms::{Ground, Rooms};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long background tasks may take to end: none of them does more than one bounded step at a time.
const TASKS_PATIENCE: Duration = Duration::from_secs(5);
/// How long sessions may take to say farewell.
const SESSIONS_PATIENCE: Duration = Duration::from_secs(5);
/// Over how long devices spread their return after a shutdown, in milliseconds: a restart takes about a second.
const RETURN_WITHIN_MS: u64 = 5_000;
/// Names the addresses of the control plane that runs on a data folder.
const RUN_FILE: &str = "run.json";

/// A control plane that runs.
pub struct Running {
    /// URL by which this machine reaches the API.
    pub api_url: String,
    /// Where the QUIC link listens.
    pub quic_addr: Option<SocketAddr>,
    /// Where the MQTT link listens.
    pub mqtt_addr: Option<SocketAddr>,
    /// Folder of the database, keys and artifacts.
    pub data_dir: PathBuf,
    /// The file with the first owner's key (mode 0600).
    pub owner_key_path: PathBuf,
    /// What devices are told about where this control plane is reached.
    pub endpoints: EndpointsView,
    /// Whether there was no tenant before.
    pub first_start: bool,
    stopped: JoinHandle<()>,
}

impl Running {
    /// Waits until the shutdown is complete. It begins when the token that [`run`] was given is cancelled.
    pub async fn join(self) {
        if let Err(error) = self.stopped.await {
            tracing::error!(%error, "the shutdown failed");
        }
    }
}

/// Starts a control plane, which runs until `shutdown` is cancelled.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<Running> {
    // Another part of this process may have chosen already; it chose ring, too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let data_dir = config.data_dir.clone();
    private_file::create_folder(&data_dir)?;
    let clock = Clock::system();
    let pki = Pki::open_or_create(&data_dir.join("pki"), &config.deployment, clock.clone())?;
    let database = config.database.clone().unwrap_or_else(|| Db::sqlite_url(&data_dir.join("control-plane.db")));
    let owner_key_path = data_dir.join("owner.key");
    let used = Used::of(&data_dir.join("pki"));
    // Before anything is written to where a backup goes.
    if let Some(file) = Db::sqlite_file(&database).filter(|file| !file.exists())
        && (used.is_set() || owner_key_path.exists())
    {
        return Err(lost(&data_dir, &format!("{} is not there", file.display())));
    }
    let db = Db::connect(&database).await?;
    let objects = match &config.s3 {
        Some(s3) => Objects::s3(s3)?,
        None => Objects::local(&data_dir.join("objects"))?,
    };
    let (sockets, endpoints) = endpoints::bind(&config, &pki).await?;
    let stop_tasks = CancellationToken::new();
    let tasks = Tasks::new(stop_tasks.clone());
    let (events, metrics) = (Events::new(clock.clone(), shutdown.clone()), Metrics::new());
    let staging = data_dir.join("uploads");
    let keys = data_dir.join("pki");
    let ground = Ground { db: db.clone(), clock, pki, objects, events, metrics: metrics.clone(), staging, keys };
    let rooms = Rooms::open(ground, &endpoints, stop_tasks.clone()).await?;
    if used.is_set() && rooms.tenants.is_empty().await? {
        db.close().await;
        return Err(lost(&data_dir, "the database is empty"));
    }
    let first_start = rooms.tenants.bootstrap(&owner_key_path).await?;
    used.set()?;
    let app = api::app(&rooms)?;
    let tls = api::tls(&config, &rooms.ground.pki)?;
    let links = Links::prepare(&config, sockets.quic, sockets.mqtt, &rooms).await?;

    write_run_file(&data_dir, &endpoints)?;
    let (quic_addr, mqtt_addr) = (endpoints.quic, endpoints.mqtt);
    let api_url = endpoints.local_url.clone();
    tracing::info!(api = %api_url, ?quic_addr, ?mqtt_addr, data_dir = %data_dir.display(), "the control plane runs");
    rooms.spawn_tasks(&tasks);
    let stop_links = CancellationToken::new();
    let linked = tokio::spawn(links.serve(stop_links.clone()));
    let served = tokio::spawn(http::serve(sockets.api, app, tls, shutdown.clone()));
    let run_file = data_dir.join(RUN_FILE);
    let stopped = tokio::spawn(async move {
        shutdown.cancelled().await;
        ended("the API's server", served.await);
        if tokio::time::timeout(SESSIONS_PATIENCE, rooms.live.shutdown(RETURN_WITHIN_MS)).await.is_err() {
            tracing::warn!(sessions = rooms.live.count(), "sessions were cut");
        }
        stop_links.cancel();
        ended("the links", linked.await);
        stop_tasks.cancel();
        if !tasks.join(TASKS_PATIENCE).await {
            tracing::warn!("a background task did not end in time");
        }
        db.close().await;
        if let Err(error) = std::fs::remove_file(&run_file) {
            tracing::warn!(%error, path = %run_file.display(), "the run file was not removed");
        }
        tracing::info!("stopped");
    });
    Ok(Running { api_url, quic_addr, mqtt_addr, data_dir, owner_key_path, endpoints: endpoints.public, first_start, stopped })
}

/// A mark beside the CA that says that a database goes with it; set once the first owner is in that database.
struct Used(PathBuf);

impl Used {
    fn of(pki: &Path) -> Self {
        Self(pki.join("in-use"))
    }
    fn is_set(&self) -> bool {
        self.0.exists()
    }
    fn set(&self) -> std::io::Result<()> {
        const NOTE: &str = "A database goes with this CA: without it the control plane does not start.\n";
        if self.is_set() { Ok(()) } else { private_file::write(&self.0, NOTE.as_bytes()) }
    }
}

/// A control plane that began anew with the old CA would know none of its devices, and nobody would notice at once.
fn lost(data_dir: &Path, what: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{what}, but {folder} is of a control plane that has run before; restore the database from a backup, or, to begin anew, move \
         {folder} away (every device then has to join again)",
        folder = data_dir.display()
    )
}

fn ended(what: &str, outcome: Result<(), tokio::task::JoinError>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "{what} failed");
    }
}

fn write_run_file(data_dir: &Path, endpoints: &Endpoints) -> std::io::Result<()> {
    let run = json!({
        "pid": std::process::id(),
        "api": endpoints.local_url,
        "quic": endpoints.quic.map(|address| address.to_string()),
        "mqtt": endpoints.mqtt.map(|address| address.to_string()),
    });
    private_file::write(&data_dir.join(RUN_FILE), format!("{run:#}\n").as_bytes())
}
