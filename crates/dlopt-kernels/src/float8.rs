//! FP8 E4M3FN: `code = e4m3(clamp(x / scale, -448, 448))`, `x' = value(code) * scale`.
//!
//! One sign bit, four exponent bits with bias 7, three mantissa bits, no infinity;
//! the largest value is 448 (0x7e), subnormals are multiples of 2^-9, and 0x7f and
//! 0xff are NaN. Source: Micikevicius et al. 2022, arXiv 2209.05433.

use crate::integer::squared_error;
use crate::lanes::{LANES, Stats, Sums, TILE, Tile, is_finite, prefetch_ahead, smaller};
use crate::vector::Vector;

/// Largest value of E4M3FN.
const MAX: f32 = 448.0;

/// Exponent bits of an `f32`.
const EXPONENT: u32 = 0x7f80_0000;

/// Bits of 2^-6, the smallest normal magnitude.
const SMALLEST: i32 = 121 << 23;

/// Encodes to FP8 E4M3FN with one scale a group, to nearest, ties to even.
///
/// NaN gives code 0, infinities clamp to 448. `codes`: one per element.
pub fn encode_fp8(x: &[f32], group: usize, scale: &[f32], codes: &mut [u8]) -> Stats {
    assert_eq!(x.len(), codes.len());
    assert_eq!(scale.len(), x.len().div_ceil(group));
    dispatch!(<V> encode_body(x: &[f32], group: usize, scale: &[f32], codes: &mut [u8]) -> Stats)
}

#[inline(always)]
fn encode_body<V: Vector>(x: &[f32], group: usize, scale: &[f32], codes: &mut [u8]) -> Stats {
    let mut sums = Sums::<V>::new();
    let row_len = x.len();
    let (mut original, mut error) = (Tile::new(), Tile::new());
    for ((x, codes), &scale) in x.chunks(group).zip(codes.chunks_mut(group)).zip(scale) {
        for (x, codes) in x.chunks(TILE).zip(codes.chunks_mut(TILE)) {
            let len = x.len();
            let (rows, tail) = x.as_chunks::<LANES>();
            prefetch_ahead(rows, row_len);
            if tail.is_empty() && scale != 0.0 {
                encode_finite(x, scale, codes, error.room(len, 0.0));
                if sums.add(rows, error.rows(len), true) {
                    continue;
                }
            }
            let (originals, errors) = (original.room(len, 0.0), error.room(len, 0.0));
            encode_any(x, scale, codes, originals, errors);
            sums.add(original.rows(len), error.rows(len), false);
        }
    }
    sums.finish()
}

/// A tile without NaN; where one is in it, the error tells.
///
/// All slices have one entry per element; as parameters they are known not to overlap.
#[inline(always)]
fn encode_finite(x: &[f32], scale: f32, codes: &mut [u8], errors: &mut [f32]) {
    for ((x, code), error) in x.iter().zip(codes).zip(errors) {
        let (nearest, value) = round_finite(*x / scale);
        *code = nearest;
        *error = *x - value * scale;
    }
}

/// A tile with anything in it.
#[inline(always)]
fn encode_any(x: &[f32], scale: f32, codes: &mut [u8], originals: &mut [f32], errors: &mut [f32]) {
    let out = codes.iter_mut().zip(originals).zip(errors);
    for (x, ((code, original), error)) in x.iter().zip(out) {
        let (nearest, value) = round(*x, scale);
        *code = nearest;
        let change = *x - value * scale;
        *original = if is_finite(*x) { *x } else { 0.0 };
        *error = if is_finite(*x) { change } else { 0.0 };
    }
}

/// Code and value nearest to `x / scale`; 0 for NaN.
#[inline(always)]
fn round(x: f32, scale: f32) -> (u8, f32) {
    let v = x / scale;
    round_finite(if v.is_nan() { 0.0 } else { v })
}

/// Code and value nearest to `v`.
///
/// Adding 2^(e + 20) to a magnitude in 2^e..2^(e+1) leaves three bits of mantissa, in
/// the low bits of the sum; with e = -6 at least, it leaves multiples of 2^-9.
#[inline(always)]
fn round_finite(v: f32) -> (u8, f32) {
    let sign = v.to_bits() & 0x8000_0000;
    let magnitude = smaller(v.abs(), MAX);
    let exponent = (magnitude.to_bits() & EXPONENT) as i32;
    let exponent = if exponent > SMALLEST { exponent } else { SMALLEST };
    let magic = exponent + (20 << 23);
    let sum = magnitude + f32::from_bits(magic as u32);
    let value = sum - f32::from_bits(magic as u32);
    // 8..=16 eighths of 2^e, and 0..=8 for subnormals.
    let eighths = sum.to_bits() as i32 - magic;
    let code = ((exponent - SMALLEST) >> 20) + eighths;
    ((code as u32 | sign >> 24) as u8, f32::from_bits(value.to_bits() | sign))
}

/// Decodes FP8 E4M3FN: `value(code) * scale`; NaN codes give NaN.
///
/// `out`: one per code.
pub fn decode_fp8(codes: &[u8], group: usize, scale: &[f32], out: &mut [f32]) {
    assert_eq!(codes.len(), out.len());
    assert_eq!(scale.len(), codes.len().div_ceil(group));
    dispatch!(decode_body(codes: &[u8], group: usize, scale: &[f32], out: &mut [f32]))
}

