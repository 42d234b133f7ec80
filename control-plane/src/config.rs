//! What can be set, its defaults and its checks. A flag wins over the environment (`AIDOS_…`), that over the TOML file, that
//! over the default. Reading the configuration must never open a socket or write a file.

pub use crate::platform::objects::S3Config;

use etcetera::BaseStrategy as _;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The API's and the QUIC link's port, TCP and UDP.
const PORT: u16 = 7070;
/// MQTT over TLS.
const MQTT_PORT: u16 = 8883;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or holds what is not known.
    #[error("{path}: {source}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be used; the text says what to do.
    #[error("{0}")]
    Value(String),
}

/// Where a link listens, or that it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// At this address; port 0 takes any.
    At(SocketAddr),
    /// Not at all.
    Off,
}

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| format!("`{text}` is neither `off` nor an address such as 0.0.0.0:{PORT}"))
    }
}
impl TryFrom<String> for Listen {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// How the API is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiSecurity {
    /// Plain HTTP: on loopback, or where a person said so.
    Plain,
    /// TLS with a certificate of this deployment's own CA.
    Own,
    /// TLS with a certificate from elsewhere.
    Files {
        /// PEM, the chain.
        certificate: PathBuf,
        /// PEM, PKCS #8 or SEC 1.
        key: PathBuf,
    },
}

/// The flags of `aidos-control-plane serve`; each may also stand in the file and in the environment.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// TOML file with any of these settings (dashes become underscores).
    #[arg(long, env = "AIDOS_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Folder for the database, keys and artifacts.
    #[arg(long, env = "AIDOS_CONTROL_PLANE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Name of the deployment, the trust domain of its certificates; it cannot be changed later [default: aidos].
    #[arg(long, env = "AIDOS_DEPLOYMENT")]
    pub deployment: Option<String>,
    /// Address of the REST API [default: 127.0.0.1:7070].
    #[arg(long, env = "AIDOS_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Address of the QUIC link, or `off` [default: 0.0.0.0:7070].
    #[arg(long, env = "AIDOS_QUIC")]
    pub quic: Option<Listen>,
    /// Address of the MQTT link, or `off` [default: 0.0.0.0:8883].
    #[arg(long, env = "AIDOS_MQTT")]
    pub mqtt: Option<Listen>,
    /// An MQTT broker to use instead of the built-in listener: mqtts://host:port.
    #[arg(long, env = "AIDOS_MQTT_BROKER")]
    pub mqtt_broker: Option<String>,
    /// PEM file with the CA of that broker's certificate, where it is not this deployment's own.
    #[arg(long, env = "AIDOS_MQTT_BROKER_CA")]
    pub mqtt_broker_ca: Option<PathBuf>,
    /// URL by which devices and people reach the API [default: from --listen].
    #[arg(long, env = "AIDOS_PUBLIC_URL")]
    pub public_url: Option<String>,
    /// host:port by which devices reach the QUIC link, where a router or proxy stands before it [default: from --quic].
    #[arg(long, env = "AIDOS_PUBLIC_QUIC")]
    pub public_quic: Option<String>,
    /// host:port by which devices reach the MQTT link, where a router or proxy stands before it [default: from --mqtt].
    #[arg(long, env = "AIDOS_PUBLIC_MQTT")]
    pub public_mqtt: Option<String>,
    /// Host name or address that certificates are made out to, beside localhost; repeat or separate with commas.
    #[arg(long = "name", env = "AIDOS_NAMES", value_delimiter = ',')]
    pub names: Vec<String>,
    /// Database: sqlite:///path or postgres://user:password@host/name [default: SQLite in the data folder].
    #[arg(long, env = "AIDOS_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// Serve the API with TLS, by a certificate of this deployment's own CA.
    #[arg(long, env = "AIDOS_TLS")]
    pub tls: bool,
    /// Serve the API with TLS, by this certificate chain (PEM); needs --tls-key.
    #[arg(long, env = "AIDOS_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert (PEM).
    #[arg(long, env = "AIDOS_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Serve plain HTTP also beyond loopback: only where a proxy in front does TLS.
    #[arg(long, env = "AIDOS_INSECURE_HTTP")]
    pub insecure_http: bool,
    /// Artifacts in an S3-compatible store; in the file only, as a table `[s3]`.
    #[arg(skip)]
    pub s3: Option<S3Config>,
}

