//! `aidos trust`: the people's side of the update repository. Root and targets are signed here, with keys that the control plane
//! never sees; it signs only which of what was signed is current.
//!
//! What is signed next is made from what was verified, never from what the control plane merely says: each command first walks
//! from the root that this machine knows to the newest files, as a device does.

use super::{client, model, seconds};
use crate::client::Client;
use crate::context;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::progress::say;
use crate::trust_keys::{DEVELOPMENT, TrustKeys, is_development};
use aidos_protocol::api::models::ModelVersionView;
use aidos_protocol::api::trust::{PutTrust, SignedFile, TrustRoleView, TrustView};
use aidos_protocol::time::Micros;
use aidos_protocol::trust::{
    Answer, Expires, Key, ModelTarget, Refresh, Role, Root, RootRoles, SigningKey, Targets, TrustError, Trusted, Want, sign,
};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use std::path::PathBuf;
use time::OffsetDateTime;

/// Files are read here to be renewed, so that one that has expired must not be refused: at the beginning of time nothing has.
const BEFORE_ANY_EXPIRY: Micros = Micros(0);

/// How long what `aidos up` signs is valid: longer than a trial, so that nobody has to renew it.
const DEVELOPMENT_SECONDS: u64 = 365 * 86_400;

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
    /// Sign model versions, so that devices take them; without a name, sign what is there for longer
    Sign {
        /// Versions as name@2, name@alias or name
        models: Vec<String>,
        /// Take the version out of what devices may take; may be given more than once
        #[arg(long)]
        remove: Vec<String>,
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
#[derive(Debug, Args)]
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
                init(&client, &keys, root_expires, expires, false).await?;
                say(&format!("The keys are in {}: back this folder up, apart from the passphrase.", keys.folder().display()));
                status(&client, global, &keys).await
            }
            Trust::Sign { models, remove, keys, expires } => {
                let keys = keys.open(global)?;
                let (mut add, mut gone) = (Vec::new(), Vec::new());
                for text in &models {
                    add.push(model::version(&client, text).await?);
                }
                for text in &remove {
                    gone.push(model::version(&client, text).await?);
                }
                sign_models(&client, &keys, &add, &gone, expires).await?;
                for version in &add {
                    say(&format!("{}@{} is signed", version.model, version.version));
                }
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
                rotate(&client, &keys, into.as_ref(), what, root_expires, expires).await?;
                status(&client, global, into.as_ref().unwrap_or(&keys)).await
            }
            Trust::Status { keys } => status(&client, global, &keys.open(global)?).await,
        }
    }
}

/// Makes keys that are for development only, and the repository, unless there is one.
pub(super) async fn development(client: &Client, folder: &std::path::Path) -> Result<(), CliError> {
    let view: TrustView = client.get("trust").await?;
    if !view.roles.is_empty() {
        return Ok(());
    }
    let keys = TrustKeys::new(folder.to_owned(), None);
    keys.make_development()?;
    init(client, &keys, DEVELOPMENT_SECONDS, DEVELOPMENT_SECONDS, true).await?;
    say(&format!(
        "made a DEVELOPMENT root of trust in {}: its passphrase lies beside it, so anyone with this folder can sign. \
         For real devices see docs/guides/trust.md.",
        folder.display()
    ));
    Ok(())
}

/// Signs a version with the development keys; where people have put their own in place, they sign it themselves.
pub(super) async fn sign_in_development(
    client: &Client,
    folder: &std::path::Path,
    version: &ModelVersionView,
) -> Result<(), CliError> {
    let keys = TrustKeys::new(folder.to_owned(), None);
    if !keys.has_root() || !is_development(verified(client, &keys).await?.root()) {
        return Ok(());
    }
    sign_models(client, &keys, std::slice::from_ref(version), &[], DEVELOPMENT_SECONDS).await
}

