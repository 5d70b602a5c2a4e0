//! Matrix products of the recurrent layers, in registers.
//!
//! Weights are packed in blocks of up to 64 columns, `[block][k][width]`; an operand is a run of values a row. Every
//! output is one sum over `k` in order, so tiles and lanes change no byte.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `simd`")]
#![allow(clippy::needless_range_loop, reason = "tiles are indexed by row and register alike")]

use crate::nn::simd::V;

/// The columns that the gates of a layer are cut by, whatever the register.
pub(super) const GROUP: usize = 16;
/// The columns of a full block.
pub(super) const BLOCK: usize = 64;

/// Adds to `acc[m][n]` the product of `len` values at `rows[m]` with neighbouring columns at `w`, rows `stride` apart.
#[inline(always)]
pub(super) unsafe fn accumulate<T: V, const MR: usize, const NR: usize>(
    acc: &mut [[T; NR]; MR],
    rows: &[*const f32; MR],
    len: usize,
    w: *const f32,
    stride: usize,
) {
    let mut w = w;
    for k in 0..len {
        let b: [T; NR] = std::array::from_fn(|n| T::load(w.add(n * T::N)));
        for m in 0..MR {
            let a = T::splat(*rows[m].add(k));
            for n in 0..NR {
                acc[m][n] = acc[m][n].fma(a, b[n]);
            }
        }
        w = w.add(stride);
    }
}

/// An operand whose values lie in `count` runs of `len` (the last: `last`), `step` apart; rows are `row` apart.
#[derive(Clone, Copy)]
pub(super) struct Runs {
    pub(super) row: usize,
    pub(super) count: usize,
    pub(super) len: usize,
    pub(super) last: usize,
    pub(super) step: usize,
}

impl Runs {
    /// How many values a row has.
    pub(super) fn values(&self) -> usize {
        (self.count - 1) * self.len + self.last
    }
}

/// Where a product's sums begin and where they go.
pub(super) trait Target: Copy {
    unsafe fn start<T: V>(self, row: usize, column: usize) -> T;
    unsafe fn done<T: V>(self, row: usize, column: usize, sum: T);
}

/// `rows` rows by one packed block of columns, `NR` registers of `width` at a time, for a single row `ONE`.
#[inline(always)]
pub(super) unsafe fn block_product<T: V, const NR: usize, const ONE: usize>(
    x: *const f32,
    runs: Runs,
    w: *const f32,
    width: usize,
    rows: usize,
    target: impl Target,
) {
    if const { T::IS_COMPACT } {
        for row in 0..rows {
            for column in (0..width).step_by(ONE * T::N) {
                product_tile::<T, 1, ONE>(x, runs, w, width, row, column, target);
            }
        }
    } else if rows == 1 {
        for column in (0..width).step_by(ONE * T::N) {
            product_tile::<T, 1, ONE>(x, runs, w, width, 0, column, target);
        }
    } else {
        for column in (0..width).step_by(NR * T::N) {
            let tiles = rows.div_ceil(6);
            let mut first = 0;
            for tile in 0..tiles {
                let m = (rows - first).div_ceil(tiles - tile);
                macro_rules! run {
                    ($m:literal) => {
                        product_tile::<T, $m, NR>(x, runs, w, width, first, column, target)
                    };
                }
                // Even tiles of two rows or more have two rows or more each.
                match m {
                    0..=2 => run!(2),
                    3 => run!(3),
                    4 => run!(4),
                    5 => run!(5),
                    _ => run!(6),
                }
                first += m;
            }
        }
    }
}

#[inline(always)]
unsafe fn product_tile<T: V, const MR: usize, const NR: usize>(
    x: *const f32,
    runs: Runs,
    w: *const f32,
    width: usize,
    first: usize,
    column: usize,
    target: impl Target,
) {
    let mut acc = [[T::splat(0.0); NR]; MR];
    for m in 0..MR {
        for n in 0..NR {
            acc[m][n] = target.start(first + m, column + n * T::N);
        }
    }
    let mut w = w.add(column);
    for run in 0..runs.count {
        let len = if run + 1 == runs.count { runs.last } else { runs.len };
        let mut at = [x; MR];
        for m in 0..MR {
            at[m] = x.add((first + m) * runs.row + run * runs.step);
        }
        accumulate::<T, MR, NR>(&mut acc, &at, len, w, width);
        w = w.add(len * width);
    }
    for m in 0..MR {
        for n in 0..NR {
            target.done(first + m, column + n * T::N, acc[m][n]);
        }
    }
}

