//! Small adapters between components that do not know each other.

use super::plane_now;
use crate::identity::Identity;
use crate::link::{self, LinkControl, LinkError, LinkHandle};
use crate::models::{Report, Source};
use crate::observe::telemetry::Extra;
use crate::state::Spool;
use crate::twin::StatusMap;
use crate::{clock, infer};
use aidos_protocol::ModelName;
use aidos_protocol::artifact::Digest;
use aidos_protocol::frame::ArtifactGrant;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{IntentView, LinkStatus, ModelStatus, SignedHealth, path};
use async_trait::async_trait;
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// The link as the rest of the agent sees it, whichever run of it is the present one. Cheap to clone.
#[derive(Clone)]
pub(super) struct Links {
    identity: Identity,
    handle: Arc<Mutex<LinkHandle>>,
}

impl Links {
    pub(super) fn new(identity: Identity) -> (Self, LinkControl) {
        let (handle, control) = link::channel();
        (Self { identity, handle: Arc::new(Mutex::new(handle)) }, control)
    }

    /// A new channel in place of the one whose run has ended.
    pub(super) fn renew_channel(&self) -> LinkControl {
        let (handle, control) = link::channel();
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = handle;
        control
    }

    pub(super) fn handle(&self) -> LinkHandle {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    pub(super) fn plane_clock(&self) -> Arc<dyn Fn() -> Micros + Send + Sync> {
        let links = self.clone();
        Arc::new(move || plane_now(&links.handle()))
    }
}

#[async_trait]
impl Source for Links {
    async fn grant(&self, digest: Digest) -> Result<ArtifactGrant, LinkError> {
        let mut grant = self.handle().request_artifact(digest).await?;
        // The plane may name a path of its own address.
        if grant.url.starts_with('/') {
            grant.url = format!("{}{}", self.identity.endpoints().api_url.trim_end_matches('/'), grant.url);
        }
        Ok(grant)
    }

    fn client(&self, url: &str) -> Result<reqwest::Client, String> {
        self.identity.http_client_for(url).map_err(|error| error.to_string())
    }

    async fn reachable(&self) {
        let mut state = self.handle().state();
        if state.wait_for(|state| state.transport.is_some()).await.is_err() {
            // This run of the link has ended; the next attempt asks the next one.
            std::future::pending::<()>().await;
        }
    }
}

/// The device's status, as components set it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Statuses(StatusMap);

impl Statuses {
    pub(super) fn new(map: StatusMap) -> Self {
        Self(map)
    }

    pub(super) fn map(&self) -> StatusMap {
        self.0.clone()
    }

    pub(super) fn set(&self, path: &str, value: &impl Serialize) {
        self.0.set(path, value);
    }
}

impl Report for Statuses {
    fn model(&self, name: &ModelName, status: Option<&ModelStatus>) {
        let path = format!("{}{name}", path::MODELS);
        match status {
            Some(status) => self.set(&path, status),
            None => self.0.remove(&path),
        }
    }

    fn health(&self, name: &ModelName, health: Option<&SignedHealth>) {
        let path = format!("{}{name}", path::HEALTH);
        match health {
            Some(health) => self.set(&path, health),
            None => self.0.remove(&path),
        }
    }
}

/// Writes the link's state into the status until `stop`.
pub(super) async fn report_link(handle: LinkHandle, statuses: Statuses, stop: CancellationToken) {
    let mut states = handle.state();
    loop {
        let state = states.borrow_and_update().clone();
        let status = LinkStatus {
            transport: state.transport.unwrap_or_default().to_owned(),
            since_us: state.since,
            failovers: state.failovers,
            note: state.note,
        };
        statuses.set(path::LINK, &status);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = states.changed() => if changed.is_err() { return stop.cancelled().await },
        }
    }
}

/// Seconds between samples as intent has it (`telemetry.interval_s`), or `default`.
pub(super) fn interval(view: &IntentView, default: u64) -> u64 {
    view.config.get("telemetry.interval_s").and_then(serde_json::Value::as_u64).unwrap_or(default)
}

/// Models whose versions are told one by one: with six numbers each, they fill less than half of a sample.
const VERSIONED: usize = 8;

/// `model.<name>.requests`, `.failures` and `.p90_us` of the active versions; while two versions of a model are there, also
/// `model.<name>.<version>.requests`, `.errors` and `.p95_us` of each; while a shadow runs, what it counted.
pub(super) fn model_metrics(models: infer::Models) -> Extra {
    Arc::new(move || {
        let (mut all, list) = (Vec::new(), models.list());
        for info in list.iter().filter(|info| info.place == infer::Place::Active) {
            let Ok(done) = models.statistics_of(&info.name, Some(info.version)) else { continue };
            let stats = &done.inference_stats;
            all.push((format!("model.{}.requests", info.name), stats.success.count as f64));
            all.push((format!("model.{}.failures", info.name), stats.fail.count as f64));
            all.push((format!("model.{}.p90_us", info.name), done.latency.p90_us as f64));
        }
        let two = |info: &&infer::ModelInfo| list.iter().filter(|other| other.name == info.name).count() > 1;
        for info in list.iter().filter(two).take(2 * VERSIONED) {
            let Some(measures) = models.measures(&info.name, info.place) else { continue };
            let name = |what: &str| format!("model.{}.{}.{what}", info.name, info.version);
            all.push((name("requests"), measures.requests as f64));
            all.push((name("errors"), measures.errors as f64));
            all.push((name("p95_us"), measures.p95_us.map_or(f64::NAN, |us| us as f64)));
            if let Some((version, counts)) = models.compared(&info.name).filter(|(version, _)| *version == info.version) {
                let name = |what: &str| format!("model.{}.{version}.{what}", info.name);
                all.push((name("shadow_compared"), counts.compared as f64));
                all.push((name("shadow_agreed"), counts.agreed as f64));
                all.push((name("shadow_dropped"), counts.dropped as f64));
            }
        }
        all
    })
}

/// Appends the agent's own health to `/metrics`.
pub(super) fn metrics(links: Links, spool: Spool, started: Micros) -> Arc<dyn Fn(&mut String) + Send + Sync> {
    Arc::new(move |text| {
        let link = links.handle().state().borrow().clone();
        let mut gauge = |name: &str, kind: &str, help: &str, value: f64| {
            // Writing into a string does not fail.
            _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        let up = (clock::now().0 - started.0) as f64 / 1e6;
        gauge("aidos_agent_uptime_seconds", "gauge", "Since the agent started, by the device's clock.", up);
        gauge(
            "aidos_link_up",
            "gauge",
            "1 while there is a session with the control plane.",
            f64::from(u8::from(link.transport.is_some())),
        );
        gauge("aidos_link_sessions_total", "counter", "Sessions begun.", link.sessions as f64);
        gauge("aidos_link_failovers_total", "counter", "Times the transport changed.", link.failovers as f64);
        if let Some(stats) = spool.stats_now() {
            gauge("aidos_telemetry_waiting_samples", "gauge", "Samples that wait for the link.", stats.waiting as f64);
            gauge("aidos_telemetry_waiting_bytes", "gauge", "Their bytes on disk.", stats.bytes as f64);
            gauge(
                "aidos_telemetry_lost_samples_total",
                "counter",
                "Samples dropped because they did not fit.",
                stats.lost_samples as f64,
            );
        }
    })
}
