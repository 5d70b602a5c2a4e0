//! Counting magnitudes, to find the k-th smallest of a tensor that is streamed.
//!
//! 16-bit floats need one pass of [`tally_magnitude_16`]: the histogram has one
//! bin for each magnitude. 32-bit floats need two passes: [`tally_magnitude_32_high`]
//! finds the bin the k-th falls in, [`tally_magnitude_32_low`] its place within.
//! Where a sample can be had first, [`crate::keys_within_32`] takes one faster pass.

/// Elements counted in 16-bit lanes before they go into a total.
const STRIDE: usize = 8192;

/// Bytes from which spreading counts over several histograms pays.
const SPREAD_BYTES: usize = 1 << 20;

/// Adds 1 to `counts[key]` for each 16-bit float.
///
/// `counts`: 32768, wrapping past `u32::MAX`: add into wider totals before 2^32
/// elements.
pub fn tally_magnitude_16(bytes: &[u8], counts: &mut [u32]) {
    let counts = histogram(counts);
    let elements = bytes.as_chunks().0;
    tally(elements, counts, |b: [u8; 2]| u16::from_le_bytes(b) & 0x7fff);
}

/// Adds 1 to `counts[key >> 16]` for each 32-bit float.
///
/// `counts`: 32768, wrapping past `u32::MAX`.
pub fn tally_magnitude_32_high(bytes: &[u8], counts: &mut [u32]) {
    let counts = histogram(counts);
    let elements = bytes.as_chunks().0;
    tally(elements, counts, |b: [u8; 4]| u16::from_le_bytes([b[2], b[3]]) & 0x7fff);
}

fn histogram(counts: &mut [u32]) -> &mut [u32; 32768] {
    counts.try_into().expect("a histogram of 15 bits has 32768 bins")
}

/// Counts into four histograms in turn: equal neighbours would otherwise each wait
/// for the store before.
fn tally<const N: usize>(elements: &[[u8; N]], counts: &mut [u32; 32768], bin: impl Fn([u8; N]) -> u16) {
    if elements.len() * N < SPREAD_BYTES {
        for b in elements {
            let count = &mut counts[usize::from(bin(*b) & 0x7fff)];
            *count = count.wrapping_add(1);
        }
        return;
    }
    let mut spread = vec![[0u32; 4]; 32768];
    let spread: &mut [[u32; 4]; 32768] = spread.as_mut_slice().try_into().expect("made with this length");
    let (quads, rest) = elements.as_chunks::<4>();
    for quad in quads {
        for (i, b) in quad.iter().enumerate() {
            spread[usize::from(bin(*b) & 0x7fff)][i] += 1;
        }
    }
    for b in rest {
        spread[usize::from(bin(*b) & 0x7fff)][0] += 1;
    }
    for (count, four) in counts.iter_mut().zip(spread) {
        *count = four.iter().fold(*count, |sum, n| sum.wrapping_add(*n));
    }
}

/// Among 32-bit floats with `key >> 16 == high`, adds 1 to `counts[key & 0xffff]`.
///
/// `counts`: 65536, wrapping past `u32::MAX`.
pub fn tally_magnitude_32_low(bytes: &[u8], high: u32, counts: &mut [u32]) {
    assert_eq!(counts.len(), 65536);
    dispatch!(low_body(bytes: &[u8], high: u32, counts: &mut [u32]))
}

#[inline(always)]
fn low_body(bytes: &[u8], high: u32, counts: &mut [u32]) {
    let elements = bytes.as_chunks::<4>().0;
    for chunk in elements.chunks(32) {
        let any = chunk.iter().fold(false, |any, b| any | (key_32(*b) >> 16 == high));
        if any {
            for b in chunk {
                let key = key_32(*b);
                if key >> 16 == high {
                    let count = &mut counts[(key & 0xffff) as usize];
                    *count = count.wrapping_add(1);
                }
            }
        }
    }
}

#[inline(always)]
fn key_16(b: [u8; 2]) -> u16 {
    u16::from_le_bytes(b) & 0x7fff
}

#[inline(always)]
fn key_32(b: [u8; 4]) -> u32 {
    u32::from_le_bytes(b) & 0x7fff_ffff
}

