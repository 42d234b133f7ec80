//! What [`super::inspect`] tells about a model.

use super::ElementType;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The facts about one ONNX file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the file format.
    pub ir_version: i64,
    /// The exporter and its version, as the file says.
    pub producer: String,
    /// The operator sets that the graph uses.
    pub opsets: Vec<Opset>,
    /// What must be fed; initializers that older exporters list as inputs are left out.
    pub inputs: Vec<ValueInfo>,
    /// What comes out.
    pub outputs: Vec<ValueInfo>,
    /// Operators by falling count, nested graphs included.
    pub ops: Vec<OpCount>,
    /// Elements of all floating and integer initializers.
    pub parameters: u64,
    /// Bytes of all initializers.
    pub weight_bytes: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// An operator set and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opset {
    /// `ai.onnx` where the file leaves it empty.
    pub domain: String,
    /// Version.
    pub version: i64,
}

/// How often an operator occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpCount {
    /// Name; with its domain and a dot before it unless that is `ai.onnx`.
    pub op: String,
    /// Nodes.
    pub count: u64,
}

/// An input or output of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueInfo {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    pub dtype: ElementType,
    /// Dimensions; `None` when the file does not even tell how many there are.
    pub shape: Option<Vec<Dim>>,
}

/// One dimension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// A fixed length.
    Fixed(u64),
    /// A named length that each request chooses.
    Symbol(String),
    /// A length that each request chooses.
    Any(()),
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Symbol(name) => f.write_str(name),
            Dim::Any(()) => f.write_str("?"),
        }
    }
}

impl fmt::Display for ValueInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.dtype)?;
        match &self.shape {
            None => f.write_str("[…]"),
            Some(dims) => write!(f, "[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}
