//! Random insertion: tokens of the vocabulary are put between others, `share` of the tokens times (at least once). What
//! grows beyond the room there is loses its end. The label stays. Source: EDA, Wei and Zou 2019 (arXiv 1901.11196), their
//! RI, who insert synonyms; any token from `first` on is inserted here, so that `<pad>` and `<unk>` are not.

use serde::{Deserialize, Serialize};

use super::{change, changes_of, known};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Form, Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<Insertion>(
    "token-insertion",
    "share",
    Kinds::TOKENS,
    "any tokens, from number first (2) on, put in share of the tokens (0.1) times (after EDA, Wei and Zou 2019)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Insertion {
    /// Insertions as a share of the tokens, 0..=10.
    share: Range,
    /// The smallest number of a token that is inserted.
    first: u32,
}

impl Default for Insertion {
    fn default() -> Self {
        Self { share: Range::only(0.1), first: 2 }
    }
}

impl Operation for Insertion {
    fn validate(&self) -> Result<(), String> {
        self.share.within("share", "of the tokens", 0.0, 10.0)
    }

    fn check(&self, form: &Form) -> Result<(), String> {
        known("first", self.first, form)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let share = draws.of(self.share);
        scratch.note(|| format!("token-insertion {share:.2}"));
        change(sample, scratch, |tokens, room, vocabulary| {
            let own = std::mem::take(tokens);
            // Places between the tokens there were, in order.
            let mut places: Vec<usize> =
                (0..changes_of(share, own.len())).map(|_| draws.below(own.len() + 1)).collect();
            places.sort_unstable();
            let mut places = places.into_iter().peekable();
            for place in 0..=own.len() {
                while places.next_if_eq(&place).is_some() {
                    tokens.push(self.first + draws.below(vocabulary - (self.first as usize).min(vocabulary)) as u32);
                }
                if tokens.len() >= room {
                    break;
                }
                tokens.extend(own.get(place));
            }
            tokens.truncate(room);
        });
    }
}
