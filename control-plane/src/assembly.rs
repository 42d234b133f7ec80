//! Wires the rooms together and owns the order of start and shutdown; the one place where they meet.
//!
//! Start: certificates, database, objects, rooms, then the listeners, and last `<data>/run.json` with the addresses they
//! got. What cannot start says so before anything listens.
//! Shutdown, once `shutdown` is cancelled: listeners take nothing new, live events and sessions end, requests under way finish,
//! background tasks end, and last the database closes. Each step has its own patience, so the whole takes at most 25 s.

use crate::config::{ApiSecurity, Config};
use crate::platform::clock::Clock;
use crate::platform::db::Db;
use crate::platform::http::{self, ApiError, Events, openapi};
use crate::platform::metrics::Metrics;
use crate::platform::objects::Objects;
use crate::platform::pki::{self, Pki};
use crate::platform::private_file;
use crate::platform::tasks::Tasks;
use crate::tenants::{self, Activity, Idempotency, Tenants};
use anyhow::Context as _;
use axum::Router;
use axum::routing::get;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

/// How long background tasks may take to end: none of them does more than one bounded step at a time.
const TASKS_PATIENCE: Duration = Duration::from_secs(10);
/// How often old idempotency answers are removed.
const SWEEP: Duration = Duration::from_secs(3_600);

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
    /// Whether the data folder was empty before.
    pub first_start: bool,
    served: JoinHandle<()>,
    tasks: Tasks,
    db: Db,
}

impl Running {
    /// Waits until the shutdown is complete. Call it after cancelling the token that [`run`] was given.
    pub async fn join(self) {
        if let Err(error) = self.served.await {
            tracing::error!(%error, "the API's server failed");
        }
        if !self.tasks.join(TASKS_PATIENCE).await {
            tracing::warn!("a background task did not end in time");
        }
        self.db.close().await;
        let run = self.data_dir.join(RUN_FILE);
        if let Err(error) = std::fs::remove_file(&run) {
            tracing::debug!(%error, "run.json was not removed");
        }
        tracing::info!("stopped");
    }
}

/// Names the addresses of the control plane that runs on a data folder.
const RUN_FILE: &str = "run.json";

/// The handles of all rooms, as the API sees them.
struct Rooms {
    tenants: Tenants,
    activity: Activity,
    events: Events,
    metrics: Metrics,
}

impl Rooms {
    fn api(&self) -> OpenApiRouter {
        let Self { tenants, activity, events, metrics } = self;
        OpenApiRouter::new().merge(tenants::router(tenants.clone(), activity.clone(), events.clone(), metrics.clone()))
    }
}

/// Starts a control plane. It runs until `shutdown` is cancelled; then call [`Running::join`].
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<Running> {
    // Another part of this process may have chosen already; it chose ring, too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock = Clock::system();
    let data_dir = config.data_dir.clone();
    private_file::create_folder(&data_dir)?;
    let pki = Pki::open_or_create(&data_dir.join("pki"), &config.deployment, clock.clone())?;
    let database = config.database.clone().unwrap_or_else(|| Db::sqlite_url(&data_dir.join("control-plane.db")));
    let db = Db::connect(&database).await?;
    let objects = match &config.s3 {
        Some(s3) => Objects::s3(s3)?,
        None => Objects::local(&data_dir.join("objects"))?,
    };
    let metrics = Metrics::new();
    let tasks = Tasks::new(shutdown.clone());
    let events = Events::new(clock.clone(), shutdown.clone());
    let activity = Activity::new(db.clone(), clock.clone());
    let tenants = Tenants::new(db.clone(), clock.clone(), activity.clone());
    let owner_key_path = data_dir.join("owner.key");
    let first_start = tenants.bootstrap(&owner_key_path).await?;
    let idempotency = Idempotency::new(db.clone(), clock.clone(), tenants.clone());
    let rooms = Rooms { tenants, activity, events, metrics: metrics.clone() };

    let listener = bind(config.listen).await?;
    let address = listener.local_addr()?;
    let tls = api_tls(&config, &pki)?;
    let api_url = local_url(address, tls.is_some());
    let app = app(&rooms, db.clone(), idempotency.clone(), metrics)?;

    tasks.every("idempotency", SWEEP, move || {
        let idempotency = idempotency.clone();
        async move {
            if let Err(error) = idempotency.sweep().await {
                tracing::warn!(%error, "old idempotency keys were not removed; trying again later");
            }
        }
    });
    let served = tokio::spawn(http::serve(listener, app, tls, shutdown));
    let run = json!({ "pid": std::process::id(), "api": api_url, "quic": null, "mqtt": null });
    private_file::write(&data_dir.join(RUN_FILE), format!("{run:#}\n").as_bytes())?;
    tracing::info!(api = %api_url, data_dir = %data_dir.display(), "the control plane runs");
    let (quic_addr, mqtt_addr) = (None, None);
    drop(objects);
    Ok(Running { api_url, quic_addr, mqtt_addr, data_dir, owner_key_path, first_start, served, tasks, db })
}

/// All endpoints with their layers.
fn app(rooms: &Rooms, db: Db, idempotency: Idempotency, metrics: Metrics) -> Result<Router, ApiError> {
    let (api, document) = rooms.api().split_for_parts();
    let document = openapi::complete(document);
    let health = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { db.ping().await.map(|()| "ready\n").map_err(ApiError::from) }));
    let api = api.layer(axum::middleware::from_fn_with_state(idempotency, tenants::idempotency_layer));
    Ok(http::layered(api.merge(health).merge(openapi::router(&document)?), metrics))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let hint =
        format!("the API cannot listen on {address}; stop what uses it, or choose another with --listen (port 0 takes any)");
    TcpListener::bind(address).await.context(hint)
}

fn api_tls(config: &Config, pki: &Pki) -> anyhow::Result<Option<Arc<rustls::ServerConfig>>> {
    let alpn: [&[u8]; 2] = [b"h2", b"http/1.1"];
    Ok(match &config.security {
        ApiSecurity::Plain => None,
        ApiSecurity::Own => Some(Arc::new(pki.server_tls(&config.names, &alpn, false)?)),
        ApiSecurity::Files { certificate, key } => Some(Arc::new(given_tls(certificate, key, &alpn)?)),
    })
}

fn given_tls(certificate: &Path, key: &Path, alpn: &[&[u8]]) -> anyhow::Result<rustls::ServerConfig> {
    let unreadable = |path: &Path| format!("{} is not a PEM file that holds what it should", path.display());
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.with_context(|| unreadable(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    let builder = rustls::ServerConfig::builder_with_provider(pki::provider()).with_safe_default_protocol_versions()?;
    let mut config =
        builder.with_no_client_auth().with_single_cert(chain, key).context("--tls-cert and --tls-key do not match")?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// How this machine reaches `address`: an unspecified one by loopback.
fn local_url(address: SocketAddr, tls: bool) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv6() {
            std::net::Ipv6Addr::LOCALHOST.into()
        } else {
            std::net::Ipv4Addr::LOCALHOST.into()
        });
    }
    format!("{}://{address}", if tls { "https" } else { "http" })
}
