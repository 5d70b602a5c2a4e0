//! Depthwise convolutions: every lane is a channel of its own, and a tap one multiply-add.
//!
//! Loads decide the speed, so where taps are neighbours, as in all common kernels, a tile of pixels loads each value of the
//! map once for the three taps of a kernel row.
#![allow(unsafe_op_in_unsafe_fn, reason = "raw kernels; each states its contract")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use super::correlate::{Grid, Weights, load_upto};
use super::plan::Run;
use crate::nn::simd::{V, per_isa};

per_isa! {
/// `out[row, column, channel] = bias[channel] + sum over runs of map[pixel + at(run) + channel] * weight[run, channel]`.
///
/// # Safety
/// For every output of the grid, `map` must be valid for `weights.channels` values at all runs, `out` for as many;
/// `packed` for the runs' rows, `weights.panel` floats apart, filled up to whole panels, `bias` for all channels.
depthwise(map: *const f32, grid: Grid, weights: Weights, out: *mut f32) [T, NR = 4 / 2]
depthwise_in::<T>(map, grid, weights, out) }

#[inline(always)]
unsafe fn depthwise_in<T: V>(map: *const f32, grid: Grid, weights: Weights, out: *mut f32) {
    let grid = lying(grid);
    let stride = if T::IS_COMPACT { 0 } else { stride_of_threes(&grid) };
    // Rows outermost: the few rows of the map that a row of outputs needs stay in the first cache.
    for row in 0..grid.rows {
        for channel in (0..weights.channels).step_by(T::N) {
            let at = Place {
                map: map.wrapping_add(row * grid.row + channel),
                out: out.add(row * grid.out_row + channel),
                weights: weights.packed.add(channel),
                left: weights.channels - channel,
            };
            let bias = weights.bias.map_or(T::splat(0.0), |bias| load_upto::<T>(bias.add(channel), at.left));
            match stride {
                _ if at.left < T::N => line::<T, true, 0>(at, &grid, &weights, bias),
                1 if !T::IS_COMPACT => line::<T, false, 1>(at, &grid, &weights, bias),
                2 if !T::IS_COMPACT => line::<T, false, 2>(at, &grid, &weights, bias),
                _ => line::<T, false, 0>(at, &grid, &weights, bias),
            }
        }
    }
}

/// Turns a grid that stands upright, such as the left edge of a map, on its side.
#[inline(always)]
fn lying(grid: Grid) -> Grid {
    if grid.columns >= grid.rows.min(4) {
        return grid;
    }
    Grid {
        rows: grid.columns,
        columns: grid.rows,
        pixel: grid.row,
        row: grid.pixel,
        out_pixel: grid.out_row,
        out_row: grid.out_pixel,
        ..grid
    }
}

/// 1 or 2 where the runs are triples of neighbours and outputs as many neighbours apart, else 0.
#[inline(always)]
fn stride_of_threes(grid: &Grid) -> usize {
    let pixel = grid.pixel.cast_signed();
    let (triples, rest) = grid.runs.as_chunks::<3>();
    let has_step = |step| triples.iter().all(|[a, b, c]| b.at - a.at == step && c.at - b.at == step);
    match () {
        () if triples.is_empty() || !rest.is_empty() => 0,
        () if has_step(pixel) => 1,
        () if pixel % 2 == 0 && has_step(pixel / 2) => 2,
        () => 0,
    }
}

/// A register of channels at the beginning of a row of outputs.
#[derive(Clone, Copy)]
struct Place {
    map: *const f32,
    out: *mut f32,
    weights: *const f32,
    left: usize,
}

