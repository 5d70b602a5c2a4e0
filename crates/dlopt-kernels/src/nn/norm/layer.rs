//! Layer normalisation over the last extent (Ba, Kiros and Hinton 2016, arXiv 1607.06450): every row of `[rows, features]`
//! by its own mean and variance.

use crate::nn::bits::{Bits, Kernel, run};
use crate::nn::rows::{Term, row_sum, row_write, term};

/// `out = (x - mean) / sqrt(variance + epsilon) gamma + beta`, with the mean and the population's variance of the row.
///
/// `saved` receives each row's mean and `1 / sqrt(variance + epsilon)`, which the gradient needs. The variance is summed
/// around the mean, in `f32` lanes folded in `f64`.
///
/// # Panics
/// When lengths disagree.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn layer_norm(
    rows: usize,
    x: &[f32],
    features: usize,
    epsilon: f32,
    gamma: &[f32],
    beta: &[f32],
    out: &mut [f32],
    saved: Option<(&mut [f32], &mut [f32])>,
) {
    assert_eq!(Some(x.len()), rows.checked_mul(features), "`x` is [rows, features]");
    assert_eq!(out.len(), x.len(), "`out` is as long as `x`");
    assert_eq!(gamma.len(), features, "one gamma for each feature");
    assert_eq!(beta.len(), features, "one beta for each feature");
    let saved = saved.map(|(mean, inverse)| {
        assert_eq!(mean.len(), rows, "one mean for each row");
        assert_eq!(inverse.len(), rows, "one inverse deviation for each row");
        [mean.as_mut_ptr(), inverse.as_mut_ptr()]
    });
    let (x, out) = (x.as_ptr(), out.as_mut_ptr());
    // SAFETY: lengths were checked.
    unsafe { run(Forward { rows, features, epsilon, x, gamma: gamma.as_ptr(), beta: beta.as_ptr(), out, saved }) }
}

struct Forward {
    rows: usize,
    features: usize,
    epsilon: f32,
    x: *const f32,
    gamma: *const f32,
    beta: *const f32,
    out: *mut f32,
    saved: Option<[*mut f32; 2]>,
}

impl Kernel for Forward {
    type Out = ();
    #[inline(always)]
    unsafe fn run<T: Bits>(self) {
        let Forward { rows, features, epsilon, x, gamma, beta, out, saved } = self;
        for row in 0..rows {
            // SAFETY: rows lie inside the slices.
            unsafe {
                let (x, out) = (x.add(row * features), out.add(row * features));
                let mean = (row_sum::<T, 1>(Value {}, [x], features) / features as f64) as f32;
                let variance = row_sum::<T, 1>(Square { mean }, [x], features) / features as f64;
                let inverse = (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32;
                row_write::<T, 3>(Normalized { mean, inverse }, [x, gamma, beta], out, features);
                if let Some([means, inverses]) = saved {
                    *means.add(row) = mean;
                    *inverses.add(row) = inverse;
                }
            }
        }
    }
}

/// The gradient of [`layer_norm`]: `dx` written, `dgamma` and `dbeta` added to.
///
/// With `n = (x - mean) inverse` and `h = g gamma`: `dx = inverse (h - mean(h) - n mean(h n))`, `dgamma += sum(g n)` and
/// `dbeta += sum(g)`, row after row in `f32`.
///
/// # Panics
/// When lengths disagree.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn layer_norm_gradient(
    rows: usize,
    x: &[f32],
    features: usize,
    mean: &[f32],
    inverse: &[f32],
    gamma: &[f32],
    gradient: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    assert_eq!(Some(x.len()), rows.checked_mul(features), "`x` is [rows, features]");
    for slice in [gradient, &*dx] {
        assert_eq!(slice.len(), x.len(), "gradients are as long as `x`");
    }
    for slice in [mean, inverse] {
        assert_eq!(slice.len(), rows, "one mean and inverse deviation for each row");
    }
    for slice in [gamma, &*dgamma, &*dbeta] {
        assert_eq!(slice.len(), features, "one value for each feature");
    }
    let sums = [dgamma.as_mut_ptr(), dbeta.as_mut_ptr()];
    let (x, g, gamma, dx) = (x.as_ptr(), gradient.as_ptr(), gamma.as_ptr(), dx.as_mut_ptr());
    // SAFETY: lengths were checked.
    unsafe { run(Backward { features, mean, inverse, x, g, gamma, dx, sums }) }
}

