//! The forward tile: neighbouring outputs by registers of channels, summed over all runs in registers.
//!
//! Convolutions, their input gradients and dense layers are all this kernel. Every output is one sum in the order of the
//! runs, each step one fused multiply-add, so neither tile nor lanes decide its bytes.
#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract: see `correlate`")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use super::pack::PANEL;
use super::plan::Run;
use crate::nn::simd::{V, per_isa};

/// Bytes of weights that stay in the first cache while all tiles take them.
const STRETCH_BYTES: usize = 32 << 10;
/// Outputs from which weights are taken in stretches: two tiles or more.
const MANY_OUTPUTS: usize = 12;

/// Outputs to compute, and where their operands lie; all steps in floats.
#[derive(Clone, Copy)]
pub(crate) struct Grid<'a> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// From one output's values in the map to the next one's, and from one row's to the next.
    pub(crate) pixel: usize,
    pub(crate) row: usize,
    pub(crate) runs: &'a [Run],
    /// Contiguous values of a run.
    pub(crate) len: usize,
    pub(crate) out_pixel: usize,
    pub(crate) out_row: usize,
}

/// Packed weights.
#[derive(Clone, Copy)]
pub(crate) struct Weights {
    pub(crate) packed: *const f32,
    /// Floats from one panel to the next.
    pub(crate) panel: usize,
    pub(crate) bias: Option<*const f32>,
    pub(crate) channels: usize,
    pub(crate) relu: bool,
}

impl Weights {
    /// Those of the channels from one on.
    ///
    /// # Safety
    /// There are so many channels.
    #[inline(always)]
    pub(super) unsafe fn behind(self, channel: usize) -> Self {
        Self {
            packed: self.packed.add(channel / PANEL * self.panel + channel % PANEL),
            bias: self.bias.map(|bias| bias.add(channel)),
            channels: self.channels - channel,
            ..self
        }
    }
}

per_isa! {
/// `out[row, column, channel] = bias[channel] + sum over runs of map * weight`, at least 0 if asked.
///
/// # Safety
/// For every output of the grid, `map` must be valid for all runs and `out` for `weights.channels` values; `packed` must hold
/// a panel of all runs for every [`PANEL`] channels, `bias` all channels.
correlate(map: *const f32, grid: Grid, weights: Weights, out: *mut f32) [T, NR = 4 / 2]
blocks::<T, NR>(map, grid, weights, out) }

#[inline(always)]
unsafe fn blocks<T: V, const NR: usize>(map: *const f32, grid: Grid, weights: Weights, out: *mut f32) {
    let registers = weights.channels.div_ceil(T::N);
    let mut first = 0;
    for n in blocks_of::<T, NR>(registers) {
        let channel = first * T::N;
        let weights = weights.behind(channel);
        let out = out.add(channel);
        match n {
            1 => stretches::<T, 1>(map, grid, weights, out),
            2 if !T::IS_COMPACT => stretches::<T, 2>(map, grid, weights, out),
            3 if NR > 2 => stretches::<T, 3>(map, grid, weights, out),
            _ if NR > 2 => stretches::<T, 4>(map, grid, weights, out),
            _ => {}
        }
        first += n;
    }
}

/// How many registers of channels each block takes: even blocks, or whole panels.
#[inline(always)]
pub(super) fn blocks_of<T: V, const NR: usize>(registers: usize) -> impl Iterator<Item = usize> {
    let most = if T::IS_COMPACT { 1 } else { NR };
    let count = registers.div_ceil(most);
    let mut first = 0;
    (0..count).map(move |block| {
        let n = if T::N == PANEL { (registers - first).div_ceil(count - block) } else { most.min(registers - first) };
        first += n;
        n
    })
}

/// All outputs of the grid for `NR` registers of channels. Long sums of many outputs go on from stretch to stretch of the
/// weights, each of which stays in the first cache for all tiles; a sum waits in its output meanwhile.
#[inline(always)]
unsafe fn stretches<T: V, const NR: usize>(map: *const f32, grid: Grid, weights: Weights, out: *mut f32) {
    let stretch = STRETCH_BYTES / (NR * T::N * size_of::<f32>());
    if grid.runs.len() != 1 || grid.len < 2 * stretch || grid.rows * grid.columns < MANY_OUTPUTS {
        return tiles::<T, NR>(map, grid, weights, out, Part { is_first: true, is_last: true });
    }
    for from in (0..grid.len).step_by(stretch) {
        let len = stretch.min(grid.len - from);
        let part = Part { is_first: from == 0, is_last: from + len == grid.len };
        let weights = Weights { packed: weights.packed.add(from * PANEL), ..weights };
        tiles::<T, NR>(map.wrapping_add(from), Grid { len, ..grid }, weights, out, part);
    }
}

/// Which part of every sum is added.
#[derive(Clone, Copy)]
struct Part {
    is_first: bool,
    is_last: bool,
}

