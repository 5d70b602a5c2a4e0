//! Matrices that stay compressed while they are multiplied: integer codes and sparse weights on the CPU.
//!
//! A matrix is packed once, when a checkpoint is loaded, into the layout that its kernel reads. Weights are
//! `[outputs, inputs]`, rows of activations `[rows, inputs]`, results `[rows, outputs]`.
//!
//! Every kernel has a portable twin: the same integers, bit for bit, where sums are integers, and the same order of
//! floating-point operations elsewhere, so results depend neither on the instruction set nor on the number of threads.

mod dense;
mod integer;
mod lines;
mod recurrent;
pub mod sparse;
mod weight_only;

use std::fmt::Debug;

use crate::nn::{ConvShape, Team};

pub use dense::{DenseConvolution, DenseMatrix};
pub use integer::{Int2Matrix, Int4Matrix, Int8Convolution, Int8Matrix, SparseInt8Matrix};
pub use recurrent::RecurrentProduct;
pub use weight_only::{Float8Codes, WeightOnly};

/// A matrix `[outputs, inputs]` packed for its kernel.
pub trait Product: Debug + Send + Sync {
    /// Outputs and inputs.
    fn extents(&self) -> [usize; 2];

    /// Bytes it holds in memory.
    fn bytes(&self) -> usize;

    /// `out[row, o] = bias[o] + sum over i of x[row, i] * weight[o, i]`, and at least 0 with `relu`.
    ///
    /// `x` is `[rows, inputs]`, `out` is `[rows, outputs]`. Work is spread over `team`.
    ///
    /// # Panics
    /// When a slice does not have the length it should.
    fn multiply(&self, team: &Team, rows: usize, x: &[f32], bias: Option<&[f32]>, relu: bool, out: &mut [f32]);
}

/// A convolution packed for its kernel, with the ReLU and the 2x2 max pool that were put behind it.
pub trait Maps: Debug + Send + Sync {
    /// The sizes it was planned for.
    fn shape(&self) -> &ConvShape;

    /// Values of the output of one image, after the pool if there is one.
    fn output_len(&self) -> usize;

    /// Bytes it holds in memory.
    fn bytes(&self) -> usize;

    /// Computes `out`, `[images, rows, columns, outputs]`, from `x`, `[images, height, width, inputs]`, on the caller's
    /// thread.
    ///
    /// # Panics
    /// When a slice does not have the length it should.
    fn forward(&self, images: usize, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]);
}

/// Integer codes of a matrix, `weight[o, i] = (code[o, i] - zero[o, g]) * scale[o, g]` with `g = i / group`.
pub struct Codes<'a> {
    /// Rows of codes.
    pub outputs: usize,
    /// Codes of a row.
    pub inputs: usize,
    /// Bits of a code, 1 to 8: codes are in `-2^(bits-1)..2^(bits-1)`.
    pub bits: u32,
    /// Neighbouring inputs that share a scale; the last group of a row may be short. `inputs` for one scale a row.
    pub group: usize,
    /// `[outputs, groups]`, finite.
    pub scale: &'a [f32],
    /// `[outputs, groups]` in the codes' range, or empty where all are 0.
    pub zero: &'a [i8],
    /// Writes the codes of a row; called once for each, in order.
    pub row: &'a mut dyn FnMut(usize, &mut [i8]),
}
