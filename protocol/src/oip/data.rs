//! A tensor's values as a JSON array, flat or nested, to and from little-endian bytes.
//!
//! JSON has no NaN and no infinity: both are written as `null`, and `null` reads as NaN. Who must tell them apart uses the binary form.

use super::{DataType, MAX_BODY, MAX_RANK, OipError, Tensor, tensor};
use serde::{
    Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, SeqAccess, Visitor},
};
use std::fmt;

/// Collects one tensor's values; refuses the first that is too many, so that memory follows the declared shape and what was sent.
pub(super) struct Values<'a> {
    name: &'a str,
    datatype: DataType,
    shape: &'a [usize],
    expected: usize,
    found: usize,
    bytes: Vec<u8>,
}

impl<'a> Values<'a> {
    pub(super) fn new(name: &'a str, datatype: DataType, shape: &'a [usize]) -> Result<Self, OipError> {
        if datatype.binary_only() {
            return Err(OipError::BinaryOnly { tensor: name.to_owned(), datatype });
        }
        let expected = tensor::elements(name, datatype, shape)?;
        Ok(Self { name, datatype, shape, expected, found: 0, bytes: Vec::new() })
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, OipError> {
        if self.found == self.expected {
            return Ok(self.bytes);
        }
        let (tensor, shape) = (self.name.to_owned(), self.shape.to_vec());
        Err(OipError::ElementCount { tensor, shape, expected: self.expected, found: self.found })
    }

    fn count(&mut self) -> Result<(), String> {
        if self.found == self.expected {
            return Err(format!(
                "`{}` has shape {:?}, which is {} elements, but more came",
                self.name, self.shape, self.expected
            ));
        }
        self.found += 1;
        Ok(())
    }

    fn wrong(&self, value: impl fmt::Display) -> String {
        format!("`{}` is {}, but its element {} is {value}", self.name, self.datatype, self.found.saturating_sub(1))
    }

    /// An integer; `i128` holds both of JSON's integer kinds.
    fn integer(&mut self, value: i128) -> Result<(), String> {
        self.count()?;
        macro_rules! put {
            ($kind:ty) => {
                <$kind>::try_from(value).map(|value| self.bytes.extend_from_slice(&value.to_le_bytes())).is_ok()
            };
        }
        let fits = match self.datatype {
            DataType::Bool => match value {
                0 | 1 => put!(u8),
                _ => false,
            },
            DataType::Uint8 => put!(u8),
            DataType::Uint16 => put!(u16),
            DataType::Uint32 => put!(u32),
            DataType::Uint64 => put!(u64),
            DataType::Int8 => put!(i8),
            DataType::Int16 => put!(i16),
            DataType::Int32 => put!(i32),
            DataType::Int64 => put!(i64),
            DataType::Fp32 => {
                self.bytes.extend_from_slice(&(value as f32).to_le_bytes());
                true
            }
            DataType::Fp64 => {
                self.bytes.extend_from_slice(&(value as f64).to_le_bytes());
                true
            }
            DataType::Fp16 | DataType::Bf16 | DataType::Bytes => false,
        };
        if fits { Ok(()) } else { Err(self.wrong(value)) }
    }

    fn float(&mut self, value: f64) -> Result<(), String> {
        self.count()?;
        match self.datatype {
            DataType::Fp32 if value.is_finite() && (value as f32).is_infinite() => return Err(self.wrong(value)),
            DataType::Fp32 => self.bytes.extend_from_slice(&(value as f32).to_le_bytes()),
            DataType::Fp64 => self.bytes.extend_from_slice(&value.to_le_bytes()),
            _ => return Err(self.wrong(value)),
        }
        Ok(())
    }

    fn text(&mut self, value: &str) -> Result<(), String> {
        self.count()?;
        if self.datatype != DataType::Bytes {
            return Err(self.wrong("a string"));
        }
        if self.bytes.len() + 4 + value.len() > MAX_BODY {
            return Err(format!("`{}` has more than {MAX_BODY} bytes", self.name));
        }
        // A text within MAX_BODY has a length that fits 32 bits.
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        Ok(())
    }
}

/// Reads the array into [`Values`]; `depth` counts the arrays around it.
pub(super) struct ArrayOf<'v, 'a> {
    values: &'v mut Values<'a>,
    depth: usize,
}

impl<'v, 'a> ArrayOf<'v, 'a> {
    pub(super) fn new(values: &'v mut Values<'a>) -> Self {
        Self { values, depth: 0 }
    }
    fn scalar<E: serde::de::Error>(self, put: impl FnOnce(&mut Values<'a>) -> Result<(), String>) -> Result<(), E> {
        if self.depth == 0 {
            return Err(E::custom(format_args!("`{}`: data must be an array", self.values.name)));
        }
        put(self.values).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for ArrayOf<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ArrayOf<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of {}, flat or nested", self.values.datatype)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth > MAX_RANK {
            return Err(A::Error::custom(format_args!("`{}`: data is nested deeper than {MAX_RANK}", self.values.name)));
        }
        while seq.next_element_seed(ArrayOf { values: &mut *self.values, depth: self.depth + 1 })?.is_some() {}
        Ok(())
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.scalar(|values| match values.datatype {
            DataType::Bool => values.integer(i128::from(value)),
            _ => values.count().and_then(|()| Err(values.wrong(value))),
        })
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.scalar(|values| values.integer(i128::from(value)))
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.scalar(|values| values.integer(i128::from(value)))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.scalar(|values| values.float(value))
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar(|values| match values.datatype {
            DataType::Fp32 | DataType::Fp64 => values.float(f64::NAN),
            _ => values.count().and_then(|()| Err(values.wrong("null"))),
        })
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.scalar(|values| values.text(value))
    }
}

/// A tensor's values written as a flat JSON array. [`writable`] must have been asked before.
pub(super) struct Flat<'a>(pub(super) &'a Tensor);

/// Whether JSON can carry the tensor's values.
pub(super) fn writable(tensor: &Tensor) -> Result<(), OipError> {
    if tensor.datatype().binary_only() {
        return Err(OipError::BinaryOnly { tensor: tensor.name().to_owned(), datatype: tensor.datatype() });
    }
    if tensor.byte_strings().any(|value| std::str::from_utf8(value).is_err()) {
        return Err(OipError::NotUtf8 { tensor: tensor.name().to_owned() });
    }
    Ok(())
}

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        macro_rules! numbers {
            ($kind:ty) => {{
                const WIDTH: usize = size_of::<$kind>();
                let (chunks, _) = self.0.data().as_chunks::<WIDTH>();
                serializer.collect_seq(chunks.iter().map(|chunk| <$kind>::from_le_bytes(*chunk)))
            }};
        }
        match self.0.datatype() {
            DataType::Bool => serializer.collect_seq(self.0.data().iter().map(|byte| *byte == 1)),
            DataType::Uint8 => numbers!(u8),
            DataType::Uint16 => numbers!(u16),
            DataType::Uint32 => numbers!(u32),
            DataType::Uint64 => numbers!(u64),
            DataType::Int8 => numbers!(i8),
            DataType::Int16 => numbers!(i16),
            DataType::Int32 => numbers!(i32),
            DataType::Int64 => numbers!(i64),
            DataType::Fp32 => numbers!(f32),
            DataType::Fp64 => numbers!(f64),
            DataType::Bytes => serializer.collect_seq(self.0.byte_strings().map(String::from_utf8_lossy)),
            DataType::Fp16 | DataType::Bf16 => {
                Err(serde::ser::Error::custom(format_args!("{} has no JSON form", self.0.datatype())))
            }
        }
    }
}
