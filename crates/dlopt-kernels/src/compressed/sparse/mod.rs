//! Matrices and convolutions most of whose weights are exactly 0: only the others are in memory and multiplied.
//!
//! Weights that are not 0 stand anywhere (unstructured sparsity), with 8- or 16-bit places. One row of activations and many
//! want different layouts: see [`SparseMatrix`].

mod blocked;
mod lanes;
mod listed;
mod matrix;
mod rows;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod transpose;
mod windowed;

pub use matrix::{SparseMatrix, Use};
