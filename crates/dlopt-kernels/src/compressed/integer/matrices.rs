//! The matrices of integer codes: one for each number of codes in a byte.

use super::matrix::Matrix;
use super::packing::{InBytes, InCrumbs, InNibbles};
use crate::compressed::{Codes, Product};
use crate::nn::Team;

/// A public matrix of one packing.
macro_rules! integer_matrix {
    ($(#[$doc:meta])* $name:ident($packing:ty)) => {
        $(#[$doc])*
        ///
        /// Activations are quantized a row at a time: `code = round(x / scale)`, ties to even, with
        /// `scale = max |x| / 127`, or the one given with [`Self::with_input_scale`], beyond which they are clipped. Sums are
        /// exact; `out = sum over groups of (sum * scale[output, group]) * scale[row] + bias` in `f32`, the groups in order.
        /// A row that holds NaN or infinity gives NaN for all outputs, ReLU or not; one whose magnitudes are all below
        /// 2^-120 counts as zeros.
        #[derive(Debug)]
        pub struct $name(Matrix<$packing>);

        impl $name {
            /// Packs the codes of a matrix.
            ///
            /// # Errors
            /// Says why where this kernel is not for such a matrix, so that the caller takes another one: other bits, more
            /// than 65,536 inputs, several groups of no multiple of 32 inputs, scales that are not finite, codes or zero
            /// points out of range.
            ///
            /// # Panics
            /// When there are no outputs or inputs, or scales or zero points are not as many as groups.
            pub fn pack(codes: &mut Codes<'_>) -> Result<Self, &'static str> {
                Matrix::pack(codes).map(Self)
            }

            /// Quantizes all activations with this scale from now on.
            ///
            /// # Panics
            /// When `scale` is not a number from 2^-120.
            #[must_use]
            pub fn with_input_scale(mut self, scale: f32) -> Self {
                self.0.set_input_scale(scale);
                self
            }
        }

        impl Product for $name {
            fn extents(&self) -> [usize; 2] {
                self.0.extents()
            }

            fn bytes(&self) -> usize {
                self.0.bytes()
            }

            fn multiply(
                &self,
                team: &Team,
                rows: usize,
                x: &[f32],
                bias: Option<&[f32]>,
                relu: bool,
                out: &mut [f32],
            ) {
                self.0.multiply(team, rows, x, bias, relu, out);
            }
        }
    };
}

integer_matrix! {
/// A matrix whose codes have 5 to 8 bits and lie one a byte, multiplied by activations that are quantized to 8 bits.
///
/// Scales are one for each output or for each group of a multiple of 32 inputs, zero points may be given.
Int8Matrix(InBytes) }

integer_matrix! {
/// A matrix whose codes have 3 or 4 bits and lie two a byte, multiplied by activations that are quantized to 8 bits.
///
/// Scales are one for each output or for each group of a multiple of 32 inputs, zero points may be given.
Int4Matrix(InNibbles) }

integer_matrix! {
/// A matrix whose codes have 2 bits and lie four a byte, multiplied by activations that are quantized to 8 bits.
///
/// Scales are one for each output or for each group of a multiple of 32 inputs, zero points may be given.
Int2Matrix(InCrumbs) }
