//! The engine that is always there: tract, pure Rust, ONNX in.
//!
//! A graph is planned anew for each combination of input shapes, because concrete shapes are what tract plans best and checks most
//! strictly. Between plans only the open file is kept, not the parsed graph: an idle model costs its last plans and nothing else.
//!
//! Bytes reach tract only after `aidos_optimizer::onnx::inspect` passed exactly these bytes, and without a folder, so that nothing
//! in the file can make it open another.

mod plans;
mod source;
mod values;
mod words;

use super::{Engine, Limits, LoadError, Port, Program, Run, RunError, Signature, compute::said};
use aidos_optimizer::onnx::{self, Dim, Summary, ValueInfo};
use aidos_protocol::{
    manifest::{ImageInput, Layout, Manifest},
    oip::{DataType, Tensor},
};
use plans::{Plans, Unplanned};
use source::Source;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Instant,
};
use tract_onnx::prelude::{TValue, TVec};

const NAME: &str = "tract";

/// What an open dimension may be, when a load tries whether the graph can be planned at all. 576 divides by all powers of two up to
/// 64, as picture networks ask, and is a window of sound; then short texts, scalars, and the usual picture sizes. Only trying
/// tells; a model is refused when none works.
const TRIAL_SIZES: [usize; 5] = [576, 64, 1, 224, 640];

/// Runs ONNX models with tract.
#[derive(Debug, Default)]
pub struct TractEngine(());

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn platform(&self) -> &'static str {
        "tract_onnx"
    }

    fn load(&self, file: &Path, manifest: &Manifest, limits: &Limits) -> Result<Box<dyn Program>, LoadError> {
        let (source, bytes) = Source::open(file, limits.file_bytes)?;
        let onnx_limits = onnx::Limits { bytes: bytes.len(), messages: limits.messages, ..onnx::Limits::default() };
        let summary = onnx::inspect(bytes, &onnx_limits)?;
        let missing = plans::missing_operators(&summary);
        if !missing.is_empty() {
            return Err(LoadError::Operators { engine: NAME, operators: missing });
        }
        let signature = signature(&summary)?;
        let program = TractProgram { plans: Plans::new(limits.plan_bytes), source, signature };
        program.try_out(manifest)?;
        Ok(Box::new(program))
    }
}

struct TractProgram {
    signature: Signature,
    source: Source,
    plans: Plans,
}

impl TractProgram {
    /// Plans the graph once, so that a model that cannot run is refused now and not at its first request.
    fn try_out(&self, manifest: &Manifest) -> Result<(), LoadError> {
        let mut tried: Vec<Trial> = Vec::new();
        let mut reasons = Vec::new();
        for (size, open) in TRIAL_SIZES.into_iter().flat_map(|size| [(size, Open::AllButFirst), (size, Open::Last)]) {
            let Some(trial) = self.trial(manifest, size, open) else { return Ok(()) };
            if tried.iter().any(|before| before.shapes == trial.shapes) {
                continue;
            }
            // tract panics on some shapes that cannot be; the next may still work.
            let plan = catch_unwind(AssertUnwindSafe(|| self.plans.get(&self.signature, &self.source, &trial.shapes)));
            match plan.unwrap_or_else(|panic| Err(Unplanned::early(RunError::Engine(said(panic.as_ref()))))) {
                Ok(_) => {
                    if !trial.likely {
                        self.plans.clear();
                    }
                    return Ok(());
                }
                Err(reason) if trial.certain => return Err(refused(reason.error)),
                Err(reason) => reasons.push(reason),
            }
            tried.push(trial);
        }
        // The trial that came farthest met the model's own fault rather than that of its guessed shapes.
        let reason = reasons.into_iter().reduce(|best, next| if next.stage > best.stage { next } else { best });
        reason.map_or(Ok(()), |reason| Err(refused(reason.error)))
    }

