//! Frequency mask: stretches of neighbouring features (the bands of a spectrum) are blotted out in all steps. Each is `w`
//! features wide, `w` drawn from 0 to `share` of them (and at most `bands`, when it is given). The label stays while what
//! is left still shows it. Source: SpecAugment, Park et al. 2019 (arXiv 1904.08779), section 2: `bands` is their F, of 80;
//! `masks` their mF.

use serde::{Deserialize, Serialize};

use super::time_mask::{Blot, blot, stretch};
use super::{change, counted, part_of, within};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::sample::{Form, Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<FrequencyMask>(
    "frequency-mask",
    "share",
    Kinds::SERIES,
    "masks (1) stretches of up to share of the features (0.3) blotted out by the mean or zero (SpecAugment)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FrequencyMask {
    /// Largest share of the features in one mask, 0..=1.
    share: f32,
    /// Most features in one mask; no bound when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    bands: Option<usize>,
    /// How many, 0..=1000.
    masks: usize,
    /// What stands in them.
    fill: Blot,
}

impl Default for FrequencyMask {
    fn default() -> Self {
        Self { share: 0.3, bands: None, masks: 1, fill: Blot::Mean }
    }
}

impl Operation for FrequencyMask {
    fn validate(&self) -> Result<(), String> {
        within("share", self.share, 0.0, 1.0, "of the features")?;
        counted("masks", self.masks, 0, 1000)
    }

    fn check(&self, form: &Form) -> Result<(), String> {
        bands(form)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let Form::Series { features, .. } = sample.form else { return };
        let widest = part_of(self.share, features).min(self.bands.unwrap_or(usize::MAX));
        let masks: Vec<_> = (0..self.masks).map(|_| stretch(draws, widest, features)).collect();
        scratch.note(|| format!("frequency-mask {masks:?}"));
        change(sample, scratch, |steps| {
            let blot = blot(steps.values, self.fill);
            masks.iter().for_each(|mask| mask_features(steps.values, features, mask.clone(), blot));
        });
    }
}

/// Refuses series of one feature: they have no bands.
pub(super) fn bands(form: &Form) -> Result<(), String> {
    match form {
        Form::Series { features: 1, .. } => {
            Err("series of one feature have no bands; a spectrum has (prepare with --step log-mel)".to_owned())
        }
        _ => Ok(()),
    }
}

/// Blots out features of all steps.
pub(super) fn mask_features(values: &mut [f32], features: usize, mask: std::ops::Range<usize>, blot: f32) {
    values.chunks_mut(features).for_each(|step| step[mask.clone()].fill(blot));
}
