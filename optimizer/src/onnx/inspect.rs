//! The checks of one file, from the outside in.

use super::proto::{
    GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use super::{Dim, ElementType, Limits, OnnxError, OpCount, Opset, Summary, ValueInfo, operators, scan};
use bytes::Bytes;
use prost::Message as _;
use std::collections::{BTreeMap, HashSet};

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;
/// The longest dimension a declared input or output may have; more cannot be fed or answered.
const MAX_DIMENSION: i64 = 1 << 31;

/// Checks `file` against `limits` and the standard, and tells its facts. Weights are not copied.
///
/// Errors name the part at fault; nothing outside `file` is opened, whatever it names.
pub fn inspect(file: Bytes, limits: &Limits) -> Result<Summary, OnnxError> {
    if file.len() > limits.bytes {
        return Err(OnnxError::TooLarge { is: file.len(), limit: limits.bytes });
    }
    if file.is_empty() {
        return Err(OnnxError::NotOnnx("the file is empty".into()));
    }
    scan::scan(&file, limits)?;
    let bytes = file.len() as u64;
    let model = ModelProto::decode(file).map_err(|e| OnnxError::NotOnnx(e.to_string()))?;
    let graph = model.graph.as_ref().ok_or_else(|| OnnxError::NotOnnx("it holds no graph".into()))?;
    if model.ir_version <= 0 || graph.node.is_empty() || graph.output.is_empty() {
        return Err(OnnxError::NotOnnx("it has no format version, no nodes or no outputs".into()));
    }

    let functions = model.functions.iter().map(|f| (operators::full_domain(&f.domain).to_owned(), f.name.clone())).collect();
    let mut census = Census { limits, functions, ops: BTreeMap::new(), parameters: 0, weight_bytes: 0 };
    census.graph(graph)?;
    model.functions.iter().try_for_each(|f| census.nodes(&f.node))?;

    let weights: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|i| !weights.contains(i.name.as_str()));
    let mut ops: Vec<_> = census.ops.into_iter().map(|(op, count)| OpCount { op, count }).collect();
    ops.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.op.cmp(&b.op)));
    Ok(Summary {
        ir_version: model.ir_version,
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
        opsets: model
            .opset_import
            .iter()
            .map(|o| Opset { domain: operators::full_domain(&o.domain).to_owned(), version: o.version })
            .collect(),
        inputs: inputs.map(|v| value_info(v, limits)).collect::<Result<_, _>>()?,
        outputs: graph.output.iter().map(|v| value_info(v, limits)).collect::<Result<_, _>>()?,
        ops,
        parameters: census.parameters,
        weight_bytes: census.weight_bytes,
        bytes,
    })
}

/// What is counted while every node and tensor is checked. Recursion is bounded: `scan` has checked the depth.
struct Census<'a> {
    limits: &'a Limits,
    functions: HashSet<(String, String)>,
    ops: BTreeMap<String, u64>,
    parameters: u64,
    weight_bytes: u64,
}

impl Census<'_> {
    fn graph(&mut self, graph: &GraphProto) -> Result<(), OnnxError> {
        for tensor in &graph.initializer {
            self.weights(tensor)?;
        }
        graph.sparse_initializer.iter().try_for_each(|s| self.sparse(s))?;
        graph.value_info.iter().try_for_each(|v| value_info(v, self.limits).map(drop).or_else(ignore_not_a_tensor))?;
        self.nodes(&graph.node)
    }

    fn nodes(&mut self, nodes: &[NodeProto]) -> Result<(), OnnxError> {
        for node in nodes {
            let domain = operators::full_domain(&node.domain);
            let local = (domain.to_owned(), node.op_type.clone());
            if !operators::is_known(domain, &node.op_type) && !self.functions.contains(&local) {
                let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
                return Err(OnnxError::UnknownOperator {
                    node: short(name.map_or("?", |n| n)),
                    operator: short(&node.op_type),
                    domain: short(domain),
                });
            }
            let op = if domain == operators::STANDARD { node.op_type.clone() } else { format!("{domain}.{}", node.op_type) };
            *self.ops.entry(op).or_default() += 1;
            for attribute in &node.attribute {
                attribute.t.iter().chain(&attribute.tensors).try_for_each(|t| self.weights(t))?;
                attribute.sparse_tensor.iter().try_for_each(|s| self.sparse(s))?;
                attribute.g.iter().chain(&attribute.graphs).try_for_each(|g| self.graph(g))?;
            }
        }
        Ok(())
    }

    fn sparse(&mut self, sparse: &SparseTensorProto) -> Result<(), OnnxError> {
        elements("a sparse tensor", &sparse.dims, self.limits)?;
        sparse.values.iter().chain(&sparse.indices).try_for_each(|t| self.weights(t))
    }

    fn weights(&mut self, tensor: &TensorProto) -> Result<(), OnnxError> {
        if tensor.data_location == EXTERNAL || !tensor.external_data.is_empty() {
            let location = tensor.external_data.iter().find(|e| e.key == "location").map_or("", |e| &e.value);
            let escapes = location.starts_with(['/', '\\']) || location.contains("..") || location.contains(':');
            let (tensor, location) = (short(&tensor.name), short(location));
            return Err(if escapes {
                OnnxError::PathEscape { tensor, location }
            } else {
                OnnxError::ExternalData { tensor, location }
            });
        }
        let dtype = element_type(&tensor.name, tensor.data_type)?;
        let elements = elements(&tensor.name, &tensor.dims, self.limits)?;
        let Some(bits) = dtype.bits() else { return Ok(()) };
        let expected = (elements * bits).div_ceil(8);
        let is = tensor.raw_data.len() as u64;
        // Without raw data the values stand in typed lists, whose length the engine checks.
        if is != 0 && is != expected {
            return Err(OnnxError::Weights { tensor: short(&tensor.name), shape: shape_text(&tensor.dims), expected, is });
        }
        self.parameters = self.parameters.saturating_add(elements);
        self.weight_bytes = self.weight_bytes.saturating_add(expected);
        Ok(())
    }
}

