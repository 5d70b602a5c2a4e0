//! Figures about one slice, and about two of the same shape.

use crate::lanes::{BLOCK, LANES, Lanes, fold, larger, smaller, total};

/// How two slices differ; pairs with a NaN or an infinity are counted and left out.
///
/// Cosine similarity is `ab / sqrt(a2 * b2)`, relative squared error `err2 / a2`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Sum of `a^2`.
    pub a2: f64,
    /// Sum of `b^2`.
    pub b2: f64,
    /// Sum of `a b`.
    pub ab: f64,
    /// Sum of `(a - b)^2`.
    pub err2: f64,
    /// Largest `|a - b|`.
    pub max_error: f32,
    /// Zeros of either sign in `a`.
    pub zeros_a: u64,
    /// Zeros of either sign in `b`.
    pub zeros_b: u64,
    /// Pairs where `a`, `b` or both are NaN or infinite.
    pub nonfinite: u64,
}

impl Comparison {
    /// Adds the figures of another slice.
    pub fn merge(&mut self, other: &Comparison) {
        self.a2 += other.a2;
        self.b2 += other.b2;
        self.ab += other.ab;
        self.err2 += other.err2;
        self.max_error = larger(other.max_error, self.max_error);
        self.zeros_a += other.zeros_a;
        self.zeros_b += other.zeros_b;
        self.nonfinite += other.nonfinite;
    }
}

/// Compares two slices of the same length.
pub fn compare(a: &[f32], b: &[f32]) -> Comparison {
    assert_eq!(a.len(), b.len());
    dispatch!(compare_body(a: &[f32], b: &[f32]) -> Comparison)
}

#[inline(always)]
fn compare_body(a: &[f32], b: &[f32]) -> Comparison {
    let mut result = Comparison::default();
    let mut worst: Lanes = [0.0; LANES];
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let mut a2: Lanes = [0.0; LANES];
        let mut b2: Lanes = [0.0; LANES];
        let mut ab: Lanes = [0.0; LANES];
        let mut err2: Lanes = [0.0; LANES];
        let mut zeros_a = [0u32; LANES];
        let mut zeros_b = [0u32; LANES];
        let mut nonfinite = [0u32; LANES];
        let mut pair = |i: usize, a: f32, b: f32| {
            zeros_a[i] += u32::from(a == 0.0);
            zeros_b[i] += u32::from(b == 0.0);
            let is_finite = (a.abs() < f32::INFINITY) & (b.abs() < f32::INFINITY);
            nonfinite[i] += u32::from(!is_finite);
            let a = if is_finite { a } else { 0.0 };
            let b = if is_finite { b } else { 0.0 };
            let error = a - b;
            a2[i] += a * a;
            b2[i] += b * b;
            ab[i] += a * b;
            err2[i] += error * error;
            worst[i] = larger(error.abs(), worst[i]);
        };
        let (full_a, tail_a) = a.as_chunks::<LANES>();
        let (full_b, tail_b) = b.as_chunks::<LANES>();
        for (a, b) in full_a.iter().zip(full_b) {
            for i in 0..LANES {
                pair(i, a[i], b[i]);
            }
        }
        for (i, (a, b)) in tail_a.iter().zip(tail_b).enumerate() {
            pair(i, *a, *b);
        }
        result.a2 += total(a2);
        result.b2 += total(b2);
        result.ab += total(ab);
        result.err2 += total(err2);
        result.zeros_a += u64::from(zeros_a.iter().sum::<u32>());
        result.zeros_b += u64::from(zeros_b.iter().sum::<u32>());
        result.nonfinite += u64::from(nonfinite.iter().sum::<u32>());
    }
    result.max_error = fold(worst, larger);
    result
}

/// Range, sums and special values of a slice; sums and range over finite elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Smallest finite element; +infinity when there is none.
    pub min: f32,
    /// Largest finite element; -infinity when there is none.
    pub max: f32,
    /// Sum of `x`.
    pub sum: f64,
    /// Sum of `x^2`.
    pub sum2: f64,
    /// Zeros of either sign.
    pub zeros: u64,
    /// NaN elements.
    pub nans: u64,
    /// Infinite elements of either sign.
    pub infinities: u64,
}

impl Default for Moments {
    fn default() -> Moments {
        Moments { min: f32::INFINITY, max: f32::NEG_INFINITY, sum: 0.0, sum2: 0.0, zeros: 0, nans: 0, infinities: 0 }
    }
}

