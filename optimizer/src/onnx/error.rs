//! Why a file is not a model that can be taken.

/// A refusal. Each message names what is wrong and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnnxError {
    /// Larger than the limit.
    #[error("the file has {is} bytes, the limit is {limit}: quantize the model or raise the limit")]
    TooLarge {
        /// Bytes of the file.
        is: usize,
        /// Bytes that are taken.
        limit: usize,
    },
    /// Not protobuf at all, or protobuf of something else.
    #[error("this is not an ONNX model: {0}")]
    NotOnnx(String),
    /// The file ends inside a message.
    #[error("the ONNX file is cut off: {what} at byte {at} reaches beyond the end at {end}; copy or download it again")]
    Truncated {
        /// Which part.
        what: &'static str,
        /// Offset in bytes.
        at: usize,
        /// Length of the file in bytes.
        end: usize,
    },
    /// Too many parts or too deep.
    #[error("the model has more than {limit} {what}; such a file is not taken")]
    Excess {
        /// What there is too much of.
        what: &'static str,
        /// The most that is taken.
        limit: usize,
    },
    /// A tensor whose data lies in another file.
    #[error(
        "tensor `{tensor}` keeps its data in another file (`{location}`): external data is not taken; \
         save the model as one file (onnx.save_model(…, save_as_external_data=False))"
    )]
    ExternalData {
        /// The tensor's name.
        tensor: String,
        /// The path it names.
        location: String,
    },
    /// External data that tries to leave the model's folder.
    #[error("tensor `{tensor}` points outside the model with the path `{location}`: this file is refused")]
    PathEscape {
        /// The tensor's name.
        tensor: String,
        /// The path it names.
        location: String,
    },
    /// A dimension, or a product of dimensions, that cannot be.
    #[error("`{value}` has the shape {shape}: {reason}")]
    Shape {
        /// The value's or tensor's name.
        value: String,
        /// The shape as written.
        shape: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor whose bytes do not match its shape.
    #[error("tensor `{tensor}` of shape {shape} should have {expected} bytes and has {is}")]
    Weights {
        /// The tensor's name.
        tensor: String,
        /// The shape as written.
        shape: String,
        /// Bytes by dtype and shape.
        expected: u64,
        /// Bytes in the file.
        is: u64,
    },
    /// A dtype number outside the standard.
    #[error("`{value}` has the element type {code}, which ONNX does not define")]
    ElementType {
        /// The value's or tensor's name.
        value: String,
        /// The number in the file.
        code: i32,
    },
    /// An operator that neither the standard nor the file itself defines.
    #[error(
        "node `{node}` uses the operator `{operator}` of the domain `{domain}`, which is neither in the ONNX standard nor defined \
         in the file; export the model without custom operators"
    )]
    UnknownOperator {
        /// The node's name, or its first output's.
        node: String,
        /// The operator's name.
        operator: String,
        /// Its domain.
        domain: String,
    },
    /// A graph input or output that is not a tensor.
    #[error("`{value}` is a {kind}, only tensors can be served")]
    NotATensor {
        /// The value's name.
        value: String,
        /// `sequence`, `map`, …
        kind: &'static str,
    },
}
