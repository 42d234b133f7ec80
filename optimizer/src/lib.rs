//! Reads and inspects models, and makes patches between them. Pure: bytes in, facts or a clear refusal out.
//!
//! A model file is hostile until it has passed here. This crate must never open a file, a socket or a path that a model names.

pub mod delta;
pub mod onnx;
