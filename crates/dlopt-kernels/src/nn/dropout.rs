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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{bits, values};

    /// 1 where a value is kept.
    fn mask(seed: u64, first: u64, rate: f32, len: usize) -> Vec<f64> {
        let mut out = vec![1.0; len];
        dropout_in_place(seed, first, rate, &mut out);
        out.iter().map(|x| f64::from(u8::from(*x > 0.0))).collect()
    }

    #[test]
    fn the_share_that_is_kept_is_the_rates() {
        let len = 200_001;
        for rate in [0.1_f32, 0.25, 0.5, 0.9] {
            for seed in 0..4 {
                let kept = mask(seed, seed << 20, rate, len).iter().sum::<f64>() / len as f64;
                let rate = f64::from(rate);
                let deviation = (rate * (1.0 - rate) / len as f64).sqrt();
                assert!((kept - (1.0 - rate)).abs() < 4.5 * deviation, "kept {kept} with rate {rate}");
            }
        }
    }

    #[test]
    fn neighbours_rows_and_seeds_are_not_correlated() {
        let len = 1 << 18;
        let base = mask(1, 0, 0.5, len + 5000);
        let shifts = [1, 2, 3, 4, 8, 16, 28, 32, 64, 128, 784, 1024, 4096];
        let others = shifts.map(|shift| base[shift..shift + len].to_vec());
        let seeds = [2, 3, 257, 1 << 32, u64::MAX].map(|seed| mask(seed, 0, 0.5, len));
        let high = [mask(1, 1 << 32, 0.5, len), mask(1, 1 << 40, 0.5, len)];
        for other in others.iter().chain(&seeds).chain(&high) {
            let both = base.iter().zip(other).map(|(a, b)| (a - 0.5) * (b - 0.5)).sum::<f64>() * 4.0 / len as f64;
            // A correlation's standard deviation is 1 / sqrt(len).
            assert!(both.abs() < 4.5 / (len as f64).sqrt(), "correlation {both}");
        }
    }

    #[test]
    fn counts_of_neighbouring_bits_are_even() {
        // Chi-squared of the 256 patterns of eight neighbours: 255 degrees of freedom, deviation 22.6.
        let len = 1 << 19;
        for seed in [0, 1, 99] {
            let mut counts = [0.0_f64; 256];
            for eight in mask(seed, 0, 0.5, len).chunks_exact(8) {
                counts[eight.iter().fold(0, |code, kept| code * 2 + *kept as usize)] += 1.0;
            }
            let wanted = (len / 8) as f64 / 256.0;
            let chi = counts.iter().map(|count| (count - wanted) * (count - wanted) / wanted).sum::<f64>();
            assert!((chi - 255.0).abs() < 4.5 * 22.6, "chi-squared {chi}");
        }
    }

    #[test]
    fn chunks_and_instruction_sets_give_the_same_bytes() {
        // Across the carry into the high 32 bits too.
        for first in [0, 12_345, (1 << 32) - 20, u64::MAX - 50] {
            let x = values(203, 1);
            let whole = at_every_level(|| {
                let mut out = vec![f32::NAN; 203];
                dropout(7, first, 0.3, &x, &mut out);
                bits(&out)
            });
            for chunk in [1, 7, 64] {
                let mut pieces = x.clone();
                for (i, piece) in pieces.chunks_mut(chunk).enumerate() {
                    dropout_in_place(7, first.wrapping_add((i * chunk) as u64), 0.3, piece);
                }
                assert_eq!(bits(&pieces), whole);
            }
        }
    }

    #[test]
    fn what_is_kept_is_scaled_and_the_ends_keep_all_or_nothing() {
        let x = values(37, 2);
        let mut out = vec![f32::NAN; 37];
        dropout(3, 0, 0.0, &x, &mut out);
        assert_eq!(out, x);
        dropout(3, 0, 1.0, &x, &mut out);
        assert!(out.iter().all(|out| *out == 0.0));
        dropout(3, 0, 0.75, &x, &mut out);
        assert!(x.iter().zip(&out).all(|(x, out)| *out == 0.0 || *out == 4.0 * x));
    }

    #[test]
    #[should_panic(expected = "in 0..=1")]
    fn a_rate_above_one_is_refused() {
        dropout_in_place(0, 0, 1.5, &mut [1.0]);
    }
}
