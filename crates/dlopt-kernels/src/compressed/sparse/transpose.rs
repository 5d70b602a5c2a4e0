//! `to[column, row] = from[row, column]`: how rows of activations become columns of a panel, and results rows again.
#![allow(unsafe_op_in_unsafe_fn, reason = "pointers are valid for the whole of both matrices: see `transpose`")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Transposes `rows` rows of `columns` values, `from_step` apart, to `columns` rows that are `to_step` apart.
///
/// # Safety
/// Both matrices are there and do not overlap.
pub(in crate::compressed) unsafe fn transpose(
    from: *const f32,
    from_step: usize,
    rows: usize,
    columns: usize,
    to: *mut f32,
    to_step: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if crate::level::level() > crate::level::Level::Portable {
        return in_tiles(from, from_step, rows, columns, to, to_step);
    }
    one_by_one(from, from_step, rows, columns, to, to_step);
}

unsafe fn one_by_one(from: *const f32, from_step: usize, rows: usize, columns: usize, to: *mut f32, to_step: usize) {
    for column in 0..columns {
        for row in 0..rows {
            *to.add(column * to_step + row) = *from.add(row * from_step + column);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn in_tiles(from: *const f32, from_step: usize, rows: usize, columns: usize, to: *mut f32, to_step: usize) {
    if rows < 8 || columns < 8 {
        return one_by_one(from, from_step, rows, columns, to, to_step);
    }
    // Both halves of a line in turn: rows that are a power of two apart would throw it out of the cache before the second.
    for pair in (0..columns).step_by(16) {
        for row in (0..rows).step_by(8) {
            for column in (pair..columns.min(pair + 16)).step_by(8) {
                // The last tiles overlap those before them.
                let (row, column) = (row.min(rows - 8), column.min(columns - 8));
                tile(from.add(row * from_step + column), from_step, to.add(column * to_step + row), to_step);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn tile(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
    macro_rules! halves {
        // Row `$row` beside row `$row + 4`, of four columns.
        ($row:literal, $column:literal) => {
            _mm256_insertf128_ps::<1>(
                _mm256_castps128_ps256(_mm_loadu_ps(from.add($row * from_step + $column))),
                _mm_loadu_ps(from.add(($row + 4) * from_step + $column)),
            )
        };
    }
    macro_rules! four {
        ($column:literal) => {{
            let rows = [halves!(0, $column), halves!(1, $column), halves!(2, $column), halves!(3, $column)];
            let (a, b) = (_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[0], rows[1]));
            let (c, d) = (_mm256_unpacklo_ps(rows[2], rows[3]), _mm256_unpackhi_ps(rows[2], rows[3]));
            _mm256_storeu_ps(to.add($column * to_step), _mm256_shuffle_ps::<0x44>(a, c));
            _mm256_storeu_ps(to.add(($column + 1) * to_step), _mm256_shuffle_ps::<0xee>(a, c));
            _mm256_storeu_ps(to.add(($column + 2) * to_step), _mm256_shuffle_ps::<0x44>(b, d));
            _mm256_storeu_ps(to.add(($column + 3) * to_step), _mm256_shuffle_ps::<0xee>(b, d));
        }};
    }
    four!(0);
    four!(4);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;

    #[test]
    fn rows_become_columns_whatever_is_left_over() {
        for (rows, columns) in [(1, 1), (8, 8), (5, 19), (17, 33), (64, 40), (9, 8)] {
            let (from_step, to_step) = (columns + 3, rows + 2);
            let from: Vec<f32> = (0..rows * from_step).map(|at| at as f32).collect();
            let found = at_every_level(|| {
                let mut to = vec![-1.0; columns * to_step];
                // SAFETY: both hold their rows.
                unsafe { transpose(from.as_ptr(), from_step, rows, columns, to.as_mut_ptr(), to_step) };
                to
            });
            for (at, &value) in found.iter().enumerate() {
                let (column, row) = (at / to_step, at % to_step);
                let wanted = if row < rows { from[row * from_step + column] } else { -1.0 };
                assert_eq!(value, wanted, "row {row}, column {column} of {rows} x {columns}");
            }
        }
    }
}
