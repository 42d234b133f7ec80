//! What the admin socket asks, answered from the components.

use super::checkup::Checkup;
use super::offline::take_bundle;
use super::ports::Links;
use crate::admin::{Agent, Finding, LinkView, StatusView};
use crate::bundle::Imported;
use crate::clock;
use crate::identity::Identity;
use crate::models::Reconciler;
use crate::observe::{LogLine, Logs};
use crate::serve::Traffic;
use crate::state::{Chunks, Pins, Spool};
use crate::trust::Guard;
use crate::twin::Replica;
use aidos_protocol::ModelName;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{Edit, IntentView, ModelStatus};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

pub(super) struct Desk {
    pub(super) started: Micros,
    pub(super) data_dir: PathBuf,
    pub(super) serve_addr: SocketAddr,
    pub(super) identity: Identity,
    pub(super) links: Links,
    pub(super) intent: Replica,
    pub(super) reconciler: Reconciler,
    pub(super) traffic: Traffic,
    pub(super) checkup: Checkup,
    pub(super) store: Chunks,
    pub(super) pins: Pins,
    pub(super) guard: Guard,
    pub(super) spool: Spool,
    pub(super) logs: Logs,
}

#[async_trait]
impl Agent for Desk {
    async fn status(&self) -> StatusView {
        let link = self.links.handle().state().borrow().clone();
        let spool = self.spool.stats().await;
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            data_dir: self.data_dir.display().to_string(),
            serve_addr: self.serve_addr.to_string(),
            device_id: Some(self.identity.device_id()),
            tenant_id: Some(self.identity.tenant_id()),
            certificate_until: Some(self.identity.validity().1),
            link: LinkView {
                transport: link.transport.unwrap_or_default().to_owned(),
                since: link.since,
                note: link.note,
                api_url: self.identity.endpoints().api_url,
            },
            trust: self.guard.told(),
            models: self.reconciler.statuses(),
            telemetry_waiting: spool.waiting,
            telemetry_lost: spool.lost_samples,
            edits_pending: self.intent.pending().await.len() as u64,
            drained: self.traffic.closed(),
            started: self.started,
        }
    }

    async fn intent(&self) -> Result<IntentView, String> {
        Ok((**self.intent.view().borrow()).clone())
    }

    async fn edit(&self, user: &str, edits: Vec<Edit>) -> Result<IntentView, String> {
        self.intent.edit(user, &edits, clock::now()).await.map_err(|error| error.to_string())?;
        self.intent().await
    }

    async fn models(&self) -> BTreeMap<ModelName, ModelStatus> {
        self.reconciler.statuses()
    }

    async fn doctor(&self) -> Vec<Finding> {
        self.checkup.findings().await
    }

    async fn import(&self, file: PathBuf) -> Result<Imported, String> {
        let (store, pins, guard) = (self.store.clone(), self.pins.clone(), self.guard.clone());
        take_bundle(file, store, pins, Some(guard)).await.map_err(|error| error.to_string())
    }

    async fn logs(&self, lines: usize, level: &str) -> Vec<LogLine> {
        self.logs.tail(lines, level)
    }
}
