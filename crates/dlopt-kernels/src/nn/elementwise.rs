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
