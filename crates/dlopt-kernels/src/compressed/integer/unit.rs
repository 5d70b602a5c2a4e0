//! The contract of tiles that a machine multiplies by itself, and its portable twin, with which tests run what uses them on
//! any machine.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Unit`")]

use super::registers::PANEL;
use super::source::QUAD;

/// Rows of a tile.
pub(super) const ROWS: usize = 16;
/// Quads that a step takes.
pub(super) const QUADS: usize = 16;
/// Bytes of a tile of sums, `[ROWS][PANEL]`.
pub(super) const TILE_BYTES: usize = 4 * ROWS * PANEL;

/// Where the activations of tiles lie.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// The first row, and the quad of it that is read first.
    pub(super) x: *const u8,
    pub(super) quad: usize,
    /// Bytes from a row to the next, from a tile of rows to the next, and from [`QUADS`] quads to the next.
    pub(super) row: usize,
    pub(super) tile: usize,
    pub(super) step: usize,
}

/// What multiplies sixteen rows of signed activations by sixteen outputs of codes.
pub(super) trait Unit {
    /// # Safety
    /// The level of the unit is in use, and this thread has no other one.
    unsafe fn new() -> Self;

    /// Writes the sums of products over `quads`, a multiple of 8, of `R` tiles of rows with `P` panels: `to` is
    /// `[R][P][ROWS][PANEL]`, and what is there is added with `goes_on`.
    ///
    /// Panels of codes, signed ones or not, are `panel` bytes apart.
    ///
    /// # Safety
    /// Pointers are valid for whole tiles.
    unsafe fn sum<const R: usize, const P: usize, const IS_SIGNED: bool>(
        &mut self,
        rows: Rows,
        codes: *const u8,
        panel: usize,
        quads: usize,
        goes_on: bool,
        to: *mut u8,
    );
}

/// Plain Rust.
pub(super) struct Plain;

impl Unit for Plain {
    unsafe fn new() -> Self {
        Self
    }

    unsafe fn sum<const R: usize, const P: usize, const IS_SIGNED: bool>(
        &mut self,
        rows: Rows,
        codes: *const u8,
        panel: usize,
        quads: usize,
        goes_on: bool,
        to: *mut u8,
    ) {
        for at in 0..R * P * ROWS * PANEL {
            let (tile, row, lane) = (at / (ROWS * PANEL), at / PANEL % ROWS, at % PANEL);
            let to = to.cast::<i32>().add(at);
            let mut sum = if goes_on { *to } else { 0 };
            for quad in 0..quads {
                let place = rows.quad + quad;
                let x = tile / P * rows.tile + row * rows.row + place / QUADS * rows.step + place % QUADS * 4;
                let code = tile % P * panel + quad * QUAD + 4 * lane;
                for byte in 0..4 {
                    let code = *codes.add(code + byte);
                    let code = if IS_SIGNED { i32::from(code.cast_signed()) } else { i32::from(code) };
                    sum += i32::from((*rows.x.add(x + byte)).cast_signed()) * code;
                }
            }
            *to = sum;
        }
    }
}
