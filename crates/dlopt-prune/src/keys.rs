//! Keys of elements: integers that order like the criterion, in the element type of the file or in one that several
//! tensors share.

use dlopt_checkpoint::{Dtype, RowReport};
use dlopt_kernels::{
    Float, PruneStats, count_below_16, count_below_32, tally_magnitude_16, tally_magnitude_32_high,
    tally_magnitude_32_low, zero_below_16, zero_below_32,
};

use crate::criteria::Rank;

/// How many bits keys have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// 15 bits: magnitudes of one 16-bit type.
    Half,
    /// 31 bits, magnitudes as f32; or 32 bits, drawn.
    Single,
    /// 63 bits: magnitudes as f64.
    Double,
}

impl Width {
    /// Where the first digit of a radix search begins; digits have 16 bits.
    pub(crate) fn first_shift(self) -> u32 {
        match self {
            Self::Half => 0,
            Self::Single => 16,
            Self::Double => 48,
        }
    }

    /// Bins of a histogram over one digit.
    pub(crate) fn bins(self) -> usize {
        if self == Self::Half { 1 << 15 } else { 1 << 16 }
    }
}

/// The element type of a dtype whose weights can be pruned.
pub(crate) fn float_of(dtype: Dtype) -> Option<Float> {
    match dtype {
        Dtype::F16 => Some(Float::F16),
        Dtype::BF16 => Some(Float::BF16),
        Dtype::F32 => Some(Float::F32),
        Dtype::F64 => Some(Float::F64),
        _ => None,
    }
}

/// The keys of one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    pub(crate) kind: Float,
    pub(crate) width: Width,
    pub(crate) rank: Rank,
    pub(crate) stream: u64,
}

impl Keys {
    /// Calls `see` with each element's place in `bytes` and its key. `first` is the index of the first in the tensor.
    pub(crate) fn each(&self, bytes: &[u8], first: u64, mut see: impl FnMut(usize, u64)) {
        let key = |i: usize, native: u64| match self.rank {
            Rank::Magnitude => lift(self.kind, self.width, native),
            Rank::Drawn(draw) if native != 0 => u64::from(draw(self.stream, first + i as u64)),
            Rank::Drawn(_) => 0,
        };
        match self.kind {
            Float::F16 | Float::BF16 => {
                for (i, b) in bytes.as_chunks().0.iter().enumerate() {
                    see(i, key(i, u64::from(u16::from_le_bytes(*b) & 0x7fff)));
                }
            }
            Float::F32 => {
                for (i, b) in bytes.as_chunks().0.iter().enumerate() {
                    see(i, key(i, u64::from(u32::from_le_bytes(*b) & 0x7fff_ffff)));
                }
            }
            Float::F64 => {
                for (i, b) in bytes.as_chunks().0.iter().enumerate() {
                    see(i, key(i, u64::from_le_bytes(*b) & (u64::MAX >> 1)));
                }
            }
        }
    }

    /// Adds the digit at `shift` of each key that begins with `prefix` to `counts`, which must not overflow.
    pub(crate) fn tally(&self, bytes: &[u8], first: u64, shift: u32, prefix: u64, counts: &mut [u32]) {
        match (self.rank, self.kind, self.width, shift) {
            (Rank::Magnitude, Float::F16 | Float::BF16, Width::Half, _)
            | (Rank::Magnitude, Float::BF16, Width::Single, 16) => tally_magnitude_16(bytes, &mut counts[..1 << 15]),
            (Rank::Magnitude, Float::BF16, Width::Single, 0) => {
                counts[0] += count_below_16(bytes, prefix as u16).1 as u32;
            }
            (Rank::Magnitude, Float::F32, Width::Single, 16) => {
                tally_magnitude_32_high(bytes, &mut counts[..1 << 15]);
            }
            (Rank::Magnitude, Float::F32, Width::Single, 0) => tally_magnitude_32_low(bytes, prefix as u32, counts),
            _ => {
                let is_first = shift == self.width.first_shift();
                self.each(bytes, first, |_, key| {
                    let digit = key >> shift;
                    if is_first || digit >> 16 == prefix {
                        counts[(digit & 0xffff) as usize] += 1;
                    }
                });
            }
        }
    }

    /// How many keys are below `key`, and how many equal to it.
    pub(crate) fn count(&self, bytes: &[u8], first: u64, key: u64) -> (u64, u64) {
        let (native, is_exact) = self.native(key);
        let (below, equal) = match (self.rank, self.kind) {
            (Rank::Magnitude, Float::F16 | Float::BF16) => count_below_16(bytes, native as u16),
            (Rank::Magnitude, Float::F32) => count_below_32(bytes, native as u32),
            _ => {
                let (mut below, mut equal) = (0, 0);
                self.each(bytes, first, |_, k| {
                    below += u64::from(k < key);
                    equal += u64::from(k == key);
                });
                return (below, equal);
            }
        };
        (below, if is_exact { equal } else { 0 })
    }

    /// Copies what is kept and writes +0 for the rest: keys below `key`, and those equal to it before place `cut`.
    pub(crate) fn zero(&self, bytes: &[u8], first: u64, key: u64, cut: usize, out: &mut [u8]) -> RowReport {
        let (native, is_exact) = self.native(key);
        let native_cut = if is_exact { cut } else { 0 };
        let weights = bytes.len() / self.kind.bytes();
        match (self.rank, self.kind) {
            (Rank::Magnitude, Float::F16 | Float::BF16) => {
                report(weights, &zero_below_16(self.kind, bytes, native as u16, native_cut, out))
            }
            (Rank::Magnitude, Float::F32) => report(weights, &zero_below_32(bytes, native as u32, native_cut, out)),
            _ => {
                let mut is_kept = vec![false; weights];
                self.each(bytes, first, |i, k| is_kept[i] = k > key || (k == key && i >= cut));
                copy_kept(self.kind, bytes, &is_kept, out)
            }
        }
    }

