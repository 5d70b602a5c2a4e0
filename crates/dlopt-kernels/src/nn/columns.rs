//! Loops over the rows of `[rows, columns]` with one coefficient or one sum for each column.
//!
//! Few columns are seen as more: `[rows, 3]` is also `[rows / 16, 48]` whose columns repeat with period 3, so that
//! registers are full. How often depends on the number of columns alone, and sums are folded in order.

use super::bits::{Bits, Kernel, run};
use super::scratch::with_scratch;

/// Columns that are worked on together at least.
const WIDE: usize = 64;
/// Rows that are worked on before the next columns are: all that a strip of them reads stays in cache lines' order.
const ROWS: usize = 16;

/// New values of `O` matrices from `I` matrices and `P` coefficients of the column.
pub(super) trait ColumnMap<const I: usize, const P: usize, const O: usize>: Copy {
    /// One register of a row.
    ///
    /// # Safety
    /// The instruction set of `T` is there.
    unsafe fn apply<T: Bits>(self, x: [T; I], coefficients: [T; P]) -> [T; O];
}

/// Two sums for each column: of a value, and of the product of two.
pub(super) trait ColumnSum<const I: usize, const P: usize>: Copy {
    /// Whether there are products; else the second sum is left alone.
    const PRODUCTS: bool = true;
    /// One register of a row: the summand, and two factors.
    ///
    /// # Safety
    /// The instruction set of `T` is there.
    unsafe fn apply<T: Bits>(self, x: [T; I], coefficients: [T; P]) -> (T, [T; 2]);
}

/// How many rows make one row of the wider matrix.
fn repeats(columns: usize) -> usize {
    // The power of two that is in `columns`, at most 16.
    let even = 1 << columns.trailing_zeros().min(4);
    if columns >= 2 * WIDE {
        return 1;
    }
    let mut repeats = 16 / even;
    while columns * repeats < WIDE {
        repeats *= 2;
    }
    repeats
}

fn check<const I: usize, const P: usize>(rows: usize, columns: usize, inputs: [&[f32]; I], coefficients: [&[f32]; P]) {
    let len = rows.checked_mul(columns).expect("a matrix is in memory, so its values can be counted");
    for input in inputs {
        assert_eq!(input.len(), len, "inputs are [rows, columns]");
    }
    for coefficient in coefficients {
        assert_eq!(coefficient.len(), columns, "one coefficient for each column");
    }
}

/// Calls `work` with the coefficients repeated, one after the other.
fn with_repeated<const P: usize, R>(
    coefficients: [&[f32]; P],
    columns: usize,
    repeats: usize,
    work: impl FnOnce([*const f32; P]) -> R,
) -> R {
    if repeats == 1 {
        return work(coefficients.map(<[f32]>::as_ptr));
    }
    let wide = columns * repeats;
    with_scratch(P * wide, |scratch| {
        for p in 0..P {
            for piece in scratch[p * wide..(p + 1) * wide].chunks_exact_mut(columns) {
                piece.copy_from_slice(coefficients[p]);
            }
        }
        work(std::array::from_fn(|p| scratch[p * wide..].as_ptr()))
    })
}

/// Applies `map` to every value of matrices `[rows, columns]`, with the coefficients of its column.
pub(super) fn map_columns<M, const I: usize, const P: usize, const O: usize>(
    map: M,
    rows: usize,
    columns: usize,
    inputs: [&[f32]; I],
    coefficients: [&[f32]; P],
    mut outputs: [&mut [f32]; O],
) where
    M: ColumnMap<I, P, O>,
{
    check(rows, columns, inputs, coefficients);
    for output in &outputs {
        assert_eq!(output.len(), rows * columns, "outputs are [rows, columns]");
    }
    if rows * columns == 0 {
        return;
    }
    let repeats = repeats(columns);
    let wide = columns * repeats;
    let (whole, rest) = (rows / repeats, rows % repeats * columns);
    let inputs = inputs.map(<[f32]>::as_ptr);
    let outputs: [*mut f32; O] = std::array::from_fn(|o| outputs[o].as_mut_ptr());
    with_repeated(coefficients, columns, repeats, |coefficients| {
        let matrix = Mapped { map, rows: whole, columns: wide, inputs, coefficients, outputs };
        // SAFETY: `whole * wide + rest` is `rows * columns`, the length of every matrix; coefficients are `wide` long.
        unsafe {
            run(matrix);
            if rest > 0 {
                let at = whole * wide;
                let inputs = inputs.map(|p| p.add(at));
                let outputs = outputs.map(|p| p.add(at));
                run(Mapped { map, rows: 1, columns: rest, inputs, coefficients, outputs });
            }
        }
    });
}

