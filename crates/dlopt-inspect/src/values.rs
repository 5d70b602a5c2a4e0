//! Elements of every dtype as numbers.
//!
//! Floats of at most 32 bits become `f32`, exactly; everything else becomes `f64`. A complex number is two values.

use dlopt_checkpoint::{Dtype, TensorInfo};
use dlopt_kernels::{Float, widen};

/// A run of values of one tensor.
#[derive(Default)]
pub(crate) struct Values {
    /// Floats of at most 32 bits.
    pub(crate) single: Vec<f32>,
    /// Everything else, or all when asked for.
    pub(crate) double: Vec<f64>,
}

/// Whether elements of this dtype are floating-point numbers, of any width.
pub(crate) fn is_float(dtype: Dtype) -> bool {
    !matches!(
        dtype,
        Dtype::BOOL
            | Dtype::U8
            | Dtype::I8
            | Dtype::U16
            | Dtype::I16
            | Dtype::U32
            | Dtype::I32
            | Dtype::U64
            | Dtype::I64
    )
}

/// Whether `f32` holds every value of this dtype.
pub(crate) fn fits_single(dtype: Dtype) -> bool {
    is_float(dtype) && dtype != Dtype::F64
}

/// Values in a tensor: its elements, or twice as many when they are complex.
pub(crate) fn value_count(info: &TensorInfo) -> usize {
    info.elements() * if info.dtype == Dtype::C64 { 2 } else { 1 }
}

/// Bits of one value.
pub(crate) fn value_bits(dtype: Dtype) -> usize {
    if dtype == Dtype::C64 { 32 } else { dtype.bitsize() }
}

impl Values {
    /// Reads values: into `single` when the dtype fits and `as_double` is not set, else into `double`.
    /// `bytes` holds whole values.
    pub(crate) fn read(&mut self, dtype: Dtype, bytes: &[u8], as_double: bool) {
        self.single.clear();
        self.double.clear();
        if fits_single(dtype) {
            read_single(dtype, bytes, &mut self.single);
            if as_double {
                self.double.extend(self.single.iter().map(|&x| f64::from(x)));
            }
        } else {
            read_double(dtype, bytes, &mut self.double);
        }
    }
}

fn read_single(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) {
    let kind = match dtype {
        Dtype::F32 | Dtype::C64 => Some(Float::F32),
        Dtype::F16 => Some(Float::F16),
        Dtype::BF16 => Some(Float::BF16),
        _ => None,
    };
    if let Some(kind) = kind {
        out.resize(bytes.len() / kind.bytes(), 0.0);
        return widen(kind, bytes, out);
    }
    match dtype {
        Dtype::F4 => {
            let table = table(dtype);
            out.extend(bytes.iter().flat_map(|b| [table[usize::from(b & 15)], table[usize::from(b >> 4)]]));
        }
        Dtype::F6_E2M3 | Dtype::F6_E3M2 => {
            let table = table(dtype);
            for three in bytes.as_chunks::<3>().0 {
                let word = u32::from_le_bytes([three[0], three[1], three[2], 0]);
                out.extend((0..4).map(|i| table[(word >> (6 * i)) as usize & 63]));
            }
        }
        _ => {
            let table = table(dtype);
            out.extend(bytes.iter().map(|&b| table[usize::from(b)]));
        }
    }
}

fn read_double(dtype: Dtype, bytes: &[u8], out: &mut Vec<f64>) {
    macro_rules! read {
        ($type:ty, $width:literal) => {
            out.extend(bytes.as_chunks::<$width>().0.iter().map(|b| <$type>::from_le_bytes(*b) as f64))
        };
    }
    match dtype {
        Dtype::BOOL => out.extend(bytes.iter().map(|&b| f64::from(u8::from(b != 0)))),
        Dtype::U8 => read!(u8, 1),
        Dtype::I8 => read!(i8, 1),
        Dtype::U16 => read!(u16, 2),
        Dtype::I16 => read!(i16, 2),
        Dtype::U32 => read!(u32, 4),
        Dtype::I32 => read!(i32, 4),
        Dtype::U64 => read!(u64, 8),
        Dtype::I64 => read!(i64, 8),
        _ => read!(f64, 8),
    }
}

