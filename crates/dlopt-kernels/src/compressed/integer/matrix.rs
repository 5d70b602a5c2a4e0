//! A matrix of integer codes by rows of activations that are quantized to bytes on the way.
//!
//! Codes lie in panels of [`PANEL`] outputs, `[panel][quad][PANEL][4]`, whatever the number of rows: a few rows stream
//! them, many rows take blocks of each panel that stay in the first cache, unpacked there once.

#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`, and of `Task`")]

use std::marker::PhantomData;

use super::activations::{is_scale, quantize_row};
use super::multiply::Multiply;
use super::packing::Packing;
use super::registers::{BLOCK, Integers, PANEL};
use super::scales::{Scales, by_panels};
use super::source::{QUAD, Source};
use super::{MOST_INPUTS, Target, Work};
use crate::compressed::Codes;
use crate::compressed::lines::{Lines, with_bytes};
use crate::nn::Team;

/// Rows up to which codes are streamed as they are packed.
pub(super) const FEW_ROWS: usize = 4;
/// Rows from which tiles of the machine's own, of sixteen, are faster than tiles in registers.
const LEAST_TILED_ROWS: usize = 7;
/// Rows that are quantized at a time.
const ROWS: usize = 512;
/// Rows that are worth unpacking panels for.
const ROWS_OF_A_TASK: usize = 32;
/// Rows up to which scratch is padded: those of a tile of the machine's own.
pub(super) const TILE_ROWS: usize = 16;
/// Panels of a task, at most: as many as a tile has, or as make the rows' way from a far cache pay.
const MOST_PANELS: usize = 4;
const MOST_TILED_PANELS: usize = 16;
/// Floats to quantize, bytes of codes and products that take a thread some ten microseconds.
const FLOATS_WORTH_A_TEAM: usize = 32 << 10;
const BYTES_WORTH_A_TEAM: usize = 200 << 10;
const PRODUCTS_WORTH_A_TEAM: usize = 1 << 20;

/// See [`super::Int8Matrix`].
#[derive(Debug)]
pub(super) struct Matrix<P> {
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Inputs of a group, a multiple of [`BLOCK`].
    pub(super) group: usize,
    pub(super) groups: usize,
    pub(super) codes: Lines,
    pub(super) scales: Scales,
    /// `[panels][groups][PANEL]`, or empty.
    pub(super) zeros: Vec<i8>,
    given: Option<f32>,
    packing: PhantomData<P>,
}

