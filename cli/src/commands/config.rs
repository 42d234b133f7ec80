//! `aidos config`: settings of agents.

use super::{client, deploy};
use crate::client::Client;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::progress::say;
use aidos_protocol::api::deployments::CreateDeployment;
use aidos_protocol::api::devices::TwinView;
use aidos_protocol::api::releases::{CreateSettings, SettingsView};
use aidos_protocol::selector::Selector;
use aidos_protocol::settings::{Settings, SettingsDocument};
use aidos_protocol::twin::{AGENT_CONFIG, SettingsState, SettingsStatus, path};
use aidos_protocol::{DeviceId, Subject};
use clap::Subcommand;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Settings of agents.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Make the next version of the settings from a TOML file and deploy it to the devices of a selector
    ///
    /// In waves: `aidos rollout create agent.config@3 --to site=lab --waves 1%,100%`.
    Push {
        /// The file: sections `telemetry`, `storage`, `link`, `log`, `update`, as in the agent's own
        file: PathBuf,
        /// The devices, in kubectl's selector syntax; `all` for every one
        #[arg(long = "to", value_name = "SELECTOR")]
        selector: String,
    },
    /// Deploy a version that there is already; an earlier one takes a later one back
    Apply {
        /// The version
        version: u64,
        /// The devices, in kubectl's selector syntax; `all` for every one
        #[arg(long = "to", value_name = "SELECTOR")]
        selector: String,
    },
    /// List the versions of the settings
    #[command(visible_alias = "ls")]
    List,
    /// Which settings are wanted of a device, and which hold there
    Show {
        /// The device
        device: DeviceId,
    },
}

/// A device's settings.
#[derive(Debug, Serialize)]
struct Shown {
    desired: Option<SettingsDocument>,
    status: SettingsStatus,
}

impl Config {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        match self {
            Config::Push { file, selector } => {
                selector.parse::<Selector>().map_err(|e| CliError::Usage(e.to_string()))?;
                let settings = read(&file)?;
                let made: SettingsView = client.post("agent-settings", &CreateSettings { settings }).await?;
                say(&format!("settings version {}", made.version));
                apply(&client, global, made.version, selector).await
            }
            Config::Apply { version, selector } => {
                selector.parse::<Selector>().map_err(|e| CliError::Usage(e.to_string()))?;
                apply(&client, global, version, selector).await
            }
            Config::List => output::list(global.output, &client.list::<SettingsView>("agent-settings", &[]).await?),
            Config::Show { device } => {
                let twin: TwinView = client.get(&format!("devices/{device}/twin")).await?;
                let desired = twin.intent.config.get(AGENT_CONFIG).and_then(|value| serde_json::from_value(value.clone()).ok());
                let status = twin.status.get(path::AGENT_CONFIG).and_then(|value| serde_json::from_value(value.clone()).ok());
                let shown = Shown { desired, status: status.unwrap_or_default() };
                if matches!(global.output, output::Format::Json | output::Format::Yaml) {
                    return output::value(global.output, &shown);
                }
                output::line(&describe(&shown))
            }
        }
    }
}

async fn apply(client: &Client, global: &Global, version: u64, selector: String) -> Result<(), CliError> {
    let wish = CreateDeployment { subject: format!("{}@{version}", Subject::Settings), selector };
    let deployment = client.post("deployments", &wish).await?;
    output::one(global.output, &deployment, || deploy::describe(&deployment))
}

/// Checks the file here, so that a mistake is named before anything is sent.
fn read(file: &Path) -> Result<serde_json::Value, CliError> {
    let wrong = |e: &dyn std::fmt::Display| CliError::Usage(format!("{}: {e}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| wrong(&e))?;
    let value: toml::Table = toml::from_str(&text).map_err(|e| wrong(&e))?;
    let value = serde_json::to_value(value).map_err(|e| wrong(&e))?;
    Settings::strict(&value).map_err(|e| wrong(&e))?;
    Ok(value)
}

fn describe(shown: &Shown) -> String {
    let status = &shown.status;
    let version = |version: Option<u64>| version.map_or("-".into(), |version| version.to_string());
    let state = match status.state {
        SettingsState::None => "the device's own file",
        SettingsState::Applied => "applied",
        SettingsState::Rejected => "rejected",
    };
    let list = |names: &[String]| if names.is_empty() { "-".to_owned() } else { output::printable(&names.join(", ")) };
    output::pairs(&[
        ("wanted", version(shown.desired.as_ref().map(|document| document.version))),
        ("holds", version(status.version)),
        ("state", state.into()),
        ("error", if status.error.is_empty() { "-".into() } else { output::printable(&status.error) }),
        ("not known there", list(&status.ignored)),
        ("at next start", list(&status.at_restart)),
        ("settings", shown.desired.as_ref().map_or("-".into(), |document| output::printable(&document.settings.to_string()))),
    ])
}

impl Row for SettingsView {
    const COLUMNS: &'static [&'static str] = &["VERSION", "AGE", "CREATED BY", "SETTINGS"];
    const NARROW: usize = 4;
    fn cells(&self) -> Vec<String> {
        let settings = serde_json::to_string(&self.settings).unwrap_or_default();
        vec![self.version.to_string(), output::age(self.created_at), self.created_by.clone(), output::printable(&settings)]
    }
    fn name(&self) -> String {
        self.version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_mistake_is_named_with_the_setting() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agents.toml");
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(&file).map_err(|error| error.to_string())
        };
        assert_eq!(said("[telemetry]\ninterval_s = 30\n").unwrap()["telemetry"]["interval_s"], 30);
        assert!(said("[telemetry]\ninterval_s = 0\n").unwrap_err().contains("agents.toml: telemetry.interval_s"));
        assert!(said("[telemetry]\nintervals = 1\n").unwrap_err().contains("telemetry.intervals"));
        assert!(said("telemetry").unwrap_err().contains("agents.toml"));
    }
}
