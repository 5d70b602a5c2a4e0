//! Dense floats: F32, F16 and BF16, to nearest, ties to even.

use dlopt_checkpoint::RowReport;
use dlopt_kernels::{Float, compare, first_nonfinite, narrow, widen};

use crate::Plugin;

pub(super) const PLUGIN: Plugin =
    Plugin { name: "dense", summary: "floats of 32 or 16 bits, rounded to nearest, ties to even", source: "IEEE 754" };

/// Room that a caller keeps between runs.
#[derive(Default)]
pub(crate) struct Scratch {
    x: Vec<f32>,
    y: Vec<f32>,
}

/// Casts a run of floats and says what it changed; the error is the index of a number that became infinite.
pub(crate) fn cast(
    from: Float,
    bytes: &[u8],
    to: Float,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> (RowReport, Option<usize>) {
    let count = bytes.len() / from.bytes();
    scratch.x.resize(count, 0.0);
    scratch.y.resize(count, 0.0);
    let (x, y) = (&mut scratch.x[..count], &mut scratch.y[..count]);
    if from == Float::F64 && matches!(to, Float::F16 | Float::BF16) {
        widen_to_odd(bytes, x);
    } else {
        widen(from, bytes, x);
    }
    narrow(to, x, out);
    widen(to, out, y);
    let change = compare(x, y);
    let report = RowReport {
        weights: count as u64,
        zeros_before: change.zeros_a,
        zeros_after: change.zeros_b,
        signal: change.a2,
        noise: change.err2,
        plain_noise: None,
        max_error: change.max_error,
    };
    (report, overflow(from, bytes, to, out))
}

/// Reads doubles as f32 such that rounding to 16 bits afterwards rounds once: the last bit of what is not exact is set
/// (round to odd; Boldo and Melquiond 2008).
fn widen_to_odd(bytes: &[u8], x: &mut [f32]) {
    for (x, bytes) in x.iter_mut().zip(bytes.as_chunks().0) {
        let double = f64::from_le_bytes(*bytes);
        let near = double as f32;
        *x = if f64::from(near) == double || double.is_nan() {
            near
        } else {
            let towards_zero = near.to_bits() - u32::from(f64::from(near).abs() > double.abs());
            f32::from_bits(towards_zero | 1)
        };
    }
}

/// The first finite number that is not finite any more.
fn overflow(from: Float, bytes: &[u8], to: Float, out: &[u8]) -> Option<usize> {
    let mut begin = 0;
    while let Some(at) = first_nonfinite(to, &out[begin * to.bytes()..]) {
        let index = begin + at;
        let element = &bytes[index * from.bytes()..(index + 1) * from.bytes()];
        if first_nonfinite(from, element).is_none() {
            return Some(index);
        }
        begin = index + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_is_rounded_once() {
        // Just above half-way between 1 and the next F16; F32 would round it to half-way and then to even.
        let x = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        let mut out = [0; 2];
        cast(Float::F64, &x.to_le_bytes(), Float::F16, &mut out, &mut Scratch::default());
        assert_eq!(half::f16::from_le_bytes(out).to_f64(), 1.0 + 2f64.powi(-10));
    }

    #[test]
    fn overflow_is_told_from_infinity() {
        let bytes: Vec<u8> = [f32::INFINITY, 1.0, 70000.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut out = [0; 6];
        let (report, index) = cast(Float::F32, &bytes, Float::F16, &mut out, &mut Scratch::default());
        assert_eq!((report.weights, index), (3, Some(2)));
    }
}
