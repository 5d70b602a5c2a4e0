//! Sums, masks and averages, value by value.

use super::bits::Bits;
use super::map::{Map, MapSum, map, map_sum};

/// A [`Map`] or [`MapSum`] of captured numbers: one expression on registers.
macro_rules! value_map {
    ($name:ident { $($field:ident),* } ($($x:ident),*; $($y:ident),*) => $new:expr) => {
        #[derive(Clone, Copy)]
        struct $name { $($field: f32),* }
        impl Map<{ <[&str]>::len(&[$(stringify!($x)),*]) }, { <[&str]>::len(&[$(stringify!($y)),*]) }> for $name {
            #[inline(always)]
            #[allow(unused_variables, reason = "an output may be written only")]
            unsafe fn apply<T: Bits>(
                self,
                _: usize,
                [$($x),*]: [T; <[&str]>::len(&[$(stringify!($x)),*])],
                [$($y),*]: [T; <[&str]>::len(&[$(stringify!($y)),*])],
            ) -> [T; <[&str]>::len(&[$(stringify!($y)),*])] {
                // SAFETY: the caller's: the instruction set of `T` is there.
                unsafe {
                    $(let $field = T::splat(self.$field);)*
                    $new
                }
            }
        }
    };
}

value_map!(Add {} (a, b; out) => [a.add(b)]);
value_map!(AddInto {} (a; into) => [into.add(a)]);
value_map!(AddRelu {} (a, b; out) => [T::splat(0.0).max(a.add(b))]);
value_map!(MaskPositive {} (out; gradient) => [gradient.where_pos(out)]);
value_map!(Scale { factor } (; x) => [x.mul(factor)]);
value_map!(Multiply {} (a; x) => [x.mul(a)]);
value_map!(Toward { fraction } (p; average) => [average.fma(fraction, p.sub(average))]);
value_map!(AddScaled { factor } (a; into) => [into.fma(a, factor)]);

/// `out = a + b`.
///
/// # Panics
/// When the lengths differ.
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    map(Add {}, [a, b], [out], a.len());
}

/// `into = into + a`.
///
/// # Panics
/// When the lengths differ.
pub fn add_into(a: &[f32], into: &mut [f32]) {
    map(AddInto {}, [a], [into], a.len());
}

/// `into = into + factor * a`, rounded once.
///
/// # Panics
/// When the lengths differ.
pub fn add_scaled(factor: f32, a: &[f32], into: &mut [f32]) {
    map(AddScaled { factor }, [a], [into], a.len());
}

/// `out = max(a + b, 0)`; NaN gives NaN.
///
/// # Panics
/// When the lengths differ.
pub fn add_relu(a: &[f32], b: &[f32], out: &mut [f32]) {
    map(AddRelu {}, [a, b], [out], a.len());
}

/// Sets the gradient to 0 wherever the ReLU's output `out` is not above 0.
///
/// # Panics
/// When the lengths differ.
pub fn relu_gradient(out: &[f32], gradient: &mut [f32]) {
    map(MaskPositive {}, [out], [gradient], out.len());
}

/// `x = factor * x`.
pub fn scale(x: &mut [f32], factor: f32) {
    let len = x.len();
    map(Scale { factor }, [], [x], len);
}

/// `p = p * mask`: with a mask of zeros and ones, pruned parameters stay 0.
///
/// # Panics
/// When the lengths differ.
pub fn multiply_mask(p: &mut [f32], mask: &[f32]) {
    map(Multiply {}, [mask], [p], mask.len());
}

/// A step of the exponential moving average, `average = decay * average + (1 - decay) * p`, as
/// `average + (1 - decay) (p - average)`.
///
/// # Panics
/// When the lengths differ.
pub fn ema(average: &mut [f32], p: &[f32], decay: f32) {
    map(Toward { fraction: (1.0 - f64::from(decay)) as f32 }, [p], [average], p.len());
}

