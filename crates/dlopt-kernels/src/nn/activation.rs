//! Activation functions and their gradients, value by value.

use super::bits::Bits;
use super::map::{Map, map};
use super::math::{exp_minus_one, normal, sigmoid, tanh};

/// An activation function, as PyTorch defines it. NaN gives NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x` above 0, `0.01 x` below.
    LeakyRelu,
    /// `x` above 0, `e^x - 1` below (Clevert, Unterthiner and Hochreiter 2015, alpha 1).
    Elu,
    /// `x Phi(x)` with the normal distribution function (Hendrycks and Gimpel 2016), not the approximation by tanh.
    Gelu,
    /// `x sigmoid(x)`, also called swish.
    Silu,
    /// `x min(max(x + 3, 0), 6) / 6` (Howard et al. 2019).
    HardSwish,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

impl Function {
    /// Whether the gradient is computed from the function's input; else from its output.
    pub fn gradient_reads_input(self) -> bool {
        matches!(self, Function::Gelu | Function::Silu | Function::HardSwish)
    }
}

/// Calls `$do!` with the marker type of `$function`.
macro_rules! with_function {
    ($function:expr, $call:ident ( $($arg:expr),* )) => {
        match $function {
            Function::Relu => $call(Relu, $($arg),*),
            Function::Relu6 => $call(Relu6, $($arg),*),
            Function::LeakyRelu => $call(LeakyRelu, $($arg),*),
            Function::Elu => $call(Elu, $($arg),*),
            Function::Gelu => $call(Gelu, $($arg),*),
            Function::Silu => $call(Silu, $($arg),*),
            Function::HardSwish => $call(HardSwish, $($arg),*),
            Function::Sigmoid => $call(Sigmoid, $($arg),*),
            Function::Tanh => $call(Tanh, $($arg),*),
        }
    };
}

/// `out = function(x)`.
///
/// # Panics
/// When the lengths differ.
pub fn activate(function: Function, x: &[f32], out: &mut [f32]) {
    fn forward(of: impl Activation, x: &[f32], out: &mut [f32]) {
        map(Forward(of), [x], [out], x.len());
    }
    with_function!(function, forward(x, out));
}

/// `values = function(values)`.
pub fn activate_in_place(function: Function, values: &mut [f32]) {
    fn forward(of: impl Activation, values: &mut [f32]) {
        let len = values.len();
        map(InPlace(of), [], [values], len);
    }
    with_function!(function, forward(values));
}

/// `dx = gradient * function'(x)`.
///
/// Only one of `x` and `out` is read, see [`Function::gradient_reads_input`]; the other may be empty. Where the function
/// has a kink the slope is the one to its flat side (HardSwish: 0 at -3, 1 at 3); where the mask of a ReLU meets NaN it
/// is 0.
///
/// # Panics
/// When the lengths of `dx`, `gradient` and what is read differ.
pub fn activate_gradient(function: Function, x: &[f32], out: &[f32], gradient: &[f32], dx: &mut [f32]) {
    fn backward(of: impl Activation, read: &[f32], gradient: &[f32], dx: &mut [f32]) {
        map(Backward(of), [read, gradient], [dx], gradient.len());
    }
    let read = if function.gradient_reads_input() { x } else { out };
    with_function!(function, backward(read, gradient, dx));
}

/// `gradient = gradient * function'(x)` in place; see [`activate_gradient`].
///
/// # Panics
/// When the lengths of `gradient` and what is read differ.
pub fn activate_gradient_in_place(function: Function, x: &[f32], out: &[f32], gradient: &mut [f32]) {
    fn backward(of: impl Activation, read: &[f32], gradient: &mut [f32]) {
        let len = gradient.len();
        map(BackwardInPlace(of), [read], [gradient], len);
    }
    let read = if function.gradient_reads_input() { x } else { out };
    with_function!(function, backward(read, gradient));
}

trait Activation: Copy {
    unsafe fn value<T: Bits>(x: T) -> T;
    /// `g` times the slope, from the input or from the output.
    unsafe fn slope<T: Bits>(read: T, g: T) -> T;
}

#[derive(Clone, Copy)]
struct Forward<F>(F);
#[derive(Clone, Copy)]
struct InPlace<F>(F);
#[derive(Clone, Copy)]
struct Backward<F>(F);
#[derive(Clone, Copy)]
struct BackwardInPlace<F>(F);

