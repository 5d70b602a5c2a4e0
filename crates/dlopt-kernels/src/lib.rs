//! The hot loops of dlopt on plain slices.
//!
//! Every loop is written once, in plain Rust over [`LANES`] lanes, and compiled
//! for several instruction sets; [`level`] says which one runs. All of them give
//! the same bits: sums keep one order of lanes and one order of folding, and
//! nothing is contracted into a fused multiply-add.
//!
//! Conventions:
//! - Byte slices hold little-endian elements and need no alignment.
//! - A *group* is a run of `group` consecutive elements that share a scale; the
//!   last group of a slice may be short. Slices with one entry per group hold
//!   `len.div_ceil(group)` entries.
//! - A *key* is the magnitude of a float as an integer: its bits without the sign
//!   (15 bits for 16-bit floats, 31 bits for 32-bit ones). Keys order like
//!   magnitudes, with infinity above every number and NaN above infinity.
//! - Statistics pass over NaN and infinities, as if they were absent.
//! - Sums run in `f32` lanes over blocks of at most [`BLOCK`] elements, and across
//!   blocks in `f64`.
//! - Lengths that disagree are a caller's mistake and panic.

#[macro_use]
mod level;
mod compare;
pub mod compressed;
mod element;
mod float8;
mod integer;
mod lanes;
mod magnitude;
pub mod nn;
mod packing;
mod pattern;
pub mod pixels;
mod prune;
mod resident;
mod vector;
mod window;

pub use compare::{Comparison, Moments, compare, moments};
pub use element::{Float, count_zeros, first_nonfinite, narrow, view_f32, widen};
pub use float8::{decode_fp8, encode_fp8, error_fp8};
pub use integer::{Grid, decode_int, encode_int, error_int, group_extremes};
pub use lanes::{BLOCK, LANES, Stats};
pub use level::{Level, highest_level, level, limit_level};
pub use magnitude::{
    count_below_16, count_below_32, tally_magnitude_16, tally_magnitude_32_high, tally_magnitude_32_low,
};
pub use packing::{pack, packed_bytes, unpack};
pub use pattern::{holds_n_of_m, keep_n_of_m};
pub use prune::{PruneStats, zero_below_16, zero_below_32};
pub use resident::{release_free_memory, release_program_pages};
pub use window::{bracket, keys_within_32, sample_keys_32};
