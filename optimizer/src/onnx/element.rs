//! Element types of ONNX tensors (`TensorProto.DataType`).

use serde::{Deserialize, Serialize};
use std::fmt;

/// An element type, by the numbers of the ONNX standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ElementType {
    Float,
    Uint8,
    Int8,
    Uint16,
    Int16,
    Int32,
    Int64,
    String,
    Bool,
    Float16,
    Double,
    Uint32,
    Uint64,
    Complex64,
    Complex128,
    Bfloat16,
    Float8,
    Int4,
    Uint4,
    Float4,
    Int2,
    Uint2,
}

impl ElementType {
    /// From the number in a file; `None` for 0 (undefined) and numbers the standard does not have.
    pub fn from_code(code: i32) -> Option<Self> {
        use ElementType::*;
        Some(match code {
            1 => Float,
            2 => Uint8,
            3 => Int8,
            4 => Uint16,
            5 => Int16,
            6 => Int32,
            7 => Int64,
            8 => String,
            9 => Bool,
            10 => Float16,
            11 => Double,
            12 => Uint32,
            13 => Uint64,
            14 => Complex64,
            15 => Complex128,
            16 => Bfloat16,
            17..=20 | 24 => Float8,
            21 => Uint4,
            22 => Int4,
            23 => Float4,
            25 => Uint2,
            26 => Int2,
            _ => return None,
        })
    }

    /// Bits of one element; `None` for strings.
    pub fn bits(self) -> Option<u64> {
        use ElementType::*;
        Some(match self {
            String => return None,
            Int2 | Uint2 => 2,
            Int4 | Uint4 | Float4 => 4,
            Uint8 | Int8 | Bool | Float8 => 8,
            Uint16 | Int16 | Float16 | Bfloat16 => 16,
            Float | Int32 | Uint32 => 32,
            Double | Int64 | Uint64 | Complex64 => 64,
            Complex128 => 128,
        })
    }

    /// The name in the Open Inference Protocol v2, where that has one.
    pub fn open_inference_name(self) -> Option<&'static str> {
        use ElementType::*;
        Some(match self {
            Float => "FP32",
            Double => "FP64",
            Float16 => "FP16",
            Bfloat16 => "BF16",
            Uint8 => "UINT8",
            Uint16 => "UINT16",
            Uint32 => "UINT32",
            Uint64 => "UINT64",
            Int8 => "INT8",
            Int16 => "INT16",
            Int32 => "INT32",
            Int64 => "INT64",
            Bool => "BOOL",
            String => "BYTES",
            Complex64 | Complex128 | Float8 | Float4 | Int4 | Uint4 | Int2 | Uint2 => return None,
        })
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}
