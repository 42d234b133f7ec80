//! `aidos status`: what runs, at a glance.

use super::client;
use super::device;
use super::watch::{Watch, watch};
use crate::client::Client;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Format};
use aidos_protocol::api::deployments::{DeploymentState, DeploymentView};
use aidos_protocol::api::devices::{DeviceState, DeviceView};
use aidos_protocol::api::models::ModelView;
use clap::Args;
use serde::Serialize;

/// What runs, at a glance.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    watch: Watch,
}

/// What the command found.
#[derive(Serialize)]
struct Overview {
    control_plane: String,
    online: usize,
    offline: usize,
    revoked: usize,
    models: usize,
    deployments: Vec<DeploymentView>,
    /// Offline devices, the longest gone first.
    gone: Vec<DeviceView>,
}

impl Status {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        watch(self.watch, async || print(global.output, &overview(&client).await?)).await
    }
}

async fn overview(client: &Client) -> Result<Overview, CliError> {
    let devices: Vec<DeviceView> = client.list("devices", &[]).await?;
    let models: Vec<ModelView> = client.list("models", &[]).await?;
    let mut deployments: Vec<DeploymentView> = client.list("deployments", &[]).await?;
    deployments.retain(|d| d.state == DeploymentState::Active);
    let count = |state| devices.iter().filter(|d| d.state == state).count();
    let counts = [DeviceState::Online, DeviceState::Offline, DeviceState::Revoked].map(count);
    let mut gone: Vec<_> = devices.into_iter().filter(|d| d.state == DeviceState::Offline).collect();
    gone.sort_by_key(|d| d.last_seen_at);
    let [online, offline, revoked] = counts;
    Ok(Overview { control_plane: client.url().to_owned(), online, offline, revoked, models: models.len(), deployments, gone })
}

/// Offline devices that the overview names; `aidos device list --state offline` has all.
const NAMED: usize = 5;

fn print(format: Format, overview: &Overview) -> Result<(), CliError> {
    if !matches!(format, Format::Table | Format::Wide) {
        return output::value(format, overview);
    }
    output::line(
        output::pairs(&[
            ("control plane", overview.control_plane.clone()),
            ("devices", format!("{} online, {} offline, {} revoked", overview.online, overview.offline, overview.revoked)),
            ("models", overview.models.to_string()),
            ("deployments", format!("{} active", overview.deployments.len())),
        ])
        .trim_end(),
    )?;
    if !overview.deployments.is_empty() {
        output::line("")?;
        output::list(format, &overview.deployments)?;
    }
    for gone in overview.gone.iter().take(NAMED) {
        let seen = gone.last_seen_at.map_or("never seen".into(), |at| format!("last seen {} ago", output::age(at)));
        output::line(&format!("{} {} ({}), {seen}", device::state(gone.state), gone.id, output::printable(&gone.name)))?;
    }
    Ok(())
}
