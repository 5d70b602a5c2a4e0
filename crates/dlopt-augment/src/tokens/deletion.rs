//! Random deletion: each token is left out with a probability; when none would be left, one of them stays, any. The label
//! stays while what is left still says it. Source: EDA, Wei and Zou 2019 (arXiv 1901.11196), their RD.

use serde::{Deserialize, Serialize};

use super::change;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<Deletion>(
    "token-deletion",
    "rate",
    Kinds::TOKENS,
    "each token left out with probability rate (0.1); one is always left (EDA, Wei and Zou 2019)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Deletion {
    /// Probability of each token, 0..=1.
    rate: Range,
}

impl Default for Deletion {
    fn default() -> Self {
        Self { rate: Range::only(0.1) }
    }
}

impl Operation for Deletion {
    fn validate(&self) -> Result<(), String> {
        self.rate.within("rate", "of the tokens", 0.0, 1.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let rate = draws.of(self.rate);
        scratch.note(|| format!("token-deletion {rate:.2}"));
        change(sample, scratch, |tokens, _, _| {
            let spared = tokens[draws.below(tokens.len())];
            tokens.retain(|_| !draws.chance(rate));
            if tokens.is_empty() {
                tokens.push(spared);
            }
        });
    }
}