    /// The smallest key of the file's own type that is no less than `key`, and whether it is `key`.
    fn native(&self, key: u64) -> (u64, bool) {
        let end = match self.kind {
            Float::F16 | Float::BF16 => 1u64 << 15,
            Float::F32 => 1 << 31,
            Float::F64 => return (key, true),
        };
        let (mut low, mut high) = (0, end);
        while low < high {
            let middle = (low + high) / 2;
            if lift(self.kind, self.width, middle) < key { low = middle + 1 } else { high = middle }
        }
        (low, low < end && lift(self.kind, self.width, low) == key)
    }
}

/// A magnitude of the file's own type as one of `width`; keeps the order, NaN and infinity included.
fn lift(kind: Float, width: Width, native: u64) -> u64 {
    let single = |native: u64| match kind {
        Float::BF16 => native << 16,
        Float::F16 => u64::from(single_of_half(native as u32)),
        Float::F32 | Float::F64 => native,
    };
    match width {
        Width::Half => native,
        Width::Single => single(native),
        Width::Double if kind == Float::F64 => native,
        Width::Double => double_of_single(single(native) as u32),
    }
}

fn single_of_half(key: u32) -> u32 {
    match key >> 10 {
        // Subnormals are multiples of 2^-24.
        0 => (key as f32 * (1.0 / 16_777_216.0)).to_bits(),
        31 => (key << 13) | 0x7f80_0000,
        _ => (key << 13) + (112 << 23),
    }
}

fn double_of_single(key: u32) -> u64 {
    if key >= 0x7f80_0000 {
        // By hand: a conversion may change the payload of NaN.
        return (0x7ff << 52) | (u64::from(key & 0x007f_ffff) << 29);
    }
    f64::from(f32::from_bits(key)).to_bits()
}

/// Copies elements that are kept, and writes +0 for the others.
pub(crate) fn copy_kept(kind: Float, bytes: &[u8], is_kept: &[bool], out: &mut [u8]) -> RowReport {
    let size = kind.bytes();
    for ((before, after), kept) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(size)).zip(is_kept) {
        if *kept { after.copy_from_slice(before) } else { after.fill(0) }
    }
    report_kept(kind, bytes, is_kept)
}

/// What dropping all but the kept elements of a row changes.
pub(crate) fn report_kept(kind: Float, bytes: &[u8], is_kept: &[bool]) -> RowReport {
    let mut sums = RowReport { weights: is_kept.len() as u64, ..RowReport::default() };
    for (i, kept) in is_kept.iter().enumerate() {
        let x = value(kind, bytes, i);
        sums.zeros_before += u64::from(x == 0.0);
        sums.zeros_after += u64::from(x == 0.0 || !kept);
        if x.is_finite() {
            sums.signal += x * x;
            if !kept {
                sums.noise += x * x;
                sums.max_error = sums.max_error.max(x.abs() as f32);
            }
        }
    }
    sums
}

/// One element, exactly.
fn value(kind: Float, bytes: &[u8], i: usize) -> f64 {
    let magnitude = |native: u64| f64::from_bits(lift(kind, Width::Double, native));
    match kind {
        Float::F16 | Float::BF16 => magnitude(u64::from(u16::from_le_bytes(bytes.as_chunks().0[i]) & 0x7fff)),
        Float::F32 => magnitude(u64::from(u32::from_le_bytes(bytes.as_chunks().0[i]) & 0x7fff_ffff)),
        Float::F64 => f64::from_le_bytes(bytes.as_chunks().0[i]),
    }
}

/// The report of a row from the kernels' figures.
pub(crate) fn report(weights: usize, stats: &PruneStats) -> RowReport {
    RowReport {
        weights: weights as u64,
        zeros_before: stats.zeros_before,
        zeros_after: stats.zeros_after,
        signal: stats.signal,
        noise: stats.noise,
        plain_noise: None,
        max_error: stats.max_error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn lifted_magnitudes_are_the_same_numbers() {
        for key in 0..0x7c00u16 {
            assert_eq!(single_of_half(key.into()), f16::from_bits(key).to_f32().to_bits(), "{key:x}");
        }
        for x in [0.0f32, 1e-45, 1e-38, 1.5, f32::MAX, f32::INFINITY] {
            assert_eq!(f64::from_bits(double_of_single(x.to_bits())), f64::from(x));
        }
    }

    #[test]
    fn lifting_keeps_the_order() {
        let keys: Vec<u64> = (0..1 << 15).map(|n| lift(Float::F16, Width::Double, n)).collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_key_between_two_halves_is_taken_as_the_upper_one() {
        let keys = Keys { kind: Float::F16, width: Width::Single, rank: Rank::Magnitude, stream: 0 };
        let one = u64::from(1f32.to_bits());
        assert_eq!(keys.native(one), (0x3c00, true));
        assert_eq!(keys.native(one + 1), (0x3c01, false));
        assert_eq!(keys.native(u64::MAX), (1 << 15, false));
    }
}
