//! An answer on the wire.

use super::{
    AnswerForm, Encoded, InferResponse, OipError, Parameters,
    tensors::{self, Head, Written},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct ResponseHead {
    model_name: String,
    #[serde(default)]
    model_version: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(deserialize_with = "tensors::heads")]
    outputs: Vec<Head>,
}

#[derive(Serialize)]
struct WrittenResponse<'a> {
    model_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    parameters: &'a Parameters,
    outputs: Vec<Written<'a>>,
}

impl InferResponse {
    /// Reads an answer; `header_length` is the value of [`super::HEADER_LENGTH`], where it was sent.
    pub fn decode(body: Bytes, header_length: Option<usize>) -> Result<Self, OipError> {
        let (json, raw) = tensors::split(body, header_length)?;
        let head: ResponseHead = serde_json::from_slice(&json)?;
        let outputs = tensors::read("outputs", &json, &head.outputs, raw)?;
        let ResponseHead { model_name, model_version, id, parameters, .. } = head;
        Ok(Self { model_name, model_version, id, parameters, outputs })
    }

    /// Writes the answer, each output in the form that the request asked for.
    pub fn encode(&self, form: &AnswerForm) -> Result<Encoded, OipError> {
        let forms = || self.outputs.iter().map(|tensor| (tensor, form.is_binary(tensor.name())));
        let written = WrittenResponse {
            model_name: &self.model_name,
            model_version: self.model_version.as_deref(),
            id: self.id.as_deref(),
            parameters: &self.parameters,
            outputs: forms().map(|(tensor, binary)| Written::new(tensor, binary)).collect::<Result<_, _>>()?,
        };
        tensors::join(serde_json::to_vec(&written)?, forms())
    }
}
