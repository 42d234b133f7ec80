//! What can be set on an agent, its defaults and its checks. Order of precedence: flags, environment, file, defaults.
//!
//! Nothing secret is ever in it: keys and certificates have their own files (`identity`).

use crate::neighbours;
use crate::observe::telemetry;
use crate::state::SpoolLimits;
use crate::update::HouseRules;
use aidos_protocol::settings;
use etcetera::BaseStrategy as _;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or says something that there is not.
    #[error("{path} is not valid: {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A value out of its range.
    #[error("{setting}: {why}")]
    Value {
        /// The setting's name in the file.
        setting: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// There is no home directory to keep state in.
    #[error("there is no home directory to keep the agent's state in; choose a folder with --data-dir")]
    NoHome,
}

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the agent keeps all of its state. Empty: `aidos/agent` in the user's data directory.
    pub data_dir: PathBuf,
    /// The inference API.
    pub serve: Serve,
    /// Telemetry.
    pub telemetry: Telemetry,
    /// Artifacts.
    pub storage: Storage,
    /// The link to the control plane.
    pub link: Link,
    /// Other agents of the same site.
    pub neighbours: Neighbours,
    /// The log.
    pub log: Log,
    /// The agent's own updates.
    pub update: Update,
}

/// The inference API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serve {
    /// Address and port; port 0 takes a free one, which `run.json` in the data directory tells.
    pub address: SocketAddr,
    /// Whether an address beyond loopback is taken, although the API is plain HTTP without a login.
    pub allow_remote_http: bool,
}

/// Telemetry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Seconds between samples until intent says otherwise.
    pub interval_s: u64,
    /// Bytes of samples that may wait for a link.
    pub spool_bytes: u64,
    /// Days after which waiting samples are dropped.
    pub spool_days: u64,
}

/// Artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Bytes of models on disk.
    pub max_bytes: u64,
    /// Bytes per second of the line that artifacts may take, all together; 0: all of it.
    pub download_bytes_per_s: u64,
}

/// The link to the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Saves data and battery at the price of slower news: no keepalive between the plane's own.
    pub constrained: bool,
}

