//! The ONNX file format: [`inspect`] checks a file against [`Limits`] and tells what it takes, gives and is made of.
//!
//! Order matters and is fixed: the byte limit, then a walk over the wire format that counts messages without keeping any
//! (`scan`), and only then a parse that allocates.

mod element;
mod error;
mod facts;
mod inspect;
mod operators;
mod scan;

pub use element::ElementType;
pub use error::OnnxError;
pub use facts::{Dim, OpCount, Opset, Summary, ValueInfo};
pub use inspect::inspect;

/// The messages of `proto/onnx.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

/// What a file may hold at most. The defaults fit every model that an edge device can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file. ONNX itself cannot exceed 2 GiB in one file (the protobuf limit).
    pub bytes: usize,
    /// Nodes, tensors, attributes, values and dimensions together, over all nested graphs; a parsed one takes about 200 bytes.
    pub messages: usize,
    /// Graphs within graphs (`If`, `Loop`). Real exports stay below 5.
    pub depth: usize,
    /// Elements of one tensor.
    pub elements: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 2 << 30, messages: 2_000_000, depth: 16, elements: 1 << 31 }
    }
}
