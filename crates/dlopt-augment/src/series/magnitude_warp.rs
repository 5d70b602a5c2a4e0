//! Magnitude warp: values times a smooth curve about 1, a natural cubic spline through `knots` + 2 normal numbers of mean
//! 1 and deviation `sigma`, spread evenly from the first step to the last; one curve for all features, or one for each.
//! The label stays, unless it says how large the values are. Source: Um et al. 2017 (arXiv 1706.00527), whose splines
//! are not natural at their ends.

use serde::{Deserialize, Serialize};

use super::curve::Spline;
use super::{change, counted};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<MagnitudeWarp>(
    "magnitude-warp",
    "sigma",
    Kinds::SERIES,
    "values times a smooth curve about 1 of deviation sigma (0.2) through knots (4) + 2 points (Um et al. 2017)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MagnitudeWarp {
    /// Deviation of the curve at its knots, 0..=10.
    sigma: Range,
    /// Knots between the first step and the last, 0..=1000.
    knots: usize,
    /// Whether each feature has a curve of its own.
    features: bool,
}

impl Default for MagnitudeWarp {
    fn default() -> Self {
        Self { sigma: Range::only(0.2), knots: 4, features: false }
    }
}

impl Operation for MagnitudeWarp {
    fn validate(&self) -> Result<(), String> {
        self.sigma.within("sigma", "", 0.0, 10.0)?;
        counted("knots", self.knots, 0, 1000)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let sigma = draws.of(self.sigma);
        scratch.note(|| format!("magnitude-warp ±{sigma:.2}"));
        if sigma == 0.0 {
            return;
        }
        change(sample, scratch, |steps| {
            let curves = if self.features { steps.features } else { 1 };
            for first in 0..curves {
                let curve = around_one(draws, sigma, self.knots);
                let own = if self.features { first..first + 1 } else { 0..steps.features };
                warp(steps.values, steps.features, own, &curve);
            }
        });
    }
}

/// A smooth curve about 1.
pub(super) fn around_one(draws: &mut Draws, sigma: f32, knots: usize) -> Spline {
    Spline::new((0..knots + 2).map(|_| 1.0 + f64::from(sigma) * f64::from(draws.normal())).collect())
}

/// Multiplies some features by a curve over all steps.
pub(super) fn warp(values: &mut [f32], features: usize, own: std::ops::Range<usize>, curve: &Spline) {
    let last = (values.len() / features - 1).max(1) as f64;
    for (step, values) in values.chunks_mut(features).enumerate() {
        let factor = curve.at(step as f64 / last);
        values[own.clone()].iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
    }
}
