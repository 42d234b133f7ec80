//! `aidos model`: what the registry holds.

use super::trust::{self, Change};
use super::{client, pair};
use crate::client::Client;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Row};
use crate::progress::say;
use crate::transfer;
use aidos_optimizer::onnx::{self, Limits};
use aidos_protocol::ModelName;
use aidos_protocol::api::models::{
    CreateModel, CreateVersion, MAX_MODEL_BYTES, ModelRef, ModelVersionView, ModelView, PutAlias, TensorFacts, Which,
};
use aidos_protocol::golden::Golden;
use aidos_protocol::manifest::Manifest;
use clap::Subcommand;
use reqwest::{Method, StatusCode};
use std::path::{Path, PathBuf};

/// Models, versions and aliases.
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Register a model file as the next version of a model
    Push {
        /// The ONNX file
        file: PathBuf,
        /// The model's name [default: the manifest's, else the file's]
        #[arg(long)]
        name: Option<ModelName>,
        /// Manifest: labels, image input [default: model.toml beside the file]
        #[arg(long)]
        manifest: Option<PathBuf>,
        /// Golden cases: inputs and the outputs that a device must get from them before the version answers there
        #[arg(long)]
        golden: Option<PathBuf>,
        /// Model card, Markdown [default: README.md beside a manifest]
        #[arg(long)]
        card: Option<PathBuf>,
        /// A label of the model; may be given more than once
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
        labels: Vec<(String, String)>,
    },
    /// List models
    #[command(visible_alias = "ls")]
    List,
    /// Show a model, or one version with what goes in and out
    Show {
        /// `name`, `name@2` or `name@alias`
        model: String,
    },
    /// Point an alias at a version
    Alias {
        /// `name@2`
        model: String,
        /// The alias
        alias: String,
    },
    /// Say what a model file is, without a control plane
    Inspect {
        /// The ONNX file
        file: PathBuf,
    },
    /// Delete a model with all its versions; refused while it is deployed
    #[command(visible_alias = "rm")]
    Delete {
        /// The model
        name: ModelName,
    },
}

impl Model {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        if let Model::Inspect { file } = &self {
            return output::value(global.output, &inspect(file)?);
        }
        let client = client(global)?;
        match self {
            Model::Push { file, name, manifest, golden, card, labels } => {
                let version = push(&client, &file, name, manifest, golden, card, labels).await?;
                let command = format!("{}@{}", version.model, version.version);
                let change = Change::default().model(&version, None);
                trust::after_push(&client, global, &change, &command).await?;
                output::one(global.output, &version, || describe(&version))
            }
            Model::List => output::list(global.output, &client.list::<ModelView>("models", &[]).await?),
            Model::Show { model } => show(&client, global, &model).await,
            Model::Alias { model, alias } => {
                let version = version(&client, &model).await?;
                let request = client.request(Method::PUT, &format!("models/{}/aliases/{alias}", version.model));
                client.send(request.json(&PutAlias { version: version.version })).await?;
                say(&format!("{}@{alias} is version {}", version.model, version.version));
                Ok(())
            }
            Model::Delete { name } => {
                client.delete(&format!("models/{name}")).await?;
                say(&format!("{name} deleted"));
                Ok(())
            }
            Model::Inspect { .. } => Ok(()),
        }
    }
}

/// Checks the file here, so that a bad one is refused before a byte is sent.
fn inspect(file: &Path) -> Result<onnx::Summary, CliError> {
    let unreadable = |e: std::io::Error| CliError::Usage(format!("{}: {e}; name the model's .onnx file", file.display()));
    // Before it is read into memory.
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_MODEL_BYTES {
        return Err(CliError::failed(
            format!("{} has {size} bytes; a model may have {MAX_MODEL_BYTES}", file.display()),
            "make it smaller: half precision or quantised weights, or a smaller variant of it",
        ));
    }
    let bytes = std::fs::read(file).map_err(unreadable)?;
    let limits = Limits { bytes: usize::try_from(MAX_MODEL_BYTES).unwrap_or(usize::MAX), ..Limits::default() };
    onnx::inspect(bytes.into(), &limits)
        .map_err(|e| CliError::failed(format!("{}: {e}", file.display()), "export the model as ONNX again, then push that file"))
}

