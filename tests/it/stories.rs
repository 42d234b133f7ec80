//! What several stories need: the sample model and its pictures.

use aidos_protocol::artifact::Digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace")
}

/// The sample model's file.
pub(crate) fn sample_model() -> PathBuf {
    root().join("models/digits/digits.onnx")
}

/// The sample model with other bytes: it says `number` and has `padding` bytes of nothing in its documentation, which ONNX's field 6
/// is. It answers as the sample does.
pub(crate) fn variant(folder: &Path, number: u32, padding: usize) -> PathBuf {
    documented(folder, number, format!("{number}{}", " ".repeat(padding)))
}

/// [`variant`] whose padding shrinks by half only and has nothing of another's: hexadecimal digits of a digest after the other. So
/// many bytes go over the line for it, whichever way it comes.
pub(crate) fn noise(folder: &Path, number: u32, padding: usize) -> PathBuf {
    let mut documentation = String::new();
    for round in 0u64.. {
        if documentation.len() >= padding {
            break;
        }
        documentation.push_str(&Digest::of(&[u64::from(number).to_le_bytes(), round.to_le_bytes()].concat()).to_string());
    }
    documented(folder, number, documentation)
}

fn documented(folder: &Path, number: u32, documentation: String) -> PathBuf {
    let mut documentation = documentation.into_bytes();
    let mut bytes = std::fs::read(sample_model()).unwrap();
    bytes.push(6 << 3 | 2);
    let mut length = documentation.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.append(&mut documentation);
    // A push takes the manifest beside the file.
    std::fs::copy(root().join("models/digits/model.toml"), folder.join("model.toml")).unwrap();
    let path = folder.join(format!("variant-{number}.onnx"));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A picture of a handwritten digit.
pub(crate) fn digit(digit: u8) -> PathBuf {
    root().join(format!("models/digits/samples/{digit}.png"))
}

/// Asserts that `aidos predict` said 7 and was sure of it.
pub(crate) fn predicts_seven(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let probability = text.strip_prefix("7  (").and_then(|t| t.trim().strip_suffix(')')).and_then(|t| t.parse::<f64>().ok());
    assert!(probability.is_some_and(|p| p > 0.9), "{text}");
}

/// A fetched model, by the file's stem.
pub(crate) fn fetched(name: &str) -> PathBuf {
    let folder = std::env::var_os("AIDOS_TEST_MODELS").map(PathBuf::from);
    let file = folder.map(|f| f.join(format!("{name}.onnx"))).filter(|f| f.exists());
    file.unwrap_or_else(|| {
        panic!("{name}.onnx is not there: run `cargo xtask test`, which fetches it and sets AIDOS_TEST_MODELS")
    })
}

/// The folder of golden outputs.
pub(crate) fn goldens() -> PathBuf {
    root().join("tests/fixtures/goldens")
}

/// An environment variable that `cargo xtask test` sets.
pub(crate) fn peer(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`, which starts the peers"))
}

/// Golden cases of the sample model as a file to push; with `right` false, none of the outputs is what the model gives.
pub(crate) fn golden(folder: &Path, right: bool) -> PathBuf {
    let text = std::fs::read(root().join("models/digits/golden.json")).unwrap();
    let source: Value = serde_json::from_slice(&text).unwrap();
    let tensors = |list: &Value, turned: bool| -> Vec<Value> {
        let tensor = |tensor: &Value| {
            let mut data: Vec<f32> = match tensor["base64"].as_str() {
                Some(text) => {
                    let bytes = BASE64_STANDARD.decode(text).unwrap();
                    bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
                }
                None => serde_json::from_value(tensor["data"].clone()).unwrap(),
            };
            if turned {
                data.rotate_left(1);
            }
            json!({ "name": tensor["name"], "datatype": "FP32", "shape": tensor["shape"], "data": data })
        };
        list.as_array().unwrap().iter().map(tensor).collect()
    };
    let case = |case: &Value| {
        let outputs = tensors(&case["outputs"], !right);
        let response = json!({ "model_name": "digits", "outputs": outputs });
        json!({ "name": case["name"], "request": { "inputs": tensors(&case["inputs"], false) }, "response": response })
    };
    let cases: Vec<Value> = source["cases"].as_array().unwrap().iter().map(case).collect();
    let path = folder.join(if right { "golden.json" } else { "golden-wrong.json" });
    std::fs::write(&path, serde_json::to_vec(&json!({ "tolerance": 1e-3, "cases": cases })).unwrap()).unwrap();
    path
}
