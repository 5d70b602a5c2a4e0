//! Layer normalisation over the last extent: `gamma * (x - mean) / sqrt(variance + epsilon) + beta` (Ba, Kiros and
//! Hinton, 2016, arXiv 1607.06450).

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::nn::{layer_norm, layer_norm_gradient};

use super::layer::{Backward, Forward, Layer, add_sums, sum_chunk};
use super::values::{Memory, Values};

pub(crate) struct LayerNormLayer {
    pub(crate) features: usize,
    pub(crate) epsilon: f32,
    pub(crate) scale: Range<usize>,
    pub(crate) shift: Range<usize>,
    pub(crate) is_trained: bool,
    pub(crate) kept: Option<Kept>,
}

pub(crate) struct Kept {
    x: Values,
    mean: Vec<f32>,
    /// One over the deviation of each row.
    inverse: Vec<f32>,
}

impl Layer for LayerNormLayer {
    fn is_trained(&self) -> bool {
        self.is_trained
    }

    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let rows = x.len() / self.features;
        let mut out = run.memory.take(x.len());
        let (mut mean, mut inverse) = (run.memory.take(rows), run.memory.take(rows));
        let (gamma, beta) = (&run.weights[self.scale.clone()], &run.weights[self.shift.clone()]);
        let chunk = rows.div_ceil(run.samples.max(1)) * sum_chunk(run.samples, 2 * self.features);
        let mut tasks: Vec<_> =
            out.chunks_mut(chunk * self.features).zip(mean.chunks_mut(chunk).zip(inverse.chunks_mut(chunk))).collect();
        run.team.each(&mut tasks, |index, (out, (mean, inverse))| {
            let x = &x[index * chunk * self.features..][..out.len()];
            layer_norm(mean.len(), x, self.features, self.epsilon, gamma, beta, out, Some((mean, inverse)));
        });
        if run.trains() {
            self.kept = Some(Kept { x, mean, inverse });
        } else {
            run.memory.release(x);
            run.memory.give(mean);
            run.memory.give(inverse);
        }
        Arc::new(out)
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let kept = self.kept.take().expect("a training pass came before");
        let (rows, features) = (kept.mean.len(), self.features);
        let gamma = &run.weights[self.scale.clone()];
        let chunk = rows.div_ceil(run.samples.max(1)) * sum_chunk(run.samples, 2 * features);
        let mut sums = run.memory.zeros(rows.div_ceil(chunk) * 2 * features);
        let mut dx = run.memory.take(kept.x.len());
        let mut tasks: Vec<_> = dx.chunks_mut(chunk * features).zip(sums.chunks_mut(2 * features)).collect();
        run.team.each(&mut tasks, |index, (dx, sums)| {
            let values = index * chunk * features..index * chunk * features + dx.len();
            let rows = index * chunk..index * chunk + dx.len() / features;
            let (dgamma, dbeta) = sums.split_at_mut(features);
            let (mean, inverse) = (&kept.mean[rows.clone()], &kept.inverse[rows.clone()]);
            let (x, gradient) = (&kept.x[values.clone()], &gradient[values]);
            layer_norm_gradient(rows.len(), x, features, mean, inverse, gamma, gradient, dx, dgamma, dbeta);
        });
        if self.is_trained {
            add_sums(run.team, &sums, 2 * features, 0, &mut run.gradients[self.scale.clone()]);
            add_sums(run.team, &sums, 2 * features, features, &mut run.gradients[self.shift.clone()]);
        }
        for used in [sums, gradient, kept.mean, kept.inverse] {
            run.memory.give(used);
        }
        run.memory.release(kept.x);
        if wants_input {
            return Some(dx);
        }
        run.memory.give(dx);
        None
    }

    fn forget(&mut self, memory: &mut Memory) {
        if let Some(kept) = self.kept.take() {
            memory.release(kept.x);
            memory.give(kept.mean);
            memory.give(kept.inverse);
        }
    }
}
