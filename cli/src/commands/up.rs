//! `aidos up`: a control plane, one agent and a sample model on this machine, in one process.
//!
//! The agent joins with a token over the API, as any device does; nothing here reaches into either side.
//! Shutdown: the agent first, so that its last status still arrives, then the control plane.

use super::trust::Change;
use super::{deploy, model, open, trust};
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
use aidos_protocol::ModelName;
use aidos_protocol::api::deployments::{CreateDeployment, DeploymentState, DeploymentView};
use aidos_protocol::api::models::{ModelVersionView, ModelView};
use aidos_protocol::api::tokens::{CreateToken, CreatedToken};
use aidos_protocol::artifact::Digest;
use aidos_protocol::manifest::Manifest;
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
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
    /// TOML file with any setting of the control plane
    #[arg(long)]
    config: Option<PathBuf>,
    /// Leave the sample model out
    #[arg(long)]
    no_sample: bool,
}

impl Up {
    pub(super) async fn run(self, global: &Global, logging: Logging) -> Result<(), CliError> {
        let mut stop = StopSignals::listen()?;
        let data_dir = context::data_dir(global)?;
        let local = Local { data_dir: data_dir.clone(), serve: self.serve, logging };
        let no_sample = self.no_sample;
        let config = self.settings(&data_dir, global).resolve().map_err(|e| CliError::Usage(e.to_string()))?;
        let (plane_stop, agent_stop) = (CancellationToken::new(), CancellationToken::new());
        let plane = tokio::select! {
            plane = Box::pin(control_plane::run(config, plane_stop.clone())) => plane.map_err(|error| not_started(&error))?,
            () = stop.asked() => return Err(interrupted()),
        };
        let result = tokio::select! {
            agent = Box::pin(start_agent(&plane, local, agent_stop.clone())) => agent,
            () = stop.asked() => Err(interrupted()),
        };
        let result = match result {
            Ok(agent) => {
                let prepared = tokio::select! {
                    prepared = Box::pin(prepare(&plane, &data_dir, no_sample)) => prepared,
                    () = stop.asked() => Err(interrupted()),
                };
                let shown = match prepared {
                    Ok(()) => summary(&plane, &agent, &data_dir, no_sample).await,
                    Err(error) => Err(error),
                };
                if shown.is_ok() {
                    stop.asked().await;
                    say("stopping …");
                }
                agent_stop.cancel();
                // An agent in this process has no launcher, so it ends only as it is told to.
                let ended = agent.join().await.map_err(told);
                shown.and(ended.map(drop))
            }
            Err(error) => {
                agent_stop.cancel();
                Err(error)
            }
        };
        plane_stop.cancel();
        plane.join().await;
        result
    }

    fn settings(self, data_dir: &Path, global: &Global) -> Settings {
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
            insecure_http: global.insecure_http,
            ..Settings::default()
        }
    }
}

/// SIGTERM and Ctrl-C, listened to from the first moment on.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self, CliError> {
        let listen =
            |kind| signal(kind).map_err(|e| CliError::from(anyhow::Error::from(e).context("signals cannot be received")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }
}

fn interrupted() -> CliError {
    CliError::failed("interrupted before everything was up", "run `aidos up` again: it goes on where it was")
}

fn not_started(error: &anyhow::Error) -> CliError {
    CliError::failed(
        format!("the control plane cannot start: {error:#}"),
        "mend that and run `aidos up` again: it goes on where it was",
    )
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::from(anyhow::Error::from(error))
}

/// What the agent's library says ends with what to do.
fn told(error: impl std::error::Error) -> CliError {
    CliError::Failed { message: error.to_string(), hint: None }
}

fn unusable(path: &Path) -> impl Fn(std::io::Error) -> CliError {
    move |e| {
        CliError::failed(
            format!("{}: {e}", path.display()),
            "make it readable and writable for you, or choose a folder with --data-dir",
        )
    }
}

/// The API, with the first owner's key.
fn owner(plane: &control_plane::Running) -> Result<Client, CliError> {
    let api_key = std::fs::read_to_string(&plane.owner_key_path).map_err(unusable(&plane.owner_key_path))?.trim().to_owned();
    let ca_pem = std::fs::read_to_string(plane.data_dir.join("pki/ca.pem")).ok();
    Client::new(Context { url: plane.api_url.clone(), api_key, ca_pem, insecure_http: false })
}

/// The agent on this machine.
struct Local {
    data_dir: PathBuf,
    serve: Option<SocketAddr>,
    logging: Logging,
}