/// One operand of a weight gradient: a value for each of some steps and rows.
#[derive(Clone, Copy)]
pub(super) struct Pixels {
    pub(super) at: *const f32,
    /// From one row to the next.
    pub(super) row: usize,
    /// From one step to the next.
    pub(super) step: usize,
}

/// Where the columns of a block lie in the gradient in memory.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// Offset of each group of sixteen.
    pub(super) at: [usize; 4],
    /// How many of the sixteen exist.
    pub(super) lanes: [usize; 4],
    pub(super) groups: usize,
}

/// `dw[i][column] += sum over steps and rows of x[i] * g[column]` for `inputs` inputs and the columns of one block;
/// `rows[step]` rows of each step, rows of `dw` `stride` apart.
#[inline(always)]
pub(super) unsafe fn weight_gradient<T: V>(
    x: Pixels,
    inputs: usize,
    g: Pixels,
    rows: &[usize],
    dw: *mut f32,
    stride: usize,
    columns: Columns,
) {
    // Four groups in four registers of sixteen, or one group in two of eight.
    let together = if T::N == GROUP { columns.groups } else { 1 };
    for group in (0..columns.groups).step_by(together) {
        let g = Pixels { at: g.at.add(group * GROUP), ..g };
        let columns = Columns {
            at: std::array::from_fn(|n| columns.at[(group + n).min(3)]),
            lanes: std::array::from_fn(|n| columns.lanes[(group + n).min(3)]),
            groups: together,
        };
        macro_rules! registers {
            ($n:literal) => {{
                let tallest = if T::IS_COMPACT { 1 } else { 6 };
                let tiles = inputs.div_ceil(tallest);
                let mut first = 0;
                for tile in 0..tiles {
                    let m = (inputs - first).div_ceil(tiles - tile);
                    let x = Pixels { at: x.at.add(first), ..x };
                    let dw = dw.add(first * stride);
                    if const { T::IS_COMPACT } {
                        weight_tile::<T, 1, $n>(x, g, rows, dw, stride, columns);
                    } else {
                        match m {
                            1 => weight_tile::<T, 1, $n>(x, g, rows, dw, stride, columns),
                            2 => weight_tile::<T, 2, $n>(x, g, rows, dw, stride, columns),
                            3 => weight_tile::<T, 3, $n>(x, g, rows, dw, stride, columns),
                            4 => weight_tile::<T, 4, $n>(x, g, rows, dw, stride, columns),
                            5 => weight_tile::<T, 5, $n>(x, g, rows, dw, stride, columns),
                            _ => weight_tile::<T, 6, $n>(x, g, rows, dw, stride, columns),
                        }
                    }
                    first += m;
                }
            }};
        }
        if const { T::N == GROUP } {
            match together {
                1 => registers!(1),
                2 => registers!(2),
                3 => registers!(3),
                _ => registers!(4),
            }
        } else {
            registers!(2);
        }
    }
}

#[inline(always)]
unsafe fn weight_tile<T: V, const MR: usize, const NR: usize>(
    x: Pixels,
    g: Pixels,
    rows: &[usize],
    dw: *mut f32,
    stride: usize,
    columns: Columns,
) {
    let mut acc = [[T::splat(0.0); NR]; MR];
    for (step, &rows) in rows.iter().enumerate() {
        let (mut p, mut q) = (x.at.add(step * x.step), g.at.add(step * g.step));
        for _ in 0..rows {
            let b: [T; NR] = std::array::from_fn(|n| T::load(q.add(n * T::N)));
            for m in 0..MR {
                let a = T::splat(*p.add(m));
                for n in 0..NR {
                    acc[m][n] = acc[m][n].fma(a, b[n]);
                }
            }
            p = p.add(x.row);
            q = q.add(g.row);
        }
    }
    for n in 0..NR {
        let (group, lane) = (n * T::N / GROUP, n * T::N % GROUP);
        let lanes = columns.lanes[group].saturating_sub(lane).min(T::N);
        for m in 0..MR {
            let to = dw.wrapping_add(m * stride + columns.at[group] + lane);
            add_part(to, acc[m][n], lanes);
        }
    }
}

/// Adds the first `lanes` lanes to memory.
#[inline(always)]
pub(super) unsafe fn add_part<T: V>(to: *mut f32, value: T, lanes: usize) {
    if lanes == T::N {
        T::load(to).add(value).store(to);
    } else {
        T::load_part(to, lanes).add(value).store_part(to, lanes);
    }
}
