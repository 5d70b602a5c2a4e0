//! The kernels of one step and of a block of steps, compiled for each instruction set.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `simd`")]

use std::mem::MaybeUninit;

use super::cells::{self, CellMath, Gru, Lstm, Rnn, Step, StepBack};
use super::product::{BLOCK, Columns, GROUP, Pixels, Runs, Target, block_product, weight_gradient};
use crate::nn::simd::{V, per_isa};

/// Sums of a tile of rows; each load and store within a cache line.
#[repr(align(64))]
struct Sums(#[expect(dead_code, reason = "used through a pointer")] [f32; 6 * BLOCK]);

/// One block of all rows, `NR` registers of columns at a time, for a single row `ONE`.
#[inline(always)]
unsafe fn forward_block<T: V, C: CellMath, const NR: usize, const ONE: usize>(
    s: &Step,
    unit: usize,
    width: usize,
    rows: usize,
) {
    let mut sums = MaybeUninit::<Sums>::uninit();
    let sums = sums.as_mut_ptr().cast::<f32>();
    if const { T::IS_COMPACT } {
        for row in 0..rows {
            cells::sum::<T, C, 1, ONE>(s, unit, row, width, sums);
            C::finish::<T>(s, unit, row, sums, width);
        }
    } else {
        let tiles = rows.div_ceil(6);
        let mut first = 0;
        for tile in 0..tiles {
            let m = (rows - first).div_ceil(tiles - tile);
            match m {
                1 => cells::sum::<T, C, 1, ONE>(s, unit, first, width, sums),
                2 => cells::sum::<T, C, 2, NR>(s, unit, first, width, sums),
                3 => cells::sum::<T, C, 3, NR>(s, unit, first, width, sums),
                4 => cells::sum::<T, C, 4, NR>(s, unit, first, width, sums),
                5 => cells::sum::<T, C, 5, NR>(s, unit, first, width, sums),
                _ => cells::sum::<T, C, 6, NR>(s, unit, first, width, sums),
            }
            for row in 0..m {
                C::finish::<T>(s, unit, first + row, sums.add(row * BLOCK), width);
            }
            first += m;
        }
    }
}

/// Blocks of units outermost: a block's weights serve all rows.
#[inline(always)]
unsafe fn forward<T: V, C: CellMath>(s: &Step, rows: usize) {
    for unit in (0..s.hidden).step_by(C::UNITS) {
        let width = C::GATES * (s.hidden - unit).next_multiple_of(GROUP).min(C::UNITS);
        // Four registers of sixteen lanes by six rows fill 32 registers, two of eight 16. One row alone takes all columns
        // of a block, to keep the multipliers busy.
        if const { T::N == GROUP && C::GATES == 4 } {
            forward_block::<T, C, 4, 4>(s, unit, width, rows);
        } else if const { T::N == GROUP && C::GATES == 3 } {
            forward_block::<T, C, 3, 3>(s, unit, width, rows);
        } else if const { T::N == GROUP } {
            match width / GROUP {
                1 => forward_block::<T, C, 1, 1>(s, unit, width, rows),
                2 => forward_block::<T, C, 2, 2>(s, unit, width, rows),
                3 => forward_block::<T, C, 3, 3>(s, unit, width, rows),
                _ => forward_block::<T, C, 4, 4>(s, unit, width, rows),
            }
        } else if const { C::GATES == 4 } {
            forward_block::<T, C, 2, 8>(s, unit, width, rows);
        } else if const { C::GATES == 3 } {
            forward_block::<T, C, 2, 6>(s, unit, width, rows);
        } else if width == BLOCK {
            forward_block::<T, C, 2, 8>(s, unit, width, rows);
        } else {
            forward_block::<T, C, 2, 2>(s, unit, width, rows);
        }
    }
}

#[inline(always)]
unsafe fn backward<T: V, C: CellMath>(s: &StepBack, rows: usize) {
    for unit in (0..s.hidden.next_multiple_of(GROUP)).step_by(T::N) {
        C::backward::<T>(s, unit, rows);
    }
}

per_isa! { forward_lstm(s: &Step, rows: usize) [T, NR = 4 / 2] forward::<T, Lstm>(s, rows) }
per_isa! { forward_gru(s: &Step, rows: usize) [T, NR = 4 / 2] forward::<T, Gru>(s, rows) }
per_isa! { forward_rnn(s: &Step, rows: usize) [T, NR = 4 / 2] forward::<T, Rnn>(s, rows) }
per_isa! { backward_lstm(s: &StepBack, rows: usize) [T, NR = 4 / 2] backward::<T, Lstm>(s, rows) }
per_isa! { backward_gru(s: &StepBack, rows: usize) [T, NR = 4 / 2] backward::<T, Gru>(s, rows) }
per_isa! { backward_rnn(s: &StepBack, rows: usize) [T, NR = 4 / 2] backward::<T, Rnn>(s, rows) }

/// Rows of a fixed length, written or added to.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) to: *mut f32,
    pub(super) row: usize,
    pub(super) adds: bool,
}