/// Adds two sums of each column to `sums`, `[2, columns]` (`[columns]` without products): rows in order in `f64`, products exactly multiplied.
pub(super) fn sum_columns<M: ColumnSum<I, P>, const I: usize, const P: usize>(
    map: M,
    rows: usize,
    columns: usize,
    inputs: [&[f32]; I],
    coefficients: [&[f32]; P],
    sums: &mut [f64],
) {
    check(rows, columns, inputs, coefficients);
    let kinds = if M::PRODUCTS { 2 } else { 1 };
    assert_eq!(sums.len(), kinds * columns, "one sum of each kind for each column");
    if rows * columns == 0 {
        return;
    }
    let repeats = repeats(columns);
    let wide = columns * repeats;
    let (whole, rest) = (rows / repeats, rows % repeats * columns);
    let padded = wide.next_multiple_of(16);
    let mut wide_sums = vec![0.0_f64; 2 * padded];
    let inputs = inputs.map(<[f32]>::as_ptr);
    with_repeated(coefficients, columns, repeats, |coefficients| {
        let first = wide_sums.as_mut_ptr();
        // SAFETY: as in `map_columns`; sums are `padded` long, so whole registers of them may be used.
        unsafe {
            let sums = [first, first.add(padded)];
            run(Summed { map, rows: whole, columns: wide, inputs, coefficients, sums });
            if rest > 0 {
                let inputs = inputs.map(|p| p.add(whole * wide));
                run(Summed { map, rows: 1, columns: rest, inputs, coefficients, sums });
            }
        }
    });
    for (wide_sums, sums) in wide_sums.chunks_exact(padded).zip(sums.chunks_exact_mut(columns)) {
        for (c, sum) in sums.iter_mut().enumerate() {
            *sum += wide_sums[c..wide].iter().step_by(columns).sum::<f64>();
        }
    }
}

/// A matrix that is worked on in strips.
trait Strips {
    fn extents(&self) -> [usize; 2];
    /// Works on rows `row..end` of `n` columns: `K` whole registers, or part of one.
    ///
    /// # Safety
    /// The instruction set of `T` is there, rows and columns lie inside.
    unsafe fn strip<T: Bits, const K: usize>(&self, row: usize, end: usize, column: usize, n: usize);
}

/// Every strip, all columns of a few rows before the next rows.
///
/// # Safety
/// The instruction set of `T` is there.
#[inline(always)]
unsafe fn walk<T: Bits>(matrix: &impl Strips) {
    let [rows, columns] = matrix.extents();
    let mut row = 0;
    while row < rows {
        let end = (row + ROWS).min(rows);
        let mut column = 0;
        // SAFETY: columns and rows end where the matrix does.
        unsafe {
            while column + 4 * T::N <= columns {
                if T::N == 16 {
                    matrix.strip::<T, 4>(row, end, column, 4 * T::N);
                } else {
                    matrix.strip::<T, 2>(row, end, column, 2 * T::N);
                    matrix.strip::<T, 2>(row, end, column + 2 * T::N, 2 * T::N);
                }
                column += 4 * T::N;
            }
            while column < columns {
                let n = (columns - column).min(T::N);
                matrix.strip::<T, 1>(row, end, column, n);
                column += n;
            }
        }
        row = end;
    }
}

struct Mapped<M, const I: usize, const P: usize, const O: usize> {
    map: M,
    rows: usize,
    columns: usize,
    inputs: [*const f32; I],
    coefficients: [*const f32; P],
    outputs: [*mut f32; O],
}

impl<M: ColumnMap<I, P, O>, const I: usize, const P: usize, const O: usize> Kernel for Mapped<M, I, P, O> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<T: Bits>(self) {
        // SAFETY: the caller's.
        unsafe { walk::<T>(&self) }
    }
}

impl<M: ColumnMap<I, P, O>, const I: usize, const P: usize, const O: usize> Strips for Mapped<M, I, P, O> {
    fn extents(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "closures that are not inlined lose the instruction set")]
    unsafe fn strip<T: Bits, const K: usize>(&self, row: usize, end: usize, column: usize, n: usize) {
        // SAFETY: the caller's.
        unsafe {
            let width = if K == 1 { n } else { T::N };
            let mut coefficients = [[T::splat(0.0); P]; K];
            for k in 0..K {
                for p in 0..P {
                    coefficients[k][p] = T::load_up_to(self.coefficients[p].add(column + k * T::N), width);
                }
            }
            for r in row..end {
                for k in 0..K {
                    let at = r * self.columns + column + k * T::N;
                    let mut x = [T::splat(0.0); I];
                    for i in 0..I {
                        x[i] = T::load_up_to(self.inputs[i].add(at), width);
                    }
                    let new = self.map.apply(x, coefficients[k]);
                    for o in 0..O {
                        new[o].store_up_to(self.outputs[o].add(at), width);
                    }
                }
            }
        }
    }
}

