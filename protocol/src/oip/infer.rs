//! An inference request and its answer, as values.

use super::{OipError, Parameters, Tensor};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What a client asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferRequest {
    /// Echoed in the answer.
    pub id: Option<String>,
    /// Of the whole request; ones nobody knows are ignored.
    pub parameters: Parameters,
    /// At least one; names are unique.
    pub inputs: Vec<Tensor>,
    /// The outputs wanted; empty means all.
    pub outputs: Vec<RequestedOutput>,
}

/// One output that a request names.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestedOutput {
    /// The output's name in the graph.
    pub name: String,
    /// Whether it comes as raw bytes; `None` follows the request's `binary_data_output`.
    pub binary: Option<bool>,
}

impl InferRequest {
    /// A request for all outputs of `inputs`, with the answer in binary: what a Rust client wants.
    pub fn of(inputs: Vec<Tensor>) -> Self {
        let mut parameters = Parameters::default();
        parameters.set("binary_data_output", super::Parameter::Bool(true));
        Self { inputs, parameters, ..Self::default() }
    }

    /// In which form the client wants each output.
    pub fn answer_form(&self) -> AnswerForm {
        let all = self.parameters.flag("binary_data_output").unwrap_or(false);
        AnswerForm { all, named: self.outputs.iter().filter_map(|o| Some((o.name.clone(), o.binary?))).collect() }
    }

    /// The names of the outputs wanted; empty means all.
    pub fn wanted(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|output| output.name.as_str())
    }
}

/// Which outputs of an answer come as raw bytes and which as JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnswerForm {
    all: bool,
    named: BTreeMap<String, bool>,
}

impl AnswerForm {
    /// Everything as JSON.
    pub fn json() -> Self {
        Self::default()
    }
    /// Everything as raw bytes.
    pub fn binary() -> Self {
        Self { all: true, ..Self::default() }
    }
    /// Whether `output` comes as raw bytes.
    pub fn is_binary(&self, output: &str) -> bool {
        self.named.get(output).copied().unwrap_or(self.all)
    }
}

/// What a model answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferResponse {
    /// The model's name.
    pub model_name: String,
    /// The version that answered.
    pub model_version: Option<String>,
    /// The request's id.
    pub id: Option<String>,
    /// Of the whole answer.
    pub parameters: Parameters,
    /// The outputs asked for, in the order asked; all, in the model's order, where none were named.
    pub outputs: Vec<Tensor>,
}

impl InferResponse {
    /// One output.
    pub fn output(&self, name: &str) -> Option<&Tensor> {
        self.outputs.iter().find(|tensor| tensor.name() == name)
    }
}

/// A message ready to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The body.
    pub body: Bytes,
    /// The value of [`super::HEADER_LENGTH`]; `None` where the body is JSON alone.
    pub header_length: Option<usize>,
}

impl Encoded {
    /// The media type to send with it.
    pub fn content_type(&self) -> &'static str {
        if self.header_length.is_some() { "application/octet-stream" } else { "application/json" }
    }
}

/// Fails on the first name that is there twice.
pub(super) fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), OipError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(OipError::Duplicate(name.to_owned()));
        }
    }
    Ok(())
}