impl Target for Rows {
    #[inline(always)]
    unsafe fn start<T: V>(self, row: usize, column: usize) -> T {
        if self.adds { T::load(self.to.add(row * self.row + column)) } else { T::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn done<T: V>(self, row: usize, column: usize, sum: T) {
        sum.store(self.to.add(row * self.row + column));
    }
}

/// Rows that begin anywhere and have `values` values.
#[derive(Clone, Copy)]
pub(super) struct Scattered {
    pub(super) to: *mut f32,
    pub(super) at: *const usize,
    pub(super) column: usize,
    pub(super) values: usize,
}

impl Target for Scattered {
    #[inline(always)]
    unsafe fn start<T: V>(self, _: usize, _: usize) -> T {
        T::splat(0.0)
    }
    #[inline(always)]
    unsafe fn done<T: V>(self, row: usize, column: usize, sum: T) {
        let column = self.column + column;
        let to = self.to.wrapping_add(*self.at.add(row) + column);
        let lanes = self.values.saturating_sub(column).min(T::N);
        if lanes == T::N { sum.store(to) } else { sum.store_part(to, lanes) }
    }
}

/// The product of `rows` rows of gate gradients with all blocks of a packed, transposed weight for `values` outputs.
#[inline(always)]
unsafe fn products<T: V, G: Target>(
    x: *const f32,
    runs: Runs,
    w: *const f32,
    values: usize,
    rows: usize,
    target: impl Fn(usize) -> G,
) {
    for first in (0..values).step_by(BLOCK) {
        let width = (values - first).next_multiple_of(GROUP).min(BLOCK);
        let (w, target) = (w.add(first * runs.values()), target(first));
        if const { T::N == GROUP } {
            match width / GROUP {
                1 => block_product::<T, 1, 1>(x, runs, w, width, rows, target),
                2 => block_product::<T, 2, 2>(x, runs, w, width, rows, target),
                3 => block_product::<T, 3, 3>(x, runs, w, width, rows, target),
                _ => block_product::<T, 4, 4>(x, runs, w, width, rows, target),
            }
        } else if width == BLOCK {
            block_product::<T, 2, 8>(x, runs, w, width, rows, target);
        } else {
            block_product::<T, 2, 2>(x, runs, w, width, rows, target);
        }
    }
}

per_isa! {
    /// The state's gradient of the step before.
    state_product(x: *const f32, runs: Runs, w: *const f32, hidden: usize, rows: usize, to: Rows)
    [T, NR = 4 / 2]
    products::<T, Rows>(x, runs, w, hidden, rows, |first| Rows { to: to.to.add(first), ..to })
}

per_isa! {
    /// The gradient of one step's inputs.
    input_product(x: *const f32, runs: Runs, w: *const f32, inputs: usize, rows: usize, to: Scattered)
    [T, NR = 4 / 2]
    products::<T, Scattered>(x, runs, w, inputs, rows, |first| Scattered { column: first, ..to })
}

per_isa! {
    /// [`weight_gradient`] of one block of columns.
    weight_product(x: Pixels, inputs: usize, g: Pixels, rows: &[usize], dw: *mut f32, stride: usize, columns: Columns)
    [T, NR = 4 / 2]
    weight_gradient::<T>(x, inputs, g, rows, dw, stride, columns)
}
