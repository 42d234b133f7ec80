//! Why a model does not load, and why a request is not answered. Each text says what to do.

use super::RunError;
use aidos_optimizer::onnx::OnnxError;
use aidos_protocol::{
    ModelName,
    oip::{DataType, OipError},
};
use std::time::Duration;

/// A file that does not become a model.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the model's file: {0}")]
    Read(#[from] std::io::Error),
    /// Larger than [`super::Limits::file_bytes`].
    #[error("the model has {is} bytes, this device takes at most {limit}: quantize the model or choose a larger device")]
    TooLarge {
        /// Bytes of the file.
        is: u64,
        /// The most that is taken.
        limit: u64,
    },
    /// Not a model that is safe to parse.
    #[error(transparent)]
    File(#[from] OnnxError),
    /// The engine lacks operators.
    #[error("{engine} does not have the operators {}; export the model for an older operator set or without them", .operators.join(", "))]
    Operators {
        /// The engine.
        engine: &'static str,
        /// Those that are missing.
        operators: Vec<String>,
    },
    /// An input or output whose elements the protocol or the engine cannot hold.
    #[error("`{tensor}` has elements of {datatype}, which {engine} cannot run; convert the model to FP32 or FP16")]
    ElementType {
        /// The engine.
        engine: &'static str,
        /// Input or output.
        tensor: String,
        /// Its type.
        datatype: String,
    },
    /// The engine cannot make a plan of the graph, and why.
    #[error("{engine} cannot run this model: {reason}")]
    Engine {
        /// The engine.
        engine: &'static str,
        /// The engine's own words, outermost cause first.
        reason: String,
    },
    /// It asks for more memory than a model may use.
    #[error("{0}")]
    Memory(RunError),
    /// The engine panicked on the file.
    #[error("{engine} failed on this model: {reason}")]
    Panicked {
        /// The engine.
        engine: &'static str,
        /// What it said.
        reason: String,
    },
    /// Planning took too long.
    #[error("loading took longer than {} s; the model is too large or too strange for this device", .0.as_secs())]
    TimedOut(Duration),
    /// A load that ran over its time still holds its thread.
    #[error("an earlier load is still running over its time; restart the agent if this lasts")]
    Blocked,
}

/// A model or version that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLoaded {
    /// No such model.
    #[error("model `{model}` is not loaded here; loaded are: {known}")]
    Model {
        /// As asked.
        model: String,
        /// The names that are there, or `none`.
        known: String,
    },
    /// No such version.
    #[error("model `{model}` has no version {version} here; loaded are: {known}")]
    Version {
        /// The model.
        model: ModelName,
        /// As asked.
        version: String,
        /// Those that are there.
        known: String,
    },
    /// It is there, but nothing was activated yet.
    #[error("model `{model}` is loaded but not active yet; try again shortly")]
    Inactive {
        /// The model.
        model: ModelName,
    },
}

/// A request that is not answered.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// Nothing to ask.
    #[error(transparent)]
    NotLoaded(#[from] NotLoaded),
    /// Not the protocol, or tensors that cannot be.
    #[error(transparent)]
    Message(#[from] OipError),
    /// An input that the model does not have.
    #[error("the model has no input `{name}`; its inputs are: {known}")]
    UnknownInput {
        /// As sent.
        name: String,
        /// The signature's.
        known: String,
    },
    /// An input that was not sent.
    #[error("the input `{name}` is missing; the model's inputs are: {known}")]
    MissingInput {
        /// The first that is missing.
        name: String,
        /// The signature's.
        known: String,
    },
    /// An output that the model does not have.
    #[error("the model has no output `{name}`; its outputs are: {known}")]
    UnknownOutput {
        /// As asked.
        name: String,
        /// The signature's.
        known: String,
    },
    /// Elements of another type.
    #[error("input `{name}` must be {expected}, but {found} came")]
    WrongType {
        /// The input.
        name: String,
        /// The signature's.
        expected: DataType,
        /// As sent.
        found: DataType,
    },
    /// A shape that the signature rules out.
    #[error("input `{name}` must have shape {expected}, but {found:?} came (-1 is any size)")]
    WrongShape {
        /// The input.
        name: String,
        /// The signature's, with -1 for any size.
        expected: String,
        /// As sent.
        found: Vec<usize>,
    },
    /// As many requests are waiting as may.
    #[error("model `{model}` has {waiting} requests waiting; try again in {} s", .retry_after.as_secs())]
    Busy {
        /// The model.
        model: ModelName,
        /// Its queue's length.
        waiting: usize,
        /// By how long the recent runs took.
        retry_after: Duration,
    },
    /// The run took too long and was given up.
    #[error("model `{model}` did not answer within {} s", .limit.as_secs())]
    TimedOut {
        /// The model.
        model: ModelName,
        /// [`super::Settings::run_limit`].
        limit: Duration,
    },
    /// A given-up run still holds its thread.
    #[error("model `{model}` is still busy with a run over its time; try again in {} s", .retry_after.as_secs())]
    Stuck {
        /// The model.
        model: ModelName,
        /// When to try again.
        retry_after: Duration,
    },
    /// The engine refused or failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The engine panicked.
    #[error("the engine failed on this request: {0}")]
    Panicked(String),
}

impl InferError {
    /// Whether the model is to blame: a wrong request, a full queue and a model that is not there are no fault of its.
    pub fn is_models_fault(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Stuck { .. } | Self::Panicked(_) => true,
            Self::Run(error) => matches!(error, RunError::Engine(_) | RunError::FileChanged),
            Self::NotLoaded(_)
            | Self::Message(_)
            | Self::UnknownInput { .. }
            | Self::MissingInput { .. }
            | Self::UnknownOutput { .. }
            | Self::WrongType { .. }
            | Self::WrongShape { .. }
            | Self::Busy { .. } => false,
        }
    }
}
