//! The magnitude of complex features.

use std::sync::Arc;

use dlopt_kernels::nn::{magnitude, magnitude_gradient};

use super::layer::{Backward, Forward, Layer};
use super::values::{Memory, Values};

const VALUES_PER_TASK: usize = 8192;

pub(crate) struct MagnitudeLayer {
    /// Features that go in; half as many come out.
    pub(crate) features: usize,
    pub(crate) kept: Option<Values>,
}

impl MagnitudeLayer {
    /// Values that go into a task: whole rows.
    fn chunk(&self) -> usize {
        (VALUES_PER_TASK / self.features).max(1) * self.features
    }
}

impl Layer for MagnitudeLayer {
    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let (features, chunk) = (self.features, self.chunk());
        let mut out = run.memory.take(x.len() / 2);
        run.team.chunks(&mut out, chunk / 2, |index, out| {
            magnitude(features, &x[index * chunk..][..2 * out.len()], out);
        });
        if run.trains() {
            self.kept = Some(x)
        } else {
            run.memory.release(x)
        }
        Arc::new(out)
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let x = self.kept.take().expect("a training pass came before");
        let (features, chunk) = (self.features, self.chunk());
        let dx = wants_input.then(|| {
            let mut dx = run.memory.take(x.len());
            run.team.chunks(&mut dx, chunk, |index, dx| {
                let x = &x[index * chunk..][..dx.len()];
                let gradient = &gradient[index * chunk / 2..][..dx.len() / 2];
                magnitude_gradient(features, x, gradient, dx);
            });
            dx
        });
        run.memory.give(gradient);
        run.memory.release(x);
        dx
    }

    fn forget(&mut self, memory: &mut Memory) {
        if let Some(x) = self.kept.take() {
            memory.release(x);
        }
    }
}
