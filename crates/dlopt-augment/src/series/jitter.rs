//! Jitter: `x + sigma s z`, with `z` normal and drawn anew for every number, and `s` the deviation of the feature over the
//! series (1 when not `relative`). The label stays. Source: Um et al. 2017 (arXiv 1706.00527), who jitter standardised
//! data.

use serde::{Deserialize, Serialize};

use super::change;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<Jitter>(
    "jitter",
    "sigma",
    Kinds::SERIES,
    "noise of deviation sigma (0.05), a share of each feature's own unless relative=false (Um et al. 2017)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Jitter {
    /// Deviation, 0..=10.
    sigma: Range,
    /// Whether it counts in deviations of each feature over the series, else in the unit of the data.
    relative: bool,
}

impl Default for Jitter {
    fn default() -> Self {
        Self { sigma: Range::only(0.05), relative: true }
    }
}

impl Operation for Jitter {
    fn validate(&self) -> Result<(), String> {
        self.sigma.within("sigma", "", 0.0, 10.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let sigma = draws.of(self.sigma);
        scratch.note(|| format!("jitter {sigma:.3}"));
        if sigma == 0.0 {
            return;
        }
        let mut noise = std::mem::take(&mut scratch.floats);
        change(sample, scratch, |steps| {
            let sizes: Vec<f32> = (0..steps.features)
                .map(|feature| if self.relative { deviation(steps.values, steps.features, feature) } else { 1.0 })
                .collect();
            noise.clear();
            noise.resize(steps.values.len(), 0.0);
            draws.normals(&mut noise);
            for (step, noise) in steps.values.chunks_mut(steps.features).zip(noise.chunks(steps.features)) {
                for ((x, z), size) in step.iter_mut().zip(noise).zip(&sizes) {
                    *x += sigma * size * z;
                }
            }
        });
        scratch.floats = noise;
    }
}

/// The deviation of a feature over the steps.
fn deviation(values: &[f32], features: usize, feature: usize) -> f32 {
    let own = || values.iter().skip(feature).step_by(features).map(|&x| f64::from(x));
    let count = (values.len() / features) as f64;
    let mean = own().sum::<f64>() / count;
    (own().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_of_each_feature() {
        let values = [1.0, 5.0, 3.0, 5.0, 5.0, 5.0, 7.0, 5.0];
        assert_eq!([deviation(&values, 2, 0), deviation(&values, 2, 1)], [5.0_f32.sqrt(), 0.0]);
    }
}
