//! `aidos up`: a control plane, one agent and a sample model on this machine, in one process.
//!
//! The agent joins with a token over the API, as any device does; nothing here reaches into either side.
//! Shutdown: the agent first, so that its last status still arrives, then the control plane.

use super::trust::Change;
use super::{deploy, model, trust};
use crate::client::Client;
use crate::context::{self, Context};
use crate::error::CliError;
use crate::global::Global;
use crate::output;
use crate::progress::say;
use aidos_agent::identity::{Identity, JoinOptions, join};
use aidos_agent::observe::Logging;
use aidos_agent::{assembly as agent, config as agent_config};
use aidos_control_plane::assembly as control_plane;
use aidos_control_plane::config::{Listen, Settings};
use aidos_protocol::api::deployments::{CreateDeployment, DeploymentView};
use aidos_protocol::api::models::ModelView;
use aidos_protocol::api::tokens::{CreateToken, CreatedToken};
use aidos_protocol::manifest::Manifest;
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The sample model, its manifest and its card, so that the binary needs nothing beside it.
const SAMPLE: &[u8] = include_bytes!("../../../models/digits/digits.onnx");
const SAMPLE_MANIFEST: &str = include_str!("../../../models/digits/model.toml");
const SAMPLE_CARD: &str = include_str!("../../../models/digits/README.md");
/// A first start loads and deploys 250 KB; minutes would mean that something is wrong.
const SAMPLE_LIMIT: Duration = Duration::from_secs(60);
/// The label of the local device, by which the sample finds it.
const LABEL: (&str, &str) = ("site", "local");

/// Start a control plane, one agent and a sample model on this machine.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Address of the API; port 0 takes any [default: 127.0.0.1:7070]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Address of the QUIC link, or `off` [default: 0.0.0.0:7070]
    #[arg(long)]
    quic: Option<Listen>,
    /// Address of the MQTT link, or `off` [default: 0.0.0.0:8883]
    #[arg(long)]
    mqtt: Option<Listen>,
    /// Address of the local agent's inference API [default: 127.0.0.1:7080]
    #[arg(long)]
    serve: Option<SocketAddr>,
    /// URL by which devices and people reach the API [default: from --listen]
    #[arg(long)]
    public_url: Option<String>,
    /// Host name or address that certificates are made out to; may be given more than once
    #[arg(long = "name")]
    names: Vec<String>,
    /// Serve the API with TLS, by a certificate of this deployment's own CA
    #[arg(long)]
    tls: bool,
    /// Serve the API with TLS, by this certificate chain (PEM); needs --tls-key
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Serve plain HTTP also beyond loopback: only where a proxy in front does TLS
    #[arg(long)]
    insecure_http: bool,
    /// TOML file with any setting of the control plane
    #[arg(long)]
    config: Option<PathBuf>,
    /// Leave the sample model out
    #[arg(long)]
    no_sample: bool,
}

impl Up {
    pub(super) async fn run(self, global: &Global, logging: Logging) -> Result<(), CliError> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let data_dir = context::data_dir(global)?;
        let local = Local { data_dir: data_dir.clone(), serve: self.serve, no_sample: self.no_sample, logging };
        let no_sample = self.no_sample;
        let config = self.settings(&data_dir).resolve().map_err(|e| CliError::Usage(e.to_string()))?;
        let (plane_stop, agent_stop) = (CancellationToken::new(), CancellationToken::new());
        let plane = Box::pin(control_plane::run(config, plane_stop.clone())).await?;
        let started = tokio::select! {
            started = Box::pin(start_agent(&plane, local, agent_stop.clone())) => started,
            _ = terminate.recv() => Err(interrupted()),
            _ = interrupt.recv() => Err(interrupted()),
        };
        let result = match started {
            Ok(agent) => {
                summary(&plane, &agent, &data_dir, no_sample)?;
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                say("stopping …");
                agent_stop.cancel();
                agent.join().await.map_err(failed)
            }
            Err(error) => {
                agent_stop.cancel();
                Err(error)
            }
        };
        plane_stop.cancel();
        plane.join().await;
        // An agent in this process has no launcher, so it ends only as it is told to.
        result.map(drop)
    }

    fn settings(self, data_dir: &Path) -> Settings {
        Settings {
            config: self.config,
            data_dir: Some(data_dir.join("control-plane")),
            listen: self.listen,
            quic: self.quic,
            mqtt: self.mqtt,
            public_url: self.public_url,
            names: self.names,
            tls: self.tls,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            insecure_http: self.insecure_http,
            ..Settings::default()
        }
    }
}

