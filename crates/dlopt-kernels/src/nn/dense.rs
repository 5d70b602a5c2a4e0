//! Dense layers for training: weights `[inputs, outputs]`, rows of samples.
//!
//! A dense layer is a convolution with one run: the same tiles serve both. Its weight gradient is cut by inputs, each summed
//! over all rows in order, so that threads share it without a reduction.

use std::ops::Range;

use super::Team;
use super::conv::correlate::{Grid, Weights, correlate};
use super::conv::pack::{PANEL, pack_columns, pack_rows, packed_len};
use super::conv::plan::Run;
use super::conv::weight::{Gradient, weight_gradient};
use super::conv::{bias_gradient, mask};
use super::scratch::with_scratch;

/// The run of a whole row.
const FIRST: Run = Run { at: 0, weight: 0 };

/// Floats of a page: rows that lie whole pages apart share the same few places in a cache, so that many are read from copies a
/// line further apart.
const PAGE: usize = 1024;
const LINE: usize = 16;
const MANY_ROWS: usize = 32;

/// A dense layer, `out = x * weight + bias`, with ReLU behind it if asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dense {
    inputs: usize,
    outputs: usize,
    relu: bool,
}

impl Dense {
    /// Plans a layer; `relu` puts max(0, value) behind the bias.
    ///
    /// # Panics
    /// When there are no inputs or no outputs.
    pub fn new(inputs: usize, outputs: usize, relu: bool) -> Self {
        assert!(inputs > 0 && outputs > 0, "a dense layer has inputs and outputs, found {inputs} and {outputs}");
        assert!(
            inputs.max(outputs) < 1 << 28,
            "a dense layer's places are counted in 64 bits, found {inputs} to {outputs}"
        );
        Self { inputs, outputs, relu }
    }

    /// Values of a row of `x`.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Values of a row of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Values of a weight that is laid out for [`Self::forward`].
    pub fn packed_len(&self) -> usize {
        packed_len(self.inputs, self.outputs)
    }

    /// Lays the weight, `[inputs, outputs]`, out for [`Self::forward`]; once a step.
    ///
    /// # Panics
    /// When `weight` does not hold `inputs * outputs` values.
    pub fn pack_forward(&self, team: &Team, weight: &[f32], packed: &mut Vec<f32>) {
        self.check_weight(weight);
        packed.resize(packed_len(self.inputs, self.outputs), 0.0);
        pack_rows(team, weight, &|input| input * self.outputs, self.inputs, self.outputs, packed);
    }

    /// Lays the weight, `[inputs, outputs]`, out for [`Self::input_gradient`]; once a step.
    ///
    /// # Panics
    /// When `weight` does not hold `inputs * outputs` values.
    pub fn pack_backward(&self, team: &Team, weight: &[f32], packed: &mut Vec<f32>) {
        self.check_weight(weight);
        packed.resize(packed_len(self.outputs, self.inputs), 0.0);
        let place = |output: usize, input: usize| input * self.outputs + output;
        pack_columns(team, weight, &place, self.outputs, self.outputs, self.inputs, packed);
    }

    fn check_weight(&self, weight: &[f32]) {
        assert_eq!(weight.len(), self.inputs * self.outputs, "values of a dense layer's weight");
    }

    /// Computes `out`, `[rows, outputs]`, from `x`, `[rows, inputs]`; `packed` comes from [`Self::pack_forward`].
    ///
    /// # Panics
    /// When a slice does not have the length it should.
    pub fn forward(&self, rows: usize, x: &[f32], packed: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        assert_eq!(Some(x.len()), rows.checked_mul(self.inputs), "values of the inputs");
        assert_eq!(
            packed.len(),
            packed_len(self.inputs, self.outputs),
            "values of the weight packed for the forward pass"
        );
        assert!(bias.is_none_or(|bias| bias.len() == self.outputs), "one bias for each output");
        assert_eq!(Some(out.len()), rows.checked_mul(self.outputs), "values of the outputs");
        let weights = Weights {
            packed: packed.as_ptr(),
            panel: self.inputs * PANEL,
            bias: bias.map(<[f32]>::as_ptr),
            channels: self.outputs,
            relu: self.relu,
        };
        let mut multiply = |x: &[f32], width: usize| {
            // SAFETY: the grid is one run of `inputs` values a row of `width`; all lengths were checked above.
            unsafe {
                correlate(x.as_ptr(), grid(rows, width, &[FIRST], self.inputs, self.outputs), weights, out.as_mut_ptr())
            }
        };
        if rows < MANY_ROWS || !self.inputs.is_multiple_of(PAGE) {
            return multiply(x, self.inputs);
        }
        with_scratch(rows * (self.inputs + LINE), |apart| {
            for (to, row) in apart.chunks_exact_mut(self.inputs + LINE).zip(x.chunks_exact(self.inputs)) {
                to[..self.inputs].copy_from_slice(row);
            }
            multiply(apart, self.inputs + LINE);
        });
    }