struct Summed<M, const I: usize, const P: usize> {
    map: M,
    rows: usize,
    columns: usize,
    inputs: [*const f32; I],
    coefficients: [*const f32; P],
    /// Each with room for whole registers.
    sums: [*mut f64; 2],
}

impl<M: ColumnSum<I, P>, const I: usize, const P: usize> Kernel for Summed<M, I, P> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<T: Bits>(self) {
        // SAFETY: the caller's.
        unsafe { walk::<T>(&self) }
    }
}

impl<M: ColumnSum<I, P>, const I: usize, const P: usize> Strips for Summed<M, I, P> {
    fn extents(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "closures that are not inlined lose the instruction set")]
    unsafe fn strip<T: Bits, const K: usize>(&self, row: usize, end: usize, column: usize, n: usize) {
        // SAFETY: the caller's; lanes past the last column are 0 and go to sums that nobody reads.
        unsafe {
            let width = if K == 1 { n } else { T::N };
            let mut coefficients = [[T::splat(0.0); P]; K];
            let mut sums = [[T::wide_load(self.sums[0].add(column)); 2]; K];
            for k in 0..K {
                for p in 0..P {
                    coefficients[k][p] = T::load_up_to(self.coefficients[p].add(column + k * T::N), width);
                }
                sums[k][0] = T::wide_load(self.sums[0].add(column + k * T::N));
                sums[k][1] = T::wide_load(self.sums[1].add(column + k * T::N));
            }
            for r in row..end {
                for k in 0..K {
                    let at = r * self.columns + column + k * T::N;
                    let mut x = [T::splat(0.0); I];
                    for i in 0..I {
                        x[i] = T::load_up_to(self.inputs[i].add(at), width);
                    }
                    let (summand, factors) = self.map.apply(x, coefficients[k]);
                    sums[k][0] = T::wide_add(sums[k][0], summand.widen());
                    if M::PRODUCTS {
                        sums[k][1] = T::wide_add_product(sums[k][1], factors[0].widen(), factors[1].widen());
                    }
                }
            }
            for k in 0..K {
                T::wide_store(sums[k][0], self.sums[0].add(column + k * T::N));
                T::wide_store(sums[k][1], self.sums[1].add(column + k * T::N));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Value;
impl ColumnSum<1, 0> for Value {
    const PRODUCTS: bool = false;
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x]: [T; 1], _: [T; 0]) -> (T, [T; 2]) {
        (x, [x, x])
    }
}

/// Adds the sum of each column to `into`, `into[c] += x[0][c] + x[1][c] + ...`: summed in `f64`, rounded once, then added.
///
/// # Panics
/// When `x` is not `rows * columns` or `into` not `columns` long.
pub fn column_sums(rows: usize, columns: usize, x: &[f32], into: &mut [f32]) {
    assert_eq!(into.len(), columns, "one sum for each column");
    let mut sums = vec![0.0; columns];
    sum_columns(Value, rows, columns, [x], [], &mut sums);
    for (into, sum) in into.iter_mut().zip(sums) {
        *into += sum as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{assert_near, bits, values};

    #[test]
    fn few_columns_fill_registers() {
        for columns in 1..200 {
            let repeats = repeats(columns);
            assert!(repeats == 1 || (columns * repeats).is_multiple_of(16), "{columns}");
            assert!(columns * repeats >= WIDE, "{columns}");
        }
    }

    #[test]
    fn sums_of_columns_are_added_whatever_the_shape() {
        for (rows, columns) in
            [(0, 3), (3, 0), (1, 1), (17, 1), (37, 3), (50, 16), (19, 33), (18, 64), (33, 130), (5, 203)]
        {
            let x = values(rows * columns, 1);
            let before = values(columns, 2);
            let mut wanted: Vec<f64> = before.iter().copied().map(f64::from).collect();
            for row in x.chunks_exact(columns.max(1)) {
                for (sum, x) in wanted.iter_mut().zip(row) {
                    *sum += f64::from(*x);
                }
            }
            let sums = at_every_level(|| {
                let mut into = before.clone();
                column_sums(rows, columns, &x, &mut into);
                bits(&into)
            });
            let sums: Vec<f32> = sums.into_iter().map(f32::from_bits).collect();
            assert_near(&sums, &wanted, 2e-7);
        }
    }

    #[test]
    #[should_panic(expected = "[rows, columns]")]
    fn a_matrix_of_another_size_is_refused() {
        column_sums(3, 2, &[0.0; 5], &mut [0.0; 2]);
    }
}
