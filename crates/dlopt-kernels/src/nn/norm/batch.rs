//! Batch normalisation over the last extent (Ioffe and Szegedy 2015, arXiv 1502.03167): `[rows, channels]`, where the rows
//! are the places of all images.
//!
//! Training, forward: [`batch_norm_sums`] of every chunk of rows, added in order of chunks; [`batch_norm_statistics`];
//! [`batch_norm_fold`]; [`batch_norm_apply`] of every chunk, with the sum with a residual branch and ReLU in the same pass.
//! Inference folds the running statistics instead.
//!
//! Backward, with `g` the gradient of `out` where ReLU let it through: [`batch_norm_gradient_sums`] of every chunk, added
//! in order; [`batch_norm_coefficients`]; [`batch_norm_input_gradient`] of every chunk, which also hands `g` to the
//! residual branch.

use crate::nn::bits::Bits;
use crate::nn::columns::{ColumnMap, ColumnSum, map_columns, sum_columns};

#[derive(Clone, Copy)]
struct Sums;
impl ColumnSum<1, 0> for Sums {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x]: [T; 1], _: [T; 0]) -> (T, [T; 2]) {
        (x, [x, x])
    }
}

/// Adds each channel's sum and sum of squares to `sums`, `[2, channels]`.
///
/// Both in `f64`, squares exact, so the variance is good to `2^-53 rows mean^2 / variance`, relatively.
///
/// # Panics
/// When `x` is not `rows * channels` or `sums` not `2 * channels` long.
pub fn batch_norm_sums(rows: usize, x: &[f32], channels: usize, sums: &mut [f64]) {
    sum_columns(Sums, rows, channels, [x], [], sums);
}

/// Mean and variance (of the population, divided by `count`) of each channel from the sums of all `count` rows.
///
/// The running variance that PyTorch keeps is `count / (count - 1)` times this.
///
/// # Panics
/// When lengths disagree.
pub fn batch_norm_statistics(sums: &[f64], count: usize, mean: &mut [f32], variance: &mut [f32]) {
    let channels = mean.len();
    assert_eq!(sums.len(), 2 * channels, "`sums` is [2, channels]");
    assert_eq!(variance.len(), channels, "one variance for each channel");
    let count = count as f64;
    for c in 0..channels {
        let center = sums[c] / count;
        mean[c] = center as f32;
        // Rounding must not make it negative; a NaN stays.
        let spread = sums[channels + c] / count - center * center;
        variance[c] = if spread < 0.0 { 0.0 } else { spread as f32 };
    }
}

/// `1 / sqrt(variance + epsilon)`.
fn inverse_deviation(variance: f32, epsilon: f32) -> f64 {
    1.0 / (f64::from(variance) + f64::from(epsilon)).sqrt()
}

/// What [`batch_norm_apply`] multiplies by and adds: `scale = gamma / sqrt(variance + epsilon)` and
/// `shift = beta - mean scale`.
///
/// # Panics
/// When lengths disagree.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn batch_norm_fold(
    mean: &[f32],
    variance: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
    scale: &mut [f32],
    shift: &mut [f32],
) {
    let channels = mean.len();
    for slice in [variance, gamma, beta, &*scale, &*shift] {
        assert_eq!(slice.len(), channels, "one value for each channel");
    }
    for c in 0..channels {
        let factor = f64::from(gamma[c]) * inverse_deviation(variance[c], epsilon);
        scale[c] = factor as f32;
        shift[c] = (f64::from(beta[c]) - f64::from(mean[c]) * factor) as f32;
    }
}

#[derive(Clone, Copy)]
struct Apply<const RELU: bool>;
impl<const RELU: bool> ColumnMap<1, 2, 1> for Apply<RELU> {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x]: [T; 1], [scale, shift]: [T; 2]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe {
            let y = shift.fma(x, scale);
            [if RELU { T::splat(0.0).max(y) } else { y }]
        }
    }
}
impl<const RELU: bool> ColumnMap<2, 2, 1> for Apply<RELU> {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x, residual]: [T; 2], [scale, shift]: [T; 2]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe {
            let y = shift.fma(x, scale).add(residual);
            [if RELU { T::splat(0.0).max(y) } else { y }]
        }
    }
}

/// `out = x scale + shift + residual`, and with `relu` the larger of that and 0 (NaN stays).
///
/// # Panics
/// When lengths disagree.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn batch_norm_apply(
    rows: usize,
    x: &[f32],
    channels: usize,
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
    out: &mut [f32],
) {
    let folded = [scale, shift];
    match (residual, relu) {
        (None, false) => map_columns(Apply::<false>, rows, channels, [x], folded, [out]),
        (None, true) => map_columns(Apply::<true>, rows, channels, [x], folded, [out]),
        (Some(residual), false) => map_columns(Apply::<false>, rows, channels, [x, residual], folded, [out]),
        (Some(residual), true) => map_columns(Apply::<true>, rows, channels, [x, residual], folded, [out]),
    }
}

