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

mod cells;
mod product;
mod steps;
#[cfg(test)]
mod tests;

use super::Team;
use super::scratch::with_scratch;
use cells::{Step, StepBack};
use product::{BLOCK, Columns, GROUP, Pixels, Runs};
use steps::{Rows, Scattered};

/// Steps that share one product for the weight gradient.
const STEPS: usize = 4;

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
#[derive(Clone, Copy, Debug)]
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
    rows: Option<Series>,
}

/// The rows of a chunk, longest first.
#[derive(PartialEq)]
struct Series {
    order: Vec<usize>,
    lengths: Vec<usize>,
}

impl Series {
    fn new(rows: usize, time: usize, lengths: Option<&[u32]>) -> Self {
        let mut order: Vec<usize> = (0..rows).collect();
        let Some(given) = lengths else { return Self { order, lengths: vec![time; rows] } };
        assert_eq!(given.len(), rows, "one length a row");
        assert!(given.iter().all(|&len| (1..=time).contains(&(len as usize))), "lengths lie in 1..={time}");
        order.sort_by_key(|&row| std::cmp::Reverse(given[row]));
        let lengths = order.iter().map(|&row| given[row] as usize).collect();
        Self { order, lengths }
    }

    fn steps(&self) -> usize {
        self.lengths.first().copied().unwrap_or(0)
    }

