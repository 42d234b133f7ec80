//! Reads `tests/fixtures/goldens/*.json` (their README describes the format) and finds the models they were made from.
//! A model that is not there is a failure with the command that brings it, never a silent pass.

use aidos_agent::infer::{ModelInfo, Models};
use aidos_protocol::{
    ModelName,
    artifact::Digest,
    manifest::Manifest,
    oip::{DataType, InferResponse, Tensor},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) model: String,
    pub(crate) sha256: String,
    pub(crate) tolerance: f64,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    datatype: DataType,
    shape: Vec<usize>,
    data: Option<Vec<f64>>,
    base64: Option<String>,
    fill: Option<Fill>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Fill {
    Lcg { seed: u64, low: f64, high: f64 },
    Bytes { base64: String, scale: f64, offset: f64, repeat: usize },
}

#[derive(Deserialize)]
struct Output {
    name: String,
    datatype: DataType,
    shape: Vec<usize>,
    indices: Option<Vec<usize>>,
    data: Vec<f64>,
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn golden(name: &str) -> Golden {
    let path = repository().join("tests/fixtures/goldens").join(format!("{name}.json"));
    serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()
}

/// The file that a golden was made from.
pub(crate) fn model_file(golden: &Golden) -> PathBuf {
    let path = match golden.model.as_str() {
        "digits" => repository().join("models/digits/digits.onnx"),
        name => {
            let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap()).join(".cache"));
            cache.join("aidos/models").join(format!("{name}.onnx"))
        }
    };
    let hint = "run `cargo xtask test`, or tests/fixtures/models/fetch.py once";
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; {hint}", path.display()));
    assert_eq!(Digest::of(&bytes).hex(), golden.sha256, "{} is another file; {hint}", path.display());
    path
}

pub(crate) fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

/// Loads a golden's model as version 1 and makes it answer.
pub(crate) async fn deploy(models: &Models, golden: &Golden) -> ModelInfo {
    let (name, file) = (name(&golden.model), model_file(golden));
    let manifest = file.with_file_name("model.toml");
    let manifest = fs::read_to_string(manifest).map_or_else(|_| Manifest::default(), |text| Manifest::from_toml(&text).unwrap());
    models.load(&name, 1, &file, manifest).await.unwrap();
    models.activate(&name, 1).unwrap()
}

impl Case {
    pub(crate) fn inputs(&self) -> Vec<Tensor> {
        self.inputs.iter().map(Input::tensor).collect()
    }

    /// Fails on the first value that is farther away than the tolerance.
    pub(crate) fn check(&self, tolerance: f64, answer: &InferResponse) {
        assert_eq!(answer.outputs.len(), self.outputs.len(), "{}", self.name);
        for (expected, found) in self.outputs.iter().zip(&answer.outputs) {
            let place = format!("{} / {}", self.name, expected.name);
            assert_eq!((found.name(), found.datatype()), (expected.name.as_str(), expected.datatype), "{place}");
            assert_eq!(found.shape(), expected.shape, "{place}");
            let values = found.to_f64().unwrap();
            for (order, value) in expected.data.iter().enumerate() {
                let index = expected.indices.as_ref().map_or(order, |indices| indices[order]);
                let (found, allowed) = (values[index], tolerance * value.abs().max(1.0));
                assert!((found - value).abs() <= allowed, "{place}: element {index} is {found}, expected {value}");
            }
        }
    }
}

impl Input {
    fn tensor(&self) -> Tensor {
        let elements: usize = self.shape.iter().product();
        if let Some(raw) = &self.base64 {
            let raw = BASE64_STANDARD.decode(raw).unwrap();
            return Tensor::new(&self.name, self.datatype, self.shape.clone(), raw.into()).unwrap();
        }
        let integer = self.datatype != DataType::Fp32;
        let values: Vec<f64> = match (&self.data, &self.fill) {
            (Some(data), _) => data.clone(),
            (None, Some(Fill::Lcg { seed, low, high })) => {
                let mut state = *seed;
                let draw = |_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let drawn = low + (high - low) * ((state >> 40) as f64 / f64::from(1 << 24));
                    if integer { drawn.floor() } else { drawn }
                };
                (0..elements).map(draw).collect()
            }
            (None, Some(Fill::Bytes { base64, scale, offset, repeat })) => {
                let plane = BASE64_STANDARD.decode(base64).unwrap();
                let plane: Vec<f64> = plane.iter().map(|byte| f64::from(*byte) * scale + offset).collect();
                plane.repeat(*repeat)
            }
            (None, None) => panic!("{} has no source", self.name),
        };
        assert_eq!(values.len(), elements, "{}", self.name);
        let raw: Vec<u8> = match self.datatype {
            DataType::Fp32 => values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect(),
            DataType::Int32 => values.iter().flat_map(|value| (*value as i32).to_le_bytes()).collect(),
            DataType::Int64 => values.iter().flat_map(|value| (*value as i64).to_le_bytes()).collect(),
            other => panic!("{}: {other} is not in any golden", self.name),
        };
        Tensor::new(&self.name, self.datatype, self.shape.clone(), raw.into()).unwrap()
    }
}
