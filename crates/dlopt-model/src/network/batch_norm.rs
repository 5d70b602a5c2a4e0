//! Batch normalisation with what often stands behind it: the sum of a residual block and a ReLU.
//!
//! `y = relu(gamma * (x - mean) / sqrt(variance + epsilon) + beta + residual)`, over channels or features (Ioffe and
//! Szegedy, 2015, arXiv 1502.03167). Training uses the mean and the biased variance of the batch and moves the running
//! ones towards them, the variance unbiased, as PyTorch does.

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::nn::{
    BatchNormCoefficients, add_into, batch_norm_apply, batch_norm_coefficients, batch_norm_fold,
    batch_norm_gradient_sums, batch_norm_input_gradient, batch_norm_statistics, batch_norm_sums,
};

use super::layer::{Backward, Forward, Layer, forward_chunk, sum_chunk};
use super::values::{Memory, Values};

pub(crate) struct BatchNormLayer {
    pub(crate) channels: usize,
    /// Rows of channels in a sample: pixels or steps.
    pub(crate) rows: usize,
    pub(crate) epsilon: f32,
    pub(crate) momentum: f32,
    pub(crate) relu: bool,
    pub(crate) scale: Range<usize>,
    pub(crate) shift: Range<usize>,
    pub(crate) running_mean: Range<usize>,
    pub(crate) running_variance: Range<usize>,
    pub(crate) is_frozen: bool,
    pub(crate) kept: Option<Kept>,
}

