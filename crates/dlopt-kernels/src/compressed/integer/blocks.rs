//! Blocks of rows and panels that tiles of the machine's own multiply; what becomes of the sums is what [`super::tile`] does
//! with those of its registers.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contracts of `Integers`, `Task` and `Unit`")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use std::mem::MaybeUninit;

use super::registers::{Floats, Integers};
use super::source::QUAD;
use super::tile::{Part, Task, finish, fold, start};
use super::unit::{QUADS, ROWS, Rows, TILE_BYTES, Unit};

/// Bytes of a row of a tile of sums.
const LINE: usize = TILE_BYTES / ROWS;
/// Rows whose sums are taken on at a time.
const STEP: usize = 4;

/// Groups whose sums are taken on at a time, at most.
const GROUPS: usize = 4;
/// Bytes of the sums of two tiles of rows by two panels.
const BLOCK_BYTES: usize = 4 * TILE_BYTES;

/// Sums of a block, of some groups, from the beginning of a cache line.
#[repr(align(64))]
struct Sums(MaybeUninit<[u8; GROUPS * BLOCK_BYTES]>);

impl Sums {
    fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// All rows of a part. Activations are `[tile of rows][QUADS quads][ROWS][4 * QUADS]`, and `carry` holds whole tiles.
#[inline(always)]
pub(super) unsafe fn blocks<T: Integers, const NR: usize, const IS_SIGNED: bool>(
    task: &Task,
    part: &Part,
    tiles: &mut T::Unit,
) {
    let mut row = 0;
    while row < task.rows {
        if task.rows - row > ROWS {
            block::<T, 2, NR, IS_SIGNED>(task, part, tiles, row);
            row += 2 * ROWS;
        } else {
            block::<T, 1, NR, IS_SIGNED>(task, part, tiles, row);
            row += ROWS;
        }
    }
}

/// Sums inside a group are carried as integers, those of whole groups as floats.
#[inline(always)]
unsafe fn block<T: Integers, const R: usize, const NR: usize, const IS_SIGNED: bool>(
    task: &Task,
    part: &Part,
    tiles: &mut T::Unit,
    row: usize,
) {
    let mut own = Sums::new();
    let carry = task.carry.add(row / ROWS * NR * TILE_BYTES);
    let sums = if part.begins_inside || part.ends_inside { carry } else { own.as_mut_ptr() };
    let rows = (task.rows - row).min(R * ROWS);
    for first in (0..part.groups).step_by(GROUPS) {
        let groups = GROUPS.min(part.groups - first);
        for group in 0..groups {
            let quad = (first + group) * part.quads;
            let from = Rows {
                x: task.x.add(row * task.x_row),
                quad: part.quad + quad,
                row: 4 * QUADS,
                tile: ROWS * task.x_row,
                step: 4 * QUADS * ROWS,
            };
            let (codes, to) = (part.codes.add(quad * QUAD), sums.wrapping_add(group * BLOCK_BYTES));
            tiles.sum::<R, NR, IS_SIGNED>(from, codes, part.panel, part.quads, part.begins_inside, to);
        }
        if part.ends_inside {
            return;
        }
        let taken = Taken {
            first: part.first_group + first,
            groups,
            follows: first > 0 || part.follows_groups,
            is_end: first + groups == part.groups && part.is_last,
        };
        let mut at = 0;
        while at < rows {
            let (sums, totals) = (line::<NR>(sums, at), line::<NR>(carry, at));
            if rows - at >= STEP {
                take::<T, STEP, NR>(task, row + at, taken, sums, totals);
                at += STEP;
            } else {
                take::<T, 1, NR>(task, row + at, taken, sums, totals);
                at += 1;
            }
        }
    }
}

/// Groups whose sums are taken on together.
#[derive(Clone, Copy)]
struct Taken {
    first: usize,
    groups: usize,
    /// There are totals of groups before them.
    follows: bool,
    /// There are none behind them: results are written.
    is_end: bool,
}

/// Where the sums of a row and the first of `NR` panels lie.
#[inline(always)]
fn line<const NR: usize>(sums: *mut u8, row: usize) -> *mut u8 {
    sums.wrapping_add(row / ROWS * NR * TILE_BYTES + row % ROWS * LINE)
}

/// The integers, or floats, of a row and a panel.
#[inline(always)]
fn lanes(row: *mut u8, m: usize, n: usize) -> *mut u8 {
    row.wrapping_add(n * TILE_BYTES + m * LINE)
}

/// Sums of `MR` rows, what is stored above each code taken back.
#[inline(always)]
unsafe fn rows<T: Integers, const MR: usize, const NR: usize>(
    task: &Task,
    row: usize,
    group: usize,
    from: *mut u8,
) -> [[T; NR]; MR] {
    let mut sums = if task.offset == 0 { [[T::splat(0); NR]; MR] } else { start::<T, MR, NR>(task, row, group) };
    for m in 0..MR {
        for n in 0..NR {
            sums[m][n] = sums[m][n].add(T::load(lanes(from, m, n)));
        }
    }
    sums
}

/// Adds the sums of some groups to the totals of `MR` rows, or writes results at the end.
#[inline(always)]
unsafe fn take<T: Integers, const MR: usize, const NR: usize>(
    task: &Task,
    row: usize,
    taken: Taken,
    sums: *mut u8,
    carried: *mut u8,
) {
    let mut totals = [[T::Floats::splat(0.0); NR]; MR];
    if taken.follows {
        for m in 0..MR {
            for n in 0..NR {
                totals[m][n] = T::Floats::load(lanes(carried, m, n) as *const f32);
            }
        }
    }
    for group in 0..taken.groups {
        let sums = rows::<T, MR, NR>(task, row, taken.first + group, sums.wrapping_add(group * BLOCK_BYTES));
        fold::<T, MR, NR>(task, row, taken.first + group, sums, &mut totals);
    }
    if taken.is_end {
        return finish::<T, MR, NR>(task, row, totals);
    }
    for m in 0..MR {
        for n in 0..NR {
            totals[m][n].store(lanes(carried, m, n) as *mut f32);
        }
    }
}

/// Rows of one group that lie one behind the other, and with `POOLS` the greatest of each four of them.
///
/// Rows are readable up to a whole tile.
#[inline(always)]
pub(super) unsafe fn patches<T: Integers, const NR: usize, const POOLS: bool>(
    task: &Task,
    part: &Part,
    tiles: &mut T::Unit,
) {
    let mut own = Sums::new();
    let taken = Taken { first: 0, groups: 1, follows: false, is_end: true };
    let mut row = 0;
    while row < task.rows {
        let (x, sums) = (task.x.add(row * task.x_row), own.as_mut_ptr());
        let from = Rows { x, quad: 0, row: task.x_row, tile: ROWS * task.x_row, step: 4 * QUADS };
        let count = if task.rows - row > ROWS { 2 * ROWS } else { ROWS };
        if count > ROWS {
            tiles.sum::<2, NR, false>(from, part.codes, part.panel, part.quads, false, sums);
        } else {
            tiles.sum::<1, NR, false>(from, part.codes, part.panel, part.quads, false, sums);
        }
        let rows = count.min(task.rows - row);
        let mut at = 0;
        while at < rows {
            let sums = line::<NR>(sums, at);
            if POOLS {
                pool::<T, NR>(task, row + at, sums);
                at += 4;
            } else if rows - at >= STEP {
                take::<T, STEP, NR>(task, row + at, taken, sums, sums);
                at += STEP;
            } else {
                take::<T, 1, NR>(task, row + at, taken, sums, sums);
                at += 1;
            }
        }
        row += count;
    }
}

/// The greatest of four rows. Scales are not negative, so it may be taken before they are applied.
#[inline(always)]
unsafe fn pool<T: Integers, const NR: usize>(task: &Task, row: usize, sums: *mut u8) {
    let four = rows::<T, 4, NR>(task, row, 0, sums);
    let mut most = [four[0]];
    for n in 0..NR {
        most[0][n] = four[0][n].max(four[1][n]).max(four[2][n].max(four[3][n]));
    }
    let mut totals = [[T::Floats::splat(0.0); NR]];
    fold::<T, 1, NR>(task, row / 4, 0, most, &mut totals);
    finish::<T, 1, NR>(task, row / 4, totals);
}
