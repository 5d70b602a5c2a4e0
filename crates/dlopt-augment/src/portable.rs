//! Functions of `libm` whose last bit differs between systems, made of additions and multiplications alone.

use std::f64::consts::{FRAC_PI_2, LN_2, LOG2_E};

/// Sine and cosine of an angle in degrees; exact at multiples of 90. Taylor series up to 45 degrees, to 1e-16.
pub(crate) fn sin_cos(degrees: f64) -> (f64, f64) {
    let turns = degrees / 90.0;
    let quarter = turns.round();
    let x = (turns - quarter) * FRAC_PI_2;
    let square = x * x;
    let series = |first: f64| {
        // Terms from the last to the first: x^2n / ((n0 + 1)...(n0 + 2n)), with alternating signs.
        (1..=9).rev().fold(1.0, |sum, n| {
            let at = first + 2.0 * f64::from(n);
            1.0 - square / (at * (at - 1.0)) * sum
        })
    };
    let (sine, cosine) = (x * series(1.0), series(0.0));
    match (quarter as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

/// `e^x`, for results that are normal numbers.
pub(crate) fn exp(x: f64) -> f64 {
    let power = (x * LOG2_E).round().clamp(-1000.0, 1000.0);
    let rest = x - power * LN_2;
    let sum = (1..=16).rev().fold(1.0, |sum, n| 1.0 + rest / f64::from(n) * sum);
    sum * f64::from_bits(((power as i64 + 1023) as u64) << 52)
}

/// The natural logarithm of a normal number above 0.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut power = (bits >> 52) as i64 - 1023;
    let mut part = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if part > std::f64::consts::SQRT_2 {
        part /= 2.0;
        power += 1;
    }
    let t = (part - 1.0) / (part + 1.0);
    let square = t * t;
    let sum = (0..=12).rev().fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    2.0 * t * sum + power as f64 * LN_2
}

/// `x^power` of numbers from 0 on.
pub(crate) fn pow(x: f64, power: f64) -> f64 {
    match x {
        x if x <= 0.0 => f64::from(power == 0.0),
        1.0 => 1.0,
        x => exp(power * ln(x)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_agree_with_libm() {
        for step in -800..=800 {
            let degrees = f64::from(step) * 0.77;
            let (sine, cosine) = sin_cos(degrees);
            let (s, c) = degrees.to_radians().sin_cos();
            assert!((sine - s).abs() < 1e-14 && (cosine - c).abs() < 1e-14, "{degrees}");
            let x = f64::from(step) * 0.03;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-14, "{x}");
            assert!((ln(x.exp()) - x).abs() < 1e-13, "{x}");
        }
        assert_eq!(sin_cos(90.0), (1.0, 0.0));
        assert_eq!(sin_cos(-270.0), (1.0, 0.0));
        assert!((pow(0.3, 2.2) - 0.3_f64.powf(2.2)).abs() < 1e-15);
        assert_eq!((pow(0.0, 2.0), pow(1.0, 0.3)), (0.0, 1.0));
    }
}
