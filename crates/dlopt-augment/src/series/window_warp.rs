//! Window warp: a part of the series is made longer or shorter, and the whole brought back to its length, on straight
//! lines between steps. The factor is drawn so that half and twice the length are as likely (its logarithm has a flat
//! distribution). The label stays. Source: Le Guennec, Malinowski and Tavenard 2016; formula of Iwana and Uchida 2021
//! (arXiv 2007.15951), who take either end of the range.

use serde::{Deserialize, Serialize};

use super::{change, curve, part_of};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::{exp, ln};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<WindowWarp>(
    "window-warp",
    "share",
    Kinds::SERIES,
    "a part of share of the steps (0.1) made factor times as long (0.5..2), the whole as before (Le Guennec 2016)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WindowWarp {
    /// Share of the steps that is warped, 0..=1.
    share: Range,
    /// How much longer it becomes, 0.05..=20.
    factor: Range,
}

impl Default for WindowWarp {
    fn default() -> Self {
        Self { share: Range::only(0.1), factor: Range::new(0.5, 2.0) }
    }
}

impl Operation for WindowWarp {
    fn validate(&self) -> Result<(), String> {
        self.share.within("share", "of the steps", 0.0, 1.0)?;
        self.factor.within("factor", "times its length", 0.05, 20.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let window = part_of(draws.of(self.share), sample.steps);
        let factor = even_ratio(draws, self.factor);
        let start = draws.below(sample.steps - window + 1);
        scratch.note(|| format!("window-warp {start}..{} x{factor:.2}", start + window));
        change(sample, scratch, |steps| *steps.values = warp(steps.values, steps.features, start, window, factor));
    }
}

/// A factor of the range, of which the logarithm is drawn, all alike.
fn even_ratio(draws: &mut Draws, range: Range) -> f64 {
    if range.is_fixed() {
        return f64::from(range.low);
    }
    let (low, high) = (ln(f64::from(range.low)), ln(f64::from(range.high)));
    exp(low + (high - low) * f64::from(draws.unit()))
}

/// The series with `window` steps from `start` on made `factor` times as many, brought back to its length.
pub(super) fn warp(values: &[f32], features: usize, start: usize, window: usize, factor: f64) -> Vec<f32> {
    let warped = (window as f64 * factor + 0.5) as usize;
    if warped == window {
        return values.to_vec();
    }
    let (begin, end) = (start * features, (start + window) * features);
    let mut all = values[..begin].to_vec();
    all.extend(curve::resize(&values[begin..end], features, warped));
    all.extend_from_slice(&values[end..]);
    if all.is_empty() { values.to_vec() } else { curve::resize(&all, features, values.len() / features) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_below_and_above_1_are_as_likely() {
        let mut draws = Draws::new(crate::draws::Key { seed: 1, round: 0, sample: 0 }, 0);
        let factors: Vec<f64> = (0..2000).map(|_| even_ratio(&mut draws, Range::new(0.5, 2.0))).collect();
        let longer = factors.iter().filter(|factor| **factor > 1.0).count();
        assert!((900..1100).contains(&longer) && factors.iter().all(|factor| (0.499..2.001).contains(factor)));
    }

    #[test]
    fn a_window_may_vanish_and_be_everything() {
        assert_eq!(warp(&[1.0, 2.0, 4.0], 1, 0, 3, 2.0).len(), 3);
        assert_eq!(warp(&[1.0, 2.0, 4.0], 1, 1, 1, 0.05).len(), 3);
        assert_eq!(warp(&[1.0], 1, 0, 1, 0.05), [1.0]);
        assert_eq!(warp(&[1.0, 2.0, 4.0], 1, 2, 0, 7.0), [1.0, 2.0, 4.0]);
    }
}