/// What the backward pass needs.
pub(crate) struct Kept {
    x: Values,
    out: Values,
    has_residual: bool,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl BatchNormLayer {
    /// The forward pass with `residual` added before the ReLU.
    pub(crate) fn forward_with(&mut self, run: &mut Forward<'_>, x: Values, residual: Option<Values>) -> Values {
        let channels = self.channels;
        let uses_batch = run.trains() && !self.is_frozen;
        let (mean, variance) = if uses_batch {
            self.statistics(run, &x)
        } else {
            (run.buffers[self.running_mean.clone()].to_vec(), run.buffers[self.running_variance.clone()].to_vec())
        };
        let (gamma, beta) = (&run.weights[self.scale.clone()], &run.weights[self.shift.clone()]);
        let (mut scale, mut shift) = (vec![0.0; channels], vec![0.0; channels]);
        batch_norm_fold(&mean, &variance, gamma, beta, self.epsilon, &mut scale, &mut shift);
        let sample = self.rows * channels;
        let mut out = run.memory.take(x.len());
        let chunk = forward_chunk(run.samples, run.team, 8);
        run.team.chunks(&mut out, chunk * sample, |index, out| {
            let values = index * chunk * sample..index * chunk * sample + out.len();
            let residual = residual.as_ref().map(|r| &r[values.clone()]);
            let rows = out.len() / channels;
            batch_norm_apply(rows, &x[values], channels, &scale, &shift, residual, self.relu, out);
        });
        let out = Arc::new(out);
        let has_residual = residual.is_some();
        if let Some(residual) = residual {
            run.memory.release(residual);
        }
        if run.trains() {
            self.kept = Some(Kept { x, out: Arc::clone(&out), has_residual, mean, variance });
        } else {
            run.memory.release(x);
        }
        out
    }

    /// Mean and biased variance of the batch; moves the running statistics.
    fn statistics(&self, run: &mut Forward<'_>, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let channels = self.channels;
        let sample = self.rows * channels;
        let chunk = sum_chunk(run.samples, 2 * channels);
        let mut sums = vec![0.0_f64; run.samples.div_ceil(chunk) * 2 * channels];
        run.team.chunks(&mut sums, 2 * channels, |index, sums| {
            let first = index * chunk;
            let x = &x[first * sample..(first + chunk).min(run.samples) * sample];
            batch_norm_sums(x.len() / channels, x, channels, sums);
        });
        let total = in_order(&sums, 2 * channels);
        let count = run.samples * self.rows;
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        batch_norm_statistics(&total, count, &mut mean, &mut variance);
        let unbiased = if count > 1 { count as f32 / (count - 1) as f32 } else { 1.0 };
        let step = self.momentum;
        let mut towards = |range: &Range<usize>, values: &[f32], factor: f32| {
            for (running, new) in run.buffers[range.clone()].iter_mut().zip(values) {
                *running = (1.0 - step) * *running + step * new * factor;
            }
        };
        towards(&self.running_mean, &mean, 1.0);
        towards(&self.running_variance, &variance, unbiased);
        (mean, variance)
    }

    /// The backward pass: gradients of the input and, where one was added, of the residual.
    pub(crate) fn backward_with(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>) -> (Vec<f32>, Option<Vec<f32>>) {
        let kept = self.kept.take().expect("a training pass came before");
        let channels = self.channels;
        let sample = self.rows * channels;
        let mask = self.relu.then_some(&kept.out[..]);
        let chunk = sum_chunk(run.samples, 2 * channels);
        let mut sums = vec![0.0_f64; run.samples.div_ceil(chunk) * 2 * channels];
        run.team.chunks(&mut sums, 2 * channels, |index, sums| {
            let first = index * chunk;
            let values = first * sample..(first + chunk).min(run.samples) * sample;
            let mask = mask.map(|m| &m[values.clone()]);
            let rows = values.len() / channels;
            let (x, gradient) = (&kept.x[values.clone()], &gradient[values]);
            batch_norm_gradient_sums(rows, x, mask, gradient, &kept.mean, channels, sums);
        });
        let total = in_order(&sums, 2 * channels);
        let gamma = &run.weights[self.scale.clone()];
        let (mut a, mut b, mut c) = (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
        let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
        batch_norm_coefficients(
            &total,
            run.samples * self.rows,
            &kept.mean,
            &kept.variance,
            gamma,
            self.epsilon,
            [&mut a, &mut b, &mut c],
            &mut dgamma,
            &mut dbeta,
        );
        if self.is_frozen {
            // Fixed statistics do not depend on the input.
            b.fill(0.0);
            c.fill(0.0);
        } else {
            add_into(&dgamma, &mut run.gradients[self.scale.clone()]);
            add_into(&dbeta, &mut run.gradients[self.shift.clone()]);
        }
        let coefficients = BatchNormCoefficients { a: &a, b: &b, c: &c };
        let mut dx = run.memory.take(kept.x.len());
        let mut dresidual = kept.has_residual.then(|| run.memory.take(kept.x.len()));
        let chunk = forward_chunk(run.samples, run.team, 8);
        {
            let mut residuals = dresidual.as_deref_mut().map(|d| d.chunks_mut(chunk * sample));
            let mut tasks: Vec<_> =
                dx.chunks_mut(chunk * sample).map(|dx| (dx, residuals.as_mut().and_then(Iterator::next))).collect();
            run.team.each(&mut tasks, |index, (dx, dresidual)| {
                let values = index * chunk * sample..index * chunk * sample + dx.len();
                let mask = mask.map(|m| &m[values.clone()]);
                let rows = dx.len() / channels;
                let (x, gradient) = (&kept.x[values.clone()], &gradient[values]);
                let dresidual = dresidual.as_deref_mut();
                batch_norm_input_gradient(rows, x, mask, gradient, channels, coefficients, dx, dresidual);
            });
        }
        run.memory.give(gradient);
        run.memory.release(kept.x);
        run.memory.release(kept.out);
        (dx, dresidual)
    }
}

/// Adds rows of `len` values, first to last.
fn in_order(sums: &[f64], len: usize) -> Vec<f64> {
    let mut total = vec![0.0; len];
    for sums in sums.chunks_exact(len) {
        total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
    }
    total
}

impl Layer for BatchNormLayer {
    fn is_trained(&self) -> bool {
        !self.is_frozen
    }

    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        self.forward_with(run, x, None)
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let (dx, _) = self.backward_with(run, gradient);
        if wants_input {
            return Some(dx);
        }
        run.memory.give(dx);
        None
    }

    fn forget(&mut self, memory: &mut Memory) {
        if let Some(kept) = self.kept.take() {
            memory.release(kept.x);
            memory.release(kept.out);
        }
    }
}
