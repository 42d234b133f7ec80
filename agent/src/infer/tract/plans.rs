//! Plans by input shapes: made on demand, the last few kept.

use super::{
    super::{RunError, Signature},
    source::Source,
    values, words,
};
use aidos_optimizer::onnx::Summary;
use bytes::Buf as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tract_onnx::prelude::{
    Framework as _, InferenceFact, InferenceModelExt as _, IntoRunnable as _, TractError, TypedModel, TypedSimplePlan,
};

/// Plans kept per model: the usual batch sizes or picture sizes of one client. Each holds its own packed weights.
const KEPT: usize = 4;
/// Beyond the newest, plans are kept only while their weights stay below this: a cache must not double a large model's memory.
const KEPT_BYTES: u64 = 64 << 20;

type Shapes = Vec<Vec<usize>>;

/// How far a plan came before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Reading the file and following the shapes through the graph.
    Shapes,
    /// Turning the graph into what runs.
    Translation,
    /// Fitting it to this machine.
    Fitting,
}

/// Why there is no plan.
#[derive(Debug)]
pub(super) struct Unplanned {
    pub(super) stage: Stage,
    pub(super) error: RunError,
}

impl Unplanned {
    /// It failed before anything was learnt about the model.
    pub(super) fn early(error: RunError) -> Self {
        Self { stage: Stage::Shapes, error }
    }
}

struct Kept {
    shapes: Shapes,
    plan: Arc<TypedSimplePlan>,
    weights: u64,
}

/// The most recently used plans of one model, newest first.
pub(super) struct Plans {
    kept: Mutex<Vec<Kept>>,
    limit: u64,
}

impl Plans {
    pub(super) fn new(limit: u64) -> Self {
        Self { kept: Mutex::default(), limit }
    }

    /// The plan for `shapes`, one per input. Two callers may plan the same shapes at a time; the later one is kept.
    pub(super) fn get(&self, signature: &Signature, source: &Source, shapes: &Shapes) -> Result<Arc<TypedSimplePlan>, Unplanned> {
        if let Some(plan) = self.find(shapes) {
            return Ok(plan);
        }
        let (plan, weights) = self.make(signature, source, shapes)?;
        let mut kept = self.kept();
        kept.retain(|entry| entry.shapes != *shapes);
        kept.insert(0, Kept { shapes: shapes.clone(), plan: Arc::clone(&plan), weights });
        kept.truncate(KEPT);
        while kept.len() > 1 && kept.iter().map(|entry| entry.weights).sum::<u64>() > KEPT_BYTES {
            kept.pop();
        }
        Ok(plan)
    }

    /// Forgets all plans.
    pub(super) fn clear(&self) {
        self.kept().clear();
    }

    fn find(&self, shapes: &Shapes) -> Option<Arc<TypedSimplePlan>> {
        let mut kept = self.kept();
        let index = kept.iter().position(|entry| entry.shapes == *shapes)?;
        let entry = kept.remove(index);
        let plan = Arc::clone(&entry.plan);
        kept.insert(0, entry);
        Some(plan)
    }

    fn make(&self, signature: &Signature, source: &Source, shapes: &Shapes) -> Result<(Arc<TypedSimplePlan>, u64), Unplanned> {
        let named = || signature.inputs.iter().zip(shapes).map(|(port, shape)| format!("`{}` {shape:?}", port.name));
        let named = || named().collect::<Vec<_>>().join(", ");
        let refused = |stage| {
            let named = &named;
            move |error: TractError| Unplanned { stage, error: RunError::Shapes { shapes: named(), reason: words::of(&error) } }
        };
        let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
        let file = source.read().map_err(Unplanned::early)?;
        let mut model = onnx.model_for_read(&mut file.reader()).map_err(refused(Stage::Shapes))?;
        for (index, (port, shape)) in signature.inputs.iter().zip(shapes).enumerate() {
            let kind = values::datum_type(port.datatype);
            let kind = kind.ok_or_else(|| Unplanned::early(RunError::Engine(format!("no {} here", port.datatype))))?;
            model.set_input_fact(index, InferenceFact::dt_shape(kind, shape.as_slice())).map_err(refused(Stage::Shapes))?;
        }
        model.analyse(false).map_err(refused(Stage::Shapes))?;
        let typed = model.into_typed().map_err(refused(Stage::Translation))?;
        let fits = |model: &TypedModel| {
            let size = Size::of(model);
            let needed = size.weights.saturating_add(size.values);
            let too_large = || RunError::Memory { shapes: named(), needed, limit: self.limit };
            if needed <= self.limit { Ok(size.weights) } else { Err(Unplanned { stage: Stage::Fitting, error: too_large() }) }
        };
        fits(&typed)?;
        let model = typed.into_optimized().map_err(refused(Stage::Fitting))?;
        let weights = fits(&model)?;
        Ok((model.into_runnable().map_err(refused(Stage::Fitting))?, weights))
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a plan holds and needs. Values whose size shows only at run time count as nothing.
struct Size {
    weights: u64,
    /// The largest value and what stands beside it when it is made: an upper bound would refuse what runs well, since values
    /// are freed as soon as they are used.
    values: u64,
}

impl Size {
    fn of(model: &TypedModel) -> Self {
        let mut size = Size { weights: 0, values: 0 };
        for node in model.nodes() {
            let mut outputs = 0u64;
            for output in &node.outputs {
                let width = output.fact.datum_type.size_of() as u64;
                if let Some(tensor) = &output.fact.konst {
                    size.weights = size.weights.saturating_add(width.saturating_mul(tensor.len() as u64));
                } else if let Some(shape) = output.fact.shape.as_concrete() {
                    let elements = shape.iter().fold(1u64, |product, dim| product.saturating_mul(*dim as u64));
                    outputs = outputs.saturating_add(width.saturating_mul(elements));
                }
            }
            size.values = size.values.max(outputs);
        }
        size
    }
}

/// Operators of the model that tract has no translation for.
pub(super) fn missing_operators(summary: &Summary) -> Vec<String> {
    let known = tract_onnx::onnx().op_register.0;
    // tract looks an operator up by its bare name, whatever its domain.
    let bare = |op: &str| op.rsplit('.').next().unwrap_or(op).to_owned();
    summary.ops.iter().filter(|entry| !known.contains_key(&bare(&entry.op))).map(|entry| entry.op.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_few_shapes_are_kept_newest_first() {
        let file = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits/digits.onnx"));
        let (source, bytes) = Source::open(file, 1 << 20).unwrap();
        let summary = aidos_optimizer::onnx::inspect(bytes, &aidos_optimizer::onnx::Limits::default()).unwrap();
        let signature = super::super::signature(&summary).unwrap();
        let plans = Plans::new(64 << 20);
        let plan = |batch: usize| plans.get(&signature, &source, &vec![vec![batch, 1, 28, 28]]).unwrap();
        let kept = || plans.kept().iter().map(|entry| entry.shapes[0][0]).collect::<Vec<_>>();
        let first = plan(1);
        for batch in 2..=KEPT {
            plan(batch);
        }
        // One that is there is given again and is the newest then; the one used longest ago makes room.
        assert!(Arc::ptr_eq(&first, &plan(1)));
        plan(KEPT + 1);
        assert_eq!(kept(), [KEPT + 1, 1, KEPT, KEPT - 1]);
        plans.clear();
        assert!(kept().is_empty() && !Arc::ptr_eq(&first, &plan(1)));
    }
}