fn from_now(seconds: u64) -> Expires {
    let now = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
    Expires::at(Micros(now).plus_seconds(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::from(anyhow::Error::from(error))
}

fn refused(error: &TrustError) -> CliError {
    CliError::failed(format!("the update repository is not believed: {error}"), "see docs/guides/trust.md")
}

async fn put(client: &Client, files: Vec<(&str, Vec<u8>)>) -> Result<TrustView, CliError> {
    let file = |(role, body): (&str, Vec<u8>)| {
        let body = String::from_utf8(body).map_err(|e| CliError::failed(e.to_string(), "this is a defect: please report it"))?;
        Ok(SignedFile { role: role.to_owned(), body })
    };
    let files = files.into_iter().map(file).collect::<Result<Vec<_>, CliError>>()?;
    client.json(client.request(Method::PUT, "trust").json(&PutTrust { files })).await
}

async fn init(client: &Client, keys: &TrustKeys, root_s: u64, targets_s: u64, development: bool) -> Result<(), CliError> {
    let view: TrustView = client.get("trust").await?;
    if let Some(root) = view.roles.iter().find(|role| role.role == "root") {
        return Err(CliError::failed(
            format!("this tenant has root version {} already", root.version),
            "replace its keys with `aidos trust rotate root` and `aidos trust rotate targets`",
        ));
    }
    if keys.has_root() {
        return Err(CliError::failed(
            format!("{} holds the keys of another repository", keys.folder().display()),
            "name another folder with --keys",
        ));
    }
    let passphrase = keys.passphrase(true)?;
    let (root_key, targets_key) = (keys.generate("root", &passphrase)?, keys.generate("targets", &passphrase)?);
    let one = |key: &Key| Role::of(vec![key.id()], 1);
    let (root_public, targets_public, online) = (root_key.public(), targets_key.public(), view.online_key);
    let roles = RootRoles::new(one(&root_public), one(&targets_public), one(&online));
    let mut root = Root::new(1, from_now(root_s), roles, [root_public, targets_public, online]);
    if development {
        root.extra.insert(DEVELOPMENT.into(), true.into());
    }
    let root = sign(&root, &[&root_key]).map_err(failed)?;
    let targets = sign(&Targets::new(1, from_now(targets_s)), &[&targets_key]).map_err(failed)?;
    put(client, vec![("root", root.clone()), ("targets", targets)]).await?;
    keys.keep_root(&root)
}

/// Walks from the root that is known here to the newest files.
async fn verified(client: &Client, keys: &TrustKeys) -> Result<Trusted, CliError> {
    let mut trusted = keys.root()?;
    let view: TrustView = client.get("trust").await?;
    let mut refresh = Refresh::default();
    while let Some(want) = refresh.want(&trusted, BEFORE_ANY_EXPIRY).map_err(|e| refused(&e))? {
        let bytes = fetch(client, &view, &want).await?;
        let answer = bytes.as_deref().map_or(Answer::Missing, Answer::Bytes);
        refresh.take(&mut trusted, answer, BEFORE_ANY_EXPIRY).map_err(|e| refused(&e))?;
    }
    if let Some((_, root)) = trusted.files().find(|(role, _)| *role == "root") {
        keys.keep_root(root)?;
    }
    Ok(trusted)
}

async fn fetch(client: &Client, view: &TrustView, want: &Want) -> Result<Option<Vec<u8>>, CliError> {
    // The control plane names the address by which devices reach it; this command has its own way there.
    let path = view.metadata_url.split_once("/api/v1/").map_or("", |(_, path)| path);
    let request = client.request(Method::GET, &format!("{path}{}", want.address));
    let mut response = request.send().await.map_err(failed)?;
    match response.status().as_u16() {
        404 => return Ok(None),
        200 => {}
        _ => return Err(crate::client::refusal(response).await),
    }
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > want.max_bytes {
            break;
        }
    }
    Ok(Some(bytes))
}

fn all(keys: &[SigningKey]) -> Vec<&SigningKey> {
    keys.iter().collect()
}

/// Signs targets with these versions in and out.
pub(super) async fn sign_models(
    client: &Client,
    keys: &TrustKeys,
    add: &[ModelVersionView],
    remove: &[ModelVersionView],
    expires_s: u64,
) -> Result<(), CliError> {
    let trusted = verified(client, keys).await?;
    let mut targets = trusted.targets().cloned().unwrap_or_else(|| Targets::new(0, from_now(expires_s)));
    let target = |version: &ModelVersionView| ModelTarget::original(version.model.clone(), version.version);
    for version in add {
        let model = target(version);
        targets.targets.insert(model.path(), model.target(version.digest, version.size));
    }
    for version in remove {
        let path = target(version).path();
        if targets.targets.remove(&path).is_none() {
            return Err(CliError::Usage(format!("{}@{} is not signed", version.model, version.version)));
        }
    }
    (targets.version, targets.expires) = (targets.version + 1, from_now(expires_s));
    let signers = keys.open("targets", &trusted.root().roles.targets, &keys.passphrase(false)?)?;
    put(client, vec![("targets", sign(&targets, &all(&signers)).map_err(failed)?)]).await.map(drop)
}

async fn rotate(
    client: &Client,
    keys: &TrustKeys,
    into: Option<&TrustKeys>,
    what: What,
    root_s: u64,
    targets_s: u64,
) -> Result<(), CliError> {
    let trusted = verified(client, keys).await?;
    let mut root = trusted.root().clone();
    let passphrase = keys.passphrase(false)?;
    let mut signers = keys.open("root", &root.roles.root, &passphrase)?;
    let mut targets_file = None;
    match what {
        What::Root => {
            let key = match into {
                Some(into) => into.generate("root", &into.passphrase(true)?)?,
                None => keys.generate("root", &passphrase)?,
            };
            root.keys.insert(key.id(), key.public());
            root.roles.root = Role::of(vec![key.id()], 1);
            // The old keys prove the new one to devices.
            signers.push(key);
            if into.is_some() {
                root.extra.remove(DEVELOPMENT);
            }
        }
        What::Targets => {
            let key = keys.generate("targets", &passphrase)?;
            root.keys.insert(key.id(), key.public());
            root.roles.targets = Role::of(vec![key.id()], 1);
            let mut targets = trusted.targets().cloned().unwrap_or_else(|| Targets::new(0, from_now(targets_s)));
            (targets.version, targets.expires) = (targets.version + 1, from_now(targets_s));
            targets_file = Some(sign(&targets, &[&key]).map_err(failed)?);
        }
        What::Online => {
            let view: TrustView = client.get("trust").await?;
            let online = Role::of(vec![view.online_key.id()], 1);
            root.keys.insert(view.online_key.id(), view.online_key);
            (root.roles.snapshot, root.roles.timestamp) = (online.clone(), online);
        }
        What::Date => {}
    }
    let roles = &root.roles;
    let used = [&roles.root, &roles.targets, &roles.snapshot, &roles.timestamp].map(|role| role.keyids.clone()).concat();
    root.keys.retain(|id, _| used.contains(id));
    (root.version, root.expires) = (root.version + 1, from_now(root_s));
    let root = sign(&root, &all(&signers)).map_err(failed)?;
    let files = [Some(("root", root.clone())), targets_file.map(|file| ("targets", file))].into_iter().flatten().collect();
    put(client, files).await?;
    into.map_or(Ok(()), |into| into.keep_root(&root))?;
    keys.keep_root(&root)
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
    output::list(global.output, &view.roles)
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
