//! How weights are coded: units of sixteen outputs by a few inputs, and the way from a unit to registers of `f32`.
//!
//! Byte `o` of a unit belongs to output `o`, so registers are filled without a shuffle. Fields of less than a byte lie in
//! the order of inputs from the low bits up, as `code + 2^(bits - 1)`.
#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract: see `Coding`")]

use super::registers::Register;

/// Outputs of a panel, as in the packed weights of [`crate::nn::Dense`].
pub(super) const PANEL: usize = 16;

/// Most inputs of a unit.
pub(super) const MOST_INPUTS: usize = 4;

/// One way to code weights.
///
/// # Safety
/// For `values`: the registers' instruction set is there, and `unit` is valid for the bytes of as many outputs as a
/// register has lanes.
pub(super) trait Coding {
    /// Inputs of a unit.
    const INPUTS: usize = 1;
    /// Bytes of an output in a unit.
    const BYTES: usize = 1;
    /// What fields stand above the codes.
    const MIDDLE: f32 = 0.0;
    /// Whether values are multiplied by a scale.
    const HAS_SCALE: bool = true;
    /// Whether panels are what a dense layer packs.
    const IS_PLAIN: bool = false;
    /// The values of a unit, a register for each input; those after `INPUTS` have no meaning.
    unsafe fn values<T: Register>(unit: *const u8) -> [T; MOST_INPUTS];
}

/// Integers of a byte.
pub(super) struct Int8;

impl Coding for Int8 {
    #[inline(always)]
    unsafe fn values<T: Register>(unit: *const u8) -> [T; MOST_INPUTS] {
        [T::of_integer(T::load_signed(unit)); MOST_INPUTS]
    }
}

/// Integers of half a byte.
pub(super) struct Int4;

impl Coding for Int4 {
    const INPUTS: usize = 2;
    const MIDDLE: f32 = 8.0;

    #[inline(always)]
    unsafe fn values<T: Register>(unit: *const u8) -> [T; MOST_INPUTS] {
        let both = T::load_unsigned(unit);
        let (low, high) = (T::of_integer(T::and(both, 15)), T::of_integer(T::shift_right(both, 4)));
        [low, high, low, high]
    }
}

/// Integers of a quarter of a byte.
pub(super) struct Int2;

impl Coding for Int2 {
    const INPUTS: usize = 4;
    const MIDDLE: f32 = 2.0;

    #[inline(always)]
    unsafe fn values<T: Register>(unit: *const u8) -> [T; MOST_INPUTS] {
        let all = T::load_unsigned(unit);
        [
            T::of_integer(T::and(all, 3)),
            T::of_integer(T::and(T::shift_right(all, 2), 3)),
            T::of_integer(T::and(T::shift_right(all, 4), 3)),
            T::of_integer(T::shift_right(all, 6)),
        ]
    }
}

/// Floats E4M3 of a byte, without NaN.
pub(super) struct Float8;

impl Coding for Float8 {
    #[inline(always)]
    unsafe fn values<T: Register>(unit: *const u8) -> [T; MOST_INPUTS] {
        // Sign, exponent and mantissa where `f32` has them: 2^-120 times the value, subnormal where the code is.
        let small = T::of_bits(T::and(T::shift_left(T::load_signed(unit), 20), 0x87f0_0000));
        [small.mul(T::splat(f32::from_bits((127 + 120) << 23))); MOST_INPUTS]
    }
}

/// IEEE 754 binary16.
pub(super) struct Half;

impl Coding for Half {
    const BYTES: usize = 2;
    const HAS_SCALE: bool = false;

    #[inline(always)]
    unsafe fn values<T: Register>(unit: *const u8) -> [T; MOST_INPUTS] {
        [T::load_half(unit.cast()); MOST_INPUTS]
    }
}

/// The upper half of `f32`.
pub(super) struct Brain;

impl Coding for Brain {
    const BYTES: usize = 2;
    const HAS_SCALE: bool = false;

    #[inline(always)]
    unsafe fn values<T: Register>(unit: *const u8) -> [T; MOST_INPUTS] {
        [T::of_bits(T::shift_left(T::load_wide(unit.cast()), 16)); MOST_INPUTS]
    }
}

/// `f32` itself.
pub(super) struct Single;

impl Coding for Single {
    const BYTES: usize = 4;
    const HAS_SCALE: bool = false;
    const IS_PLAIN: bool = true;

    #[inline(always)]
    unsafe fn values<T: Register>(unit: *const u8) -> [T; MOST_INPUTS] {
        [T::load(unit.cast()); MOST_INPUTS]
    }
}
