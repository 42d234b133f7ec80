//! Files that are not models, or hostile ones: each is refused with a clear error, and what already answers goes on.

use crate::golden::{deploy, golden, name, repository};
use aidos_agent::infer::{LoadError, Models, Settings};
use aidos_protocol::{
    manifest::Manifest,
    oip::{InferRequest, Tensor},
};
use prost::Message as _;
use std::{fs, path::Path};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};

const FLOAT: i32 = 1;
const INT64: i32 = 7;
const FLOAT16: i32 = 10;
const BFLOAT16: i32 = 16;

fn value(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let dim = |dim: &i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(*dim)),
        ..Default::default()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type, shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..Default::default() }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: format!("the_{op}"),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: outputs.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// `x` through `nodes` to `y`.
fn model(elem_type: i32, dims: &[i64], nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(GraphProto {
            name: "g".into(),
            node: nodes,
            initializer,
            input: vec![value("x", elem_type, dims)],
            output: vec![value("y", elem_type, dims)],
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn load(bytes: &[u8]) -> Result<Models, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    fs::write(&file, bytes).unwrap();
    let models = Models::new(Settings::default());
    models.load(&name("m"), 1, &file, Manifest::default()).await?;
    models.activate(&name("m"), 1).unwrap();
    Ok(models)
}

async fn refused(bytes: &[u8]) -> String {
    load(bytes).await.map(|_| ()).unwrap_err().to_string()
}

fn assert_says(error: &str, words: &str) {
    assert!(error.contains(words), "{error}");
}

#[tokio::test]
async fn what_is_not_onnx_is_refused() {
    assert_says(&refused(b"").await, "the file is empty");
    assert_says(&refused(b"\x89PNG\r\n\x1a\n, a picture").await, "not an ONNX model");
    assert_says(&refused(&[0xff; 4096]).await, "not an ONNX model");
}

#[tokio::test]
async fn a_file_that_is_cut_off_anywhere_is_refused_and_never_panics() {
    let whole = fs::read(repository().join("models/digits/digits.onnx")).unwrap();
    for parts in 1..16 {
        let error = refused(&whole[..whole.len() * parts / 16]).await;
        assert!(error.contains("cut off") || error.contains("not an ONNX model"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_file_never_takes_the_agent_down() {
    let whole = fs::read(repository().join("models/digits/digits.onnx")).unwrap();
    let mut state = 7u64;
    for _ in 0..40 {
        let mut damaged = whole.clone();
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // The graph's structure stands in the file's first bytes and between the weights; both are hit.
            let at = (state >> 33) as usize % if state & 1 == 0 { 2_000 } else { damaged.len() };
            damaged[at] ^= 1 << (state >> 30 & 7);
        }
        if let Err(LoadError::Panicked { reason, .. }) = load(&damaged).await.map(|_| ()) {
            assert!(!reason.is_empty());
        }
    }
}

#[tokio::test]
async fn external_data_is_refused_and_no_path_is_opened() {
    for (location, words) in
        [("weights.bin", "external data is not taken"), ("/etc/passwd", "points outside"), ("../w.bin", "points outside")]
    {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        let weights = TensorProto {
            name: "w".into(),
            dims: vec![1],
            data_type: FLOAT,
            data_location: Some(1),
            external_data: vec![entry("location", location)],
            ..Default::default()
        };
        let model = model(FLOAT, &[1], vec![node("Add", &["x", "w"], &["y"])], vec![weights]);
        assert_says(&refused(&model.encode_to_vec()).await, words);
    }
}

#[tokio::test]
async fn an_absurd_dimension_is_refused() {
    let declared = model(FLOAT, &[1 << 60], vec![node("Relu", &["x"], &["y"])], vec![]);
    assert_says(&refused(&declared.encode_to_vec()).await, "1152921504606846976");
    let weights = TensorProto { name: "w".into(), dims: vec![1 << 60, 16], data_type: FLOAT, ..Default::default() };
    let stored = model(FLOAT, &[1], vec![node("Add", &["x", "w"], &["y"])], vec![weights]);
    assert_says(&refused(&stored.encode_to_vec()).await, "`w`");
}

#[tokio::test]
async fn a_value_that_would_fill_the_memory_is_refused_before_it_is_made() {
    let shape = TensorProto {
        name: "s".into(),
        dims: vec![2],
        data_type: INT64,
        int64_data: vec![1 << 20, 1 << 20],
        ..Default::default()
    };
    let grown = model(FLOAT, &[1, 1], vec![node("Expand", &["x", "s"], &["y"])], vec![shape]);
    let error = refused(&grown.encode_to_vec()).await;
    assert_says(&error, "a model may use");
}

#[tokio::test]
async fn a_constant_that_cannot_be_made_is_an_error_and_not_the_end() {
    let shape = TensorProto {
        name: "s".into(),
        dims: vec![2],
        data_type: INT64,
        int64_data: vec![1 << 30, 1 << 30],
        ..Default::default()
    };
    let nodes = vec![node("ConstantOfShape", &["s"], &["c"]), node("Add", &["x", "c"], &["y"])];
    let error = refused(&model(FLOAT, &[1, 1], nodes, vec![shape]).encode_to_vec()).await;
    assert_says(&error, "tract");
}

#[tokio::test]
async fn an_unknown_operator_is_named() {
    let invented = model(FLOAT, &[1], vec![node("Frobnicate", &["x"], &["y"])], vec![]);
    assert_says(&refused(&invented.encode_to_vec()).await, "Frobnicate");
    let standard = model(FLOAT, &[1], vec![node("Det", &["x"], &["y"])], vec![]);
    assert_says(&refused(&standard.encode_to_vec()).await, "tract does not have the operators Det");
}

#[tokio::test]
async fn an_element_type_that_cannot_run_is_named() {
    let model = model(BFLOAT16, &[1], vec![node("Relu", &["x"], &["y"])], vec![]);
    assert_says(&refused(&model.encode_to_vec()).await, "`x` has elements of bfloat16, which tract cannot run");
}

#[tokio::test]
async fn a_file_over_the_limit_is_not_even_read() {
    let settings =
        Settings { limits: aidos_agent::infer::Limits { file_bytes: 1000, ..Default::default() }, ..Settings::default() };
    let file = repository().join("models/digits/digits.onnx");
    let error = Models::new(settings).load(&name("m"), 1, &file, Manifest::default()).await.unwrap_err();
    assert_says(&error.to_string(), "this device takes at most 1000");
}

#[tokio::test]
async fn a_file_that_is_not_there_says_so() {
    let error =
        Models::new(Settings::default()).load(&name("m"), 1, Path::new("/nowhere.onnx"), Manifest::default()).await.unwrap_err();
    assert_says(&error.to_string(), "cannot read the model's file");
}

#[tokio::test]
async fn a_bad_file_does_not_disturb_the_version_that_answers() {
    let golden = golden("digits");
    let models = Models::new(Settings::default());
    deploy(&models, &golden).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.onnx");
    fs::write(&file, b"no model").unwrap();
    assert!(models.load(&name("digits"), 2, &file, Manifest::default()).await.is_err());
    let case = &golden.cases[0];
    let answer = models.infer(&name("digits"), None, InferRequest::of(case.inputs())).await.unwrap();
    case.check(golden.tolerance, &answer);
}

#[tokio::test]
async fn a_file_that_changes_after_it_was_checked_is_not_parsed_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("digits.onnx");
    fs::copy(repository().join("models/digits/digits.onnx"), &file).unwrap();
    let models = Models::new(Settings::default());
    models.load(&name("digits"), 1, &file, Manifest::default()).await.unwrap();
    models.activate(&name("digits"), 1).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let image = |batch: usize| Tensor::fp32("image", vec![batch, 1, 28, 28], &vec![0.0; batch * 784]).unwrap();
    let ask = async |batch| models.infer(&name("digits"), None, InferRequest::of(vec![image(batch)])).await;
    ask(1).await.unwrap();
    assert_says(&ask(3).await.unwrap_err().to_string(), "changed after it was loaded");
}

#[tokio::test]
async fn half_precision_runs() {
    let attribute = |name: &str, value: f32| AttributeProto { name: name.into(), f: value, r#type: 1, ..Default::default() };
    let mut leaky = node("LeakyRelu", &["x"], &["y"]);
    leaky.attribute.push(attribute("alpha", 0.5));
    let models = load(&model(FLOAT16, &[2], vec![leaky], vec![]).encode_to_vec()).await.unwrap();
    // 1.0 and -2.0
    let input =
        Tensor::new("x", aidos_protocol::oip::DataType::Fp16, vec![2], bytes::Bytes::from_static(&[0x00, 0x3c, 0x00, 0xc0]))
            .unwrap();
    let answer = models.infer(&name("m"), None, InferRequest::of(vec![input])).await.unwrap();
    assert_eq!(answer.outputs[0].to_f64().unwrap(), [1.0, -1.0]);
}
