//! Softmax along the last extent, its gradient, and the place of the largest value.

use super::bits::{Bits, Kernel, run};
use super::math::exp;
use super::rows::{Term, row_max, row_sum, row_write, row_write_sum};

/// `e^(x - largest)`.
#[derive(Clone, Copy)]
pub(super) struct ExpBelow {
    pub(super) largest: f32,
}
impl Term<1> for ExpBelow {
    #[inline(always)]
    unsafe fn term<T: Bits>(self, [x]: [T; 1]) -> T {
        // SAFETY: the caller's.
        unsafe { exp(x.sub(T::splat(self.largest))) }
    }
}

#[derive(Clone, Copy)]
struct Times(f32);
impl Term<1> for Times {
    #[inline(always)]
    unsafe fn term<T: Bits>(self, [x]: [T; 1]) -> T {
        // SAFETY: the caller's.
        unsafe { x.mul(T::splat(self.0)) }
    }
}

#[derive(Clone, Copy)]
struct Product;
impl Term<2> for Product {
    #[inline(always)]
    unsafe fn term<T: Bits>(self, [a, b]: [T; 2]) -> T {
        // SAFETY: the caller's.
        unsafe { a.mul(b) }
    }
}

/// `y (g - mean)`.
#[derive(Clone, Copy)]
struct Centered {
    mean: f32,
}
impl Term<2> for Centered {
    #[inline(always)]
    unsafe fn term<T: Bits>(self, [y, g]: [T; 2]) -> T {
        // SAFETY: the caller's.
        unsafe { y.mul(g.sub(T::splat(self.mean))) }
    }
}

/// `out[r] = e^(x[r] - max) / sum` for each row of `[rows, columns]`.
///
/// A row with a NaN or plus infinity, or of minus infinities alone, gives NaN.
///
/// # Panics
/// When a slice is not `rows * columns` long.
pub fn softmax_rows(rows: usize, columns: usize, x: &[f32], out: &mut [f32]) {
    struct Softmax(usize, usize, *const f32, *mut f32);
    impl Kernel for Softmax {
        type Out = ();
        #[inline(always)]
        unsafe fn run<T: Bits>(self) {
            let Softmax(rows, columns, x, out) = self;
            for row in 0..rows {
                // SAFETY: rows lie inside the slices.
                unsafe {
                    let (x, out) = (x.add(row * columns), out.add(row * columns));
                    let largest = row_max::<T>(x, columns);
                    let sum = row_write_sum::<T, 1>(ExpBelow { largest }, [x], out, columns);
                    row_write::<T, 1>(Times((1.0 / sum) as f32), [out], out, columns);
                }
            }
        }
    }
    assert_eq!(Some(x.len()), rows.checked_mul(columns), "`x` is [rows, columns]");
    assert_eq!(x.len(), out.len(), "`out` is as long as `x`");
    // SAFETY: both slices hold `rows * columns` values.
    unsafe { run(Softmax(rows, columns, x.as_ptr(), out.as_mut_ptr())) }
}

/// `dx = y (g - sum(g y))` for each row of `[rows, columns]`, with `y` the softmax and `g` its gradient.
///
/// # Panics
/// When a slice is not `rows * columns` long.
pub fn softmax_rows_gradient(rows: usize, columns: usize, y: &[f32], gradient: &[f32], dx: &mut [f32]) {
    struct Gradient(usize, usize, [*const f32; 2], *mut f32);
    impl Kernel for Gradient {
        type Out = ();
        #[inline(always)]
        unsafe fn run<T: Bits>(self) {
            let Gradient(rows, columns, [y, g], dx) = self;
            for row in 0..rows {
                // SAFETY: rows lie inside the slices.
                unsafe {
                    let (y, g) = (y.add(row * columns), g.add(row * columns));
                    let mean = row_sum::<T, 2>(Product, [y, g], columns) as f32;
                    row_write::<T, 2>(Centered { mean }, [y, g], dx.add(row * columns), columns);
                }
            }
        }
    }
    assert_eq!(Some(y.len()), rows.checked_mul(columns), "`y` is [rows, columns]");
    assert_eq!(y.len(), gradient.len(), "`gradient` is as long as `y`");
    assert_eq!(y.len(), dx.len(), "`dx` is as long as `y`");
    // SAFETY: all slices hold `rows * columns` values.
    unsafe { run(Gradient(rows, columns, [y.as_ptr(), gradient.as_ptr()], dx.as_mut_ptr())) }
}

