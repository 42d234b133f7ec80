//! What can be wrong with a request or an answer. Each text names the tensor and both numbers, so that the sender can mend it.

use super::{DataType, MAX_BODY, MAX_RANK, MAX_TENSORS};

/// A message that does not follow the protocol. Every case is the sender's to mend (HTTP 400; 413 for [`OipError::TooLarge`]).
#[derive(Debug, thiserror::Error)]
pub enum OipError {
    /// More bytes than [`MAX_BODY`].
    #[error("the message has {0} bytes; at most {MAX_BODY} are taken")]
    TooLarge(usize),
    /// Not JSON, a missing or misspelt field, or a value of the wrong kind.
    #[error("the message is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// `Inference-Header-Content-Length` points past the end.
    #[error("Inference-Header-Content-Length is {header}, but the body has {body} bytes")]
    HeaderLength {
        /// What the header says.
        header: usize,
        /// What came.
        body: usize,
    },
    /// A tensor announces raw bytes, but there is no binary part.
    #[error("`{tensor}` has binary_data_size, but the header Inference-Header-Content-Length is missing")]
    NoBinaryPart {
        /// The tensor's name.
        tensor: String,
    },
    /// The binary part ends inside a tensor.
    #[error("`{tensor}` has binary_data_size {size}, but only {left} bytes are left in the body")]
    Truncated {
        /// The tensor's name.
        tensor: String,
        /// What it announces.
        size: u64,
        /// What is there.
        left: usize,
    },
    /// Bytes after the last tensor.
    #[error("{0} bytes follow the last tensor; the sum of binary_data_size must equal the body after the JSON")]
    TrailingBytes(usize),
    /// Neither `data` nor `binary_data_size`, or both.
    #[error("`{tensor}` needs exactly one of `data` and parameters.binary_data_size")]
    DataSource {
        /// The tensor's name.
        tensor: String,
    },
    /// The two half-width types have no JSON form.
    #[error("`{tensor}` is {datatype}, which has no JSON form; use the binary tensor extension")]
    BinaryOnly {
        /// The tensor's name.
        tensor: String,
        /// FP16 or BF16.
        datatype: DataType,
    },
    /// The same name twice.
    #[error("`{0}` is there twice")]
    Duplicate(String),
    /// No inputs at all.
    #[error("the request has no inputs")]
    NoInputs,
    /// Shape and bytes disagree.
    #[error("`{tensor}` has shape {shape:?} of {datatype}, which is {expected} bytes, but {found} bytes came")]
    ByteCount {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its type.
        datatype: DataType,
        /// What the shape needs.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// Shape and values disagree.
    #[error("`{tensor}` has shape {shape:?}, which is {expected} elements, but {found} came")]
    ElementCount {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What the shape needs.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// A shape whose tensor cannot be held.
    #[error("`{tensor}` has shape {shape:?} of {datatype}: more than the {MAX_BODY} bytes a tensor may have")]
    ShapeTooLarge {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its type.
        datatype: DataType,
    },
    /// More dimensions than [`MAX_RANK`].
    #[error("`{tensor}` has {rank} dimensions; at most {MAX_RANK} are taken")]
    Rank {
        /// The tensor's name.
        tensor: String,
        /// How many it has.
        rank: usize,
    },
    /// More tensors than [`MAX_TENSORS`].
    #[error("the message has {0} tensors; at most {MAX_TENSORS} are taken")]
    TooManyTensors(usize),
    /// A BOOL byte that is neither 0 nor 1.
    #[error("`{tensor}` is BOOL, but its byte {index} is {value}; only 0 and 1 are")]
    NotBool {
        /// The tensor's name.
        tensor: String,
        /// Position of the byte.
        index: usize,
        /// The byte.
        value: u8,
    },
    /// A BYTES tensor whose length prefixes lead outside of it.
    #[error("`{tensor}` is BYTES, but its element {index} has a length prefix that leads past the end")]
    BytesPrefix {
        /// The tensor's name.
        tensor: String,
        /// Which element.
        index: usize,
    },
    /// A BYTES element that JSON cannot carry.
    #[error("`{tensor}` holds bytes that are not UTF-8, which JSON cannot carry; ask for it with binary_data")]
    NotUtf8 {
        /// The tensor's name.
        tensor: String,
    },
    /// A feature of the protocol that is not there.
    #[error("`{tensor}` asks for {feature}, which this server does not have")]
    Unsupported {
        /// The tensor's name.
        tensor: String,
        /// What it asks for.
        feature: &'static str,
    },
}
