//! The k-th smallest magnitude of 32-bit floats from a sample and one pass, exactly.
//!
//! A sample brackets the key that is looked for; the pass counts the keys below the
//! bracket and collects the few within. When the rank turns out to be within the
//! bracket the key is among those collected, otherwise (about once in 10^4) the
//! histograms of `tally_magnitude_*` find it. After Floyd and Rivest 1975, "Expected
//! time bounds for selection".

use std::ops::Range;

use crate::element::{Single, Stored};
use crate::lanes::{LANES, Lanes};
use crate::vector::Vector;

/// The key of infinity.
const INFINITY: u32 = f32::INFINITY.to_bits();

/// Rows of lanes looked at before the keys within are collected.
const ROWS: usize = 64;

/// Keys of elements `0`, `step`, `2 step` and so on, appended to `keys`.
pub fn sample_keys_32(bytes: &[u8], step: usize, keys: &mut Vec<u32>) {
    keys.extend(bytes.as_chunks().0.iter().step_by(step).map(|b| Single::key(*b)));
}

/// A range of keys that holds the one at `fraction` (0..=1) of the whole, most likely.
///
/// Four standard deviations of the sample's rank to either side, to the end where they
/// pass those of the sample, and nothing from infinity on. The sample is left in another
/// order.
pub fn bracket(sample: &mut [u32], fraction: f64) -> Range<u32> {
    let size = sample.len() as f64;
    let margin = 4.0 * (size * fraction * (1.0 - fraction)).sqrt() + 2.0;
    let (low, high) = (size * fraction - margin, size * fraction + margin);
    let mut key = |rank: f64| *sample.select_nth_unstable(rank as usize).1;
    let end = if high < size { key(high).saturating_add(1) } else { INFINITY };
    let start = if low > 0.0 { key(low) } else { 0 };
    start.min(INFINITY)..end.min(INFINITY)
}

/// Counts keys below a window; appends those within to `keys`, in the order of elements.
///
/// `window` ends at or below the key of infinity, so that NaN and infinities are never
/// in it nor below it.
pub fn keys_within_32(bytes: &[u8], window: Range<u32>, keys: &mut Vec<u32>) -> u64 {
    assert!(window.end <= INFINITY);
    dispatch!(<V> within_body(
        bytes: &[u8], window: Range<u32>, keys: &mut Vec<u32>,
    ) -> u64)
}

#[inline(always)]
fn within_body<V: Vector>(bytes: &[u8], window: Range<u32>, keys: &mut Vec<u32>) -> u64 {
    let ends = (V::splat(f32::from_bits(window.start)), V::splat(f32::from_bits(window.end)));
    let (rows, rest) = bytes.as_chunks::<4>().0.as_chunks::<LANES>();
    let mut below = 0;
    for rows in rows.chunks(ROWS) {
        below += add_rows(rows, ends, keys);
    }
    // NaN compares with nothing: padding is neither below the window nor in it.
    let mut last = [f32::NAN.to_le_bytes(); LANES];
    last[..rest.len()].copy_from_slice(rest);
    below + add_rows(&[last], ends, keys)
}

/// Few rows have a key within, and none can tell which: they are noted first, without
/// a branch.
#[inline(always)]
fn add_rows<V: Vector>(rows: &[[[u8; 4]; LANES]], (low, end): (V, V), keys: &mut Vec<u32>) -> u64 {
    let mut below = 0;
    let (mut hits, mut noted) = ([(0, 0u16); ROWS], 0);
    for (i, row) in rows.iter().enumerate() {
        let mut lanes: Lanes = [0.0; LANES];
        for (x, b) in lanes.iter_mut().zip(row) {
            *x = f32::from_le_bytes(*b);
        }
        let x = V::load(&lanes).abs();
        let less = x.less(low);
        let within = x.less(end) & !less;
        below += u64::from(less.count_ones());
        hits[noted % ROWS] = (i, within);
        noted += usize::from(within != 0);
    }
    for &(i, mut within) in &hits[..noted] {
        while within != 0 {
            keys.push(Single::key(rows[i][within.trailing_zeros() as usize]));
            within &= within - 1;
        }
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use proptest::prelude::*;

    #[test]
    fn a_bracket_from_every_16th_holds_the_median() {
        let x = (0..100_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6 - 8.0);
        let bytes: Vec<u8> = x.flat_map(f32::to_le_bytes).collect();
        let (mut sample, mut within, mut sorted) = (Vec::new(), Vec::new(), Vec::new());
        sample_keys_32(&bytes, 16, &mut sample);
        let below = keys_within_32(&bytes, bracket(&mut sample, 0.5), &mut within) as usize;
        sample_keys_32(&bytes, 1, &mut sorted);
        sorted.sort_unstable();
        within.sort_unstable();
        assert!(within.len() < 10_000);
        assert_eq!(sorted[below..below + within.len()], within);
        assert!((below..below + within.len()).contains(&50_000));
    }

    #[test]
    fn brackets_are_as_wide_as_the_sample_leaves_open() {
        // 1000 keys: four standard deviations are 63 ranks, and two more.
        let mut sample: Vec<u32> = (0..1000).rev().map(|key| 10 * key).collect();
        assert_eq!(bracket(&mut sample, 0.5), 4340..5651);
        assert_eq!(bracket(&mut sample, 0.001), 0..61);
        assert_eq!(bracket(&mut sample, 1.0), 9980..INFINITY);
        assert_eq!(bracket(&mut [], 0.5), 0..INFINITY);
        assert!(bracket(&mut [INFINITY + 5; 1000], 0.5).is_empty());
    }

    proptest! {
        #[test]
        fn windows_count_below_and_collect_within(
            bits in prop::collection::vec(any::<u16>(), 0..600),
            low in 0u32..0x7000,
            width in 0u32..0x700,
        ) {
            // The 16 bits stand on top: windows of whole high halves, NaN and infinity among the elements.
            let bytes: Vec<u8> = bits.iter().flat_map(|b| (u32::from(*b) << 16).to_le_bytes()).collect();
            let window = low << 16..(low + width) << 16;
            let (below, within) = at_every_level(|| {
                let mut within = vec![1];
                (keys_within_32(&bytes, window.clone(), &mut within), within)
            });
            let keys: Vec<u32> = bits.iter().map(|b| u32::from(b & 0x7fff) << 16).collect();
            prop_assert_eq!(below, keys.iter().filter(|k| **k < window.start).count() as u64);
            let expected: Vec<u32> = [1].into_iter().chain(keys.into_iter().filter(|k| window.contains(k))).collect();
            prop_assert_eq!(within, expected);
        }
    }
}
