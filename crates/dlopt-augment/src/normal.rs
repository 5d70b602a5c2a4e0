//! The table that normal numbers are drawn from.
//!
//! The normal distribution is cut into 4096 pieces of the same probability; the table holds the mean of each, times a
//! factor that makes the deviation of the table 1. The largest entry is 3.7.

use std::sync::LazyLock;

use crate::portable::exp;

/// Bits of an index.
pub(crate) const BITS: u32 = 12;
const ENTRIES: usize = 1 << BITS;

/// The entries, in rising order.
pub(crate) static NORMAL: LazyLock<Box<[f32; ENTRIES]>> = LazyLock::new(|| {
    let half = ENTRIES / 2;
    let density = |x: f64| exp(-0.5 * x * x) * 0.398_942_280_401_432_7;
    // Marsaglia 2004: P(x) - 1/2 = density * (x + x^3/3 + x^5/15 + ...).
    let above_half = |x: f64| {
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while term > 1e-17 {
            n += 2.0;
            term *= x * x / n;
            sum += term;
        }
        sum * density(x)
    };
    let mut edge = 0.0_f64;
    let mut means = Vec::with_capacity(half);
    for piece in 1..=half {
        let before = density(edge);
        let after = if piece == half {
            0.0
        } else {
            let wanted = piece as f64 / ENTRIES as f64;
            for _ in 0..8 {
                edge += (wanted - above_half(edge)) / density(edge);
            }
            density(edge)
        };
        means.push((before - after) * ENTRIES as f64);
    }
    let squares: f64 = means.iter().map(|x| x * x).sum();
    let factor = (half as f64 / squares).sqrt();
    let mut table = Box::new([0.0; ENTRIES]);
    for (place, mean) in means.into_iter().enumerate() {
        table[half + place] = (mean * factor) as f32;
        table[half - 1 - place] = -(mean * factor) as f32;
    }
    table
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_normal() {
        let moment = |power: i32| NORMAL.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / ENTRIES as f64;
        assert!(moment(1).abs() < 1e-9);
        assert!((moment(2) - 1.0).abs() < 1e-6);
        assert!((moment(4) - 3.0).abs() < 0.02, "{}", moment(4));
        // Quantiles by scipy.stats.norm.ppf.
        assert!((NORMAL[(0.975 * ENTRIES as f64) as usize] - 1.95996).abs() < 0.005);
        assert!((NORMAL[(0.75 * ENTRIES as f64) as usize] - 0.67449).abs() < 0.001);
        assert!(NORMAL.is_sorted());
    }
}
