//! What runs the models, as the reconciler sees it, and how the agent's inference is that.

use crate::infer::{self, InferError, Place};
use aidos_protocol::ModelName;
use aidos_protocol::golden::{Exchange, Golden};
use aidos_protocol::manifest::Manifest;
use aidos_protocol::oip::{DataType, InferRequest, Tensor};
use aidos_protocol::rollout::Experiment;
use aidos_protocol::twin::{Measures, SelfTestReport};
use async_trait::async_trait;
use std::path::Path;
use std::time::{Duration, Instant};

/// Elements of all inputs of a self-check together: 16 Mi covers a 2000×2000 RGB image; beyond it the check would cost more
/// memory than the device may have.
const MAX_CHECK_ELEMENTS: usize = 16 << 20;
/// Runs of a golden case whose answer came too late, or found the queue full: another process may have had the processor.
const TRIES: usize = 3;
/// Pause before such a run is repeated.
const BREATH: Duration = Duration::from_millis(200);

/// Loads, tests and swaps versions of models. Each error is a text for the device's status. Where the active version and the
/// one beside it have the same number, the one beside is meant.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Builds a version beside the active one. Returns the engine's name.
    async fn load(&self, name: &ModelName, version: u64, file: &Path, manifest: Manifest) -> Result<String, String>;
    /// Runs a loaded version once where its inputs have fixed shapes. Must fail only when the model cannot answer.
    async fn check(&self, name: &ModelName, version: u64) -> Result<(), String>;
    /// Runs the golden cases through a loaded version.
    async fn golden(&self, name: &ModelName, version: u64, golden: &Golden) -> SelfTestReport;
    /// Lets a loaded version answer from the next request on.
    async fn activate(&self, name: &ModelName, version: u64) -> Result<(), String>;
    /// Takes a version out of memory; no error when it is not there.
    async fn unload(&self, name: &ModelName, version: u64);
    /// From here on, the measures of the version in a place count.
    fn mark(&self, name: &ModelName, place: Place);
    /// What the version in a place has done since it was marked.
    fn measures(&self, name: &ModelName, place: Place) -> Option<Measures>;
    /// Begins, changes or ends an experiment with the version beside. Asked after every step; the same again changes nothing.
    fn experiment(&self, name: &ModelName, experiment: Option<(u64, Experiment)>);
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
        match self.infer_beside(name, version, InferRequest::of(inputs)).await {
            // Busy is no verdict on the model.
            Ok(_) | Err(InferError::Busy { .. } | InferError::Stuck { .. }) => Ok(()),
            Err(error) if fair => Err(format!("it does not answer a request of zeros: {error}")),
            Err(error) => {
                tracing::warn!(model = %name, version, %error, "the model does not answer zeros; it is activated all the same");
                Ok(())
            }
        }
    }

    async fn golden(&self, name: &ModelName, version: u64, golden: &Golden) -> SelfTestReport {
        let mut report = SelfTestReport { passed: true, ..SelfTestReport::default() };
        for index in 0..golden.cases.len() {
            report.cases += 1;
            let outcome = match golden.exchange(index) {
                Ok(exchange) => case(self, name, version, golden, &exchange).await,
                Err(error) => Err(error.to_string()),
            };
            let failure = match outcome {
                Ok((difference, took)) => {
                    report.largest_error = report.largest_error.max(difference);
                    report.slowest_us = report.slowest_us.max(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                    let late = golden.latency_ms.filter(|bound| took > Duration::from_millis(*bound));
                    if difference > golden.tolerance {
                        Some(format!("an output differs by {difference:.6}, {} is allowed", golden.tolerance))
                    } else {
                        late.map(|bound| format!("it took {} ms, {bound} are allowed", took.as_millis()))
                    }
                }
                Err(reason) => Some(reason),
            };
            if let Some(failure) = failure {
                report.passed = false;
                report.failure = format!("case {index} (`{}`): {failure}", golden.cases[index].name);
                // JSON has no infinity.
                report.largest_error = report.largest_error.min(f64::MAX);
                return report;
            }
        }
        report
    }

    async fn activate(&self, name: &ModelName, version: u64) -> Result<(), String> {
        infer::Models::activate(self, name, version).map(drop).map_err(|error| error.to_string())
    }

    async fn unload(&self, name: &ModelName, version: u64) {
        infer::Models::unload(self, name, Some(version));
    }

    fn mark(&self, name: &ModelName, place: Place) {
        infer::Models::mark(self, name, place);
    }

    fn measures(&self, name: &ModelName, place: Place) -> Option<Measures> {
        infer::Models::measures(self, name, place)
    }

    fn experiment(&self, name: &ModelName, experiment: Option<(u64, Experiment)>) {
        infer::Models::experiment(self, name, experiment);
    }
}

/// One case: the largest difference and how long it took, the best of a few tries where it took too long.
async fn case(
    models: &infer::Models,
    name: &ModelName,
    version: u64,
    golden: &Golden,
    exchange: &Exchange,
) -> Result<(f64, Duration), String> {
    let bound = golden.latency_ms.map_or(Duration::MAX, Duration::from_millis);
    let mut best: Result<(f64, Duration), String> = Err(String::new());
    for tried in 0..TRIES {
        if tried > 0 {
            tokio::time::sleep(BREATH).await;
        }
        let began = Instant::now();
        match models.infer_beside(name, version, exchange.request.clone()).await {
            Ok(came) => {
                let took = began.elapsed();
                let difference = Golden::difference(&exchange.expected, &came)?;
                let fastest = best.as_ref().map_or(Duration::MAX, |(_, fastest)| *fastest);
                best = Ok((difference, took.min(fastest)));
                if took <= bound {
                    break;
                }
            }
            Err(error @ (InferError::Busy { .. } | InferError::Stuck { .. })) => {
                best = best.or_else(|_| Err(format!("it is not answered: {error}")));
            }
            Err(error) => return Err(format!("it is not answered: {error}")),
        }
    }
    best
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