impl<P: Packing> Matrix<P> {
    pub(super) fn pack(codes: &mut Codes<'_>) -> Result<Self, &'static str> {
        let Codes { outputs, inputs, bits, group, .. } = *codes;
        assert!(outputs > 0 && inputs > 0, "a matrix has outputs and inputs, found {outputs} and {inputs}");
        assert!(group > 0, "a group has inputs");
        let groups = inputs.div_ceil(group);
        assert_eq!(codes.scale.len(), outputs * groups, "a scale for each group of each output");
        assert!(codes.zero.is_empty() || codes.zero.len() == codes.scale.len(), "a zero point for each scale");
        if !(P::BITS[0]..=P::BITS[1]).contains(&bits) {
            return Err("its codes have other bits");
        }
        if inputs > MOST_INPUTS {
            return Err("its sums could leave 32 bits");
        }
        if groups > 1 && !group.is_multiple_of(BLOCK) {
            return Err("its groups are no multiples of 32 inputs");
        }
        if !codes.scale.iter().all(|scale| scale.is_finite()) {
            return Err("a scale is not finite");
        }
        let range = -(1_i32 << (bits - 1))..1 << (bits - 1);
        if !codes.zero.iter().all(|&zero| range.contains(&i32::from(zero))) {
            return Err("a zero point is out of range");
        }
        let quads = padded_quads(inputs);
        let per_byte = P::Packed::PER_BYTE;
        let offset = P::OFFSET;
        let panel = P::Packed::bytes(quads);
        let mut packed = Lines::new(outputs.div_ceil(PANEL) * panel);
        let bytes = packed.bytes_mut();
        for panel in bytes.chunks_exact_mut(panel) {
            panel[P::Packed::bytes(inputs.next_multiple_of(BLOCK) / 4)..].fill(P::PADDING);
        }
        let mut row = vec![0_i8; inputs];
        for output in 0..outputs {
            (codes.row)(output, &mut row);
            let first = output / PANEL * panel + output % PANEL * 4;
            for (input, &code) in row.iter().enumerate() {
                if !range.contains(&i32::from(code)) {
                    return Err("a code is out of range");
                }
                let (quad, of_quad) = (input / 4, input % 4);
                let stored = (i32::from(code) + offset) as u8;
                bytes[first + quad / per_byte * QUAD + of_quad] |= stored << (quad % per_byte * (8 / per_byte));
            }
        }
        Ok(Self {
            outputs,
            inputs,
            group: if groups == 1 { inputs.next_multiple_of(BLOCK) } else { group },
            groups,
            codes: packed,
            scales: Scales::new(codes.scale, groups),
            zeros: by_panels(codes.zero, groups, 0),
            given: None,
            packing: PhantomData,
        })
    }

    pub(super) fn set_input_scale(&mut self, scale: f32) {
        assert!(is_scale(scale), "a scale of activations is a number from 2^-120, found {scale}");
        self.given = Some(scale);
    }

    pub(super) fn extents(&self) -> [usize; 2] {
        [self.outputs, self.inputs]
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.bytes().len() + self.scales.bytes() + self.zeros.len()
    }

    pub(super) fn multiply(
        &self,
        team: &Team,
        rows: usize,
        x: &[f32],
        bias: Option<&[f32]>,
        relu: bool,
        out: &mut [f32],
    ) {
        assert_eq!(Some(x.len()), rows.checked_mul(self.inputs), "values of the inputs");
        assert!(bias.is_none_or(|bias| bias.len() == self.outputs), "one bias for each output");
        assert_eq!(Some(out.len()), rows.checked_mul(self.outputs), "values of the outputs");
        for (x, out) in x.chunks(ROWS * self.inputs).zip(out.chunks_mut(ROWS * self.outputs)) {
            self.multiply_some(team, x, bias, relu, out);
        }
    }

    /// At most [`ROWS`] rows.
    fn multiply_some(&self, team: &Team, x: &[f32], bias: Option<&[f32]>, relu: bool, out: &mut [f32]) {
        let (target, rows) = (Target::now(), x.len() / self.inputs);
        // As wide as any instruction set wants them, and a line more, so that rows do not meet in the sets of a cache.
        let is_tiled = target.has_tiles() && rows >= LEAST_TILED_ROWS;
        let row_bytes =
            if is_tiled { 4 * padded_quads(self.inputs) } else { 2 * self.inputs.next_multiple_of(BLOCK) + 64 };
        let sums = rows.next_multiple_of(TILE_ROWS) * row_bytes;
        let scales = sums + 4 * rows * self.groups;
        with_bytes(scales + 4 * rows, |scratch| {
            let rows = Rows {
                count: rows,
                x: scratch,
                row_bytes,
                is_tiled,
                sums: scratch.wrapping_add(sums).cast(),
                scales: scratch.wrapping_add(scales).cast(),
            };
            let tasks = if x.len() > FLOATS_WORTH_A_TEAM { 4 * team.threads() } else { 1 };
            let per_task = rows.share(tasks);
            team.run(rows.count.div_ceil(per_task), |task| {
                let first = task * per_task;
                let count = per_task.min(rows.count - first);
                let x = &x[first * self.inputs..][..count * self.inputs];
                let to = rows.from(first, count, self.groups);
                with_bytes(rows.row_bytes, |row| target.run(&Quantize { matrix: self, x, to, row }));
            });
            self.multiply_rows(target, team, rows, bias, relu, out);
        });
    }

    fn multiply_rows(
        &self,
        target: Target,
        team: &Team,
        rows: Rows,
        bias: Option<&[f32]>,
        relu: bool,
        out: &mut [f32],
    ) {
        let threads = if self.is_worth_a_team(rows.count) { team.threads() } else { 1 };
        let panels = self.outputs.div_ceil(PANEL);
        let panels_per_task = if rows.is_tiled {
            (panels / (4 * threads)).clamp(2, MOST_TILED_PANELS).next_multiple_of(2)
        } else {
            (panels / (4 * threads)).clamp(1, MOST_PANELS)
        };
        let panel_tasks = panels.div_ceil(panels_per_task);
        let row_tasks = (4 * threads).div_ceil(panel_tasks).min(rows.count.div_ceil(ROWS_OF_A_TASK));
        let rows_per_task = rows.share(row_tasks);
        let out = Out(out.as_mut_ptr());
        let task = |task: usize| {
            if task % row_tasks * rows_per_task >= rows.count {
                return;
            }
            let (panel, row) = (task / row_tasks * panels_per_task, task % row_tasks * rows_per_task);
            let count = rows_per_task.min(rows.count - row);
            let panels = panel..panels.min(panel + panels_per_task);
            // SAFETY: no two tasks have the same rows of the same panels, and `out` holds all of them.
            let out = unsafe { out.at(row * self.outputs) };
            let rows = rows.from(row, count, self.groups);
            // Before the kernels are entered: closures lose the instruction set.
            let work = Multiply { matrix: self, rows, panels, bias, relu, out, scratch: std::ptr::null_mut() };
            with_bytes(work.scratch_bytes(), |scratch| target.run(&Multiply { scratch, ..work }));
        };
        let tasks = panel_tasks * row_tasks;
        if threads > 1 { team.run(tasks, task) } else { (0..tasks).for_each(task) }
    }

    /// Quads of a row.
    pub(super) fn quads(&self) -> usize {
        self.inputs.next_multiple_of(BLOCK) / 4
    }

    /// It would take a thread some ten microseconds.
    fn is_worth_a_team(&self, rows: usize) -> bool {
        self.codes.bytes().len() > BYTES_WORTH_A_TEAM || rows * self.outputs * self.inputs > PRODUCTS_WORTH_A_TEAM
    }
}

/// Quads that a row of a panel has room for: whole steps of tiles.
pub(super) fn padded_quads(inputs: usize) -> usize {
    inputs.next_multiple_of(2 * BLOCK) / 4
}

/// Quantized rows, in scratch.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) count: usize,
    pub(super) x: *mut u8,
    pub(super) row_bytes: usize,
    /// Activations are `[tile of rows][two blocks][row][2 * BLOCK]`, for tiles of the machine's own.
    pub(super) is_tiled: bool,
    pub(super) sums: *mut i32,
    pub(super) scales: *mut f32,
}

