//! Integer grids: `q = round(clamp(x / scale + zero, qmin, qmax))`, `x' = (q - zero) * scale`.
//!
//! Rounding is to nearest, ties to even. Division is exact, never by a reciprocal.

use crate::lanes::{
    BLOCK, LANES, Lanes, Stats, Sums, TILE, Tile, all_finite, fold, is_finite, larger, prefetch_ahead, smaller, total,
};
use crate::vector::Vector;

/// The codes an integer format has, both ends included.
///
/// Within -128..=127, as codes are stored in one byte.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Smallest code.
    pub qmin: f32,
    /// Largest code.
    pub qmax: f32,
}

/// 1.5 * 2^23: adding it leaves no bit below one, and the integer in the low bits.
const INTEGER: f32 = 12_582_912.0;

/// Smallest and largest finite value of each group, zero included.
///
/// So `lo <= 0 <= hi`; NaN and infinities count as 0. `lo`, `hi`: one per group.
pub fn group_extremes(x: &[f32], group: usize, lo: &mut [f32], hi: &mut [f32]) {
    let groups = x.len().div_ceil(group);
    assert_eq!((lo.len(), hi.len()), (groups, groups));
    dispatch!(<V> extremes_body(x: &[f32], group: usize, lo: &mut [f32], hi: &mut [f32]))
}

#[inline(always)]
fn extremes_body<V: Vector>(x: &[f32], group: usize, lo: &mut [f32], hi: &mut [f32]) {
    for ((x, lo), hi) in x.chunks(group).zip(lo).zip(hi) {
        (*lo, *hi) = extremes::<V>(x);
        if !(is_finite(*lo) & is_finite(*hi)) {
            (*lo, *hi) = finite_extremes(x);
        }
    }
}

/// Infinities count; a NaN compares with nothing and so drops out.
#[inline(always)]
fn extremes<V: Vector>(x: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = (V::splat(0.0), V::splat(0.0));
    let (full, tail) = x.as_chunks::<LANES>();
    for x in full {
        let x = V::load(x);
        low = x.smaller(low);
        high = x.larger(high);
    }
    let (mut lo, mut hi) = (fold(&low.store(), smaller), fold(&high.store(), larger));
    for x in tail {
        lo = smaller(*x, lo);
        hi = larger(*x, hi);
    }
    (lo, hi)
}

#[cold]
fn finite_extremes(x: &[f32]) -> (f32, f32) {
    let finite = x.iter().copied().filter(|x| is_finite(*x));
    finite.fold((0.0, 0.0), |(lo, hi), x| (smaller(x, lo), larger(x, hi)))
}

/// Encodes onto an integer grid, with one scale and zero-point a group.
///
/// A zero-point is an integer of the grid; an empty `zero` means 0 everywhere.
/// 0 gives the zero-point exactly and so does NaN; infinities clamp.
/// `codes`: one per element.
pub fn encode_int(x: &[f32], group: usize, scale: &[f32], zero: &[f32], grid: &Grid, codes: &mut [i8]) -> Stats {
    assert_eq!(x.len(), codes.len());
    check_groups(x.len(), group, scale, zero);
    dispatch!(<V> encode_body(
        x: &[f32], group: usize, scale: &[f32], zero: &[f32], grid: &Grid, codes: &mut [i8],
    ) -> Stats)
}

fn check_groups(len: usize, group: usize, scale: &[f32], zero: &[f32]) {
    assert_eq!(scale.len(), len.div_ceil(group));
    assert!(zero.is_empty() || zero.len() == scale.len());
}

#[inline(always)]
fn encode_body<V: Vector>(
    x: &[f32],
    group: usize,
    scale: &[f32],
    zero: &[f32],
    grid: &Grid,
    codes: &mut [i8],
) -> Stats {
    // By value: writing through one slice must not look as if it changed the grid.
    let grid = *grid;
    let mut sums = Sums::<V>::new();
    let row_len = x.len();
    let (mut original, mut error) = (Tile::new(), Tile::new());
    let groups = x.chunks(group).zip(codes.chunks_mut(group)).zip(scale);
    for (g, ((x, codes), &scale)) in groups.enumerate() {
        let zero = zero.get(g).copied().unwrap_or(0.0);
        for (x, codes) in x.chunks(TILE).zip(codes.chunks_mut(TILE)) {
            let len = x.len();
            let (rows, tail) = x.as_chunks::<LANES>();
            prefetch_ahead(rows, row_len);
            if tail.is_empty() && scale != 0.0 {
                encode_finite(x, scale, zero, grid, codes, error.room(len, 0.0));
                if sums.add(rows, error.rows(len), true) {
                    continue;
                }
            }
            let (originals, errors) = (original.room(len, 0.0), error.room(len, 0.0));
            encode_any(x, scale, zero, grid, codes, originals, errors);
            sums.add(original.rows(len), error.rows(len), false);
        }
    }
    sums.finish()
}