#[derive(Clone, Copy)]
struct GradientSums;
impl ColumnSum<2, 1> for GradientSums {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x, g]: [T; 2], [mean]: [T; 1]) -> (T, [T; 2]) {
        // SAFETY: the caller's.
        unsafe { (g, [g, x.sub(mean)]) }
    }
}
impl ColumnSum<3, 1> for GradientSums {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x, g, out]: [T; 3], [mean]: [T; 1]) -> (T, [T; 2]) {
        // SAFETY: the caller's.
        unsafe {
            let g = g.where_pos(out);
            (g, [g, x.sub(mean)])
        }
    }
}

/// Adds each channel's sum of `g` and sum of `g (x - mean)` to `sums`, `[2, channels]`, in `f64`.
///
/// `g` is the gradient, 0 where `out_for_mask` (what [`batch_norm_apply`] gave with ReLU) is not above 0.
///
/// # Panics
/// When lengths disagree.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn batch_norm_gradient_sums(
    rows: usize,
    x: &[f32],
    out_for_mask: Option<&[f32]>,
    gradient: &[f32],
    mean: &[f32],
    channels: usize,
    sums: &mut [f64],
) {
    match out_for_mask {
        None => sum_columns(GradientSums, rows, channels, [x, gradient], [mean], sums),
        Some(out) => sum_columns(GradientSums, rows, channels, [x, gradient, out], [mean], sums),
    }
}

/// What [`batch_norm_input_gradient`] computes with, one of each for every channel: `dx = a g + b x + c`.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormCoefficients<'a> {
    /// The gradient's factor.
    pub a: &'a [f32],
    /// The input's factor.
    pub b: &'a [f32],
    /// The constant.
    pub c: &'a [f32],
}

/// Coefficients of the input's gradient, and the gradients of `gamma` and `beta`, from [`batch_norm_gradient_sums`] over
/// all `count` rows of the batch.
///
/// With `r = 1 / sqrt(variance + epsilon)`: `dgamma += r sum(g (x - mean))`, `dbeta += sum(g)`, `a = gamma r`,
/// `b = -a r^2 sum(g (x - mean)) / count`, `c = -a sum(g) / count - b mean`. (With fixed statistics, as in a frozen layer,
/// `a` is the same and `b` and `c` are 0.) `coefficients` are `a`, `b`, `c`.
///
/// # Panics
/// When lengths disagree.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn batch_norm_coefficients(
    sums: &[f64],
    count: usize,
    mean: &[f32],
    variance: &[f32],
    gamma: &[f32],
    epsilon: f32,
    coefficients: [&mut [f32]; 3],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let channels = mean.len();
    assert_eq!(sums.len(), 2 * channels, "`sums` is [2, channels]");
    let [a, b, c] = coefficients;
    for slice in [variance, gamma, &*a, &*b, &*c, &*dgamma, &*dbeta] {
        assert_eq!(slice.len(), channels, "one value for each channel");
    }
    for channel in 0..channels {
        let r = inverse_deviation(variance[channel], epsilon);
        let (sum, product) = (sums[channel], sums[channels + channel]);
        dgamma[channel] += (r * product) as f32;
        dbeta[channel] += sum as f32;
        let factor = f64::from(gamma[channel]) * r;
        let slope = -factor * r * r * product / count as f64;
        a[channel] = factor as f32;
        b[channel] = slope as f32;
        c[channel] = (-factor * sum / count as f64 - slope * f64::from(mean[channel])) as f32;
    }
}

#[derive(Clone, Copy)]
struct InputGradient;
/// `a g + b x + c`.
#[inline(always)]
unsafe fn input_gradient<T: Bits>(x: T, g: T, [a, b, c]: [T; 3]) -> T {
    // SAFETY: the caller's.
    unsafe { c.fma(b, x).fma(a, g) }
}
impl ColumnMap<2, 3, 1> for InputGradient {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x, g]: [T; 2], coefficients: [T; 3]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe { [input_gradient(x, g, coefficients)] }
    }
}
impl ColumnMap<2, 3, 2> for InputGradient {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x, g]: [T; 2], coefficients: [T; 3]) -> [T; 2] {
        // SAFETY: the caller's.
        unsafe { [input_gradient(x, g, coefficients), g] }
    }
}
impl ColumnMap<3, 3, 1> for InputGradient {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x, g, out]: [T; 3], coefficients: [T; 3]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe { [input_gradient(x, g.where_pos(out), coefficients)] }
    }
}
impl ColumnMap<3, 3, 2> for InputGradient {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x, g, out]: [T; 3], coefficients: [T; 3]) -> [T; 2] {
        // SAFETY: the caller's.
        unsafe {
            let g = g.where_pos(out);
            [input_gradient(x, g, coefficients), g]
        }
    }
}

