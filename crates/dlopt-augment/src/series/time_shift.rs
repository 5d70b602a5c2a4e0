//! Time shift: a series moved later (or earlier, below 0) by a share of its steps. What is moved over the end is lost, or
//! comes in again at the other side; the length stays. The label stays. Source: Salamon and Bello 2017 (arXiv 1608.04363)
//! among others; `wrap` is numpy.roll.

use serde::{Deserialize, Serialize};

use super::change;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<TimeShift>(
    "time-shift",
    "share",
    Kinds::SERIES,
    "moved in time by a share of the steps (±0.1); what comes in: zero, edge (the outermost step) or wrap",
);

/// What comes in where steps are moved away.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Incoming {
    /// Zeros.
    Zero,
    /// The first or last step, again and again.
    Edge,
    /// What went out at the other side.
    Wrap,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimeShift {
    /// Share of the steps, -1..=1; later above 0.
    share: Range,
    /// What comes in.
    fill: Incoming,
}

impl Default for TimeShift {
    fn default() -> Self {
        Self { share: Range::new(-0.1, 0.1), fill: Incoming::Zero }
    }
}

impl Operation for TimeShift {
    fn validate(&self) -> Result<(), String> {
        self.share.within("share", "of the steps", -1.0, 1.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let share = draws.of(self.share);
        scratch.note(|| format!("time-shift {share:.2}"));
        change(sample, scratch, |steps| {
            let by = super::part_of(share.abs(), steps.count());
            shift(steps.values, steps.features, by, share > 0.0, self.fill);
        });
    }
}

/// Moves steps by `by` of them.
fn shift(values: &mut [f32], features: usize, by: usize, is_later: bool, fill: Incoming) {
    let moved = by * features;
    if moved == 0 {
        return;
    }
    let last = values.len() - features;
    let edge = if is_later { values[..features].to_vec() } else { values[last..].to_vec() };
    let gap = if is_later {
        values.rotate_right(moved);
        0..moved
    } else {
        values.rotate_left(moved);
        values.len() - moved..values.len()
    };
    match fill {
        Incoming::Wrap => {}
        Incoming::Zero => values[gap].fill(0.0),
        Incoming::Edge => values[gap].chunks_mut(features).for_each(|step| step.copy_from_slice(&edge)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_move_and_the_gap_is_filled() {
        let shifted = |by, is_later, fill| {
            let mut values = vec![1.0, -1.0, 2.0, -2.0, 3.0, -3.0];
            shift(&mut values, 2, by, is_later, fill);
            values
        };
        assert_eq!(shifted(1, true, Incoming::Zero), [0.0, 0.0, 1.0, -1.0, 2.0, -2.0]);
        assert_eq!(shifted(2, true, Incoming::Edge), [1.0, -1.0, 1.0, -1.0, 1.0, -1.0]);
        assert_eq!(shifted(2, false, Incoming::Edge), [3.0, -3.0, 3.0, -3.0, 3.0, -3.0]);
        assert_eq!(shifted(1, false, Incoming::Wrap), [2.0, -2.0, 3.0, -3.0, 1.0, -1.0]);
        assert_eq!(shifted(3, true, Incoming::Wrap), shifted(0, true, Incoming::Zero));
        assert_eq!(shifted(3, false, Incoming::Zero), [0.0; 6]);
    }
}
