//! `aidos predict`: a model's answer, from this machine's agent or another device.
//!
//! Without `--device` it asks the local agent over HTTP and needs no control plane.

use super::client;
use crate::client::Client;
use crate::context;
use crate::error::CliError;
use crate::global::Global;
use crate::input;
use crate::output::{self, Format};
use crate::progress::say;
use aidos_agent::assembly::{self, Offline, StartError};
use aidos_agent::config::Config;
use aidos_protocol::DeviceId;
use aidos_protocol::api::devices::DeviceDetail;
use aidos_protocol::api::models::{ModelVersionView, TensorFacts};
use aidos_protocol::oip::views::{ErrorBody, ModelMetadata, TensorMetadata};
use aidos_protocol::oip::{AnswerForm, DataType, HEADER_LENGTH, InferRequest, InferResponse, Tensor};
use clap::Args;
use reqwest::{Method, StatusCode};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// The longest one answer may take: a large model on a small device.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Run a model.
#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// The model, `name` or `name@version`
    model: String,
    /// PNG, .npy or JSON; `NAME=FILE` for one of several inputs; `-` for JSON on standard input
    #[arg(short, long = "input", required = true, value_name = "FILE")]
    inputs: Vec<String>,
    /// How many labels to show
    #[arg(long, default_value_t = 1)]
    top: usize,
    /// Ask this device through the control plane
    #[arg(long)]
    device: Option<DeviceId>,
    /// The local agent's inference API [default: what `aidos up` or `aidos-agent` says it is]
    #[arg(long, env = "AIDOS_AGENT_URL", value_name = "URL")]
    agent_url: Option<String>,
}

impl Predict {
    pub(super) async fn run(self, global: &Global) -> Result<(), CliError> {
        let (name, version) = match self.model.split_once('@') {
            Some((name, version)) => {
                let number = version.parse::<u64>();
                (name, Some(number.map_err(|_| CliError::Usage(format!("`{version}` is not a version number: write name@2")))?))
            }
            None => (self.model.as_str(), None),
        };
        name.parse::<aidos_protocol::ModelName>().map_err(|e| CliError::Usage(e.to_string()))?;
        let target = match self.device {
            Some(device) => Target::Device { client: client(global)?, device },
            None => Target::local(global, self.agent_url.as_deref()).await?,
        };
        let metadata = target.metadata(name, version).await?;
        let request = InferRequest::of(input::read(&self.inputs, &metadata)?);
        let response = target.infer(name, version, &request).await?;
        print(global.output, &metadata, &response, self.top)
    }
}

/// Who answers.
enum Target {
    /// This machine's agent, over the Open Inference Protocol. Where none runs, what it left on disk answers as long as this lives.
    Local { http: reqwest::Client, url: String, _offline: Option<Offline> },
    /// Another device, by a command through the control plane.
    Device { client: Client, device: DeviceId },
}

impl Target {
    async fn local(global: &Global, agent_url: Option<&str>) -> Result<Self, CliError> {
        let (url, offline) = match agent_url {
            Some(url) => (url.trim_end_matches('/').to_owned(), None),
            None => local_agent(&context::data_dir(global)?.join("agent")).await?,
        };
        Ok(Self::Local { http: reqwest::Client::new(), url, _offline: offline })
    }

    async fn metadata(&self, model: &str, version: Option<u64>) -> Result<ModelMetadata, CliError> {
        match self {
            Self::Local { http, url, .. } => {
                let response = send(url, http.get(local_path(url, model, version))).await?;
                response.json().await.map_err(|e| anyhow::Error::from(e).into())
            }
            Self::Device { client, device } => registered(client, *device, model, version).await,
        }
    }

