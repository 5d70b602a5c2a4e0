//! exp, ln and their kin on registers: the same bytes on every instruction set, NaN gives NaN.
//!
//! exp and ln reduce their argument as Cody and Waite 1980 do and use the minimax polynomials of Moshier's Cephes
//! library (1992). The largest errors that the tests found, in units of the last place over the whole range: [`exp`] 1.0,
//! [`exp_minus_one`] 0.8, [`ln`] 0.7, [`ln_one_plus`] 1.1, [`sigmoid`] 2.3, [`tanh`] 2.5, [`normal`] 6.4 in its far tail.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `nn::bits`: the instruction set of `T` is there")]

use super::bits::Bits;

/// `e^r = 1 + r + r^2 p(r)` for `|r| <= ln 2 / 2`: gives `p`.
#[inline(always)]
unsafe fn exp_series<T: Bits>(r: T) -> T {
    let p = T::splat(1.398_199_9e-3).fma(r, T::splat(1.987_569_1e-4));
    let p = T::splat(8.333_452e-3).fma(r, p);
    let p = T::splat(4.166_579_6e-2).fma(r, p);
    let p = T::splat(1.666_666_5e-1).fma(r, p);
    T::splat(0.5).fma(r, p)
}

/// `x = n ln 2 + r`.
#[inline(always)]
unsafe fn reduce<T: Bits>(x: T) -> (T, T) {
    let n = x.mul(T::splat(std::f32::consts::LOG2_E)).round();
    // ln 2 in two parts, the first of few bits: `n` times it is exact.
    (n, x.fma(n, T::splat(-0.693_359_4)).fma(n, T::splat(2.121_944_4e-4)))
}

/// `e^x`: subnormal results are rounded once more, overflow gives infinity.
#[inline(always)]
pub(super) unsafe fn exp<T: Bits>(x: T) -> T {
    // In this order a NaN is the second operand, which both comparisons give.
    let x = T::splat(-104.0).max(T::splat(89.0).min(x));
    let (n, r) = reduce(x);
    let p = T::splat(1.0).add(r.fma(r.mul(r), exp_series(r)));
    // Two factors: neither leaves the range of exponents where the result does not.
    let half = n.mul(T::splat(0.5)).round();
    p.mul(T::exp2i(half)).mul(T::exp2i(n.sub(half)))
}

/// `e^x - 1` for `x <= 0`, accurate next to 0.
#[inline(always)]
pub(super) unsafe fn exp_minus_one<T: Bits>(x: T) -> T {
    let x = T::splat(-40.0).max(x);
    let (n, r) = reduce(x);
    let power = T::exp2i(n);
    let p = r.fma(r.mul(r), exp_series(r));
    power.sub(T::splat(1.0)).fma(power, p)
}

/// The natural logarithm: of 0 minus infinity, of negative numbers NaN.
#[inline(always)]
pub(super) unsafe fn ln<T: Bits>(x: T) -> T {
    // Subnormal numbers are brought into range first.
    let tiny = T::splat(f32::MIN_POSITIVE);
    let scaled = T::where_greater(tiny, x, x.mul(T::splat(8_388_608.0)), x);
    let offset = T::where_greater(tiny, x, T::splat(-23.0), T::splat(0.0));
    // x = 2^e (1 + f) with 1 + f between sqrt(1/2) and sqrt(2).
    let root_half = 0x3f35_04f3_u32;
    let biased = scaled.int_add(T::int_splat(0x3f80_0000 - root_half));
    let exponent = biased.int_shift_right(23).int_add(T::int_splat(127_u32.wrapping_neg())).int_to_float();
    let mantissa = biased.and(T::int_splat(0x007f_ffff)).int_add(T::int_splat(root_half));
    let e = exponent.add(offset);
    let f = mantissa.sub(T::splat(1.0));
    let p = T::splat(-0.115_146_1).fma(f, T::splat(7.037_683_6e-2));
    let p = T::splat(1.167_699_9e-1).fma(f, p);
    let p = T::splat(-1.242_014_1e-1).fma(f, p);
    let p = T::splat(1.424_932_3e-1).fma(f, p);
    let p = T::splat(-1.666_805_8e-1).fma(f, p);
    let p = T::splat(2.000_071_5e-1).fma(f, p);
    let p = T::splat(-2.499_999_4e-1).fma(f, p);
    let p = T::splat(0.333_333_3).fma(f, p);
    let square = f.mul(f);
    let low = T::splat(0.0).fma(e, T::splat(-2.121_944_4e-4)).fma(f.mul(square), p);
    let y = f.add(low.fma(square, T::splat(-0.5))).fma(e, T::splat(0.693_359_4));
    // Infinity and NaN stay.
    let y = T::where_greater(T::splat(f32::INFINITY), x, y, x);
    let outside = T::where_greater(T::splat(0.0), x, T::splat(f32::NAN), x.add(T::splat(f32::NEG_INFINITY)));
    T::where_greater(x, T::splat(0.0), y, outside)
}