#[inline(always)]
fn decode_body(codes: &[u8], group: usize, scale: &[f32], out: &mut [f32]) {
    for ((codes, out), &scale) in codes.chunks(group).zip(out.chunks_mut(group)).zip(scale) {
        for (out, code) in out.iter_mut().zip(codes) {
            *out = value(*code) * scale;
        }
    }
}

#[inline(always)]
fn value(code: u8) -> f32 {
    let code = u32::from(code);
    let magnitude = code & 0x7f;
    // 2^-9 for each step.
    let small = (magnitude as i32 as f32 * f32::from_bits(118 << 23)).to_bits();
    let normal = (magnitude << 20) + (120 << 23);
    let bits = if magnitude < 8 { small } else { normal };
    let bits = if magnitude == 0x7f { 0x7fc0_0000 } else { bits };
    f32::from_bits(bits | (code & 0x80) << 24)
}

/// Squared error of each group under a candidate scale.
///
/// The same numbers as [`encode_fp8`] without the codes. `err`: one per group.
pub fn error_fp8(x: &[f32], group: usize, scale: &[f32], err: &mut [f32]) {
    assert_eq!(scale.len(), x.len().div_ceil(group));
    assert_eq!(err.len(), scale.len());
    dispatch!(<V> error_body(x: &[f32], group: usize, scale: &[f32], err: &mut [f32]))
}

#[inline(always)]
fn error_body<V: Vector>(x: &[f32], group: usize, scale: &[f32], err: &mut [f32]) {
    let mut tile = Tile::new();
    for ((x, err), &scale) in x.chunks(group).zip(err).zip(scale) {
        *err = squared_error::<V>(x, &mut tile, |x| round(x, scale).1 * scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use proptest::prelude::*;

    /// The value of a code from the definition of the format.
    fn defined(code: u8) -> f64 {
        let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
        let (exponent, mantissa) = (i32::from(code >> 3 & 15), f64::from(code & 7));
        match (exponent, code & 7) {
            (15, 7) => f64::NAN,
            (0, _) => sign * mantissa * 2f64.powi(-9),
            _ => sign * (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
        }
    }

    fn decoded(codes: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; codes.len()];
        decode_fp8(codes, 300, &[1.0], &mut out);
        out
    }

    #[test]
    fn decodes_every_code_as_defined() {
        let codes: Vec<u8> = (0..=255).collect();
        let bits = at_every_level(|| decoded(&codes).iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        for (code, bits) in codes.iter().zip(bits) {
            let (got, expected) = (f32::from_bits(bits), defined(*code) as f32);
            assert!(got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan());
        }
    }

    #[test]
    fn encodes_to_the_nearest_code_ties_to_even() {
        let positive: Vec<f64> = (0..=0x7e).map(defined).collect();
        let mut x = vec![0.0f32, 1e-30, 447.9, 448.0, 449.0, 1e30, f32::INFINITY, f32::from_bits(1)];
        for pair in positive.windows(2) {
            let middle = ((pair[0] + pair[1]) / 2.0) as f32;
            x.extend([pair[0] as f32, middle.next_down(), middle, middle.next_up()]);
        }
        x.extend(x.clone().iter().map(|x| -x));
        let codes = at_every_level(|| {
            let mut codes = vec![0; x.len()];
            encode_fp8(&x, x.len(), &[1.0], &mut codes);
            codes
        });
        for (x, code) in x.iter().zip(codes) {
            let v = f64::from(x.abs()).min(448.0);
            let nearest = (0..=0x7eu8)
                .min_by(|a, b| {
                    let distance = |c: u8| (defined(c) - v).abs();
                    distance(*a).total_cmp(&distance(*b)).then((a & 1).cmp(&(b & 1)))
                })
                .unwrap();
            assert_eq!(code & 0x7f, nearest, "{x}");
            assert_eq!(code >> 7 == 1, x.is_sign_negative());
        }
    }

    #[test]
    fn nan_encodes_to_zero_and_is_passed_over() {
        let mut codes = [1; 2];
        let stats = encode_fp8(&[f32::NAN, 3.0], 2, &[1.0], &mut codes);
        assert_eq!(codes[0], 0);
        assert_eq!(stats, Stats { signal: 9.0, noise: 0.0, max_error: 0.0 });
    }

    proptest! {
        #[test]
        fn statistics_agree_with_the_decoded_codes(
            x in prop::collection::vec(-5f32..5.0, 0..300),
            group in 1usize..150,
        ) {
            let groups = x.len().div_ceil(group);
            let scale: Vec<f32> = (0..groups).map(|g| 0.01 + g as f32 / 100.0).collect();
            let (stats, err, out) = at_every_level(|| {
                let mut codes = vec![0; x.len()];
                let mut err = vec![0.0; groups];
                let mut out = vec![0.0; x.len()];
                let stats = encode_fp8(&x, group, &scale, &mut codes);
                decode_fp8(&codes, group, &scale, &mut out);
                error_fp8(&x, group, &scale, &mut err);
                (stats, err, out)
            });
            let errors: Vec<f64> = x.iter().zip(&out).map(|(x, y)| f64::from(x - y)).collect();
            let noise: f64 = errors.iter().map(|e| e * e).sum();
            let worst = errors.iter().fold(0.0f64, |m, e| m.max(e.abs()));
            prop_assert_eq!(f64::from(stats.max_error), worst);
            // Lanes are summed in f32.
            prop_assert!((stats.noise - noise).abs() <= 1e-5 * noise);
            let sum: f64 = err.iter().copied().map(f64::from).sum();
            prop_assert!((sum - noise).abs() <= 1e-5 * noise);
        }
    }
}
