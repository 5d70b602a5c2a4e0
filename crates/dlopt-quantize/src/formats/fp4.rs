//! FP4 E2M1 and FP6 E2M3, packed, as NVFP4 and the MX formats store them: read only.
//!
//! FP4: code = sign << 3 | index into 0, .5, 1, 1.5, 2, 3, 4, 6; element 2j in the low nibble of byte j.
//! FP6: code = sign << 5 | index in order of magnitude, four codes to three bytes, little end first.
//! Source: OCP Microscaling Formats v1.0; layouts of compressed-tensors 0.20.

use super::{Decode, Steps};

pub(crate) static FP4_PACKED: Fp4 = Fp4;
pub(crate) static FP6_PACKED: Fp6 = Fp6;

const FP4: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// FP4, two codes a byte.
pub(crate) struct Fp4;

/// FP6, four codes to three bytes.
pub(crate) struct Fp6;

/// The value of an E8M0 scale, 2^(v - 127); 255 is NaN.
pub(crate) fn e8m0(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

fn fp6(code: u32) -> f32 {
    let (exponent, mantissa) = (code >> 3 & 3, (code & 7) as f32 / 8.0);
    let magnitude = if exponent == 0 { mantissa } else { (1.0 + mantissa) * (1u32 << (exponent - 1)) as f32 };
    if code & 32 == 0 { magnitude } else { -magnitude }
}

/// Multiplies each group by its scale.
fn scale_groups(steps: &Steps<'_>, out: &mut [f32]) {
    for (out, scale) in out.chunks_mut(steps.group).zip(steps.scale) {
        for x in out {
            *x *= scale;
        }
    }
}

impl Decode for Fp4 {
    fn row_bytes(&self, columns: usize, _bits: u32) -> usize {
        columns / 2
    }

    fn decode(&self, bytes: &[u8], steps: &Steps<'_>, _scratch: &mut Vec<i8>, out: &mut [f32]) {
        for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
            pair[0] = FP4[usize::from(byte & 15)];
            pair[1] = FP4[usize::from(byte >> 4)];
        }
        scale_groups(steps, out);
    }

    fn fault(&self, _bytes: &[u8], _columns: usize, _bits: u32, _scratch: &mut Vec<i8>) -> Option<String> {
        None
    }
}

impl Decode for Fp6 {
    fn row_bytes(&self, columns: usize, _bits: u32) -> usize {
        columns / 4 * 3
    }

    fn decode(&self, bytes: &[u8], steps: &Steps<'_>, _scratch: &mut Vec<i8>, out: &mut [f32]) {
        for (four, bytes) in out.chunks_exact_mut(4).zip(bytes.chunks_exact(3)) {
            let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
            for (i, x) in four.iter_mut().enumerate() {
                *x = fp6(word >> (6 * i) & 63);
            }
        }
        scale_groups(steps, out);
    }

    fn fault(&self, _bytes: &[u8], _columns: usize, _bits: u32, _scratch: &mut Vec<i8>) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp4_holds_two_codes_a_byte_low_nibble_first() {
        let mut out = [9.0; 4];
        let steps = Steps { group: 2, scale: &[2.0, 0.5], zero: &[], bits: 4 };
        FP4_PACKED.decode(&[0x71, 0xf8], &steps, &mut Vec::new(), &mut out);
        assert_eq!(out, [1.0, 12.0, 0.0, -3.0]);
    }

    #[test]
    fn fp6_codes_run_in_order_of_magnitude() {
        let values: Vec<f32> = (0..32).map(fp6).collect();
        assert!(values.windows(2).all(|w| w[0] < w[1]));
        assert_eq!((values[1], values[8], values[31], fp6(63)), (0.125, 1.0, 7.5, -7.5));
    }

    #[test]
    fn e8m0_is_a_power_of_two() {
        assert_eq!([e8m0(127), e8m0(126), e8m0(254), e8m0(0)], [1.0, 0.5, 2f32.powi(127), 2f32.powi(-127)]);
        assert!(e8m0(255).is_nan());
    }
}
