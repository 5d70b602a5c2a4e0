//! Checkpoints in fewer bytes, and bit for bit the same when they are unpacked.
//!
//! Weights look random to a general compressor because it sees bytes, and a number's exponent, which is far from random, lies
//! beside mantissa bits that are. So a tensor is cut into blocks, a block into *planes* (all exponents, all codes), and each
//! plane is entropy-coded by itself, order 0: the bound is the entropy of its histogram.
//!
//! ```text
//! file ──► header ──► tensors ──► blocks ──► planes ──► coder ──► container
//!                                 (Split)              (Method)   (checksum a block)
//! ```
//! Sources: Han, Mao and Dally, 2015, Deep compression, arXiv 1510.00149 (entropy-coded weights); Hershcovitch et al., 2024,
//! ZipNN, arXiv 2411.05239 (exponents apart); Duda, 2009, Asymmetric numeral systems, arXiv 0902.0271.

mod block;
mod coder;
mod container;
mod few;
mod pack;
mod report;
mod split;
#[cfg(test)]
mod tests;
mod unpack;

pub use container::is_packed;
pub use pack::{Packer, Source};
pub use report::{PackReport, PlaneReport};
pub use unpack::{PackedFile, Unpacker, Whole};