struct Backward<'a> {
    features: usize,
    mean: &'a [f32],
    inverse: &'a [f32],
    x: *const f32,
    g: *const f32,
    gamma: *const f32,
    dx: *mut f32,
    sums: [*mut f32; 2],
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<T: Bits>(self) {
        let Backward { features, mean, inverse, x, g, gamma, dx, sums: [dgamma, dbeta] } = self;
        for (row, (mean, inverse)) in mean.iter().zip(inverse).enumerate() {
            let (mean, inverse) = (*mean, *inverse);
            // SAFETY: rows lie inside the slices.
            unsafe {
                let (x, g, dx) = (x.add(row * features), g.add(row * features), dx.add(row * features));
                let center = row_sum::<T, 2>(Scaled {}, [g, gamma], features) / features as f64;
                let slope = row_sum::<T, 3>(Along { mean, inverse }, [x, g, gamma], features) / features as f64;
                let (center, slope) = (center as f32, slope as f32);
                row_write::<T, 3>(Gradient { mean, inverse, center, slope }, [x, g, gamma], dx, features);
                row_write::<T, 3>(GammaSum { mean, inverse }, [x, g, dgamma.cast_const()], dgamma, features);
                row_write::<T, 2>(BetaSum {}, [g, dbeta.cast_const()], dbeta, features);
            }
        }
    }
}

term!(Value {} [x; 1] x);
term!(Square { mean } [x; 1] {
    let d = x.sub(mean);
    d.mul(d)
});
term!(Normalized { mean, inverse } [x, gamma, beta; 3] beta.fma(x.sub(mean).mul(inverse), gamma));
term!(Scaled {} [g, gamma; 2] g.mul(gamma));
term!(Along { mean, inverse } [x, g, gamma; 3] g.mul(gamma).mul(x.sub(mean).mul(inverse)));
term!(Gradient { mean, inverse, center, slope } [x, g, gamma; 3] {
    let n = x.sub(mean).mul(inverse);
    inverse.mul(g.mul(gamma).sub(center).sub(n.mul(slope)))
});
term!(GammaSum { mean, inverse } [x, g, sum; 3] sum.fma(g, x.sub(mean).mul(inverse)));
term!(BetaSum {} [g, sum; 2] sum.add(g));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{assert_near, bits, dot, numeric_gradient, values, wide};

    const EPSILON: f32 = 1e-5;

    fn reference(features: usize, x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        let mut out = Vec::new();
        for row in x.chunks_exact(features) {
            let mean = row.iter().sum::<f64>() / features as f64;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / features as f64;
            let inverse = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            out.extend((0..features).map(|f| (row[f] - mean) * inverse * gamma[f] + beta[f]));
        }
        out
    }

    /// Forward and backward: out, dx, dgamma, dbeta.
    fn through_kernels(rows: usize, features: usize) -> [Vec<f32>; 4] {
        let [x, g] = [1, 2].map(|seed| values(rows * features, seed));
        let [gamma, beta] = [3, 4].map(|seed| values(features, seed));
        let (mut out, mut mean, mut inverse) = (vec![f32::NAN; x.len()], vec![0.0; rows], vec![0.0; rows]);
        let saved = Some((&mut mean[..], &mut inverse[..]));
        layer_norm(rows, &x, features, EPSILON, &gamma, &beta, &mut out, saved);
        let (mut dx, mut dgamma, mut dbeta) = (vec![f32::NAN; x.len()], vec![0.0; features], vec![0.0; features]);
        layer_norm_gradient(rows, &x, features, &mean, &inverse, &gamma, &g, &mut dx, &mut dgamma, &mut dbeta);
        [out, dx, dgamma, dbeta]
    }

    #[test]
    fn outputs_and_gradients_agree_with_f64_and_finite_differences() {
        for (rows, features) in [(1, 5), (3, 7), (2, 37), (1, 100)] {
            let [x, g] = [1, 2].map(|seed| wide(&values(rows * features, seed)));
            let [gamma, beta] = [3, 4].map(|seed| wide(&values(features, seed)));
            let [out, dx, dgamma, dbeta] = through_kernels(rows, features);
            assert_near(&out, &reference(features, &x, &gamma, &beta), 2e-6);
            assert_near(&dx, &numeric_gradient(&x, |x| dot(&reference(features, x, &gamma, &beta), &g)), 1e-5);
            assert_near(&dgamma, &numeric_gradient(&gamma, |p| dot(&reference(features, &x, p, &beta), &g)), 1e-5);
            assert_near(&dbeta, &numeric_gradient(&beta, |p| dot(&reference(features, &x, &gamma, p), &g)), 1e-5);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        for (rows, features) in [(0, 4), (3, 0), (5, 1), (4, 8), (3, 31), (2, 33), (2, 203)] {
            at_every_level(|| through_kernels(rows, features).map(|out| bits(&out)));
        }
    }

    #[test]
    fn rows_of_equal_values_become_beta_and_a_nan_stays_in_its_row() {
        let x = [3.0, 3.0, 3.0, 1.0, f32::NAN, 2.0, 1.0, 2.0, 3.0];
        let mut out = [0.0; 9];
        layer_norm(3, &x, 3, EPSILON, &[1.0; 3], &[0.5, -0.5, 0.0], &mut out, None);
        assert_eq!(out[..3], [0.5, -0.5, 0.0]);
        assert!(out[3..6].iter().all(|x| x.is_nan()));
        assert!(out[6..].iter().all(|x| x.is_finite()));
    }
}