/// `ln(1 + e)` for `e` in 0..=1, accurate next to 0.
#[inline(always)]
pub(super) unsafe fn ln_one_plus<T: Bits>(e: T) -> T {
    let one = T::splat(1.0);
    let sum = one.add(e);
    // What the sum has lost, divided by the sum: the first term of the logarithm's series there.
    ln(sum).add(e.sub(sum.sub(one)).div(sum))
}

/// `1 / (1 + e^-x)`; below -88 it is 0.
#[inline(always)]
pub(super) unsafe fn sigmoid<T: Bits>(x: T) -> T {
    let one = T::splat(1.0);
    one.div(one.add(exp(T::splat(0.0).sub(x))))
}

/// The hyperbolic tangent: `-t / (t + 2)` with `t = e^(-2 |x|) - 1`.
#[inline(always)]
pub(super) unsafe fn tanh<T: Bits>(x: T) -> T {
    let t = exp_minus_one(x.abs().mul(T::splat(-2.0)));
    t.div(t.add(T::splat(2.0))).with_sign_of(x)
}

/// Coefficients of `P` in [`normal`], lowest power first.
const TAIL: [f32; 10] = [
    0.124_663_2,
    0.124_795_57,
    0.111_480_63,
    0.092_092_32,
    0.049_410_157,
    0.009_473_414,
    0.059_182_294,
    -0.139_297_72,
    0.086_237_91,
    -0.018_037_751,
];

