//! Reading an uploaded file as a model: hostile until the optimizer's reader has taken it. Never runs anything of it.

use super::artifacts::Artifacts;
use super::error::RegistryError;
use aidos_optimizer::onnx::{self, Limits, Summary, ValueInfo};
use aidos_protocol::{
    TenantId,
    api::models::{MAX_MODEL_BYTES, ModelFacts, TensorFacts},
    artifact::Digest,
    manifest::Manifest,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Models checked at once, so that memory is bounded by one file.
const AT_ONCE: usize = 1;
/// Inputs and outputs of a model in all; real ones have tens.
const MAX_TENSORS: usize = 1_024;
/// Bytes of a model's facts as JSON: they are a database field and part of lists.
const MAX_FACTS_BYTES: usize = 256 << 10;

/// Checks files.
#[derive(Clone)]
pub(super) struct Inspector(Arc<Semaphore>);

impl Inspector {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Reads the artifact's facts, or says why it is not a model that can be taken.
    pub(super) async fn facts(
        &self,
        artifacts: &Artifacts,
        tenant: TenantId,
        digest: &Digest,
        size: u64,
    ) -> Result<ModelFacts, RegistryError> {
        if size > MAX_MODEL_BYTES {
            return Err(RegistryError::TooLarge { what: "the model", is: size, limit: MAX_MODEL_BYTES });
        }
        let _turn = self.0.acquire().await.expect("the semaphore is never closed");
        let mut file = BytesMut::with_capacity(usize::try_from(size).unwrap_or(0));
        let mut pieces = artifacts.bytes(tenant, digest, 0..size).await?;
        while let Some(piece) = pieces.next().await {
            file.extend_from_slice(&piece?);
        }
        let file = file.freeze();
        tokio::task::spawn_blocking(move || read(file)).await?
    }
}

fn read(file: Bytes) -> Result<ModelFacts, RegistryError> {
    let limits = Limits { bytes: usize::try_from(MAX_MODEL_BYTES).unwrap_or(usize::MAX), ..Limits::default() };
    let summary = onnx::inspect(file, &limits).map_err(|error| RegistryError::NotAModel(error.to_string()))?;
    if summary.inputs.len() + summary.outputs.len() > MAX_TENSORS {
        return Err(RegistryError::NotAModel(format!("the model has more than {MAX_TENSORS} inputs and outputs")));
    }
    let facts = facts(summary);
    let length = serde_json::to_vec(&facts).map(|json| json.len()).unwrap_or(usize::MAX);
    if length > MAX_FACTS_BYTES {
        return Err(RegistryError::NotAModel(format!(
            "the names and shapes of the model take {length} bytes, the limit is {MAX_FACTS_BYTES}"
        )));
    }
    Ok(facts)
}

fn facts(summary: Summary) -> ModelFacts {
    ModelFacts {
        format: "onnx".into(),
        producer: summary.producer,
        opsets: summary.opsets.into_iter().map(|set| (set.domain, set.version)).collect(),
        inputs: summary.inputs.into_iter().map(tensor).collect(),
        outputs: summary.outputs.into_iter().map(tensor).collect(),
        operators: summary.ops.into_iter().map(|op| (op.op, op.count)).collect(),
        parameters: summary.parameters,
        weight_bytes: summary.weight_bytes,
    }
}

fn tensor(info: ValueInfo) -> TensorFacts {
    let dtype = info.dtype.open_inference_name().map_or_else(|| info.dtype.to_string(), str::to_owned);
    TensorFacts { name: info.name, dtype, shape: info.shape.map(|dims| dims.iter().map(ToString::to_string).collect()) }
}

/// Refuses a manifest that is not valid or speaks of an input that the model does not have.
pub(super) fn check_manifest(manifest: &Manifest, facts: &ModelFacts) -> Result<(), RegistryError> {
    let invalid = |message: String| RegistryError::Invalid { field: "manifest", message };
    manifest.check().map_err(|error| invalid(error.to_string()))?;
    if let Some(image) = &manifest.image
        && !facts.inputs.iter().any(|input| input.name == image.input)
    {
        let inputs: Vec<&str> = facts.inputs.iter().take(8).map(|input| input.name.as_str()).collect();
        return Err(invalid(format!("image.input is `{}`, the model's inputs are {}", image.input, inputs.join(", "))));
    }
    Ok(())
}
