//! Integer codes by activations that are quantized to bytes: sums are exact, so they are the same at every level.
//!
//! ```text
//! x ──► quantize_row ──► bytes (or 16-bit integers), sums, scale ──► tiles ──► out
//! codes ──► Matrix::pack ──► panels of bytes, nibbles or crumbs ──┘
//! ```
//! [`registers::Integers`] has the steps that depend on the instruction set; [`source::Source`] those that depend on
//! how codes lie in memory.

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod matrices;
mod matrix;
mod memory;
mod packing;
mod registers;
mod scales;
mod soft;
mod source;
#[cfg(test)]
mod tests;
mod tile;

pub use matrices::{Int2Matrix, Int4Matrix, Int8Matrix};

use registers::Integers;
use soft::Soft;

/// A loop that is compiled once for each instruction set.
trait Work {
    /// Must be `inline(always)`.
    ///
    /// # Safety
    /// The instruction set of `T` was detected.
    unsafe fn run<T: Integers>(&self);
}

/// Runs `work` with the registers of [`crate::level::level`].
fn run<W: Work>(work: &W) {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::level::{Level, level};
        use std::arch::is_x86_feature_detected as has;

        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        unsafe fn vnni<W: Work>(work: &W) {
            // SAFETY: as promised by the caller.
            unsafe { work.run::<avx512::Vnni>() }
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn avx2<W: Work>(work: &W) {
            // SAFETY: as promised by the caller.
            unsafe { work.run::<avx2::Avx2>() }
        }
        match level() {
            // SAFETY: `level` says that AVX-512 was detected, and VNNI was.
            Level::Avx512 if has!("avx512vnni") => return unsafe { vnni(work) },
            // SAFETY: `level` says that AVX2, FMA and F16C were detected.
            Level::Avx512 | Level::Avx2 => return unsafe { avx2(work) },
            Level::Portable => {}
        }
    }
    // SAFETY: plain Rust.
    unsafe { work.run::<Soft>() }
}