impl<F: Activation> Map<1, 1> for Forward<F> {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, _: usize, [x]: [T; 1], _: [T; 1]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe { [F::value(x)] }
    }
}
impl<F: Activation> Map<0, 1> for InPlace<F> {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, _: usize, _: [T; 0], [x]: [T; 1]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe { [F::value(x)] }
    }
}
impl<F: Activation> Map<2, 1> for Backward<F> {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, _: usize, [read, g]: [T; 2], _: [T; 1]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe { [F::slope(read, g)] }
    }
}
impl<F: Activation> Map<1, 1> for BackwardInPlace<F> {
    #[inline(always)]
    unsafe fn apply<T: Bits>(self, _: usize, [read]: [T; 1], [g]: [T; 1]) -> [T; 1] {
        // SAFETY: the caller's.
        unsafe { [F::slope(read, g)] }
    }
}

/// One row of the table of functions: its value at `x`, and `g` times its slope from `read`.
macro_rules! activation {
    ($name:ident, |$x:ident| $value:expr, |$read:ident, $g:ident| $slope:expr) => {
        #[derive(Clone, Copy)]
        struct $name;
        impl Activation for $name {
            #[inline(always)]
            unsafe fn value<T: Bits>($x: T) -> T {
                // SAFETY: the caller's: the instruction set of `T` is there.
                unsafe { $value }
            }
            #[inline(always)]
            unsafe fn slope<T: Bits>($read: T, $g: T) -> T {
                // SAFETY: the caller's: the instruction set of `T` is there.
                unsafe { $slope }
            }
        }
    };
}

// A NaN as the second operand of `max` and `min` comes through.
activation!(Relu, |x| T::splat(0.0).max(x), |out, g| g.where_pos(out));
activation!(Relu6, |x| T::splat(6.0).min(T::splat(0.0).max(x)), |out, g| {
    g.where_pos(out).where_pos(T::splat(6.0).sub(out))
});
activation!(LeakyRelu, |x| leaky(x, x), |out, g| leaky(out, g));
activation!(Elu, |x| T::where_greater(x, T::splat(0.0), x, exp_minus_one(T::splat(0.0).min(x))), |out, g| {
    T::where_greater(out, T::splat(0.0), g, g.fma(g, out))
});
activation!(Gelu, |x| x.mul(normal(x).0), |x, g| {
    let (above, density) = normal(x);
    g.mul(above.fma(x, density))
});
activation!(Silu, |x| x.mul(sigmoid(x)), |x, g| {
    let s = sigmoid(x);
    // s (1 + x (1 - s))
    let one = T::splat(1.0);
    g.mul(s.mul(one.fma(x, one.sub(s))))
});
activation!(HardSwish, |x| x.mul(clamped(x)).mul(T::splat(1.0 / 6.0)), |x, g| {
    let inside = T::splat(0.5).fma(x, T::splat(1.0 / 3.0));
    let slope = T::where_greater(T::splat(3.0), x, inside, T::splat(1.0));
    // Not above -3 is 0, but a NaN stays.
    let flat = T::where_greater(T::splat(-2.5), x, T::splat(0.0), x);
    g.mul(T::where_greater(x, T::splat(-3.0), slope, flat))
});
activation!(Sigmoid, |x| sigmoid(x), |out, g| g.mul(out.mul(T::splat(1.0).sub(out))));
activation!(Tanh, |x| tanh(x), |out, g| g.mul(T::splat(1.0).sub(out.mul(out))));

/// `g` where `x > 0`, else `0.01 g`.
#[inline(always)]
unsafe fn leaky<T: Bits>(x: T, g: T) -> T {
    // SAFETY: the caller's.
    unsafe { T::where_greater(x, T::splat(0.0), g, g.mul(T::splat(0.01))) }
}