    /// Zeroes the gradient of the output, in place, where ReLU is off: where `out` is not positive.
    ///
    /// # Panics
    /// When there is a ReLU and the lengths differ.
    pub fn mask(&self, out: &[f32], gradient: &mut [f32]) {
        if self.relu {
            assert_eq!(out.len(), gradient.len(), "one output for each gradient");
            let values = gradient.as_mut_ptr();
            // SAFETY: equal lengths, in place.
            unsafe { mask(values, out.as_ptr(), gradient.len(), values) }
        }
    }

    /// Adds to the gradient of the weight's rows `inputs`: `dw`, `[inputs.len(), outputs]`, is the slice of that range.
    ///
    /// `x` and `gradient` hold all rows of the batch, so pieces need no adding up afterwards.
    ///
    /// # Panics
    /// When a slice does not have the length it should, or the range leaves the layer.
    pub fn weight_gradient(&self, rows: usize, x: &[f32], gradient: &[f32], inputs: Range<usize>, dw: &mut [f32]) {
        assert_eq!(Some(x.len()), rows.checked_mul(self.inputs), "values of the inputs");
        assert_eq!(Some(gradient.len()), rows.checked_mul(self.outputs), "values of the outputs' gradient");
        assert!(inputs.start <= inputs.end && inputs.end <= self.inputs, "inputs {inputs:?} of {}", self.inputs);
        assert_eq!(dw.len(), inputs.len() * self.outputs, "values of the weight's gradient");
        let (values, channels) = (gradient.as_ptr(), self.outputs);
        let gradient = Gradient { values, pixel: channels, row: 0, channels };
        let run = [Run { at: inputs.start.cast_signed(), weight: 0 }];
        let grid = grid(rows, self.inputs, &run, inputs.len(), self.outputs);
        // SAFETY: the grid is the range of each row; all lengths were checked above.
        unsafe { weight_gradient(x.as_ptr(), grid, gradient, dw.as_mut_ptr(), self.outputs) }
    }

    /// Adds the sum of all rows of `gradient` to `db`.
    ///
    /// # Panics
    /// When a slice does not have the length it should.
    pub fn bias_gradient(&self, rows: usize, gradient: &[f32], db: &mut [f32]) {
        assert_eq!(Some(gradient.len()), rows.checked_mul(self.outputs), "values of the outputs' gradient");
        assert_eq!(db.len(), self.outputs, "one bias for each output");
        // SAFETY: all lengths were checked above.
        unsafe { bias_gradient(gradient.as_ptr(), rows, self.outputs, db.as_mut_ptr()) }
    }

    /// Writes the gradient of the inputs, `[rows, inputs]`; `packed` comes from [`Self::pack_backward`].
    ///
    /// # Panics
    /// When a slice does not have the length it should.
    pub fn input_gradient(&self, rows: usize, gradient: &[f32], packed: &[f32], dx: &mut [f32]) {
        assert_eq!(Some(gradient.len()), rows.checked_mul(self.outputs), "values of the outputs' gradient");
        assert_eq!(
            packed.len(),
            packed_len(self.outputs, self.inputs),
            "values of the weight packed for the input gradient"
        );
        assert_eq!(Some(dx.len()), rows.checked_mul(self.inputs), "values of the inputs' gradient");
        let weights = Weights {
            packed: packed.as_ptr(),
            panel: self.outputs * PANEL,
            bias: None,
            channels: self.inputs,
            relu: false,
        };
        let grid = grid(rows, self.outputs, &[FIRST], self.outputs, self.inputs);
        // SAFETY: the grid is one run of `outputs` values a row; all lengths were checked above.
        unsafe { correlate(gradient.as_ptr(), grid, weights, dx.as_mut_ptr()) }
    }
}

/// Rows of `width` values as the pixels of one row of a map.
fn grid(rows: usize, width: usize, runs: &[Run], len: usize, out_pixel: usize) -> Grid<'_> {
    Grid { rows: 1, columns: rows, pixel: width, row: 0, runs, len, out_pixel, out_row: 0 }
}

#[cfg(test)]
mod tests {
    use super::super::conv::tests::{close, noise};
    use super::*;
    use crate::level::at_every_level;

