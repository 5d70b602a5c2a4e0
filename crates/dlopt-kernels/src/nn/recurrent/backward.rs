//! The pass backward over the steps of a chunk: gates and states step by step, weights a few steps at a time.

use super::cells::StepBack;
use super::product::{BLOCK, GROUP, Pixels};
use super::steps::{self, Rows, Scattered};
use super::{Cell, Ends, Pass, Recurrent, RecurrentSaved, Series, clear_ends};
use crate::nn::scratch::with_scratch;

/// Steps that share one product for the weight gradient.
const STEPS: usize = 4;

impl Recurrent {
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
        dx: Option<&mut [f32]>,
    ) {
        self.backward_between(rows, x, lengths, saved, gradient, packed, Ends::default(), dw, db, dx);
    }

    /// The same with gradients of the states at the two ends; see [`Ends`].
    ///
    /// # Panics
    /// As [`Recurrent::backward`], and when a state has another length.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub fn backward_between(
        &self,
        rows: usize,
        x: &[f32],
        lengths: Option<&[u32]>,
        saved: &mut RecurrentSaved,
        gradient: &[f32],
        packed: &[f32],
        ends: Ends<'_>,
        dw: &mut [f32],
        db: &mut [f32],
        mut dx: Option<&mut [f32]>,
    ) {
        let shape = self.shape;
        self.check_ends(rows, &ends);
        self.check(rows, x.len(), gradient.len(), db.len());
        assert_eq!(dw.len(), self.weight_len(), "the length of the weight in memory");
        assert_eq!(packed.len(), self.packed_backward_len(), "a weight packed for backward");
        let Pass { plan, series, is_continued } =
            saved.pass.take().expect("a forward pass with `saved` before each backward");
        assert!(plan == *self, "`saved` comes from another layer");
        assert!(series == Series::new(rows, shape.time, lengths), "the rows and lengths of the forward pass");
        let (state, cell) = (rows * self.state_row(), self.cells_len(rows));
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
                    let reaches_state = step > 0 || ends.wanted.is_some();
                    self.begin_rows(&series, step, gradient, ends.given, dh, dc);
                    self.backward_step(&series, step, reaches_state, saved, gradient, packed, dh, dc, db);
                }
                if let Some(dx) = dx.as_deref_mut() {
                    self.input_gradient(&series, first..end, saved, packed, dx);
                }
                self.weight_gradient(&series, first..end, x, saved, is_continued, gathered, dw);
                end = first;
            }
            if let Some(wanted) = ends.wanted {
                for (place, &row) in series.order.iter().enumerate() {
                    let state = &mut wanted[row * self.state_len()..][..self.state_len()];
                    self.state_parts(rows, place, dh, dc).get(state);
                }
            }
        });
    }

    /// The gradients of the last states of the rows whose last step is `step`.
    fn begin_rows(
        &self,
        series: &Series,
        step: usize,
        gradient: &[f32],
        given: Option<&[f32]>,
        dh: &mut [f32],
        dc: &mut [f32],
    ) {
        let (rows, hidden, len) = (series.order.len(), self.shape.hidden, self.state_len());
        for place in series.running(step + 1)..series.running(step) {
            let row = series.order[place];
            if !self.returns_sequence {
                dh[place * self.state_row()..][..hidden].copy_from_slice(&gradient[row * hidden..][..hidden]);
            }
            if let Some(given) = given {
                self.state_parts(rows, place, dh, dc).add(&given[row * len..][..len]);
            }
        }
    }

    /// Turns a step's gates into their gradients, and the state's gradient into that of the step before.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    fn backward_step(
        &self,
        series: &Series,
        step: usize,
        reaches_state: bool,
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
            if reaches_state {
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

    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    fn weight_gradient(
        &self,
        series: &Series,
        steps: std::ops::Range<usize>,
        x: &[f32],
        saved: &RecurrentSaved,
        is_continued: bool,
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
        // The state before the first step is zero, unless it was given.
        let hidden_from = usize::from(steps.start == 0 && !is_continued);
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
