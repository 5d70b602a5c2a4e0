//! Matrices and convolutions most of whose weights are exactly 0: only the others are in memory and multiplied.
//!
//! Weights that are not 0 stand anywhere (unstructured sparsity), with 8- or 16-bit places. One row of activations and many
//! want different layouts: see [`SparseMatrix`].

mod abreast;
mod blocked;
mod convolution;
mod lanes;
mod listed;
mod matrix;
mod pays;
mod planes;
pub(super) mod rows;
mod shifts;
mod stream;
mod target;
#[cfg(test)]
mod tests;
pub(super) mod transpose;
mod windowed;

pub use convolution::SparseConvolution;
pub use matrix::{SparseMatrix, Use};
pub use pays::{Work, least_sparsity, pays};
