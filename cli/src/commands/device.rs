//! `aidos device`: what is out there, what it should do, and what it says that it does.

use super::device_command::{self, Target};
use super::rollout::outcome;
use super::watch::{Watch, watch};
use super::{client, pair, seconds};
use crate::client::Client;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Format, Row};
use crate::progress::say;
use aidos_protocol::DeviceId;
use aidos_protocol::api::commands::{CommandKind, CommandView, CreateCommand};
use aidos_protocol::api::devices::{DeviceDetail, DeviceModel, DeviceState, DeviceView, PatchDevice};
use aidos_protocol::api::rollouts::DeviceUpdateView;
use aidos_protocol::api::telemetry::{MetricView, TelemetryOverview};
use aidos_protocol::selector::Selector;
use aidos_protocol::twin::{TrustState, TrustStatus};
use clap::Subcommand;
use reqwest::Method;

/// Devices.
#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// List devices
    #[command(visible_alias = "ls")]
    List {
        /// Which, in kubectl's selector syntax: `site=lab,gpu!=none`
        #[arg(short = 'l', long)]
        selector: Option<String>,
        /// Only those in this state: online, offline or revoked
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show one device: models, link, labels, inventory
    Show {
        /// The device
        id: DeviceId,
        #[command(flatten)]
        watch: Watch,
    },
    /// Set labels with `key=value`, remove them with `key-`
    Label {
        /// The device
        id: DeviceId,
        /// Changes
        #[arg(required = true)]
        changes: Vec<String>,
    },
    /// Write a note for people
    Note {
        /// The device
        id: DeviceId,
        /// `key=text`
        #[arg(value_parser = pair)]
        note: (String, String),
    },
    /// The two documents of a device: what is wanted, what it reports, and where they differ
    Twin {
        /// The device
        id: DeviceId,
    },
    /// The newest measurements
    Top {
        /// The device
        id: DeviceId,
        #[command(flatten)]
        watch: Watch,
    },
    /// Let the device test itself or one of its models
    SelfTest {
        #[command(flatten)]
        target: Target,
        /// Only this model
        #[arg(long)]
        model: Option<aidos_protocol::ModelName>,
    },
    /// Let the device look at everything that can go wrong on it; exits with 3 when something does not work
    Probe {
        #[command(flatten)]
        target: Target,
    },
    /// Take no new inference requests on the device, and wait for those in flight; updates go on
    Drain {
        #[command(flatten)]
        target: Target,
        /// How long requests in flight are waited for, at most 4m
        #[arg(long, default_value = "30s", value_parser = seconds)]
        wait: u64,
    },
    /// Take inference requests again
    Undrain {
        #[command(flatten)]
        target: Target,
    },
    /// Start a component of the agent anew
    Restart {
        #[command(flatten)]
        target: Target,
        /// `link`, `telemetry`, `models`, …
        component: String,
    },
    /// The last lines of the agent's log
    Logs {
        #[command(flatten)]
        target: Target,
        /// How many
        #[arg(long, default_value_t = 100)]
        lines: u32,
        /// Go on with what the agent logs, until interrupted
        #[arg(short, long)]
        follow: bool,
    },
    /// Commands that were sent to a device
    Commands {
        /// The device
        id: DeviceId,
    },
    /// What was rolled out and deployed to a device, and what became of it there
    Updates {
        /// The device
        id: DeviceId,
        #[command(flatten)]
        watch: Watch,
    },
    /// Shut a device out for good; its session ends at once
    Revoke {
        /// The device
        id: DeviceId,
    },
    /// Forget a device and its history
    #[command(visible_alias = "rm")]
    Delete {
        /// The device
        id: DeviceId,
    },
}

