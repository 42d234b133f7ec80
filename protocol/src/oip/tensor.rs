//! A named tensor: a type, a shape, and the bytes that the shape asks for.

use super::{MAX_BODY, MAX_RANK, OipError};
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The element types of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DataType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE half; binary only.
    Fp16,
    /// IEEE single.
    Fp32,
    /// IEEE double.
    Fp64,
    /// The upper half of a single; binary only.
    Bf16,
    /// Byte strings, each with a 4-byte little-endian length before it.
    Bytes,
}

impl DataType {
    /// Every type.
    pub const ALL: [DataType; 14] = [
        DataType::Bool,
        DataType::Uint8,
        DataType::Uint16,
        DataType::Uint32,
        DataType::Uint64,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Fp16,
        DataType::Fp32,
        DataType::Fp64,
        DataType::Bf16,
        DataType::Bytes,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            DataType::Bool => "BOOL",
            DataType::Uint8 => "UINT8",
            DataType::Uint16 => "UINT16",
            DataType::Uint32 => "UINT32",
            DataType::Uint64 => "UINT64",
            DataType::Int8 => "INT8",
            DataType::Int16 => "INT16",
            DataType::Int32 => "INT32",
            DataType::Int64 => "INT64",
            DataType::Fp16 => "FP16",
            DataType::Fp32 => "FP32",
            DataType::Fp64 => "FP64",
            DataType::Bf16 => "BF16",
            DataType::Bytes => "BYTES",
        }
    }

    /// Bytes per element; `None` for [`DataType::Bytes`], whose elements differ.
    pub fn width(self) -> Option<usize> {
        Some(match self {
            DataType::Bool | DataType::Uint8 | DataType::Int8 => 1,
            DataType::Uint16 | DataType::Int16 | DataType::Fp16 | DataType::Bf16 => 2,
            DataType::Uint32 | DataType::Int32 | DataType::Fp32 => 4,
            DataType::Uint64 | DataType::Int64 | DataType::Fp64 => 8,
            DataType::Bytes => return None,
        })
    }

    /// Whether JSON has no form for it.
    pub fn binary_only(self) -> bool {
        matches!(self, DataType::Fp16 | DataType::Bf16)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tensor whose bytes fit its shape; only the constructors make one, so whoever holds it need not check again.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    name: String,
    datatype: DataType,
    shape: Vec<usize>,
    data: Bytes,
}

impl Tensor {
    /// A tensor of raw little-endian bytes in row-major order; checks the byte count, BOOL values and BYTES prefixes.
    pub fn new(name: impl Into<String>, datatype: DataType, shape: Vec<usize>, data: Bytes) -> Result<Self, OipError> {
        let name = name.into();
        let elements = elements(&name, datatype, &shape)?;
        match datatype.width() {
            Some(width) if data.len() != elements * width => {
                return Err(OipError::ByteCount { tensor: name, shape, datatype, expected: elements * width, found: data.len() });
            }
            Some(_) => {}
            None => check_prefixes(&name, &shape, elements, &data)?,
        }
        if datatype == DataType::Bool
            && let Some(index) = data.iter().position(|byte| *byte > 1)
        {
            return Err(OipError::NotBool { tensor: name, index, value: data[index] });
        }
        Ok(Self { name, datatype, shape, data })
    }

    /// A FP32 tensor.
    pub fn fp32(name: impl Into<String>, shape: Vec<usize>, values: &[f32]) -> Result<Self, OipError> {
        let mut data = BytesMut::with_capacity(values.len() * 4);
        values.iter().for_each(|value| data.put_f32_le(*value));
        Self::new(name, DataType::Fp32, shape, data.freeze())
    }

    /// A BYTES tensor.
    pub fn bytes<T: AsRef<[u8]>>(name: impl Into<String>, shape: Vec<usize>, values: &[T]) -> Result<Self, OipError> {
        let mut data = BytesMut::new();
        for value in values.iter().map(AsRef::as_ref) {
            let length = u32::try_from(value.len()).map_err(|_| OipError::TooLarge(value.len()))?;
            data.put_u32_le(length);
            data.put_slice(value);
        }
        Self::new(name, DataType::Bytes, shape, data.freeze())
    }

