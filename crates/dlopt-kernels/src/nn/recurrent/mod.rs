//! Recurrent layers fused over time: LSTM, GRU and the simple tanh RNN, forward and backward.
//!
//! With `x` a step's inputs and `h` the state before it:
//! - RNN: `h' = tanh(W x + b + R h)`
//! - LSTM: `c' = f c + i g`, `h' = o tanh(c')`, with `i, f, o = sigmoid(..)` and `g = tanh(..)` of such sums
//! - GRU: `n = tanh(W_n x + b_n + r (R_n h + q_n))`, `h' = (1 - z) n + z h`, with `r, z = sigmoid(..)`, as PyTorch has it
//!
//! A chunk of rows runs all its steps alone, so that a layer is one parallel region each way. Gates are cut into groups
//! of sixteen units: a tile of rows holds all gates of a group in registers and goes on to the new state at once. What
//! backward needs is kept as panels `[step][group][row][64]`, the four gates of sixteen units side by side; backward
//! overwrites them with their gradients and sums weight gradients over a few steps at a time.
//!
//! Rows are taken longest first: those that still run are always the first ones, and a row that has ended costs
//! nothing.
//!
//! Sources: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; Cho et al. 2014 (arXiv
//! 1406.1078) in the form that applies the reset gate after the product; Elman 1990.

mod backward;
mod cells;
mod forward;
mod layout;
mod product;
mod steps;
#[cfg(test)]
mod tests;

use product::{BLOCK, Columns, GROUP, Runs};

/// The arithmetic of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// `tanh` of one sum (Elman).
    Rnn,
    /// Long short-term memory: gates i, f, g, o.
    Lstm,
    /// Gated recurrent unit: gates r, z, n.
    Gru,
}

impl Cell {
    /// How many gates PyTorch's weights hold one below the other.
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }
}

/// The extents of a recurrent layer; none is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrentShape {
    /// The arithmetic of a step.
    pub cell: Cell,
    /// Steps of the longest series.
    pub time: usize,
    /// Features of a step.
    pub inputs: usize,
    /// Units of the state.
    pub hidden: usize,
}

/// The plan of a recurrent layer.
///
/// In memory its weight is `[inputs + hidden, gates * hidden]` with the columns in PyTorch's order of gates (i f g o;
/// r z n), its bias `[gates * hidden]`, for GRU `[4 * hidden]`: r, z, n of the inputs, n of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrent {
    shape: RecurrentShape,
    is_reversed: bool,
    returns_sequence: bool,
}

/// What backward needs of a forward pass; its memory is kept for the next one.
#[derive(Default)]
pub struct RecurrentSaved {
    /// `[step][block][row][64]`
    gates: Vec<f32>,
    /// `[step + 1][block][row][16]`
    cells: Vec<f32>,
    /// `[step + 1][row][state_row]`
    states: Vec<f32>,
    /// Whose pass it was, until backward has used it up.
    pass: Option<Pass>,
}

/// A pass that was kept.
struct Pass {
    plan: Recurrent,
    series: Series,
    /// Whether the first state was given, or zero.
    is_continued: bool,
}

/// The states at the two ends of a pass, `[rows, state_len]`: a row's `h`, behind it for LSTM its `c`.
///
/// Forward, `given` is the state before the first step (else zero) and `wanted` gets that after each row's last one.
/// Backward, `given` is the gradient of the state after the last step and `wanted` gets that of the state before the
/// first.
#[derive(Default)]
pub struct Ends<'a> {
    /// What comes in at the end where the pass begins.
    pub given: Option<&'a [f32]>,
    /// What is asked for at the end where it stops.
    pub wanted: Option<&'a mut [f32]>,
}

/// The rows of a chunk, longest first.
#[derive(PartialEq)]
pub(crate) struct Series {
    /// Places in the batch.
    pub(crate) order: Vec<usize>,
    /// Steps of each, in that order.
    pub(crate) lengths: Vec<usize>,
}