    #[test]
    fn every_pass_agrees_with_a_plain_loop() {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 37, 10), (32, 100, 64), (13, 9, 83), (7, 50, 256)] {
            let layer = Dense::new(inputs, outputs, true);
            let (x, weight, bias) = (noise(rows * inputs, 1), noise(inputs * outputs, 2), noise(outputs, 3));
            let computed = at_every_level(|| {
                let team = Team::new(1);
                let (mut forward, mut backward) = (vec![], vec![]);
                layer.pack_forward(&team, &weight, &mut forward);
                layer.pack_backward(&team, &weight, &mut backward);
                let mut out = vec![f32::NAN; rows * outputs];
                layer.forward(rows, &x, &forward, Some(&bias), &mut out);
                let mut gradient = noise(out.len(), 4);
                layer.mask(&out, &mut gradient);
                let (mut dw, mut db) = (vec![1.0; weight.len()], vec![-1.0; outputs]);
                let cut = inputs / 3;
                let (first, second) = dw.split_at_mut(cut * outputs);
                layer.weight_gradient(rows, &x, &gradient, 0..cut, first);
                layer.weight_gradient(rows, &x, &gradient, cut..inputs, second);
                layer.bias_gradient(rows, &gradient, &mut db);
                let mut dx = vec![f32::NAN; x.len()];
                layer.input_gradient(rows, &gradient, &backward, &mut dx);
                [out, gradient, dw, db, dx]
            });
            let [out, gradient, dw, db, dx] = &computed;
            let sum = |terms: usize, term: &dyn Fn(usize) -> (f32, f32)| -> f64 {
                (0..terms).map(term).map(|(a, b)| f64::from(a) * f64::from(b)).sum()
            };
            let expected: Vec<f64> = (0..rows * outputs)
                .map(|at| {
                    let (row, o) = (at / outputs, at % outputs);
                    f64::from(bias[o]) + sum(inputs, &|i| (x[row * inputs + i], weight[i * outputs + o]))
                })
                .collect();
            close("out", out, &expected.iter().map(|v| v.max(0.0)).collect::<Vec<_>>());
            let masked =
                noise(rows * outputs, 4).into_iter().zip(out).map(|(g, &y)| if y > 0.0 { f64::from(g) } else { 0.0 });
            close("masked gradient", gradient, &masked.collect::<Vec<_>>());
            let expected = (0..inputs * outputs).map(|at| {
                let (i, o) = (at / outputs, at % outputs);
                1.0 + sum(rows, &|row| (x[row * inputs + i], gradient[row * outputs + o]))
            });
            close("dw", dw, &expected.collect::<Vec<_>>());
            let expected = (0..outputs).map(|o| -1.0 + sum(rows, &|row| (1.0, gradient[row * outputs + o])));
            close("db", db, &expected.collect::<Vec<_>>());
            let expected = (0..rows * inputs).map(|at| {
                let (row, i) = (at / inputs, at % inputs);
                sum(outputs, &|o| (weight[i * outputs + o], gradient[row * outputs + o]))
            });
            close("dx", dx, &expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn long_sums_in_stretches_are_those_of_a_row_alone() {
        // Rows whole pages long, and others; several stretches at every level, the last one shorter.
        for (rows, inputs, outputs) in [(37, 2048, 40), (16, 1100, 72), (12, 1025, 5)] {
            let layer = Dense::new(inputs, outputs, true);
            let (x, weight, bias) = (noise(rows * inputs, 1), noise(inputs * outputs, 2), noise(outputs, 3));
            let computed = || {
                let (mut packed, mut out) = (Vec::new(), vec![9.0; rows * outputs]);
                layer.pack_forward(&Team::new(1), &weight, &mut packed);
                layer.forward(rows, &x, &packed, Some(&bias), &mut out);
                for (row, out) in x.chunks_exact(inputs).zip(out.chunks_exact(outputs)) {
                    let mut alone = vec![9.0; outputs];
                    layer.forward(1, row, &packed, Some(&bias), &mut alone);
                    assert_eq!(out, alone);
                }
                out
            };
            at_every_level(computed);
        }
    }

    #[test]
    fn a_layer_without_relu_keeps_the_gradient() {
        let mut gradient = [1.0, -2.0];
        Dense::new(3, 2, false).mask(&[-1.0, 0.0], &mut gradient);
        assert_eq!(gradient, [1.0, -2.0]);
    }

    #[test]
    #[should_panic(expected = "values of the inputs")]
    fn a_row_too_few_is_refused() {
        Dense::new(3, 2, false).forward(2, &[0.0; 3], &[0.0; 48], None, &mut [0.0; 4]);
    }
}
