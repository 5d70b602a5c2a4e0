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

mod scratch;
mod simd;
mod team;

pub use team::Team;
