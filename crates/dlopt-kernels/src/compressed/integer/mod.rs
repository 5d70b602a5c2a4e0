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
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod convolution;
mod matrices;
mod matrix;
mod multiply;
mod packing;
mod patches;
mod registers;
mod scales;
mod soft;
mod source;
mod sparse;
#[cfg(test)]
mod tests;
mod tile;
mod unit;

pub use convolution::Int8Convolution;
pub use matrices::{Int2Matrix, Int4Matrix, Int8Matrix};
pub use sparse::SparseInt8Matrix;

use registers::Integers;
use soft::Soft;

#[cfg(target_arch = "x86_64")]
use crate::level::Level;
use crate::level::level;

/// Inputs whose sums fit 32 bits, whatever the codes.
const MOST_INPUTS: usize = 1 << 16;

/// A loop that is compiled once for each instruction set.
trait Work {
    /// Must be `inline(always)`.
    ///
    /// # Safety
    /// The instruction set of `T` was detected.
    unsafe fn run<T: Integers>(&self);
}

/// The registers that a product is computed with: activations are quantized for those that multiply them.
#[derive(Clone, Copy)]
enum Target {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Vnni,
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// As [`Self::Portable`], with the portable twin of tiles.
    #[cfg(test)]
    Tiled,
}

impl Target {
    /// Those of the level in use.
    fn now() -> Self {
        #[cfg(test)]
        if tests::PLAIN_TILES.get() {
            return Self::Tiled;
        }
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Amx => Self::Amx,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if std::arch::is_x86_feature_detected!("avx512vnni") => Self::Vnni,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx2 => Self::Avx2,
            _ => Self::Portable,
        }
    }

    /// Whether many rows go through tiles of the machine's own.
    fn has_tiles(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => true,
            #[cfg(test)]
            Self::Tiled => true,
            _ => false,
        }
    }

    fn run<W: Work>(self, work: &W) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        unsafe fn vnni<W: Work, const HAS_TILES: bool>(work: &W) {
            // SAFETY: as promised by the caller.
            unsafe { work.run::<avx512::Vnni<HAS_TILES>>() }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn avx2<W: Work>(work: &W) {
            // SAFETY: as promised by the caller.
            unsafe { work.run::<avx2::Avx2>() }
        }
        match self {
            // SAFETY: plain Rust.
            Self::Portable => unsafe { work.run::<Soft<false>>() },
            // SAFETY: plain Rust.
            #[cfg(test)]
            Self::Tiled => unsafe { work.run::<Soft<true>>() },
            // SAFETY: `now` says that AVX2, FMA and F16C were detected.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2(work) },
            // SAFETY: `now` says that AVX-512 and VNNI were detected.
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => unsafe { vnni::<W, false>(work) },
            // SAFETY: `now` says that AMX-INT8 was detected besides, and may be used.
            #[cfg(target_arch = "x86_64")]
            Self::Amx => unsafe { vnni::<W, true>(work) },
        }
    }
}
