//! Span crop: a run of neighbouring tokens is kept, anywhere in the sequence, and the rest is left out. The label stays
//! while the run still says it. Source: sequence cropping of COCO-LM, Meng et al. 2021 (arXiv 2102.08473), who keep 90 %.

use serde::{Deserialize, Serialize};

use super::change;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<SpanCrop>(
    "span-crop",
    "share",
    Kinds::TOKENS,
    "a run of share of the tokens (0.9) is kept, anywhere, and the rest left out (Meng et al. 2021)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SpanCrop {
    /// Share of the tokens that is kept, 0..=1; at least one token.
    share: Range,
}

impl Default for SpanCrop {
    fn default() -> Self {
        Self { share: Range::only(0.9) }
    }
}

impl Operation for SpanCrop {
    fn validate(&self) -> Result<(), String> {
        self.share.within("share", "of the tokens", 0.0, 1.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let share = draws.of(self.share);
        let kept = ((f64::from(share) * sample.steps as f64 + 0.5) as usize).clamp(1, sample.steps.max(1));
        let start = draws.below(sample.steps.saturating_sub(kept) + 1);
        scratch.note(|| format!("span-crop {start}..{}", start + kept));
        change(sample, scratch, |tokens, _, _| {
            tokens.truncate(start + kept);
            tokens.drain(..start);
        });
    }
}