/// All that the control plane needs to know, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder for the database, keys and artifacts.
    pub data_dir: PathBuf,
    /// Name of the deployment.
    pub deployment: String,
    /// Address of the API.
    pub listen: SocketAddr,
    /// How the API is protected.
    pub security: ApiSecurity,
    /// Address of the QUIC link.
    pub quic: Listen,
    /// Address of the MQTT link.
    pub mqtt: Listen,
    /// A broker instead of the MQTT link, and the file of its CA.
    pub broker: Option<(String, Option<PathBuf>)>,
    /// URL by which others reach the API, without a slash at its end.
    pub public_url: Option<String>,
    /// `host:port` by which devices reach the QUIC link; absent: from where it listens.
    pub public_quic: Option<String>,
    /// `host:port` by which devices reach the MQTT link; absent: from where it listens.
    pub public_mqtt: Option<String>,
    /// Names that certificates are made out to.
    pub names: Vec<String>,
    /// URL of the database; absent: SQLite in the data folder.
    pub database: Option<String>,
    /// Artifacts in S3; absent: in the data folder.
    pub s3: Option<S3Config>,
}

impl Settings {
    /// What the file says, where these settings say nothing.
    fn or(self, file: Settings) -> Settings {
        Settings {
            config: self.config,
            data_dir: self.data_dir.or(file.data_dir),
            deployment: self.deployment.or(file.deployment),
            listen: self.listen.or(file.listen),
            quic: self.quic.or(file.quic),
            mqtt: self.mqtt.or(file.mqtt),
            mqtt_broker: self.mqtt_broker.or(file.mqtt_broker),
            mqtt_broker_ca: self.mqtt_broker_ca.or(file.mqtt_broker_ca),
            public_url: self.public_url.or(file.public_url),
            public_quic: self.public_quic.or(file.public_quic),
            public_mqtt: self.public_mqtt.or(file.public_mqtt),
            names: if self.names.is_empty() { file.names } else { self.names },
            database: self.database.or(file.database),
            tls: self.tls || file.tls,
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            insecure_http: self.insecure_http || file.insecure_http,
            s3: self.s3.or(file.s3),
        }
    }

    /// Reads the file, fills in the defaults and checks the whole.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let all = match &self.config {
            Some(path) => {
                let file = read(path)?;
                self.or(file)
            }
            None => self,
        };
        let listen = all.listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        let security = match (all.tls_cert, all.tls_key) {
            (Some(certificate), Some(key)) => ApiSecurity::Files { certificate, key },
            (None, None) if all.tls => ApiSecurity::Own,
            (None, None) => ApiSecurity::Plain,
            _ => return Err(ConfigError::Value("--tls-cert and --tls-key belong together; give both".into())),
        };
        if security == ApiSecurity::Plain && !listen.ip().is_loopback() && !all.insecure_http {
            return Err(ConfigError::Value(format!(
                "plain HTTP on {listen} would send keys in the clear; use --tls (a certificate of this deployment's own CA), or \
                 --tls-cert with --tls-key, or --insecure-http where a proxy in front does TLS"
            )));
        }
        let public_url = all.public_url.map(|url| checked_url(&url)).transpose()?;
        let names = server_names(&all.names, public_url.as_deref(), listen.ip());
        let any = |port| Listen::At(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        let broker = all.mqtt_broker.map(|url| (url, all.mqtt_broker_ca));
        // A broker takes the listener's place unless both are asked for.
        let mqtt = all.mqtt.unwrap_or(if broker.is_some() { Listen::Off } else { any(MQTT_PORT) });
        Ok(Config {
            data_dir: all.data_dir.map_or_else(default_data_dir, Ok)?,
            deployment: all.deployment.unwrap_or_else(|| "aidos".into()),
            listen,
            security,
            quic: all.quic.unwrap_or(any(PORT)),
            mqtt,
            broker,
            public_url,
            public_quic: all.public_quic,
            public_mqtt: all.public_mqtt,
            names,
            database: all.database,
            s3: all.s3,
        })
    }
}

fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
}

fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let base = etcetera::choose_base_strategy();
    let base = base.map_err(|_| ConfigError::Value("there is no home folder; set --data-dir".into()))?;
    Ok(base.data_dir().join("aidos/control-plane"))
}

fn checked_url(url: &str) -> Result<String, ConfigError> {
    let url = url.trim_end_matches('/');
    match host_of(url) {
        Some(host) if !host.is_empty() => Ok(url.to_owned()),
        _ => Err(ConfigError::Value(format!("`{url}` is not a URL such as https://fleet.example.com"))),
    }
}

/// The host of an `http(s)` URL, without brackets.
pub(crate) fn host_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => authority.rsplit_once(':').map_or(Some(authority), |(host, _)| Some(host)),
    }
}

fn server_names(given: &[String], public_url: Option<&str>, listen: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let host = public_url.and_then(host_of).map(str::to_owned);
    let own = (!listen.is_unspecified()).then(|| listen.to_string());
    for name in given.iter().cloned().chain(host).chain(own) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_loopback_unless_a_person_says_otherwise() {
        let at = |text: &str| Settings { listen: Some(text.parse().unwrap()), ..Settings::default() };
        assert_eq!(at("127.0.0.1:0").resolve().unwrap().security, ApiSecurity::Plain);
        assert_eq!(at("[::1]:0").resolve().unwrap().security, ApiSecurity::Plain);
        let refused = at("0.0.0.0:7070").resolve().unwrap_err().to_string();
        for flag in ["--tls", "--tls-cert", "--insecure-http"] {
            assert!(refused.contains(flag), "{refused}");
        }
        assert!(Settings { insecure_http: true, ..at("0.0.0.0:0") }.resolve().is_ok());
        assert_eq!(Settings { tls: true, ..at("0.0.0.0:0") }.resolve().unwrap().security, ApiSecurity::Own);
        assert!(Settings { tls_cert: Some("x".into()), ..at("0.0.0.0:0") }.resolve().is_err());
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let text = "deployment = 'site'\nquic = 'off'\nnames = ['a.example']\n[s3]\nbucket = 'b'\nsecret_access_key = 'hush'\n";
        std::fs::write(&path, text).unwrap();
        let flags = Settings { config: Some(path.clone()), deployment: Some("flag".into()), ..Settings::default() };
        let config = flags.resolve().unwrap();
        assert_eq!((config.deployment.as_str(), config.quic), ("flag", Listen::Off));
        assert_eq!(config.mqtt, "0.0.0.0:8883".parse().unwrap());
        assert!(config.names.contains(&"a.example".to_owned()));
        assert!(!format!("{config:?}").contains("hush"));
        std::fs::write(&path, "lisen = 'x'\n").unwrap();
        let refused = Settings { config: Some(path), ..Settings::default() }.resolve().unwrap_err().to_string();
        assert!(refused.contains("lisen") && refused.contains("c.toml"), "{refused}");
        let missing = Settings { config: Some("/nonexistent/c.toml".into()), ..Settings::default() };
        assert!(missing.resolve().unwrap_err().to_string().contains("/nonexistent/c.toml"));
    }

    #[test]
    fn the_host_of_a_url_is_found_and_named_in_certificates() {
        assert_eq!(host_of("https://fleet.example.com:8443/x"), Some("fleet.example.com"));
        assert_eq!(host_of("http://[::1]:7070"), Some("::1"));
        assert_eq!(host_of("ftp://x"), None);
        let settings = Settings { public_url: Some("https://fleet.example.com/".into()), ..Settings::default() };
        let config = settings.resolve().unwrap();
        assert_eq!(config.public_url.as_deref(), Some("https://fleet.example.com"));
        assert!(config.names.contains(&"fleet.example.com".to_owned()));
        assert!(Settings { public_url: Some("fleet".into()), ..Settings::default() }.resolve().is_err());
    }
}
