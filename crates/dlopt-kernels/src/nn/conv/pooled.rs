//! The forward tile with max pool and ReLU behind it: the four outputs of a window are summed side by side, and only the
//! greatest leaves the registers. The sums are those of [`correlate`](super::correlate), so their bytes are too.
#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract: see `pooled`")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use super::correlate::{Grid, Weights, biased, blocks_of, tile};
use super::maps::pool4_part;
use crate::nn::simd::{V, per_isa};

/// Where pooled outputs go.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    pub(super) out: *mut f32,
    /// Which of the four won; as [`pool_rows`](super::maps::pool_rows) has it.
    pub(super) won: Option<*mut u8>,
    /// Values from one window to the next.
    pub(super) pixel: usize,
}

per_isa! {
/// The max pool, then ReLU, of two rows of outputs; the grid's `out_pixel` and `out_row` are not looked at.
///
/// # Safety
/// As [`correlate`](super::correlate::correlate), for a grid of two rows and an even number of columns; `to` is valid for half as
/// many pixels of `weights.channels` values.
pooled(map: *const f32, grid: Grid, weights: Weights, to: Windows) [T, NR = 4 / 2]
{
    let registers = weights.channels.div_ceil(T::N);
    let mut first = 0;
    for n in blocks_of::<T, NR>(registers) {
        let channel = first * T::N;
        let weights = weights.behind(channel);
        let to = Windows { out: to.out.add(channel), won: to.won.map(|won| won.add(channel)), ..to };
        match n {
            1 if !T::IS_COMPACT => windows::<T, 8, 1>(map, &grid, &weights, to),
            1 => windows::<T, 4, 1>(map, &grid, &weights, to),
            2 if NR > 2 => windows::<T, 8, 2>(map, &grid, &weights, to),
            2 if !T::IS_COMPACT => windows::<T, 4, 2>(map, &grid, &weights, to),
            3 if NR > 2 => windows::<T, 4, 3>(map, &grid, &weights, to),
            _ if NR > 2 => windows::<T, 4, 4>(map, &grid, &weights, to),
            _ => {}
        }
        first += n;
    }
} }

/// All windows of `NR` registers of channels, `MR / 4` at a time.
#[inline(always)]
unsafe fn windows<T: V, const MR: usize, const NR: usize>(
    map: *const f32,
    grid: &Grid,
    weights: &Weights,
    to: Windows,
) {
    let all = grid.columns / 2;
    let mut window = 0;
    while window + MR / 4 <= all {
        run_windows::<T, MR, NR>(map, grid, weights, to, window);
        window += MR / 4;
    }
    if window < all {
        run_windows::<T, 4, NR>(map, grid, weights, to, window);
    }
}

#[inline(always)]
unsafe fn run_windows<T: V, const MR: usize, const NR: usize>(
    map: *const f32,
    grid: &Grid,
    weights: &Weights,
    to: Windows,
    window: usize,
) {
    let first = map.wrapping_add(2 * window * grid.pixel);
    let mut from = [first; MR];
    for m in 0..MR {
        from[m] = first.wrapping_add((m / 4 * 2 + m % 2) * grid.pixel + m % 4 / 2 * grid.row);
    }
    let acc = tile::<T, MR, NR>(from, grid, weights, biased::<T, MR, NR>(weights));
    for own in 0..MR / 4 {
        for n in 0..NR {
            let four = [acc[4 * own][n], acc[4 * own + 1][n], acc[4 * own + 2][n], acc[4 * own + 3][n]];
            let at = (window + own) * to.pixel + n * T::N;
            let left = weights.channels - n * T::N;
            match to.won {
                None => {
                    // The first of equals, and nothing that is no number, as `pool4` has it.
                    let best = four[3].max(four[2].max(four[1].max(four[0]))).max(T::splat(0.0));
                    if left >= T::N { best.store(to.out.add(at)) } else { best.store_part(to.out.add(at), left) }
                }
                Some(won) if left >= T::N => T::pool4(four, to.out.add(at), won.add(at)),
                Some(won) => pool4_part(four, to.out.add(at), Some(won.add(at)), left),
            }
        }
    }
}
