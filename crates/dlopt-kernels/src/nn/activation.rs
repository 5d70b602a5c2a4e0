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
    g.mul(T::where_greater(T::splat(-3.0), x, T::splat(0.0), slope).add(x.sub(x)))
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
