//! RandAugment: `ops` operations, any of fourteen, one after the other, all with the strength of the same bin; see
//! `policy.rs`. The label stays. Source: Cubuk et al. 2020 (arXiv 1909.13719), with torchvision's operations and bins.

use serde::{Deserialize, Serialize};

use super::policy::{LAST_BIN, Policy, RAND};
use crate::draws::Draws;
use crate::geometry::{Fill, Filter, Resampling};
use crate::operation::{Kinds, Operation, OperationKind};
use crate::sample::{Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<RandAugment>(
    "rand-augment",
    "magnitude",
    Kinds::IMAGES,
    "ops (2) of 14 operations on the picture, of magnitude 9 (0 to 30; Cubuk et al. 2020); filter and fill as rotate",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RandAugment {
    /// How strong they are, 0..=30.
    magnitude: usize,
    /// How many there are, 1..=16.
    ops: usize,
    /// How values between pixels are found.
    filter: Filter,
    /// What lies outside.
    fill: Fill,
    /// Of a constant fill, 0..=1 of white.
    value: f32,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { magnitude: 9, ops: 2, filter: Filter::Nearest, fill: Fill::Constant, value: 0.0 }
    }
}

impl RandAugment {
    fn resampling(&self) -> Resampling {
        Resampling { filter: self.filter, fill: self.fill, value: self.value }
    }
}

impl Operation for RandAugment {
    fn validate(&self) -> Result<(), String> {
        if self.magnitude > LAST_BIN {
            return Err(format!("magnitude is {}; wanted 0 to {LAST_BIN}", self.magnitude));
        }
        if !(1..=16).contains(&self.ops) {
            return Err(format!("ops is {}; wanted 1 to 16", self.ops));
        }
        self.resampling().validate()
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let mut policy = Policy::new(RAND, self.resampling());
        for _ in 0..self.ops {
            policy.any(self.magnitude, sample, draws, scratch);
        }
        policy.finish(sample, scratch);
    }
}
