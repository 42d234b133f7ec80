//! What the protocol says about the server, its models, their load and their statistics.

use super::DataType;
use crate::manifest::Manifest;
use serde::{Deserialize, Serialize};

/// `GET v2`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerMetadata {
    /// The product.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Extensions of the protocol that it has.
    pub extensions: Vec<String>,
}

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorMetadata {
    /// The name in the graph.
    pub name: String,
    /// The element type.
    pub datatype: DataType,
    /// Dimensions; -1 is any size.
    pub shape: Vec<i64>,
}

/// `GET v2/models/{model}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// The model's name.
    pub name: String,
    /// The versions loaded, oldest first.
    pub versions: Vec<String>,
    /// The engine and the file's form, such as `tract_onnx`.
    pub platform: String,
    /// What it takes.
    pub inputs: Vec<TensorMetadata>,
    /// What it gives.
    pub outputs: Vec<TensorMetadata>,
    /// Ours: what the publisher declared, so that a client can make a tensor of a picture and name the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
}

/// `GET v2/models/{model}/config`, as far as clients read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The model's name.
    pub name: String,
    /// As in [`ModelMetadata`].
    pub platform: String,
    /// The engine.
    pub backend: String,
    /// Always 0: the batch is an ordinary dimension of the shapes.
    pub max_batch_size: i64,
    /// What it takes.
    pub input: Vec<TensorConfig>,
    /// What it gives.
    pub output: Vec<TensorConfig>,
}

/// One input or output in [`ModelConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorConfig {
    /// The name in the graph.
    pub name: String,
    /// Triton's spelling: `TYPE_FP32`, `TYPE_STRING`.
    pub data_type: String,
    /// Dimensions; -1 is any size.
    pub dims: Vec<i64>,
}

impl From<&TensorMetadata> for TensorConfig {
    fn from(tensor: &TensorMetadata) -> Self {
        let kind = if tensor.datatype == DataType::Bytes { "STRING" } else { tensor.datatype.as_str() };
        Self { name: tensor.name.clone(), data_type: format!("TYPE_{kind}"), dims: tensor.shape.clone() }
    }
}

/// One entry of `POST v2/repository/index`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepositoryEntry {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `READY` for a version that answers.
    pub state: String,
    /// Why it is not ready; empty otherwise.
    #[serde(default)]
    pub reason: String,
}

/// `POST v2/repository/index`: which entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RepositoryIndexRequest {
    /// Only those that are ready.
    #[serde(default)]
    pub ready: bool,
}

/// `GET v2/models/stats` and `GET v2/models/{model}/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// One per model and version.
    pub model_stats: Vec<ModelStatistics>,
}

/// What one version has done since it was loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelStatistics {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Milliseconds since the Unix epoch of the last request; 0 before the first.
    pub last_inference: u64,
    /// Elements of the batch dimension answered; here one per request.
    pub inference_count: u64,
    /// Runs of the engine.
    pub execution_count: u64,
    /// Where the time went.
    pub inference_stats: InferenceStatistics,
    /// Always empty: requests are not batched together.
    pub batch_stats: Vec<serde_json::Value>,
    /// Ours: the spread of whole requests.
    #[serde(default)]
    pub latency: LatencyQuantiles,
}

/// Counts and total times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct InferenceStatistics {
    /// Answered.
    pub success: Duration,
    /// Not answered; refused for a full queue is counted here too.
    pub fail: Duration,
    /// Waiting for a thread.
    pub queue: Duration,
    /// Turning bytes into the engine's tensors.
    pub compute_input: Duration,
    /// Running.
    pub compute_infer: Duration,
    /// Turning the engine's tensors into bytes.
    pub compute_output: Duration,
}

/// How often, and how long in total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duration {
    /// How often.
    pub count: u64,
    /// Nanoseconds in total.
    pub ns: u64,
}

/// Quantiles of the time from a request's arrival to its answer, in microseconds, within 7 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyQuantiles {
    /// The median.
    pub p50_us: u64,
    /// The 90th percentile.
    pub p90_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// The body of every error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong and what to do.
    pub error: String,
}
