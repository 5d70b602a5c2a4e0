//! Recurrent layers whose two matrices stay compressed: one product for the inputs of all steps, one a step for the state.
//!
//! The arithmetic of a step is that of [`crate::nn::Recurrent`]; sums are those of the matrices' own kernels.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `simd`")]

use std::sync::Arc;

use super::Product;
use super::lines::with_lines;
use crate::nn::bits::{Bits, Kernel, run};
use crate::nn::simd::{sigmoid, tanh};
use crate::nn::{Cell, Ends, RecurrentShape, Series, Team};

/// One direction of a recurrent layer, for inference.
#[derive(Clone, Debug)]
pub struct RecurrentProduct {
    shape: RecurrentShape,
    is_reversed: bool,
    returns_sequence: bool,
    input: Arc<dyn Product>,
    state: Arc<dyn Product>,
}

impl RecurrentProduct {
    /// A layer with PyTorch's `weight_ih`, `[gates * hidden, inputs]`, and `weight_hh`, `[gates * hidden, hidden]`; it reads
    /// and returns as [`crate::nn::Recurrent::new`] says. The steps of `shape` are the most that a series has.
    ///
    /// # Panics
    /// When a matrix has other extents.
    pub fn new(
        shape: RecurrentShape,
        is_reversed: bool,
        returns_sequence: bool,
        input: Arc<dyn Product>,
        state: Arc<dyn Product>,
    ) -> Self {
        let rows = shape.cell.gates() * shape.hidden;
        assert_eq!(input.extents(), [rows, shape.inputs], "extents of the inputs' matrix");
        assert_eq!(state.extents(), [rows, shape.hidden], "extents of the state's matrix");
        Self { shape, is_reversed, returns_sequence, input, state }
    }

    /// The same for series of another length, and for all steps or the last.
    #[must_use]
    pub fn reading(&self, time: usize, returns_sequence: bool) -> Self {
        Self { shape: RecurrentShape { time, ..self.shape }, returns_sequence, ..self.clone() }
    }

    /// Its sizes.
    pub fn shape(&self) -> RecurrentShape {
        self.shape
    }

    /// Bytes that the two matrices hold in memory.
    pub fn bytes(&self) -> usize {
        self.input.bytes() + self.state.bytes()
    }

    /// Values of a state, `h` and behind it for LSTM `c`.
    pub fn state_len(&self) -> usize {
        self.shape.hidden * if self.shape.cell == Cell::Lstm { 2 } else { 1 }
    }

    /// Runs `rows` series, as [`crate::nn::Recurrent::forward_between`] does; `bias` is laid out as there.
    ///
    /// # Panics
    /// When a slice does not have the length it should, or one of `lengths` is not in `1..=time`.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    pub fn forward(
        &self,
        team: &Team,
        rows: usize,
        x: &[f32],
        lengths: Option<&[u32]>,
        bias: &[f32],
        mut ends: Ends<'_>,
        out: &mut [f32],
    ) {
        let RecurrentShape { cell, time, inputs, hidden } = self.shape;
        let columns = cell.gates() * hidden;
        let state = self.state_len();
        assert_eq!(x.len(), rows * time * inputs, "values of the series");
        assert_eq!(bias.len(), columns + if cell == Cell::Gru { hidden } else { 0 }, "values of the bias");
        assert_eq!(out.len(), rows * hidden * if self.returns_sequence { time } else { 1 }, "values of the outputs");
        for end in [ends.given, ends.wanted.as_deref()].into_iter().flatten() {
            assert_eq!(end.len(), rows * state, "values of the states");
        }
        let series = Series::new(rows, time, lengths);
        if self.returns_sequence {
            out.fill(0.0);
        }
        // The state first: kernels read rows fastest that begin with a line of the cache.
        with_lines(rows * (time * columns + columns + 2 * hidden), |scratch| {
            let (h, rest) = scratch.split_at_mut(rows * hidden);
            let (c, rest) = rest.split_at_mut(rows * hidden);
            let (of_inputs, of_state) = rest.split_at_mut(rows * time * columns);
            self.input.multiply(team, rows * time, x, Some(&bias[..columns]), false, of_inputs);
            for (place, &row) in series.order.iter().enumerate() {
                let given = ends.given.map(|given| &given[row * state..][..state]);
                let own = place * hidden..(place + 1) * hidden;
                match given {
                    Some(given) => h[own.clone()].copy_from_slice(&given[..hidden]),
                    None => h[own.clone()].fill(0.0),
                }
                match given.filter(|given| given.len() > hidden) {
                    Some(given) => c[own].copy_from_slice(&given[hidden..]),
                    None => c[own].fill(0.0),
                }
            }
            for step in 0..series.steps() {
                let running = series.running(step);
                let of_state = &mut of_state[..running * columns];
                if step == 0 && ends.given.is_none() {
                    of_state.fill(0.0);
                } else {
                    self.state.multiply(team, running, &h[..running * hidden], None, false, of_state);
                }
                for (place, &row) in series.order[..running].iter().enumerate() {
                    let length = series.lengths[place];
                    let at = row * time + if self.is_reversed { length - 1 - step } else { step };
                    let own = place * hidden..(place + 1) * hidden;
                    let sums = Sums {
                        hidden,
                        of_input: of_inputs[at * columns..][..columns].as_ptr(),
                        of_state: of_state[place * columns..][..columns].as_ptr(),
                        state_bias: bias[columns..].as_ptr(),
                        h: h[own.clone()].as_mut_ptr(),
                        c: c[own.clone()].as_mut_ptr(),
                    };
                    // SAFETY: the pointers are valid for the gates of `hidden` units, a GRU's bias for one more gate.
                    unsafe {
                        match cell {
                            Cell::Rnn => run(Rnn(sums)),
                            Cell::Lstm => run(Lstm(sums)),
                            Cell::Gru => run(Gru(sums)),
                        }
                    }
                    let is_last = step + 1 == length;
                    if self.returns_sequence {
                        out[at * hidden..][..hidden].copy_from_slice(&h[own.clone()]);
                    } else if is_last {
                        out[row * hidden..][..hidden].copy_from_slice(&h[own.clone()]);
                    }
                    if let Some(wanted) = ends.wanted.as_deref_mut().filter(|_| is_last) {
                        let wanted = &mut wanted[row * state..][..state];
                        wanted[..hidden].copy_from_slice(&h[own.clone()]);
                        if state > hidden {
                            wanted[hidden..].copy_from_slice(&c[own]);
                        }
                    }
                }
            }
        });
    }
}