// SAFETY: threads write different rows, and read none before all are written.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Rows {
    /// Rows of one of `tasks`.
    fn share(&self, tasks: usize) -> usize {
        self.count.div_ceil(tasks).next_multiple_of(if self.is_tiled { TILE_ROWS } else { 1 })
    }

    fn from(&self, first: usize, count: usize, groups: usize) -> Self {
        Self {
            count,
            x: self.x.wrapping_add(first * self.row_bytes),
            sums: self.sums.wrapping_add(first * groups),
            scales: self.scales.wrapping_add(first),
            ..*self
        }
    }
}

struct Out(*mut f32);

// SAFETY: threads write different places.
unsafe impl Sync for Out {}

impl Out {
    /// # Safety
    /// `at` is within the values, or their end.
    unsafe fn at(&self, at: usize) -> *mut f32 {
        // SAFETY: as promised by the caller.
        unsafe { self.0.add(at) }
    }
}

/// Rows to quantize.
struct Quantize<'a, P> {
    matrix: &'a Matrix<P>,
    x: &'a [f32],
    to: Rows,
    /// Room for a row before it is laid out for tiles.
    row: *mut u8,
}

impl<P: Packing> Work for Quantize<'_, P> {
    #[inline(always)]
    unsafe fn run<T: Integers>(&self) {
        let (matrix, to) = (self.matrix, self.to);
        let is_wide = P::Packed::x_quad::<T>() > 4;
        for row in 0..to.count {
            let x = self.x.as_ptr().add(row * matrix.inputs);
            let (codes, sums) =
                (if to.is_tiled { self.row } else { to.x.add(row * to.row_bytes) }, to.sums.add(row * matrix.groups));
            let scale = quantize_row::<T>(x, matrix.inputs, matrix.given, matrix.group, is_wide, codes, sums);
            to.scales.add(row).write(scale);
            if to.is_tiled {
                let first = to.x.add(row / TILE_ROWS * TILE_ROWS * to.row_bytes + row % TILE_ROWS * 2 * BLOCK);
                for at in (0..matrix.inputs).step_by(2 * BLOCK) {
                    let line = (codes.add(at) as *const [u8; 2 * BLOCK]).read_unaligned();
                    (first.add(TILE_ROWS * at) as *mut [u8; 2 * BLOCK]).write_unaligned(line);
                }
            }
        }
    }
}
