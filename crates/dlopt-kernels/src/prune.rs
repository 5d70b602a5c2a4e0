//! Setting small magnitudes to zero, in the element type of the file.

use crate::element::{Brain, Float, Half, Single, Stored};
use crate::lanes::{BLOCK, Sums, TILE, Tile, is_finite, larger};
use crate::vector::Vector;

/// What pruning a slice did.
///
/// `noise / signal` is the energy lost, as a fraction; NaN and infinities are
/// passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PruneStats {
    /// Zeros of either sign before.
    pub zeros_before: u64,
    /// Zeros of either sign after.
    pub zeros_after: u64,
    /// Sum of `x^2` before.
    pub signal: f64,
    /// Sum of `x^2` over what was removed.
    pub noise: f64,
    /// Largest magnitude removed.
    pub max_error: f32,
}

impl PruneStats {
    /// Adds the figures of another slice.
    pub fn merge(&mut self, other: &PruneStats) {
        self.zeros_before += other.zeros_before;
        self.zeros_after += other.zeros_after;
        self.signal += other.signal;
        self.noise += other.noise;
        self.max_error = larger(other.max_error, self.max_error);
    }

    /// Adds a block of at most [`BLOCK`] elements, before and after.
    #[inline(always)]
    pub(crate) fn add<V: Vector, E: Stored<N>, const N: usize>(&mut self, before: &[[u8; N]], after: &[[u8; N]]) {
        self.zeros_before += zeros::<E, N>(before);
        self.zeros_after += zeros::<E, N>(after);
        let mut sums = Sums::<V>::new();
        let (mut original, mut removed) = (Tile::new(), Tile::new());
        for (before, after) in before.chunks(TILE).zip(after.chunks(TILE)) {
            let len = before.len();
            let to = original.room(len, 0.0).iter_mut().zip(removed.room(len, 0.0));
            for ((before, after), (original, removed)) in before.iter().zip(after).zip(to) {
                let x = E::value(*before);
                let x = if is_finite(x) { x } else { 0.0 };
                *original = x;
                *removed = if E::key(*after) == 0 { x } else { 0.0 };
            }
            sums.add(original.rows(len), removed.rows(len), false);
        }
        let sums = sums.finish();
        self.signal += sums.signal;
        self.noise += sums.noise;
        self.max_error = larger(sums.max_error, self.max_error);
    }
}

/// How many of at most [`BLOCK`] elements are zero.
#[inline(always)]
fn zeros<E: Stored<N>, const N: usize>(x: &[[u8; N]]) -> u64 {
    u64::from(x.iter().fold(0u16, |n, x| n + u16::from(E::key(*x) == 0)))
}

/// Keeps 16-bit floats above a magnitude, and those at it from index `cut` on.
///
/// An element stays where its key is above `threshold`, or equal to it at an index
/// of at least `cut` (counted from the start of this slice, may be past its end);
/// the others become +0. `kind`: `F16` or `BF16`. `out`: as long as `bytes`.
pub fn zero_below_16(kind: Float, bytes: &[u8], threshold: u16, cut: usize, out: &mut [u8]) -> PruneStats {
    assert_eq!(kind.bytes(), 2);
    assert_eq!(bytes.len(), out.len());
    dispatch!(<V> zero_16_body(
        kind: Float, bytes: &[u8], threshold: u16, cut: usize, out: &mut [u8],
    ) -> PruneStats)
}

#[inline(always)]
fn zero_16_body<V: Vector>(kind: Float, bytes: &[u8], threshold: u16, cut: usize, out: &mut [u8]) -> PruneStats {
    let threshold = u32::from(threshold);
    if kind == Float::F16 {
        zero_below::<V, Half, 2>(bytes, threshold, cut, out)
    } else {
        zero_below::<V, Brain, 2>(bytes, threshold, cut, out)
    }
}

/// Keeps 32-bit floats above a magnitude, and those at it from index `cut` on.
///
/// As [`zero_below_16`], with a key of 31 bits.
pub fn zero_below_32(bytes: &[u8], threshold: u32, cut: usize, out: &mut [u8]) -> PruneStats {
    assert_eq!(bytes.len(), out.len());
    dispatch!(<V> zero_32_body(
        bytes: &[u8], threshold: u32, cut: usize, out: &mut [u8],
    ) -> PruneStats)
}

#[inline(always)]
fn zero_32_body<V: Vector>(bytes: &[u8], threshold: u32, cut: usize, out: &mut [u8]) -> PruneStats {
    zero_below::<V, Single, 4>(bytes, threshold, cut, out)
}