/// All outputs of the grid for `NR` registers of channels, cut into even tiles: ten pixels become 5 + 5, not 6 + 4.
/// A tile may go on in the next row.
#[inline(always)]
unsafe fn tiles<T: V, const NR: usize>(map: *const f32, grid: Grid, weights: Weights, out: *mut f32, part: Part) {
    let pixels = grid.rows * grid.columns;
    // More row pointers than these are spilled.
    let most = if NR > 2 || T::N < PANEL && NR > 1 { 6 } else { 8 };
    let most = if T::IS_COMPACT { 2 } else { most };
    let tiles = pixels.div_ceil(most);
    let mut done = 0;
    let mut next = Pixel { map, out, map_row: map, out_row: out, column: 0 };
    for tile in 0..tiles {
        let count = (pixels - done).div_ceil(tiles - tile);
        match count {
            1 => run_tile::<T, 1, NR>(&mut next, &grid, &weights, part),
            2 => run_tile::<T, 2, NR>(&mut next, &grid, &weights, part),
            3 if !T::IS_COMPACT => run_tile::<T, 3, NR>(&mut next, &grid, &weights, part),
            4 if !T::IS_COMPACT => run_tile::<T, 4, NR>(&mut next, &grid, &weights, part),
            5 if !T::IS_COMPACT => run_tile::<T, 5, NR>(&mut next, &grid, &weights, part),
            6 if !T::IS_COMPACT => run_tile::<T, 6, NR>(&mut next, &grid, &weights, part),
            7 if NR < 3 && !T::IS_COMPACT => run_tile::<T, 7, NR>(&mut next, &grid, &weights, part),
            8 if NR < 3 && !T::IS_COMPACT => run_tile::<T, 8, NR>(&mut next, &grid, &weights, part),
            _ => {}
        }
        done += count;
    }
}

/// The next output in reading order.
struct Pixel {
    map: *const f32,
    out: *mut f32,
    map_row: *const f32,
    out_row: *mut f32,
    column: usize,
}

impl Pixel {
    /// Steps wrap: after the last pixel the places are never used.
    #[inline(always)]
    fn advance(&mut self, grid: &Grid) {
        self.column += 1;
        if self.column == grid.columns {
            self.column = 0;
            self.map_row = self.map_row.wrapping_add(grid.row);
            self.out_row = self.out_row.wrapping_add(grid.out_row);
            (self.map, self.out) = (self.map_row, self.out_row);
        } else {
            self.map = self.map.wrapping_add(grid.pixel);
            self.out = self.out.wrapping_add(grid.out_pixel);
        }
    }
}

#[inline(always)]
unsafe fn run_tile<T: V, const MR: usize, const NR: usize>(
    next: &mut Pixel,
    grid: &Grid,
    weights: &Weights,
    part: Part,
) {
    let mut from = [next.map; MR];
    let mut to = [next.out; MR];
    for m in 0..MR {
        (from[m], to[m]) = (next.map, next.out);
        next.advance(grid);
    }
    let lanes = weights.channels.min(NR * T::N) - (NR - 1) * T::N;
    let mut acc = biased::<T, MR, NR>(weights);
    if !part.is_first {
        for m in 0..MR {
            for n in 0..NR {
                let p = to[m].add(n * T::N);
                acc[m][n] = if n < NR - 1 || lanes == T::N { T::load(p) } else { T::load_part(p, lanes) };
            }
        }
    }
    let acc = tile::<T, MR, NR>(from, grid, weights, acc);
    let has_relu = weights.relu && part.is_last;
    for m in 0..MR {
        for n in 0..NR {
            let v = if has_relu { acc[m][n].max(T::splat(0.0)) } else { acc[m][n] };
            let p = to[m].add(n * T::N);
            if n < NR - 1 || lanes == T::N { v.store(p) } else { v.store_part(p, lanes) }
        }
    }
}

/// What sums begin with.
#[inline(always)]
pub(super) unsafe fn biased<T: V, const MR: usize, const NR: usize>(weights: &Weights) -> [[T; NR]; MR] {
    let mut acc = [[T::splat(0.0); NR]; MR];
    if let Some(bias) = weights.bias {
        for n in 0..NR {
            let b = load_upto::<T>(bias.add(n * T::N), weights.channels - n * T::N);
            for row in acc.iter_mut() {
                row[n] = b;
            }
        }
    }
    acc
}

/// `acc` and the sums of all runs.
#[inline(always)]
pub(super) unsafe fn tile<T: V, const MR: usize, const NR: usize>(
    from: [*const f32; MR],
    grid: &Grid,
    weights: &Weights,
    mut acc: [[T; NR]; MR],
) -> [[T; NR]; MR] {
    for run in grid.runs {
        let mut p = from;
        for place in &mut p {
            // An output's own place may lie beside the map.
            *place = place.wrapping_offset(run.at);
        }
        let mut w = weights.packed.add(run.weight * PANEL);
        for i in 0..grid.len {
            // No closures here: one that is not inlined loses the instruction set.
            let mut b = [T::splat(0.0); NR];
            for n in 0..NR {
                b[n] = T::load(w.add(n * T::N / PANEL * weights.panel + n * T::N % PANEL));
            }
            for m in 0..MR {
                let a = T::splat(*p[m].add(i));
                for n in 0..NR {
                    acc[m][n] = acc[m][n].fma(a, b[n]);
                }
            }
            w = w.add(PANEL);
        }
    }
    acc
}

/// The first lanes where fewer than a register's are left.
///
/// # Safety
/// `p` must be valid for `left` values or a register of them.
#[inline(always)]
pub(super) unsafe fn load_upto<T: V>(p: *const f32, left: usize) -> T {
    if left >= T::N { T::load(p) } else { T::load_part(p, left) }
}