#[derive(Clone, Copy)]
struct Square;
impl MapSum<1, 0> for Square {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, [x]: [T; 1], _: [T; 0]) -> ([T; 0], [T; 2]) {
        ([], [x, x])
    }
}

/// The sum of squares in `f64`: sixteen lanes that are folded in a fixed order.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    map_sum(Square, [x], [], x.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{assert_near, bits, values, wide};

    const LENGTHS: [usize; 9] = [0, 1, 7, 8, 15, 16, 17, 33, 203];

    #[test]
    fn sums_and_masks_are_those_of_single_values() {
        for len in LENGTHS {
            let (a, b) = (values(len, 1), values(len, 2));
            let pairs = || a.iter().zip(&b);
            let mut out = vec![f32::NAN; len];
            add(&a, &b, &mut out);
            assert!(pairs().zip(&out).all(|((a, b), out)| a + b == *out));
            add_relu(&a, &b, &mut out);
            assert!(pairs().zip(&out).all(|((a, b), out)| (a + b).max(0.0) == *out));
            let mut into = a.clone();
            add_into(&b, &mut into);
            assert!(pairs().zip(&into).all(|((a, b), into)| a + b == *into));
            let mut into = a.clone();
            add_scaled(-1.5, &b, &mut into);
            assert!(pairs().zip(&into).all(|((a, b), into)| b.mul_add(-1.5, *a) == *into));
            let mut g = b.clone();
            relu_gradient(&a, &mut g);
            assert!(pairs().zip(&g).all(|((a, b), g)| if *a > 0.0 { b == g } else { *g == 0.0 }));
            let mut x = a.clone();
            scale(&mut x, 3.0);
            assert!(a.iter().zip(&x).all(|(a, x)| a * 3.0 == *x));
            let mut p = a.clone();
            multiply_mask(&mut p, &b);
            assert!(pairs().zip(&p).all(|((a, b), p)| a * b == *p));
        }
    }

    #[test]
    fn an_average_moves_toward_the_parameters() {
        let p = values(37, 1);
        let mut average = values(37, 2);
        let wanted: Vec<f64> = wide(&average).iter().zip(&p).map(|(a, p)| 0.9 * a + 0.1 * f64::from(*p)).collect();
        ema(&mut average, &p, 0.9);
        assert_near(&average, &wanted, 3e-7);
    }

    #[test]
    fn squares_are_summed_beyond_the_range_of_f32() {
        for len in LENGTHS {
            let x = values(len, 5);
            let wanted: f64 = wide(&x).iter().map(|x| x * x).sum();
            assert!((sum_of_squares(&x) - wanted).abs() <= 1e-13 * wanted);
        }
        assert_eq!(sum_of_squares(&[1e30_f32, 1e-30]), f64::from(1e30_f32).powi(2) + f64::from(1e-30_f32).powi(2));
        assert!(sum_of_squares(&[1.0, f32::NAN]).is_nan());
    }

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        for len in LENGTHS {
            let (a, b) = (values(len, 1), values(len, 2));
            at_every_level(|| {
                let (mut average, mut into, mut out) = (a.clone(), a.clone(), a.clone());
                ema(&mut average, &b, 0.99);
                add_scaled(0.3, &b, &mut into);
                add_relu(&a, &b, &mut out);
                (bits(&average), bits(&into), bits(&out), sum_of_squares(&a).to_bits())
            });
        }
    }

    #[test]
    fn relu_lets_nan_through_and_its_gradient_does_not() {
        let mut out = [0.0; 2];
        add_relu(&[f32::NAN, -1.0], &[0.0, 0.5], &mut out);
        assert!(out[0].is_nan() && out[1] == 0.0);
        let mut g = [1.0; 2];
        relu_gradient(&out, &mut g);
        assert_eq!(g, [0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "as long as")]
    fn a_longer_output_is_refused() {
        add_into(&[1.0], &mut [0.0; 2]);
    }
}
