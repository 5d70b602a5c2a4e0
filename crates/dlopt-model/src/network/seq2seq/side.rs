//! One side of a translation: a table of tokens and a recurrent layer that begins from a state and hands on its last.

use std::ops::Range;

use dlopt_kernels::nn::{
    Ends, Recurrent, RecurrentSaved, RecurrentShape, Team, dropout_in_place, embedding, embedding_gradient,
};

use super::super::layer::{Backward, Forward, add_sums, forward_chunk, sum_chunk};
use super::super::values::Memory;

/// Rows that run all their steps together.
const ROWS_PER_TASK: usize = 32;

/// The encoder or the decoder.
pub(super) struct Side {
    /// Its time is that of the longest row of a batch.
    shape: RecurrentShape,
    /// Whether all states come out, or the last one alone.
    returns_sequence: bool,
    table: Range<usize>,
    weight: Range<usize>,
    bias: Range<usize>,
    dropout: f32,
    packed: Vec<f32>,
    packed_back: Vec<f32>,
    saved: Vec<RecurrentSaved>,
    kept: Option<Kept>,
}

/// Rows of tokens, no longer than the longest of them.
#[derive(Clone)]
pub(super) struct TokenRows {
    /// `[rows, time]`
    pub(super) tokens: Vec<f32>,
    pub(super) time: usize,
    /// Steps of each row, at least one.
    pub(super) lengths: Vec<u32>,
}

impl TokenRows {
    /// Cuts rows of `width` tokens to the longest of `lengths`.
    pub(super) fn new(tokens: impl ExactSizeIterator<Item = f32>, width: usize, lengths: Vec<u32>) -> Self {
        let lengths: Vec<u32> = lengths.into_iter().map(|length| length.max(1)).collect();
        let time = lengths.iter().max().map_or(1, |&longest| longest as usize);
        let tokens = tokens.enumerate().filter(|(at, _)| at % width < time).map(|(_, token)| token).collect();
        Self { tokens, time, lengths }
    }

    pub(super) fn rows(&self) -> usize {
        self.lengths.len()
    }
}

/// What the way back needs.
struct Kept {
    rows: TokenRows,
    /// `[rows, time, embedding]`
    x: Vec<f32>,
    seed: u64,
    is_continued: bool,
}

/// What comes out of a side.
pub(super) struct SideOut {
    /// `[rows, time, hidden]`, or `[rows, hidden]`.
    pub(super) states: Vec<f32>,
    /// `[rows, state_len]`
    pub(super) last: Vec<f32>,
}

impl Side {
    pub(super) fn new(shape: RecurrentShape, returns_sequence: bool, slots: &[Range<usize>], dropout: f32) -> Self {
        Self {
            shape,
            returns_sequence,
            table: slots[0].clone(),
            weight: slots[1].clone(),
            bias: slots[2].clone(),
            dropout,
            packed: Vec::new(),
            packed_back: Vec::new(),
            saved: Vec::new(),
            kept: None,
        }
    }

    fn kernel(&self, time: usize) -> Recurrent {
        Recurrent::new(RecurrentShape { time, ..self.shape }, false, self.returns_sequence)
    }

    /// Values that come out for a row.
    fn outputs(&self, time: usize) -> usize {
        self.shape.hidden * if self.returns_sequence { time } else { 1 }
    }

    pub(super) fn load(&mut self, team: &Team, weights: &[f32], trains: bool) {
        let kernel = self.kernel(1);
        let weight = &weights[self.weight.clone()];
        kernel.pack_forward(team, weight, &mut self.packed);
        if trains {
            kernel.pack_backward(team, weight, &mut self.packed_back);
        }
    }

