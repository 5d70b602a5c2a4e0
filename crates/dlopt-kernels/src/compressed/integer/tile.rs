//! A tile: rows of activations by panels of outputs, summed in registers; and what becomes of the sums.
//!
//! `out = (sum over groups of float(sum of the group) * scale[group]) * scale[row] + bias`, groups in order, each step one
//! fused multiply-add.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`, and of `Task`")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use super::registers::{Floats, Integers, PANEL};
use super::source::{Place, Source};
use crate::compressed::lines::LINE;

/// Scales of a panel's groups, `[groups][PANEL]`.
#[derive(Clone, Copy, Debug)]
pub(super) enum ScalePlace {
    Single(*const f32),
    /// 16 bits each.
    Half(*const u16),
}

impl ScalePlace {
    #[inline(always)]
    unsafe fn load<T: Integers>(self, at: usize) -> T::Floats {
        match self {
            ScalePlace::Single(scales) => T::Floats::load(scales.add(at)),
            ScalePlace::Half(scales) => T::load_halves(scales.add(at)),
        }
    }

    /// Asks for scales, which need not exist.
    #[inline(always)]
    unsafe fn prefetch<T: Integers>(self, at: usize) {
        match self {
            ScalePlace::Single(scales) => T::prefetch(scales.wrapping_add(at).cast()),
            ScalePlace::Half(scales) => T::prefetch(scales.wrapping_add(at).cast()),
        }
    }
}

/// Panels of outputs and rows of activations that are multiplied.
///
/// # Safety
/// For the functions here: `codes` holds the part's quads for each panel, `scales` and `zeros` all groups of each panel;
/// activations, sums and scales are those of all `rows`; `carry` holds a register for each register of each row; `bias` and
/// each row of `out` hold `outputs` values.
#[derive(Clone, Copy)]
pub(super) struct Task {
    /// What is stored of a code is this much above it.
    pub(super) offset: i32,
    pub(super) scales: ScalePlace,
    /// `[groups][PANEL]`, or null where all are 0.
    pub(super) zeros: *const i8,
    /// Groups of all inputs.
    pub(super) groups: usize,
    /// Activations, and bytes from one row to the next.
    pub(super) x: *const u8,
    pub(super) x_row: usize,
    /// Sums of the activations, `[rows][groups]`.
    pub(super) sums: *const i32,
    pub(super) row_scales: *const f32,
    pub(super) rows: usize,
    /// Sums between parts, `[rows][registers]`.
    pub(super) carry: *mut u8,
    pub(super) bias: Option<*const f32>,
    pub(super) outputs: usize,
    pub(super) relu: bool,
    pub(super) out: *mut f32,
    pub(super) out_row: usize,
}

/// The inputs that a pass over all rows takes: some groups of equal length, or a piece of the only one.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// Codes of the first panel, and bytes from one panel to the next.
    pub(super) codes: *const u8,
    pub(super) panel: usize,
    pub(super) is_streamed: bool,
    /// Where the part begins in a row of activations, in quads.
    pub(super) quad: usize,
    pub(super) first_group: usize,
    pub(super) groups: usize,
    /// Quads of each group.
    pub(super) quads: usize,
    /// Floats are carried from the parts before it.
    pub(super) follows_groups: bool,
    /// It begins, or ends, inside the only group.
    pub(super) begins_inside: bool,
    pub(super) ends_inside: bool,
    /// Results are written.
    pub(super) is_last: bool,
    pub(super) ahead: Ahead,
}

/// Codes that are unpacked next: memory is asked for them while a part is multiplied.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// Those of the first panel, and bytes from one panel to the next.
    pub(super) codes: *const u8,
    pub(super) panel: usize,
    pub(super) panels: usize,
    /// Bytes of each panel.
    pub(super) bytes: usize,
}

impl Ahead {
    pub(super) const NOTHING: Self = Self { codes: std::ptr::null(), panel: 0, panels: 0, bytes: 0 };

    /// Asks for the share of one of `tiles`.
    #[inline(always)]
    unsafe fn prefetch<T: Integers>(&self, tile: usize, tiles: usize) {
        let share = self.bytes.div_ceil(tiles).next_multiple_of(LINE);
        for panel in 0..self.panels {
            for at in (share * tile..self.bytes.min(share * (tile + 1))).step_by(LINE) {
                T::prefetch(self.codes.wrapping_add(panel * self.panel + at));
            }
        }
    }
}

/// All rows, cut into even tiles.
#[inline(always)]
pub(super) unsafe fn tiles<T: Integers, S: Source, const NR: usize>(task: &Task, part: &Part) {
    let most = S::rows::<T>();
    let count = task.rows.div_ceil(most);
    let mut row = 0;
    for tile in 0..count {
        let rows = (task.rows - row).div_ceil(count - tile);
        part.ahead.prefetch::<T>(tile, count);
        match rows {
            1 => tile_of::<T, S, 1, NR>(task, part, row),
            2 if most > 1 => tile_of::<T, S, 2, NR>(task, part, row),
            3 if most > 2 => tile_of::<T, S, 3, NR>(task, part, row),
            4 if most > 3 => tile_of::<T, S, 4, NR>(task, part, row),
            5 if most > 4 => tile_of::<T, S, 5, NR>(task, part, row),
            6 if most > 5 => tile_of::<T, S, 6, NR>(task, part, row),
            _ => {}
        }
        row += rows;
    }
}