    /// Shapes to try, with `size` for what is open; `None` where the file does not tell how many dimensions there are.
    fn trial(&self, manifest: &Manifest, size: usize, open: Open) -> Option<Trial> {
        let mut trial = Trial { shapes: Vec::new(), likely: true, certain: true };
        for port in &self.signature.inputs {
            let picture = manifest.image.as_ref().filter(|image| image.input == port.name).map(picture_shape);
            let dims = port.shape.as_ref()?;
            let mut shape = Vec::new();
            for (index, dim) in dims.iter().enumerate() {
                let declared = picture.and_then(|picture| picture.get(index).copied());
                trial.certain &= dim.is_some();
                // One item at a time is what most requests bring.
                trial.likely &= dim.is_some() || declared.is_some() || index == 0;
                let large = match open {
                    Open::AllButFirst => index > 0,
                    Open::Last => index > 0 && index + 1 == dims.len(),
                };
                shape.push(dim.or(declared).unwrap_or(if large { size } else { 1 }));
            }
            trial.shapes.push(shape);
        }
        Some(trial)
    }
}

/// Which open dimensions are large in a trial: a picture has two, a sequence or a window of sound has one at the end.
#[derive(Clone, Copy)]
enum Open {
    AllButFirst,
    Last,
}

struct Trial {
    shapes: Vec<Vec<usize>>,
    /// Requests will probably look like this, so the plan is worth keeping.
    likely: bool,
    /// Every request must look like this.
    certain: bool,
}

fn picture_shape(image: &ImageInput) -> [usize; 4] {
    let (height, width, channels) = (image.height as usize, image.width as usize, image.color.channels());
    match image.layout {
        Layout::Nchw => [1, channels, height, width],
        Layout::Nhwc => [1, height, width, channels],
    }
}

fn refused(error: RunError) -> LoadError {
    match error {
        RunError::Shapes { reason, .. } | RunError::Engine(reason) => LoadError::Engine { engine: NAME, reason },
        error @ (RunError::Memory { .. } | RunError::FileChanged) => LoadError::Memory(error),
    }
}

impl Program for TractProgram {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn file_bytes(&self) -> u64 {
        self.source.bytes()
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Run, RunError> {
        let began = Instant::now();
        let values: TVec<TValue> = inputs.iter().map(values::to_tract).collect::<Result<_, _>>()?;
        let input = began.elapsed();
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|tensor| tensor.shape().to_vec()).collect();
        let plan = self.plans.get(&self.signature, &self.source, &shapes).map_err(|reason| reason.error)?;
        let results = plan.run(values).map_err(|error| RunError::Engine(words::of(&error)))?;
        let compute = began.elapsed() - input;
        let outputs = self.signature.outputs.iter().zip(&results).map(|(port, value)| values::from_tract(port, value));
        let outputs = outputs.collect::<Result<_, _>>()?;
        Ok(Run { outputs, input, compute, output: began.elapsed() - input - compute })
    }
}

/// The model's inputs and outputs in the protocol's types; refuses those that tract has no elements for.
fn signature(summary: &Summary) -> Result<Signature, LoadError> {
    let ports = |values: &[ValueInfo]| values.iter().map(port).collect::<Result<Vec<_>, _>>();
    Ok(Signature { inputs: ports(&summary.inputs)?, outputs: ports(&summary.outputs)? })
}

fn port(value: &ValueInfo) -> Result<Port, LoadError> {
    let datatype =
        value.dtype.open_inference_name().and_then(|name| DataType::ALL.into_iter().find(|kind| kind.as_str() == name));
    let datatype = datatype.filter(|kind| values::datum_type(*kind).is_some()).ok_or_else(|| LoadError::ElementType {
        engine: NAME,
        tensor: value.name.clone(),
        datatype: value.dtype.to_string(),
    })?;
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(length) => usize::try_from(*length).ok(),
        Dim::Symbol(_) | Dim::Any(()) => None,
    };
    let shape = value.shape.as_ref().map(|dims| dims.iter().map(dim).collect());
    Ok(Port { name: value.name.clone(), datatype, shape })
}
