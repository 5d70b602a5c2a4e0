//! Kernels of neural networks on the CPU, forward and backward: plain `f32` slices, checked lengths, no threads of their own
//! but [`Team`].
//!
//! Conventions:
//! - Images are `[image, y, x, channel]` (NHWC), series `[sample, time, feature]`, weights of convolutions
//!   `[ky, kx, in, out]`, of dense layers `[in, out]`. Checkpoints keep PyTorch's layouts; `dlopt-model` converts.
//! - Kernels work on a *chunk* of samples; callers spread chunks over a [`Team`] and add gradients in order of chunks.
//! - Gradients of weights are *added to* what the slice holds; gradients of inputs and outputs are written.
//! - Every stored value is one sum in a fixed order of fused multiply-adds, so AVX-512, AVX2 and the portable twin give
//!   the same bytes.
//! - Lengths that disagree are a caller's mistake and panic.

mod activation;
pub(crate) mod bits;
#[cfg(test)]
pub(crate) mod check;
mod columns;
pub(crate) mod conv;
mod dense;
mod dropout;
mod elementwise;
mod embedding;
mod loss;
mod magnitude;
mod map;
mod math;
mod norm;
mod pool;
mod recurrent;
mod regression;
mod rows;
pub(crate) mod scratch;
pub(crate) mod simd;
mod softmax;
mod team;
mod update;

pub use activation::{Function, activate, activate_gradient, activate_gradient_in_place, activate_in_place};
pub use columns::column_sums;
pub use conv::{ConvShape, Convolution};
pub use dense::Dense;
pub use dropout::{dropout, dropout_in_place};
pub use elementwise::{add, add_into, add_relu, add_scaled, ema, multiply_mask, relu_gradient, scale, sum_of_squares};
pub use embedding::{embedding, embedding_gradient};
pub use loss::{LossSum, label_weights, soft_cross_entropy, softmax_cross_entropy};
pub use magnitude::{magnitude, magnitude_gradient};
pub use norm::{
    BatchNormCoefficients, batch_norm_apply, batch_norm_coefficients, batch_norm_fold, batch_norm_gradient_sums,
    batch_norm_input_gradient, batch_norm_statistics, batch_norm_sums, layer_norm, layer_norm_gradient,
};
pub use pool::{PoolShape, average_pool, average_pool_gradient, max_pool, max_pool_gradient};
pub(crate) use recurrent::Series;
pub use recurrent::{Cell, Ends, Recurrent, RecurrentSaved, RecurrentShape};
pub use regression::{binary_cross_entropy, huber, mse};
pub use softmax::{argmax_rows, softmax_rows, softmax_rows_gradient};
pub use team::Team;
pub use update::{Adam, RmsProp, Sgd, adam, rmsprop, sgd};