/// The place of the largest value of each row of `[rows, columns]`: the first of equals, or the first NaN where there is
/// one, as PyTorch's `argmax`.
///
/// # Panics
/// When `columns` is 0 and `rows` is not, or a slice has another length.
pub fn argmax_rows(rows: usize, columns: usize, x: &[f32], places: &mut [u32]) {
    assert_eq!(Some(x.len()), rows.checked_mul(columns), "`x` is [rows, columns]");
    assert_eq!(places.len(), rows, "one place for each row");
    assert!(rows == 0 || columns > 0, "a row without values has no largest");
    for (row, place) in x.chunks_exact(columns.max(1)).zip(places) {
        let mut largest = 0;
        for (c, value) in row.iter().enumerate() {
            if value.is_nan() {
                largest = c;
                break;
            }
            if *value > row[largest] {
                largest = c;
            }
        }
        *place = largest as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{assert_near, bits, dot, numeric_gradient, values, wide};

    fn reference(columns: usize, x: &[f64]) -> Vec<f64> {
        x.chunks_exact(columns)
            .flat_map(|row| {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
                row.iter().map(move |x| (x - largest).exp() / sum).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn probabilities_and_gradients_agree_with_f64_and_finite_differences() {
        for (rows, columns) in [(1, 1), (3, 5), (2, 10), (3, 16), (2, 37), (1, 100)] {
            let x: Vec<f32> = values(rows * columns, 1).iter().map(|x| 10.0 * x).collect();
            let g = values(rows * columns, 2);
            let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            softmax_rows(rows, columns, &x, &mut y);
            softmax_rows_gradient(rows, columns, &y, &g, &mut dx);
            assert_near(&y, &reference(columns, &wide(&x)), 4e-7);
            let wanted = numeric_gradient(&wide(&x), |x| dot(&reference(columns, x), &wide(&g)));
            assert_near(&dx, &wanted, 2e-6);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        for (rows, columns) in [(0, 3), (3, 0), (4, 1), (3, 7), (2, 16), (3, 33), (2, 203)] {
            let (x, g) = (values(rows * columns, 1), values(rows * columns, 2));
            at_every_level(|| {
                let (mut y, mut dx) = (x.clone(), x.clone());
                softmax_rows(rows, columns, &x, &mut y);
                softmax_rows_gradient(rows, columns, &y, &g, &mut dx);
                (bits(&y), bits(&dx))
            });
        }
    }

    #[test]
    fn large_logits_do_not_overflow_and_minus_infinity_is_no_chance() {
        let mut y = [0.0; 6];
        softmax_rows(2, 3, &[1e4, 1e4, -1e4, 5.0, f32::NEG_INFINITY, 5.0], &mut y);
        assert_eq!(y, [0.5, 0.5, 0.0, 0.5, 0.0, 0.5]);
        let mut y = [0.0; 4];
        softmax_rows(2, 2, &[f32::NAN, 1.0, f32::NEG_INFINITY, f32::NEG_INFINITY], &mut y);
        assert!(y.iter().all(|y| y.is_nan()));
    }

    #[test]
    fn the_first_of_the_largest_is_found_and_nan_before_all() {
        let mut places = [9; 4];
        let x = [1.0, 3.0, 3.0, -2.0, -1.0, -3.0, 0.0, f32::NAN, f32::NAN, f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0];
        argmax_rows(4, 3, &x, &mut places);
        assert_eq!(places, [1, 1, 1, 2]);
    }
}
