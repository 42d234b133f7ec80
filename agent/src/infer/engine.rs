//! What runs a model: the trait that hides one inference library from the rest of the agent.

use super::{LoadError, Signature};
use aidos_protocol::{manifest::Manifest, oip::Tensor};
use std::{path::Path, time::Duration};

/// What a model may ask of this device.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the file. 1 GiB: parsing needs up to three times the file, and devices begin at 4 GiB of memory.
    pub file_bytes: u64,
    /// Parts of the graph (nodes, tensors, attributes). Ten times the largest published edge model; parsed, about 100 MB.
    pub messages: usize,
    /// Bytes of all weights and intermediate values of one plan: the file limit, and the same again for values.
    pub plan_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 1 << 30, messages: 500_000, plan_bytes: 2 << 30 }
    }
}

/// An inference library. Its calls block; they are made on threads where that is allowed.
pub trait Engine: Send + Sync + 'static {
    /// Its name in status, metrics and configuration.
    fn name(&self) -> &'static str;
    /// The name of the pair of engine and file format in the Open Inference Protocol.
    fn platform(&self) -> &'static str;
    /// Reads `file` and makes sure that it can run, as far as that shows without real inputs.
    fn load(&self, file: &Path, manifest: &Manifest, limits: &Limits) -> Result<Box<dyn Program>, LoadError>;
}

/// A loaded model.
pub trait Program: Send + Sync {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;
    /// Bytes of the file.
    fn file_bytes(&self) -> u64;
    /// Runs once. `inputs` are in the signature's order and of its types; the outputs are in its order too.
    fn run(&self, inputs: &[Tensor]) -> Result<Run, RunError>;
}

/// One run and where its time went.
#[derive(Debug)]
pub struct Run {
    /// In the signature's order.
    pub outputs: Vec<Tensor>,
    /// Turning bytes into the engine's tensors.
    pub input: Duration,
    /// Running; the first run of a new shape includes planning it.
    pub compute: Duration,
    /// Turning the engine's tensors into bytes.
    pub output: Duration,
}

/// Why a run gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The graph cannot take inputs of these shapes: the sender's to mend.
    #[error("the model cannot take inputs of shape {shapes}: {reason}")]
    Shapes {
        /// As `x [1, 3, 7, 7]`.
        shapes: String,
        /// The engine's own words.
        reason: String,
    },
    /// It would need more memory than it may have.
    #[error("inputs of shape {shapes} need {needed} bytes, and a model may use {limit}; send a smaller batch")]
    Memory {
        /// As above.
        shapes: String,
        /// Weights and values together.
        needed: u64,
        /// [`Limits::plan_bytes`].
        limit: u64,
    },
    /// The file was replaced after it was checked.
    #[error("the model's file changed after it was loaded; deploy the model again")]
    FileChanged,
    /// Anything else inside the engine.
    #[error("the engine failed: {0}")]
    Engine(String),
}