/// Joins this machine on the first start, and starts its agent.
async fn start_agent(plane: &control_plane::Running, local: Local, stop: CancellationToken) -> Result<agent::Running, CliError> {
    let mut config = agent_config::Config { data_dir: local.data_dir.join("agent"), ..agent_config::Config::default() };
    config.serve.address = local.serve.unwrap_or(config.serve.address);
    let config = config.check().map_err(|e| CliError::Usage(e.to_string()))?;
    let dir = agent::identity_dir(&config.data_dir);
    match Identity::load(&dir).map_err(told)? {
        // What it was told last is where an earlier start listened.
        Some(identity) => identity.install(None, plane.endpoints.clone()).await.map_err(told)?,
        None => {
            say("joining this machine as the first device …");
            let wish = CreateToken { uses: 1, ttl_s: 600, labels: [(LABEL.0.into(), LABEL.1.into())].into() };
            let token: CreatedToken = owner(plane)?.post("tokens", &wish).await?;
            std::fs::create_dir_all(&config.data_dir).map_err(unusable(&config.data_dir))?;
            let options = JoinOptions {
                url: plane.api_url.clone(),
                token: token.token,
                name: hostname(),
                labels: Default::default(),
                dir,
                insecure_http: false,
                force: false,
            };
            join(&options).await.map_err(told)?;
        }
    }
    agent::run_with(config, local.logging, stop).await.map_err(told)
}

/// Makes the update repository and brings the sample model to this machine; what an earlier start left off is gone on with.
async fn prepare(plane: &control_plane::Running, data_dir: &Path, no_sample: bool) -> Result<(), CliError> {
    let client = owner(plane)?;
    let keys = data_dir.join("trust");
    trust::development(&client, &keys).await?;
    if no_sample { Ok(()) } else { sample(&client, &keys, &data_dir.join("sample")).await }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "local".into(), |name| name.trim().to_owned())
}

/// Registers, signs and deploys the sample, each where an earlier start has not done it. Nothing happens where a person has a model
/// of that name, or where it was deployed once: what became of that deployment is the person's doing.
async fn sample(client: &Client, keys: &Path, folder: &Path) -> Result<(), CliError> {
    let manifest = Manifest::from_toml(SAMPLE_MANIFEST).map_err(failed)?;
    let name: ModelName = manifest.name.clone().unwrap_or_default().parse().map_err(failed)?;
    let deployments: Vec<DeploymentView> = client.list("deployments", &[("subject", name.to_string())]).await?;
    if !deployments.is_empty() {
        return arrive(client, &deployments).await;
    }
    let models: Vec<ModelView> = client.list("models", &[]).await?;
    let model = models.iter().find(|model| model.name == name);
    if model.is_some_and(|model| model.description != manifest.description.clone().unwrap_or_default()) {
        return Ok(());
    }
    let versions: Vec<ModelVersionView> = match model {
        Some(_) => client.list(&format!("models/{name}/versions"), &[]).await?,
        None => Vec::new(),
    };
    let others = !versions.is_empty();
    let sample = Digest::of(SAMPLE);
    let version = match versions.into_iter().find(|version| version.digest == sample) {
        Some(version) => version,
        None if others => return Ok(()),
        None => register(client, &name, manifest, folder).await?,
    };
    if !trust::sign_in_development(client, keys, &Change::default().model(&version, None)).await? {
        let reference = format!("{name}@{}", version.version);
        say(&format!(
            "the sample model waits for a signature: `aidos trust sign {reference}`, then `aidos deploy {reference} --to {}={}`",
            LABEL.0, LABEL.1
        ));
        return Ok(());
    }
    let wish = CreateDeployment {
        subject: format!("{}@{}", version.model, version.version),
        selector: format!("{}={}", LABEL.0, LABEL.1),
    };
    let deployment: DeploymentView = client.post("deployments", &wish).await?;
    deploy::wait(client, deployment.id, SAMPLE_LIMIT).await.map(drop)
}

async fn register(client: &Client, name: &ModelName, manifest: Manifest, folder: &Path) -> Result<ModelVersionView, CliError> {
    say("registering and deploying the sample model …");
    std::fs::create_dir_all(folder).map_err(unusable(folder))?;
    let file = folder.join("digits.onnx");
    std::fs::write(&file, SAMPLE).map_err(unusable(&file))?;
    let version = model::register(client, &file, name, Some(manifest), None, Some(SAMPLE_CARD.to_owned()), Vec::new()).await;
    std::fs::remove_dir_all(folder).map_err(unusable(folder))?;
    version
}

/// Waits for a sample that an earlier start deployed and that no device has yet. It is on its way whatever is found here, so that
/// this start does not fail by it.
async fn arrive(client: &Client, deployments: &[DeploymentView]) -> Result<(), CliError> {
    let here = format!("{}={}", LABEL.0, LABEL.1);
    let on_its_way = |d: &&DeploymentView| {
        d.selector.to_string() == here && d.state == DeploymentState::Active && d.counts.ready == 0 && d.counts.total > 0
    };
    if let Some(deployment) = deployments.iter().find(on_its_way)
        && let Err(error) = deploy::wait(client, deployment.id, SAMPLE_LIMIT).await
    {
        say(&format!("the sample model is not here yet: {error}"));
    }
    Ok(())
}

async fn summary(
    plane: &control_plane::Running,
    agent: &agent::Running,
    data_dir: &Path,
    no_sample: bool,
) -> Result<(), CliError> {
    let link = |address: Option<SocketAddr>| address.map_or("off".into(), |a| a.to_string());
    let dashboard = open::link(&owner(plane)?).await?;
    output::line(&output::pairs(&[
        ("dashboard", format!("{dashboard} (works once; `aidos open` makes another)")),
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
