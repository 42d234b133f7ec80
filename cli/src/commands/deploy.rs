//! `aidos deploy` and `aidos deployment`: versions of models, of the agent and of its settings on selectors.

use super::client;
use super::watch::{Watch, watch};
use crate::client::Client;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::progress::say;
use aidos_protocol::DeploymentId;
use aidos_protocol::api::deployments::{
    CreateDeployment, DeploymentDeviceView, DeploymentPlan, DeploymentState, DeploymentView, PlannedDevice,
};
use aidos_protocol::selector::Selector;
use clap::{Args, Subcommand};
use reqwest::Method;
use std::time::{Duration, Instant};

/// How often a waiting command looks: a person's patience, and no load.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Put a version of a model, of the agent or of its settings on the devices of a selector.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// `name@2`, `name@alias`, or `name` for the latest; `agent.release@1.4.0` for the agent itself, `agent.config@3` for its settings
    #[arg(value_name = "WHAT")]
    subject: String,
    /// The devices, in kubectl's selector syntax: `site=lab,gpu!=none`; `all` for every one
    #[arg(long = "to", value_name = "SELECTOR")]
    selector: String,
    /// Say who would get it and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until every matching device that is connected runs it, one at least
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, default_value = "5m", value_parser = super::seconds, requires = "wait")]
    timeout: u64,
}

/// What is deployed where.
#[derive(Debug, Subcommand)]
pub(crate) enum Deployment {
    /// List deployments
    #[command(visible_alias = "ls")]
    List(Watch),
    /// Show one, device by device
    Show {
        /// The deployment
        id: DeploymentId,
        #[command(flatten)]
        watch: Watch,
    },
    /// End a deployment; devices keep what they have
    Stop {
        /// The deployment
        id: DeploymentId,
        /// Also take it off the devices
        #[arg(long)]
        remove: bool,
    },
}

impl Deploy {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        // Checked here first: the error shows the place in what was typed.
        self.selector.parse::<Selector>().map_err(|e| CliError::Usage(e.to_string()))?;
        let client = client(global)?;
        let body = CreateDeployment { subject: self.subject, selector: self.selector };
        if self.dry_run {
            let plan: DeploymentPlan =
                client.json(client.request(Method::POST, "deployments").query(&[("dry_run", "true")]).json(&body)).await?;
            if matches!(global.output, output::Format::Json | output::Format::Yaml) {
                return output::value(global.output, &plan);
            }
            say(&format!("{}@{} would go to {} devices", plan.subject, plan.version, plan.matching));
            return output::list(global.output, &plan.devices);
        }
        let deployment: DeploymentView = client.post("deployments", &body).await?;
        let deployment =
            if self.wait { wait(&client, deployment.id, Duration::from_secs(self.timeout)).await? } else { deployment };
        output::one(global.output, &deployment, || describe(&deployment))
    }
}

