//! Rows of a table, by token number.

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::nn::{embedding, embedding_gradient};

use super::layer::{Backward, Forward, Layer};
use super::values::{Memory, Values};

pub(crate) struct EmbeddingLayer {
    pub(crate) size: usize,
    pub(crate) table: Range<usize>,
    pub(crate) is_trained: bool,
    pub(crate) kept: Option<Values>,
}

impl Layer for EmbeddingLayer {
    fn is_trained(&self) -> bool {
        self.is_trained
    }

    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let mut out = run.memory.take(x.len() * self.size);
        embedding(&x, &run.weights[self.table.clone()], self.size, &mut out);
        if run.trains() {
            self.kept = Some(x)
        } else {
            run.memory.release(x)
        }
        Arc::new(out)
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let x = self.kept.take().expect("a training pass came before");
        if self.is_trained {
            // One token may come many times, so rows are added in the order of the batch.
            embedding_gradient(&x, &gradient, self.size, &mut run.gradients[self.table.clone()]);
        }
        run.memory.give(gradient);
        // Token numbers have no gradient; whoever asks for one gets zeros.
        let dx = wants_input.then(|| run.memory.zeros(x.len()));
        run.memory.release(x);
        dx
    }

    fn forget(&mut self, memory: &mut Memory) {
        if let Some(x) = self.kept.take() {
            memory.release(x);
        }
    }
}
