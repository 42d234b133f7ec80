//! `aidos agent`: releases of the agent itself.

use super::trust::{self, Change};
use super::{client, rollout};
use crate::client::Client;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::transfer;
use aidos_protocol::Subject;
use aidos_protocol::api::releases::{CreateRelease, ReleaseView};
use aidos_protocol::api::rollouts::CreateRollout;
use aidos_protocol::elf;
use aidos_protocol::rollout::{Plan, Window};
use aidos_protocol::selector::Selector;
use clap::Subcommand;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt as _;

/// The agents themselves.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Versions of the agent that devices can be asked to run
    #[command(subcommand, visible_alias = "releases")]
    Release(Release),
}

/// Releases of the agent.
#[derive(Debug, Subcommand)]
pub(crate) enum Release {
    /// Register an agent's binary as a release; once for each architecture
    Push {
        /// The binary
        file: PathBuf,
        /// Its version, as the binary's --version prints it; more may follow after a `+`
        #[arg(long)]
        version: String,
        /// What it runs on, as `uname -m` names it [default: what the binary's header says]
        #[arg(long)]
        arch: Option<String>,
        /// Devices that run this version take nothing older any more
        #[arg(long)]
        raise_floor: bool,
    },
    /// List releases
    #[command(visible_alias = "ls")]
    List,
    /// Ask all devices of a selector at once to run a version; they go back by themselves when it does not work
    ///
    /// In waves, with gates on memory: `aidos rollout create agent.release@1.4.0 --to site=lab --waves 1%,100%`.
    Deploy {
        /// The version
        version: String,
        /// The devices, in kubectl's selector syntax: `site=lab,gpu!=none`; `all` for every one
        #[arg(long = "to", value_name = "SELECTOR")]
        selector: String,
        /// When the agent may be replaced, in the device's own time: `Mon-Fri 22:00-04:00`
        #[arg(long)]
        window: Option<Window>,
        /// How long the new version must be in touch before it counts as healthy [default: the agent's setting, 5m]
        #[arg(long, value_parser = super::seconds, value_name = "SPAN")]
        watch: Option<u64>,
    },
}

impl Agent {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let Agent::Release(release) = self;
        let client = client(global)?;
        match release {
            Release::Push { file, version, arch, raise_floor } => {
                let release = push(&client, &file, version, arch, raise_floor).await?;
                let command = format!("--release {}", release.version);
                trust::after_push(&client, global, &Change::default().release(&release), &command).await?;
                output::one(global.output, &release, || describe(&release))
            }
            Release::List => output::list(global.output, &client.list::<ReleaseView>("agent-releases", &[]).await?),
            Release::Deploy { version, selector, window, watch } => {
                selector.parse::<Selector>().map_err(|e| CliError::Usage(e.to_string()))?;
                let watch_s = watch.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
                let plan = Plan { window, watch_s, ..Plan::default() };
                plan.check().map_err(|e| CliError::Usage(e.to_string()))?;
                let wish = CreateRollout { subject: format!("{}@{version}", Subject::Release), selector, plan };
                rollout::print(global, &client.post("rollouts", &wish).await?)
            }
        }
    }
}

async fn push(
    client: &Client,
    file: &Path,
    version: String,
    arch: Option<String>,
    raise_floor: bool,
) -> Result<ReleaseView, CliError> {
    let arch = arch_of(file, arch).await?;
    let digest = transfer::upload(client, file).await?;
    client.post("agent-releases", &CreateRelease { version, arch, digest, raise_floor }).await
}

/// What the binary runs on: its header, or what was typed where the header does not say.
async fn arch_of(file: &Path, typed: Option<String>) -> Result<String, CliError> {
    let unreadable = |e: std::io::Error| CliError::Usage(format!("{}: {e}", file.display()));
    let mut header = Vec::with_capacity(elf::HEADER_BYTES);
    let open = tokio::fs::File::open(file).await.map_err(unreadable)?;
    open.take(elf::HEADER_BYTES as u64).read_to_end(&mut header).await.map_err(unreadable)?;
    match (elf::arch_of(&header), typed) {
        (Some(is), Some(typed)) if is != typed => {
            Err(CliError::Usage(format!("{} is for {is}, not for {typed}", file.display())))
        }
        (Some(is), _) => Ok(is.to_owned()),
        (None, Some(typed)) => Ok(typed),
        (None, None) => Err(CliError::Usage(format!("{} has no header that says what it runs on: give --arch", file.display()))),
    }
}

fn describe(release: &ReleaseView) -> String {
    output::pairs(&[
        ("version", release.version.clone()),
        ("arch", release.arch.clone()),
        ("counter", release.counter.to_string()),
        ("raises floor", if release.raises_floor { "yes" } else { "no" }.into()),
        ("digest", release.digest.to_string()),
        ("size", output::bytes(release.size)),
        ("created", format!("{} by {}", output::time(release.created_at), release.created_by)),
    ])
}

impl Row for ReleaseView {
    const COLUMNS: &'static [&'static str] = &["VERSION", "ARCH", "COUNTER", "SIZE", "FLOOR", "AGE", "CREATED BY", "DIGEST"];
    const NARROW: usize = 6;
    fn cells(&self) -> Vec<String> {
        vec![
            self.version.clone(),
            self.arch.clone(),
            self.counter.to_string(),
            output::bytes(self.size),
            if self.raises_floor { "raises" } else { "-" }.into(),
            output::age(self.created_at),
            self.created_by.clone(),
            self.digest.to_string(),
        ]
    }
    fn name(&self) -> String {
        self.version.clone()
    }
}
