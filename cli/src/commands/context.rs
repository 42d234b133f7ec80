//! `aidos login` and `aidos context`: the control planes that this machine knows.

use crate::client::Client;
use crate::context::{self, Contexts};
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::progress::say;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::PathBuf;

/// What is read of standard input as a key: one is well below.
const MAX_KEY_BYTES: u64 = 4 << 10;

/// Remember a control plane and its key.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Base URL of its API
    target: String,
    /// What to call it
    #[arg(long, default_value = "default")]
    name: String,
    /// PEM file of its CA, when it is not a public one
    #[arg(long = "ca-file", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// The control planes that this machine knows.
#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// List them
    #[command(visible_alias = "ls")]
    List,
    /// Choose one
    Use {
        /// Its name
        name: String,
    },
    /// Forget one and its key
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name
        name: String,
    },
}

impl Login {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let api_key = match &global.api_key {
            Some(key) => key.clone(),
            None => read_key()?,
        };
        let ca_pem = self.ca_file.as_deref().map(context::read_ca).transpose()?;
        let url = self.target.trim_end_matches('/').to_owned();
        let context = context::Context { url, api_key, ca_pem, insecure_http: global.insecure_http };
        let who: serde_json::Value = Client::new(context.clone())?.get("whoami").await?;
        let mut contexts = Contexts::load()?;
        contexts.contexts.insert(self.name.clone(), context);
        contexts.current = Some(self.name.clone());
        contexts.save()?;
        say(&format!("logged in to `{}`", self.name));
        output::value(global.output, &who)
    }
}

fn read_key() -> Result<String, CliError> {
    let unread =
        |e| CliError::failed(format!("the API key cannot be read: {e}"), "set AIDOS_API_KEY or give it on standard input");
    let line = if std::io::stdin().is_terminal() {
        rpassword::prompt_password("API key (not shown as you type): ").map_err(unread)?
    } else {
        let mut line = String::new();
        std::io::stdin().lock().take(MAX_KEY_BYTES).read_line(&mut line).map_err(unread)?;
        line
    };
    match line.trim() {
        "" => Err(CliError::Usage("no API key: set AIDOS_API_KEY or give it on standard input".into())),
        key => Ok(key.to_owned()),
    }
}

impl Context {
    pub(super) fn run(self, global: &Global) -> Result<(), CliError> {
        let mut contexts = Contexts::load()?;
        let known = |contexts: &Contexts, name: &str| match contexts.contexts.contains_key(name) {
            true => Ok(()),
            false => Err(CliError::Usage(format!("there is no context `{name}`; see `aidos context list`"))),
        };
        match self {
            Context::List => {
                let row = |(name, context): (&String, &context::Context)| Known {
                    current: contexts.current.as_ref() == Some(name),
                    name: name.clone(),
                    url: context.url.clone(),
                };
                let rows: Vec<_> = contexts.contexts.iter().map(row).collect();
                output::list(global.output, &rows)
            }
            Context::Use { name } => {
                known(&contexts, &name)?;
                contexts.current = Some(name);
                contexts.save()
            }
            Context::Delete { name } => {
                known(&contexts, &name)?;
                contexts.contexts.remove(&name);
                contexts.current.take_if(|current| *current == name);
                contexts.save()
            }
        }
    }
}

/// A context without its key.
#[derive(Serialize)]
struct Known {
    name: String,
    url: String,
    current: bool,
}

impl Row for Known {
    const COLUMNS: &'static [&'static str] = &["CURRENT", "NAME", "URL"];
    const NARROW: usize = 3;
    fn cells(&self) -> Vec<String> {
        vec![if self.current { "*" } else { "" }.into(), self.name.clone(), self.url.clone()]
    }
    fn name(&self) -> String {
        self.name.clone()
    }
}
