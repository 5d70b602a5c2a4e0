//! Losses of single values: the sum of the losses, and the gradient of each value.
//!
//! Sums are in `f64` and not divided; `factor` is what the gradient is multiplied by, `1 / values` for the mean.

use super::bits::Bits;
use super::map::{MapSum, map_sum};
use super::math::{exp, ln_one_plus};

#[derive(Clone, Copy)]
struct BinaryCrossEntropy {
    factor: f32,
}
impl MapSum<2, 1> for BinaryCrossEntropy {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x, t]: [T; 2], _: [T; 1]) -> ([T; 1], [T; 2]) {
        // SAFETY: the caller's.
        unsafe {
            let one = T::splat(1.0);
            // e^-|x|: at most 1.
            let e = exp(T::splat(0.0).sub(x.abs()));
            let positive = T::splat(0.0).max(x);
            let loss = positive.sub(x.mul(t)).add(ln_one_plus(e));
            let inverse = one.div(one.add(e));
            let sigmoid = T::where_greater(x, T::splat(0.0), inverse, e.mul(inverse));
            ([sigmoid.sub(t).mul(T::splat(self.factor))], [loss, one])
        }
    }
}

#[derive(Clone, Copy)]
struct SquaredError {
    twice: f32,
}
impl MapSum<2, 1> for SquaredError {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x, t]: [T; 2], _: [T; 1]) -> ([T; 1], [T; 2]) {
        // SAFETY: the caller's.
        unsafe {
            let d = x.sub(t);
            ([d.mul(T::splat(self.twice))], [d, d])
        }
    }
}

#[derive(Clone, Copy)]
struct Huber {
    delta: f32,
    factor: f32,
}
impl MapSum<2, 1> for Huber {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x, t]: [T; 2], _: [T; 1]) -> ([T; 1], [T; 2]) {
        // SAFETY: the caller's.
        unsafe {
            let d = x.sub(t);
            let delta = T::splat(self.delta);
            // With the error clipped to c, both branches are c (d - c / 2).
            let clipped = T::splat(-self.delta).max(delta.min(d));
            ([clipped.mul(T::splat(self.factor))], [clipped, T::splat(-0.5).mul(clipped).add(d)])
        }
    }
}

/// Binary cross entropy of `sigmoid(x)` with targets in 0..=1: `max(x, 0) - x t + ln(1 + e^-|x|)`, gradient
/// `sigmoid(x) - t`, times `factor`. Returns the sum of losses.
///
/// # Panics
/// When the lengths differ.
pub fn binary_cross_entropy(logits: &[f32], targets: &[f32], factor: f32, dlogits: &mut [f32]) -> f64 {
    map_sum(BinaryCrossEntropy { factor }, [logits, targets], [dlogits], logits.len())
}

/// The sum of squared errors `(x - t)^2`, gradient `2 (x - t)`, times `factor`.
///
/// # Panics
/// When the lengths differ.
pub fn mse(x: &[f32], targets: &[f32], factor: f32, dx: &mut [f32]) -> f64 {
    map_sum(SquaredError { twice: 2.0 * factor }, [x, targets], [dx], x.len())
}

/// The sum of Huber's losses (1964): with `d = x - t`, `d^2 / 2` where `|d| <= delta`, else `delta (|d| - delta / 2)`;
/// the gradient is `d` clipped to `delta`, times `factor`. `delta` is above 0; PyTorch's `smooth_l1_loss` with `beta` is
/// this with `delta = beta`, divided by `beta`.
///
/// # Panics
/// When the lengths differ.
pub fn huber(x: &[f32], targets: &[f32], delta: f32, factor: f32, dx: &mut [f32]) -> f64 {
    map_sum(Huber { delta, factor }, [x, targets], [dx], x.len())
}