    /// Runs the rows from the states `first`, `[rows, state_len]`, or from zeros. `seed` decides what is dropped.
    pub(super) fn forward(
        &mut self,
        run: &mut Forward<'_>,
        rows: TokenRows,
        first: Option<&[f32]>,
        seed: u64,
    ) -> SideOut {
        let (count, inputs, outputs) = (rows.rows(), rows.time * self.shape.inputs, self.outputs(rows.time));
        let mut x = run.memory.take(count * inputs);
        embedding(&rows.tokens, &run.weights[self.table.clone()], self.shape.inputs, &mut x);
        let trains = run.trains();
        if trains && self.dropout > 0.0 {
            dropout_in_place(seed, 0, self.dropout, &mut x);
        }
        let kernel = self.kernel(rows.time);
        let state = kernel.state_len();
        let chunk =
            if trains { sum_chunk(count, 0).max(ROWS_PER_TASK) } else { forward_chunk(count, run.team, ROWS_PER_TASK) };
        if trains && self.saved.len() < count.div_ceil(chunk) {
            self.saved.resize_with(count.div_ceil(chunk), RecurrentSaved::default);
        }
        let (mut states, mut last) = (run.memory.take(count * outputs), run.memory.take(count * state));
        let mut saved = self.saved.iter_mut();
        let mut tasks: Vec<_> = states
            .chunks_mut(chunk * outputs)
            .zip(last.chunks_mut(chunk * state))
            .map(|(states, last)| (states, last, if trains { saved.next() } else { None }))
            .collect();
        let (bias, packed) = (&run.weights[self.bias.clone()], &self.packed);
        run.team.each(&mut tasks, |index, (states, last, saved)| {
            let (begin, count) = (index * chunk, last.len() / state);
            let x = &x[begin * inputs..][..count * inputs];
            let lengths = Some(&rows.lengths[begin..begin + count]);
            let given = first.map(|first| &first[begin * state..][..count * state]);
            let ends = Ends { given, wanted: Some(last) };
            kernel.forward_between(count, x, lengths, packed, bias, ends, saved.as_deref_mut(), states);
        });
        if trains {
            self.kept = Some(Kept { rows, x, seed, is_continued: first.is_some() });
        } else {
            run.memory.give(x);
        }
        SideOut { states, last }
    }

    /// Adds to the gradients of the weights. `gradient` is that of the states that came out, `of_last` that of the last
    /// ones; gives that of the first ones if they were given.
    pub(super) fn backward(
        &mut self,
        run: &mut Backward<'_>,
        gradient: &[f32],
        of_last: Option<&[f32]>,
    ) -> Option<Vec<f32>> {
        let Kept { rows, x, seed, is_continued } = self.kept.take().expect("a training pass came before");
        let (count, inputs, outputs) = (rows.rows(), rows.time * self.shape.inputs, self.outputs(rows.time));
        let kernel = self.kernel(rows.time);
        let state = kernel.state_len();
        let chunk = sum_chunk(count, 0).max(ROWS_PER_TASK);
        let (weights, stride) = (self.weight.len(), self.weight.len() + self.bias.len());
        let mut sums = run.memory.take(count.div_ceil(chunk) * stride);
        let mut dx = run.memory.take(x.len());
        let mut of_first = is_continued.then(|| run.memory.take(count * state));
        {
            let mut firsts = of_first.as_deref_mut().map(|first| first.chunks_mut(chunk * state));
            let mut tasks: Vec<_> = sums
                .chunks_mut(stride)
                .zip(&mut self.saved)
                .zip(dx.chunks_mut(chunk * inputs))
                .map(|((sums, saved), dx)| (sums, saved, dx, firsts.as_mut().and_then(Iterator::next)))
                .collect();
            let packed = &self.packed_back;
            run.team.each(&mut tasks, |index, (sums, saved, dx, first)| {
                sums.fill(0.0);
                let (begin, count) = (index * chunk, dx.len() / inputs);
                let (dw, db) = sums.split_at_mut(weights);
                let given = of_last.map(|last| &last[begin * state..][..count * state]);
                kernel.backward_between(
                    count,
                    &x[begin * inputs..][..count * inputs],
                    Some(&rows.lengths[begin..begin + count]),
                    saved,
                    &gradient[begin * outputs..][..count * outputs],
                    packed,
                    Ends { given, wanted: first.as_deref_mut() },
                    dw,
                    db,
                    Some(dx),
                );
            });
        }
        add_sums(run.team, &sums, stride, 0, &mut run.gradients[self.weight.clone()]);
        add_sums(run.team, &sums, stride, weights, &mut run.gradients[self.bias.clone()]);
        if self.dropout > 0.0 {
            dropout_in_place(seed, 0, self.dropout, &mut dx);
        }
        embedding_gradient(&rows.tokens, &dx, self.shape.inputs, &mut run.gradients[self.table.clone()]);
        for used in [sums, dx, x] {
            run.memory.give(used);
        }
        of_first
    }

    pub(super) fn forget(&mut self, memory: &mut Memory) {
        if let Some(kept) = self.kept.take() {
            memory.give(kept.x);
        }
    }
}
