//! The k-th smallest magnitude from a sample and one pass, exactly.
//!
//! A sample brackets the key that is looked for; the pass counts the keys below the
//! bracket and tallies those within, one bin a key. When the rank turns out to be
//! within the bracket the result is exact, otherwise (about once in 10^4) the
//! histograms of `tally_magnitude_*` find it. After Floyd and Rivest 1975, "Expected
//! time bounds for selection".

use std::ops::Range;

use crate::element::{Brain, Float, Half, Single, Stored};
use crate::lanes::{LANES, TILE, Tile};
use crate::vector::Vector;

/// Keys of a slice's elements `0`, `step`, `2 step` and so on, appended to `keys`.
///
/// `kind`: any but `F64`.
pub fn sample_keys(kind: Float, bytes: &[u8], step: usize, keys: &mut Vec<u32>) {
    match kind {
        Float::F32 => keys.extend(every::<Single, 4>(bytes, step)),
        Float::F16 => keys.extend(every::<Half, 2>(bytes, step)),
        Float::BF16 => keys.extend(every::<Brain, 2>(bytes, step)),
        Float::F64 => panic!("keys are of 16 or 32 bits"),
    }
}

fn every<E: Stored<N>, const N: usize>(bytes: &[u8], step: usize) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<N>().0.iter().step_by(step).map(|b| E::key(*b))
}

/// A range of keys that holds the one at `fraction` (0..=1) of the whole, most likely.
///
/// Four standard deviations of the sample's rank to either side. The sample is left
/// in another order; an empty one gives an empty range.
pub fn bracket(sample: &mut [u32], fraction: f64) -> Range<u32> {
    if sample.is_empty() {
        return 0..0;
    }
    let size = sample.len() as f64;
    let margin = 4.0 * (size * fraction * (1.0 - fraction)).sqrt() + 2.0;
    let last = sample.len() - 1;
    let at = |rank: f64| (rank.max(0.0) as usize).min(last);
    let (low, high) = (at(size * fraction - margin), at(size * fraction + margin));
    let high = *sample.select_nth_unstable(high).1;
    let low = *sample.select_nth_unstable(low).1;
    low..high.saturating_add(1)
}

/// Counts keys below `low`; adds 1 to `counts[key - low]` for keys from `low` on.
///
/// The window is `low..low + counts.len()` and ends at or below the key of infinity,
/// so that NaN and infinities are never in it nor below it. Counts wrap past
/// `u32::MAX`. `kind`: any but `F64`.
pub fn tally_window(kind: Float, bytes: &[u8], low: u32, counts: &mut [u32]) -> u64 {
    dispatch!(<V> window_body(
        kind: Float, bytes: &[u8], low: u32, counts: &mut [u32],
    ) -> u64)
}

#[inline(always)]
fn window_body<V: Vector>(kind: Float, bytes: &[u8], low: u32, counts: &mut [u32]) -> u64 {
    match kind {
        Float::F32 => window::<V, Single, 4>(bytes, low, counts),
        Float::F16 => window::<V, Half, 2>(bytes, low, counts),
        Float::BF16 => window::<V, Brain, 2>(bytes, low, counts),
        Float::F64 => panic!("keys are of 16 or 32 bits"),
    }
}

#[inline(always)]
fn window<V: Vector, E: Stored<N>, const N: usize>(bytes: &[u8], low: u32, counts: &mut [u32]) -> u64 {
    let high = low as usize + counts.len();
    assert!(high <= E::INFINITY as usize);
    let (least, end) = (V::splat(E::magnitude(low)), V::splat(E::magnitude(high as u32)));
    let mut below = 0;
    let mut tile = Tile::new();
    for elements in bytes.as_chunks::<N>().0.chunks(TILE) {
        // NaN compares with nothing: padding is neither below the window nor in it.
        for (x, b) in tile.room(elements.len(), f32::NAN).iter_mut().zip(elements) {
            *x = E::value(*b);
        }
        for (row, x) in tile.rows(elements.len()).iter().enumerate() {
            let x = V::load(x).abs();
            let less = x.less(least);
            below += u64::from(less.count_ones());
            let mut within = x.less(end) & !less;
            while within != 0 {
                let key = E::key(elements[row * LANES + within.trailing_zeros() as usize]);
                let count = &mut counts[(key - low) as usize];
                *count = count.wrapping_add(1);
                within &= within - 1;
            }
        }
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::narrow;
    use crate::level::at_every_level;
    use proptest::prelude::*;

    fn keys(kind: Float, bytes: &[u8]) -> Vec<u32> {
        let mut keys = Vec::new();
        sample_keys(kind, bytes, 1, &mut keys);
        keys
    }

    #[test]
    fn a_bracket_from_every_16th_holds_the_median() {
        let x: Vec<f32> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6 - 8.0).collect();
        for kind in [Float::F32, Float::F16, Float::BF16] {
            let mut bytes = vec![0; x.len() * kind.bytes()];
            narrow(kind, &x, &mut bytes);
            let mut sample = Vec::new();
            sample_keys(kind, &bytes, 16, &mut sample);
            let window = bracket(&mut sample, 0.5);
            let mut counts = vec![0u32; window.len()];
            let below = tally_window(kind, &bytes, window.start, &mut counts);
            let mut sorted = keys(kind, &bytes);
            sorted.sort_unstable();
            let mut rank = below;
            let found = counts.iter().position(|count| {
                rank += u64::from(*count);
                rank > 50_000
            });
            assert!(below <= 50_000);
            assert_eq!(found.map(|at| window.start + at as u32), Some(sorted[50_000]), "{kind:?}");
        }
    }

    #[test]
    fn an_empty_sample_gives_an_empty_bracket() {
        assert!(bracket(&mut [], 0.5).is_empty());
        assert_eq!(bracket(&mut [7], 1.0), 7..8);
    }

    proptest! {
        #[test]
        fn windows_count_below_and_tally_within(
            bits in prop::collection::vec(any::<u16>(), 0..600),
            low in 0u32..0x7000,
            width in 0usize..0x700,
        ) {
            let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
            for (kind, shift) in [(Float::F16, 0), (Float::BF16, 0), (Float::F32, 16)] {
                // F32 elements with the 16 bits on top: windows of whole high halves.
                let bytes = match kind {
                    Float::F32 => bits.iter().flat_map(|b| (u32::from(*b) << 16).to_le_bytes()).collect(),
                    _ => bytes.clone(),
                };
                let low = low << shift;
                let width = width << (shift / 4);
                let (below, counts) = at_every_level(|| {
                    let mut counts = vec![0u32; width];
                    (tally_window(kind, &bytes, low, &mut counts), counts)
                });
                let keys = keys(kind, &bytes);
                prop_assert_eq!(below, keys.iter().filter(|k| **k < low).count() as u64);
                let mut expected = vec![0u32; width];
                for key in keys {
                    if let Some(count) = key.checked_sub(low).and_then(|k| expected.get_mut(k as usize)) {
                        *count += 1;
                    }
                }
                prop_assert!(counts == expected);
            }
        }
    }
}