async fn push(
    client: &Client,
    file: &Path,
    name: Option<ModelName>,
    manifest: Option<PathBuf>,
    golden: Option<PathBuf>,
    card: Option<PathBuf>,
    labels: Vec<(String, String)>,
) -> Result<ModelVersionView, CliError> {
    inspect(file)?;
    if let Some(path) = &golden {
        let at = |error: &dyn std::fmt::Display| {
            CliError::Usage(format!("{}: {error}; docs/guides/updates-on-the-device.md shows golden cases", path.display()))
        };
        let bytes = std::fs::read(path).map_err(|error| at(&error))?;
        Golden::from_json(&bytes).map_err(|error| at(&error))?;
    }
    let beside = file.with_file_name("model.toml");
    let manifest_path = manifest.or_else(|| beside.exists().then_some(beside));
    let manifest = manifest_path.as_deref().map(read_manifest).transpose()?;
    let beside_card = manifest_path.as_ref().map(|p| p.with_file_name("README.md")).filter(|p| p.exists());
    let card = card.or(beside_card).as_deref().map(read_card).transpose()?;
    let named = manifest.as_ref().and_then(|m| m.name.clone());
    let stem = || file.file_stem().and_then(|s| s.to_str()).unwrap_or("").to_ascii_lowercase();
    let name = match name {
        Some(name) => name,
        None => named.unwrap_or_else(stem).parse().map_err(|e| CliError::Usage(format!("{e}; or give --name")))?,
    };
    register(client, file, &name, manifest, golden.as_deref(), card, labels).await
}

/// Uploads and registers a checked file; the model is made when it is not there. Also what `aidos up` does with the sample.
pub(super) async fn register(
    client: &Client,
    file: &Path,
    name: &ModelName,
    manifest: Option<Manifest>,
    golden: Option<&Path>,
    card: Option<String>,
    labels: Vec<(String, String)>,
) -> Result<ModelVersionView, CliError> {
    let digest = transfer::upload(client, file).await?;
    let golden = match golden {
        Some(path) => Some(transfer::upload(client, path).await?),
        None => None,
    };
    let description = manifest.as_ref().and_then(|m| m.description.clone()).unwrap_or_default();
    let create = CreateModel {
        name: name.clone(),
        description,
        labels: labels.into_iter().collect(),
        card: card.clone().unwrap_or_default(),
    };
    let request = client.request(Method::POST, "models").json(&create);
    let response = request.send().await.map_err(anyhow::Error::from)?;
    // A model that is there already gets the next version.
    if !response.status().is_success() && response.status() != StatusCode::CONFLICT {
        return Err(crate::client::refusal(response).await);
    }
    let source = file.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    client.post(&format!("models/{name}/versions"), &CreateVersion { digest, manifest, golden, card, source }).await
}

fn read_manifest(path: &Path) -> Result<Manifest, CliError> {
    let unusable = |e: &dyn std::fmt::Display| {
        CliError::Usage(format!(
            "{}: {e}; mend it, or name another with --manifest (see models/digits/model.toml)",
            path.display()
        ))
    };
    let text = std::fs::read_to_string(path).map_err(|e| unusable(&e))?;
    Manifest::from_toml(&text).map_err(|e| unusable(&e))
}

fn read_card(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|e| CliError::Usage(format!("{}: {e}; name a Markdown file with --card, or leave it out", path.display())))
}

/// The version that `name@2`, `name@alias` or `name` means.
pub(super) async fn version(client: &Client, text: &str) -> Result<ModelVersionView, CliError> {
    let reference: ModelRef = text.parse().map_err(|e| CliError::Usage(format!("{e}")))?;
    let name = &reference.name;
    let version = match reference.which {
        Which::Version(version) => version,
        which => {
            let model: ModelView = client.get(&format!("models/{name}")).await?;
            let found = match which {
                Which::Alias(alias) => model.aliases.get(alias.as_str()).copied(),
                _ => model.latest_version,
            };
            found.ok_or_else(|| {
                CliError::failed(
                    format!("`{text}` names no version"),
                    format!("see what there is with `aidos model show {name}`"),
                )
            })?
        }
    };
    client.get(&format!("models/{name}/versions/{version}")).await
}