/// The two products of one row, and its state.
struct Sums {
    hidden: usize,
    of_input: *const f32,
    of_state: *const f32,
    state_bias: *const f32,
    h: *mut f32,
    c: *mut f32,
}

impl Sums {
    /// Both products of a gate, added up.
    #[inline(always)]
    unsafe fn gate<T: Bits>(&self, gate: usize, unit: usize, left: usize) -> T {
        let at = gate * self.hidden + unit;
        T::load_up_to(self.of_input.add(at), left).add(T::load_up_to(self.of_state.add(at), left))
    }
}

/// A step that works on a register of units.
trait Units {
    fn sums(&self) -> &Sums;
    /// # Safety
    /// The instruction set of `T` is there, `left` units from `unit` on exist.
    unsafe fn units<T: Bits>(&self, unit: usize, left: usize);

    /// # Safety
    /// As [`Units::units`].
    #[inline(always)]
    unsafe fn each<T: Bits>(&self) {
        let hidden = self.sums().hidden;
        let mut unit = 0;
        while unit < hidden {
            let left = (hidden - unit).min(T::N);
            self.units::<T>(unit, left);
            unit += left;
        }
    }
}

macro_rules! steps {
    ($($name:ident),*) => {$(
        struct $name(Sums);
        impl Kernel for $name {
            type Out = ();
            #[inline(always)]
            unsafe fn run<T: Bits>(self) {
                self.each::<T>();
            }
        }
    )*};
}
steps!(Rnn, Lstm, Gru);

impl Units for Rnn {
    fn sums(&self) -> &Sums {
        &self.0
    }
    #[inline(always)]
    unsafe fn units<T: Bits>(&self, unit: usize, left: usize) {
        tanh(self.0.gate::<T>(0, unit, left)).store_up_to(self.0.h.add(unit), left);
    }
}

impl Units for Lstm {
    fn sums(&self) -> &Sums {
        &self.0
    }
    #[inline(always)]
    unsafe fn units<T: Bits>(&self, unit: usize, left: usize) {
        let s = &self.0;
        let (i, f) = (sigmoid(s.gate::<T>(0, unit, left)), sigmoid(s.gate::<T>(1, unit, left)));
        let (g, o) = (tanh(s.gate::<T>(2, unit, left)), sigmoid(s.gate::<T>(3, unit, left)));
        let c = f.mul(T::load_up_to(s.c.add(unit), left)).fma(i, g);
        c.store_up_to(s.c.add(unit), left);
        o.mul(tanh(c)).store_up_to(s.h.add(unit), left);
    }
}

