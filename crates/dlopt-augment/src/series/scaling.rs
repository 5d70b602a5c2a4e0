//! Scaling: all values of a series times one number of mean 1 and deviation `sigma`, or one for each feature. The label
//! stays, unless it says how large the values are. Source: Um et al. 2017 (arXiv 1706.00527).

use serde::{Deserialize, Serialize};

use super::change;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<Scaling>(
    "scaling",
    "sigma",
    Kinds::SERIES,
    "values times a normal number of mean 1 and deviation sigma (0.1); features=true: one each (Um et al. 2017)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Scaling {
    /// Deviation of the factor, 0..=10.
    sigma: Range,
    /// Whether each feature has a factor of its own.
    features: bool,
}

impl Default for Scaling {
    fn default() -> Self {
        Self { sigma: Range::only(0.1), features: false }
    }
}

impl Operation for Scaling {
    fn validate(&self) -> Result<(), String> {
        self.sigma.within("sigma", "", 0.0, 10.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let sigma = draws.of(self.sigma);
        let first = 1.0 + sigma * draws.normal();
        scratch.note(|| if self.features { format!("scaling ±{sigma:.2}") } else { format!("scaling {first:.2}") });
        change(sample, scratch, |steps| {
            let factors: Vec<f32> = (0..steps.features)
                .map(|feature| if feature == 0 || !self.features { first } else { 1.0 + sigma * draws.normal() })
                .collect();
            for step in steps.values.chunks_mut(steps.features) {
                step.iter_mut().zip(&factors).for_each(|(x, factor)| *x *= factor);
            }
        });
    }
}
