//! Geometric median: channels that the others could stand in for go first.
//!
//! `s(m[k]) = sum over channels j of |m[k] - m[j]|`, the Euclidean distance of the slices that work the channels out. Source:
//! He et al., 2019, arXiv:1811.00250, equation 7.

use super::Importance;
use crate::Plugin;
use crate::coupling::{Part, Pieces};

pub(super) struct GeometricMedian;

impl Importance for GeometricMedian {
    fn plugin(&self) -> Plugin {
        Plugin {
            name: "geometric-median",
            summary: "channels nearest to all others of their layer go first",
            source: "He et al. 2019, arXiv 1811.00250",
        }
    }

    fn counts(&self, part: Part) -> bool {
        part == Part::Writes
    }

    fn scores(&self, pieces: &Pieces<'_>, _seed: u64) -> Vec<f64> {
        let own = pieces.gathered();
        let mut sums = vec![0.0; own.len()];
        for first in 0..own.len() {
            for second in first + 1..own.len() {
                let far = distance(&own[first], &own[second]);
                sums[first] += far;
                sums[second] += far;
            }
        }
        sums
    }
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    a.iter().zip(b).map(square).sum::<f64>().sqrt()
}
