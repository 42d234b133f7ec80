//! The command line of `aidos-agent`.

use super::client::{AdminError, ImportError, call, import_bundle};
use super::doctor::Level;
use super::print::{self, Output};
use super::wire::{Findings, IntentAnswer, LogsView, ModelsView, Request, StatusView};
use super::{Health, findings};
use crate::config::{Config, ConfigError};
use crate::identity::{self, Identity, JoinOptions};
use crate::{assembly, clock, observe, state};
use clap::{Args, Parser, Subcommand};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// The AI-DOS agent: joins this device to a fleet and runs its models, with or without a network.
#[derive(Debug, Parser)]
#[command(name = "aidos-agent", version, arg_required_else_help = true)]
pub struct Cli {
    /// Folder that holds all of the agent's state
    #[arg(long, global = true, env = "AIDOS_AGENT_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, global = true, env = "AIDOS_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or a filter
    #[arg(long, global = true, env = "AIDOS_LOG", value_name = "LEVEL")]
    log: Option<String>,
    /// Log one JSON object per line
    #[arg(long, global = true, env = "AIDOS_LOG_JSON")]
    log_json: bool,
    /// Form of answers
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a fleet with a token from `aidos token create`
    Join(Join),
    /// Run the agent until it is told to stop
    Run(Run),
    /// Show how the running agent is
    Status,
    /// Show or change this device's labels, also while it is cut off
    Labels {
        #[command(subcommand)]
        change: Option<Change>,
    },
    /// Show or change the notes on this device, also while it is cut off
    Notes {
        #[command(subcommand)]
        change: Option<Change>,
    },
    /// Show what is wanted of this device
    Intent {
        #[command(subcommand)]
        show: Option<Show>,
    },
    /// Show where each model stands
    Models,
    /// Show the newest lines of the agent's log
    Logs {
        /// How many
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: usize,
        /// The least severity
        #[arg(long, default_value = "info")]
        level: String,
    },
    /// Look for what is wrong and say what to do; exits with 1 when something is
    Doctor,
    /// Bring models on a stick, where no network reaches
    #[command(subcommand)]
    Bundle(Bundle),
}