    async fn infer(&self, model: &str, version: Option<u64>, request: &InferRequest) -> Result<InferResponse, CliError> {
        let encoded = request.encode(true).map_err(|e| CliError::Usage(e.to_string()))?;
        let http = match self {
            Self::Local { http, url, .. } => http.post(local_path(url, model, version) + "/infer"),
            Self::Device { client, device } => {
                let request = client.request(Method::POST, &format!("devices/{device}/infer/{model}"));
                version.iter().fold(request, |request, v| request.query(&[("version", v)]))
            }
        };
        let mut http = http.timeout(TIMEOUT).header("content-type", encoded.content_type());
        if let Some(length) = encoded.header_length {
            http = http.header(HEADER_LENGTH, length);
        }
        let http = http.body(encoded.body);
        let response = match self {
            Self::Local { url, .. } => send(url, http).await?,
            Self::Device { client, .. } => client.send(http).await?,
        };
        let length = response.headers().get(HEADER_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let body = response.bytes().await.map_err(anyhow::Error::from)?;
        InferResponse::decode(body, length).map_err(|e| anyhow::Error::from(e).into())
    }
}

fn local_path(url: &str, model: &str, version: Option<u64>) -> String {
    let version = version.map(|v| format!("/versions/{v}")).unwrap_or_default();
    format!("{url}/v2/models/{model}{version}")
}

/// Sends to the agent at `url`; its errors become ours.
async fn send(url: &str, request: reqwest::RequestBuilder) -> Result<reqwest::Response, CliError> {
    let response = request.send().await.map_err(|e| {
        if e.is_timeout() {
            return CliError::Timeout(format!("the agent at {url} did not answer within {}s", TIMEOUT.as_secs()));
        }
        CliError::failed(
            format!("no agent answers at {url}"),
            "start one with `aidos up` or `aidos-agent run`, or ask a --device",
        )
    })?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    let message = serde_json::from_slice::<ErrorBody>(&body).map_or_else(|_| status.to_string(), |e| e.error);
    let hint = match status {
        StatusCode::NOT_FOUND => "deploy it here first: `aidos deploy <model> --to <selector>`; `aidos status` shows what runs",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "the model is busy: try again in a moment",
        StatusCode::BAD_REQUEST => "`aidos model show NAME@VERSION` says what goes in; give --input that",
        _ => "see what the agent says with `aidos-agent logs`",
    };
    Err(CliError::failed(message, hint))
}

/// What the registry knows of the version that answers on `device`: enough to make tensors and name classes.
async fn registered(client: &Client, device: DeviceId, model: &str, version: Option<u64>) -> Result<ModelMetadata, CliError> {
    let version = match version {
        Some(version) => version,
        None => {
            let detail: DeviceDetail = client.get(&format!("devices/{device}")).await?;
            let active = detail.models.iter().find(|(name, _)| name.as_str() == model).and_then(|(_, m)| m.active_version);
            active.ok_or_else(|| {
                CliError::failed(
                    format!("`{model}` does not run on {device}"),
                    format!("see what does with `aidos device show {device}`, or deploy it"),
                )
            })?
        }
    };
    let registered: ModelVersionView = client.get(&format!("models/{model}/versions/{version}")).await?;
    let tensors = |facts: Vec<TensorFacts>| facts.into_iter().map(tensor).collect::<Result<Vec<_>, _>>();
    Ok(ModelMetadata {
        name: model.to_owned(),
        versions: vec![version.to_string()],
        platform: String::new(),
        inputs: tensors(registered.facts.inputs)?,
        outputs: tensors(registered.facts.outputs)?,
        manifest: registered.manifest,
    })
}

fn tensor(facts: TensorFacts) -> Result<TensorMetadata, CliError> {
    let unknown = || CliError::failed(format!("`{}` is {}, which cannot be sent", facts.name, facts.dtype), "use another model");
    let datatype = DataType::ALL.into_iter().find(|d| d.as_str() == facts.dtype).ok_or_else(unknown)?;
    let shape = facts.shape.unwrap_or_default().iter().map(|d| d.parse().unwrap_or(-1)).collect();
    Ok(TensorMetadata { name: facts.name, datatype, shape })
}

/// The local agent's address, which it writes when it starts; or the models of one that does not run.
async fn local_agent(data_dir: &Path) -> Result<(String, Option<Offline>), CliError> {
    #[derive(serde::Deserialize)]
    struct Run {
        serve_addr: std::net::SocketAddr,
    }
    let run = std::fs::read(data_dir.join("run.json")).ok().and_then(|bytes| serde_json::from_slice::<Run>(&bytes).ok());
    if let Some(run) = run
        && tokio::net::TcpStream::connect(run.serve_addr).await.is_ok()
    {
        return Ok((format!("http://{}", run.serve_addr), None));
    }
    let config = Config { data_dir: data_dir.to_owned(), ..Config::default() };
    match assembly::offline(&config).await {
        Ok(offline) => {
            say("no agent runs; answering from what it left on disk");
            Ok((format!("http://{}", offline.serve_addr), Some(offline)))
        }
        Err(StartError::NotJoined(_)) => Err(CliError::failed(
            format!("there is no agent on this machine (none has joined in {})", data_dir.display()),
            "start one with `aidos up` or `aidos-agent join`, name one with --agent-url, or ask a --device",
        )),
        // What the agent's library says ends with what to do.
        Err(error) => Err(CliError::Failed { message: error.to_string(), hint: None }),
    }
}

/// One label and how sure the model is.
#[derive(Serialize)]
struct Prediction<'a> {
    label: &'a str,
    probability: f64,
}

fn print(format: Format, metadata: &ModelMetadata, response: &InferResponse, top: usize) -> Result<(), CliError> {
    let labels = metadata.manifest.as_ref().map(|m| m.labels.as_slice()).unwrap_or_default();
    let ranked = response.outputs.first().and_then(|output| rank(output, labels));
    match (format, ranked) {
        (Format::Table | Format::Wide | Format::Name, Some(rows)) => rows.iter().try_for_each(|ranked| {
            ranked.iter().take(top.max(1)).try_for_each(|p| match format {
                Format::Name => output::line(p.label),
                _ => output::line(&format!("{}  ({:.3})", output::printable(p.label), p.probability)),
            })
        }),
        (Format::Json | Format::Yaml, Some(rows)) => {
            let rows: Vec<_> = rows.into_iter().map(|row| row.into_iter().take(top.max(1)).collect::<Vec<_>>()).collect();
            output::value(format, &rows)
        }
        (_, None) => {
            let encoded = response.encode(&AnswerForm::json()).map_err(anyhow::Error::from)?;
            let value: serde_json::Value = serde_json::from_slice(&encoded.body).map_err(anyhow::Error::from)?;
            output::value(format, &value["outputs"])
        }
    }
}

/// The labels of each row of `output`, best first; `None` where the last dimension is not one value per label.
fn rank<'a>(output: &Tensor, labels: &'a [String]) -> Option<Vec<Vec<Prediction<'a>>>> {
    if labels.is_empty() || output.shape().last() != Some(&labels.len()) {
        return None;
    }
    let values = output.to_f64()?;
    let rows = values.chunks_exact(labels.len()).map(|row| {
        let mut ranked: Vec<_> = row.iter().zip(labels).map(|(&probability, label)| Prediction { label, probability }).collect();
        ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        ranked
    });
    Some(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_best_first_and_only_where_they_fit() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let output = Tensor::fp32("p", vec![1, 3], &[0.1, 0.7, 0.2]).unwrap();
        let ranked = rank(&output, &labels).unwrap();
        assert_eq!(ranked[0].iter().map(|p| p.label).collect::<String>(), "bca");
        assert!(rank(&output, &labels[..2]).is_none());
    }
}
