//! Dropout (Srivastava et al., 2014): while training, values become 0 with a probability and the others grow to make up
//! for it. What is dropped depends on the step's key, the layer and the position alone.

use std::sync::Arc;

use dlopt_kernels::nn::{Team, dropout};

use super::Mode;
use super::layer::{Backward, Forward, Layer};
use super::values::{Memory, Values};

pub(crate) struct DropoutLayer {
    pub(crate) rate: f32,
    /// Tells the layers of a network apart.
    pub(crate) number: u64,
    pub(crate) seed: u64,
}

const VALUES_PER_TASK: usize = 16384;

impl DropoutLayer {
    fn drop_values(&self, team: &Team, x: &[f32], out: &mut [f32]) {
        team.chunks(out, VALUES_PER_TASK, |index, out| {
            let first = index * VALUES_PER_TASK;
            dropout(self.seed, first as u64, self.rate, &x[first..first + out.len()], out);
        });
    }
}

impl Layer for DropoutLayer {
    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let Mode::Training { key } = run.mode else { return x };
        self.seed = key.wrapping_add(self.number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut out = run.memory.take(x.len());
        self.drop_values(run.team, &x, &mut out);
        run.memory.release(x);
        Arc::new(out)
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let dx = wants_input.then(|| {
            let mut dx = run.memory.take(gradient.len());
            self.drop_values(run.team, &gradient, &mut dx);
            dx
        });
        run.memory.give(gradient);
        dx
    }

    fn forget(&mut self, _memory: &mut Memory) {}
}
