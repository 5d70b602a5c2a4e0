//! Quantized rows to a panel of columns, `[input][width]`, in the order in which [`super::columns`] sums them up.
#![allow(unsafe_op_in_unsafe_fn, reason = "pointers are valid for whole rows and panels: see `fill`")]

use std::ops::Range;

use crate::level::{Level, level};

/// Rows, and inputs, that are turned at a time.
pub(super) const TURNED: usize = 16;

/// The row that stands in a column of a panel: interleaving the bytes of four inputs deals each sixteen columns out to four
/// registers, so that their sums come out in the order of the rows.
pub(super) fn row_of(column: usize, width: usize) -> usize {
    column % TURNED / 4 * (width / 4) + column / TURNED * 4 + column % 4
}

/// Writes some inputs of a panel, from a multiple of [`TURNED`] on; columns without a row are zeros.
///
/// # Safety
/// There are `rows` rows of bytes, `step` apart, and `to` is a panel; both have inputs up to the next multiple of [`TURNED`].
pub(super) unsafe fn fill(rows: usize, from: *const u8, step: usize, inputs: Range<usize>, to: *mut u8, width: usize) {
    static ZEROS: [u8; TURNED] = [0; TURNED];
    for input in inputs.step_by(TURNED) {
        for first in (0..width).step_by(TURNED) {
            let tile: [*const u8; TURNED] = std::array::from_fn(|column| match row_of(first + column, width) {
                row if row < rows => from.wrapping_add(row * step + input),
                _ => ZEROS.as_ptr(),
            });
            let to = to.add(input * width + first);
            match level() {
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 | Level::Avx512 | Level::Amx => turn(tile, to, width),
                _ => turn_plainly(tile, to, width),
            }
        }
    }
}

unsafe fn turn_plainly(rows: [*const u8; TURNED], to: *mut u8, step: usize) {
    for (column, row) in rows.into_iter().enumerate() {
        for input in 0..TURNED {
            *to.add(input * step + column) = *row.add(input);
        }
    }
}

/// Four rounds that interleave the first half of the rows with the second.
#[cfg(target_arch = "x86_64")]
unsafe fn turn(rows: [*const u8; TURNED], to: *mut u8, step: usize) {
    use std::arch::x86_64::*;
    let mut rows = rows.map(|row| _mm_loadu_si128(row.cast()));
    for _ in 0..4 {
        let before = rows;
        for at in 0..TURNED / 2 {
            rows[2 * at] = _mm_unpacklo_epi8(before[at], before[at + TURNED / 2]);
            rows[2 * at + 1] = _mm_unpackhi_epi8(before[at], before[at + TURNED / 2]);
        }
    }
    for (input, row) in rows.into_iter().enumerate() {
        _mm_storeu_si128(to.add(input * step).cast(), row);
    }
}
