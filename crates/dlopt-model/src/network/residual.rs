//! Residual blocks: `body(x) + shortcut(x)`, with a ReLU behind them where the plan has one.
//!
//! Where the body ends in a batch norm, that norm adds the shortcut and applies the ReLU in its own pass.

use std::sync::Arc;

use dlopt_kernels::nn::{Team, add_into, add_relu, relu_gradient};

use super::batch_norm::BatchNormLayer;
use super::layer::{Backward, Forward, Layer, backward_through};
use super::values::{Memory, Values};

/// Values of the sum that a task adds up.
const VALUES_PER_TASK: usize = 16 << 10;

pub(crate) struct ResidualLayer {
    pub(crate) body: Vec<Box<dyn Layer>>,
    /// The body's last layer, if it is a batch norm; its `relu` is that of the block.
    pub(crate) tail: Option<BatchNormLayer>,
    pub(crate) shortcut: Vec<Box<dyn Layer>>,
    pub(crate) relu: bool,
    pub(crate) kept: Option<Values>,
}

impl Layer for ResidualLayer {
    fn load(&mut self, team: &Team, weights: &[f32], trains: bool) {
        for layer in self.body.iter_mut().chain(&mut self.shortcut) {
            layer.load(team, weights, trains);
        }
    }

    fn is_trained(&self) -> bool {
        let mut layers = self.body.iter().chain(&self.shortcut);
        layers.any(|l| l.is_trained()) || self.tail.as_ref().is_some_and(Layer::is_trained)
    }

    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let mut long = Arc::clone(&x);
        let lengths = run.lengths.clone();
        for layer in &mut self.body {
            long = layer.forward(run, long);
        }
        // Both ways end in the same shape, so in the same lengths.
        run.lengths = lengths;
        let mut short = x;
        for layer in &mut self.shortcut {
            short = layer.forward(run, short);
        }
        if let Some(tail) = &mut self.tail {
            return tail.forward_with(run, long, Some(short));
        }
        let mut out = run.memory.take(long.len());
        run.team.chunks(&mut out, VALUES_PER_TASK, |index, out| {
            let values = index * VALUES_PER_TASK..index * VALUES_PER_TASK + out.len();
            let (long, short) = (&long[values.clone()], &short[values]);
            if self.relu {
                add_relu(long, short, out);
            } else {
                out.copy_from_slice(long);
                add_into(short, out);
            }
        });
        run.memory.release(long);
        run.memory.release(short);
        let out = Arc::new(out);
        if run.trains() && self.relu {
            self.kept = Some(Arc::clone(&out));
        }
        out
    }

    fn backward(&mut self, run: &mut Backward<'_>, mut gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let (long, short) = if let Some(tail) = &mut self.tail {
            let (long, short) = tail.backward_with(run, gradient);
            (long, short.expect("the forward pass added a shortcut"))
        } else {
            if let Some(out) = self.kept.take() {
                relu_gradient(&out, &mut gradient);
                run.memory.release(out);
            }
            let mut copy = run.memory.take(gradient.len());
            copy.copy_from_slice(&gradient);
            (copy, gradient)
        };
        let long = backward_through(&mut self.body, run, long, wants_input);
        let short = backward_through(&mut self.shortcut, run, short, wants_input);
        match (long, short) {
            (Some(mut long), Some(short)) if wants_input => {
                add_into(&short, &mut long);
                run.memory.give(short);
                Some(long)
            }
            (long, short) => {
                for unused in [long, short].into_iter().flatten() {
                    run.memory.give(unused);
                }
                None
            }
        }
    }

    fn forget(&mut self, memory: &mut Memory) {
        for layer in self.body.iter_mut().chain(&mut self.shortcut) {
            layer.forget(memory);
        }
        if let Some(tail) = &mut self.tail {
            tail.forget(memory);
        }
        if let Some(out) = self.kept.take() {
            memory.release(out);
        }
    }
}
