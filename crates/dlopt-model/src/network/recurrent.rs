//! A recurrent layer in one direction, or in both with the outputs side by side.

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::nn::{Recurrent, RecurrentSaved, RecurrentShape, Team, add_into};

use super::layer::{Backward, Forward, Layer, add_sums, forward_chunk, sum_chunk};
use super::values::{Memory, Values};

/// Rows that run all their steps together.
const ROWS_PER_TASK: usize = 32;

/// One direction.
pub(crate) struct Way {
    kernel: Recurrent,
    weight: Range<usize>,
    bias: Range<usize>,
    packed: Vec<f32>,
    packed_back: Vec<f32>,
    /// What each chunk keeps; its memory stays from pass to pass.
    saved: Vec<RecurrentSaved>,
}

impl Way {
    pub(crate) fn new(kernel: Recurrent, weight: Range<usize>, bias: Range<usize>) -> Self {
        Self { kernel, weight, bias, packed: Vec::new(), packed_back: Vec::new(), saved: Vec::new() }
    }
}

pub(crate) struct RecurrentLayer {
    shape: RecurrentShape,
    ways: Vec<Way>,
    /// Output steps of a sample: all, or one.
    steps: usize,
    is_trained: bool,
    kept: Option<(Values, Option<Vec<u32>>)>,
}

impl RecurrentLayer {
    pub(crate) fn new(shape: RecurrentShape, ways: Vec<Way>, returns_sequence: bool, is_trained: bool) -> Self {
        Self { shape, ways, steps: if returns_sequence { shape.time } else { 1 }, is_trained, kept: None }
    }

    fn inputs(&self) -> usize {
        self.shape.time * self.shape.inputs
    }

    /// Values of one direction's output.
    fn outputs(&self) -> usize {
        self.steps * self.shape.hidden
    }
}

impl Layer for RecurrentLayer {
    fn load(&mut self, team: &Team, weights: &[f32], trains: bool) {
        for way in &mut self.ways {
            let weight = &weights[way.weight.clone()];
            way.kernel.pack_forward(team, weight, &mut way.packed);
            if trains {
                way.kernel.pack_backward(team, weight, &mut way.packed_back);
            }
        }
    }

    fn is_trained(&self) -> bool {
        self.is_trained
    }

    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let (inputs, outputs, hidden) = (self.inputs(), self.outputs(), self.shape.hidden);
        let keeps = run.trains();
        let chunk = if keeps {
            sum_chunk(run.samples, 0).max(ROWS_PER_TASK)
        } else {
            forward_chunk(run.samples, run.team, ROWS_PER_TASK)
        };
        let chunks = run.samples.div_ceil(chunk);
        let mut sides = Vec::with_capacity(self.ways.len());
        for way in &mut self.ways {
            let mut out = run.memory.take(run.samples * outputs);
            if keeps && way.saved.len() < chunks {
                way.saved.resize_with(chunks, RecurrentSaved::default);
            }
            let bias = &run.weights[way.bias.clone()];
            let mut saved = way.saved.iter_mut();
            let mut tasks: Vec<_> =
                out.chunks_mut(chunk * outputs).map(|out| (out, if keeps { saved.next() } else { None })).collect();
            let (kernel, packed) = (&way.kernel, &way.packed);
            run.team.each(&mut tasks, |index, (out, saved)| {
                let first = index * chunk;
                let rows = out.len() / outputs;
                let x = &x[first * inputs..][..rows * inputs];
                let lengths = run.lengths.as_ref().map(|l| &l[first..first + rows]);
                kernel.forward(rows, x, lengths, packed, bias, saved.as_deref_mut(), out);
            });
            sides.push(out);
        }
        let out = match <[Vec<f32>; 2]>::try_from(sides) {
            Ok([a, b]) => {
                let mut both = run.memory.take(a.len() + b.len());
                let pairs = a.chunks_exact(hidden).zip(b.chunks_exact(hidden));
                for (both, (a, b)) in both.chunks_exact_mut(2 * hidden).zip(pairs) {
                    both[..hidden].copy_from_slice(a);
                    both[hidden..].copy_from_slice(b);
                }
                run.memory.give(a);
                run.memory.give(b);
                both
            }
            Err(mut one) => one.pop().expect("a layer reads in one direction at least"),
        };
        if keeps {
            self.kept = Some((x, run.lengths.clone()));
        } else {
            run.memory.release(x);
        }
        Arc::new(out)
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let (x, lengths) = self.kept.take().expect("a training pass came before");
        let (inputs, outputs, hidden) = (self.inputs(), self.outputs(), self.shape.hidden);
        let chunk = sum_chunk(run.samples, 0).max(ROWS_PER_TASK);
        let is_double = self.ways.len() == 2;
        let mut all: Option<Vec<f32>> = None;
        for (side, way) in self.ways.iter_mut().enumerate() {
            let own = is_double.then(|| {
                let mut own = run.memory.take(gradient.len() / 2);
                for (own, both) in own.chunks_exact_mut(hidden).zip(gradient.chunks_exact(2 * hidden)) {
                    own.copy_from_slice(&both[side * hidden..][..hidden]);
                }
                own
            });
            let gradient = own.as_deref().unwrap_or(&gradient);
            let (weights, stride) = (way.weight.len(), way.weight.len() + way.bias.len());
            let mut sums = run.memory.take(run.samples.div_ceil(chunk) * stride);
            let mut dx = wants_input.then(|| run.memory.take(x.len()));
            {
                let mut dx = dx.as_deref_mut().map(|dx| dx.chunks_mut(chunk * inputs));
                let mut tasks: Vec<_> = sums
                    .chunks_mut(stride)
                    .zip(&mut way.saved)
                    .map(|(sums, saved)| (sums, saved, dx.as_mut().and_then(Iterator::next)))
                    .collect();
                let (kernel, packed) = (&way.kernel, &way.packed_back);
                run.team.each(&mut tasks, |index, (sums, saved, dx)| {
                    sums.fill(0.0);
                    let first = index * chunk;
                    let rows = chunk.min(run.samples - first);
                    let lengths = lengths.as_ref().map(|l| &l[first..first + rows]);
                    let (dw, db) = sums.split_at_mut(weights);
                    kernel.backward(
                        rows,
                        &x[first * inputs..][..rows * inputs],
                        lengths,
                        saved,
                        &gradient[first * outputs..][..rows * outputs],
                        packed,
                        dw,
                        db,
                        dx.as_deref_mut(),
                    );
                });
            }
            if self.is_trained {
                add_sums(run.team, &sums, stride, 0, &mut run.gradients[way.weight.clone()]);
                add_sums(run.team, &sums, stride, weights, &mut run.gradients[way.bias.clone()]);
            }
            run.memory.give(sums);
            if let Some(own) = own {
                run.memory.give(own);
            }
            all = match (all, dx) {
                (Some(mut all), Some(dx)) => {
                    add_into(&dx, &mut all);
                    run.memory.give(dx);
                    Some(all)
                }
                (all, dx) => all.or(dx),
            };
        }
        run.memory.give(gradient);
        run.memory.release(x);
        all
    }

    fn forget(&mut self, memory: &mut Memory) {
        if let Some((x, _)) = self.kept.take() {
            memory.release(x);
        }
    }
}