impl Series {
    pub(crate) fn new(rows: usize, time: usize, lengths: Option<&[u32]>) -> Self {
        let mut order: Vec<usize> = (0..rows).collect();
        let Some(given) = lengths else { return Self { order, lengths: vec![time; rows] } };
        assert_eq!(given.len(), rows, "one length a row");
        assert!(given.iter().all(|&len| (1..=time).contains(&(len as usize))), "lengths lie in 1..={time}");
        order.sort_by_key(|&row| std::cmp::Reverse(given[row]));
        let lengths = order.iter().map(|&row| given[row] as usize).collect();
        Self { order, lengths }
    }

    pub(crate) fn steps(&self) -> usize {
        self.lengths.first().copied().unwrap_or(0)
    }

    /// How many rows have a step `step`.
    pub(crate) fn running(&self, step: usize) -> usize {
        self.lengths.partition_point(|&len| len > step)
    }
}

impl Recurrent {
    /// A layer that reads series from the front, or with `is_reversed` from their last step back, and returns its state
    /// after the last step it reads, or with `returns_sequence` after each.
    ///
    /// # Panics
    /// When an extent is 0.
    pub fn new(shape: RecurrentShape, is_reversed: bool, returns_sequence: bool) -> Self {
        assert!(shape.time > 0 && shape.inputs > 0 && shape.hidden > 0, "an extent of {shape:?} is 0");
        Self { shape, is_reversed, returns_sequence }
    }

    /// How many weights the layer has.
    pub fn weight_len(&self) -> usize {
        (self.shape.inputs + self.shape.hidden) * self.columns()
    }

    /// How many biases the layer has.
    pub fn bias_len(&self) -> usize {
        self.shape.hidden * if self.shape.cell == Cell::Gru { 4 } else { self.shape.cell.gates() }
    }

    /// Values of the state that goes from step to step: the units, for LSTM twice.
    pub fn state_len(&self) -> usize {
        self.shape.hidden * if self.shape.cell == Cell::Lstm { 2 } else { 1 }
    }

    fn check_ends(&self, rows: usize, ends: &Ends<'_>) {
        let len = rows * self.state_len();
        assert!(ends.given.is_none_or(|state| state.len() == len), "states are [rows, state_len]");
        assert!(ends.wanted.as_deref().is_none_or(|state| state.len() == len), "states are [rows, state_len]");
    }

    /// Copies the state of a row to or from where a step keeps it: `h` and the groups of `c` of the row at `place`.
    fn state_parts<'s>(&self, rows: usize, place: usize, h: &'s mut [f32], c: &'s mut [f32]) -> StateParts<'s> {
        let hidden = self.shape.hidden;
        StateParts { h: &mut h[place * self.state_row()..][..hidden], c, first: place * GROUP, stride: rows * GROUP }
    }

    fn columns(&self) -> usize {
        self.shape.cell.gates() * self.shape.hidden
    }

    /// Units rounded up to whole groups.
    fn units(&self) -> usize {
        self.shape.hidden.next_multiple_of(GROUP)
    }

    /// From one row of states to the next: an odd number of cache lines, so that a column does not fall into few sets.
    fn state_row(&self) -> usize {
        ((self.units() / GROUP) | 1) * GROUP
    }

    /// Units of a block of gates.
    fn block_units(&self) -> usize {
        if self.shape.cell == Cell::Rnn { BLOCK } else { GROUP }
    }

    fn blocks(&self) -> usize {
        self.shape.hidden.div_ceil(self.block_units())
    }

    /// The gate gradients of one row as the inputs' product (or the state's) reads them.
    fn runs(&self, rows: usize) -> Runs {
        let len = if self.shape.cell == Cell::Gru { 3 * GROUP } else { BLOCK };
        let last = if self.shape.cell == Cell::Rnn { self.units() - (self.blocks() - 1) * BLOCK } else { len };
        Runs { row: BLOCK, count: self.blocks(), len, last, step: rows * BLOCK }
    }

