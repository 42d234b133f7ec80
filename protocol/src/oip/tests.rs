use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn decode(json: &str) -> Result<InferRequest, OipError> {
    InferRequest::decode(Bytes::copy_from_slice(json.as_bytes()), None)
}
fn one(fields: &str) -> Result<InferRequest, OipError> {
    decode(&format!(r#"{{"inputs":[{{"name":"x",{fields}}}]}}"#))
}
fn said(fields: &str) -> String {
    one(fields).unwrap_err().to_string()
}

#[test]
fn flat_and_nested_data_are_the_same_and_may_come_before_the_type() {
    let flat = one(r#""datatype":"INT32","shape":[2,2],"data":[1,2,3,4]"#).unwrap();
    let nested = one(r#""data":[[1,2],[3,4]],"shape":[2,2],"datatype":"INT32""#).unwrap();
    assert_eq!(flat, nested);
    assert_eq!(flat.inputs[0].to_f64().unwrap(), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_wrong_request_is_told_what_is_wrong() {
    assert!(said(r#""datatype":"FP33","shape":[1],"data":[1]"#).contains("unknown variant `FP33`"));
    assert!(said(r#""datatype":"INT8","shape":[1],"data":[300]"#).contains("`x` is INT8, but its element 0 is 300"));
    assert!(said(r#""datatype":"INT8","shape":[1],"data":[1.5]"#).contains("`x` is INT8, but its element 0 is 1.5"));
    assert!(said(r#""datatype":"FP32","shape":[1],"data":["a"]"#).contains("element 0 is a string"));
    assert!(said(r#""datatype":"FP32","shape":[1],"data":[1e300]"#).contains("is FP32"));
    assert!(said(r#""datatype":"FP32","shape":[2,2],"data":[1,2,3]"#).contains("shape [2, 2], which is 4 elements, but 3 came"));
    assert!(said(r#""datatype":"FP32","shape":[2],"data":[1,2,3]"#).contains("which is 2 elements, but more came"));
    assert!(said(r#""datatype":"FP16","shape":[1],"data":[1]"#).contains("binary tensor extension"));
    assert!(said(r#""datatype":"FP32","shape":[1]"#).contains("exactly one of `data` and parameters.binary_data_size"));
    assert!(said(r#""datatype":"FP32","shape":[-1],"data":[]"#).contains("invalid value"));
    assert!(said(r#""datatype":"FP32","shape":[1152921504606846976,16],"data":[]"#).contains("more than the 67108864 bytes"));
    assert!(said(r#""datatype":"FP32","shape":[1],"data":1"#).contains("data must be an array"));
    assert!(decode(r#"{"inputs":[]}"#).unwrap_err().to_string().contains("no inputs"));
    assert!(decode("{}").unwrap_err().to_string().contains("missing field `inputs`"));
    assert!(decode("").unwrap_err().to_string().contains("EOF"));
}

#[test]
fn nesting_lists_and_parameters_are_bounded() {
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    assert!(said(&format!(r#""datatype":"FP32","shape":[1],"data":{deep}"#)).contains("nested deeper than 16"));
    let rank = vec!["1"; 17].join(",");
    assert!(said(&format!(r#""datatype":"FP32","shape":[{rank}],"data":[1]"#)).contains("more than 16 entries"));
    let many = (0..65).map(|n| format!(r#""p{n}":1"#)).collect::<Vec<_>>().join(",");
    assert!(
        said(&format!(r#""datatype":"FP32","shape":[1],"data":[1],"parameters":{{{many}}}"#)).contains("more than 64 parameters")
    );
    assert!(
        said(r#""datatype":"FP32","shape":[1],"data":[1],"parameters":{"a":[[]]}"#).contains("a string, a number or a boolean")
    );
}

#[test]
fn the_binary_part_must_fit_exactly() {
    let json = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}"#;
    let with = |raw: &[u8], header: Option<usize>| {
        let body = [json.as_bytes(), raw].concat();
        InferRequest::decode(body.into(), header)
    };
    assert_eq!(with(&[0; 8], Some(json.len())).unwrap().inputs[0].to_f64().unwrap(), [0.0, 0.0]);
    let text = |raw: &[u8], header| with(raw, header).unwrap_err().to_string();
    assert!(text(&[0; 7], Some(json.len())).contains("binary_data_size 8, but only 7 bytes are left"));
    assert!(text(&[0; 9], Some(json.len())).contains("1 bytes follow the last tensor"));
    assert!(text(&[], None).contains("Inference-Header-Content-Length is missing"));
    assert!(text(&[], Some(10_000)).contains("is 10000, but the body has"));
    let short = json.replace("[2]", "[3]");
    let body = [short.as_bytes(), &[0; 8]].concat();
    let error = InferRequest::decode(body.into(), Some(short.len())).unwrap_err().to_string();
    assert!(error.contains("shape [3] of FP32, which is 12 bytes, but 8 bytes came"), "{error}");
}

#[test]
fn a_bool_byte_other_than_0_and_1_and_a_wild_prefix_are_refused() {
    let error = Tensor::new("b", DataType::Bool, vec![2], Bytes::from_static(&[1, 7])).unwrap_err();
    assert!(error.to_string().contains("byte 1 is 7"));
    let error = Tensor::new("s", DataType::Bytes, vec![1], Bytes::from_static(&[9, 0, 0, 0, b'a'])).unwrap_err();
    assert!(error.to_string().contains("element 0 has a length prefix"));
    let error = Tensor::new("s", DataType::Bytes, vec![2], Bytes::from_static(&[1, 0, 0, 0, b'a'])).unwrap_err();
    assert!(error.to_string().contains("2 elements, but 1 came"));
}

#[test]
fn what_is_not_there_is_refused_not_ignored() {
    let json = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}],"outputs":[{"name":"y","parameters":{"classification":3}}]}"#;
    assert!(decode(json).unwrap_err().to_string().contains("`y` asks for classification"));
    let error = said(r#""datatype":"FP32","shape":[1],"parameters":{"shared_memory_region":"r","shared_memory_byte_size":4}"#);
    assert!(error.contains("shared memory"));
}

#[test]
fn half_width_values_read_as_numbers() {
    let tensor = Tensor::new("h", DataType::Fp16, vec![3], Bytes::from_static(&[0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00])).unwrap();
    assert_eq!(tensor.to_f64().unwrap(), [1.0, -2.0, 2f64.powi(-24)]);
    let tensor = Tensor::new("b", DataType::Bf16, vec![1], Bytes::from_static(&[0x80, 0x3f])).unwrap();
    assert_eq!(tensor.to_f64().unwrap(), [1.0]);
}

#[test]
fn json_carries_nan_and_infinity_as_null() {
    let tensor = Tensor::fp32("y", vec![3], &[1.5, f32::NAN, f32::INFINITY]).unwrap();
    let response = InferResponse { model_name: "m".into(), outputs: vec![tensor], ..InferResponse::default() };
    let encoded = response.encode(&AnswerForm::json()).unwrap();
    assert!(std::str::from_utf8(&encoded.body).unwrap().contains(r#""data":[1.5,null,null]"#));
    let back = InferResponse::decode(encoded.body, None).unwrap().outputs[0].to_f64().unwrap();
    assert!(back[0] == 1.5 && back[1].is_nan() && back[2].is_nan());
}

#[test]
fn each_output_comes_in_the_form_it_was_asked_for() {
    let json = r#"{"id":"7","parameters":{"binary_data_output":true},"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}],
        "outputs":[{"name":"a"},{"name":"b","parameters":{"binary_data":false}}]}"#;
    let request = decode(json).unwrap();
    let form = request.answer_form();
    assert!(form.is_binary("a") && !form.is_binary("b"));
    assert_eq!(request.wanted().collect::<Vec<_>>(), ["a", "b"]);
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let shape = proptest::collection::vec(0usize..4, 0..4);
    (0..DataType::ALL.len(), shape).prop_flat_map(|(kind, shape)| {
        let datatype = DataType::ALL[kind];
        let elements: usize = shape.iter().product();
        let width = datatype.width().unwrap_or(3);
        proptest::collection::vec(any::<u8>(), elements * width).prop_map(move |mut raw| match datatype {
            DataType::Bytes => {
                let texts: Vec<String> = raw.chunks(3).map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect();
                Tensor::bytes("t", shape.clone(), &texts).unwrap()
            }
            _ => {
                if datatype == DataType::Bool {
                    raw.iter_mut().for_each(|byte| *byte &= 1);
                }
                Tensor::new("t", datatype, shape.clone(), raw.into()).unwrap()
            }
        })
    })
}

fn finite(tensor: &Tensor) -> bool {
    tensor.to_f64().is_none_or(|values| values.iter().all(|value| value.is_finite()))
}

proptest! {
    #[test]
    fn a_request_reads_back_as_it_was_written(tensor in tensor(), id in proptest::option::of("[a-z]{0,8}"), binary in any::<bool>()) {
        let binary = binary || tensor.datatype().binary_only() || !finite(&tensor);
        let request = InferRequest { id, inputs: vec![tensor], ..InferRequest::of(Vec::new()) };
        let encoded = request.encode(binary).unwrap();
        prop_assert_eq!(InferRequest::decode(encoded.body, encoded.header_length).unwrap(), request);
    }

    #[test]
    fn an_answer_reads_back_as_it_was_written(tensor in tensor(), binary in any::<bool>()) {
        let binary = binary || tensor.datatype().binary_only() || !finite(&tensor);
        let response = InferResponse { model_name: "m".into(), outputs: vec![tensor], ..InferResponse::default() };
        let encoded = response.encode(&if binary { AnswerForm::binary() } else { AnswerForm::json() }).unwrap();
        prop_assert_eq!(InferResponse::decode(encoded.body, encoded.header_length).unwrap(), response);
    }

    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..256), header in proptest::option::of(0usize..300)) {
        let _ = InferRequest::decode(body.clone().into(), header);
        let _ = InferResponse::decode(body.into(), header);
    }

    #[test]
    fn a_damaged_request_never_panics(tensor in tensor(), at in any::<prop::sample::Index>(), byte in any::<u8>(), binary in any::<bool>()) {
        let binary = binary || tensor.datatype().binary_only();
        let encoded = InferRequest::of(vec![tensor]).encode(binary).unwrap();
        let mut body = encoded.body.to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let _ = InferRequest::decode(body.into(), encoded.header_length);
    }
}
