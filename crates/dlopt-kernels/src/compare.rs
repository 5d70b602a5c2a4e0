//! Figures about one slice, and about two of the same shape.

use crate::lanes::{BLOCK, TILE, Tile, fold, is_finite, larger, smaller, total};
use crate::vector::Vector;

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
    dispatch!(<V> compare_body(a: &[f32], b: &[f32]) -> Comparison)
}

#[inline(always)]
fn compare_body<V: Vector>(a: &[f32], b: &[f32]) -> Comparison {
    let mut result = Comparison::default();
    let mut worst = V::splat(0.0);
    let (mut tile_a, mut tile_b) = (Tile::new(), Tile::new());
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let mut a2 = V::splat(0.0);
        let mut b2 = V::splat(0.0);
        let mut ab = V::splat(0.0);
        let mut err2 = V::splat(0.0);
        for (a, b) in a.chunks(TILE).zip(b.chunks(TILE)) {
            let len = a.len();
            result.zeros_a += zeros(a);
            result.zeros_b += zeros(b);
            let mut nonfinite = 0u32;
            let to = tile_a.room(len, 0.0).iter_mut().zip(tile_b.room(len, 0.0));
            for ((a, b), (to_a, to_b)) in a.iter().zip(b).zip(to) {
                let is_finite = is_finite(*a) & is_finite(*b);
                nonfinite += u32::from(!is_finite);
                *to_a = if is_finite { *a } else { 0.0 };
                *to_b = if is_finite { *b } else { 0.0 };
            }
            result.nonfinite += u64::from(nonfinite);
            for (a, b) in tile_a.rows(len).iter().zip(tile_b.rows(len)) {
                let (a, b) = (V::load(a), V::load(b));
                let error = a.sub(b);
                a2 = a2.add(a.mul(a));
                b2 = b2.add(b.mul(b));
                ab = ab.add(a.mul(b));
                err2 = err2.add(error.mul(error));
                worst = error.abs().larger(worst);
            }
        }
        result.a2 += total(a2);
        result.b2 += total(b2);
        result.ab += total(ab);
        result.err2 += total(err2);
    }
    result.max_error = fold(&worst.store(), larger);
    result
}

/// How many of at most 2^32 elements are zero.
#[inline(always)]
fn zeros(x: &[f32]) -> u64 {
    u64::from(x.iter().fold(0u32, |n, x| n + u32::from(*x == 0.0)))
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
    dispatch!(<V> moments_body(x: &[f32]) -> Moments)
}

#[inline(always)]
fn moments_body<V: Vector>(x: &[f32]) -> Moments {
    let mut result = Moments::default();
    let mut min = V::splat(f32::INFINITY);
    let mut max = V::splat(f32::NEG_INFINITY);
    let (mut values, mut lows, mut highs) = (Tile::new(), Tile::new(), Tile::new());
    for x in x.chunks(BLOCK) {
        let (mut sum, mut sum2) = (V::splat(0.0), V::splat(0.0));
        for x in x.chunks(TILE) {
            let len = x.len();
            result.zeros += zeros(x);
            let (mut nans, mut infinities) = (0u32, 0u32);
            let to = values.room(len, 0.0).iter_mut();
            let to = to.zip(lows.room(len, f32::INFINITY));
            let to = to.zip(highs.room(len, f32::NEG_INFINITY));
            for (x, ((value, low), high)) in x.iter().zip(to) {
                nans += u32::from(x.is_nan());
                infinities += u32::from(x.abs() == f32::INFINITY);
                *value = if is_finite(*x) { *x } else { 0.0 };
                *low = if is_finite(*x) { *x } else { f32::INFINITY };
                *high = if is_finite(*x) { *x } else { f32::NEG_INFINITY };
            }
            result.nans += u64::from(nans);
            result.infinities += u64::from(infinities);
            let rows = values.rows(len).iter().zip(lows.rows(len)).zip(highs.rows(len));
            for ((value, low), high) in rows {
                let value = V::load(value);
                sum = sum.add(value);
                sum2 = sum2.add(value.mul(value));
                min = V::load(low).smaller(min);
                max = V::load(high).larger(max);
            }
        }
        result.sum += total(sum);
        result.sum2 += total(sum2);
    }
    result.min = fold(&min.store(), smaller);
    result.max = fold(&max.store(), larger);
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