/// `dx = a g + b x + c`, with `g` as in [`batch_norm_gradient_sums`]; `residual_gradient` receives `g`.
///
/// # Panics
/// When lengths disagree.
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
pub fn batch_norm_input_gradient(
    rows: usize,
    x: &[f32],
    out_for_mask: Option<&[f32]>,
    gradient: &[f32],
    channels: usize,
    coefficients: BatchNormCoefficients<'_>,
    dx: &mut [f32],
    residual_gradient: Option<&mut [f32]>,
) {
    let abc = [coefficients.a, coefficients.b, coefficients.c];
    match (out_for_mask, residual_gradient) {
        (None, None) => map_columns(InputGradient, rows, channels, [x, gradient], abc, [dx]),
        (None, Some(branch)) => map_columns(InputGradient, rows, channels, [x, gradient], abc, [dx, branch]),
        (Some(out), None) => map_columns(InputGradient, rows, channels, [x, gradient, out], abc, [dx]),
        (Some(out), Some(branch)) => map_columns(InputGradient, rows, channels, [x, gradient, out], abc, [dx, branch]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{assert_near, bits, dot, numeric_gradient, values, wide};

    const EPSILON: f32 = 1e-5;
    const SHAPES: [(usize, usize); 8] = [(1, 5), (9, 1), (37, 3), (21, 16), (50, 20), (33, 64), (18, 130), (7, 203)];

    struct Case {
        rows: usize,
        channels: usize,
        x: Vec<f32>,
        residual: Vec<f32>,
        gradient: Vec<f32>,
        gamma: Vec<f32>,
        beta: Vec<f32>,
    }

    fn case(rows: usize, channels: usize) -> Case {
        let n = rows * channels;
        let [x, residual, gradient] = [1, 2, 3].map(|seed| values(n, seed));
        let [gamma, beta] = [4, 5].map(|seed| values(channels, seed));
        Case { rows, channels, x, residual, gradient, gamma, beta }
    }

    /// `act(batch norm + residual)` in `f64`, with the batch's own statistics.
    fn reference(
        case: &Case,
        x: &[f64],
        gamma: &[f64],
        beta: &[f64],
        residual: Option<&[f64]>,
        relu: bool,
    ) -> Vec<f64> {
        let (rows, channels) = (case.rows, case.channels);
        let mut out = vec![0.0; x.len()];
        for c in 0..channels {
            let column = || (0..rows).map(|r| x[r * channels + c]);
            let mean = column().sum::<f64>() / rows as f64;
            let variance = column().map(|x| (x - mean) * (x - mean)).sum::<f64>() / rows as f64;
            for r in 0..rows {
                let at = r * channels + c;
                let y = (x[at] - mean) / (variance + f64::from(EPSILON)).sqrt() * gamma[c] + beta[c];
                let y = y + residual.map_or(0.0, |residual| residual[at]);
                out[at] = if relu { y.max(0.0) } else { y };
            }
        }
        out
    }

    /// Forward and backward through the kernels, the rows in chunks: out, dx, residual gradient, dgamma, dbeta.
    fn through_kernels(case: &Case, with_residual: bool, relu: bool) -> [Vec<f32>; 5] {
        let Case { rows, channels, x, residual, gradient, gamma, beta } = case;
        let (rows, channels) = (*rows, *channels);
        let chunk = 8 * channels;
        let (mut sums, mut mean, mut variance) = (vec![0.0; 2 * channels], vec![0.0; channels], vec![0.0; channels]);
        for x in x.chunks(chunk) {
            batch_norm_sums(x.len() / channels, x, channels, &mut sums);
        }
        batch_norm_statistics(&sums, rows, &mut mean, &mut variance);
        let (mut scale, mut shift) = (vec![0.0; channels], vec![0.0; channels]);
        batch_norm_fold(&mean, &variance, gamma, beta, EPSILON, &mut scale, &mut shift);
        let mut out = vec![f32::NAN; x.len()];
        let branch = with_residual.then_some(&residual[..]);
        batch_norm_apply(rows, x, channels, &scale, &shift, branch, relu, &mut out);
        let mut sums = vec![0.0; 2 * channels];
        for ((x, g), out) in x.chunks(chunk).zip(gradient.chunks(chunk)).zip(out.chunks(chunk)) {
            let rows = x.len() / channels;
            batch_norm_gradient_sums(rows, x, relu.then_some(out), g, &mean, channels, &mut sums);
        }
        let [mut a, mut b, mut c] = [(); 3].map(|()| vec![0.0; channels]);
        let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
        let abc = [&mut a[..], &mut b[..], &mut c[..]];
        batch_norm_coefficients(&sums, rows, &mean, &variance, gamma, EPSILON, abc, &mut dgamma, &mut dbeta);
        let (mut dx, mut dbranch) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
        let coefficients = BatchNormCoefficients { a: &a, b: &b, c: &c };
        let mask = relu.then_some(&out[..]);
        let to_branch = with_residual.then_some(&mut dbranch[..]);
        batch_norm_input_gradient(rows, x, mask, gradient, channels, coefficients, &mut dx, to_branch);
        [out, dx, dbranch, dgamma, dbeta]
    }

    #[test]
    fn outputs_and_gradients_agree_with_f64_and_finite_differences() {
        for (rows, channels) in [(9, 1), (13, 3), (6, 20)] {
            for (with_residual, relu) in [(false, false), (false, true), (true, false), (true, true)] {
                let case = case(rows, channels);
                let [x, g, gamma, beta] = [&case.x, &case.gradient, &case.gamma, &case.beta].map(|v| wide(v));
                let branch = wide(&case.residual);
                let residual = with_residual.then_some(&branch[..]);
                let of = |x: &[f64], gamma: &[f64], beta: &[f64], residual: Option<&[f64]>| {
                    reference(&case, x, gamma, beta, residual, relu)
                };
                let [out, dx, dbranch, dgamma, dbeta] = through_kernels(&case, with_residual, relu);
                assert_near(&out, &of(&x, &gamma, &beta, residual), 2e-6);
                assert_near(&dx, &numeric_gradient(&x, |x| dot(&of(x, &gamma, &beta, residual), &g)), 2e-5);
                assert_near(&dgamma, &numeric_gradient(&gamma, |p| dot(&of(&x, p, &beta, residual), &g)), 2e-5);
                assert_near(&dbeta, &numeric_gradient(&beta, |p| dot(&of(&x, &gamma, p, residual), &g)), 2e-5);
                if with_residual {
                    let wanted = numeric_gradient(&branch, |r| dot(&of(&x, &gamma, &beta, Some(r)), &g));
                    assert_near(&dbranch, &wanted, 2e-5);
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        for (rows, channels) in SHAPES {
            let case = case(rows, channels);
            at_every_level(|| through_kernels(&case, true, true).map(|out| bits(&out)));
        }
    }

    #[test]
    fn the_variance_of_values_far_from_zero_is_right() {
        let x: Vec<f32> = values(1001, 1).iter().map(|x| 4096.0 + x).collect();
        let (mut sums, mut mean, mut variance) = ([0.0; 2], [0.0], [0.0]);
        batch_norm_sums(1001, &x, 1, &mut sums);
        batch_norm_statistics(&sums, 1001, &mut mean, &mut variance);
        let center = wide(&x).iter().sum::<f64>() / 1001.0;
        let wanted = wide(&x).iter().map(|x| (x - center) * (x - center)).sum::<f64>() / 1001.0;
        assert_near(&mean, &[center], 1e-7);
        assert_near(&variance, &[wanted], 1e-7);
    }

    #[test]
    fn a_nan_spoils_its_channel_and_no_other() {
        let mut x = values(3 * 7, 1);
        x[3 * 2 + 1] = f32::NAN;
        let (mut sums, mut mean, mut variance) = ([0.0; 6], [0.0; 3], [0.0; 3]);
        batch_norm_sums(7, &x, 3, &mut sums);
        batch_norm_statistics(&sums, 7, &mut mean, &mut variance);
        assert_eq!(mean.map(f32::is_nan), [false, true, false]);
        assert_eq!(variance.map(f32::is_nan), [false, true, false]);
    }

    #[test]
    fn equal_values_have_no_variance() {
        let (mut sums, mut mean, mut variance) = ([0.0; 2], [0.0], [0.0]);
        batch_norm_sums(9, &[0.1; 9], 1, &mut sums);
        batch_norm_statistics(&sums, 9, &mut mean, &mut variance);
        assert_eq!(mean, [0.1]);
        assert!((0.0..1e-15).contains(&variance[0]));
    }
}
