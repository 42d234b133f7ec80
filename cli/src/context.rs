//! Which control plane a command speaks to, and with which key.
//!
//! In this order: flags (`--url`, `--api-key`), the environment (`AIDOS_URL`, `AIDOS_API_KEY`), the context named by `--context` or
//! chosen with `aidos context use`, and the control plane that `aidos up` runs on this machine. So that the first command after
//! `aidos up` needs no login at all.

use crate::CliError;
use crate::global::Global;
use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A control plane and the key to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Context {
    /// Base URL of the API.
    pub(crate) url: String,
    /// API key; kept in a file that only its owner reads.
    pub(crate) api_key: String,
    /// PEM of the CA to trust, where the control plane has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_pem: Option<String>,
    /// Whether a person has said that the key may go there unencrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) insecure_http: bool,
}

impl Context {
    fn allowing(mut self, insecure_http: bool) -> Self {
        self.insecure_http |= insecure_http;
        self
    }
}

/// `~/.config/aidos/contexts.toml`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Contexts {
    /// The one in use.
    #[serde(default)]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Where the file lies.
    pub(crate) fn path() -> Result<PathBuf, CliError> {
        if let Some(path) = std::env::var_os("AIDOS_CONTEXTS") {
            return Ok(path.into());
        }
        Ok(base()?.config_dir().join("aidos/contexts.toml"))
    }

    /// Reads the file; none is the same as an empty one.
    pub(crate) fn load() -> Result<Self, CliError> {
        let path = Self::path()?;
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|e| {
                CliError::failed(format!("{} is not valid: {e}", path.display()), "mend it, or remove it and log in again")
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(CliError::failed(format!("{}: {e}", path.display()), "make the file readable for you")),
        }
    }

    /// Writes the file, readable by its owner alone.
    pub(crate) fn save(&self) -> Result<(), CliError> {
        let path = Self::path()?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let temporary = path.with_extension("new");
        let text = toml::to_string(self).map_err(anyhow::Error::from)?;
        let written = (|| {
            std::fs::create_dir_all(folder)?;
            // A left-over of a crash may have other permissions.
            let _ = std::fs::remove_file(&temporary);
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        })();
        written.map_err(|e: std::io::Error| {
            CliError::failed(
                format!("{}: {e}", path.display()),
                "make its folder writable for you, or name another file with AIDOS_CONTEXTS",
            )
        })
    }
}

/// Reads the certificate of a CA.
pub(crate) fn read_ca(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|e| {
        CliError::Usage(format!(
            "{}: {e}; name the PEM file of the control plane's CA, which is at /api/v1/ca.pem there",
            path.display()
        ))
    })
}

/// Finds the control plane for this call.
pub(crate) fn resolve(global: &Global) -> Result<Context, CliError> {
    if let (Some(url), Some(api_key)) = (&global.url, &global.api_key) {
        let ca_pem = global.ca.as_deref().map(read_ca).transpose()?;
        return Ok(Context {
            url: url.trim_end_matches('/').to_owned(),
            api_key: api_key.clone(),
            ca_pem,
            insecure_http: global.insecure_http,
        });
    }
    let contexts = Contexts::load()?;
    if let Some(name) = global.context.as_ref().or(contexts.current.as_ref()) {
        let known = match contexts.contexts.is_empty() {
            true => "there is none yet".to_owned(),
            false => format!("there are: {}", contexts.contexts.keys().cloned().collect::<Vec<_>>().join(", ")),
        };
        let context = contexts.contexts.get(name).cloned();
        let none = || CliError::Usage(format!("there is no context `{name}`; {known}. Add it with `aidos login`"));
        return context.map(|context| context.allowing(global.insecure_http)).ok_or_else(none);
    }
    local(&data_dir(global)?)
}

/// What `aidos up` left about the control plane on this machine.
pub(crate) fn local(data_dir: &Path) -> Result<Context, CliError> {
    #[derive(Deserialize)]
    struct Run {
        api: String,
    }
    let folder = data_dir.join("control-plane");
    let none = |what: &Path| {
        CliError::failed(
            format!("no control plane is known: {} is not there", what.display()),
            "start one with `aidos up`, or name one with `aidos login <url>`",
        )
    };
    let run = folder.join("run.json");
    let damaged =
        |e| CliError::failed(format!("{}: {e}", run.display()), "stop the control plane and start it again with `aidos up`");
    let run: Run = serde_json::from_slice(&std::fs::read(&run).map_err(|_| none(&run))?).map_err(damaged)?;
    let key = folder.join("owner.key");
    let api_key = std::fs::read_to_string(&key).map_err(|_| none(&key))?.trim().to_owned();
    let ca_pem = std::fs::read_to_string(folder.join("pki/ca.pem")).ok();
    Ok(Context { url: run.api, api_key, ca_pem, insecure_http: false })
}

/// The folder that `aidos up` keeps everything in: `--data-dir`, else `$XDG_DATA_HOME/aidos`.
pub(crate) fn data_dir(global: &Global) -> Result<PathBuf, CliError> {
    if let Some(folder) = &global.data_dir {
        return Ok(folder.clone());
    }
    Ok(base()?.data_dir().join("aidos"))
}

/// The folders of the XDG base directory specification.
fn base() -> Result<impl BaseStrategy, CliError> {
    etcetera::choose_base_strategy().map_err(|_| CliError::Usage("there is no home folder: name a folder with --data-dir".into()))
}
