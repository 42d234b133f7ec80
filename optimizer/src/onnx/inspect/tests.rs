//! Well-formed and hostile files, built field by field.

use super::super::proto::*;
use super::*;
use proptest::prelude::*;

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&n: &i64| tensor_shape_proto::Dimension { value: Some(tensor_shape_proto::dimension::Value::DimValue(n)) };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: 1, shape: Some(shape) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }) }
}

fn weights(dims: Vec<i64>, bytes: usize) -> TensorProto {
    TensorProto { name: "w".into(), dims, data_type: 1, raw_data: vec![0; bytes].into(), ..Default::default() }
}

fn node(op: &str) -> NodeProto {
    NodeProto { op_type: op.into(), input: vec!["x".into(), "w".into()], output: vec!["y".into()], ..Default::default() }
}

fn model() -> ModelProto {
    let graph = GraphProto {
        node: vec![node("MatMul")],
        initializer: vec![weights(vec![4, 2], 32)],
        input: vec![value("x", &[1, 4]), value("w", &[4, 2])],
        output: vec![value("y", &[1, 2])],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
    ModelProto { ir_version: 8, graph: Some(graph), opset_import: vec![opset], ..Default::default() }
}

fn check(model: &ModelProto) -> Result<Summary, OnnxError> {
    inspect(model.encode_to_vec().into(), &Limits::default())
}

fn with_graph(change: impl FnOnce(&mut GraphProto)) -> OnnxError {
    let mut model = model();
    change(model.graph.as_mut().unwrap());
    check(&model).unwrap_err()
}

#[test]
fn a_model_tells_what_it_takes_gives_and_is_made_of() {
    let summary = check(&model()).unwrap();
    assert_eq!(summary.inputs.iter().map(ValueInfo::to_string).collect::<Vec<_>>(), ["x: float[1, 4]"]);
    assert_eq!(summary.outputs[0].to_string(), "y: float[1, 2]");
    assert_eq!((summary.parameters, summary.weight_bytes), (8, 32));
    assert_eq!(summary.ops, [OpCount { op: "MatMul".into(), count: 1 }]);
    assert_eq!(summary.opsets, [Opset { domain: "ai.onnx".into(), version: 17 }]);
}

#[test]
fn the_sample_model_reads_as_its_card_says() {
    let file = include_bytes!("../../../../models/digits/digits.onnx");
    let summary = inspect(Bytes::from_static(file), &Limits::default()).unwrap();
    assert_eq!(summary.inputs[0].to_string(), "image: float[N, 1, 28, 28]");
    assert_eq!(summary.outputs[0].to_string(), "probabilities: float[N, 10]");
    assert_eq!((summary.parameters, summary.bytes), (61_130, file.len() as u64));
}

#[test]
fn what_is_not_onnx_is_refused() {
    for bytes in [&b"\x89PNG\r\n\x1a\n"[..], b"", b"PK\x03\x04", b"hello world, this is text"] {
        let error = inspect(Bytes::copy_from_slice(bytes), &Limits::default()).unwrap_err();
        assert!(matches!(error, OnnxError::NotOnnx(_) | OnnxError::Truncated { .. }), "{error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_and_never_panics() {
    let whole = model().encode_to_vec();
    let graph_end = whole.len() - 4;
    for length in 1..graph_end {
        assert!(inspect(Bytes::copy_from_slice(&whole[..length]), &Limits::default()).is_err(), "{length} bytes");
    }
    let cut = inspect(Bytes::copy_from_slice(&whole[..graph_end / 2]), &Limits::default()).unwrap_err();
    assert!(cut.to_string().contains("cut off"), "{cut}");
}

#[test]
fn external_data_is_refused_and_an_escaping_path_is_called_one() {
    let external = |location: &str| {
        let entry = StringStringEntryProto { key: "location".into(), value: location.into() };
        with_graph(|g| {
            g.initializer[0].data_location = EXTERNAL;
            g.initializer[0].external_data = vec![entry];
        })
    };
    assert!(matches!(external("weights.bin"), OnnxError::ExternalData { .. }));
    for path in ["/etc/passwd", "../../secret", "a/../../b", "C:\\x", "\\\\host\\share"] {
        assert!(matches!(external(path), OnnxError::PathEscape { .. }), "{path}");
    }
}

#[test]
fn external_data_hidden_in_a_nested_graph_is_found() {
    let error = with_graph(|g| {
        let mut tensor = weights(vec![1], 4);
        tensor.data_location = EXTERNAL;
        let inner = GraphProto { initializer: vec![tensor], ..Default::default() };
        g.node[0].attribute = vec![AttributeProto { name: "then_branch".into(), g: Some(inner), ..Default::default() }];
    });
    assert!(matches!(error, OnnxError::ExternalData { .. }));
}

#[test]
fn a_dimension_of_2_to_the_60_is_refused_wherever_it_stands() {
    for error in [
        with_graph(|g| g.input[0] = value("x", &[1 << 60])),
        with_graph(|g| g.output[0] = value("y", &[1 << 30, 1 << 30])),
        with_graph(|g| g.initializer[0].dims = vec![1 << 60]),
        with_graph(|g| g.value_info = vec![value("v", &[1 << 60])]),
    ] {
        assert!(matches!(error, OnnxError::Shape { .. }), "{error}");
    }
}

#[test]
fn weights_that_do_not_fill_their_shape_are_refused() {
    let error = with_graph(|g| g.initializer[0] = weights(vec![4, 2], 31));
    assert_eq!(error, OnnxError::Weights { tensor: "w".into(), shape: "[4, 2]".into(), expected: 32, is: 31 });
}

#[test]
fn an_unknown_operator_is_named_and_a_local_function_is_known() {
    let error = with_graph(|g| g.node[0] = node("Frobnicate"));
    assert!(error.to_string().contains("`Frobnicate`"), "{error}");
    let mut with_function = model();
    with_function.graph.as_mut().unwrap().node[0].op_type = "Mine".into();
    with_function.graph.as_mut().unwrap().node[0].domain = "local".into();
    let function = FunctionProto { name: "Mine".into(), domain: "local".into(), node: vec![node("MatMul")] };
    with_function.functions = vec![function];
    assert!(check(&with_function).is_ok());
}

#[test]
fn limits_hold_before_anything_is_allocated() {
    let bomb = with_graph(|g| g.node = vec![NodeProto::default(); 2_000_001]);
    assert!(matches!(bomb, OnnxError::Excess { .. }), "{bomb}");
    let small = Limits { bytes: 8, ..Limits::default() };
    assert!(matches!(inspect(model().encode_to_vec().into(), &small), Err(OnnxError::TooLarge { .. })));
    let deep = with_graph(|g| {
        let mut inner = GraphProto::default();
        for _ in 0..40 {
            let attribute = AttributeProto { g: Some(inner), ..Default::default() };
            inner = GraphProto { node: vec![NodeProto { attribute: vec![attribute], ..node("If") }], ..Default::default() };
        }
        *g = inner;
    });
    assert!(matches!(deep, OnnxError::Excess { .. }), "{deep}");
}

#[test]
fn a_sequence_output_is_refused_by_name() {
    let error = with_graph(|g| {
        g.output[0].r#type = Some(TypeProto { value: Some(type_proto::Value::SequenceType(type_proto::Opaque {})) });
    });
    assert_eq!(error, OnnxError::NotATensor { value: "y".into(), kind: "sequence" });
}

proptest! {
    #[test]
    fn random_and_mutated_bytes_never_panic(noise in proptest::collection::vec(any::<u8>(), 0..256), flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let _ = inspect(noise.into(), &Limits::default());
        let mut mutated = model().encode_to_vec();
        for (index, byte) in flips {
            let i = index.index(mutated.len());
            mutated[i] = byte;
        }
        let _ = inspect(mutated.into(), &Limits::default());
    }
}