/// `min(max(x + 3, 0), 6)`.
#[inline(always)]
unsafe fn clamped<T: Bits>(x: T) -> T {
    // SAFETY: the caller's.
    unsafe { T::splat(6.0).min(T::splat(0.0).max(x.add(T::splat(3.0)))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::{assert_near, bits, numeric_gradient, values, wide};
    use crate::nn::math::tests::normal_reference;

    const ALL: [Function; 9] = [
        Function::Relu,
        Function::Relu6,
        Function::LeakyRelu,
        Function::Elu,
        Function::Gelu,
        Function::Silu,
        Function::HardSwish,
        Function::Sigmoid,
        Function::Tanh,
    ];

    fn reference(function: Function, x: f64) -> f64 {
        match function {
            Function::Relu => x.max(0.0),
            Function::Relu6 => x.clamp(0.0, 6.0),
            Function::LeakyRelu => x.max(0.01 * x),
            Function::Elu => {
                if x > 0.0 {
                    x
                } else {
                    x.exp_m1()
                }
            }
            Function::Gelu => x * normal_reference(x),
            Function::Silu => x / (1.0 + (-x).exp()),
            Function::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Function::Tanh => x.tanh(),
        }
    }

    /// Values in -9..9, none at a kink.
    fn inputs(len: usize) -> Vec<f32> {
        values(len, 3).iter().map(|x| if *x == 0.0 { 0.5 } else { 4.5 * x }).collect()
    }

    #[test]
    fn values_and_slopes_are_those_of_the_formulas() {
        let x = inputs(203);
        let g = values(203, 4);
        for function in ALL {
            let mut out = vec![f32::NAN; 203];
            activate(function, &x, &mut out);
            let wanted: Vec<f64> = x.iter().map(|x| reference(function, f64::from(*x))).collect();
            assert_near(&out, &wanted, 4e-7);
            let mut dx = vec![f32::NAN; 203];
            activate_gradient(function, &x, &out, &g, &mut dx);
            let slopes: Vec<f64> = wide(&x)
                .iter()
                .zip(&g)
                .map(|(x, g)| f64::from(*g) * numeric_gradient(&[*x], |x| reference(function, x[0]))[0])
                .collect();
            assert_near(&dx, &slopes, 1e-6);
        }
    }

    #[test]
    fn in_place_is_the_same_at_every_level_and_length() {
        for len in [0, 1, 7, 8, 15, 16, 17, 37] {
            at_every_level(|| {
                ALL.map(|function| {
                    let x = inputs(len);
                    let (mut out, mut dx) = (vec![0.0; len], vec![0.0; len]);
                    activate(function, &x, &mut out);
                    activate_gradient(function, &x, &out, &x, &mut dx);
                    let (mut out_here, mut dx_here) = (x.clone(), x.clone());
                    activate_in_place(function, &mut out_here);
                    activate_gradient_in_place(function, &x, &out, &mut dx_here);
                    assert_eq!((bits(&out), bits(&dx)), (bits(&out_here), bits(&dx_here)));
                    (bits(&out), bits(&dx))
                })
            });
        }
    }

    #[test]
    fn gradients_need_one_of_input_and_output() {
        for function in ALL {
            let x = inputs(5);
            let (mut out, mut full, mut spare) = (vec![0.0; 5], vec![0.0; 5], vec![0.0; 5]);
            activate(function, &x, &mut out);
            activate_gradient(function, &x, &out, &x, &mut full);
            let (x_read, out_read): (&[f32], &[f32]) =
                if function.gradient_reads_input() { (&x, &[]) } else { (&[], &out) };
            activate_gradient(function, x_read, out_read, &x, &mut spare);
            assert_eq!(full, spare);
        }
    }

    #[test]
    fn nan_comes_through_and_kinks_are_flat() {
        for function in ALL {
            let mut out = [0.0; 1];
            activate(function, &[f32::NAN], &mut out);
            assert!(out[0].is_nan(), "{function:?}");
        }
        let slope = |function, at: f32| {
            let mut values = [at];
            activate_in_place(function, &mut values);
            let mut dx = [1.0];
            activate_gradient_in_place(function, &[at], &values, &mut dx);
            dx[0]
        };
        assert_eq!(slope(Function::Relu, 0.0), 0.0);
        assert_eq!(slope(Function::Relu6, 6.0), 0.0);
        assert_eq!(slope(Function::LeakyRelu, 0.0), 0.01);
        assert_eq!((slope(Function::HardSwish, -3.0), slope(Function::HardSwish, 3.0)), (0.0, 1.0));
        assert!(slope(Function::HardSwish, f32::NAN).is_nan());
    }

    #[test]
    #[should_panic(expected = "as long as")]
    fn lengths_that_differ_are_refused() {
        activate(Function::Relu, &[1.0, 2.0], &mut [0.0]);
    }
}
