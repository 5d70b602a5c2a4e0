//! Values that weights share, chosen so that the squared error is the least there is: k-means on a line.
//!
//! ```text
//! min over c of  sum_i min_j (x_i - c_j)^2,   j = 1..2^b,   0 among the c if there is a weight of exactly 0
//! ```
//! A [`Census`] counts weights in bounded memory, [`table`] finds the values. Han, Mao and Dally (2015, arXiv:1510.00149)
//! begin with values evenly spread and improve them by Lloyd's rounds; on a line the optimum itself is to be had.

mod census;
mod clusters;

use dlopt_kernels::Float;

pub(crate) use census::Census;

use crate::formats::rounded;

/// The values of a codebook, ascending, those left over filled with the largest: each one of the type it is stored in.
pub(crate) fn table(census: &Census, entries: usize, stored: Float) -> Vec<f32> {
    let points = census.points();
    let mut values: Vec<f32> =
        clusters::centers(&points, entries).into_iter().map(|c| rounded(stored, finite(stored, c))).collect();
    let largest = values.last().copied().unwrap_or(0.0);
    values.resize(entries, largest);
    values
}

/// A mean of values of a type lies between them, but may be rounded beyond what the type holds.
fn finite(stored: Float, center: f64) -> f32 {
    let largest = match stored {
        Float::F16 => half::f16::MAX.to_f32(),
        Float::BF16 => half::bf16::MAX.to_f32(),
        Float::F32 | Float::F64 => f32::MAX,
    };
    (center as f32).clamp(-largest, largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(x: &[f32], entries: usize) -> Vec<f32> {
        let mut census = Census::default();
        census.count(x);
        table(&census, entries, Float::F32)
    }

    #[test]
    fn few_distinct_values_are_their_own_codebook() {
        let x = [0.3, -0.1, 0.3, 0.0, -0.0, 0.3, 1e-30, -7.5];
        assert_eq!(of(&x, 8), [-7.5, -0.1, 0.0, 1e-30, 0.3, 0.3, 0.3, 0.3]);
        assert_eq!(of(&[], 4), [0.0; 4]);
        assert_eq!(of(&[2.5; 9], 4), [2.5; 4]);
        assert_eq!(of(&[f32::NAN, f32::INFINITY, 1.0], 2), [0.0, 1.0]);
    }

    #[test]
    fn zeros_have_a_value_of_their_own() {
        // Without the zero the values would be 1.5 and 11.
        assert_eq!(of(&[0.0, 1.0, 2.0, 10.0, 12.0], 2), [0.0, 11.0]);
        assert_eq!(of(&[1.0, 2.0, 10.0, 12.0], 2), [1.5, 11.0]);
        assert_eq!(of(&[-3.0, 0.0, 4.0], 1), [0.0]);
    }

    #[test]
    fn values_are_those_of_the_type_they_are_stored_in() {
        let mut census = Census::default();
        census.count(&[65504.0, 65472.0, 1.0, 1.001, 0.0]);
        let values = table(&census, 4, Float::F16);
        assert!(values.iter().all(|v| half::f16::from_f32(*v).to_f32() == *v && v.is_finite()));
        assert_eq!(values[0], 0.0);
    }
}