#[inline(always)]
fn zero_below<V: Vector, E: Stored<N>, const N: usize>(
    bytes: &[u8],
    threshold: u32,
    cut: usize,
    out: &mut [u8],
) -> PruneStats {
    let mut stats = PruneStats::default();
    let before = bytes.as_chunks::<N>().0.chunks(BLOCK);
    let after = out.as_chunks_mut::<N>().0.chunks_mut(BLOCK);
    for (block, (before, after)) in before.zip(after).enumerate() {
        let cut = cut.saturating_sub(block * BLOCK).min(before.len());
        // Keys stop below 2^31, so that the sum saturates for no key there is.
        copy_from::<E, N>(&before[..cut], threshold.saturating_add(1), &mut after[..cut]);
        copy_from::<E, N>(&before[cut..], threshold, &mut after[cut..]);
        stats.add::<V, E, N>(before, after);
    }
    stats
}

/// Copies elements with a key of at least `least`, +0 in place of the others.
#[inline(always)]
fn copy_from<E: Stored<N>, const N: usize>(before: &[[u8; N]], least: u32, after: &mut [[u8; N]]) {
    for (after, before) in after.iter_mut().zip(before) {
        *after = if E::key(*before) >= least { *before } else { [0; N] };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{narrow, widen};
    use crate::level::at_every_level;
    use proptest::prelude::*;

    #[test]
    fn ties_at_the_threshold_are_zeroed_before_the_cut_and_kept_after() {
        let x = [1.0f32, -2.0, 1.0, 3.0, -1.0, 0.0];
        let mut bytes = [0; 24];
        narrow(Float::F32, &x, &mut bytes);
        let mut out = [1; 24];
        let stats = zero_below_32(&bytes, 1f32.to_bits(), 3, &mut out);
        let mut kept = [9.0; 6];
        widen(Float::F32, &out, &mut kept);
        assert_eq!(kept, [0.0, -2.0, 0.0, 3.0, -1.0, 0.0]);
        let expected = PruneStats { zeros_before: 1, zeros_after: 3, signal: 16.0, noise: 2.0, max_error: 1.0 };
        assert_eq!(stats, expected);
    }

    proptest! {
        #[test]
        fn keeps_by_key_and_index(
            x in prop::collection::vec(-6i8..=6, 0..300),
            threshold in -1i8..=7,
            cut in 0usize..320,
        ) {
            let x: Vec<f32> = x.iter().map(|x| f32::from(*x) / 4.0).collect();
            let threshold = if threshold < 0 { f32::NAN } else { f32::from(threshold) / 4.0 };
            for kind in [Float::F32, Float::F16, Float::BF16] {
                let mut bytes = vec![0; x.len() * kind.bytes()];
                narrow(kind, &x, &mut bytes);
                let mut t = vec![0; kind.bytes()];
                narrow(kind, &[threshold], &mut t);
                let (out, stats) = at_every_level(|| {
                    let mut out = vec![1; bytes.len()];
                    let stats = match kind {
                        Float::F32 => {
                            let t = u32::from_le_bytes(t[..].try_into().unwrap());
                            zero_below_32(&bytes, t, cut, &mut out)
                        }
                        _ => {
                            let t = u16::from_le_bytes(t[..].try_into().unwrap());
                            zero_below_16(kind, &bytes, t, cut, &mut out)
                        }
                    };
                    (out, stats)
                });
                let expected: Vec<f32> = x.iter().enumerate().map(|(i, x)| {
                    if x.abs() > threshold || x.abs() == threshold && i >= cut { *x } else { 0.0 }
                }).collect();
                let mut expected_bytes = vec![0; bytes.len()];
                narrow(kind, &expected, &mut expected_bytes);
                // A kept -0 (threshold 0) and a pruned +0 are both zero.
                let mut got = vec![0.0; x.len()];
                widen(kind, &out, &mut got);
                prop_assert_eq!(&got, &expected);
                let sum = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>();
                let zeros = |x: &[f32]| x.iter().filter(|x| **x == 0.0).count() as u64;
                // Multiples of 1/16: exact in any order.
                prop_assert_eq!(stats.signal, sum(&x));
                prop_assert_eq!(stats.noise, sum(&x) - sum(&expected));
                prop_assert_eq!((stats.zeros_before, stats.zeros_after), (zeros(&x), zeros(&expected)));
            }
        }
    }
}