async fn show(client: &Client, global: &Global, text: &str) -> Result<(), CliError> {
    if text.contains('@') {
        let version = version(client, text).await?;
        return output::one(global.output, &version, || describe(&version));
    }
    let name: ModelName = text.parse().map_err(|e| CliError::Usage(format!("{e}")))?;
    let model: ModelView = client.get(&format!("models/{name}")).await?;
    if !matches!(global.output, output::Format::Table | output::Format::Wide) {
        return output::one(global.output, &model, String::new);
    }
    let versions: Vec<ModelVersionView> = client.list(&format!("models/{name}/versions"), &[]).await?;
    let aliases = model.aliases.iter().map(|(a, v)| format!("{a} → {v}")).collect::<Vec<_>>().join(", ");
    output::line(&output::pairs(&[
        ("name", model.name.to_string()),
        ("description", model.description.clone()),
        ("labels", output::labels(&model.labels)),
        ("aliases", if aliases.is_empty() { "-".into() } else { aliases }),
    ]))?;
    output::list(global.output, &versions)
}

fn describe(version: &ModelVersionView) -> String {
    let tensors = |tensors: &[TensorFacts]| tensors.iter().map(tensor).collect::<Vec<_>>().join("; ");
    let ops: Vec<_> = version.facts.operators.iter().map(|(op, n)| format!("{op} ×{n}")).collect();
    output::pairs(&[
        ("model", format!("{}@{}", version.model, version.version)),
        ("digest", version.digest.to_string()),
        ("size", output::bytes(version.size)),
        ("parameters", version.facts.parameters.to_string()),
        ("inputs", tensors(&version.facts.inputs)),
        ("outputs", tensors(&version.facts.outputs)),
        ("operators", ops.join(", ")),
        ("producer", version.facts.producer.clone()),
        ("aliases", version.aliases.join(", ")),
        ("created", format!("{} by {}", output::time(version.created_at), version.created_by)),
    ])
}

/// `image: FP32[N, 1, 28, 28]`; symbols longer than a name (some exporters write whole expressions) are cut.
fn tensor(facts: &TensorFacts) -> String {
    let dim =
        |d: &String| if d.chars().count() > 24 { format!("{}…", d.chars().take(23).collect::<String>()) } else { d.clone() };
    let shape = facts.shape.as_ref().map_or("…".into(), |dims| dims.iter().map(dim).collect::<Vec<_>>().join(", "));
    format!("{}: {}[{shape}]", facts.name, facts.dtype)
}

impl Row for ModelView {
    const COLUMNS: &'static [&'static str] = &["NAME", "LATEST", "ALIASES", "DESCRIPTION", "LABELS", "UPDATED"];
    const NARROW: usize = 4;
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.latest_version.map_or("-".into(), |v| v.to_string()),
            self.aliases.iter().map(|(a, v)| format!("{a}={v}")).collect::<Vec<_>>().join(","),
            self.description.clone(),
            output::labels(&self.labels),
            output::age(self.updated_at),
        ]
    }
    fn name(&self) -> String {
        self.name.to_string()
    }
}

impl Row for ModelVersionView {
    const COLUMNS: &'static [&'static str] = &["VERSION", "SIZE", "PARAMETERS", "ALIASES", "AGE", "CREATED BY", "DIGEST"];
    const NARROW: usize = 5;
    fn cells(&self) -> Vec<String> {
        vec![
            self.version.to_string(),
            output::bytes(self.size),
            self.facts.parameters.to_string(),
            self.aliases.join(","),
            output::age(self.created_at),
            self.created_by.clone(),
            self.digest.to_string(),
        ]
    }
    fn name(&self) -> String {
        format!("{}@{}", self.model, self.version)
    }
}
