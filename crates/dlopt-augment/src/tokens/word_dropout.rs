//! Word dropout: each token becomes the unknown one with a probability. The label stays. Source: Bowman et al. 2016 (arXiv
//! 1511.06349), section 3.1; Iyyer et al. 2015 leave the words out instead, which is `token-deletion`.

use serde::{Deserialize, Serialize};

use super::{change, known};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Form, Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<WordDropout>(
    "word-dropout",
    "rate",
    Kinds::TOKENS,
    "each token becomes token (1, <unk>) with probability rate (0.1) (Bowman et al. 2016)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WordDropout {
    /// Probability of each token, 0..=1.
    rate: Range,
    /// The number of the unknown token.
    token: u32,
}

impl Default for WordDropout {
    fn default() -> Self {
        Self { rate: Range::only(0.1), token: 1 }
    }
}

impl Operation for WordDropout {
    fn validate(&self) -> Result<(), String> {
        self.rate.within("rate", "of the tokens", 0.0, 1.0)
    }

    fn check(&self, form: &Form) -> Result<(), String> {
        known("token", self.token, form)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let rate = draws.of(self.rate);
        scratch.note(|| format!("word-dropout {rate:.2}"));
        change(sample, scratch, |tokens, _, _| {
            tokens.iter_mut().filter(|_| draws.chance(rate)).for_each(|token| *token = self.token);
        });
    }
}
