//! Quantized rows to a panel of columns, `[input][width]`, in the order in which [`super::columns`] sums them up.
#![allow(unsafe_op_in_unsafe_fn, reason = "pointers are valid for whole rows and panels: see `fill`")]

use std::ops::Range;

/// Rows, and inputs, that are turned at a time.
pub(super) const TURNED: usize = 16;

/// Columns of the widest panel.
const MOST_WIDTH: usize = 64;

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
    // For each column where its row begins; there is nothing to go on to where there is none.
    let mut begins = [(ZEROS.as_ptr(), 0); MOST_WIDTH];
    for (column, begin) in begins[..width].iter_mut().enumerate() {
        let row = row_of(column, width);
        if row < rows {
            *begin = (from.wrapping_add(row * step), 1);
        }
    }
    #[cfg(target_arch = "x86_64")]
    if crate::level::level() > crate::level::Level::Portable {
        return in_tiles(&begins[..width], inputs, to);
    }
    for input in inputs.step_by(TURNED) {
        for (first, begins) in begins[..width].chunks_exact(TURNED).enumerate() {
            for (column, &(row, goes_on)) in begins.iter().enumerate() {
                for at in 0..TURNED {
                    *to.add((input + at) * width + first * TURNED + column) = *row.add(goes_on * input + at);
                }
            }
        }
    }
}

/// Tiles of [`TURNED`] by [`TURNED`] bytes: four rounds that interleave the first half of the rows with the second.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn in_tiles(begins: &[(*const u8, usize)], inputs: Range<usize>, to: *mut u8) {
    use std::arch::x86_64::*;
    let width = begins.len();
    for input in inputs.step_by(TURNED) {
        for (first, begins) in begins.as_chunks::<TURNED>().0.iter().enumerate() {
            let mut rows = [_mm_setzero_si128(); TURNED];
            for (to, &(row, goes_on)) in rows.iter_mut().zip(begins) {
                *to = _mm_loadu_si128(row.add(goes_on * input).cast());
            }
            for _ in 0..4 {
                let before = rows;
                for at in 0..TURNED / 2 {
                    rows[2 * at] = _mm_unpacklo_epi8(before[at], before[at + TURNED / 2]);
                    rows[2 * at + 1] = _mm_unpackhi_epi8(before[at], before[at + TURNED / 2]);
                }
            }
            for (at, row) in rows.into_iter().enumerate() {
                _mm_storeu_si128(to.add((input + at) * width + first * TURNED).cast(), row);
            }
        }
    }
}