    /// The column in memory of each group of sixteen of block `block`, as the inputs' product (or the state's) has them.
    fn block_columns(&self, block: usize, is_state: bool) -> Columns {
        let (hidden, unit) = (self.shape.hidden, block * self.block_units());
        let lanes = |unit: usize| hidden.saturating_sub(unit).min(GROUP);
        match self.shape.cell {
            Cell::Rnn => Columns {
                at: std::array::from_fn(|n| unit + n * GROUP),
                lanes: std::array::from_fn(|n| lanes(unit + n * GROUP)),
                groups: (hidden - unit).div_ceil(GROUP).min(4),
            },
            Cell::Lstm => {
                Columns { at: std::array::from_fn(|n| n * hidden + unit), lanes: [lanes(unit); 4], groups: 4 }
            }
            Cell::Gru => {
                let gates = if is_state { [0, 1, 2, 2] } else { [2, 0, 1, 1] };
                Columns { at: gates.map(|gate| gate * hidden + unit), lanes: [lanes(unit); 4], groups: 3 }
            }
        }
    }

    /// Where step `step` of each row lies among rows of `time` steps of `features`.
    fn place(&self, series: &Series, step: usize, features: usize, at: &mut Vec<usize>) {
        at.clear();
        let running = series.running(step);
        at.extend(series.order[..running].iter().zip(&series.lengths).map(|(row, len)| {
            let step = if self.is_reversed { len - 1 - step } else { step };
            (row * self.shape.time + step) * features
        }));
    }

    fn check(&self, rows: usize, x: usize, out: usize, bias: usize) {
        let shape = self.shape;
        assert_eq!(x, rows * shape.time * shape.inputs, "inputs are [rows, time, inputs]");
        let steps = if self.returns_sequence { shape.time } else { 1 };
        assert_eq!(out, rows * steps * shape.hidden, "outputs are [rows, hidden], or [rows, time, hidden]");
        assert_eq!(bias, self.bias_len(), "the length of the bias in memory");
    }

    fn cells_len(&self, rows: usize) -> usize {
        if self.shape.cell == Cell::Lstm { rows * self.units() } else { 0 }
    }

    fn gates_len(&self, rows: usize) -> usize {
        self.blocks() * rows * BLOCK
    }
}

/// The state of one row among those of a step.
struct StateParts<'s> {
    h: &'s mut [f32],
    /// `[block][row][16]`, empty but for LSTM.
    c: &'s mut [f32],
    first: usize,
    stride: usize,
}

impl StateParts<'_> {
    /// Takes in a row of `[rows, state_len]`.
    fn set(self, state: &[f32]) {
        let (h, c) = state.split_at(self.h.len());
        self.h.copy_from_slice(h);
        for (group, from) in c.chunks(GROUP).enumerate() {
            self.c[self.first + group * self.stride..][..from.len()].copy_from_slice(from);
        }
    }

    /// Adds a row of `[rows, state_len]`.
    fn add(self, state: &[f32]) {
        let (h, c) = state.split_at(self.h.len());
        self.h.iter_mut().zip(h).for_each(|(to, from)| *to += from);
        for (group, from) in c.chunks(GROUP).enumerate() {
            let to = &mut self.c[self.first + group * self.stride..];
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }

    /// Gives out a row of `[rows, state_len]`.
    fn get(self, state: &mut [f32]) {
        let (h, c) = state.split_at_mut(self.h.len());
        h.copy_from_slice(self.h);
        for (group, to) in c.chunks_mut(GROUP).enumerate() {
            to.copy_from_slice(&self.c[self.first + group * self.stride..][..to.len()]);
        }
    }
}

/// Zeros after the end of each row of `time` steps of `features`.
fn clear_ends(series: &Series, time: usize, features: usize, values: &mut [f32]) {
    for (&row, &len) in series.order.iter().zip(&series.lengths) {
        values[(row * time + len) * features..(row + 1) * time * features].fill(0.0);
    }
}
