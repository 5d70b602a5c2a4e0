//! The machine's own tiles (AMX-INT8): sixteen rows of signed activations by sixteen outputs of codes, 64 inputs a step.
//!
//! Intel, Architectures Software Developer's Manual, volume 1, chapter 18. A panel of packed codes is a column of such tiles
//! as it lies in memory. Registers 0 to 3 hold sums, 4 and 5 activations, 6 and 7 codes.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Unit`")]

use std::arch::asm;

use super::registers::PANEL;
use super::source::QUAD;
use super::unit::{QUADS, ROWS, Rows, TILE_BYTES, Unit};

/// What `ldtilecfg` reads: for each register bytes of a row, and rows.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    first_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The tile registers of this thread, in use until it is dropped.
///
/// Its level is [`crate::Level::Amx`]. Between its methods nothing else touches tile registers: no compiler makes such
/// instructions unasked.
pub(super) struct Tiles {
    /// Quads that registers are shaped for, or 0.
    quads: usize,
}

impl Unit for Tiles {
    #[inline(always)]
    unsafe fn new() -> Self {
        Self { quads: 0 }
    }

    #[inline(always)]
    unsafe fn sum<const R: usize, const P: usize, const IS_SIGNED: bool>(
        &mut self,
        rows: Rows,
        codes: *const u8,
        panel: usize,
        quads: usize,
        goes_on: bool,
        to: *mut u8,
    ) {
        let is_whole = quads.is_multiple_of(QUADS) && rows.quad.is_multiple_of(QUADS);
        let step = if is_whole { QUADS } else { QUADS / 2 };
        self.shape(step);
        let sums = [to, to.wrapping_add(TILE_BYTES), to.wrapping_add(P * TILE_BYTES), to.wrapping_add(3 * TILE_BYTES)];
        let line = 4 * PANEL;
        if goes_on {
            load::<0>(sums[0], line);
            if P > 1 {
                load::<1>(sums[1], line);
            }
            if R > 1 {
                load::<2>(sums[2], line);
            }
            if R > 1 && P > 1 {
                load::<3>(sums[3], line);
            }
        } else {
            clear();
        }
        let mut codes = codes;
        for quad in (rows.quad..rows.quad + quads).step_by(step) {
            let x = rows.x.wrapping_add(quad / QUADS * rows.step + quad % QUADS * 4);
            load::<4>(x, rows.row);
            load::<6>(codes, line);
            multiply::<0, 4, 6, IS_SIGNED>();
            if P > 1 {
                load::<7>(codes.add(panel), line);
                multiply::<1, 4, 7, IS_SIGNED>();
            }
            if R > 1 {
                load::<5>(x.wrapping_add(rows.tile), rows.row);
                multiply::<2, 5, 6, IS_SIGNED>();
            }
            if R > 1 && P > 1 {
                multiply::<3, 5, 7, IS_SIGNED>();
            }
            codes = codes.wrapping_add(QUAD * step);
        }
        store::<0>(sums[0], line);
        if P > 1 {
            store::<1>(sums[1], line);
        }
        if R > 1 {
            store::<2>(sums[2], line);
        }
        if R > 1 && P > 1 {
            store::<3>(sums[3], line);
        }
    }
}

impl Tiles {
    /// Shapes the registers for steps of so many quads.
    #[inline(always)]
    unsafe fn shape(&mut self, quads: usize) {
        if self.quads == quads {
            return;
        }
        self.quads = quads;
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        for register in 0..8 {
            let (bytes, count) = match register {
                4 | 5 => (4 * quads, ROWS),
                6 | 7 => (4 * PANEL, quads),
                _ => (4 * PANEL, ROWS),
            };
            (row_bytes[register], rows[register]) = (bytes as u16, count as u8);
        }
        let shapes = Shapes { palette: 1, first_row: 0, reserved: [0; 14], row_bytes, rows };
        asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, preserves_flags, readonly));
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the level has the instruction; it empties the registers, so that the kernel need not save them.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }
}

#[inline(always)]
unsafe fn clear() {
    asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, preserves_flags, nomem));
}

#[inline(always)]
unsafe fn load<const T: usize>(from: *const u8, row: usize) {
    asm!(
        "tileloadd tmm{tile}, [{from} + {row}*1]",
        tile = const T,
        from = in(reg) from,
        row = in(reg) row,
        options(nostack, preserves_flags, readonly)
    );
}

#[inline(always)]
unsafe fn store<const T: usize>(to: *mut u8, row: usize) {
    asm!(
        "tilestored [{to} + {row}*1], tmm{tile}",
        tile = const T,
        to = in(reg) to,
        row = in(reg) row,
        options(nostack, preserves_flags)
    );
}

/// Adds products of signed bytes of `X` and bytes of `W` to the 32-bit sums in `S`, wrapping.
#[inline(always)]
unsafe fn multiply<const S: usize, const X: usize, const W: usize, const IS_SIGNED: bool>() {
    if IS_SIGNED {
        asm!(
            "tdpbssd tmm{sums}, tmm{x}, tmm{codes}",
            sums = const S,
            x = const X,
            codes = const W,
            options(nostack, preserves_flags, nomem)
        );
    } else {
        asm!(
            "tdpbsud tmm{sums}, tmm{x}, tmm{codes}",
            sums = const S,
            x = const X,
            codes = const W,
            options(nostack, preserves_flags, nomem)
        );
    }
}
