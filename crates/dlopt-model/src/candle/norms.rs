//! Normalisation over the batch, and over the last extent.

use std::ops::Range;

use candle_core::{D, Result, Tensor};

/// Where the running statistics of a batch norm lie, and how fast they move.
pub(super) struct Statistics<'a> {
    /// Of the mean, then of the variance.
    pub(super) ranges: &'a [Range<usize>],
    pub(super) buffers: &'a mut [f32],
    pub(super) momentum: f32,
}

/// Weights: scale, shift. Running variances are those of the population: `n / (n - 1)` times the batch's.
pub(super) fn batch_norm(
    x: &Tensor,
    weights: &[Tensor],
    epsilon: f32,
    uses_batch: bool,
    statistics: Statistics<'_>,
) -> Result<Tensor> {
    let channels = x.dim(D::Minus1)?;
    let rows = x.reshape(((), channels))?;
    let [mean_at, variance_at] = [statistics.ranges[0].clone(), statistics.ranges[1].clone()];
    let (mean, variance) = if uses_batch {
        let mean = rows.mean_keepdim(0)?;
        let variance = rows.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
        let count = rows.dim(0)? as f32;
        let unbiased = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
        for (range, new, factor) in [(mean_at, &mean, 1.0), (variance_at, &variance, unbiased)] {
            let new: Vec<f32> = new.flatten_all()?.to_vec1()?;
            for (running, new) in statistics.buffers[range].iter_mut().zip(new) {
                *running = (1.0 - statistics.momentum) * *running + statistics.momentum * new * factor;
            }
        }
        (mean, variance)
    } else {
        let running = |range: Range<usize>| Tensor::from_slice(&statistics.buffers[range], (1, channels), x.device());
        (running(mean_at)?, running(variance_at)?)
    };
    let deviation = (variance + f64::from(epsilon))?.sqrt()?;
    rows.broadcast_sub(&mean)?.broadcast_div(&deviation)?.broadcast_mul(&weights[0])?.broadcast_add(&weights[1])
}

/// Weights: scale, shift.
pub(super) fn layer_norm(x: &Tensor, weights: &[Tensor], epsilon: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(epsilon))?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(&weights[0])?.broadcast_add(&weights[1])
}
