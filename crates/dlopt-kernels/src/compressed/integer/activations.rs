//! Rows of floats to signed bytes, `code = round(x / scale)` with ties to even and `scale = max |x| / 127` (or a given one).
//!
//! Codes are within -127..=127. A row that holds NaN or infinity has codes of 0 and the scale NaN, so that all its sums are
//! NaN. A row whose magnitudes are all below 2^-120, of which 127 has no finite multiple, counts as zeros.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`")]

use super::registers::{BLOCK, Integers};

/// What a scale is at least, in [`f32::to_bits`]: 2^-120.
const SMALLEST: u32 = 7 << 23;
/// Infinity, in [`f32::to_bits`].
const INFINITE: u32 = 0xff << 23;

/// Says whether `scale` can be given for activations.
pub(super) fn is_scale(scale: f32) -> bool {
    (SMALLEST..INFINITE).contains(&scale.to_bits())
}

/// Writes the codes of `len` floats, zeros up to a whole [`BLOCK`], and their sum over each `group`, and returns the scale.
///
/// `to` takes a byte a code or, with `is_wide`, the 2 bytes of [`Integers::widen`]. `group` is a multiple of [`BLOCK`], or
/// at least `len`.
#[inline(always)]
pub(super) unsafe fn quantize_row<T: Integers>(
    x: *const f32,
    len: usize,
    given: Option<f32>,
    group: usize,
    is_wide: bool,
    to: *mut u8,
    sums: *mut i32,
) -> f32 {
    let (scale, factor) = scale_of(greatest::<T>(x, len), given);
    let group = group.min(len.next_multiple_of(BLOCK));
    let (mut begin, mut sum, mut sums) = (0, 0, sums);
    for at in (0..len).step_by(BLOCK) {
        let mut codes = [0_i8; BLOCK];
        if factor == 0.0 {
            // All codes are 0.
        } else if len - at >= BLOCK {
            T::quantize(x.add(at), factor, codes.as_mut_ptr());
        } else {
            let mut part = [0.0_f32; BLOCK];
            std::ptr::copy_nonoverlapping(x.add(at), part.as_mut_ptr(), len - at);
            T::quantize(part.as_ptr(), factor, codes.as_mut_ptr());
        }
        if is_wide {
            T::widen(codes.as_ptr(), to.add(2 * at));
        } else {
            (to.add(at) as *mut [i8; BLOCK]).write_unaligned(codes);
        }
        if is_wide {
            sum += T::sum(codes.as_ptr(), 1);
        }
        let end = at + BLOCK;
        if end - begin == group || end >= len {
            if !is_wide {
                sum = T::sum(to.add(begin) as *const i8, (end - begin) / BLOCK);
            }
            *sums = sum;
            (begin, sum, sums) = (end, 0, sums.wrapping_add(1));
        }
    }
    scale
}

/// Scale, and the factor that makes a float its code, for the greatest magnitude of a row.
#[inline(always)]
fn scale_of(greatest: u32, given: Option<f32>) -> (f32, f32) {
    match given {
        _ if greatest >= INFINITE => (f32::NAN, 0.0),
        Some(scale) => (scale, 1.0 / scale),
        None if greatest < SMALLEST => (0.0, 0.0),
        None => (f32::from_bits(greatest) / 127.0, 127.0 / f32::from_bits(greatest)),
    }
}

/// The greatest magnitude, in [`f32::to_bits`]: that of NaN is above infinity's.
#[inline(always)]
unsafe fn greatest<T: Integers>(x: *const f32, len: usize) -> u32 {
    let sign = T::splat(i32::MAX);
    let mut most = [T::splat(0); 4];
    let whole = len - len % (4 * T::N);
    for at in (0..whole).step_by(4 * T::N) {
        for (i, most) in most.iter_mut().enumerate() {
            *most = most.max(T::load(x.add(at + i * T::N) as *const u8).and(sign));
        }
    }
    let most = most[0].max(most[1]).max(most[2].max(most[3]));
    let mut lanes = [0_u32; 16];
    most.store(lanes.as_mut_ptr() as *mut u8);
    let mut greatest = 0;
    for lane in lanes {
        greatest = greatest.max(lane);
    }
    for at in whole..len {
        greatest = greatest.max((*x.add(at)).to_bits() & i32::MAX.cast_unsigned());
    }
    greatest
}