#[inline(always)]
unsafe fn tile_of<T: Integers, S: Source, const MR: usize, const NR: usize>(task: &Task, part: &Part, row: usize) {
    let mut x = [task.x; MR];
    for m in 0..MR {
        x[m] = task.x.add((row + m) * task.x_row + part.quad * S::x_quad::<T>());
    }
    let place = Place { codes: part.codes, panel: part.panel, x, is_streamed: part.is_streamed && row == 0 };
    groups::<T, S, MR, NR>(task, part, row, place);
}

/// Sums inside a group are carried as integers, those of whole groups as floats.
#[inline(always)]
unsafe fn groups<T: Integers, S: Source, const MR: usize, const NR: usize>(
    task: &Task,
    part: &Part,
    row: usize,
    mut place: Place<MR>,
) {
    let mut totals = [[T::Floats::splat(0.0); NR]; MR];
    if part.follows_groups {
        for m in 0..MR {
            for n in 0..NR {
                totals[m][n] = T::Floats::load(carried::<T, NR>(task, row + m, n) as *const f32);
            }
        }
    }
    for group in part.first_group..part.first_group + part.groups {
        let mut sums = start::<T, MR, NR>(task, row, group);
        if part.begins_inside {
            for m in 0..MR {
                for n in 0..NR {
                    sums[m][n] = T::load(carried::<T, NR>(task, row + m, n));
                }
            }
        }
        S::add::<T, MR, NR>(&mut sums, place, part.quads);
        if part.ends_inside {
            for m in 0..MR {
                for n in 0..NR {
                    sums[m][n].store(carried::<T, NR>(task, row + m, n));
                }
            }
            return;
        }
        if place.is_streamed {
            ask_for_next::<T, NR>(task, group);
        }
        fold::<T, MR, NR>(task, row, group, sums, &mut totals);
        place.codes = place.codes.add(S::bytes(part.quads));
        for m in 0..MR {
            place.x[m] = place.x[m].add(part.quads * S::x_quad::<T>());
        }
    }
    if part.is_last {
        finish::<T, MR, NR>(task, row, totals);
    } else {
        for m in 0..MR {
            for n in 0..NR {
                totals[m][n].store(carried::<T, NR>(task, row + m, n) as *mut f32);
            }
        }
    }
}

/// Asks for what the same group of the next panels needs: their runs are too short for a machine to foresee.
#[inline(always)]
unsafe fn ask_for_next<T: Integers, const NR: usize>(task: &Task, group: usize) {
    for panel in 0..(NR * T::N).div_ceil(PANEL) {
        let at = ((NR * T::N / PANEL + panel) * task.groups + group) * PANEL;
        task.scales.prefetch::<T>(at);
        if !task.zeros.is_null() {
            T::prefetch(task.zeros.wrapping_add(at).cast());
        }
    }
}

#[inline(always)]
unsafe fn carried<T: Integers, const NR: usize>(task: &Task, row: usize, register: usize) -> *mut u8 {
    task.carry.add((row * NR + register) * 4 * T::N)
}

/// Sums that take back what is stored above each code.
#[inline(always)]
pub(super) unsafe fn start<T: Integers, const MR: usize, const NR: usize>(
    task: &Task,
    row: usize,
    group: usize,
) -> [[T; NR]; MR] {
    let mut sums = [[T::splat(0); NR]; MR];
    for m in 0..MR {
        sums[m] = [T::splat(-task.offset * *task.sums.add((row + m) * task.groups + group)); NR];
    }
    sums
}

/// Adds a group's sums, its zero points taken off, times its scales.
#[inline(always)]
pub(super) unsafe fn fold<T: Integers, const MR: usize, const NR: usize>(
    task: &Task,
    row: usize,
    group: usize,
    sums: [[T; NR]; MR],
    totals: &mut [[T::Floats; NR]; MR],
) {
    for n in 0..NR {
        let lane = n * T::N;
        let at = (lane / PANEL * task.groups + group) * PANEL + lane % PANEL;
        let scale = task.scales.load::<T>(at);
        for m in 0..MR {
            let mut sum = sums[m][n];
            if !task.zeros.is_null() {
                let x = T::splat(*task.sums.add((row + m) * task.groups + group));
                sum = sum.sub(T::load_bytes(task.zeros.add(at)).mul(x));
            }
            totals[m][n] = totals[m][n].fma(sum.to_floats(), scale);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn finish<T: Integers, const MR: usize, const NR: usize>(
    task: &Task,
    row: usize,
    totals: [[T::Floats; NR]; MR],
) {
    for n in 0..NR {
        let left = task.outputs.saturating_sub(n * T::N).min(T::N);
        let bias = match task.bias {
            Some(bias) if left == T::N => T::Floats::load(bias.add(n * T::N)),
            Some(bias) if left > 0 => T::Floats::load_part(bias.add(n * T::N), left),
            _ => T::Floats::splat(0.0),
        };
        for m in 0..MR {
            let mut value = bias.fma(totals[m][n], T::Floats::splat(*task.row_scales.add(row + m)));
            if task.relu {
                value = value.relu();
            }
            let to = task.out.wrapping_add((row + m) * task.out_row + n * T::N);
            if left == T::N {
                value.store(to);
            } else if left > 0 {
                value.store_part(to, left);
            }
        }
    }
}