impl Device {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        match self {
            Device::List { selector, state, watch: flags } => {
                let mut query = Vec::new();
                if let Some(selector) = selector {
                    selector.parse::<Selector>().map_err(|e| CliError::Usage(e.to_string()))?;
                    query.push(("selector", selector));
                }
                query.extend(state.map(|state| ("state", state)));
                watch(flags, async || output::list(global.output, &client.list::<DeviceView>("devices", &query).await?)).await
            }
            Device::Show { id, watch: flags } => watch(flags, async || show(&client, global, id).await).await,
            Device::Label { id, changes } => {
                let labels = changes.iter().map(|change| label_change(change)).collect::<Result<_, _>>()?;
                patch(&client, global, id, &PatchDevice { labels, ..PatchDevice::default() }).await
            }
            Device::Note { id, note: (key, text) } => {
                let notes = [(key, Some(text).filter(|t| !t.is_empty()))].into();
                patch(&client, global, id, &PatchDevice { notes, ..PatchDevice::default() }).await
            }
            Device::Twin { id } => {
                let twin: serde_json::Value = client.get(&format!("devices/{id}/twin")).await?;
                output::value(global.output, &twin)
            }
            Device::Top { id, watch: flags } => {
                watch(flags, async || {
                    let overview: TelemetryOverview = client.get(&format!("devices/{id}/telemetry/metrics")).await?;
                    output::list(global.output, &overview.metrics)
                })
                .await
            }
            Device::SelfTest { target, model } => {
                let command = CreateCommand { model, ..CreateCommand::new(CommandKind::SelfTest) };
                device_command::send(&client, global, &target, command).await
            }
            Device::Probe { target } => device_command::probe(&client, global, &target).await,
            Device::Drain { target, wait } => {
                let wait_s = Some(u32::try_from(wait).unwrap_or(u32::MAX));
                let command = CreateCommand { wait_s, ..CreateCommand::new(CommandKind::Drain) };
                device_command::tell(&client, global, &target, command).await
            }
            Device::Undrain { target } => {
                device_command::tell(&client, global, &target, CreateCommand::new(CommandKind::Undrain)).await
            }
            Device::Restart { target, component } => {
                let command = CreateCommand { component: Some(component), ..CreateCommand::new(CommandKind::Restart) };
                device_command::send(&client, global, &target, command).await
            }
            Device::Logs { target, lines, follow } => device_command::logs(&client, global, &target, lines, follow).await,
            Device::Commands { id } => {
                output::list(global.output, &client.list::<CommandView>(&format!("devices/{id}/commands"), &[]).await?)
            }
            Device::Updates { id, watch: flags } => {
                let path = format!("devices/{id}/updates");
                watch(flags, async || output::list(global.output, &client.list::<DeviceUpdateView>(&path, &[]).await?)).await
            }
            Device::Revoke { id } => {
                client.send(client.request(Method::POST, &format!("devices/{id}/revoke"))).await?;
                say(&format!("{id} revoked"));
                Ok(())
            }
            Device::Delete { id } => {
                client.delete(&format!("devices/{id}")).await?;
                say(&format!("{id} deleted"));
                Ok(())
            }
        }
    }
}

/// `site=lab` sets, `site-` removes, as in kubectl.
fn label_change(change: &str) -> Result<(String, Option<String>), CliError> {
    match (change.split_once('='), change.strip_suffix('-')) {
        (Some((key, value)), _) => Ok((key.to_owned(), Some(value.to_owned()))),
        (None, Some(key)) => Ok((key.to_owned(), None)),
        (None, None) => {
            Err(CliError::Usage(format!("`{change}` is neither key=value, which sets a label, nor key-, which removes it")))
        }
    }
}

async fn patch(client: &Client, global: &Global, id: DeviceId, patch: &PatchDevice) -> Result<(), CliError> {
    let device: DeviceDetail = client.json(client.request(Method::PATCH, &format!("devices/{id}")).json(patch)).await?;
    output::one(global.output, &device.device, || output::labels(&device.device.labels))
}

async fn show(client: &Client, global: &Global, id: DeviceId) -> Result<(), CliError> {
    let device: DeviceDetail = client.get(&format!("devices/{id}")).await?;
    if !matches!(global.output, Format::Table | Format::Wide) {
        return output::value(global.output, &device);
    }
    output::line(describe(&device).trim_end())?;
    let models: Vec<_> = device.models.into_iter().map(|(name, model)| Loaded { name: name.to_string(), model }).collect();
    if models.is_empty() { Ok(()) } else { output::list(global.output, &models) }
}

