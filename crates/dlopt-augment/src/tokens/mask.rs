//! Random masking: each token is chosen with a probability, and of those chosen, `random` become any token of the
//! vocabulary, `keep` stay as they are, and the others become the mask. The label stays. Source: BERT, Devlin et al. 2018
//! (arXiv 1810.04805), section 3.1: 15 % are chosen, of which 10 % become any and 10 % stay.

use serde::{Deserialize, Serialize};

use super::{change, known};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Form, Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<Mask>(
    "token-mask",
    "rate",
    Kinds::TOKENS,
    "each token with probability rate (0.15) becomes token (1, <unk>), or any (random=0.1), or stays (keep=0.1)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mask {
    /// Probability that a token is chosen, 0..=1.
    rate: Range,
    /// The number of the token that masks.
    token: u32,
    /// Share of the chosen that become any token, 0..=1.
    random: f32,
    /// Share of the chosen that stay, 0..=1; with `random` at most 1.
    keep: f32,
}

impl Default for Mask {
    fn default() -> Self {
        Self { rate: Range::only(0.15), token: 1, random: 0.1, keep: 0.1 }
    }
}

impl Operation for Mask {
    fn validate(&self) -> Result<(), String> {
        self.rate.within("rate", "of the tokens", 0.0, 1.0)?;
        Range::only(self.random).within("random", "of those chosen", 0.0, 1.0)?;
        Range::only(self.keep).within("keep", "of those chosen", 0.0, 1.0)?;
        if self.random + self.keep > 1.0 {
            return Err(format!("random {} and keep {} are more than 1 together", self.random, self.keep));
        }
        Ok(())
    }

    fn check(&self, form: &Form) -> Result<(), String> {
        known("token", self.token, form)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let rate = draws.of(self.rate);
        scratch.note(|| format!("token-mask {rate:.2}"));
        change(sample, scratch, |tokens, _, vocabulary| {
            for token in tokens.iter_mut() {
                if !draws.chance(rate) {
                    continue;
                }
                let share = draws.unit();
                if share < self.random {
                    *token = draws.below(vocabulary) as u32;
                } else if share >= self.random + self.keep {
                    *token = self.token;
                }
            }
        });
    }
}
