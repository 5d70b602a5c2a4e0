//! Calls the kernels for a planned correlation: by bands of rows, groups and, before a pool, pairs of rows.
#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract: see `Operands`")]

use std::ops::Range;

use super::correlate::{Grid, Weights, correlate};
use super::depthwise::depthwise;
use super::maps::pool_rows;
use super::pack::{PANEL, packed_len};
use super::plan::{Cell, Correlation};
use super::pooled::{Windows, pooled};

/// Channels that are pooled at a time, so that two rows of the unpooled map stay in the first cache.
const POOL_BLOCK: usize = 64;

/// Products of a sum up to which what happens around it counts: then windows are pooled in registers. Longer sums are faster in
/// tiles of more pixels.
const SHORT: usize = 64;

/// What a correlation of one image reads.
///
/// # Safety
/// For the functions here: `map` holds the bordered map for which the correlation was planned, `packed` its packed
/// weights, `bias` all channels of all groups.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub(super) map: *const f32,
    pub(super) packed: *const f32,
    pub(super) bias: Option<*const f32>,
    pub(super) relu: bool,
}

impl Operands {
    /// The outputs `rows` of a cell, of some channels of a group; `out` is where the cell's first one goes.
    #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
    unsafe fn compute(
        self,
        plan: &Correlation,
        cell: &Cell,
        rows: Range<usize>,
        group: usize,
        channels: Range<usize>,
        out: *mut f32,
        (out_pixel, out_row): (usize, usize),
    ) {
        let grid = Grid {
            rows: rows.len(),
            columns: cell.columns.len(),
            pixel: plan.pixel,
            row: plan.row,
            runs: &cell.runs,
            len: cell.len,
            out_pixel,
            out_row,
        };
        let (map, weights) = self.of_group(plan, group, channels.clone());
        let map = map.wrapping_add(rows.start * plan.row + cell.columns.start * plan.pixel);
        if plan.is_depthwise {
            depthwise(map.wrapping_add(channels.start), grid, weights, out);
        } else {
            correlate(map, grid, weights, out);
        }
    }

    /// The map as a group sees it, and the weights of some of its channels.
    unsafe fn of_group(self, plan: &Correlation, group: usize, channels: Range<usize>) -> (*const f32, Weights) {
        let (panel, first) = if plan.is_depthwise {
            (plan.channels.next_multiple_of(PANEL), channels.start)
        } else {
            let panel = plan.depth() * PANEL;
            (panel, group * packed_len(plan.depth(), plan.channels) + channels.start / PANEL * panel)
        };
        let weights = Weights {
            packed: self.packed.add(first),
            panel,
            bias: self.bias.map(|bias| bias.add(group * plan.channels + channels.start)),
            channels: channels.len(),
            relu: self.relu,
        };
        (self.map.add(group * plan.sees), weights)
    }
}

/// The whole correlation of one image.
///
/// # Safety
/// As [`Operands`]; `out` is valid for all outputs of the plan.
pub(super) unsafe fn run(plan: &Correlation, operands: Operands, out: *mut f32) {
    for cell in &plan.cells {
        for group in 0..plan.groups {
            let place = cell.rows.start * plan.out_row + cell.columns.start * plan.out_pixel;
            let out = out.add(plan.first + place + group * plan.channels);
            let steps = (plan.out_pixel, plan.out_row);
            operands.compute(plan, cell, cell.rows.clone(), group, 0..plan.channels, out, steps);
        }
    }
}

/// Scratch that [`run_pooled`] needs.
pub(super) fn pooled_scratch(plan: &Correlation) -> usize {
    2 * plan.columns * plan.channels.min(POOL_BLOCK)
}

/// The correlation of one image, then max pool and ReLU: only two rows of the unpooled map ever exist.
///
/// # Safety
/// As [`Operands`]; `out` and `won` are valid for the pooled map, `two` for [`pooled_scratch`] values.
pub(super) unsafe fn run_pooled(
    plan: &Correlation,
    operands: Operands,
    two: *mut f32,
    out: *mut f32,
    won: Option<*mut u8>,
) {
    let operands = Operands { relu: false, ..operands };
    let (height, width, all) = (plan.rows / 2, plan.columns / 2, plan.groups * plan.channels);
    let is_short = !plan.is_depthwise && plan.depth() <= SHORT;
    if let ([cell], true) = (&plan.cells[..], is_short) {
        // All outputs see the same taps, so the four of every window are summed side by side.
        for group in 0..plan.groups {
            let (map, weights) = operands.of_group(plan, group, 0..plan.channels);
            for y in 0..height {
                let grid = Grid {
                    rows: 2,
                    columns: plan.columns,
                    pixel: plan.pixel,
                    row: plan.row,
                    runs: &cell.runs,
                    len: cell.len,
                    out_pixel: 0,
                    out_row: 0,
                };
                let at = y * width * all + group * plan.channels;
                let to = Windows { out: out.add(at), won: won.map(|won| won.add(at)), pixel: all };
                pooled(map.wrapping_add(2 * y * plan.row), grid, weights, to);
            }
        }
        return;
    }
    for group in 0..plan.groups {
        for channel in (0..plan.channels).step_by(POOL_BLOCK) {
            let channels = channel..plan.channels.min(channel + POOL_BLOCK);
            let (pixel, row) = (channels.len(), plan.columns * channels.len());
            for y in 0..height {
                let pair = 2 * y..2 * y + 2;
                for cell in &plan.cells {
                    let rows = cell.rows.start.max(pair.start)..cell.rows.end.min(pair.end);
                    if rows.is_empty() {
                        continue;
                    }
                    let to = two.add((rows.start - pair.start) * row + cell.columns.start * pixel);
                    operands.compute(plan, cell, rows, group, channels.clone(), to, (pixel, row));
                }
                let at = y * width * all + group * plan.channels + channel;
                pool_rows(two, pixel, row, width, pixel, out.add(at), won.map(|won| won.add(at)), all);
            }
        }
    }
}
