//! Element-wise functions that no layer before them could apply in passing, and softmax.

use std::sync::Arc;

use dlopt_kernels::nn::{Function, activate, activate_gradient, softmax_rows, softmax_rows_gradient};

use super::layer::{Backward, Forward, Layer};
use super::values::{Memory, Values};
use crate::plan::Activation;

const VALUES_PER_TASK: usize = 16384;

pub(crate) struct ActivationLayer {
    /// None for softmax.
    function: Option<Function>,
    /// The last extent, which softmax runs over.
    features: usize,
    kept: Option<(Values, Values)>,
}

impl ActivationLayer {
    pub(crate) fn new(activation: Activation, features: usize) -> Self {
        let function = match activation {
            Activation::Relu => Some(Function::Relu),
            Activation::Relu6 => Some(Function::Relu6),
            Activation::LeakyRelu => Some(Function::LeakyRelu),
            Activation::Elu => Some(Function::Elu),
            Activation::Gelu => Some(Function::Gelu),
            Activation::Silu => Some(Function::Silu),
            Activation::HardSwish => Some(Function::HardSwish),
            Activation::Sigmoid => Some(Function::Sigmoid),
            Activation::Tanh => Some(Function::Tanh),
            Activation::Softmax => None,
        };
        Self { function, features, kept: None }
    }
}

impl Layer for ActivationLayer {
    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let mut out = run.memory.take(x.len());
        match self.function {
            Some(function) => run.team.chunks(&mut out, VALUES_PER_TASK, |index, out| {
                activate(function, &x[index * VALUES_PER_TASK..][..out.len()], out);
            }),
            None => softmax_rows(x.len() / self.features.max(1), self.features, &x, &mut out),
        }
        let out = Arc::new(out);
        if run.trains() {
            self.kept = Some((x, Arc::clone(&out)))
        } else {
            run.memory.release(x)
        }
        out
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let (x, out) = self.kept.take().expect("a training pass came before");
        let dx = wants_input.then(|| {
            let mut dx = run.memory.take(x.len());
            match self.function {
                Some(function) => run.team.chunks(&mut dx, VALUES_PER_TASK, |index, dx| {
                    let values = index * VALUES_PER_TASK..index * VALUES_PER_TASK + dx.len();
                    activate_gradient(function, &x[values.clone()], &out[values.clone()], &gradient[values], dx);
                }),
                None => {
                    softmax_rows_gradient(out.len() / self.features.max(1), self.features, &out, &gradient, &mut dx)
                }
            }
            dx
        });
        run.memory.give(gradient);
        run.memory.release(x);
        run.memory.release(out);
        dx
    }

    fn forget(&mut self, memory: &mut Memory) {
        if let Some((x, out)) = self.kept.take() {
            memory.release(x);
            memory.release(out);
        }
    }
}
