//! `aidos trust`: the people's side of the update repository. Root and targets are signed here, with keys that the control plane
//! never sees; it signs only which of what was signed is current.

mod delegate;
mod repository;
mod roots;
mod sign;

pub(super) use repository::chain;
pub(super) use roots::development;
pub(super) use sign::{Change, after_push, sign_in_development};

use super::{client, model, seconds};
use crate::client::Client;
use crate::context;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::progress::say;
use crate::trust_keys::{TrustKeys, is_development};
use aidos_protocol::api::trust::{PublisherView, TrustRoleView, TrustView};
use aidos_protocol::artifact::Digest;
use aidos_protocol::trust::SigningKey;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The keys and signatures by which devices believe updates.
#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Make root and targets keys and begin this tenant's update repository
    Init {
        #[command(flatten)]
        keys: Keys,
        /// How long the root is valid
        #[arg(long, default_value = "365d", value_parser = seconds)]
        root_expires: u64,
        /// How long targets are valid
        #[arg(long, default_value = "90d", value_parser = seconds)]
        expires: u64,
    },
    /// Sign model versions and releases, so that devices take them; without any, sign what is there for longer
    Sign {
        /// Versions as name@2, name@alias or name
        models: Vec<String>,
        /// A version of the agent, for all its architectures; may be given more than once
        #[arg(long, value_name = "VERSION")]
        release: Vec<String>,
        /// Take the version out of what devices may take; may be given more than once
        #[arg(long, value_name = "MODEL")]
        remove: Vec<String>,
        /// Take the version of the agent out; may be given more than once
        #[arg(long, value_name = "VERSION")]
        remove_release: Vec<String>,
        /// Golden cases that devices may run with these versions
        #[arg(long, value_name = "DIGEST", requires = "models")]
        golden: Option<Digest>,
        /// Sign as this publisher, with its key
        #[arg(long = "as", value_name = "PUBLISHER")]
        publisher: Option<String>,
        #[command(flatten)]
        keys: Keys,
        /// How long targets are valid from now on
        #[arg(long, default_value = "90d", value_parser = seconds)]
        expires: u64,
    },
    /// Make a publisher's key pair: the first thing a publisher does
    Key {
        /// The publisher's name
        name: String,
        #[command(flatten)]
        keys: Keys,
        /// How long its first, empty list is valid
        #[arg(long, default_value = "90d", value_parser = seconds)]
        expires: u64,
    },
    /// Let a publisher sign some of the models or releases, and nothing else
    Delegate {
        /// The publisher's name
        name: String,
        /// The file that `aidos trust key` made; with several, any one of the keys signs
        #[arg(long = "key", value_name = "FILE", required = true)]
        key_files: Vec<PathBuf>,
        /// Names of models, where * stands for any text; may be given more than once
        #[arg(long, value_name = "PATTERN")]
        models: Vec<String>,
        /// Target paths, where * stays within a part; may be given more than once
        #[arg(long, value_name = "PATTERN")]
        paths: Vec<String>,
        #[command(flatten)]
        keys: Keys,
        /// How long targets are valid from now on
        #[arg(long, default_value = "90d", value_parser = seconds)]
        expires: u64,
    },
    /// Take a publisher's rights away
    Revoke {
        /// The publisher's name
        name: String,
        #[command(flatten)]
        keys: Keys,
        /// How long targets are valid from now on
        #[arg(long, default_value = "90d", value_parser = seconds)]
        expires: u64,
    },
    /// Make a new root: another key, or only a later date
    Rotate {
        /// What to replace
        what: What,
        #[command(flatten)]
        keys: Keys,
        /// Folder for the new root key, under a passphrase of its own: how a development root becomes a real one
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        /// File with the passphrase of the keys in --into
        #[arg(long, value_name = "FILE", requires = "into")]
        into_passphrase_file: Option<PathBuf>,
        /// How long the root is valid
        #[arg(long, default_value = "365d", value_parser = seconds)]
        root_expires: u64,
        /// How long targets are valid, where they are signed anew
        #[arg(long, default_value = "90d", value_parser = seconds)]
        expires: u64,
    },
    /// Show the repository's address, versions and dates
    Status {
        #[command(flatten)]
        keys: Keys,
    },
}

/// Where the private keys are.
#[derive(Debug, Default, Args)]
pub(crate) struct Keys {
    /// Folder of the private keys [default: $XDG_DATA_HOME/aidos/trust]
    #[arg(long = "keys", value_name = "DIR", env = "AIDOS_TRUST_KEYS")]
    folder: Option<PathBuf>,
    /// File with the keys' passphrase; else AIDOS_TRUST_PASSPHRASE, else it is asked for
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Keys {
    fn open(self, global: &Global) -> Result<TrustKeys, CliError> {
        let folder = match self.folder {
            Some(folder) => folder,
            None => context::data_dir(global)?.join("trust"),
        };
        Ok(TrustKeys::new(folder, self.passphrase_file))
    }
}

/// What a new root replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// The root key
    Root,
    /// The targets key
    Targets,
    /// The control plane's key: names the one that it has now
    Online,
    /// Only the date
    Date,
}

