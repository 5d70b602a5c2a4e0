//! Depthwise convolutions: every lane is a channel of its own, and a tap one multiply-add.
//!
//! Taps are few and weights small, so a tile of pixels shares each weight, and a tile of taps each gradient.
#![allow(unsafe_op_in_unsafe_fn, reason = "raw kernels; each states its contract")]

use super::correlate::{Grid, Weights, load_upto};
use crate::nn::simd::{V, per_isa};

per_isa! {
/// `out[row, column, channel] = bias[channel] + sum over taps of map[pixel + offset(tap) + channel] * weight[tap, channel]`.
///
/// # Safety
/// For every output of the grid, `map` must be valid for `weights.channels` values at all offsets, `out` for as many;
/// `packed` for taps whose rows are `weights.panel` floats apart, `bias` for all channels.
depthwise(map: *const f32, grid: Grid, weights: Weights, out: *mut f32) [T, NR = 4 / 2]
depthwise_in::<T>(map, grid, weights, out) }

#[inline(always)]
unsafe fn depthwise_in<T: V>(map: *const f32, grid: Grid, weights: Weights, out: *mut f32) {
    // Rows outermost: the few rows of the map that a row of outputs needs stay in the first cache.
    for row in 0..grid.rows {
        for channel in (0..weights.channels).step_by(T::N) {
            let left = weights.channels - channel;
            let mut map = map.add(row * grid.row + channel);
            let mut out = out.add(row * grid.out_row + channel);
            let bias = weights.bias.map_or(T::splat(0.0), |bias| load_upto::<T>(bias.add(channel), left));
            let w = weights.packed.add(channel);
            let tiles = grid.columns.div_ceil(8);
            let mut done = 0;
            for tile in 0..tiles {
                let count = (grid.columns - done).div_ceil(tiles - tile);
                macro_rules! pixels {
                    ($m:literal) => {
                        if left >= T::N {
                            pixels::<T, $m, false>(map, &grid, w, &weights, bias, left, out)
                        } else {
                            pixels::<T, $m, true>(map, &grid, w, &weights, bias, left, out)
                        }
                    };
                }
                match count {
                    1 => pixels!(1),
                    2 => pixels!(2),
                    3 => pixels!(3),
                    4 => pixels!(4),
                    5 => pixels!(5),
                    6 => pixels!(6),
                    7 => pixels!(7),
                    _ => pixels!(8),
                }
                done += count;
                // The step behind the last pixel is never used.
                map = map.wrapping_add(count * grid.pixel);
                out = out.wrapping_add(count * grid.out_pixel);
            }
        }
    }
}

#[inline(always)]
unsafe fn pixels<T: V, const MR: usize, const PART: bool>(
    map: *const f32,
    grid: &Grid,
    w: *const f32,
    weights: &Weights,
    bias: T,
    left: usize,
    out: *mut f32,
) {
    let mut acc = [bias; MR];
    for (tap, &offset) in grid.offsets.iter().enumerate() {
        let k = T::load(w.add(tap * weights.panel));
        let p = map.add(offset);
        for m in 0..MR {
            let p = p.add(m * grid.pixel);
            let x = if PART { T::load_part(p, left) } else { T::load(p) };
            acc[m] = acc[m].fma(x, k);
        }
    }
    for m in 0..MR {
        let v = if weights.relu { acc[m].max(T::splat(0.0)) } else { acc[m] };
        let p = out.add(m * grid.out_pixel);
        if PART { v.store_part(p, left) } else { v.store(p) }
    }
}

per_isa! {
/// `dw[tap, channel] += sum over pixels of map[pixel + offset(tap) + channel] * gradient[pixel, channel]`.
///
/// # Safety
/// For every pixel of the grid, `map` must be valid for `channels` values at all offsets, and `gradient` (steps of
/// the grid's `out_pixel` and `out_row`) for as many; `dw` for `[taps, channels]`.
depthwise_weight(map: *const f32, grid: Grid, gradient: *const f32, channels: usize, dw: *mut f32) [T, NR = 4 / 2]
depthwise_weight_in::<T>(map, grid, gradient, channels, dw) }

#[inline(always)]
unsafe fn depthwise_weight_in<T: V>(map: *const f32, grid: Grid, gradient: *const f32, channels: usize, dw: *mut f32) {
    for channel in (0..channels).step_by(T::N) {
        let left = channels - channel;
        let mut tap = 0;
        while tap < grid.offsets.len() {
            let count = (grid.offsets.len() - tap).min(9);
            let dw = dw.add(tap * channels + channel);
            let (map, gradient) = (map.add(channel), gradient.add(channel));
            macro_rules! taps {
                ($c:literal) => {
                    if left >= T::N {
                        taps::<T, $c, false>(map, &grid, tap, gradient, channels, left, dw)
                    } else {
                        taps::<T, $c, true>(map, &grid, tap, gradient, channels, left, dw)
                    }
                };
            }
            match count {
                1 => taps!(1),
                2 => taps!(2),
                3 => taps!(3),
                4 => taps!(4),
                5 => taps!(5),
                6 => taps!(6),
                7 => taps!(7),
                8 => taps!(8),
                _ => taps!(9),
            }
            tap += count;
        }
    }
}

#[inline(always)]
unsafe fn taps<T: V, const C: usize, const PART: bool>(
    map: *const f32,
    grid: &Grid,
    tap: usize,
    gradient: *const f32,
    channels: usize,
    left: usize,
    dw: *mut f32,
) {
    let mut acc = [T::splat(0.0); C];
    let offsets: [usize; C] = std::array::from_fn(|c| grid.offsets[tap + c]);
    for row in 0..grid.rows {
        let mut p = map.add(row * grid.row);
        let mut g = gradient.add(row * grid.out_row);
        for _ in 0..grid.columns {
            let d = if PART { T::load_part(g, left) } else { T::load(g) };
            for c in 0..C {
                let q = p.add(offsets[c]);
                let x = if PART { T::load_part(q, left) } else { T::load(q) };
                acc[c] = acc[c].fma(x, d);
            }
            // The step behind the last pixel is never used.
            p = p.wrapping_add(grid.pixel);
            g = g.wrapping_add(grid.out_pixel);
        }
    }
    for c in 0..C {
        let q = dw.add(c * channels);
        if PART {
            T::load_part(q, left).add(acc[c]).store_part(q, left);
        } else {
            T::load(q).add(acc[c]).store(q);
        }
    }
}
