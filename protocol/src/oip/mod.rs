//! The Open Inference Protocol v2: tensors, requests and answers, in JSON and with the binary tensor extension.
//!
//! The server is the agent, the clients are the CLI and any Triton or KServe client. This module knows bytes only; it must never run
//! a model or open a socket. What comes in is hostile: every count, depth and size has a limit, and no input may panic or make it
//! allocate more than a small multiple of what was sent.
//!
//! Message flow of one inference with the binary extension:
//!
//! 1. `POST v2/models/{model}/infer` with `Inference-Header-Content-Length: N`. The first N bytes are JSON; an input that has
//!    `parameters.binary_data_size` has no `data` there.
//! 2. After the JSON come those inputs' raw little-endian bytes, in the JSON's order, without gaps.
//! 3. The answer has the same form for the outputs that asked for it (`binary_data`, or `binary_data_output` for all).

mod data;
mod error;
mod infer;
mod parameter;
mod request;
mod response;
mod tensor;
mod tensors;
pub mod views;

pub use error::OipError;
pub use infer::{AnswerForm, Encoded, InferRequest, InferResponse, RequestedOutput};
pub use parameter::{Parameter, Parameters};
pub use tensor::{DataType, Tensor};

/// The header that carries the length of the JSON part; present exactly when raw tensors follow it.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// The largest request or answer: 64 MiB holds a 4096×4096 RGB image as FP32 with room to spare, or 16 M values.
pub const MAX_BODY: usize = 64 << 20;

/// The most inputs or outputs of one request; the largest published models have a few dozen.
pub const MAX_TENSORS: usize = 256;

/// The most dimensions of a tensor, and the deepest nesting of a JSON array of data; ONNX models rarely pass 6.
pub const MAX_RANK: usize = 16;

/// The most entries of one `parameters` object; Triton defines about ten.
pub const MAX_PARAMETERS: usize = 64;

#[cfg(test)]
mod tests;