fn describe(detail: &DeviceDetail) -> String {
    let device = &detail.device;
    let or_dash = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-".into());
    let inventory = detail.inventory.as_ref();
    let link = detail.link.as_ref().map(|l| format!("{} for {}", l.transport, output::age(l.since_us)));
    let seen = device.last_seen_at.map_or("never seen".into(), |at| format!("seen {} ago", output::age(at)));
    let notes = detail.notes.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join("; ");
    output::pairs(&[
        ("id", device.id.to_string()),
        ("name", device.name.clone()),
        ("state", format!("{} ({seen}), {}", stands(device), if detail.in_sync { "in sync" } else { "not in sync" })),
        ("labels", output::labels(&device.labels)),
        ("notes", or_dash(Some(notes))),
        ("link", or_dash(link)),
        ("trust", or_dash(detail.trust.as_ref().map(trust))),
        ("agent", or_dash(device.agent_version.clone())),
        ("system", or_dash(inventory.map(|i| format!("{} {}, {}", i.os, i.os_version, i.arch)))),
        ("cpu", or_dash(inventory.map(|i| format!("{} × {}", i.cores, i.cpu)))),
        ("memory", or_dash(inventory.map(|i| output::bytes(i.memory_bytes)))),
        ("disk", or_dash(inventory.map(|i| output::bytes(i.disk_bytes)))),
        ("gpus", or_dash(inventory.map(|i| i.gpus.iter().map(|g| g.name.as_str()).collect::<Vec<_>>().join(", ")))),
        ("certificate", format!("until {}", output::time(device.certificate_expires_at))),
    ])
}

fn trust(trust: &TrustStatus) -> String {
    match trust.state {
        TrustState::Unsigned => "no root: installs by the control plane's word alone".into(),
        TrustState::Verified => format!("root {}, signed updates only", trust.root),
        TrustState::Stale => format!("root {}, nothing new is installed: {}", trust.root, trust.error),
    }
}

/// A model on a device as a row.
#[derive(serde::Serialize)]
struct Loaded {
    name: String,
    model: DeviceModel,
}

impl Row for Loaded {
    const COLUMNS: &'static [&'static str] = &["MODEL", "WANTED", "RUNS", "STATE", "ENGINE", "SINCE", "ERROR"];
    const NARROW: usize = 7;
    fn cells(&self) -> Vec<String> {
        let version = |v: Option<u64>| v.map_or("-".into(), |v| v.to_string());
        vec![
            self.name.clone(),
            version(self.model.desired_version),
            version(self.model.active_version),
            format!("{:?}", self.model.state).to_lowercase(),
            self.model.engine.clone(),
            self.model.since.map_or("-".into(), output::age),
            self.model.error.clone(),
        ]
    }
    fn name(&self) -> String {
        self.name.clone()
    }
}

/// A device's state, and whether it is drained.
fn stands(device: &DeviceView) -> String {
    let drained = if device.drained_at.is_some() { ", drained" } else { "" };
    format!("{}{drained}", state(device.state))
}

/// A device's state in one word.
pub(super) fn state(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Online => "online",
        DeviceState::Offline => "offline",
        DeviceState::Revoked => "revoked",
    }
}

impl Row for DeviceView {
    const COLUMNS: &'static [&'static str] =
        &["ID", "NAME", "STATE", "LABELS", "LAST SEEN", "LINK", "VERSION", "ADDRESS", "CERTIFICATE UNTIL", "AGE"];
    const NARROW: usize = 7;
    fn cells(&self) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        vec![
            self.id.to_string(),
            self.name.clone(),
            stands(self),
            output::labels(&self.labels),
            self.last_seen_at.map_or("never".into(), output::age),
            or_dash(&self.transport),
            or_dash(&self.agent_version),
            or_dash(&self.address),
            output::time(self.certificate_expires_at),
            output::age(self.created_at),
        ]
    }
    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Row for DeviceUpdateView {
    const COLUMNS: &'static [&'static str] = &["ID", "WHAT", "WAVE", "OUTCOME", "SINCE", "TOLD", "REASON"];
    const NARROW: usize = 7;
    fn cells(&self) -> Vec<String> {
        // What became of its part in a rollout; in a deployment, and of who came after a rollout, how far it is.
        let progress = || self.progress.map_or("-".into(), |progress| format!("{progress:?}").to_lowercase());
        vec![
            self.id.to_string(),
            format!("{}@{}", self.subject, self.version),
            self.wave.map_or("-".into(), |wave| wave.to_string()),
            self.outcome.map_or_else(progress, outcome),
            output::age(self.updated_at),
            self.told_at.map_or("-".into(), output::age),
            self.reason.clone(),
        ]
    }
    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Row for MetricView {
    const COLUMNS: &'static [&'static str] = &["METRIC", "VALUE"];
    const NARROW: usize = 2;
    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.value.map_or("-".into(), |v| format!("{v:.2}"))]
    }
    fn name(&self) -> String {
        self.name.clone()
    }
}
