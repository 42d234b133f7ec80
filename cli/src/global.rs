//! The flags that every command takes.

use crate::output::Format;
use clap::{ArgAction, Args};
use std::path::PathBuf;

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// How to print results
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Which control plane to speak to, of those in `aidos context list`
    #[arg(long, global = true, env = "AIDOS_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Base URL of the control plane's API; goes with --api-key
    #[arg(long, global = true, env = "AIDOS_URL", value_name = "URL", requires = "api_key")]
    pub(crate) url: Option<String>,
    /// API key; better given by the environment than typed
    #[arg(long, global = true, env = "AIDOS_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// PEM file of the control plane's CA; goes with --url
    #[arg(long, global = true, env = "AIDOS_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Folder of this machine's control plane and agent [default: $XDG_DATA_HOME/aidos]
    #[arg(long, global = true, env = "AIDOS_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Allow plain HTTP beyond this machine: only where a trusted network or a proxy protects it
    #[arg(long, global = true)]
    pub(crate) insecure_http: bool,
    /// Results only: no progress, no notes
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// More log lines on standard error; twice for debugging
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}
