//! Time warp: the series runs faster here and slower there. The speed is a smooth curve about 1 (see `magnitude-warp`; at
//! least 0.05, so that time never runs backwards); its running sum, stretched to the whole series, says where each step is
//! read, on straight lines between steps. First and last step stay. The label stays. Source: Um et al. 2017 (arXiv
//! 1706.00527).

use serde::{Deserialize, Serialize};

use super::curve::{self, Spline};
use super::magnitude_warp::around_one;
use super::{change, counted};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<TimeWarp>(
    "time-warp",
    "sigma",
    Kinds::SERIES,
    "faster here and slower there: a smooth speed about 1 of deviation sigma (0.2), knots (4) (Um et al. 2017)",
);

/// Speeds are at least this.
const SLOWEST: f64 = 0.05;

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimeWarp {
    /// Deviation of the speed at the knots, 0..=10.
    sigma: Range,
    /// Knots between the first step and the last, 0..=1000.
    knots: usize,
}

impl Default for TimeWarp {
    fn default() -> Self {
        Self { sigma: Range::only(0.2), knots: 4 }
    }
}

impl Operation for TimeWarp {
    fn validate(&self) -> Result<(), String> {
        self.sigma.within("sigma", "", 0.0, 10.0)?;
        counted("knots", self.knots, 0, 1000)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let sigma = draws.of(self.sigma);
        scratch.note(|| format!("time-warp ±{sigma:.2}"));
        if sigma == 0.0 {
            return;
        }
        change(sample, scratch, |steps| {
            let speed = around_one(draws, sigma, self.knots);
            *steps.values = warp(steps.values, steps.features, &speed);
        });
    }
}

/// The series read at the running sum of a speed.
pub(super) fn warp(values: &[f32], features: usize, speed: &Spline) -> Vec<f32> {
    let last = values.len() / features - 1;
    let mut places = Vec::with_capacity(last + 1);
    let mut sum = 0.0;
    places.push(sum);
    for step in 0..last {
        sum += speed.at((step as f64 + 0.5) / last as f64).max(SLOWEST);
        places.push(sum);
    }
    let stretch = if last > 0 { last as f64 / sum } else { 0.0 };
    curve::read(values, features, places.into_iter().map(|place| place * stretch))
}