/// How many 16-bit floats have a key below `threshold`, and how many equal to it.
pub fn count_below_16(bytes: &[u8], threshold: u16) -> (u64, u64) {
    dispatch!(count_16_body(bytes: &[u8], threshold: u16) -> (u64, u64))
}

#[inline(always)]
fn count_16_body(bytes: &[u8], threshold: u16) -> (u64, u64) {
    let (mut below, mut equal) = (0, 0);
    for chunk in bytes.as_chunks().0.chunks(STRIDE) {
        let (mut b, mut e) = (0u16, 0u16);
        for x in chunk {
            b += u16::from(key_16(*x) < threshold);
            e += u16::from(key_16(*x) == threshold);
        }
        below += u64::from(b);
        equal += u64::from(e);
    }
    (below, equal)
}

/// How many 32-bit floats have a key below `threshold`, and how many equal to it.
pub fn count_below_32(bytes: &[u8], threshold: u32) -> (u64, u64) {
    dispatch!(count_32_body(bytes: &[u8], threshold: u32) -> (u64, u64))
}

#[inline(always)]
fn count_32_body(bytes: &[u8], threshold: u32) -> (u64, u64) {
    let (mut below, mut equal) = (0, 0);
    for chunk in bytes.as_chunks().0.chunks(STRIDE) {
        let (mut b, mut e) = (0u32, 0u32);
        for x in chunk {
            b += u32::from(key_32(*x) < threshold);
            e += u32::from(key_32(*x) == threshold);
        }
        below += u64::from(b);
        equal += u64::from(e);
    }
    (below, equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use proptest::prelude::*;

    #[test]
    fn large_slices_count_like_small_ones() {
        let bytes: Vec<u8> =
            (0..SPREAD_BYTES as u32 + 6).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let (mut whole, mut parts) = (vec![1; 32768], vec![1; 32768]);
        tally_magnitude_16(&bytes, &mut whole);
        bytes.chunks(1026).for_each(|part| tally_magnitude_16(part, &mut parts));
        assert!(whole == parts);
        tally_magnitude_32_high(&bytes, &mut whole);
        bytes.chunks(1028).for_each(|part| tally_magnitude_32_high(part, &mut parts));
        assert!(whole == parts);
    }

    proptest! {
        #[test]
        fn tallies_and_counts_follow_the_definition(
            x in prop::collection::vec(any::<u32>(), 0..300),
            threshold in any::<u32>(),
        ) {
            // Few distinct high halves, so that the second round finds some.
            let x: Vec<u32> = x.iter().map(|x| x & 0x8003_00ff).collect();
            let threshold = threshold & 0x0003_00ff;
            let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
            let keys_32: Vec<u32> = x.iter().map(|x| x & 0x7fff_ffff).collect();
            let keys_16: Vec<u16> =
                x.iter().flat_map(|x| [*x as u16, (*x >> 16) as u16]).map(|k| k & 0x7fff).collect();
            let got = at_every_level(|| {
                let mut low = vec![0; 65536];
                tally_magnitude_32_low(&bytes, threshold >> 16, &mut low);
                (low, count_below_32(&bytes, threshold), count_below_16(&bytes, threshold as u16))
            });
            let mut low = vec![0; 65536];
            for key in keys_32.iter().filter(|k| **k >> 16 == threshold >> 16) {
                low[(key & 0xffff) as usize] += 1;
            }
            let count = |n: usize| n as u64;
            let t16 = threshold as u16;
            prop_assert!(got.0 == low);
            prop_assert_eq!(got.1, (
                count(keys_32.iter().filter(|k| **k < threshold).count()),
                count(keys_32.iter().filter(|k| **k == threshold).count()),
            ));
            prop_assert_eq!(got.2, (
                count(keys_16.iter().filter(|k| **k < t16).count()),
                count(keys_16.iter().filter(|k| **k == t16).count()),
            ));
            let (mut c16, mut c32) = (vec![0; 32768], vec![0; 32768]);
            tally_magnitude_16(&bytes, &mut c16);
            tally_magnitude_32_high(&bytes, &mut c32);
            for key in 0..4 {
                prop_assert_eq!(c16[key], keys_16.iter().filter(|k| usize::from(**k) == key).count() as u32);
                prop_assert_eq!(c32[key], keys_32.iter().filter(|k| (**k >> 16) as usize == key).count() as u32);
            }
        }
    }
}
