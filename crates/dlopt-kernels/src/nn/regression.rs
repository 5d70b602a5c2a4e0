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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{assert_near, bits, numeric_gradient, values, wide};

    type Loss = fn(&[f32], &[f32], f32, &mut [f32]) -> f64;
    type Reference = fn(f64, f64) -> f64;

    const LOSSES: [(Loss, Reference); 3] = [
        (binary_cross_entropy, |x, t| x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()),
        (mse, |x, t| (x - t) * (x - t)),
        (
            |x, t, factor, dx| huber(x, t, 0.75, factor, dx),
            |x, t| {
                let d = (x - t).abs();
                if d <= 0.75 { d * d / 2.0 } else { 0.75 * (d - 0.375) }
            },
        ),
    ];

    #[test]
    fn sums_and_gradients_agree_with_f64_and_finite_differences() {
        for len in [0, 1, 7, 16, 17, 37, 203] {
            let x: Vec<f32> = values(len, 1).iter().map(|x| if *x == 0.0 { 0.3 } else { 5.0 * x }).collect();
            let t: Vec<f32> = values(len, 2).iter().map(|t| 0.25 * t + 0.5).collect();
            for (loss, reference) in LOSSES {
                let of = |x: &[f64]| x.iter().zip(&t).map(|(x, t)| reference(*x, f64::from(*t))).sum::<f64>();
                let mut dx = vec![f32::NAN; len];
                let sum = loss(&x, &t, 0.5, &mut dx);
                let wanted = of(&wide(&x));
                assert!((sum - wanted).abs() <= 2e-7 * wanted, "{sum} for {wanted}");
                assert_near(&dx, &numeric_gradient(&wide(&x), |x| 0.5 * of(x)), 1e-6);
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        for len in [1, 8, 15, 31, 203] {
            let (x, t) = (values(len, 1), values(len, 2));
            at_every_level(|| {
                LOSSES.map(|(loss, _)| {
                    let mut dx = vec![0.0; len];
                    (loss(&x, &t, 0.3, &mut dx).to_bits(), bits(&dx))
                })
            });
        }
    }

    #[test]
    fn sure_logits_keep_their_losses_and_nan_shows() {
        let mut dx = [0.0; 3];
        let sum = binary_cross_entropy(&[200.0, -200.0, 200.0], &[1.0, 0.0, 0.0], 1.0, &mut dx);
        assert_eq!((sum, dx), (200.0, [0.0, 0.0, 1.0]));
        for (loss, _) in LOSSES {
            let mut dx = [0.0; 2];
            assert!(loss(&[f32::NAN, 1.0], &[0.5, 0.5], 1.0, &mut dx).is_nan());
            assert!(dx[0].is_nan() && dx[1].is_finite());
        }
    }
}
