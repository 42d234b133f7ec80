//! What runs the models, as the reconciler sees it, and how the agent's inference is that.

use crate::infer;
use aidos_protocol::ModelName;
use aidos_protocol::manifest::Manifest;
use aidos_protocol::oip::{DataType, InferRequest, Tensor};
use async_trait::async_trait;
use std::path::Path;

/// Elements of all inputs of a self-check together: 16 Mi covers a 2000×2000 RGB image; beyond it the check would cost more
/// memory than the device may have.
const MAX_CHECK_ELEMENTS: usize = 16 << 20;

/// Loads, checks and swaps versions of models. Each error is a text for the device's status.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Builds a version beside the active one. Returns the engine's name.
    async fn load(&self, name: &ModelName, version: u64, file: &Path, manifest: Manifest) -> Result<String, String>;
    /// Runs a loaded version once where its inputs have fixed shapes. Must fail only when the model cannot answer.
    async fn check(&self, name: &ModelName, version: u64) -> Result<(), String>;
    /// Lets a loaded version answer from the next request on.
    async fn activate(&self, name: &ModelName, version: u64) -> Result<(), String>;
    /// Takes a version out of memory; no error when it is not there.
    async fn unload(&self, name: &ModelName, version: u64);
}

#[async_trait]
impl Runner for infer::Models {
    async fn load(&self, name: &ModelName, version: u64, file: &Path, manifest: Manifest) -> Result<String, String> {
        let info = infer::Models::load(self, name, version, file, manifest).await.map_err(|error| error.to_string())?;
        Ok(info.engine.to_owned())
    }

    async fn check(&self, name: &ModelName, version: u64) -> Result<(), String> {
        let info = self.get(name, Some(version)).map_err(|error| error.to_string())?;
        let Some(inputs) = zeros(&info.signature.inputs) else { return Ok(()) };
        // Zeros are a fair question to numbers; an index or a length of zero may be outside what the model is for.
        let fair = inputs.iter().all(|tensor| matches!(tensor.datatype(), DataType::Fp16 | DataType::Fp32 | DataType::Fp64));
        match self.infer(name, Some(version), InferRequest::of(inputs)).await {
            // Busy is no verdict on the model.
            Ok(_) | Err(infer::InferError::Busy { .. } | infer::InferError::Stuck { .. }) => Ok(()),
            Err(error) if fair => Err(format!("it does not answer a request of zeros: {error}")),
            Err(error) => {
                tracing::warn!(model = %name, version, %error, "the model does not answer zeros; it is activated all the same");
                Ok(())
            }
        }
    }

    async fn activate(&self, name: &ModelName, version: u64) -> Result<(), String> {
        infer::Models::activate(self, name, version).map(drop).map_err(|error| error.to_string())
    }

    async fn unload(&self, name: &ModelName, version: u64) {
        infer::Models::unload(self, name, Some(version));
    }
}

/// One tensor of zeros per input, where all shapes are fixed and small enough.
fn zeros(inputs: &[infer::Port]) -> Option<Vec<Tensor>> {
    let mut elements = 0usize;
    let mut tensors = Vec::with_capacity(inputs.len());
    for port in inputs {
        let shape = port.fixed()?;
        let own = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))?;
        elements = elements.checked_add(own).filter(|all| *all <= MAX_CHECK_ELEMENTS)?;
        let data = vec![0; own * port.datatype.width()?];
        tensors.push(Tensor::new(&port.name, port.datatype, shape, data.into()).ok()?);
    }
    Some(tensors)
}
