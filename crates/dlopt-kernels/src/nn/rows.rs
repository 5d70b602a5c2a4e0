//! Sums and maxima along a row, in 32 lanes whatever the width of a register.

use super::bits::Bits;
use super::map::{LANES, fold, read};

/// Registers of eight lanes that a sum is spread over.
const CHAINS: usize = 2 * LANES / 8;

/// A value at each place of a row, from `I` rows.
pub(super) trait Term<const I: usize>: Copy {
    /// One register.
    ///
    /// # Safety
    /// The instruction set of `T` is there.
    unsafe fn term<T: Bits>(self, x: [T; I]) -> T;
}

/// A [`Term`] that is one expression of captured numbers and of registers.
macro_rules! term {
    ($name:ident { $($field:ident),* } [$($x:ident),*; $count:literal] $value:expr) => {
        #[derive(Clone, Copy)]
        struct $name {
            $($field: f32),*
        }
        impl Term<$count> for $name {
            #[inline(always)]
            unsafe fn term<T: Bits>(self, [$($x),*]: [T; $count]) -> T {
                #[allow(unused_unsafe, reason = "an expression may be one of the registers")]
                // SAFETY: the caller's: the instruction set of `T` is there.
                unsafe {
                    $(let $field = T::splat(self.$field);)*
                    $value
                }
            }
        }
    };
}
pub(super) use term;

/// The sum of a row's terms: `f32` in 32 lanes, folded to 16, those in `f64`.
///
/// # Safety
/// The instruction set of `T` is there, inputs are `n` long.
#[inline(always)]
pub(super) unsafe fn row_sum<T: Bits, const I: usize>(term: impl Term<I>, inputs: [*const f32; I], n: usize) -> f64 {
    // SAFETY: the caller's; nothing is written.
    unsafe { sum::<T, I, false>(term, inputs, std::ptr::null_mut(), n) }
}

/// As [`row_sum`]; the terms are also written to `out`, which may be one of the inputs.
///
/// # Safety
/// The instruction set of `T` is there, inputs and `out` are `n` long.
#[inline(always)]
pub(super) unsafe fn row_write_sum<T: Bits, const I: usize>(
    term: impl Term<I>,
    inputs: [*const f32; I],
    out: *mut f32,
    n: usize,
) -> f64 {
    // SAFETY: the caller's.
    unsafe { sum::<T, I, true>(term, inputs, out, n) }
}

/// Writes the terms of a row to `out`, which may be one of the inputs.
///
/// # Safety
/// The instruction set of `T` is there, inputs and `out` are `n` long.
#[inline(always)]
pub(super) unsafe fn row_write<T: Bits, const I: usize>(
    term: impl Term<I>,
    inputs: [*const f32; I],
    out: *mut f32,
    n: usize,
) {
    let mut at = 0;
    // SAFETY: the caller's.
    unsafe {
        while at < n {
            let left = (n - at).min(T::N);
            term.term::<T>(read(inputs, at, left)).store_up_to(out.add(at), left);
            at += left;
        }
    }
}

#[inline(always)]
unsafe fn sum<T: Bits, const I: usize, const WRITE: bool>(
    term: impl Term<I>,
    inputs: [*const f32; I],
    out: *mut f32,
    n: usize,
) -> f64 {
    let mut lanes = [0.0_f32; LANES];
    // SAFETY: the caller's; a register's sums lie in its part of `LANES`.
    unsafe {
        let chains = 2 * LANES / T::N;
        let mut sums = [T::splat(0.0); CHAINS];
        let mut at = 0;
        while at < n {
            for sum in &mut sums[..chains] {
                let left = (n - at).min(T::N);
                if left == 0 {
                    break;
                }
                let term = term.term::<T>(read(inputs, at, left));
                if WRITE {
                    term.store_up_to(out.add(at), left);
                }
                *sum = sum.add(if left < T::N { term.first(left) } else { term });
                at += left;
            }
        }
        for half in 0..chains / 2 {
            sums[half].add(sums[half + chains / 2]).store(lanes.as_mut_ptr().add(half * T::N));
        }
    }
    fold(&lanes.map(f64::from))
}

/// The largest value of a row; minus infinity of an empty one. Which of two zeros, or what next to NaN, is not said.
///
/// # Safety
/// The instruction set of `T` is there, `x` is `n` long.
#[inline(always)]
pub(super) unsafe fn row_max<T: Bits>(x: *const f32, n: usize) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    // SAFETY: the caller's; a register fits in `LANES`.
    unsafe {
        let mut largest = T::splat(f32::NEG_INFINITY);
        let mut at = 0;
        while at + T::N <= n {
            largest = largest.max(T::load(x.add(at)));
            at += T::N;
        }
        if at < n {
            let inside = T::int_splat((n - at) as u32);
            let last = T::load_part(x.add(at), n - at);
            largest = largest.max(T::where_int_greater(inside, T::int_count(0), last, T::splat(f32::NEG_INFINITY)));
        }
        largest.store(lanes.as_mut_ptr());
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = if lanes[i] > lanes[i + half] { lanes[i] } else { lanes[i + half] };
        }
        half /= 2;
    }
    lanes[0]
}
