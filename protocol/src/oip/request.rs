//! An inference request on the wire.

use super::{
    Encoded, InferRequest, MAX_TENSORS, OipError, Parameters, RequestedOutput,
    infer::unique,
    tensors::{self, Head, Written},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct RequestHead {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(deserialize_with = "tensors::heads")]
    inputs: Vec<Head>,
    #[serde(default, deserialize_with = "tensors::at_most::<_, _, MAX_TENSORS>")]
    outputs: Vec<OutputHead>,
}

#[derive(Deserialize)]
struct OutputHead {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Serialize)]
struct WrittenRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    parameters: &'a Parameters,
    inputs: Vec<Written<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<WrittenOutput<'a>>,
}

#[derive(Serialize)]
struct WrittenOutput<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    parameters: Parameters,
}

impl InferRequest {
    /// Reads a request; `header_length` is the value of [`super::HEADER_LENGTH`], where it was sent.
    pub fn decode(body: Bytes, header_length: Option<usize>) -> Result<Self, OipError> {
        let (json, raw) = tensors::split(body, header_length)?;
        let head: RequestHead = serde_json::from_slice(&json)?;
        if head.inputs.is_empty() {
            return Err(OipError::NoInputs);
        }
        let inputs = tensors::read("inputs", &json, &head.inputs, raw)?;
        unique(head.outputs.iter().map(|output| output.name.as_str()))?;
        let outputs = head.outputs.into_iter().map(requested).collect::<Result<_, _>>()?;
        Ok(Self { id: head.id, parameters: head.parameters, inputs, outputs })
    }

    /// Writes the request, all inputs as JSON or all as raw bytes.
    pub fn encode(&self, binary: bool) -> Result<Encoded, OipError> {
        let outputs = self.outputs.iter().map(|output| {
            let mut parameters = Parameters::default();
            if let Some(binary) = output.binary {
                parameters.set("binary_data", super::Parameter::Bool(binary));
            }
            WrittenOutput { name: &output.name, parameters }
        });
        let written = WrittenRequest {
            id: self.id.as_deref(),
            parameters: &self.parameters,
            inputs: self.inputs.iter().map(|tensor| Written::new(tensor, binary)).collect::<Result<_, _>>()?,
            outputs: outputs.collect(),
        };
        tensors::join(serde_json::to_vec(&written)?, self.inputs.iter().map(|tensor| (tensor, binary)))
    }
}

fn requested(output: OutputHead) -> Result<RequestedOutput, OipError> {
    let unsupported = [("classification", "classification"), ("shared_memory_region", "shared memory")];
    for (parameter, feature) in unsupported {
        // A client that does not want classes may still send a count of zero.
        if output.parameters.get(parameter).is_some() && output.parameters.count(parameter) != Some(0) {
            return Err(OipError::Unsupported { tensor: output.name, feature });
        }
    }
    Ok(RequestedOutput { binary: output.parameters.flag("binary_data"), name: output.name })
}
