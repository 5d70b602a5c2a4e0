//! Numbers of the beta distribution with both parameters the same, by functions that give the same bits everywhere.
//!
//! Up to 1 by Jöhnk 1964: `x = u^(1/a)`, `y = v^(1/a)` until `x + y <= 1`, then `x / (x + y)`. Above 1 by Cheng 1978 (CACM
//! 21(4), algorithm BB).

use std::f64::consts::LN_2;

use crate::draws::Draws;
use crate::portable::{exp, ln};

/// A number in 0..=1 of Beta(alpha, alpha); `alpha` in 0.001..=1000.
pub(crate) fn beta(alpha: f64, draws: &mut Draws) -> f64 {
    if alpha <= 1.0 { johnk(alpha, draws) } else { cheng(alpha, draws) }
}

fn johnk(alpha: f64, draws: &mut Draws) -> f64 {
    loop {
        // In logarithms: for a small alpha both powers are too small for a number.
        let (x, y) = (ln(unit(draws)) / alpha, ln(unit(draws)) / alpha);
        if bounded(x) + bounded(y) <= 1.0 {
            return 1.0 / (1.0 + bounded(y - x));
        }
    }
}

fn cheng(alpha: f64, draws: &mut Draws) -> f64 {
    let sum = 2.0 * alpha;
    let slope = ((sum - 2.0) / (2.0 * alpha * alpha - sum)).sqrt();
    let offset = alpha + 1.0 / slope;
    loop {
        let (first, second) = (unit(draws), unit(draws));
        let v = slope * ln(first / (1.0 - first).max(f64::MIN_POSITIVE));
        let w = alpha * bounded(v);
        let r = offset * v - 2.0 * LN_2;
        if r + sum * ln(sum / (alpha + w)) >= ln(first * first * second) {
            return w / (alpha + w);
        }
    }
}

/// `e^x`, with exponents held to where results are normal numbers.
fn bounded(x: f64) -> f64 {
    exp(x.clamp(-690.0, 690.0))
}

/// A number above 0 and at most 1, of 53 bits.
fn unit(draws: &mut Draws) -> f64 {
    ((draws.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Key;

    #[test]
    fn numbers_have_the_moments_and_quantiles_of_the_distribution() {
        // With the share below 0.1: the integral of the density by the midpoint rule.
        for (alpha, below) in [(0.2, 0.33669), (1.0, 0.1), (1.5, 0.052044), (4.0, 0.002728)] {
            let mut draws = Draws::new(Key { seed: 3, round: 0, sample: 0 }, 0);
            let count = 60_000;
            let all: Vec<f64> = (0..count).map(|_| beta(alpha, &mut draws)).collect();
            assert!(all.iter().all(|x| (0.0..=1.0).contains(x)), "{alpha}");
            let mean = |of: &dyn Fn(f64) -> f64| all.iter().map(|&x| of(x)).sum::<f64>() / f64::from(count);
            let variance = 0.25 / (2.0 * alpha + 1.0);
            // Five deviations of each mean.
            let far = 5.0 / f64::from(count).sqrt();
            assert!((mean(&|x| x) - 0.5).abs() < far * variance.sqrt(), "{alpha}: {}", mean(&|x| x));
            let spread = mean(&|x| (x - 0.5) * (x - 0.5));
            assert!((spread - variance).abs() < far * 0.125, "{alpha}: {spread} and {variance}");
            let own = mean(&|x| f64::from(u8::from(x < 0.1)));
            assert!((own - below).abs() < far * (below * (1.0 - below)).sqrt(), "{alpha}: {own} and {below}");
        }
    }

    #[test]
    fn the_least_alphas_give_ends_and_the_largest_the_middle() {
        let mut draws = Draws::new(Key { seed: 3, round: 0, sample: 0 }, 0);
        let small: Vec<f64> = (0..200).map(|_| beta(0.001, &mut draws)).collect();
        assert!(small.iter().all(|x| (0.0..=1.0).contains(x)));
        assert!(small.iter().filter(|x| **x < 0.01 || **x > 0.99).count() > 190);
        assert!(small.iter().any(|x| *x < 0.5) && small.iter().any(|x| *x > 0.5));
        assert!((0..200).all(|_| (beta(1000.0, &mut draws) - 0.5).abs() < 0.1));
    }
}