    /// How many rows have a step `step`.
    fn running(&self, step: usize) -> usize {
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

    fn columns(&self) -> usize {
        self.shape.cell.gates() * self.shape.hidden
    }

    /// PyTorch's `w_ih` `[gates * hidden, inputs]`, `w_hh` `[gates * hidden, hidden]` and the two biases
    /// `[gates * hidden]` to memory.
    ///
    /// # Panics
    /// When a length disagrees.
    pub fn from_pytorch(
        &self,
        w_ih: &[f32],
        w_hh: &[f32],
        b_ih: &[f32],
        b_hh: &[f32],
        weight: &mut [f32],
        bias: &mut [f32],
    ) {
        let (inputs, hidden, n) = (self.shape.inputs, self.shape.hidden, self.columns());
        self.check_pytorch(w_ih.len(), w_hh.len(), b_ih.len(), b_hh.len(), weight.len(), bias.len());
        for (k, row) in weight.chunks_exact_mut(n).enumerate() {
            let (from, width, k) = if k < inputs { (w_ih, inputs, k) } else { (w_hh, hidden, k - inputs) };
            for (to, from) in row.iter_mut().zip(from[k..].iter().step_by(width)) {
                *to = *from;
            }
        }
        for (to, (a, b)) in bias.iter_mut().zip(b_ih.iter().zip(b_hh)) {
            *to = a + b;
        }
        if self.shape.cell == Cell::Gru {
            bias[2 * hidden..3 * hidden].copy_from_slice(&b_ih[2 * hidden..]);
            bias[3 * hidden..].copy_from_slice(&b_hh[2 * hidden..]);
        }
    }

    /// The inverse of [`Recurrent::from_pytorch`]. A bias that is only used as a sum comes back in `b_ih`, with zeros in
    /// `b_hh`.
    ///
    /// # Panics
    /// When a length disagrees.
    pub fn to_pytorch(
        &self,
        weight: &[f32],
        bias: &[f32],
        w_ih: &mut [f32],
        w_hh: &mut [f32],
        b_ih: &mut [f32],
        b_hh: &mut [f32],
    ) {
        let (inputs, hidden, n) = (self.shape.inputs, self.shape.hidden, self.columns());
        self.check_pytorch(w_ih.len(), w_hh.len(), b_ih.len(), b_hh.len(), weight.len(), bias.len());
        for (k, row) in weight.chunks_exact(n).enumerate() {
            let (to, width, k) = if k < inputs { (&mut *w_ih, inputs, k) } else { (&mut *w_hh, hidden, k - inputs) };
            for (from, to) in row.iter().zip(to[k..].iter_mut().step_by(width)) {
                *to = *from;
            }
        }
        b_ih.copy_from_slice(&bias[..n]);
        b_hh.fill(0.0);
        if self.shape.cell == Cell::Gru {
            b_hh[2 * hidden..].copy_from_slice(&bias[3 * hidden..]);
        }
    }

    fn check_pytorch(&self, w_ih: usize, w_hh: usize, b_ih: usize, b_hh: usize, weight: usize, bias: usize) {
        let n = self.columns();
        assert_eq!(w_ih, n * self.shape.inputs, "w_ih is [gates * hidden, inputs]");
        assert_eq!(w_hh, n * self.shape.hidden, "w_hh is [gates * hidden, hidden]");
        assert_eq!((b_ih, b_hh), (n, n), "biases are [gates * hidden]");
        assert_eq!((weight, bias), (self.weight_len(), self.bias_len()), "the lengths of weight and bias in memory");
    }

    /// Units rounded up to whole groups.
    fn units(&self) -> usize {
        self.shape.hidden.next_multiple_of(GROUP)
    }

    /// From one row of states to the next: an odd number of cache lines, so that a column does not fall into few sets.
    fn state_row(&self) -> usize {
        (self.units() / GROUP | 1) * GROUP
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

    /// The column in memory of each group of sixteen of block `block`, as the panels hold them for the inputs.
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

    /// Copies the weight to the blocks that [`Recurrent::forward`] reads.
    ///
    /// # Panics
    /// When `weight` is not of [`Recurrent::weight_len`].
    pub fn pack_forward(&self, team: &Team, weight: &[f32], packed: &mut Vec<f32>) {
        assert_eq!(weight.len(), self.weight_len(), "the length of the weight in memory");
        let (k, n) = (self.shape.inputs + self.shape.hidden, self.columns());
        let gates = self.shape.cell.gates();
        packed.resize(k * gates * self.units(), 0.0);
        let len = k * gates * self.block_units();
        team.chunks(packed, len, |block, packed| {
            let width = packed.len() / k;
            let unit = block * self.block_units();
            for (row, packed) in weight.chunks_exact(n).zip(packed.chunks_exact_mut(width)) {
                for (group, packed) in packed.chunks_exact_mut(GROUP).enumerate() {
                    let (gate, unit) = match self.shape.cell {
                        Cell::Rnn => (0, unit + group * GROUP),
                        _ => (group, unit),
                    };
                    let lanes = self.shape.hidden.saturating_sub(unit).min(GROUP);
                    packed[..lanes].copy_from_slice(&row[gate * self.shape.hidden + unit..][..lanes]);
                    packed[lanes..].fill(0.0);
                }
            }
        });
    }

    fn packed_backward_len(&self) -> usize {
        let outputs = self.units() + self.shape.inputs.next_multiple_of(GROUP);
        self.runs(1).values() * outputs
    }

    /// Copies the weight, transposed, to the blocks that [`Recurrent::backward`] reads.
    ///
    /// # Panics
    /// When `weight` is not of [`Recurrent::weight_len`].
    pub fn pack_backward(&self, team: &Team, weight: &[f32], packed: &mut Vec<f32>) {
        assert_eq!(weight.len(), self.weight_len(), "the length of the weight in memory");
        packed.resize(self.packed_backward_len(), 0.0);
        let (inputs, hidden, n) = (self.shape.inputs, self.shape.hidden, self.columns());
        let values = self.runs(1).values();
        let (state, input) = packed.split_at_mut(values * self.units());
        for (packed, first, outputs, is_state) in [(state, inputs, hidden, true), (input, 0, inputs, false)] {
            team.chunks(packed, values * BLOCK, |block, packed| {
                let width = packed.len() / values;
                let mut packed = packed.chunks_exact_mut(width);
                for gates in 0..self.blocks() {
                    let columns = self.block_columns(gates, is_state);
                    for group in 0..columns.groups {
                        for lane in 0..GROUP {
                            let Some(to) = packed.next() else { return };
                            for (output, to) in (block * BLOCK..).zip(to) {
                                let exists = output < outputs && lane < columns.lanes[group];
                                let at = (first + output) * n + columns.at[group] + lane;
                                *to = if exists { weight[at] } else { 0.0 };
                            }
                        }
                    }
                }
            });
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

    /// Runs `rows` series.
    ///
    /// `x`: `[rows, time, inputs]`; `lengths`: the steps that each row has (`None`: all), the others are not read;
    /// `packed`: from [`Recurrent::pack_forward`]; `out`: `[rows, hidden]`, or `[rows, time, hidden]` with zeros after
    /// a row's end. With `saved` keeps what [`Recurrent::backward`] needs; without, two steps' states are all the memory
    /// there is.
    ///
    /// # Panics
    /// When a length of a slice disagrees, or one of `lengths` is not in `1..=time`.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub fn forward(
        &self,
        rows: usize,
        x: &[f32],
        lengths: Option<&[u32]>,
        packed: &[f32],
        bias: &[f32],
        saved: Option<&mut RecurrentSaved>,
        out: &mut [f32],
    ) {
        let shape = self.shape;
        self.check(rows, x.len(), out.len(), bias.len());
        let k = shape.inputs + shape.hidden;
        assert_eq!(packed.len(), k * shape.cell.gates() * self.units(), "a weight packed for forward");
        let series = Series::new(rows, shape.time, lengths);
        let (states, cells) = (rows * self.state_row(), self.cells_len(rows));
        let Some(saved) = saved else {
            return with_scratch(2 * states + cells, |scratch| {
                let (states, cells) = scratch.split_at_mut(2 * states);
                self.forward_steps(&series, x, packed, bias, states, cells, None, out);
            });
        };
        grow(&mut saved.states, (shape.time + 1) * states);
        grow(&mut saved.cells, (shape.time + 1) * cells);
        grow(&mut saved.gates, shape.time * self.gates_len(rows));
        let gates = Some(&mut saved.gates[..]);
        self.forward_steps(&series, x, packed, bias, &mut saved.states, &mut saved.cells, gates, out);
        saved.rows = Some(series);
    }

    fn cells_len(&self, rows: usize) -> usize {
        if self.shape.cell == Cell::Lstm { rows * self.units() } else { 0 }
    }

    fn gates_len(&self, rows: usize) -> usize {
        self.blocks() * rows * BLOCK
    }

    /// With `gates` the states and cells of all steps are kept, else two states and the cells of one step.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    fn forward_steps(
        &self,
        series: &Series,
        x: &[f32],
        packed: &[f32],
        bias: &[f32],
        states: &mut [f32],
        cells: &mut [f32],
        mut gates: Option<&mut [f32]>,
        out: &mut [f32],
    ) {
        let shape = self.shape;
        let (rows, hidden) = (series.order.len(), shape.hidden);
        let (state, cell) = (rows * self.state_row(), self.cells_len(rows));
        states[..state].fill(0.0);
        cells[..cell].fill(0.0);
        let mut at = Vec::with_capacity(rows);
        for step in 0..series.steps() {
            let running = series.running(step);
            self.place(series, step, shape.inputs, &mut at);
            let (from, to) = if gates.is_some() { (step, step + 1) } else { (step % 2, (step + 1) % 2) };
            let (cell_from, cell_to) = if gates.is_some() { (step, step + 1) } else { (0, 0) };
            assert!(states.len() >= (from.max(to) + 1) * state && cells.len() >= (cell_to + 1) * cell);
            let states = states.as_mut_ptr();
            let cells = cells.as_mut_ptr();
            let operands = Step {
                x: x.as_ptr(),
                x_at: at.as_ptr(),
                inputs: shape.inputs,
                hidden,
                h: states.wrapping_add(from * state),
                h_row: self.state_row(),
                h_len: if step == 0 { 0 } else { hidden },
                h_next: states.wrapping_add(to * state),
                c: cells.wrapping_add(cell_from * cell),
                c_next: cells.wrapping_add(cell_to * cell),
                gates: match &mut gates {
                    Some(gates) => gates[step * self.gates_len(rows)..][..self.gates_len(rows)].as_mut_ptr(),
                    None => std::ptr::null_mut(),
                },
                panel: rows,
                weight: packed.as_ptr(),
                bias: bias.as_ptr(),
            };
            // SAFETY: `per_isa` picks what the machine has. `at` holds `running` places of steps inside `x`; states,
            // cells and gates have the extents asserted above and hold `running <= rows` rows; `forward` checked the
            // weight and the bias.
            unsafe {
                match shape.cell {
                    Cell::Rnn => steps::forward_rnn(&operands, running),
                    Cell::Lstm => steps::forward_lstm(&operands, running),
                    Cell::Gru => steps::forward_gru(&operands, running),
                }
            }
            // SAFETY: as above, and nothing else uses the states now.
            let next = unsafe { std::slice::from_raw_parts(operands.h_next, state) };
            let next = next.chunks_exact(self.state_row());
            if self.returns_sequence {
                self.place(series, step, hidden, &mut at);
                for (&at, state) in at.iter().zip(next) {
                    out[at..at + hidden].copy_from_slice(&state[..hidden]);
                }
            } else {
                let ended = series.running(step + 1)..running;
                for (row, state) in series.order[ended.clone()].iter().zip(next.skip(ended.start)) {
                    out[row * hidden..][..hidden].copy_from_slice(&state[..hidden]);
                }
            }
        }
        if self.returns_sequence {
            clear_ends(series, shape.time, hidden, out);
        }
    }

    /// The gradients of a [`Recurrent::forward`] with the same `rows`, `x` and `lengths`.
    ///
    /// `gradient`: of the output, in its shape; `packed`: from [`Recurrent::pack_backward`]; `dw`, `db`: as in memory,
    /// added to; `dx`: `[rows, time, inputs]`, written, zeros after a row's end. Uses up what `saved` holds.
    ///
    /// # Panics
    /// When a length of a slice disagrees, or `saved` does not come from such a forward pass.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub fn backward(
        &self,
        rows: usize,
        x: &[f32],
        lengths: Option<&[u32]>,
        saved: &mut RecurrentSaved,
        gradient: &[f32],
        packed: &[f32],
        dw: &mut [f32],
        db: &mut [f32],
        mut dx: Option<&mut [f32]>,
    ) {
        let shape = self.shape;
        self.check(rows, x.len(), gradient.len(), db.len());
        assert_eq!(dw.len(), self.weight_len(), "the length of the weight in memory");
        assert_eq!(packed.len(), self.packed_backward_len(), "a weight packed for backward");
        let series = saved.rows.take().expect("a forward pass with `saved` before each backward");
        assert!(series == Series::new(rows, shape.time, lengths), "the rows and lengths of the forward pass");
        let (state, cell) = (rows * self.state_row(), self.cells_len(rows));
        assert!(
            saved.states.len() >= (shape.time + 1) * state
                && saved.cells.len() >= (shape.time + 1) * cell
                && saved.gates.len() >= shape.time * self.gates_len(rows),
            "`saved` comes from another layer"
        );
        if let Some(dx) = dx.as_deref_mut() {
            assert_eq!(dx.len(), x.len(), "the inputs' gradient is [rows, time, inputs]");
            clear_ends(&series, shape.time, shape.inputs, dx);
        }
        let gathered = STEPS * rows * self.input_row();
        with_scratch(state + cell + gathered, |scratch| {
            let (dh, rest) = scratch.split_at_mut(state);
            let (dc, gathered) = rest.split_at_mut(cell);
            dh.fill(0.0);
            dc.fill(0.0);
            let mut end = series.steps();
            while end > 0 {
                let first = end.saturating_sub(STEPS);
                for step in (first..end).rev() {
                    self.backward_step(&series, step, saved, gradient, packed, dh, dc, db);
                }
                if let Some(dx) = dx.as_deref_mut() {
                    self.input_gradient(&series, first..end, saved, packed, dx);
                }
                self.weight_gradient(&series, first..end, x, saved, gathered, dw);
                end = first;
            }
        });
    }

    /// Turns a step's gates into their gradients, and the state's gradient into that of the step before.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    fn backward_step(
        &self,
        series: &Series,
        step: usize,
        saved: &mut RecurrentSaved,
        gradient: &[f32],
        packed: &[f32],
        dh: &mut [f32],
        dc: &mut [f32],
        db: &mut [f32],
    ) {
        let shape = self.shape;
        let (rows, hidden, running) = (series.order.len(), shape.hidden, series.running(step));
        let (state, cell) = (rows * self.state_row(), self.cells_len(rows));
        let mut at = Vec::new();
        if self.returns_sequence {
            self.place(series, step, hidden, &mut at);
        } else {
            for place in series.running(step + 1)..running {
                dh[place * self.state_row()..][..hidden]
                    .copy_from_slice(&gradient[series.order[place] * hidden..][..hidden]);
            }
        }
        let gates = saved.gates[step * self.gates_len(rows)..][..self.gates_len(rows)].as_mut_ptr();
        let operands = StepBack {
            hidden,
            h: saved.states[step * state..][..state].as_ptr(),
            h_next: saved.states[(step + 1) * state..][..state].as_ptr(),
            h_row: self.state_row(),
            c: saved.cells[step * cell..][..cell].as_ptr(),
            c_next: saved.cells[(step + 1) * cell..][..cell].as_ptr(),
            gates,
            panel: rows,
            dh: dh.as_mut_ptr(),
            dh_row: self.state_row(),
            dc: dc.as_mut_ptr(),
            gradient: if self.returns_sequence { gradient.as_ptr() } else { std::ptr::null() },
            gradient_at: at.as_ptr(),
            db: db.as_mut_ptr(),
        };
        let to = Rows { to: dh.as_mut_ptr(), row: self.state_row(), adds: shape.cell == Cell::Gru };
        // SAFETY: `per_isa` picks what the machine has. Every slice above was cut to the extents of a step and holds
        // `running <= rows` rows; `at` holds `running` places inside `gradient` when that is read; `backward` checked
        // the lengths of `db` and of the packed weight, whose first part is the state's.
        unsafe {
            match shape.cell {
                Cell::Rnn => steps::backward_rnn(&operands, running),
                Cell::Lstm => steps::backward_lstm(&operands, running),
                Cell::Gru => steps::backward_gru(&operands, running),
            }
            if step > 0 {
                let gates = if shape.cell == Cell::Gru { gates.add(GROUP) } else { gates };
                steps::state_product(gates, self.runs(rows), packed.as_ptr(), hidden, running, to);
            }
        }
    }

