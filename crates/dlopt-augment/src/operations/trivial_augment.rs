//! TrivialAugment: one operation, any of fourteen, with the strength of any bin; see `policy.rs`. The label stays. Source:
//! Müller and Hutter 2021 (arXiv 2103.10158), their wide space as torchvision's `TrivialAugmentWide` has it.

use serde::{Deserialize, Serialize};

use super::policy::{LAST_BIN, Policy, WIDE};
use crate::draws::Draws;
use crate::geometry::{Fill, Filter, Resampling};
use crate::operation::{Kinds, Operation, OperationKind};
use crate::sample::{Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<TrivialAugment>(
    "trivial-augment",
    "",
    Kinds::IMAGES,
    "one of 14 operations on the picture, of any strength (Müller and Hutter 2021); filter and fill as rotate",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TrivialAugment {
    /// How values between pixels are found.
    filter: Filter,
    /// What lies outside.
    fill: Fill,
    /// Of a constant fill, 0..=1 of white.
    value: f32,
}

impl Default for TrivialAugment {
    fn default() -> Self {
        Self { filter: Filter::Nearest, fill: Fill::Constant, value: 0.0 }
    }
}

impl TrivialAugment {
    fn resampling(&self) -> Resampling {
        Resampling { filter: self.filter, fill: self.fill, value: self.value }
    }
}

impl Operation for TrivialAugment {
    fn validate(&self) -> Result<(), String> {
        self.resampling().validate()
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let mut policy = Policy::new(WIDE, self.resampling());
        let bin = draws.below(LAST_BIN + 1);
        policy.any(bin, sample, draws, scratch);
        policy.finish(sample, scratch);
    }
}