/// Waits until a device runs it and no connected one is still on its way. Fails when one reports a failure.
pub(super) async fn wait(client: &Client, id: DeploymentId, limit: Duration) -> Result<DeploymentView, CliError> {
    let start = Instant::now();
    loop {
        let deployment: DeploymentView = client.get(&format!("deployments/{id}")).await?;
        let counts = deployment.counts;
        if counts.failed > 0 {
            return Err(CliError::failed(
                format!(
                    "{} of {} devices could not take {}@{}",
                    counts.failed, counts.total, deployment.subject, deployment.version
                ),
                format!("see why with `aidos deployment show {id}`"),
            ));
        }
        // Those that are away get it as they return; where all are, nobody runs it yet.
        if counts.ready > 0 && counts.pending + counts.downloading == 0 {
            return Ok(deployment);
        }
        if start.elapsed() > limit && counts.total == 0 {
            return Err(CliError::Timeout(format!(
                "after {}s no device matches `{}`; `aidos device list -l '{}'` shows those that do, later ones get it as they come",
                limit.as_secs(),
                deployment.selector,
                deployment.selector
            )));
        }
        if start.elapsed() > limit && counts.offline == counts.total {
            return Err(CliError::Timeout(format!(
                "after {}s {} matching devices are offline and none runs {}@{}; they get it as they return, and `aidos deployment show {id}` \
                 tells when",
                limit.as_secs(),
                counts.total,
                deployment.subject,
                deployment.version
            )));
        }
        if start.elapsed() > limit {
            return Err(CliError::Timeout(format!(
                "after {}s only {} of {} devices are ready; `aidos deployment show {id}` tells which are not",
                limit.as_secs(),
                counts.ready,
                counts.total
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Deployment {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        match self {
            Deployment::List(flags) => {
                watch(flags, async || output::list(global.output, &client.list::<DeploymentView>("deployments", &[]).await?))
                    .await
            }
            Deployment::Show { id, watch: flags } => {
                watch(flags, async || {
                    let deployment: DeploymentView = client.get(&format!("deployments/{id}")).await?;
                    if !matches!(global.output, output::Format::Table | output::Format::Wide) {
                        return output::one(global.output, &deployment, String::new);
                    }
                    output::line(&describe(&deployment))?;
                    output::list(
                        global.output,
                        &client.list::<DeploymentDeviceView>(&format!("deployments/{id}/devices"), &[]).await?,
                    )
                })
                .await
            }
            Deployment::Stop { id, remove } => {
                let request = client.request(Method::DELETE, &format!("deployments/{id}")).query(&[("remove", remove)]);
                client.send(request).await?;
                say(&format!("{id} stopped"));
                Ok(())
            }
        }
    }
}

pub(super) fn describe(d: &DeploymentView) -> String {
    let c = d.counts;
    output::pairs(&[
        ("deployment", d.id.to_string()),
        ("what", format!("{}@{}", d.subject, d.version)),
        ("selector", d.selector.to_string()),
        ("state", state(d.state).into()),
        (
            "devices",
            format!(
                "{} ready, {} downloading, {} pending, {} failed, {} offline of {}",
                c.ready, c.downloading, c.pending, c.failed, c.offline, c.total
            ),
        ),
        ("created", format!("{} by {}", output::time(d.created_at), d.created_by)),
    ])
}

fn state(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::Active => "active",
        DeploymentState::Superseded => "superseded",
        DeploymentState::Stopped => "stopped",
    }
}

impl Row for DeploymentView {
    const COLUMNS: &'static [&'static str] =
        &["ID", "WHAT", "SELECTOR", "STATE", "READY", "FAILED", "OFFLINE", "AGE", "CREATED BY"];
    const NARROW: usize = 8;
    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            format!("{}@{}", self.subject, self.version),
            self.selector.to_string(),
            state(self.state).into(),
            format!("{}/{}", self.counts.ready, self.counts.total),
            self.counts.failed.to_string(),
            self.counts.offline.to_string(),
            output::age(self.created_at),
            self.created_by.clone(),
        ]
    }
    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Row for DeploymentDeviceView {
    const COLUMNS: &'static [&'static str] = &["DEVICE", "NAME", "PROGRESS", "RUNS", "ONLINE", "SINCE", "WHY"];
    const NARROW: usize = 7;
    fn cells(&self) -> Vec<String> {
        vec![
            self.device.to_string(),
            self.name.clone(),
            self.step.clone().unwrap_or_else(|| format!("{:?}", self.progress).to_lowercase()),
            self.active_version.clone().unwrap_or_else(|| "-".into()),
            if self.online { "yes" } else { "no" }.into(),
            output::age(self.updated_at),
            self.error.clone().unwrap_or_default(),
        ]
    }
    fn name(&self) -> String {
        self.device.to_string()
    }
}

impl Row for PlannedDevice {
    const COLUMNS: &'static [&'static str] = &["DEVICE", "NAME", "ONLINE", "CURRENT"];
    const NARROW: usize = 4;
    fn cells(&self) -> Vec<String> {
        vec![
            self.device.to_string(),
            self.name.clone(),
            if self.online { "yes" } else { "no" }.into(),
            self.current_version.clone().unwrap_or_else(|| "-".into()),
        ]
    }
    fn name(&self) -> String {
        self.device.to_string()
    }
}