    fn input_gradient(
        &self,
        series: &Series,
        steps: std::ops::Range<usize>,
        saved: &RecurrentSaved,
        packed: &[f32],
        dx: &mut [f32],
    ) {
        let (rows, inputs) = (series.order.len(), self.shape.inputs);
        let runs = self.runs(rows);
        let packed = &packed[runs.values() * self.units()..];
        let mut at = Vec::with_capacity(rows);
        for step in steps {
            self.place(series, step, inputs, &mut at);
            let gates = &saved.gates[step * self.gates_len(rows)..][..self.gates_len(rows)];
            let to = Scattered { to: dx.as_mut_ptr(), at: at.as_ptr(), column: 0, values: inputs };
            // SAFETY: `per_isa` picks what the machine has; `at` holds places of steps inside `dx`, which has the
            // length of `x`; the gates are a step's; `backward` checked the packed weight, whose second part this is.
            unsafe { steps::input_product(gates.as_ptr(), runs, packed.as_ptr(), inputs, at.len(), to) }
        }
    }

    /// From one gathered step of inputs to the next; see [`Recurrent::state_row`].
    fn input_row(&self) -> usize {
        let inputs = self.shape.inputs;
        if inputs.is_multiple_of(BLOCK) { inputs + GROUP } else { inputs }
    }

