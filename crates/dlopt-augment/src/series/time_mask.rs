//! Time mask: stretches of steps are blotted out, all features of them. Each is `w` steps wide, `w` drawn from 0 to
//! `share` of the steps (and at most `steps`, when it is given), anywhere in the series. The label stays while what is
//! left still shows it. Source: SpecAugment, Park et al. 2019 (arXiv 1904.08779), section 2: `share` is their p, `steps`
//! their T, `masks` their mT.

use serde::{Deserialize, Serialize};

use super::{change, counted, part_of, within};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<TimeMask>(
    "time-mask",
    "share",
    Kinds::SERIES,
    "masks (1) stretches of up to share of the steps (0.2) blotted out by the mean or zero (SpecAugment, 2019)",
);

/// What stands in a mask.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Blot {
    /// The mean of all values of the series.
    Mean,
    /// Zero.
    Zero,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimeMask {
    /// Largest share of the steps in one mask, 0..=1.
    share: f32,
    /// Most steps in one mask; no bound when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    /// How many, 0..=1000.
    masks: usize,
    /// What stands in them.
    fill: Blot,
}

impl Default for TimeMask {
    fn default() -> Self {
        Self { share: 0.2, steps: None, masks: 1, fill: Blot::Mean }
    }
}

impl Operation for TimeMask {
    fn validate(&self) -> Result<(), String> {
        within("share", self.share, 0.0, 1.0, "of the steps")?;
        counted("masks", self.masks, 0, 1000)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let widest = part_of(self.share, sample.steps).min(self.steps.unwrap_or(usize::MAX));
        let masks: Vec<_> = (0..self.masks).map(|_| stretch(draws, widest, sample.steps)).collect();
        scratch.note(|| format!("time-mask {masks:?}"));
        change(sample, scratch, |steps| {
            let blot = blot(steps.values, self.fill);
            masks.iter().for_each(|mask| mask_steps(steps.values, steps.features, mask.clone(), blot));
        });
    }
}

/// A stretch of 0 to `widest` of `whole`.
pub(super) fn stretch(draws: &mut Draws, widest: usize, whole: usize) -> std::ops::Range<usize> {
    let width = draws.below(widest + 1);
    let start = draws.below(whole - width + 1);
    start..start + width
}

/// The value that blots out.
pub(super) fn blot(values: &[f32], fill: Blot) -> f32 {
    match fill {
        Blot::Zero => 0.0,
        Blot::Mean => (values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len().max(1) as f64) as f32,
    }
}

/// Blots out steps.
pub(super) fn mask_steps(values: &mut [f32], features: usize, mask: std::ops::Range<usize>, blot: f32) {
    values[mask.start * features..mask.end * features].fill(blot);
}
