//! A control plane and its agents as real processes in a temporary folder.

use crate::{Api, Process, TcpRelay, UdpRelay, binary};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Above the slowest thing that is waited for: a link on MQTT probes QUIC again after a minute. A test that hits it has failed,
/// not been slow.
const LIMIT: Duration = Duration::from_secs(150);

/// Polls `check` until it gives a value; panics with `what` after minutes. For states that only a request can tell.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "did not happen within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How a control plane is set up; the default is SQLite, a local folder and the embedded MQTT listener.
#[derive(Default, Clone)]
pub struct FleetOptions {
    /// A Postgres server to make a database on.
    pub postgres: Option<String>,
    /// A bucket for the artifacts.
    pub s3: Option<Bucket>,
    /// An MQTT broker instead of the embedded listener, as `mqtts://host:port`; QUIC is off then.
    pub broker: Option<String>,
    /// Let agents reach QUIC through a relay that can be cut.
    pub relay: bool,
    /// Let agents reach the API, where artifacts come from, through a relay that can be held.
    pub api_relay: bool,
    /// Where agents are told that the API is, from the next start on: a line of the test's own.
    pub public_url: Option<String>,
    /// No QUIC: every link is MQTT.
    pub mqtt_only: bool,
}

/// A bucket of an S3 server that takes any credentials.
#[derive(Clone)]
pub struct Bucket {
    /// URL of the server.
    pub endpoint: String,
    /// The bucket's name.
    pub name: String,
    /// Whether devices fetch from the server itself, by addresses that it signs.
    pub presign: bool,
}

impl Bucket {
    fn to_toml(&self) -> String {
        format!(
            "[s3]\nbucket = \"{}\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\naccess_key_id = \"test\"\n\
             secret_access_key = \"test\"\nallow_http = true\npresign = {}\n",
            self.name, self.endpoint, self.presign
        )
    }
}

/// A control plane. Dropping kills it and everything in its folder.
pub struct Fleet {
    folder: tempfile::TempDir,
    options: FleetOptions,
    process: Option<Process>,
    /// The API with the first owner's key.
    pub api: Api,
    /// The QUIC relay, where asked for.
    pub relay: Option<UdpRelay>,
    /// The API's relay, where asked for.
    pub api_relay: Option<TcpRelay>,
    ports: Ports,
}

/// Where a control plane listens, kept over restarts.
#[derive(Clone, Copy)]
struct Ports {
    api: u16,
    quic: u16,
    mqtt: u16,
}

/// A free TCP port, which is free for UDP most likely, too. Another process may take it before it is used, which then fails with
/// a clear message.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

impl Fleet {
    /// Starts a control plane with the defaults.
    pub async fn start() -> Self {
        Self::with(FleetOptions::default()).await
    }

