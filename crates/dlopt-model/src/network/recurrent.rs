//! A recurrent layer in one direction, or in both with the outputs side by side.

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::nn::{Ends, Recurrent, RecurrentSaved, RecurrentShape, Team, add_into};

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
    returns_sequence: bool,
    is_trained: bool,
    kept: Option<(Values, Option<Vec<u32>>)>,
}

impl RecurrentLayer {
    pub(crate) fn new(shape: RecurrentShape, ways: Vec<Way>, returns_sequence: bool, is_trained: bool) -> Self {
        Self { shape, ways, returns_sequence, is_trained, kept: None }
    }

    fn inputs(&self) -> usize {
        self.shape.time * self.shape.inputs
    }

    /// Values of one direction's output.
    fn outputs(&self) -> usize {
        self.shape.hidden * if self.returns_sequence { self.shape.time } else { 1 }
    }

    /// Reads on from the states that are carried, and moves them on. In a stream the samples are the steps of one row.
    fn go_on(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let [way] = self.ways.as_slice() else { unreachable!("states are carried in one direction alone") };
        let carried = run.carried.as_mut().expect("the caller asked");
        let is_stream = carried.states.is_stream();
        let rows = if is_stream { 1 } else { run.samples };
        let states = carried.take();
        let inputs = x.len() / rows.max(1);
        let time = inputs / self.shape.inputs;
        if time == 0 {
            return x;
        }
        let returns_sequence = self.returns_sequence || is_stream;
        let kernel = Recurrent::new(RecurrentShape { time, ..self.shape }, false, returns_sequence);
        let (state, outputs) = (kernel.state_len(), self.shape.hidden * if returns_sequence { time } else { 1 });
        let mut before = run.memory.take(states.len());
        before.copy_from_slice(states);
        let mut out = run.memory.take(rows * outputs);
        let chunk = forward_chunk(rows, run.team, ROWS_PER_TASK);
        let mut tasks: Vec<_> = out.chunks_mut(chunk * outputs).zip(states.chunks_mut(chunk * state)).collect();
        let (bias, lengths) = (&run.weights[way.bias.clone()], run.lengths.as_deref());
        run.team.each(&mut tasks, |index, (out, states)| {
            let (first, rows) = (index * chunk, out.len() / outputs);
            let x = &x[first * inputs..][..rows * inputs];
            let lengths = lengths.map(|l| &l[first..first + rows]);
            let given = &before[first * state..][..rows * state];
            let ends = Ends { given: Some(given), wanted: Some(states) };
            kernel.forward_between(rows, x, lengths, &way.packed, bias, ends, None, out);
        });
        run.memory.give(before);
        run.memory.release(x);
        Arc::new(out)
    }
}

/// The outputs of one direction, or those of two beside each other, `hidden` values of each at a time.
pub(super) fn side_by_side(memory: &mut Memory, sides: Vec<Vec<f32>>, hidden: usize) -> Vec<f32> {
    match <[Vec<f32>; 2]>::try_from(sides) {
        Ok([a, b]) => {
            let mut both = memory.take(a.len() + b.len());
            let pairs = a.chunks_exact(hidden).zip(b.chunks_exact(hidden));
            for (both, (a, b)) in both.chunks_exact_mut(2 * hidden).zip(pairs) {
                both[..hidden].copy_from_slice(a);
                both[hidden..].copy_from_slice(b);
            }
            memory.give(a);
            memory.give(b);
            both
        }
        Err(mut one) => one.pop().expect("a layer reads in one direction at least"),
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
        if run.carried.is_some() {
            return self.go_on(run, x);
        }
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
        let out = side_by_side(run.memory, sides, hidden);
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
