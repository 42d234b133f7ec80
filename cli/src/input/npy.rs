//! A NumPy `.npy` file into a tensor.

use crate::CliError;
use aidos_protocol::oip::{DataType, Tensor};
use npyz::{DType, NpyHeader, Order, TypeChar};

/// Reads an array in C order of a type that the inference protocol has.
pub(super) fn tensor(name: &str, file: &[u8]) -> Result<Tensor, CliError> {
    let fail = |e: String| {
        CliError::Usage(format!("the .npy file cannot be used: {e}; save it with numpy.save and a type that the model takes"))
    };
    let mut data = file;
    let npy = NpyHeader::from_reader(&mut data).map_err(|e| fail(e.to_string()))?;
    if npy.order() != Order::C && npy.shape().len() > 1 {
        return Err(fail("it is in Fortran order; save it with numpy.ascontiguousarray".into()));
    }
    let shape: Vec<usize> = npy.shape().iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
    let described = npy.dtype();
    let DType::Plain(plain) = &described else {
        return Err(fail("structured arrays are not tensors".into()));
    };
    let datatype = match (plain.type_char(), plain.size_field()) {
        (TypeChar::Bool, _) => DataType::Bool,
        (TypeChar::Int, 1) => DataType::Int8,
        (TypeChar::Int, 2) => DataType::Int16,
        (TypeChar::Int, 4) => DataType::Int32,
        (TypeChar::Int, 8) => DataType::Int64,
        (TypeChar::Uint, 1) => DataType::Uint8,
        (TypeChar::Uint, 2) => DataType::Uint16,
        (TypeChar::Uint, 4) => DataType::Uint32,
        (TypeChar::Uint, 8) => DataType::Uint64,
        (TypeChar::Float, 2) => DataType::Fp16,
        (TypeChar::Float, 4) => DataType::Fp32,
        (TypeChar::Float, 8) => DataType::Fp64,
        _ => return Err(fail(format!("its type {} has no place in a tensor", described.descr()))),
    };
    if plain.endianness() == npyz::Endianness::Big {
        return Err(fail("it is big-endian; save it with .astype(a.dtype.newbyteorder('<'))".into()));
    }
    // After the header come the elements and nothing else.
    match shape.iter().try_fold(datatype.width().unwrap_or(1), |product, &n| product.checked_mul(n)) {
        Some(bytes) if bytes == data.len() => {}
        Some(bytes) if bytes < data.len() => return Err(fail(format!("{} bytes follow its last element", data.len() - bytes))),
        _ => return Err(fail("it is cut off".into())),
    }
    Tensor::new(name, datatype, shape, bytes::Bytes::copy_from_slice(data)).map_err(|e| fail(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\x00", length.as_slice(), header.as_bytes(), data].concat()
    }

    #[test]
    fn an_array_keeps_its_type_shape_and_values() {
        let data: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = tensor("x", &npy("<f4", "(1, 2)", &data)).unwrap();
        assert_eq!((tensor.datatype(), tensor.shape()), (DataType::Fp32, &[1, 2][..]));
        assert_eq!(tensor.to_f64(), Some(vec![1.5, -2.0]));
    }

    #[test]
    fn a_cut_or_foreign_array_is_refused() {
        // Also where fewer bytes lack than the header has: those are no elements.
        for (shape, data) in [("(1000, 1000)", 8), ("(2,)", 7), ("(2,)", 0)] {
            let error = tensor("x", &npy("<f4", shape, &vec![0; data])).unwrap_err().to_string();
            assert!(error.contains("cut off"), "{shape} {data}: {error}");
        }
        assert!(tensor("x", &npy("<f4", "(2,)", &[0; 9])).unwrap_err().to_string().contains("1 bytes follow"));
        assert!(tensor("x", &npy(">f4", "(2,)", &[0; 8])).unwrap_err().to_string().contains("big-endian"));
    }
}
