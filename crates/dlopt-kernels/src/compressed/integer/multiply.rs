//! Rows of quantized activations by panels of a matrix: which blocks of it are read in which order.
//!
//! Few rows stream codes as they are packed. Many rows take blocks of inputs that stay in the first cache, unpacked there once.
//! Where the machine has tiles of its own, a block of the rows stays in the second cache while all panels of the task pass.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`, and of `Task`")]

use std::ops::Range;

use super::Work;
use super::blocks::blocks;
use super::matrix::{FEW_ROWS, Matrix, Rows, TILE_ROWS, padded_quads};
use super::packing::Packing;
use super::registers::{Integers, PANEL};
use super::source::{QUAD, Source};
use super::tile::{Ahead, Part, Task, tiles};
use super::unit::Unit;

/// Codes that stay in a cache from one product to the next.
const CACHED: usize = 4 << 20;
/// Panels that are multiplied at a time, at most.
const PANELS: usize = 4;
/// Quads of them that are unpacked at a time.
const UNPACKED_QUADS: usize = 128;
/// Panels that tiles of the machine's own multiply at a time, and their quads.
const TILED_PANELS: usize = 2;
const TILED_QUADS: usize = 128;

/// Panels to multiply by rows.
pub(super) struct Multiply<'a, P> {
    pub(super) matrix: &'a Matrix<P>,
    pub(super) rows: Rows,
    pub(super) panels: Range<usize>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) relu: bool,
    pub(super) out: *mut f32,
    /// [`Multiply::scratch_bytes`].
    pub(super) scratch: *mut u8,
}

