//! Small adapters between components that do not know each other.

use crate::bandwidth::Throttle;
use crate::clock;
use crate::drain::Drain;
use crate::identity::{Identity, Refused};
use crate::link::{self, Held, LinkControl, LinkError, LinkHandle};
use crate::models::{Report, Source};
use crate::neighbours::{Neighbours, Revoked, Site};
use crate::serve::Traffic;
use crate::state::{Ledger, LedgerError, Spool};
use crate::twin::{Replica, StatusMap};
use aidos_protocol::ModelName;
use aidos_protocol::artifact::Digest;
use aidos_protocol::frame::ArtifactGrant;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{DrainStatus, IntentView, LinkStatus, ModelStatus, SignedHealth, Transfer, path};
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
    bandwidth: Arc<Throttle>,
}

impl Links {
    pub(super) fn new(identity: Identity) -> (Self, LinkControl) {
        let (handle, control) = link::channel();
        (Self { identity, handle: Arc::new(Mutex::new(handle)), bandwidth: Arc::new(Throttle::new(0)) }, control)
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

    /// The bound on what artifacts take of the line.
    pub(super) fn limit(&self) -> Arc<Throttle> {
        Arc::clone(&self.bandwidth)
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    pub(super) fn plane_clock(&self) -> Arc<dyn Fn() -> Micros + Send + Sync> {
        let identity = self.identity.clone();
        Arc::new(move || identity.now())
    }
}

#[async_trait]
impl Source for Links {
    async fn grant(&self, digest: Digest, held: Held) -> Result<ArtifactGrant, LinkError> {
        let mut grant = self.handle().request_artifact_with(digest, held).await?;
        // The plane may name paths of its own address.
        let own = self.identity.endpoints().api_url.trim_end_matches('/').to_owned();
        let complete = |url: &mut String| {
            if url.starts_with('/') {
                url.insert_str(0, &own);
            }
        };
        complete(&mut grant.url);
        if let Some(chunks) = &mut grant.chunks {
            complete(&mut chunks.recipe_url);
            complete(&mut chunks.packed_url);
        }
        if let Some(delta) = &mut grant.delta {
            complete(&mut delta.url);
        }
        Ok(grant)
    }

    fn bandwidth(&self) -> Option<Arc<Throttle>> {
        Some(Arc::clone(&self.bandwidth))
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

    fn transfer(&self, name: &ModelName, transfer: Option<&Transfer>) {
        let path = format!("{}{name}", path::TRANSFERS);
        match transfer {
            Some(transfer) => self.set(&path, transfer),
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

/// The drain as the last start left it; the device's status follows it.
pub(super) fn drain(ledger: Ledger, statuses: Statuses) -> Result<Drain, LedgerError> {
    let told = move |since: Option<_>| match since {
        Some(since_us) => statuses.set(path::DRAIN, &DrainStatus { since_us }),
        None => statuses.map().remove(path::DRAIN),
    };
    Drain::open(ledger, Traffic::default(), Arc::new(told))
}

/// Seconds between samples as intent has it (`telemetry.interval_s`), or `default`.
pub(super) fn interval(view: &IntentView, default: u64) -> u64 {
    view.config.get("telemetry.interval_s").and_then(serde_json::Value::as_u64).unwrap_or(default)
}

/// The label that says at which site a device is.
const SITE_LABEL: &str = "site";
/// The setting that lists devices which are not to be neighbours although their certificates are in force.
const REFUSED: &str = "neighbours.refused";

/// The site that this device's labels name at the moment of asking.
pub(super) fn site(intent: &Replica) -> Site {
    let view = intent.view();
    Arc::new(move || view.borrow().labels.get(SITE_LABEL).filter(|site| !site.is_empty()).cloned())
}

/// Whether a device is to be refused: the control plane has revoked it, or intent lists it.
pub(super) fn refused(intent: &Replica, revoked: &Revoked) -> Refused {
    let (view, revoked) = (intent.view(), revoked.clone());
    Arc::new(move |device| {
        if revoked.contains(device) {
            return true;
        }
        let view = view.borrow();
        let listed = view.config.get(REFUSED).and_then(|value| value.as_array());
        listed.is_some_and(|all| all.iter().any(|one| one.as_str().is_some_and(|text| text == device.to_string())))
    })
}

/// Appends the agent's own health to `/metrics`.
pub(super) fn metrics(
    links: Links,
    spool: Spool,
    neighbours: Neighbours,
    started: Micros,
) -> Arc<dyn Fn(&mut String) + Send + Sync> {
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
        let totals = neighbours.totals();
        for (name, help, value) in [
            ("aidos_artifact_near_bytes_total", "Bytes of artifacts that neighbours gave.", totals.near),
            ("aidos_artifact_afar_bytes_total", "Bytes of artifacts that came over the site's line.", totals.afar),
            ("aidos_artifact_given_bytes_total", "Bytes of artifacts given to neighbours.", totals.given),
            ("aidos_neighbour_wrong_total", "Times that what neighbours gave was not what it should be.", totals.wrong),
        ] {
            gauge(name, "counter", help, value as f64);
        }
        if let Some(stats) = spool.stats_now() {
            gauge("aidos_telemetry_waiting_samples", "gauge", "Samples that wait for the link.", stats.waiting as f64);
            gauge("aidos_telemetry_waiting_bytes", "gauge", "Their bytes, as they are stored.", stats.bytes as f64);
            gauge(
                "aidos_telemetry_lost_samples_total",
                "counter",
                "Samples dropped because they did not fit.",
                stats.lost_samples as f64,
            );
        }
    })
}