    /// The name in the model's graph.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The element type.
    pub fn datatype(&self) -> DataType {
        self.datatype
    }
    /// The dimensions; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// How many elements; the shape was checked when the tensor was made.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
    /// The raw little-endian bytes, row-major.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The values as `f64`, where the type is a number JSON can carry or FP16/BF16; `None` for BYTES.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        fn read<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            data.as_chunks::<N>().0.iter().map(|chunk| value(*chunk)).collect()
        }
        let data = &self.data[..];
        Some(match self.datatype {
            DataType::Bool | DataType::Uint8 => read(data, |b| f64::from(u8::from_le_bytes(b))),
            DataType::Uint16 => read(data, |b| f64::from(u16::from_le_bytes(b))),
            DataType::Uint32 => read(data, |b| f64::from(u32::from_le_bytes(b))),
            DataType::Uint64 => read(data, |b| u64::from_le_bytes(b) as f64),
            DataType::Int8 => read(data, |b| f64::from(i8::from_le_bytes(b))),
            DataType::Int16 => read(data, |b| f64::from(i16::from_le_bytes(b))),
            DataType::Int32 => read(data, |b| f64::from(i32::from_le_bytes(b))),
            DataType::Int64 => read(data, |b| i64::from_le_bytes(b) as f64),
            DataType::Fp16 => read(data, |b| half_to_f64(u16::from_le_bytes(b))),
            DataType::Fp32 => read(data, |b| f64::from(f32::from_le_bytes(b))),
            DataType::Fp64 => read(data, f64::from_le_bytes),
            DataType::Bf16 => read(data, |b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))),
            DataType::Bytes => return None,
        })
    }

    /// The elements of a BYTES tensor; empty for any other type.
    pub fn byte_strings(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = if self.datatype == DataType::Bytes { &self.data[..] } else { &[] };
        std::iter::from_fn(move || {
            let (prefix, after) = rest.split_first_chunk::<4>()?;
            let (value, after) = after.split_at_checked(u32::from_le_bytes(*prefix) as usize)?;
            rest = after;
            Some(value)
        })
    }
}

/// The number of elements of a shape whose tensor may exist: rank, product and byte count are within their limits.
pub(super) fn elements(name: &str, datatype: DataType, shape: &[usize]) -> Result<usize, OipError> {
    if shape.len() > MAX_RANK {
        return Err(OipError::Rank { tensor: name.to_owned(), rank: shape.len() });
    }
    let too_large = || OipError::ShapeTooLarge { tensor: name.to_owned(), shape: shape.to_vec(), datatype };
    // A BYTES element has at least its 4-byte prefix.
    let width = datatype.width().unwrap_or(4);
    // With a zero anywhere the product is zero, whatever the other dimensions are; those still must not be absurd.
    let bytes =
        shape.iter().filter(|dim| **dim != 0).try_fold(width, |bytes, dim| bytes.checked_mul(*dim)).ok_or_else(too_large)?;
    if bytes > MAX_BODY {
        return Err(too_large());
    }
    Ok(if shape.contains(&0) { 0 } else { bytes / width })
}

fn check_prefixes(name: &str, shape: &[usize], elements: usize, data: &[u8]) -> Result<(), OipError> {
    let (mut rest, mut found) = (data, 0usize);
    while !rest.is_empty() {
        let prefix = || OipError::BytesPrefix { tensor: name.to_owned(), index: found };
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(prefix)?;
        rest = after.get(u32::from_le_bytes(*length) as usize..).ok_or_else(prefix)?;
        found += 1;
    }
    if found == elements {
        return Ok(());
    }
    Err(OipError::ElementCount { tensor: name.to_owned(), shape: shape.to_vec(), expected: elements, found })
}

fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}
