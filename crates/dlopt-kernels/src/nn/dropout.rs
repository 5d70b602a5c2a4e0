//! Dropout (Srivastava et al. 2014) with a mask that is a function of the seed and of the place of a value.
//!
//! The mask is never stored: the gradient computes it again, and no cut into chunks changes it. Value `i` is kept where a
//! 31-bit hash of `i` is not below `rate 2^31`. The hash is two rounds of the finalizer of MurmurHash3 (Appleby 2011),
//! `h ^= h >> 16; h *= 0x85ebca6b; h ^= h >> 13; h *= 0xc2b2ae35; h ^= h >> 16`, over the low 32 bits of `i`; before each
//! round a key is added, and the keys come from the seed and the high 32 bits of `i` through SplitMix64 (Steele, Lea and
//! Flood 2014).

use super::bits::Bits;
use super::map::{Map, map};

/// `out = x / (1 - rate)` where the value is kept, else 0: the mean stays what it was.
///
/// `first` is the place of `x[0]` among all values under `seed` (the seed of one layer in one step). The gradient is the
/// same function of the gradient of `out`. A dropped NaN is 0. `rate` is in 0..=1; with 1 everything is 0.
///
/// # Panics
/// When the lengths differ or `rate` is not in 0..=1.
pub fn dropout(seed: u64, first: u64, rate: f32, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "`out` is as long as `x`");
    for (mask, start, end) in pieces(seed, first, rate, x.len()) {
        map(mask, [&x[start..end]], [&mut out[start..end]], end - start);
    }
}

/// [`dropout`] in place.
///
/// # Panics
/// When `rate` is not in 0..=1.
pub fn dropout_in_place(seed: u64, first: u64, rate: f32, values: &mut [f32]) {
    for (mask, start, end) in pieces(seed, first, rate, values.len()) {
        map(mask, [], [&mut values[start..end]], end - start);
    }
}

/// The mask of each piece of `len` values whose places have the same high 32 bits.
fn pieces(seed: u64, first: u64, rate: f32, len: usize) -> impl Iterator<Item = (Mask, usize, usize)> {
    assert!((0.0..=1.0).contains(&rate), "the rate of dropout is in 0..=1");
    // 2^31 itself would not be a positive integer; the largest hash is 2^31 - 1, so with rate 1 the factor is 0 too.
    let threshold = (f64::from(rate) * f64::from(1_u32 << 31)).round().min(f64::from(i32::MAX)) as u32;
    let factor = if rate < 1.0 { (1.0 / (1.0 - f64::from(rate))) as f32 } else { 0.0 };
    let mut start = 0;
    std::iter::from_fn(move || {
        let place = first.wrapping_add(start as u64);
        let until_carry = (1_u64 << 32) - (place & u64::from(u32::MAX));
        let end = start + usize::try_from(until_carry).unwrap_or(usize::MAX).min(len - start);
        if start == end {
            return None;
        }
        let key = split_mix(split_mix(seed).wrapping_add(place >> 32));
        let mask = Mask { low: place as u32, keys: [key as u32, (key >> 32) as u32], threshold, factor };
        let piece = (mask, start, end);
        start = end;
        Some(piece)
    })
}

/// One draw of SplitMix64 from the state `x`.
fn split_mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[derive(Clone, Copy)]
struct Mask {
    /// The low bits of the first place.
    low: u32,
    keys: [u32; 2],
    /// Hashes below are dropped.
    threshold: u32,
    /// What is kept is multiplied by this.
    factor: f32,
}

impl Mask {
    #[inline(always)]
    unsafe fn keep<T: Bits>(self, at: usize, x: T) -> T {
        // SAFETY: the caller's.
        unsafe {
            let mut hash = T::int_count(self.low.wrapping_add(at as u32));
            for key in self.keys {
                hash = hash.int_add(T::int_splat(key));
                hash = hash.xor(hash.int_shift_right(16)).int_mul(T::int_splat(0x85eb_ca6b));
                hash = hash.xor(hash.int_shift_right(13)).int_mul(T::int_splat(0xc2b2_ae35));
                hash = hash.xor(hash.int_shift_right(16));
            }
            let kept = x.mul(T::splat(self.factor));
            T::where_int_greater(T::int_splat(self.threshold), hash.int_shift_right(1), T::splat(0.0), kept)
        }
    }
}

impl Map<1, 1> for Mask {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, at: usize, [x]: [T; 1], _: [T; 1]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe { [self.keep(at, x)] }
    }
}
impl Map<0, 1> for Mask {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, at: usize, _: [T; 0], [x]: [T; 1]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe { [self.keep(at, x)] }
    }
}
