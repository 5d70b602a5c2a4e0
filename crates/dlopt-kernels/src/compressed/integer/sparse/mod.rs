//! Sparse matrices of codes by activations that are quantized to bytes: the sums of the dense kernels, without their zeros.
//!
//! ```text
//! x ──► quantize_row ──► bytes ─┬─► picked, masked ──► sums ──┬──► finish ──► out
//!                               └─► columns ──► quads ──► sums┘
//! ```
//! A few rows pick the inputs of sixteen outputs at a time ([`picked`]), or spread codes over a bitmask ([`masked`]); many rows
//! multiply four codes of an output at a time by all of them ([`quads`]), or those of 2:4 where they stand ([`halved`]).

mod columns;
mod few_rows;
mod finish;
mod halved;
mod masked;
mod matrix;
mod panel;
mod pays;
mod picked;
mod quads;
mod set;
#[cfg(test)]
mod tests;

pub use matrix::SparseInt8Matrix;
