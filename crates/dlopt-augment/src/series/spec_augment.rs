//! SpecAugment: frequency masks and then time masks on a spectrum, as `frequency-mask` and `time-mask` make them, in one
//! operation with the strength that its authors call LD: two of 27 of 80 bands, two of up to 100 steps. Their time warp is
//! `time-warp`, and they found that it matters least. The label stays. Source: Park et al. 2019 (arXiv 1904.08779),
//! table 1.

use serde::{Deserialize, Serialize};

use super::frequency_mask::{bands, mask_features};
use super::time_mask::{Blot, blot, mask_steps, stretch};
use super::{change, counted, part_of, within};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::sample::{Form, Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<SpecAugment>(
    "spec-augment",
    "",
    Kinds::SERIES,
    "masks=2 of up to frequency=0.34 of the bands and time=0.2 of the steps, by the mean or zero (Park et al. 2019)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SpecAugment {
    /// Largest share of the features in one mask, 0..=1.
    frequency: f32,
    /// Largest share of the steps in one mask, 0..=1.
    time: f32,
    /// Most steps in one mask.
    steps: usize,
    /// Masks of each kind, 0..=1000.
    masks: usize,
    /// What stands in them.
    fill: Blot,
}

impl Default for SpecAugment {
    fn default() -> Self {
        Self { frequency: 0.34, time: 0.2, steps: 100, masks: 2, fill: Blot::Mean }
    }
}

impl Operation for SpecAugment {
    fn validate(&self) -> Result<(), String> {
        within("frequency", self.frequency, 0.0, 1.0, "of the features")?;
        within("time", self.time, 0.0, 1.0, "of the steps")?;
        counted("masks", self.masks, 0, 1000)
    }

    fn check(&self, form: &Form) -> Result<(), String> {
        bands(form)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let Form::Series { features, .. } = sample.form else { return };
        let widest = [part_of(self.frequency, features), part_of(self.time, sample.steps).min(self.steps)];
        let masks: Vec<_> = (0..self.masks)
            .map(|_| (stretch(draws, widest[0], features), stretch(draws, widest[1], sample.steps)))
            .collect();
        scratch.note(|| format!("spec-augment {masks:?}"));
        change(sample, scratch, |steps| {
            let blot = blot(steps.values, self.fill);
            for (bands, time) in masks {
                mask_features(steps.values, features, bands, blot);
                mask_steps(steps.values, features, time, blot);
            }
        });
    }
}