fn interrupted() -> CliError {
    CliError::failed("interrupted before everything was up", "run `aidos up` again: it goes on where it was")
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::from(anyhow::Error::from(error))
}

/// The agent on this machine.
struct Local {
    data_dir: PathBuf,
    serve: Option<SocketAddr>,
    no_sample: bool,
    logging: Logging,
}

/// Joins this machine on the first start, starts its agent, and brings the sample model to it.
async fn start_agent(plane: &control_plane::Running, local: Local, stop: CancellationToken) -> Result<agent::Running, CliError> {
    let api_key = std::fs::read_to_string(&plane.owner_key_path)?.trim().to_owned();
    let ca_pem = std::fs::read_to_string(plane.data_dir.join("pki/ca.pem")).ok();
    let client = Client::new(Context { url: plane.api_url.clone(), api_key, ca_pem })?;
    let mut config = agent_config::Config { data_dir: local.data_dir.join("agent"), ..agent_config::Config::default() };
    config.serve.address = local.serve.unwrap_or(config.serve.address);
    let config = config.check().map_err(|e| CliError::Usage(e.to_string()))?;
    let identity = agent::identity_dir(&config.data_dir);
    if Identity::load(&identity).map_err(failed)?.is_none() {
        say("joining this machine as the first device …");
        let wish = CreateToken { uses: 1, ttl_s: 600, labels: [(LABEL.0.into(), LABEL.1.into())].into() };
        let token: CreatedToken = client.post("tokens", &wish).await?;
        std::fs::create_dir_all(&config.data_dir)?;
        let options = JoinOptions {
            url: plane.api_url.clone(),
            token: token.token,
            name: hostname(),
            labels: Default::default(),
            dir: identity,
            insecure_http: false,
            force: false,
        };
        join(&options).await.map_err(failed)?;
    }
    let running = agent::run_with(config, local.logging, stop).await.map_err(failed)?;
    let keys = local.data_dir.join("trust");
    trust::development(&client, &keys).await?;
    if !local.no_sample {
        sample(&client, &keys).await?;
    }
    Ok(running)
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "local".into(), |name| name.trim().to_owned())
}

/// Registers the sample and deploys it here, unless a person has a model of that name already.
async fn sample(client: &Client, keys: &Path) -> Result<(), CliError> {
    let models: Vec<ModelView> = client.list("models", &[]).await?;
    let manifest = Manifest::from_toml(SAMPLE_MANIFEST).map_err(failed)?;
    let name = manifest.name.clone().unwrap_or_default().parse().map_err(failed)?;
    if models.iter().any(|model| model.name == name) {
        return Ok(());
    }
    say("registering and deploying the sample model …");
    let folder = std::env::temp_dir().join(format!("aidos-sample-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("digits.onnx");
    std::fs::write(&file, SAMPLE)?;
    let version = model::register(client, &file, &name, Some(manifest), None, Some(SAMPLE_CARD.to_owned()), Vec::new()).await;
    std::fs::remove_dir_all(&folder)?;
    let version = version?;
    trust::sign_in_development(client, keys, &Change::default().model(&version, None)).await?;
    let wish = CreateDeployment {
        subject: format!("{}@{}", version.model, version.version),
        selector: format!("{}={}", LABEL.0, LABEL.1),
    };
    let deployment: DeploymentView = client.post("deployments", &wish).await?;
    deploy::wait(client, deployment.id, SAMPLE_LIMIT).await.map(drop)
}

fn summary(plane: &control_plane::Running, agent: &agent::Running, data_dir: &Path, no_sample: bool) -> Result<(), CliError> {
    let link = |address: Option<SocketAddr>| address.map_or("off".into(), |a| a.to_string());
    output::line(&output::pairs(&[
        ("API", format!("{} (docs at {}/docs)", plane.api_url, plane.api_url)),
        ("QUIC link", link(plane.quic_addr)),
        ("MQTT link", link(plane.mqtt_addr)),
        ("inference", format!("http://{} ({})", agent.serve_addr, agent.device_id)),
        ("data", data_dir.display().to_string()),
        ("owner's key", plane.owner_key_path.display().to_string()),
    ]))?;
    let first = match no_sample {
        true => "aidos model push model.onnx",
        false => "aidos predict digits --input models/digits/samples/7.png",
    };
    output::line(&format!("Try next, in another terminal:\n  {first}\n  aidos status\n  aidos token create --label site=lab"))?;
    say("Ctrl-C stops it; the next start resumes.");
    Ok(())
}