/// A row of outputs; `PART`: fewer channels than lanes; `S`: see [`stride_of_threes`].
#[inline(always)]
unsafe fn line<T: V, const PART: bool, const S: usize>(mut at: Place, grid: &Grid, weights: &Weights, bias: T) {
    let tiles = grid.columns.div_ceil(if T::IS_COMPACT { 2 } else { 8 });
    let mut done = 0;
    for tile in 0..tiles {
        let count = (grid.columns - done).div_ceil(tiles - tile);
        match count {
            1 => pixels::<T, 1, PART, S>(at, grid, weights, bias),
            2 => pixels::<T, 2, PART, S>(at, grid, weights, bias),
            3 if !T::IS_COMPACT => pixels::<T, 3, PART, S>(at, grid, weights, bias),
            4 if !T::IS_COMPACT => pixels::<T, 4, PART, S>(at, grid, weights, bias),
            5 if !T::IS_COMPACT => pixels::<T, 5, PART, S>(at, grid, weights, bias),
            6 if !T::IS_COMPACT => pixels::<T, 6, PART, S>(at, grid, weights, bias),
            7 if !T::IS_COMPACT => pixels::<T, 7, PART, S>(at, grid, weights, bias),
            8 if !T::IS_COMPACT => pixels::<T, 8, PART, S>(at, grid, weights, bias),
            _ => {}
        }
        done += count;
        // The step behind the last pixel is never used.
        at.map = at.map.wrapping_add(count * grid.pixel);
        at.out = at.out.wrapping_add(count * grid.out_pixel);
    }
}

#[inline(always)]
unsafe fn pixels<T: V, const MR: usize, const PART: bool, const S: usize>(
    at: Place,
    grid: &Grid,
    weights: &Weights,
    bias: T,
) {
    let mut acc = [bias; MR];
    if S > 0 {
        for triple in grid.runs.as_chunks::<3>().0 {
            // No closures here: one that is not inlined loses the instruction set.
            let mut w = [T::splat(0.0); 3];
            for kx in 0..3 {
                w[kx] = T::load(at.weights.add(triple[kx].weight * weights.panel));
            }
            let p = at.map.wrapping_offset(triple[0].at);
            for j in 0..S * (MR - 1) + 3 {
                let x = T::load(p.add(j * (grid.pixel / S)));
                for (kx, w) in w.iter().enumerate() {
                    if j >= kx && (j - kx) % S == 0 && (j - kx) / S < MR {
                        acc[(j - kx) / S] = acc[(j - kx) / S].fma(x, *w);
                    }
                }
            }
        }
    } else {
        for run in grid.runs {
            let w = T::load(at.weights.add(run.weight * weights.panel));
            let p = at.map.wrapping_offset(run.at);
            for m in 0..MR {
                let p = p.add(m * grid.pixel);
                let x = if PART { T::load_part(p, at.left) } else { T::load(p) };
                acc[m] = acc[m].fma(x, w);
            }
        }
    }
    for m in 0..MR {
        let v = if weights.relu { acc[m].max(T::splat(0.0)) } else { acc[m] };
        let p = at.out.add(m * grid.out_pixel);
        if PART { v.store_part(p, at.left) } else { v.store(p) }
    }
}

per_isa! {
/// `dw[run, channel] += sum over pixels of map[pixel + at(run) + channel] * gradient[pixel, channel]`.
///
/// # Safety
/// For every pixel of the grid, `map` must be valid for `channels` values at all runs, and `gradient` (steps of the
/// grid's `out_pixel` and `out_row`) for as many; `dw` for the runs' rows of `channels` values.
depthwise_weight(map: *const f32, grid: Grid, gradient: *const f32, channels: usize, dw: *mut f32) [T, NR = 4 / 2]
depthwise_weight_in::<T>(map, grid, gradient, channels, dw) }

#[inline(always)]
unsafe fn depthwise_weight_in<T: V>(map: *const f32, grid: Grid, gradient: *const f32, channels: usize, dw: *mut f32) {
    let by_threes = !T::IS_COMPACT && stride_of_threes(&grid) == 1 && grid.runs.len() == 9 && grid.columns >= 4;
    for channel in (0..channels).step_by(T::N) {
        let left = channels - channel;
        let (map, gradient, dw) = (map.wrapping_add(channel), gradient.add(channel), dw.add(channel));
        if left < T::N {
            each_taps::<T, true>(map, &grid, gradient, channels, left, dw);
        } else if by_threes && !T::IS_COMPACT {
            three_by_three::<T>(map, &grid, gradient, channels, dw);
        } else {
            each_taps::<T, false>(map, &grid, gradient, channels, left, dw);
        }
    }
}