impl Trust {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let client = client(global)?;
        match self {
            Trust::Init { keys, root_expires, expires } => {
                let keys = keys.open(global)?;
                roots::init(&client, &keys, root_expires, expires, false).await?;
                say(&format!("The keys are in {}: back this folder up, apart from the passphrase.", keys.folder().display()));
                status(&client, global, &keys).await
            }
            Trust::Sign { models, release, remove, remove_release, golden, publisher, keys, expires } => {
                let keys = keys.open(global)?;
                let mut change = Change::default();
                for text in &models {
                    change = change.model(&model::version(&client, text).await?, golden);
                }
                for text in &remove {
                    change = change.without_model(&model::version(&client, text).await?);
                }
                for version in &release {
                    change = sign::release(&client, version).await?.iter().fold(change, Change::release);
                }
                for version in &remove_release {
                    change = sign::release(&client, version).await?.iter().fold(change, Change::without_release);
                }
                sign::sign_change(&client, &keys, &change, publisher.as_deref(), expires).await?;
                change.names().for_each(|name| say(&format!("{name} is signed")));
                status(&client, global, &keys).await
            }
            Trust::Key { name, keys, expires } => delegate::make_key(&client, &keys.open(global)?, &name, expires).await,
            Trust::Delegate { name, key_files, models, paths, keys, expires } => {
                let keys = keys.open(global)?;
                let patterns = delegate::patterns(&models, &paths)?;
                delegate::delegate(&client, &keys, &name, &key_files, patterns, expires).await?;
                status(&client, global, &keys).await
            }
            Trust::Revoke { name, keys, expires } => {
                let keys = keys.open(global)?;
                delegate::revoke(&client, &keys, &name, expires).await?;
                status(&client, global, &keys).await
            }
            Trust::Rotate { what, keys, into, into_passphrase_file, root_expires, expires } => {
                let keys = keys.open(global)?;
                let into = into.map(|folder| TrustKeys::new(folder, into_passphrase_file));
                if into.is_some() && what != What::Root {
                    return Err(CliError::Usage(
                        "--into is for a new root key; the targets key follows with `rotate targets`".into(),
                    ));
                }
                roots::rotate(&client, &keys, into.as_ref(), what, root_expires, expires).await?;
                status(&client, global, into.as_ref().unwrap_or(&keys)).await
            }
            Trust::Status { keys } => status(&client, global, &keys.open(global)?).await,
        }
    }
}

fn all(keys: &[SigningKey]) -> Vec<&SigningKey> {
    keys.iter().collect()
}

async fn status(client: &Client, global: &Global, keys: &TrustKeys) -> Result<(), CliError> {
    let view: TrustView = client.get("trust").await?;
    if !matches!(global.output, output::Format::Table | output::Format::Wide) {
        return output::value(global.output, &view);
    }
    let root = keys.has_root().then(|| keys.root()).transpose()?;
    let kind = match &root {
        None => "not on this machine".to_owned(),
        Some(root) if is_development(root.root()) => format!("{} (DEVELOPMENT)", keys.folder().display()),
        Some(_) => keys.folder().display().to_string(),
    };
    output::line(&output::pairs(&[
        ("metadata", view.metadata_url.clone()),
        ("targets", view.targets_url.clone()),
        ("keys", kind),
        ("control plane's key", view.online_key.id().0.clone()),
    ]))?;
    if view.roles.is_empty() {
        say("There is no root yet: run `aidos trust init`.");
        return Ok(());
    }
    output::list(global.output, &view.roles)?;
    if view.publishers.is_empty() { Ok(()) } else { output::list(global.output, &view.publishers) }
}

impl Row for TrustRoleView {
    const COLUMNS: &'static [&'static str] = &["ROLE", "VERSION", "EXPIRES", "SIGNED BY", "AGE"];
    const NARROW: usize = 5;
    fn cells(&self) -> Vec<String> {
        vec![
            self.role.clone(),
            self.version.to_string(),
            output::time(self.expires_at),
            self.created_by.clone(),
            output::age(self.created_at),
        ]
    }
    fn name(&self) -> String {
        self.role.clone()
    }
}

impl Row for PublisherView {
    const COLUMNS: &'static [&'static str] = &["PUBLISHER", "MAY SIGN", "KEYS"];
    const NARROW: usize = 3;
    fn cells(&self) -> Vec<String> {
        let short = |id: &String| id.chars().take(16).collect::<String>();
        vec![self.name.clone(), self.paths.join(" "), self.keys.iter().map(short).collect::<Vec<_>>().join(" ")]
    }
    fn name(&self) -> String {
        self.name.clone()
    }
}