/// A tile without NaN; where one is in it, the error tells.
///
/// All slices have one entry per element; as parameters they are known not to overlap.
#[inline(always)]
fn encode_finite(x: &[f32], scale: f32, zero: f32, grid: Grid, codes: &mut [i8], errors: &mut [f32]) {
    for ((x, code), error) in x.iter().zip(codes).zip(errors) {
        let rounded = clamp_and_round(*x / scale + zero, grid);
        *code = low_byte(rounded);
        *error = *x - value(rounded, scale, zero);
    }
}

/// A tile with anything in it.
#[inline(always)]
fn encode_any(
    x: &[f32],
    scale: f32,
    zero: f32,
    grid: Grid,
    codes: &mut [i8],
    originals: &mut [f32],
    errors: &mut [f32],
) {
    let out = codes.iter_mut().zip(originals).zip(errors);
    for (x, ((code, original), error)) in x.iter().zip(out) {
        let rounded = place(*x, scale, zero, grid);
        *code = low_byte(rounded);
        let change = *x - value(rounded, scale, zero);
        *original = if is_finite(*x) { *x } else { 0.0 };
        *error = if is_finite(*x) { change } else { 0.0 };
    }
}

/// The rounded code plus [`INTEGER`].
#[inline(always)]
fn place(x: f32, scale: f32, zero: f32, grid: Grid) -> f32 {
    let steps = x / scale;
    // NaN, also 0 / 0.
    let steps = if steps.is_nan() { 0.0 } else { steps };
    clamp_and_round(steps + zero, grid)
}

#[inline(always)]
fn clamp_and_round(place: f32, grid: Grid) -> f32 {
    smaller(larger(place, grid.qmin), grid.qmax) + INTEGER
}

/// The low byte of the mantissa: the code in two's complement.
#[inline(always)]
fn low_byte(rounded: f32) -> i8 {
    rounded.to_bits() as i8
}

#[inline(always)]
fn value(rounded: f32, scale: f32, zero: f32) -> f32 {
    (rounded - INTEGER - zero) * scale
}

/// Squared error of each group under a candidate scale and zero-point.
///
/// The same numbers as [`encode_int`] without the codes. `err`: one per group.
pub fn error_int(x: &[f32], group: usize, scale: &[f32], zero: &[f32], grid: &Grid, err: &mut [f32]) {
    check_groups(x.len(), group, scale, zero);
    assert_eq!(err.len(), scale.len());
    dispatch!(<V> error_body(
        x: &[f32], group: usize, scale: &[f32], zero: &[f32], grid: &Grid, err: &mut [f32],
    ))
}

#[inline(always)]
fn error_body<V: Vector>(x: &[f32], group: usize, scale: &[f32], zero: &[f32], grid: &Grid, err: &mut [f32]) {
    let grid = *grid;
    let mut tile = Tile::new();
    for (g, ((x, err), &scale)) in x.chunks(group).zip(err).zip(scale).enumerate() {
        let zero = zero.get(g).copied().unwrap_or(0.0);
        *err = squared_error::<V>(x, &mut tile, |x| value(place(x, scale, zero, grid), scale, zero));
    }
}

/// Sum of `(x - rounded(x))^2` over finite `x`.
#[inline(always)]
pub(crate) fn squared_error<V: Vector>(x: &[f32], tile: &mut Tile, rounded: impl Fn(f32) -> f32) -> f32 {
    let mut sum = 0.0;
    for x in x.chunks(BLOCK) {
        let mut lanes = V::splat(0.0);
        for x in x.chunks(TILE) {
            for (error, x) in tile.room(x.len(), 0.0).iter_mut().zip(x) {
                *error = *x - rounded(*x);
            }
            let mut squares = sum_of_squares::<V>(tile.rows(x.len()));
            if !all_finite(squares) {
                for (error, x) in tile.room(x.len(), 0.0).iter_mut().zip(x) {
                    *error = if is_finite(*x) { *x - rounded(*x) } else { 0.0 };
                }
                squares = sum_of_squares(tile.rows(x.len()));
            }
            lanes = lanes.add(squares);
        }
        sum += total(lanes);
    }
    sum as f32
}

#[inline(always)]
fn sum_of_squares<V: Vector>(rows: &[Lanes]) -> V {
    rows.iter().fold(V::splat(0.0), |sum, row| {
        let row = V::load(row);
        sum.add(row.mul(row))
    })
}