/// Values inside a graph may be sequences or optionals; only what is served must be tensors.
fn ignore_not_a_tensor(error: OnnxError) -> Result<(), OnnxError> {
    if matches!(error, OnnxError::NotATensor { .. }) { Ok(()) } else { Err(error) }
}

fn element_type(value: &str, code: i32) -> Result<ElementType, OnnxError> {
    ElementType::from_code(code).ok_or_else(|| OnnxError::ElementType { value: short(value), code })
}

/// The product of `dims`, each checked; at most `limits.elements`.
fn elements(value: &str, dims: &[i64], limits: &Limits) -> Result<u64, OnnxError> {
    let fail = |reason: String| OnnxError::Shape { value: short(value), shape: shape_text(dims), reason };
    let mut product = 1u64;
    for &dim in dims {
        let dim = u64::try_from(dim).map_err(|_| fail(format!("{dim} is negative")))?;
        product = product
            .checked_mul(dim)
            .filter(|&n| n <= limits.elements)
            .ok_or_else(|| fail(format!("more than {} elements are not taken", limits.elements)))?;
    }
    Ok(product)
}

fn value_info(value: &ValueInfoProto, limits: &Limits) -> Result<ValueInfo, OnnxError> {
    let not_a_tensor = |kind| OnnxError::NotATensor { value: short(&value.name), kind };
    let tensor = match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        Some(type_proto::Value::SequenceType(_)) => return Err(not_a_tensor("sequence")),
        Some(type_proto::Value::MapType(_)) => return Err(not_a_tensor("map")),
        Some(type_proto::Value::SparseTensorType(_)) => return Err(not_a_tensor("sparse tensor")),
        Some(type_proto::Value::OptionalType(_)) => return Err(not_a_tensor("optional")),
        None => return Err(not_a_tensor("value without a type")),
    };
    let shape = match &tensor.shape {
        None => None,
        Some(shape) => {
            let mut fixed = Vec::with_capacity(shape.dim.len());
            let mut dims = Vec::with_capacity(shape.dim.len());
            for dim in &shape.dim {
                dims.push(match &dim.value {
                    Some(tensor_shape_proto::dimension::Value::DimValue(n)) if *n >= 0 => {
                        fixed.push(*n);
                        Dim::Fixed(n.unsigned_abs())
                    }
                    Some(tensor_shape_proto::dimension::Value::DimParam(name)) if !name.is_empty() => Dim::Symbol(short(name)),
                    // Some exporters write -1 for a length that is not known.
                    _ => Dim::Any(()),
                });
            }
            if let Some(long) = fixed.iter().find(|&&n| n > MAX_DIMENSION) {
                return Err(OnnxError::Shape {
                    value: short(&value.name),
                    shape: shape_text(&fixed),
                    reason: format!("the dimension {long} is longer than {MAX_DIMENSION}"),
                });
            }
            elements(&value.name, &fixed, limits)?;
            Some(dims)
        }
    };
    Ok(ValueInfo { name: value.name.clone(), dtype: element_type(&value.name, tensor.elem_type)?, shape })
}

fn shape_text(dims: &[i64]) -> String {
    let shown: Vec<_> = dims.iter().take(16).map(i64::to_string).collect();
    format!("[{}{}]", shown.join(", "), if dims.len() > 16 { ", …" } else { "" })
}

/// At most 200 characters of a text from a file, so that an error stays readable.
fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests;
