//! What travels over the admin socket: one JSON object per line in each direction.

use super::Finding;
use crate::observe::LogLine;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{IntentView, ModelStatus, TrustStatus};
use aidos_protocol::{DeviceId, ModelName, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What can be asked of the running agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the agent is. Answered with [`StatusView`].
    Status,
    /// What people want of this device. Answered with [`IntentView`].
    Intent,
    /// Sets and removes labels. Answered with [`IntentView`] as it is then.
    Labels {
        /// To set.
        #[serde(default)]
        set: BTreeMap<String, String>,
        /// To remove.
        #[serde(default)]
        remove: Vec<String>,
    },
    /// Sets and removes notes. Answered like labels.
    Notes {
        /// To set.
        #[serde(default)]
        set: BTreeMap<String, String>,
        /// To remove.
        #[serde(default)]
        remove: Vec<String>,
    },
    /// Where each model stands. Answered with a map of [`ModelStatus`] by name.
    Models,
    /// What is wrong, if anything. Answered with a list of [`Finding`].
    Doctor,
    /// Fills the store from a bundle that the agent's user can read. Answered with [`crate::bundle::Imported`].
    ImportBundle {
        /// Where it is; not relative.
        file: PathBuf,
    },
    /// The newest lines of the log. Answered with a list of [`LogLine`].
    Logs {
        /// How many.
        lines: usize,
        /// The least severity.
        level: String,
    },
}

/// The agent's answer: exactly one of the two is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not, and what to do.
    Error(String),
}

/// How the agent is, in short.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its state's folder.
    pub data_dir: String,
    /// Where it answers inference.
    pub serve_addr: String,
    /// Who the device is; absent before it has joined.
    pub device_id: Option<DeviceId>,
    /// Whose it is.
    pub tenant_id: Option<TenantId>,
    /// The certificate's end.
    pub certificate_until: Option<Micros>,
    /// The link.
    pub link: LinkView,
    /// By whose word it installs.
    #[serde(default)]
    pub trust: TrustStatus,
    /// Models by name.
    pub models: BTreeMap<ModelName, ModelStatus>,
    /// Samples that wait for the link.
    pub telemetry_waiting: u64,
    /// Samples dropped over the device's life because they did not fit.
    pub telemetry_lost: u64,
    /// Edits made here that the control plane has not acknowledged.
    pub edits_pending: u64,
    /// Since when it takes no new inference requests; absent while it takes them.
    #[serde(default)]
    pub drained: Option<Micros>,
    /// Since when the agent runs.
    pub started: Micros,
}

/// The link, in short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// `quic`, `mqtt`, or empty while there is none.
    pub transport: String,
    /// Since when.
    pub since: Micros,
    /// Why there is none, or not the preferred one.
    pub note: String,
    /// The control plane's address.
    pub api_url: String,
}

/// The answers that clients read back, named here so that both ends agree.
pub(super) type ModelsView = BTreeMap<ModelName, ModelStatus>;
pub(super) type IntentAnswer = IntentView;
pub(super) type Findings = Vec<Finding>;
pub(super) type LogsView = Vec<LogLine>;