/// Other agents of the same site, with which fetched models are shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Neighbours {
    /// Whether models are shared at all. Absent: only when `peers` or `mdns` is set, because sharing opens a port towards the
    /// network around the device, which nobody should find open unasked.
    pub enabled: Option<bool>,
    /// Where neighbours are served.
    pub listen: SocketAddr,
    /// Whether to look for neighbours, and to be found, by mDNS. Absent: when there are no `peers`.
    pub mdns: Option<bool>,
    /// Neighbours to ask, `host:port`; this device may be among them, so that a site can have one list.
    pub peers: Vec<String>,
    /// Bytes per second that are sent to neighbours, all together.
    pub upload_bytes_per_s: u64,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,aidos_agent::link=debug`.
    pub level: String,
    /// One JSON object per line, for collectors.
    pub json: bool,
}

/// Updates of the agent and of its models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// Seconds that a new version of the agent must be in touch with the control plane before it counts as healthy.
    pub healthy_after_s: u64,
    /// Percent of the battery below which no update goes on, whatever the rollout says; 0: no bound.
    pub min_battery_percent: u64,
    /// Degrees Celsius of the hottest sensor above which no update goes on; 0: no bound.
    pub max_temperature_c: u64,
}

impl Default for Serve {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 7080)), allow_remote_http: false }
    }
}
impl Default for Telemetry {
    fn default() -> Self {
        let limits = SpoolLimits::default();
        Self { interval_s: telemetry::DEFAULT_INTERVAL_S, spool_bytes: limits.bytes, spool_days: limits.age_s / 86_400 }
    }
}
impl Default for Storage {
    /// 8 GiB: twice the largest artifact, so that a new version fits beside the old one.
    fn default() -> Self {
        Self { max_bytes: 8 << 30, download_bytes_per_s: 0 }
    }
}
impl Default for Neighbours {
    /// 32 MiB/s: a quarter of a gigabit network, so that sharing leaves room for what the network is there for.
    fn default() -> Self {
        let listen = SocketAddr::from(([0, 0, 0, 0], 7081));
        Self { enabled: None, listen, mdns: None, peers: Vec::new(), upload_bytes_per_s: 32 << 20 }
    }
}
impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), json: false }
    }
}

impl Update {
    /// What holds for every update on this device.
    pub fn house_rules(&self) -> HouseRules {
        HouseRules { min_battery_percent: self.min_battery_percent, max_temperature_c: self.max_temperature_c }
    }
}

impl Default for Update {
    /// Five minutes: what leaks or deadlocks under the everyday load mostly does so by then.
    fn default() -> Self {
        Self { healthy_after_s: 300, min_battery_percent: 0, max_temperature_c: 0 }
    }
}

impl Config {
    /// Reads `file`, or the defaults when there is none.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = file else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// Fills in what depends on the machine and checks every range. Call it once, after flags have been applied.
    pub fn check(mut self) -> Result<Self, ConfigError> {
        let fail = |setting, why: String| Err(ConfigError::Value { setting, why });
        if self.data_dir.as_os_str().is_empty() {
            self.data_dir = default_data_dir()?;
        }
        if !self.serve.address.ip().is_loopback() && !self.serve.allow_remote_http {
            let why = "the inference API is plain HTTP without a login, so only loopback is taken; \
                       set `serve.allow_remote_http = true` (--allow-remote-http) if the network around it is trusted";
            return fail("serve.address", format!("{}: {why}", self.serve.address));
        }
        if !telemetry::INTERVAL_S.contains(&self.telemetry.interval_s) {
            let (least, most) = telemetry::INTERVAL_S.into_inner();
            return fail("telemetry.interval_s", format!("{}: use {least} to {most} seconds", self.telemetry.interval_s));
        }
        if !settings::SPOOL_BYTES.contains(&self.telemetry.spool_bytes) {
            return fail("telemetry.spool_bytes", format!("{}: use 64 KiB to 16 GiB", self.telemetry.spool_bytes));
        }
        if !settings::SPOOL_DAYS.contains(&self.telemetry.spool_days) {
            return fail("telemetry.spool_days", format!("{}: use 1 to 3650", self.telemetry.spool_days));
        }
        if self.storage.max_bytes < *settings::STORAGE_BYTES.start() {
            return fail("storage.max_bytes", format!("{}: use at least 1 MiB", self.storage.max_bytes));
        }
        let rate = self.storage.download_bytes_per_s;
        if rate != 0 && !settings::DOWNLOAD_BYTES_PER_S.contains(&rate) {
            return fail("storage.download_bytes_per_s", format!("{rate}: use 4 KiB to 10 GiB a second, or 0 for no bound"));
        }
        if !settings::HEALTHY_AFTER_S.contains(&self.update.healthy_after_s) {
            let (least, most) = settings::HEALTHY_AFTER_S.into_inner();
            return fail("update.healthy_after_s", format!("{}: use {least} to {most} seconds", self.update.healthy_after_s));
        }
        for (setting, value, range) in [
            ("update.min_battery_percent", self.update.min_battery_percent, settings::MIN_BATTERY_PERCENT),
            ("update.max_temperature_c", self.update.max_temperature_c, settings::MAX_TEMPERATURE_C),
        ] {
            if !range.contains(&value) {
                return fail(setting, format!("{value}: use at most {}, or 0 for no bound", range.end()));
            }
        }
        if let Err((setting, why)) = self.neighbours.check() {
            return fail(setting, why);
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log.level) {
            return fail("log.level", format!("`{}`: {error}; use error, warn, info, debug or trace", self.log.level));
        }
        Ok(self)
    }

    /// The spool's limits.
    pub fn spool_limits(&self) -> SpoolLimits {
        let defaults = SpoolLimits::default();
        SpoolLimits { bytes: self.telemetry.spool_bytes, age_s: self.telemetry.spool_days * 86_400, ..defaults }
    }
}

impl Neighbours {
    /// What neighbours are used with; `None`: they are not.
    pub fn settings(&self) -> Option<neighbours::Settings> {
        let enabled = self.enabled.unwrap_or(!self.peers.is_empty() || self.mdns == Some(true));
        enabled.then(|| neighbours::Settings {
            peers: self.peers.clone(),
            mdns: self.mdns.unwrap_or(self.peers.is_empty()),
            upload_bytes_per_s: self.upload_bytes_per_s,
        })
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let is_address = |peer: &str| {
            peer.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
        };
        if let Some(peer) = self.peers.iter().find(|peer| !is_address(peer)) {
            return Err(("neighbours.peers", format!("`{peer}`: write host:port, such as 10.0.0.2:7081")));
        }
        if self.peers.len() > neighbours::MOST_PEERS {
            let why = format!("{} addresses: at most {} are used", self.peers.len(), neighbours::MOST_PEERS);
            return Err(("neighbours.peers", why));
        }
        if !(64 << 10..=10 << 30).contains(&self.upload_bytes_per_s) {
            let why = format!("{}: use 64 KiB to 10 GiB a second", self.upload_bytes_per_s);
            return Err(("neighbours.upload_bytes_per_s", why));
        }
        Ok(())
    }
}

fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let base = etcetera::choose_base_strategy().map_err(|_| ConfigError::NoHome)?;
    Ok(base.data_dir().join("aidos/agent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_valid_and_listen_on_loopback_only() {
        let config = parse("data_dir = '/x'").unwrap();
        assert!(config.serve.address.ip().is_loopback());
        assert_eq!((config.serve.address.port(), config.telemetry.interval_s), (7080, 10));
    }

    #[test]
    fn plain_http_beyond_loopback_needs_an_explicit_word() {
        let error = parse("[serve]\naddress = '0.0.0.0:7080'").unwrap_err();
        assert!(error.contains("allow_remote_http"), "{error}");
        assert!(parse("data_dir = '/x'\n[serve]\naddress = '0.0.0.0:0'\nallow_remote_http = true").is_ok());
    }

    #[test]
    fn a_misspelt_setting_and_a_value_out_of_range_are_named() {
        assert!(parse("[serv]\n").unwrap_err().contains("serv"));
        assert!(parse("[telemetry]\ninterval_s = 0").unwrap_err().contains("1 to 3600"));
        assert!(parse("[log]\nlevel = 'a=b=c'").unwrap_err().contains("use error, warn"));
        assert!(parse("[storage]\nmax_bytes = 5").unwrap_err().contains("at least"));
    }

    #[test]
    fn neighbours_are_off_until_they_are_configured_and_can_be_switched() {
        let settings = |text: &str| parse(&format!("data_dir = '/x'\n[neighbours]\n{text}")).unwrap().neighbours.settings();
        assert_eq!(settings(""), None);
        assert_eq!(settings("enabled = false\npeers = ['10.0.0.2:7081']"), None);
        assert!(settings("peers = ['10.0.0.2:7081']").is_some_and(|settings| !settings.mdns));
        assert!(settings("enabled = true").is_some_and(|settings| settings.mdns));
        for bad in ["peers = ['10.0.0.2']", "peers = [':7081']", "peers = ['h:0']", "upload_bytes_per_s = 5"] {
            assert!(parse(&format!("data_dir = '/x'\n[neighbours]\n{bad}")).unwrap_err().contains("neighbours."), "{bad}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        assert!(Config::load(Some(Path::new("/nowhere/agent.toml"))).unwrap_err().to_string().contains("/nowhere/agent.toml"));
    }
}
