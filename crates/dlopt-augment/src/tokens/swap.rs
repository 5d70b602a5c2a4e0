//! Random swap: two tokens change places, `share` of the tokens times (at least once). The label stays where it does not
//! hang on the order. Source: EDA, Wei and Zou 2019 (arXiv 1901.11196), their RS; `distance` holds pairs together.

use serde::{Deserialize, Serialize};

use super::{change, changes_of};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<Swap>(
    "token-swap",
    "share",
    Kinds::TOKENS,
    "two tokens change places, share of the tokens (0.1) times, at most distance apart (EDA, Wei and Zou 2019)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Swap {
    /// Swaps as a share of the tokens, 0..=1.
    share: Range,
    /// How far apart the two are at most, 1 and more; any when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    distance: Option<usize>,
}

impl Default for Swap {
    fn default() -> Self {
        Self { share: Range::only(0.1), distance: None }
    }
}

impl Operation for Swap {
    fn validate(&self) -> Result<(), String> {
        self.share.within("share", "of the tokens", 0.0, 1.0)?;
        match self.distance {
            Some(0) => Err("distance is 0; wanted 1 or more tokens".to_owned()),
            _ => Ok(()),
        }
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let share = draws.of(self.share);
        scratch.note(|| format!("token-swap {share:.2}"));
        change(sample, scratch, |tokens, _, _| {
            let last = tokens.len() - 1;
            for _ in 0..changes_of(share, tokens.len()) {
                let one = draws.below(last + 1);
                let reach = self.distance.unwrap_or(last);
                let (first, end) = (one.saturating_sub(reach), one.saturating_add(reach).min(last));
                // Any other place of these, all alike.
                let other = first + draws.below(end - first);
                let other = if other < one { other } else { other + 1 };
                if other <= last {
                    tokens.swap(one, other);
                }
            }
        });
    }
}