/// Decodes `(q - zero) * scale`.
///
/// An empty `zero` means 0 everywhere. `out`: one per code.
pub fn decode_int(codes: &[i8], group: usize, scale: &[f32], zero: &[f32], out: &mut [f32]) {
    assert_eq!(codes.len(), out.len());
    check_groups(codes.len(), group, scale, zero);
    dispatch!(decode_body(
        codes: &[i8], group: usize, scale: &[f32], zero: &[f32], out: &mut [f32],
    ))
}

#[inline(always)]
fn decode_body(codes: &[i8], group: usize, scale: &[f32], zero: &[f32], out: &mut [f32]) {
    let groups = codes.chunks(group).zip(out.chunks_mut(group)).zip(scale);
    for (g, ((codes, out), &scale)) in groups.enumerate() {
        let zero = zero.get(g).copied().unwrap_or(0.0);
        for (out, code) in out.iter_mut().zip(codes) {
            *out = (f32::from(*code) - zero) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use proptest::prelude::*;

    const INT4: Grid = Grid { qmin: -8.0, qmax: 7.0 };

    #[test]
    fn extremes_include_zero_and_pass_over_nonfinite() {
        let x = [3.0, 1.0, 2.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5, -4.0];
        let (mut lo, mut hi) = ([9.0; 3], [9.0; 3]);
        group_extremes(&x, 4, &mut lo, &mut hi);
        assert_eq!(lo, [-1.0, 0.0, -4.0]);
        assert_eq!(hi, [3.0, 0.5, 0.0]);
        group_extremes(&[], 4, &mut [], &mut []);
    }

    #[test]
    fn encodes_a_row_by_hand() {
        // scale 0.5: steps 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, -0.5 -> -0, 9 -> 7, NaN -> 0, -inf -> -8
        let x = [0.25, 0.75, 1.25, -0.25, 4.5, f32::NAN, f32::NEG_INFINITY, 0.0];
        let mut codes = [1; 8];
        let stats = encode_int(&x, 8, &[0.5], &[], &INT4, &mut codes);
        assert_eq!(codes, [0, 2, 2, 0, 7, 0, -8, 0]);
        assert_eq!(stats.max_error, 1.0);
        assert_eq!(stats.noise, 4.0 * 0.0625 + 1.0);
        assert_eq!(stats.signal, 0.0625 + 0.5625 + 1.5625 + 0.0625 + 20.25);
    }

    #[test]
    fn zero_and_nan_give_the_zero_point_even_with_scale_zero() {
        let mut codes = [1; 3];
        encode_int(&[0.0, f32::NAN, -0.0], 2, &[0.0, 0.3], &[-3.0, 5.0], &INT4, &mut codes);
        assert_eq!(codes, [-3, -3, 5]);
        let mut out = [1.0; 3];
        decode_int(&codes, 2, &[0.1, 0.3], &[-3.0, 5.0], &mut out);
        assert_eq!(out, [0.0; 3]);
    }

    proptest! {
        #[test]
        fn encodes_alike_at_every_level_and_like_the_definition(
            x in prop::collection::vec(prop_oneof![
                20 => -4f32..4.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => Just(-0.0)
            ], 0..400),
            group in 1usize..150,
            step in 0.01f32..2.0,
            zero in -8i8..8,
        ) {
            let groups = x.len().div_ceil(group);
            let scale: Vec<f32> = (0..groups).map(|g| step * (1.0 + g as f32 / 7.0)).collect();
            let zero = vec![f32::from(zero); groups];
            let (codes, out, stats, err) = at_every_level(|| {
                let (mut lo, mut hi) = (vec![0.0; groups], vec![0.0; groups]);
                group_extremes(&x, group, &mut lo, &mut hi);
                let mut codes = vec![0; x.len()];
                let mut out = vec![0.0; x.len()];
                let mut err = vec![0.0; groups];
                let stats = encode_int(&x, group, &scale, &zero, &INT4, &mut codes);
                decode_int(&codes, group, &scale, &zero, &mut out);
                error_int(&x, group, &scale, &zero, &INT4, &mut err);
                (codes, out, stats, err)
            });
            let mut noise = 0.0;
            for (i, x) in x.iter().enumerate() {
                let (s, z) = (scale[i / group], zero[0]);
                let steps = if x.is_nan() { 0.0 } else { x / s };
                let q = (steps + z).clamp(-8.0, 7.0).round_ties_even();
                prop_assert_eq!(f32::from(codes[i]), q);
                prop_assert_eq!(out[i], (q - z) * s);
                if x.is_finite() {
                    noise += f64::from(x - out[i]).powi(2);
                }
            }
            // Lanes are summed in f32: 24 bits over at most 4096 elements.
            prop_assert!((stats.noise - noise).abs() <= 1e-5 * noise);
            let sum: f64 = err.iter().copied().map(f64::from).sum();
            prop_assert!((sum - noise).abs() <= 1e-5 * noise);
        }
    }
}