/// The normal distribution function and its density at `x`.
///
/// The tail is `q e^(-t^2 / 2) P(q)` with `t = |x|`, `q = 1 / (1 + 0.3125 t)` and `P` the polynomial of degree 9 through
/// the Chebyshev nodes of `0 <= t <= 14` (computed in 40 digits; relative error 1e-8).
#[inline(always)]
pub(super) unsafe fn normal<T: Bits>(x: T) -> (T, T) {
    let one = T::splat(1.0);
    let t = T::splat(15.0).min(x.abs());
    let q = one.div(one.fma(t, T::splat(0.3125)));
    let square = t.mul(t);
    // What rounding the square has lost: e^-s is off by as much, relatively.
    let lost = T::splat(0.0).sub(square).fma(t, t);
    let e = exp(square.mul(T::splat(-0.5)));
    let e = e.fma(e, lost.mul(T::splat(-0.5)));
    let mut p = T::splat(TAIL[9]);
    for i in (0..9).rev() {
        p = T::splat(TAIL[i]).fma(p, q);
    }
    let tail = q.mul(e).mul(p);
    let above = T::where_greater(x, T::splat(0.0), one.sub(tail), tail);
    (above, e.mul(T::splat(0.398_942_3)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::level::at_every_level;
    use crate::nn::check::bits;
    use crate::nn::map::{Map, map};

    /// A function on registers applied to numbers.
    fn apply<F: Map<1, 1>>(f: F, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        map(f, [x], [&mut out], x.len());
        out
    }

    macro_rules! functions {
        ($($name:ident, |$x:ident| $value:expr;)*) => {$(
            #[derive(Clone, Copy)]
            struct $name;
            impl Map<1, 1> for $name {
                #[inline(always)]
                unsafe fn apply<T: Bits>(self, _: usize, [$x]: [T; 1], _: [T; 1]) -> [T; 1] {
                    // SAFETY: the caller's.
                    unsafe { [$value] }
                }
            }
        )*};
    }
    functions! {
        Exp, |x| exp(x);
        ExpMinusOne, |x| exp_minus_one(x);
        Ln, |x| ln(x);
        LnOnePlus, |x| ln_one_plus(x);
        Sigmoid, |x| sigmoid(x);
        Tanh, |x| tanh(x);
        Above, |x| normal(x).0;
        Density, |x| normal(x).1;
    }

    /// Every `stride`th bit pattern, from `seed` on.
    fn patterns(stride: usize, seed: u32) -> Vec<f32> {
        (seed..=u32::MAX).step_by(stride).map(f32::from_bits).collect()
    }

    /// The largest error in units of the last place of the wanted value, over the finite patterns that `kept` admits.
    fn worst_ulp<F: Map<1, 1>>(f: F, wanted: impl Fn(f64) -> f64, kept: impl Fn(f64) -> bool) -> f64 {
        let x: Vec<f32> = patterns(1009, 7).into_iter().filter(|x| x.is_finite() && kept(f64::from(*x))).collect();
        assert!(x.len() > 100);
        let out = apply(f, &x);
        let error = |(x, found): (&f32, &f32)| {
            let wanted = wanted(f64::from(*x));
            let ulp = 2.0_f64.powi((wanted.abs().log2().floor() as i32).max(-126) - 23);
            (f64::from(*found) - wanted).abs() / ulp
        };
        x.iter().zip(&out).map(error).fold(0.0, f64::max)
    }

    /// The normal distribution function in `f64`: a series in the middle, a continued fraction in the tails.
    pub(in crate::nn) fn normal_reference(x: f64) -> f64 {
        let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        if x.abs() < 4.0 {
            let (mut term, mut sum) = (x, x);
            for k in 1..120 {
                term *= x * x / f64::from(2 * k + 1);
                sum += term;
            }
            return 0.5 + density * sum;
        }
        let mut fraction = x.abs();
        for k in (1..60).rev() {
            fraction = x.abs() + f64::from(k) / fraction;
        }
        if x < 0.0 { density / fraction } else { 1.0 - density / fraction }
    }

    #[test]
    fn functions_are_accurate_over_their_whole_range() {
        // Asserted with a little room above what was measured, in units of the last place.
        let everywhere = |_: f64| true;
        for (name, worst, limit) in [
            ("exp, normal results", worst_ulp(Exp, f64::exp, |x| (-87.3..88.7).contains(&x)), 1.1),
            ("exp, subnormal results", worst_ulp(Exp, f64::exp, |x| (-110.0..=-87.3).contains(&x)), 1.1),
            ("exp - 1", worst_ulp(ExpMinusOne, f64::exp_m1, |x| x <= 0.0), 2.0),
            ("ln", worst_ulp(Ln, f64::ln, |x| x > 0.0), 1.1),
            ("ln (1 + x)", worst_ulp(LnOnePlus, f64::ln_1p, |x| (0.0..=1.0).contains(&x)), 2.0),
            ("sigmoid", worst_ulp(Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), |x| x > -87.3), 3.0),
            ("tanh", worst_ulp(Tanh, f64::tanh, everywhere), 3.0),
            ("normal", worst_ulp(Above, normal_reference, |x| x > -12.9), 7.0),
            (
                "density",
                worst_ulp(Density, |x| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt(), |x| x.abs() < 12.9),
                5.0,
            ),
        ] {
            println!("{name}: {worst:.3} ulp");
            assert!(worst <= limit, "{name} is off by {worst} ulp");
        }
    }

    #[test]
    fn special_values_are_those_of_the_functions() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let x = [0.0, -0.0, inf, -inf, nan, 100.0, -200.0, 1e-45];
        assert_eq!(bits(&apply(Exp, &x)), bits(&[1.0, 1.0, inf, 0.0, nan, inf, 0.0, 1.0]));
        assert_eq!(bits(&apply(Ln, &x[..5])), bits(&[-inf, -inf, inf, nan, nan]));
        assert_eq!(bits(&apply(Ln, &[1.0, -1.0, -1e-45])), bits(&[0.0, nan, nan]));
        assert_eq!(bits(&apply(Tanh, &x[..5])), bits(&[0.0, -0.0, 1.0, -1.0, nan]));
        assert_eq!(bits(&apply(Sigmoid, &x[..5])), bits(&[0.5, 0.5, 1.0, 0.0, nan]));
        assert_eq!(bits(&apply(Above, &x[..5])), bits(&[0.5, 0.5, 1.0, 0.0, nan]));
        assert_eq!(bits(&apply(LnOnePlus, &[0.0, nan])), bits(&[0.0, nan]));
    }

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        let x = patterns(1_000_003, 11);
        let negative: Vec<f32> = x.iter().map(|x| -x.abs()).collect();
        at_every_level(|| {
            let each = [
                apply(Exp, &x),
                apply(ExpMinusOne, &negative),
                apply(Ln, &x),
                apply(LnOnePlus, &x),
                apply(Sigmoid, &x),
                apply(Tanh, &x),
                apply(Above, &x),
                apply(Density, &x),
            ];
            each.map(|out| bits(&out))
        });
    }
}
