//! The tile of weight gradients: inputs of a run by registers of output channels, summed over all pixels in registers and
//! added to memory once.
#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract: see `weight_gradient`")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use super::correlate::Grid;
use crate::nn::simd::{V, per_isa};

/// The gradient of the grid's outputs.
#[derive(Clone, Copy)]
pub(crate) struct Gradient {
    pub(crate) values: *const f32,
    pub(crate) pixel: usize,
    pub(crate) row: usize,
    pub(crate) channels: usize,
}

per_isa! {
/// `dw[weight(run) + i, channel] += sum over pixels of map[pixel + at(run) + i] * gradient[pixel, channel]`; rows of
/// `dw` are `stride` floats apart.
///
/// # Safety
/// For every pixel of the grid, `map` must be valid for all runs and the gradient for all its channels; `dw` for all
/// its rows.
weight_gradient(map: *const f32, grid: Grid, gradient: Gradient, dw: *mut f32, stride: usize) [T, NR = 4 / 2]
blocks::<T, NR>(map, grid, gradient, dw, stride) }

#[inline(always)]
unsafe fn blocks<T: V, const NR: usize>(map: *const f32, grid: Grid, gradient: Gradient, dw: *mut f32, stride: usize) {
    let full = gradient.channels / T::N;
    let count = full.div_ceil(if T::IS_COMPACT { 1 } else { NR });
    let mut first = 0;
    for block in 0..count {
        let n = (full - first).div_ceil(count - block);
        let gradient = Gradient { values: gradient.values.add(first * T::N), ..gradient };
        let dw = dw.add(first * T::N);
        match n {
            1 => runs::<T, 1, false>(map, &grid, gradient, dw, stride),
            2 if !T::IS_COMPACT => runs::<T, 2, false>(map, &grid, gradient, dw, stride),
            3 if NR > 2 => runs::<T, 3, false>(map, &grid, gradient, dw, stride),
            _ if NR > 2 => runs::<T, 4, false>(map, &grid, gradient, dw, stride),
            _ => {}
        }
        first += n;
    }
    if full * T::N < gradient.channels {
        let rest = Gradient {
            values: gradient.values.add(full * T::N),
            channels: gradient.channels - full * T::N,
            ..gradient
        };
        runs::<T, 1, true>(map, &grid, rest, dw.add(full * T::N), stride);
    }
}

/// All runs for `NR` registers of channels; `PART`: one register that is not full.
#[inline(always)]
unsafe fn runs<T: V, const NR: usize, const PART: bool>(
    map: *const f32,
    grid: &Grid,
    gradient: Gradient,
    dw: *mut f32,
    stride: usize,
) {
    // Inputs whose sums fit the registers beside the gradient's.
    let most = const { most_inputs::<T>(NR) };
    let mut run = 0;
    // Short runs, of layers with a channel or two, three at a time.
    if grid.len == 3 && 9 <= most && !T::IS_COMPACT {
        while run + 3 <= grid.runs.len() {
            let dw = dw.add(grid.runs[run].weight * stride);
            tile::<T, 3, 3, NR, PART>(map, grid, run, 0, gradient, dw, stride);
            run += 3;
        }
    }
    while run < grid.runs.len() {
        let tiles = grid.len.div_ceil(most);
        let mut first = 0;
        for t in 0..tiles {
            let count = (grid.len - first).div_ceil(tiles - t);
            let dw = dw.add((grid.runs[run].weight + first) * stride);
            macro_rules! tile {
                ($c:literal) => {
                    tile::<T, 1, $c, NR, PART>(map, grid, run, first, gradient, dw, stride)
                };
            }
            match count {
                1 => tile!(1),
                2 => tile!(2),
                3 if !T::IS_COMPACT => tile!(3),
                4 if !T::IS_COMPACT => tile!(4),
                5 if !T::IS_COMPACT => tile!(5),
                6 if !T::IS_COMPACT => tile!(6),
                7 if most > 6 => tile!(7),
                8 if most > 7 => tile!(8),
                9 if most > 7 => tile!(9),
                10 if most > 7 => tile!(10),
                11 if most > 7 => tile!(11),
                12 if most > 7 => tile!(12),
                _ => {}
            }
            first += count;
        }
        run += 1;
    }
}

#[inline(always)]
const fn most_inputs<T: V>(registers: usize) -> usize {
    match (T::N, registers) {
        (16, 1 | 2) => 12,
        (16, 3) => 7,
        (16, _) => 6,
        _ if T::IS_COMPACT => 2,
        (_, 1) => 12,
        _ => 6,
    }
}

/// `R` runs by `C` inputs.
#[inline(always)]
unsafe fn tile<T: V, const R: usize, const C: usize, const NR: usize, const PART: bool>(
    map: *const f32,
    grid: &Grid,
    run: usize,
    input: usize,
    gradient: Gradient,
    dw: *mut f32,
    stride: usize,
) {
    let mut acc = [[[T::splat(0.0); NR]; C]; R];
    for row in 0..grid.rows {
        let mut g = gradient.values.add(row * gradient.row);
        let start = map.wrapping_add(row * grid.row + input);
        // No closures here: one that is not inlined loses the instruction set.
        let mut p = [start; R];
        for r in 0..R {
            p[r] = start.wrapping_offset(grid.runs[run + r].at);
        }
        for _ in 0..grid.columns {
            let mut b = [T::splat(0.0); NR];
            for n in 0..NR {
                b[n] = if PART { T::load_part(g, gradient.channels) } else { T::load(g.add(n * T::N)) };
            }
            for r in 0..R {
                for c in 0..C {
                    let a = T::splat(*p[r].add(c));
                    for n in 0..NR {
                        acc[r][c][n] = acc[r][c][n].fma(a, b[n]);
                    }
                }
            }
            // The step behind the last pixel is never used.
            g = g.wrapping_add(gradient.pixel);
            for place in &mut p {
                *place = place.wrapping_add(grid.pixel);
            }
        }
    }
    for r in 0..R {
        for c in 0..C {
            for n in 0..NR {
                let q = dw.add((r * grid.len + c) * stride + n * T::N);
                let sum = acc[r][c][n];
                if PART {
                    T::load_part(q, gradient.channels).add(sum).store_part(q, gradient.channels);
                } else {
                    T::load(q).add(sum).store(q);
                }
            }
        }
    }
}