#[inline(always)]
unsafe fn each_taps<T: V, const PART: bool>(
    map: *const f32,
    grid: &Grid,
    gradient: *const f32,
    channels: usize,
    left: usize,
    dw: *mut f32,
) {
    let mut runs = grid.runs;
    while !runs.is_empty() {
        let (now, later) = runs.split_at(runs.len().min(if T::IS_COMPACT { 2 } else { 9 }));
        match now.len() {
            1 => taps::<T, 1, PART>(map, grid, now, gradient, channels, left, dw),
            2 => taps::<T, 2, PART>(map, grid, now, gradient, channels, left, dw),
            3 if !T::IS_COMPACT => taps::<T, 3, PART>(map, grid, now, gradient, channels, left, dw),
            4 if !T::IS_COMPACT => taps::<T, 4, PART>(map, grid, now, gradient, channels, left, dw),
            5 if !T::IS_COMPACT => taps::<T, 5, PART>(map, grid, now, gradient, channels, left, dw),
            6 if !T::IS_COMPACT => taps::<T, 6, PART>(map, grid, now, gradient, channels, left, dw),
            7 if !T::IS_COMPACT => taps::<T, 7, PART>(map, grid, now, gradient, channels, left, dw),
            8 if !T::IS_COMPACT => taps::<T, 8, PART>(map, grid, now, gradient, channels, left, dw),
            9 if !T::IS_COMPACT => taps::<T, 9, PART>(map, grid, now, gradient, channels, left, dw),
            _ => {}
        }
        runs = later;
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
unsafe fn taps<T: V, const C: usize, const PART: bool>(
    map: *const f32,
    grid: &Grid,
    runs: &[Run],
    gradient: *const f32,
    channels: usize,
    left: usize,
    dw: *mut f32,
) {
    let mut acc = [T::splat(0.0); C];
    let mut at = [0; C];
    for c in 0..C {
        at[c] = runs[c].at;
    }
    for row in 0..grid.rows {
        let mut p = map.wrapping_add(row * grid.row);
        let mut g = gradient.add(row * grid.out_row);
        for _ in 0..grid.columns {
            let d = if PART { T::load_part(g, left) } else { T::load(g) };
            for c in 0..C {
                let q = p.wrapping_offset(at[c]);
                let x = if PART { T::load_part(q, left) } else { T::load(q) };
                acc[c] = acc[c].fma(x, d);
            }
            // The step behind the last pixel is never used.
            p = p.wrapping_add(grid.pixel);
            g = g.wrapping_add(grid.out_pixel);
        }
    }
    for c in 0..C {
        let q = dw.add(runs[c].weight * channels);
        if PART {
            T::load_part(q, left).add(acc[c]).store_part(q, left);
        } else {
            T::load(q).add(acc[c]).store(q);
        }
    }
}

/// Nine taps of neighbours, four pixels at a time: each value of the map is loaded once for three taps.
#[inline(always)]
unsafe fn three_by_three<T: V>(map: *const f32, grid: &Grid, gradient: *const f32, channels: usize, dw: *mut f32) {
    let mut acc = [[T::splat(0.0); 3]; 3];
    let (triples, _) = grid.runs.as_chunks::<3>();
    for row in 0..grid.rows {
        let mut p = [map; 3];
        for ky in 0..3 {
            p[ky] = map.wrapping_add(row * grid.row).wrapping_offset(triples[ky][0].at);
        }
        let mut g = gradient.add(row * grid.out_row);
        let mut left = grid.columns;
        macro_rules! some {
            ($count:literal) => {{
                let mut d = [T::splat(0.0); $count];
                for m in 0..$count {
                    d[m] = T::load(g.add(m * grid.out_pixel));
                }
                for ky in 0..3 {
                    for j in 0..$count + 2 {
                        let x = T::load(p[ky].add(j * grid.pixel));
                        for kx in 0..3 {
                            if j >= kx && j - kx < $count {
                                acc[ky][kx] = acc[ky][kx].fma(x, d[j - kx]);
                            }
                        }
                    }
                }
                // The step behind the last pixel is never used.
                for place in &mut p {
                    *place = place.wrapping_add($count * grid.pixel);
                }
                g = g.wrapping_add($count * grid.out_pixel);
                left -= $count;
            }};
        }
        while left >= 4 {
            some!(4);
        }
        while left > 0 {
            some!(1);
        }
    }
    for (triple, sums) in triples.iter().zip(acc) {
        for (run, sum) in triple.iter().zip(sums) {
            let q = dw.add(run.weight * channels);
            T::load(q).add(sum).store(q);
        }
    }
}