    fn weight_gradient(
        &self,
        series: &Series,
        steps: std::ops::Range<usize>,
        x: &[f32],
        saved: &RecurrentSaved,
        gathered: &mut [f32],
        dw: &mut [f32],
    ) {
        let shape = self.shape;
        let (rows, inputs) = (series.order.len(), shape.inputs);
        let (input_row, state) = (self.input_row(), rows * self.state_row());
        let mut at = Vec::with_capacity(rows);
        let mut running = [0; STEPS];
        for (slot, step) in steps.clone().enumerate() {
            self.place(series, step, inputs, &mut at);
            running[slot] = at.len();
            for (&at, to) in at.iter().zip(gathered[slot * rows * input_row..].chunks_exact_mut(input_row)) {
                to[..inputs].copy_from_slice(&x[at..at + inputs]);
            }
        }
        let running = &running[..steps.len()];
        // The state before the first step is zero.
        let hidden_from = usize::from(steps.start == 0);
        let panel = self.gates_len(rows);
        let gates = saved.gates[steps.start * panel..][..steps.len() * panel].as_ptr();
        let states = saved.states[..(steps.end + 1) * state].as_ptr();
        let from_inputs = Pixels { at: gathered.as_ptr(), row: input_row, step: rows * input_row };
        let from_state =
            Pixels { at: states.wrapping_add((steps.start + hidden_from) * state), row: self.state_row(), step: state };
        let (dw_inputs, dw_state) = dw.split_at_mut(inputs * self.columns());
        for block in 0..self.blocks() {
            let g = Pixels { at: gates.wrapping_add(block * rows * BLOCK), row: BLOCK, step: panel };
            let columns = self.block_columns(block, false);
            // SAFETY: `per_isa` picks what the machine has. Gates, gathered inputs and states hold the steps and rows
            // that `running` counts; `columns` names existing columns of `dw`, whose rows are the inputs, then the units.
            unsafe {
                let dw = dw_inputs.as_mut_ptr();
                steps::weight_product(from_inputs, inputs, g, running, dw, self.columns(), columns);
                let shift = if shape.cell == Cell::Gru { GROUP } else { 0 };
                let g = Pixels { at: g.at.add(hidden_from * panel + shift), ..g };
                let columns = self.block_columns(block, true);
                let (running, dw) = (&running[hidden_from..], dw_state.as_mut_ptr());
                steps::weight_product(from_state, shape.hidden, g, running, dw, self.columns(), columns);
            }
        }
    }
}

/// Zeros after the end of each row of `time` steps of `features`.
fn clear_ends(series: &Series, time: usize, features: usize, values: &mut [f32]) {
    for (&row, &len) in series.order.iter().zip(&series.lengths) {
        values[(row * time + len) * features..(row + 1) * time * features].fill(0.0);
    }
}

fn grow(values: &mut Vec<f32>, len: usize) {
    if values.len() < len {
        values.resize(len, 0.0);
    }
}