#[derive(Debug, Subcommand)]
enum Bundle {
    /// Put a bundle's files into the store, so that a later deployment downloads nothing; activates nothing
    Import {
        /// The file that `aidos bundle export` wrote
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Join {
    /// Address of the control plane, such as https://plane.example:7070
    url: String,
    /// The join token
    #[arg(long, env = "AIDOS_TOKEN", hide_env_values = true)]
    token: String,
    /// The device's name for people; the host's name by default
    #[arg(long)]
    name: Option<String>,
    /// A label, key=value; may be given often
    #[arg(long = "label", value_parser = pair, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    /// Allow plain HTTP to another machine
    #[arg(long)]
    insecure_http: bool,
    /// Join as a new device although this one has joined
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct Run {
    /// Address of the inference API; port 0 takes a free one
    #[arg(long, env = "AIDOS_AGENT_SERVE", value_name = "ADDR:PORT")]
    serve: Option<SocketAddr>,
    /// Allow an inference address beyond loopback, without encryption or login
    #[arg(long)]
    allow_remote_http: bool,
    /// Seconds in touch with the control plane after which a new version of the agent counts as healthy
    #[arg(long, env = "AIDOS_AGENT_HEALTHY_AFTER_S", value_name = "SECONDS")]
    healthy_after: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Set key=value, one or more
    Set {
        #[arg(required = true, value_parser = pair, value_name = "KEY=VALUE")]
        pairs: Vec<(String, String)>,
    },
    /// Remove keys, one or more
    Rm {
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Show {
    /// Show it
    Show,
}

/// Why a subcommand failed; its text ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The agent that should answer.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Joining.
    #[error(transparent)]
    Join(#[from] identity::JoinError),
    /// Running.
    #[error(transparent)]
    Run(#[from] assembly::StartError),
    /// Importing a bundle.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The terminal or pipe.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

impl Cli {
    /// The configuration: file, then environment and flags.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(dir) = &self.data_dir {
            config.data_dir.clone_from(dir);
        }
        if let Some(level) = &self.log {
            config.log.level.clone_from(level);
        }
        config.log.json |= self.log_json;
        if let Command::Run(run) = &self.command {
            config.serve.address = run.serve.unwrap_or(config.serve.address);
            config.serve.allow_remote_http |= run.allow_remote_http;
            config.update.healthy_after_s = run.healthy_after.unwrap_or(config.update.healthy_after_s);
        }
        config.check()
    }

    /// Whether this is the long-running agent, which logs; the other subcommands only answer.
    pub fn is_run(&self) -> bool {
        matches!(self.command, Command::Run(_))
    }

    /// Does what was asked. `stop` ends a running agent.
    pub async fn execute(
        self,
        config: Config,
        logging: observe::Logging,
        stop: CancellationToken,
    ) -> Result<ExitCode, CommandError> {
        let (dir, output) = (config.data_dir.clone(), self.output);
        match self.command {
            Command::Run(_) => {
                let start = assembly::run_with(config, logging, stop.clone());
                // What a start has begun is as after a kill: the next one judges from what is on disk.
                let Some(running) = stop.run_until_cancelled(start).await else { return Ok(ExitCode::SUCCESS) };
                let running = running?;
                if running.join().await? == assembly::Ended::Switch {
                    return Ok(ExitCode::from(aidos_launcher::EXIT_SWITCH));
                }
            }
            Command::Join(join) => {
                let options = JoinOptions {
                    url: join.url,
                    token: join.token,
                    name: join.name.unwrap_or_else(observe::hostname),
                    labels: join.labels.into_iter().collect(),
                    dir: assembly::identity_dir(&dir),
                    insecure_http: join.insecure_http,
                    force: join.force,
                };
                let identity = identity::join(&options).await?;
                print::joined(output, &identity)?;
            }
            Command::Status => print::status(output, &call::<StatusView>(&dir, &Request::Status).await?)?,
            Command::Labels { change } => {
                let request = change.map_or(Request::Intent, |change| {
                    let (set, remove) = change.split();
                    Request::Labels { set, remove }
                });
                print::pairs(output, "labels", &call::<IntentAnswer>(&dir, &request).await?.labels)?;
            }
            Command::Notes { change } => {
                let request = change.map_or(Request::Intent, |change| {
                    let (set, remove) = change.split();
                    Request::Notes { set, remove }
                });
                print::pairs(output, "notes", &call::<IntentAnswer>(&dir, &request).await?.notes)?;
            }
            Command::Intent { .. } => print::intent(output, &call::<IntentAnswer>(&dir, &Request::Intent).await?)?,
            Command::Models => print::models(output, &call::<ModelsView>(&dir, &Request::Models).await?)?,
            Command::Logs { lines, level } => {
                print::logs(output, &call::<LogsView>(&dir, &Request::Logs { lines, level }).await?)?
            }
            Command::Bundle(Bundle::Import { file }) => {
                print::imported(output, &import_bundle(&config, &file).await?)?;
            }
            Command::Doctor => {
                let found = match call::<Findings>(&dir, &Request::Doctor).await {
                    Err(AdminError::NotRunning(_)) => look_alone(&dir),
                    answered => answered?,
                };
                print::findings(output, &found)?;
                if found.iter().any(|finding| finding.level != Level::Ok) {
                    return Ok(ExitCode::from(1));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Change {
    fn split(self) -> (BTreeMap<String, String>, Vec<String>) {
        match self {
            Self::Set { pairs } => (pairs.into_iter().collect(), Vec::new()),
            Self::Rm { keys } => (BTreeMap::new(), keys),
        }
    }
}

/// What can be seen without a running agent; it changes nothing.
fn look_alone(dir: &std::path::Path) -> Findings {
    let (identity, identity_error) = match Identity::load(&assembly::identity_dir(dir)) {
        Ok(identity) => (identity, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let health = Health {
        now: clock::now(),
        certificate: identity.map(|identity| identity.validity()),
        identity_error,
        disk_free: state::free_bytes(dir).ok(),
        ..Health::default()
    };
    findings(&health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "data_dir = '/from/file'\n[serve]\naddress = '127.0.0.1:1'\n").unwrap();
        let parse = |more: &[&str]| {
            let arguments = ["aidos-agent", "--config", file.to_str().unwrap()].into_iter().chain(more.iter().copied());
            Cli::try_parse_from(arguments).unwrap().config()
        };
        let config = parse(&["run", "--serve", "127.0.0.1:0", "--data-dir", "/from/flag"]).unwrap();
        assert_eq!((config.data_dir, config.serve.address.port()), ("/from/flag".into(), 0));
        assert_eq!(parse(&["status"]).unwrap().data_dir, std::path::Path::new("/from/file"));
        assert!(parse(&["run", "--serve", "0.0.0.0:0"]).unwrap_err().to_string().contains("--allow-remote-http"));
    }

    #[test]
    fn pairs_need_a_key_and_may_hold_further_equal_signs() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }
}
