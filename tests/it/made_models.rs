//! Models of a few nodes that behave as a story needs: they answer `x + bias`, and some do worse things at times. Written as ONNX
//! files, so that the real engine runs them.

use prost::Message as _;
use std::path::{Path, PathBuf};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto, tensor_shape_proto, type_proto,
};

const FLOAT: i32 = 1;
const INT64: i32 = 7;
/// Elements of the input and of the output.
pub(crate) const WIDTH: i64 = 4;
/// Rows and columns of an answer that no small device has room for twice: 1 GB as `f32`, below what a model may ask for.
const LARGE: i64 = 16_000;

/// What a made model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// It answers `x + bias`.
    Answers,
    /// The same, but where the inputs add up to something else than nothing, an index of its own is out of range.
    FailsBesideZero,
    /// Each answer is a gigabyte long. The engine survives that there is no room for its own copy; nothing survives that there is
    /// none for the answer's.
    TakesMemory,
}

/// Writes a model of `version`, whose bias is its version, into `folder`.
pub(crate) fn made(folder: &Path, version: u32, does: Does) -> PathBuf {
    let (x, mut y) = (value("x", &[1, WIDTH]), value("y", &[1, WIDTH]));
    let mut graph = GraphProto { name: "made".into(), input: vec![x], ..GraphProto::default() };
    let bias = floats("bias", &[1], &[version as f32]);
    match does {
        Does::Answers => {
            graph.initializer = vec![bias];
            graph.node = vec![node("Add", &["x", "bias"], "y", &[])];
        }
        Does::FailsBesideZero => {
            graph.initializer = vec![bias];
            graph.node = vec![
                node("ReduceSum", &["x"], "sum", &[("keepdims", 0)]),
                node("Cast", &["sum"], "index", &[("to", i64::from(INT64))]),
                node("Gather", &["bias", "index"], "picked", &[("axis", 0)]),
                node("Add", &["x", "picked"], "y", &[]),
            ];
        }
        Does::TakesMemory => {
            let many = vec![0.0; LARGE as usize];
            y = value("y", &[LARGE, LARGE]);
            graph.initializer = vec![floats("column", &[LARGE, 1], &many), floats("row", &[1, LARGE], &many)];
            graph.node = vec![
                node("ReduceSum", &["x"], "sum", &[("keepdims", 1)]),
                node("Add", &["column", "sum"], "filled", &[]),
                node("MatMul", &["filled", "row"], "y", &[]),
            ];
        }
    }
    graph.output = vec![y];
    let opset = OperatorSetIdProto { domain: String::new(), version: 13 };
    let model = ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() };
    let path = folder.join(format!("made-{version}.onnx"));
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |value| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(value)),
        ..Default::default()
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().copied().map(dim).collect() });
    let tensor = type_proto::Value::TensorType(type_proto::Tensor { elem_type: FLOAT, shape });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(tensor), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type: FLOAT, float_data: data.to_vec(), ..TensorProto::default() }
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> NodeProto {
    let attribute = |(name, value): &(&str, i64)| AttributeProto {
        name: (*name).into(),
        i: *value,
        r#type: attribute_proto::AttributeType::Int.into(),
        ..AttributeProto::default()
    };
    NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        attribute: attributes.iter().map(attribute).collect(),
        ..NodeProto::default()
    }
}
