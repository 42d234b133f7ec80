//! Tensors of the protocol to tract's and back. Types and shapes were checked before, bytes fit by construction.

use super::super::{Port, RunError};
use aidos_protocol::oip::{DataType, Tensor};
use bytes::Bytes;
use tract_onnx::prelude::{DatumType, TValue, Tensor as TractTensor, f16, tract_ndarray::ArrayD};

/// tract's name of an element type; `None` for BF16, which it does not have.
pub(super) fn datum_type(datatype: DataType) -> Option<DatumType> {
    Some(match datatype {
        DataType::Bool => DatumType::Bool,
        DataType::Uint8 => DatumType::U8,
        DataType::Uint16 => DatumType::U16,
        DataType::Uint32 => DatumType::U32,
        DataType::Uint64 => DatumType::U64,
        DataType::Int8 => DatumType::I8,
        DataType::Int16 => DatumType::I16,
        DataType::Int32 => DatumType::I32,
        DataType::Int64 => DatumType::I64,
        DataType::Fp16 => DatumType::F16,
        DataType::Fp32 => DatumType::F32,
        DataType::Fp64 => DatumType::F64,
        DataType::Bytes => DatumType::String,
        DataType::Bf16 => return None,
    })
}

/// A request's tensor in tract's form.
pub(super) fn to_tract(tensor: &Tensor) -> Result<TValue, RunError> {
    let (shape, data) = (tensor.shape(), tensor.data());
    macro_rules! numbers {
        ($kind:ty, $from:expr) => {{
            let (chunks, _) = data.as_chunks::<{ size_of::<$kind>() }>();
            let values: Vec<$kind> = chunks.iter().map(|chunk| $from(*chunk)).collect();
            TractTensor::from_shape(shape, &values).map_err(failed)?
        }};
    }
    let value = match tensor.datatype() {
        DataType::Bool => numbers!(bool, |byte: [u8; 1]| byte[0] != 0),
        DataType::Uint8 => numbers!(u8, u8::from_le_bytes),
        DataType::Uint16 => numbers!(u16, u16::from_le_bytes),
        DataType::Uint32 => numbers!(u32, u32::from_le_bytes),
        DataType::Uint64 => numbers!(u64, u64::from_le_bytes),
        DataType::Int8 => numbers!(i8, i8::from_le_bytes),
        DataType::Int16 => numbers!(i16, i16::from_le_bytes),
        DataType::Int32 => numbers!(i32, i32::from_le_bytes),
        DataType::Int64 => numbers!(i64, i64::from_le_bytes),
        DataType::Fp16 => numbers!(f16, f16::from_le_bytes),
        DataType::Fp32 => numbers!(f32, f32::from_le_bytes),
        DataType::Fp64 => numbers!(f64, f64::from_le_bytes),
        DataType::Bytes => {
            let texts: Vec<String> = tensor
                .byte_strings()
                .map(|bytes| String::from_utf8(bytes.to_vec()))
                .collect::<Result<_, _>>()
                .map_err(|_| RunError::Engine(format!("input `{}` holds bytes that are not UTF-8", tensor.name())))?;
            ArrayD::from_shape_vec(shape.to_vec(), texts).map_err(failed)?.into()
        }
        DataType::Bf16 => return Err(RunError::Engine("BF16 has no elements in tract".into())),
    };
    Ok(value.into())
}

/// A result in the protocol's form, under the name and of the type that the model declares.
pub(super) fn from_tract(port: &Port, value: &TValue) -> Result<Tensor, RunError> {
    let kind = datum_type(port.datatype).ok_or_else(|| RunError::Engine(format!("no {} here", port.datatype)))?;
    // tract computes with its own types inside (dimensions, for one); the declared type is what clients expect.
    let value = value.cast_to_dt(kind).map_err(failed)?;
    let shape = value.shape().to_vec();
    let view = value.try_as_plain_ram().map_err(failed)?;
    macro_rules! numbers {
        ($kind:ty) => {{
            let values = view.as_slice::<$kind>().map_err(failed)?;
            let mut bytes = Vec::with_capacity(size_of_val(values));
            values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            Bytes::from(bytes)
        }};
    }
    let data = match port.datatype {
        DataType::Bool => view.as_slice::<bool>().map_err(failed)?.iter().map(|value| u8::from(*value)).collect(),
        DataType::Uint8 => numbers!(u8),
        DataType::Uint16 => numbers!(u16),
        DataType::Uint32 => numbers!(u32),
        DataType::Uint64 => numbers!(u64),
        DataType::Int8 => numbers!(i8),
        DataType::Int16 => numbers!(i16),
        DataType::Int32 => numbers!(i32),
        DataType::Int64 => numbers!(i64),
        DataType::Fp16 => numbers!(f16),
        DataType::Fp32 => numbers!(f32),
        DataType::Fp64 => numbers!(f64),
        DataType::Bytes => {
            let texts = view.as_slice::<String>().map_err(failed)?;
            return Tensor::bytes(port.name.clone(), shape, texts).map_err(failed);
        }
        DataType::Bf16 => return Err(RunError::Engine("BF16 has no elements in tract".into())),
    };
    Tensor::new(port.name.clone(), port.datatype, shape, data).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> RunError {
    RunError::Engine(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_tract_has_comes_back_as_it_went() {
        for datatype in DataType::ALL.into_iter().filter(|kind| datum_type(*kind).is_some()) {
            let tensor = match datatype.width() {
                Some(width) => Tensor::new("t", datatype, vec![2, 3], vec![1; 6 * width].into()).unwrap(),
                None => Tensor::bytes("t", vec![2, 3], &["a", "", "ü", "b", "c", "d"]).unwrap(),
            };
            let port = Port { name: "t".into(), datatype, shape: None };
            assert_eq!(from_tract(&port, &to_tract(&tensor).unwrap()).unwrap(), tensor, "{datatype}");
        }
    }

    #[test]
    fn scalars_and_empty_tensors_pass() {
        for shape in [vec![], vec![0], vec![2, 0, 3]] {
            let elements: usize = shape.iter().product();
            let tensor = Tensor::fp32("t", shape, &vec![2.5; elements]).unwrap();
            let port = Port { name: "t".into(), datatype: DataType::Fp32, shape: None };
            assert_eq!(from_tract(&port, &to_tract(&tensor).unwrap()).unwrap(), tensor);
        }
    }
}