impl Moments {
    /// Adds the figures of another slice.
    pub fn merge(&mut self, other: &Moments) {
        self.min = smaller(other.min, self.min);
        self.max = larger(other.max, self.max);
        self.sum += other.sum;
        self.sum2 += other.sum2;
        self.zeros += other.zeros;
        self.nans += other.nans;
        self.infinities += other.infinities;
    }
}

/// Range, sums and special values of a slice.
pub fn moments(x: &[f32]) -> Moments {
    dispatch!(moments_body(x: &[f32]) -> Moments)
}

#[inline(always)]
fn moments_body(x: &[f32]) -> Moments {
    let mut result = Moments::default();
    let mut min: Lanes = [f32::INFINITY; LANES];
    let mut max: Lanes = [f32::NEG_INFINITY; LANES];
    for x in x.chunks(BLOCK) {
        let mut sum: Lanes = [0.0; LANES];
        let mut sum2: Lanes = [0.0; LANES];
        let mut zeros = [0u32; LANES];
        let mut nans = [0u32; LANES];
        let mut infinities = [0u32; LANES];
        let mut element = |i: usize, x: f32| {
            zeros[i] += u32::from(x == 0.0);
            nans[i] += u32::from(x.is_nan());
            infinities[i] += u32::from(x.abs() == f32::INFINITY);
            let is_finite = x.abs() < f32::INFINITY;
            let v = if is_finite { x } else { 0.0 };
            sum[i] += v;
            sum2[i] += v * v;
            min[i] = smaller(if is_finite { x } else { f32::INFINITY }, min[i]);
            max[i] = larger(if is_finite { x } else { f32::NEG_INFINITY }, max[i]);
        };
        let (full, tail) = x.as_chunks::<LANES>();
        for x in full {
            for i in 0..LANES {
                element(i, x[i]);
            }
        }
        for (i, x) in tail.iter().enumerate() {
            element(i, *x);
        }
        result.sum += total(sum);
        result.sum2 += total(sum2);
        result.zeros += u64::from(zeros.iter().sum::<u32>());
        result.nans += u64::from(nans.iter().sum::<u32>());
        result.infinities += u64::from(infinities.iter().sum::<u32>());
    }
    result.min = fold(min, smaller);
    result.max = fold(max, larger);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use proptest::prelude::*;

    #[test]
    fn compares_by_hand() {
        let a = [1.0, -2.0, 0.0, f32::NAN, 3.0];
        let b = [1.5, -2.0, 0.0, 1.0, f32::INFINITY];
        let expected =
            Comparison { a2: 5.0, b2: 6.25, ab: 5.5, err2: 0.25, max_error: 0.5, zeros_a: 1, zeros_b: 1, nonfinite: 2 };
        assert_eq!(at_every_level(|| compare(&a, &b)), expected);
    }

    #[test]
    fn moments_by_hand() {
        let x = [1.0, -2.0, -0.0, f32::NAN, f32::NEG_INFINITY, 3.0];
        let expected = Moments { min: -2.0, max: 3.0, sum: 2.0, sum2: 14.0, zeros: 1, nans: 1, infinities: 1 };
        assert_eq!(at_every_level(|| moments(&x)), expected);
        assert_eq!(moments(&[]), Moments::default());
    }

    proptest! {
        #[test]
        fn sums_are_right_and_the_same_at_every_level(
            pairs in prop::collection::vec((-3f32..3.0, -3f32..3.0), 0..9000),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let (c, m) = at_every_level(|| (compare(&a, &b), moments(&a)));
            let sum = |f: fn(f64, f64) -> f64| -> f64 {
                a.iter().zip(&b).map(|(a, b)| f(f64::from(*a), f64::from(*b))).sum()
            };
            // f32 lanes: the error is relative to the sum of magnitudes, at most 3 or 9 each.
            let tolerance = 1e-5 * 9.0 * (1.0 + a.len() as f64);
            prop_assert!((c.a2 - sum(|a, _| a * a)).abs() <= tolerance);
            prop_assert!((c.b2 - sum(|_, b| b * b)).abs() <= tolerance);
            prop_assert!((c.ab - sum(|a, b| a * b)).abs() <= tolerance);
            prop_assert!((c.err2 - sum(|a, b| (a - b) * (a - b))).abs() <= 4.0 * tolerance);
            prop_assert!((m.sum - sum(|a, _| a)).abs() <= tolerance);
            prop_assert_eq!(m.sum2, c.a2);
            prop_assert_eq!(m.min, a.iter().copied().fold(f32::INFINITY, f32::min));
            prop_assert_eq!(m.max, a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
