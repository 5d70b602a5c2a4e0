//! Registers of 32-bit integers, one for each output, and the few steps that kernels of integer codes are made of.
//!
//! Weights come as unsigned bytes, four inputs of an output beside each other (a *quad*), activations as signed bytes of
//! which every lane takes the same quad. Where a machine multiplies bytes without saturation (VNNI) a step is one
//! instruction; elsewhere bytes are multiplied as 16-bit integers ([`Integers::IS_WIDE`]), and codes below 16 as bytes whose
//! products are summed in 16 bits first. All of it is exact.
//!
//! # Safety
//! Methods may be called only where the instruction set of their type was detected, and pointers must be valid for what is
//! read or written: a register is `4 * N` bytes.

#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract, stated above")]

use super::unit::Unit;
use crate::nn::simd::V;

/// Outputs of a panel of packed weights: a register of AVX-512, two of AVX2.
pub(super) const PANEL: usize = 16;
/// Inputs that are handled at a time: quantized rows are padded to a multiple.
pub(super) const BLOCK: usize = 32;

/// What the ends of sums need of a register of floats.
pub(super) trait Floats: Copy {
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    /// The first `lanes` from memory, the others 0.
    unsafe fn load_part(p: *const f32, lanes: usize) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn store_part(self, p: *mut f32, lanes: usize);
    /// `a * b + self`.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// At least 0; NaN stays.
    unsafe fn relu(self) -> Self;
}

impl<T: V> Floats for T {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        <T as V>::splat(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        <T as V>::load(p)
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, lanes: usize) -> Self {
        <T as V>::load_part(p, lanes)
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        <T as V>::store(self, p)
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, lanes: usize) {
        <T as V>::store_part(self, p, lanes)
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        <T as V>::fma(self, a, b)
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // The second operand comes back where one is NaN.
        <T as V>::splat(0.0).max(self)
    }
}

/// A register of `N` signed 32-bit integers, wrapping.
pub(super) trait Integers: Copy {
    /// As many floats.
    type Floats: Floats;
    /// Sums of products of codes below 16, over at most [`BLOCK`] inputs.
    type Partial: Copy;
    const N: usize;
    /// Bytes are multiplied as 16-bit integers: activations are read as [`Self::widen`] writes them.
    const IS_WIDE: bool;
    /// Many rows are multiplied by tiles of the machine's own, with this.
    const HAS_TILES: bool = false;
    type Unit: Unit;
    /// Panels of a tile, at most, and rows of one with as many panels.
    const PANELS: usize;
    const ROWS: usize;
    /// Rows of a tile where codes are below 16.
    const SMALL_ROWS: usize;

    unsafe fn splat(x: i32) -> Self;
    unsafe fn load(p: *const u8) -> Self;
    unsafe fn store(self, p: *mut u8);
    unsafe fn add(self, o: Self) -> Self;
    unsafe fn sub(self, o: Self) -> Self;
    /// Every 8 bits by themselves.
    unsafe fn sub_8(self, o: Self) -> Self;
    /// Every 16 bits by themselves.
    unsafe fn sub_16(self, o: Self) -> Self;
    unsafe fn mul(self, o: Self) -> Self;
    unsafe fn max(self, o: Self) -> Self;
    unsafe fn and(self, o: Self) -> Self;
    /// Every 16 bits by themselves, zeros from above.
    unsafe fn shift_right_16<const K: u32>(self) -> Self;
    unsafe fn to_floats(self) -> Self::Floats;
    /// `N` signed bytes.
    unsafe fn load_bytes(p: *const i8) -> Self;
    /// `N` floats of 16 bits, finite.
    unsafe fn load_halves(p: *const u16) -> Self::Floats;

    /// Adds the products of each lane's quad of unsigned bytes and the quad of activations at `x`: 4 signed bytes, or 8
    /// bytes of [`Self::widen`] where [`Self::IS_WIDE`].
    unsafe fn dot(self, weights: Self, x: *const u8) -> Self;
    /// Adds the products of each lane's pair of signed 16-bit integers and the pair at `x`.
    unsafe fn dot_pairs(self, weights: Self, x: *const u8) -> Self;

    /// A sum that goes on from `self`, for up to eight [`Self::step`]s.
    unsafe fn begin(self) -> Self::Partial;
    /// Adds the products of each lane's quad of unsigned bytes below 16 and the quad of signed bytes at `x`.
    unsafe fn step(sum: Self::Partial, weights: Self, x: *const u8) -> Self::Partial;
    /// `self` and the products summed since [`Self::begin`] was called on it.
    unsafe fn settle(self, sum: Self::Partial) -> Self;

    /// Rounds [`BLOCK`] floats times `factor` to even, within -127..=127; NaN gives any code.
    unsafe fn quantize(x: *const f32, factor: f32, codes: *mut i8);
    /// The sum of so many times [`BLOCK`] codes.
    unsafe fn sum(codes: *const i8, blocks: usize) -> i32;
    /// Writes [`BLOCK`] codes as 16-bit integers, each quad in the order 0, 2, 1, 3.
    unsafe fn widen(codes: *const i8, to: *mut u8);
    /// The last lanes of a tile's weights are asked for from memory.
    unsafe fn prefetch(p: *const u8);
}