impl Units for Gru {
    fn sums(&self) -> &Sums {
        &self.0
    }
    #[inline(always)]
    unsafe fn units<T: Bits>(&self, unit: usize, left: usize) {
        let s = &self.0;
        let (r, z) = (sigmoid(s.gate::<T>(0, unit, left)), sigmoid(s.gate::<T>(1, unit, left)));
        let at = 2 * s.hidden + unit;
        let q = T::load_up_to(s.of_state.add(at), left).add(T::load_up_to(s.state_bias.add(unit), left));
        let n = tanh(T::load_up_to(s.of_input.add(at), left).fma(r, q));
        let h = T::load_up_to(s.h.add(unit), left);
        T::splat(1.0).sub(z).mul(n).fma(z, h).store_up_to(s.h.add(unit), left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::Recurrent;
    use crate::nn::check::{assert_near, bits, values, wide};

    /// A matrix in f32, summed in order.
    #[derive(Debug)]
    struct Plain {
        extents: [usize; 2],
        weight: Vec<f32>,
    }

    impl Product for Plain {
        fn extents(&self) -> [usize; 2] {
            self.extents
        }
        fn bytes(&self) -> usize {
            4 * self.weight.len()
        }
        fn multiply(&self, _: &Team, rows: usize, x: &[f32], bias: Option<&[f32]>, relu: bool, out: &mut [f32]) {
            let [outputs, inputs] = self.extents;
            for row in 0..rows {
                for o in 0..outputs {
                    let products = self.weight[o * inputs..][..inputs].iter().zip(&x[row * inputs..][..inputs]);
                    let sum = products.fold(bias.map_or(0.0, |b| b[o]), |sum, (w, x)| w.mul_add(*x, sum));
                    out[row * outputs + o] = if relu { sum.max(0.0) } else { sum };
                }
            }
        }
    }

    #[test]
    fn it_computes_what_the_dense_layer_does_whatever_is_asked() {
        let (rows, lengths) = (3, [4, 7, 1]);
        for cell in [Cell::Rnn, Cell::Lstm, Cell::Gru] {
            let shape = RecurrentShape { cell, time: 7, inputs: 5, hidden: 19 };
            let columns = cell.gates() * shape.hidden;
            let (w_ih, w_hh) = (values(columns * 5, 1), values(columns * 19, 2));
            let (b_ih, b_hh) = (values(columns, 3), values(columns, 4));
            let x = values(rows * 7 * 5, 5);
            for (is_reversed, returns_sequence, is_given) in
                [(false, true, false), (true, false, false), (true, true, false), (false, false, true)]
            {
                let dense = Recurrent::new(shape, is_reversed, returns_sequence);
                let (mut weight, mut bias) = (vec![0.0; dense.weight_len()], vec![0.0; dense.bias_len()]);
                dense.from_pytorch(&w_ih, &w_hh, &b_ih, &b_hh, &mut weight, &mut bias);
                let mut packed = Vec::new();
                dense.pack_forward(&Team::new(1), &weight, &mut packed);
                let matrix = |inputs, weight: &[f32]| -> Arc<dyn Product> {
                    Arc::new(Plain { extents: [columns, inputs], weight: weight.to_vec() })
                };
                let held =
                    RecurrentProduct::new(shape, is_reversed, returns_sequence, matrix(5, &w_ih), matrix(19, &w_hh));
                let before = values(rows * held.state_len(), 6);
                let given = is_given.then_some(&before[..]);
                let outputs = rows * 19 * if returns_sequence { 7 } else { 1 };
                let (mut wanted, mut after) = (vec![9.0; outputs], vec![9.0; before.len()]);
                let ends = Ends { given, wanted: Some(&mut after) };
                dense.forward_between(rows, &x, Some(&lengths), &packed, &bias, ends, None, &mut wanted);
                let found = at_every_level(|| {
                    let (mut found, mut ended) = (vec![9.0; outputs], vec![9.0; before.len()]);
                    let ends = Ends { given, wanted: Some(&mut ended) };
                    held.forward(&Team::new(1), rows, &x, Some(&lengths), &bias, ends, &mut found);
                    (bits(&found), bits(&ended))
                });
                let floats = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).collect::<Vec<_>>();
                assert_near(&floats(found.0), &wide(&wanted), 2e-5);
                assert_near(&floats(found.1), &wide(&after), 2e-5);
            }
        }
    }

    #[test]
    #[should_panic(expected = "extents of the state's matrix")]
    fn a_matrix_of_another_size_is_refused() {
        let shape = RecurrentShape { cell: Cell::Rnn, time: 1, inputs: 2, hidden: 3 };
        let matrix = |inputs| -> Arc<dyn Product> { Arc::new(Plain { extents: [3, inputs], weight: vec![0.0; 9] }) };
        RecurrentProduct::new(shape, false, false, matrix(2), matrix(4));
    }
}