/// Every code of a float of at most 8 bits.
fn table(dtype: Dtype) -> [f32; 256] {
    let mut table = [0.0; 256];
    for (code, value) in table.iter_mut().enumerate() {
        *value = small_float(dtype, code as u32);
    }
    table
}

/// One code of a float of at most 8 bits; higher bits are ignored.
fn small_float(dtype: Dtype, code: u32) -> f32 {
    // Exponent bits, mantissa bits, bias.
    let (exponent_bits, mantissa_bits, bias) = match dtype {
        Dtype::F8_E8M0 if code == 255 => return f32::NAN,
        Dtype::F8_E8M0 => return (f64::from(code) - 127.0).exp2() as f32,
        Dtype::F8_E4M3 => (4, 3, 7),
        Dtype::F8_E4M3FNUZ => (4, 3, 8),
        Dtype::F8_E5M2 => (5, 2, 15),
        Dtype::F8_E5M2FNUZ => (5, 2, 16),
        Dtype::F6_E2M3 => (2, 3, 1),
        Dtype::F6_E3M2 => (3, 2, 3),
        _ => (2, 1, 1), // F4
    };
    let sign_bit = 1 << (exponent_bits + mantissa_bits);
    let magnitude = code & (sign_bit - 1);
    let is_negative = code & sign_bit != 0;
    let is_nan = match dtype {
        Dtype::F8_E4M3 => magnitude == 0x7f,
        Dtype::F8_E5M2 => magnitude > 0x7c,
        Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ => is_negative && magnitude == 0,
        _ => false,
    };
    if is_nan {
        return f32::NAN;
    }
    let value = if dtype == Dtype::F8_E5M2 && magnitude == 0x7c {
        f32::INFINITY
    } else {
        let (exponent, mantissa) = (magnitude >> mantissa_bits, magnitude & ((1 << mantissa_bits) - 1));
        let (lead, exponent) = if exponent == 0 { (0, 1) } else { (1 << mantissa_bits, exponent as i32) };
        (lead + mantissa) as f32 * ((exponent - bias - mantissa_bits) as f32).exp2()
    };
    if is_negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_have_their_known_extremes() {
        assert_eq!(small_float(Dtype::F8_E4M3, 0x7e), 448.0);
        assert_eq!(small_float(Dtype::F8_E4M3, 0x01), 2f32.powi(-9));
        assert!(small_float(Dtype::F8_E4M3, 0xff).is_nan());
        assert_eq!(small_float(Dtype::F8_E5M2, 0x7b), 57344.0);
        assert_eq!(small_float(Dtype::F8_E5M2, 0xfc), f32::NEG_INFINITY);
        assert_eq!(small_float(Dtype::F8_E4M3FNUZ, 0x7f), 240.0);
        assert!(small_float(Dtype::F8_E5M2FNUZ, 0x80).is_nan());
        assert_eq!(small_float(Dtype::F8_E5M2FNUZ, 0x7f), 57344.0);
        assert_eq!(small_float(Dtype::F8_E8M0, 127), 1.0);
        assert_eq!(small_float(Dtype::F6_E2M3, 31), 7.5);
        assert_eq!(small_float(Dtype::F6_E3M2, 31), 28.0);
        assert_eq!(small_float(Dtype::F4, 15), -6.0);
        assert_eq!(small_float(Dtype::F4, 1), 0.5);
    }

    #[test]
    fn codes_below_a_byte_come_low_bits_first() {
        let mut values = Values::default();
        values.read(Dtype::F4, &[0x21], false);
        assert_eq!(values.single, [0.5, 1.0]);
        // 1, 2, 3, 4 in six bits each.
        let word: u32 = 1 | 2 << 6 | 3 << 12 | 4 << 18;
        values.read(Dtype::F6_E2M3, &word.to_le_bytes()[..3], false);
        assert_eq!(values.single, [0.125, 0.25, 0.375, 0.5]);
    }

    #[test]
    fn integers_become_doubles() {
        let mut values = Values::default();
        values.read(Dtype::I16, &[0xff, 0xff, 2, 0], false);
        assert_eq!(values.double, [-1.0, 2.0]);
        values.read(Dtype::BOOL, &[0, 1, 2], false);
        assert_eq!(values.double, [0.0, 1.0, 1.0]);
    }
}
