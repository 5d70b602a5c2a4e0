//! Element types, as the safetensors format names them.

pub use safetensors::tensor::Dtype;

use crate::error::{Error, Result};

/// Every dtype of the format with its name, widest rank first.
pub const DTYPES: [(Dtype, &str); 22] = [
    (Dtype::U64, "U64"),
    (Dtype::I64, "I64"),
    (Dtype::F64, "F64"),
    (Dtype::C64, "C64"),
    (Dtype::F32, "F32"),
    (Dtype::U32, "U32"),
    (Dtype::I32, "I32"),
    (Dtype::BF16, "BF16"),
    (Dtype::F16, "F16"),
    (Dtype::U16, "U16"),
    (Dtype::I16, "I16"),
    (Dtype::F8_E5M2FNUZ, "F8_E5M2FNUZ"),
    (Dtype::F8_E4M3FNUZ, "F8_E4M3FNUZ"),
    (Dtype::F8_E8M0, "F8_E8M0"),
    (Dtype::F8_E4M3, "F8_E4M3"),
    (Dtype::F8_E5M2, "F8_E5M2"),
    (Dtype::I8, "I8"),
    (Dtype::U8, "U8"),
    (Dtype::F6_E3M2, "F6_E3M2"),
    (Dtype::F6_E2M3, "F6_E2M3"),
    (Dtype::F4, "F4"),
    (Dtype::BOOL, "BOOL"),
];

/// The name the format gives a dtype.
pub fn dtype_name(dtype: Dtype) -> &'static str {
    DTYPES.iter().find(|(d, _)| *d == dtype).map_or("?", |(_, name)| name)
}

/// The dtype of a name, case-sensitive.
pub fn dtype_named(name: &str) -> Option<Dtype> {
    DTYPES.iter().find(|(_, n)| *n == name).map(|(d, _)| *d)
}

/// Bytes an element must be aligned to: its own size, or 1 below a byte.
pub fn alignment_bytes(dtype: Dtype) -> usize {
    (dtype.bitsize() / 8).max(1)
}

/// Whether weights of this dtype can be pruned and quantized: F64, F32, BF16, F16.
pub fn is_weight_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::BF16 | Dtype::F16)
}

/// Bytes of a tensor; checked, since a header may say anything.
///
/// # Errors
/// When a dimension exceeds 2^63 - 1, when the product overflows, or when the bits do not fill whole bytes.
pub fn tensor_bytes(dtype: Dtype, shape: &[usize]) -> Result<u64> {
    let mut bits: u128 = 1;
    for &dim in shape {
        if dim > i64::MAX as usize {
            return Err(Error::input(format!("dimension {dim} is over 2^63 - 1")));
        }
        bits = bits
            .checked_mul(dim as u128)
            .ok_or_else(|| Error::input(format!("the product of shape {shape:?} overflows")))?;
        if bits > u128::from(u64::MAX) {
            return Err(Error::input(format!("the product of shape {shape:?} overflows")));
        }
    }
    bits *= dtype.bitsize() as u128;
    if !bits.is_multiple_of(8) {
        return Err(Error::input(format!(
            "shape {shape:?} of {} takes {bits} bits, not whole bytes",
            dtype_name(dtype)
        )));
    }
    u64::try_from(bits / 8)
        .ok()
        .filter(|&bytes| bytes <= i64::MAX as u64)
        .ok_or_else(|| Error::input(format!("shape {shape:?} of {} overflows", dtype_name(dtype))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_the_safetensors_crate() {
        for (dtype, name) in DTYPES {
            let json = serde_json::to_string(&dtype).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(dtype_named(name), Some(dtype));
        }
    }

    #[test]
    fn sub_byte_shapes_must_fill_bytes() {
        assert_eq!(tensor_bytes(Dtype::F4, &[3, 2]).unwrap(), 3);
        assert!(tensor_bytes(Dtype::F4, &[3]).is_err());
        assert!(tensor_bytes(Dtype::F32, &[1 << 40, 1 << 40]).is_err());
        assert_eq!(tensor_bytes(Dtype::F32, &[]).unwrap(), 4);
        assert_eq!(tensor_bytes(Dtype::F32, &[0, 7]).unwrap(), 0);
    }
}