    /// Starts a control plane.
    pub async fn with(options: FleetOptions) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let ports = Ports { api: free_port(), quic: free_port(), mqtt: free_port() };
        let relay = match options.relay {
            true => Some(UdpRelay::start(SocketAddr::from(([127, 0, 0, 1], ports.quic))).await),
            false => None,
        };
        let api_relay = match options.api_relay {
            true => Some(TcpRelay::start(SocketAddr::from(([127, 0, 0, 1], ports.api))).await),
            false => None,
        };
        let api = Api::new(&format!("http://127.0.0.1:{}", ports.api), "");
        let mut fleet = Self { folder, options, process: None, api, relay, api_relay, ports };
        fleet.start_control_plane().await;
        let key =
            std::fs::read_to_string(fleet.control_plane_dir().join("owner.key")).expect("the first start writes the owner's key");
        fleet.api = fleet.api.with_key(key.trim());
        fleet
    }

    /// Starts the control plane (again) and waits until it is ready.
    pub async fn start_control_plane(&mut self) {
        let mut command = Command::new(binary("aidos-control-plane"));
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.control_plane_dir())
            .args(["--listen", &format!("127.0.0.1:{}", self.ports.api)])
            .args(["--log-format", "human"]);
        match &self.options.broker {
            Some(broker) => command.args(["--mqtt-broker", broker, "--quic", "off"]),
            None => {
                let quic = if self.options.mqtt_only { "off".into() } else { format!("127.0.0.1:{}", self.ports.quic) };
                command.args(["--quic", &quic]).args(["--mqtt", &format!("127.0.0.1:{}", self.ports.mqtt)])
            }
        };
        if let Some(relay) = &self.relay {
            command.args(["--public-quic", &relay.address().to_string()]);
        }
        if let Some(relay) = &self.api_relay {
            command.args(["--public-url", &format!("http://{}", relay.address())]);
        }
        if let Some(url) = &self.options.public_url {
            command.args(["--public-url", url]);
        }
        if let Some(url) = &self.options.postgres {
            command.args(["--database", url]);
        }
        if let Some(bucket) = &self.options.s3 {
            let file = self.folder.path().join("control-plane.toml");
            std::fs::write(&file, bucket.to_toml()).expect("the test's folder is writable");
            command.arg("--config").arg(file);
        }
        self.process = Some(Process::start("control-plane", command, self.folder.path()));
        let ready = format!("{}/readyz", self.api.url());
        eventually("the control plane is ready", async || {
            let process = self.process.as_mut().expect("just started");
            assert!(process.is_running(), "the control plane ended:\n{}", process.log());
            reqwest::get(&ready).await.ok().filter(|r| r.status().is_success()).map(drop)
        })
        .await;
    }

    /// How the next start sets the control plane up.
    pub fn options(&mut self) -> &mut FleetOptions {
        &mut self.options
    }

    /// The control plane's process.
    pub fn control_plane(&mut self) -> &mut Process {
        self.process.as_mut().expect("the control plane was started")
    }

    /// The test's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The control plane's data folder.
    pub fn control_plane_dir(&self) -> PathBuf {
        self.folder.path().join("control-plane")
    }

    /// A join token that gives `labels`.
    pub async fn token(&self, labels: &Value) -> String {
        let created = self.api.post("tokens", &serde_json::json!({ "uses": 10, "labels": labels })).await;
        created["token"].as_str().expect("a created token has its text").to_owned()
    }

    /// Joins and starts a device.
    pub async fn agent(&self, name: &str, labels: &Value) -> Agent {
        let token = self.token(labels).await;
        self.agent_with_token(name, &token).await
    }

    /// Joins and starts a device with a configuration file of its own.
    pub async fn agent_with_config(&self, name: &str, labels: &Value, config: &Path) -> Agent {
        let token = self.token(labels).await;
        let mut agent = self.joined(name, &token, &self.folder.path().join(name));
        agent.config = Some(config.to_owned());
        agent.start().await;
        agent
    }

    /// Joins and starts a device with a token, of whichever tenant.
    pub async fn agent_with_token(&self, name: &str, token: &str) -> Agent {
        let mut agent = self.joined(name, token, &self.folder.path().join(name));
        agent.start().await;
        agent
    }

    /// Joins a device whose state lies in `dir`, and does not start it.
    pub fn joined(&self, name: &str, token: &str, dir: &Path) -> Agent {
        let joined = Command::new(binary("aidos-agent"))
            .args(["join", self.api.url(), "--token", token, "--name", name, "--data-dir"])
            .arg(dir)
            .output()
            .expect("the agent starts");
        assert!(joined.status.success(), "join failed: {}", String::from_utf8_lossy(&joined.stderr));
        Agent {
            name: name.to_owned(),
            dir: dir.to_owned(),
            process: None,
            url: String::new(),
            folder: self.folder.path().to_owned(),
            environment: Vec::new(),
            memory: None,
            config: None,
        }
    }

    /// Runs `aidos` against this control plane.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("aidos starts")
    }

    /// `aidos` against this control plane, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("aidos"));
        command
            .args(arguments)
            .env("AIDOS_DATA_DIR", self.folder.path())
            .env("AIDOS_CONTEXTS", self.folder.path().join("contexts.toml"))
            .env("NO_COLOR", "1");
        command
    }

    /// The device that has this name, once there is one with the wanted state.
    pub async fn device(&self, name: &str, state: &str) -> Value {
        eventually(&format!("device {name} is {state}"), async || {
            let devices = self.api.get("devices").await;
            devices["items"].as_array()?.iter().find(|d| d["name"] == name && d["state"] == state).cloned()
        })
        .await
    }

    /// Registers a model file, and gives its digest.
    pub async fn push(&self, name: &str, file: &Path) -> Value {
        let out = self.cli(&["model", "push", &file.to_string_lossy(), "--name", name, "-o", "json"]);
        assert!(out.status.success(), "push of {name} failed: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("-o json prints JSON")
    }

    /// Deploys and waits until every device that matches and is connected runs it.
    pub async fn deploy(&self, model: &str, selector: &str) -> Value {
        let out = self.cli(&["deploy", model, "--to", selector, "--wait", "--timeout", "60s", "-o", "json"]);
        assert!(out.status.success(), "deploy of {model} failed: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("-o json prints JSON")
    }
}

/// A device. Dropping kills it.
pub struct Agent {
    name: String,
    /// Its data folder.
    pub dir: PathBuf,
    /// Its running process.
    pub process: Option<Process>,
    /// Its inference API.
    pub url: String,
    /// What its environment has beside this process's, from its next start.
    pub environment: Vec<(String, String)>,
    /// Bytes of memory that it may have of its own, from its next start; absent: any.
    pub memory: Option<u64>,
    folder: PathBuf,
    config: Option<PathBuf>,
}

impl Agent {
    /// Starts the agent (again) and waits until its inference API is ready.
    pub async fn start(&mut self) {
        self.spawn();
        self.serves().await;
    }

    /// Starts the agent (again), whatever becomes of it.
    pub fn spawn(&mut self) {
        let _ = std::fs::remove_file(self.dir.join("run.json"));
        let mut command = match self.memory {
            None => Command::new(binary("aidos-agent")),
            Some(bytes) => {
                let mut limited = Command::new("prlimit");
                limited.arg(format!("--data={bytes}")).arg(binary("aidos-agent"));
                limited
            }
        };
        command.args(["run", "--serve", "127.0.0.1:0", "--data-dir"]).arg(&self.dir).envs(self.environment.iter().cloned());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        self.process = Some(Process::start(&self.name, command, &self.folder));
    }

    /// Waits until its inference API is ready.
    pub async fn serves(&mut self) {
        self.url = eventually("the agent serves", async || {
            let process = self.process.as_mut().expect("just started");
            assert!(process.is_running(), "the agent ended:\n{}", process.log());
            let run: Value = serde_json::from_slice(&std::fs::read(self.dir.join("run.json")).ok()?).ok()?;
            let url = format!("http://{}", run["serve_addr"].as_str()?);
            reqwest::get(format!("{url}/v2/health/live")).await.ok().filter(|r| r.status().is_success()).map(|_| url)
        })
        .await;
    }

    /// The agent's process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent was started")
    }

    /// Runs `aidos-agent` as the person at the site.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        Command::new(binary("aidos-agent")).args(arguments).arg("--data-dir").arg(&self.dir).output().expect("aidos-agent starts")
    }

    /// Runs `aidos predict` against this device's own API.
    pub fn predict(&self, model: &str, input: &Path) -> Output {
        Command::new(binary("aidos"))
            .args(["predict", model, "--agent-url", &self.url, "--input"])
            .arg(input)
            .output()
            .expect("aidos starts")
    }
}
