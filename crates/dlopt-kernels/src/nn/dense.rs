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

/// The run of a whole row.
const FIRST: Run = Run { at: 0, weight: 0 };

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
        assert_eq!(x.len(), rows * self.inputs, "values of the inputs");
        assert_eq!(
            packed.len(),
            packed_len(self.inputs, self.outputs),
            "values of the weight packed for the forward pass"
        );
        assert!(bias.is_none_or(|bias| bias.len() == self.outputs), "one bias for each output");
        assert_eq!(out.len(), rows * self.outputs, "values of the outputs");
        let weights = Weights {
            packed: packed.as_ptr(),
            panel: self.inputs * PANEL,
            bias: bias.map(<[f32]>::as_ptr),
            channels: self.outputs,
            relu: self.relu,
        };
        // SAFETY: the grid is one run of `inputs` values a row; all lengths were checked above.
        unsafe {
            correlate(
                x.as_ptr(),
                grid(rows, self.inputs, &[FIRST], self.inputs, self.outputs),
                weights,
                out.as_mut_ptr(),
            )
        }
    }

    /// Zeroes the gradient of the output, in place, where ReLU is off: where `out` is not positive.
    ///
    /// # Panics
    /// When there is a ReLU and the lengths differ.
    pub fn mask(&self, out: &[f32], gradient: &mut [f32]) {
        if self.relu {
            assert_eq!(out.len(), gradient.len(), "one output for each gradient");
            let values = gradient.as_mut_ptr();
            // SAFETY: one row of equal lengths, in place.
            unsafe { mask(values, out.as_ptr(), 1, gradient.len(), values, 0) }
        }
    }

    /// Adds to the gradient of the weight's rows `inputs`: `dw`, `[inputs.len(), outputs]`, is the slice of that range.
    ///
    /// `x` and `gradient` hold all rows of the batch, so pieces need no adding up afterwards.
    ///
    /// # Panics
    /// When a slice does not have the length it should, or the range leaves the layer.
    pub fn weight_gradient(&self, rows: usize, x: &[f32], gradient: &[f32], inputs: Range<usize>, dw: &mut [f32]) {
        assert_eq!(x.len(), rows * self.inputs, "values of the inputs");
        assert_eq!(gradient.len(), rows * self.outputs, "values of the outputs' gradient");
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
        assert_eq!(gradient.len(), rows * self.outputs, "values of the outputs' gradient");
        assert_eq!(db.len(), self.outputs, "one bias for each output");
        // SAFETY: one row of `rows` pixels; all lengths were checked above.
        unsafe { bias_gradient(gradient.as_ptr(), 1, 0, rows, self.outputs, db.as_mut_ptr()) }
    }

    /// Writes the gradient of the inputs, `[rows, inputs]`; `packed` comes from [`Self::pack_backward`].
    ///
    /// # Panics
    /// When a slice does not have the length it should.
    pub fn input_gradient(&self, rows: usize, gradient: &[f32], packed: &[f32], dx: &mut [f32]) {
        assert_eq!(gradient.len(), rows * self.outputs, "values of the outputs' gradient");
        assert_eq!(
            packed.len(),
            packed_len(self.outputs, self.inputs),
            "values of the weight packed for the input gradient"
        );
        assert_eq!(dx.len(), rows * self.inputs, "values of the inputs' gradient");
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
