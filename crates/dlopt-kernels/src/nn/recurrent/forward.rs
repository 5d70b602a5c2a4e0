//! The pass forward over the steps of a chunk.

use super::cells::Step;
use super::{Cell, Ends, Pass, Recurrent, RecurrentSaved, Series, clear_ends, steps};
use crate::nn::scratch::with_scratch;

impl Recurrent {
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
        self.forward_between(rows, x, lengths, packed, bias, Ends::default(), saved, out);
    }

    /// The same with states at the two ends.
    ///
    /// # Panics
    /// As [`Recurrent::forward`], and when a state has another length.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub fn forward_between(
        &self,
        rows: usize,
        x: &[f32],
        lengths: Option<&[u32]>,
        packed: &[f32],
        bias: &[f32],
        ends: Ends<'_>,
        saved: Option<&mut RecurrentSaved>,
        out: &mut [f32],
    ) {
        let shape = self.shape;
        self.check_ends(rows, &ends);
        self.check(rows, x.len(), out.len(), bias.len());
        let k = shape.inputs + shape.hidden;
        assert_eq!(packed.len(), k * shape.cell.gates() * self.units(), "a weight packed for forward");
        let series = Series::new(rows, shape.time, lengths);
        let (states, cells) = (rows * self.state_row(), self.cells_len(rows));
        let Some(saved) = saved else {
            return with_scratch(2 * states + cells, |scratch| {
                let (states, cells) = scratch.split_at_mut(2 * states);
                self.forward_steps(&series, x, packed, bias, ends, states, cells, None, out);
            });
        };
        grow(&mut saved.states, (shape.time + 1) * states);
        grow(&mut saved.cells, (shape.time + 1) * cells);
        grow(&mut saved.gates, shape.time * self.gates_len(rows));
        let gates = Some(&mut saved.gates[..]);
        let is_continued = ends.given.is_some();
        self.forward_steps(&series, x, packed, bias, ends, &mut saved.states, &mut saved.cells, gates, out);
        saved.pass = Some(Pass { plan: *self, series, is_continued });
    }

    /// With `gates` the states and cells of all steps are kept, else two states and the cells of one step.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    fn forward_steps(
        &self,
        series: &Series,
        x: &[f32],
        packed: &[f32],
        bias: &[f32],
        mut ends: Ends<'_>,
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
        if let Some(given) = ends.given {
            for (place, &row) in series.order.iter().enumerate() {
                let state = &given[row * self.state_len()..][..self.state_len()];
                self.state_parts(rows, place, states, cells).set(state);
            }
        }
        let mut at = Vec::with_capacity(rows);
        for step in 0..series.steps() {
            let running = series.running(step);
            self.place(series, step, shape.inputs, &mut at);
            let (from, to) = if gates.is_some() { (step, step + 1) } else { (step % 2, (step + 1) % 2) };
            let (cell_from, cell_to) = if gates.is_some() { (step, step + 1) } else { (0, 0) };
            assert!(states.len() >= (from.max(to) + 1) * state && cells.len() >= (cell_to + 1) * cell);
            let (all_states, all_cells) = (&mut *states, &mut *cells);
            let states = all_states.as_mut_ptr();
            let cells = all_cells.as_mut_ptr();
            let operands = Step {
                x: x.as_ptr(),
                x_at: at.as_ptr(),
                inputs: shape.inputs,
                hidden,
                h: states.wrapping_add(from * state),
                h_row: self.state_row(),
                h_len: if step == 0 && ends.given.is_none() { 0 } else { hidden },
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
            let next = &mut all_states[to * state..][..state];
            if let Some(wanted) = &mut ends.wanted {
                let cells = &mut all_cells[cell_to * cell..][..cell];
                for place in series.running(step + 1)..running {
                    let row = series.order[place] * self.state_len();
                    self.state_parts(rows, place, next, cells).get(&mut wanted[row..][..self.state_len()]);
                }
            }
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
}

fn grow(values: &mut Vec<f32>, len: usize) {
    if values.len() < len {
        values.resize(len, 0.0);
    }
}