impl<P: Packing> Multiply<'_, P> {
    /// Bytes of scratch: sums that are carried, and what is unpacked at a time.
    pub(super) fn scratch_bytes(&self) -> usize {
        let group = if self.matrix.groups == 1 { 0 } else { self.matrix.group / 4 };
        let unpacked = if self.rows.is_tiled {
            TILED_PANELS * P::Unpacked::bytes(TILED_QUADS.max(group))
        } else if self.is_few() {
            0
        } else {
            PANELS * P::Unpacked::bytes(UNPACKED_QUADS.max(group))
        };
        self.carry_bytes() + unpacked
    }

    fn carry_bytes(&self) -> usize {
        let panels = if self.rows.is_tiled { self.panels.len() } else { PANELS };
        panels * self.rows.count.next_multiple_of(TILE_ROWS) * QUAD
    }

    fn is_few(&self) -> bool {
        self.rows.count <= FEW_ROWS && !self.rows.is_tiled
    }

    /// Codes come from memory, and once: one panel after the other is the stream that is fastest.
    fn is_streamed(&self) -> bool {
        self.is_few() && self.matrix.codes.bytes().len() > CACHED
    }

    /// What `NR` registers of outputs from `panel` on need besides the codes.
    #[inline(always)]
    unsafe fn task<T: Integers, const NR: usize>(&self, panel: usize, offset: i32, carry: *mut u8) -> Task {
        let (matrix, rows) = (self.matrix, self.rows);
        Task {
            offset,
            scales: matrix.scales.panel(panel, matrix.groups),
            zeros: matrix.zeros.get(panel * matrix.groups * PANEL).map_or(std::ptr::null(), std::ptr::from_ref),
            groups: matrix.groups,
            x: rows.x,
            x_row: rows.row_bytes,
            sums: rows.sums,
            row_scales: rows.scales,
            rows: rows.count,
            carry,
            bias: self.bias.map(|bias| bias.as_ptr().add(panel * PANEL)),
            outputs: (matrix.outputs - panel * PANEL).min(NR * T::N),
            relu: self.relu,
            out: self.out.add(panel * PANEL),
            out_row: matrix.outputs,
        }
    }

    /// The inputs that are taken from `quad` on, of `quads`: all that are alike, or those of about a block. Codes are those of
    /// the first panel.
    #[inline(always)]
    fn part(&self, quad: usize, quads: usize, block: usize) -> Part {
        let matrix = self.matrix;
        let (group, left, is_one) = (matrix.group / 4, quads - quad, matrix.groups == 1);
        let [groups, of_group] = if is_one {
            [1, left.min(block)]
        } else if left < group {
            [1, left]
        } else {
            [(block / group).clamp(1, left / group), group]
        };
        let is_last = groups * of_group == left;
        Part {
            codes: matrix.codes.bytes()[P::Packed::bytes(quad)..].as_ptr(),
            panel: P::Packed::bytes(padded_quads(matrix.inputs)),
            is_streamed: self.is_streamed(),
            quad,
            first_group: quad / group,
            groups,
            quads: of_group,
            follows_groups: quad > 0 && !is_one,
            begins_inside: quad > 0 && is_one,
            ends_inside: !is_last && is_one,
            is_last,
            ahead: Ahead::NOTHING,
        }
    }

    /// As many panels as `NR` registers hold.
    #[inline(always)]
    unsafe fn some_panels<T: Integers, const NR: usize>(&self, panel: usize) {
        let unpacks = !self.is_few() && P::unpacks::<T>();
        let offset = if unpacks { P::UNPACKED_OFFSET } else { P::OFFSET };
        let task = self.task::<T, NR>(panel, offset, self.scratch);
        let unpacked = self.scratch.add(self.carry_bytes());
        let of_row = self.matrix.quads();
        let mut quad = 0;
        while quad < of_row {
            let mut part = self.part(quad, of_row, if unpacks { UNPACKED_QUADS } else { of_row });
            part.codes = part.codes.add(panel * part.panel);
            quad += part.groups * part.quads;
            if unpacks {
                self.unpack::<T>(&mut part, NR * T::N / PANEL, offset, unpacked);
                tiles::<T, P::Unpacked, NR>(&task, &part);
            } else {
                tiles::<T, P::Packed, NR>(&task, &part);
            }
        }
    }

    /// Unpacks a part's panels, of which it then consists; the codes behind them come next.
    #[inline(always)]
    unsafe fn unpack<T: Integers>(&self, part: &mut Part, panels: usize, above: i32, to: *mut u8) {
        let quads = part.groups * part.quads;
        let bytes = P::Unpacked::bytes(quads);
        for panel in 0..panels {
            P::unpack::<T>(part.codes.add(panel * part.panel), quads, above, to.add(panel * bytes));
        }
        let packed = P::Packed::bytes(quads);
        let codes = part.codes.wrapping_add(packed);
        part.ahead = Ahead { codes, panel: part.panel, panels, bytes: packed };
        (part.codes, part.panel) = (to, bytes);
    }

    /// All panels, block of inputs by block.
    #[inline(always)]
    unsafe fn in_tiles<T: Integers>(&self) {
        let mut unit = T::Unit::new();
        // Tiles read padding as zeros, whatever lies behind activations.
        let is_one = self.matrix.groups == 1;
        let of_row = if is_one { padded_quads(self.matrix.inputs) } else { self.matrix.quads() };
        let mut quad = 0;
        while quad < of_row {
            let part = self.part(quad, of_row, TILED_QUADS);
            quad += part.groups * part.quads;
            let mut panel = self.panels.start;
            while panel < self.panels.end {
                if self.panels.end - panel >= TILED_PANELS {
                    self.tiled_panels::<T, TILED_PANELS>(panel, part, &mut unit);
                    panel += TILED_PANELS;
                } else {
                    self.tiled_panels::<T, 1>(panel, part, &mut unit);
                    panel += 1;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tiled_panels<T: Integers, const NR: usize>(&self, panel: usize, mut part: Part, unit: &mut T::Unit) {
        let of_panel = self.rows.count.next_multiple_of(TILE_ROWS) * QUAD;
        let carry = self.scratch.add((panel - self.panels.start) * of_panel);
        part.codes = part.codes.add(panel * part.panel);
        if P::unpacks::<T>() {
            let task = self.task::<T, NR>(panel, 0, carry);
            self.unpack::<T>(&mut part, NR, 0, self.scratch.add(self.carry_bytes()));
            blocks::<T, NR, true>(&task, &part, unit);
        } else {
            blocks::<T, NR, false>(&self.task::<T, NR>(panel, P::OFFSET, carry), &part, unit);
        }
    }
}

impl<P: Packing> Work for Multiply<'_, P> {
    #[inline(always)]
    unsafe fn run<T: Integers>(&self) {
        if T::HAS_TILES && self.rows.is_tiled {
            return self.in_tiles::<T>();
        }
        let mut panel = self.panels.start;
        while panel < self.panels.end {
            let left = if self.is_streamed() { 1 } else { self.panels.end - panel };
            if left >= 4 && T::PANELS >= 4 {
                self.some_panels::<T, 4>(panel);
                panel += 4;
            } else if left >= 2 && T::PANELS == 2 {
                self.some_panels::<T, 2>(panel);
                panel += 2;
            } else if T::N < PANEL {
                self.some_panels::<T, 2>(panel);
                panel += 1;
            } else {
                self.some_panels::<T, 1>(panel);
                panel += 1;
            }
        }
    }
}
