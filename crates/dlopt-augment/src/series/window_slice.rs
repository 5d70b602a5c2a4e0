//! Window slice: a part of the series, anywhere in it, stretched to the length of the whole on straight lines between
//! steps. The label stays while the part still shows it. Source: Le Guennec, Malinowski and Tavenard 2016; stretched back
//! as in Iwana and Uchida 2021 (arXiv 2007.15951).

use serde::{Deserialize, Serialize};

use super::{change, curve, part_of};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<WindowSlice>(
    "window-slice",
    "share",
    Kinds::SERIES,
    "a part of share of the steps (0.9), stretched to the whole unless stretch=false (Le Guennec et al. 2016)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WindowSlice {
    /// Share of the steps that is kept, 0.01..=1.
    share: Range,
    /// Whether the part is stretched to the length of the whole; else it counts fewer steps.
    stretch: bool,
}

impl Default for WindowSlice {
    fn default() -> Self {
        Self { share: Range::only(0.9), stretch: true }
    }
}

impl Operation for WindowSlice {
    fn validate(&self) -> Result<(), String> {
        self.share.within("share", "of the steps", 0.01, 1.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let share = draws.of(self.share);
        let window = part_of(share, sample.steps).max(1);
        let start = draws.below(sample.steps - window + 1);
        scratch.note(|| format!("window-slice {start}..{}", start + window));
        if window == sample.steps {
            return;
        }
        change(sample, scratch, |steps| {
            *steps.values = slice(steps.values, steps.features, start, window, self.stretch)
        });
    }
}

/// The part from `start` on, of the length of the whole if it is stretched.
pub(super) fn slice(values: &[f32], features: usize, start: usize, window: usize, is_stretched: bool) -> Vec<f32> {
    let part = &values[start * features..][..window * features];
    if is_stretched { curve::resize(part, features, values.len() / features) } else { part.to_vec() }
}
