//! Dense layers on vectors, or at every step of a series, with a ReLU behind them where the plan has one.

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::nn::{Dense, Team};

use super::layer::{Backward, Forward, Layer, forward_chunk};
use super::values::{Memory, Values};

/// Rows a task holds at most.
const ROWS_PER_TASK: usize = 32;
/// Inputs whose rows of the weight gradient a task sums over the whole batch.
const INPUTS_PER_TASK: usize = 96;

pub(crate) struct DenseLayer {
    kernel: Dense,
    inputs: usize,
    outputs: usize,
    relu: bool,
    weight: Range<usize>,
    bias: Option<Range<usize>>,
    is_trained: bool,
    packed: Vec<f32>,
    packed_back: Vec<f32>,
    kept: Option<(Values, Values)>,
}

impl DenseLayer {
    pub(crate) fn new(
        [inputs, outputs]: [usize; 2],
        relu: bool,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        is_trained: bool,
    ) -> Self {
        Self {
            kernel: Dense::new(inputs, outputs, relu),
            inputs,
            outputs,
            relu,
            weight,
            bias,
            is_trained,
            packed: Vec::new(),
            packed_back: Vec::new(),
            kept: None,
        }
    }
}

impl Layer for DenseLayer {
    fn load(&mut self, team: &Team, weights: &[f32], trains: bool) {
        let weight = &weights[self.weight.clone()];
        self.kernel.pack_forward(team, weight, &mut self.packed);
        if trains {
            self.kernel.pack_backward(team, weight, &mut self.packed_back);
        }
    }

    fn is_trained(&self) -> bool {
        self.is_trained
    }

    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let rows = x.len() / self.inputs;
        let mut out = run.memory.take(rows * self.outputs);
        let bias = self.bias.clone().map(|b| &run.weights[b]);
        let chunk = forward_chunk(rows, run.team, ROWS_PER_TASK);
        run.team.chunks(&mut out, chunk * self.outputs, |index, out| {
            let rows = out.len() / self.outputs;
            let x = &x[index * chunk * self.inputs..][..rows * self.inputs];
            self.kernel.forward(rows, x, &self.packed, bias, out);
        });
        let out = Arc::new(out);
        if run.trains() {
            self.kept = Some((x, Arc::clone(&out)))
        } else {
            run.memory.release(x)
        }
        out
    }

    fn backward(&mut self, run: &mut Backward<'_>, mut gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let (x, out) = self.kept.take().expect("a training pass came before");
        let rows = x.len() / self.inputs;
        if self.relu {
            self.kernel.mask(&out, &mut gradient);
        }
        if self.is_trained {
            let dw = &mut run.gradients[self.weight.clone()];
            run.team.chunks(dw, INPUTS_PER_TASK * self.outputs, |index, dw| {
                let first = index * INPUTS_PER_TASK;
                let inputs = first..first + dw.len() / self.outputs;
                self.kernel.weight_gradient(rows, &x, &gradient, inputs, dw);
            });
            if let Some(bias) = &self.bias {
                self.kernel.bias_gradient(rows, &gradient, &mut run.gradients[bias.clone()]);
            }
        }
        let dx = wants_input.then(|| {
            let mut dx = run.memory.take(x.len());
            let chunk = forward_chunk(rows, run.team, ROWS_PER_TASK);
            run.team.chunks(&mut dx, chunk * self.inputs, |index, dx| {
                let rows = dx.len() / self.inputs;
                let gradient = &gradient[index * chunk * self.outputs..][..rows * self.outputs];
                self.kernel.input_gradient(rows, gradient, &self.packed_back, dx);
            });
            dx
        });
        run.memory.give(gradient);
        run.memory.release(out);
        run.memory.release(x);
        dx
    }

    fn forget(&mut self, memory: &mut Memory) {
        if let Some((x, out)) = self.kept.take() {
            memory.release(x);
            memory.release(out);
        }
    }
}
