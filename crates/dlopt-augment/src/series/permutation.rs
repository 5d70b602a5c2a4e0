//! Permutation: the series is cut into parts, and the parts are put into another order. The label stays where it does not
//! hang on the order of things. Source: Um et al. 2017 (arXiv 1706.00527); the number of parts is drawn from 1 to
//! `segments`, as Iwana and Uchida 2021 (arXiv 2007.15951) do.

use serde::{Deserialize, Serialize};

use super::{change, counted};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<Permutation>(
    "permutation",
    "segments",
    Kinds::SERIES,
    "up to segments (5) parts in another order, cut anywhere unless equal=true (Um et al. 2017)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Permutation {
    /// Most parts, 1..=1000.
    segments: usize,
    /// Whether all parts are of one length, to the nearest step; else they are cut anywhere.
    equal: bool,
}

impl Default for Permutation {
    fn default() -> Self {
        Self { segments: 5, equal: false }
    }
}

impl Operation for Permutation {
    fn validate(&self) -> Result<(), String> {
        counted("segments", self.segments, 1, 1000)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let most = self.segments.min(sample.steps).max(1);
        let segments = 1 + draws.below(most);
        let ends = cuts(sample.steps, segments, self.equal, draws);
        let mut order: Vec<usize> = (0..segments).collect();
        draws.shuffle(&mut order);
        scratch.note(|| format!("permutation {order:?}"));
        change(sample, scratch, |steps| *steps.values = permuted(steps.values, steps.features, &ends, &order));
    }
}

/// Where the parts end; none is empty.
fn cuts(steps: usize, segments: usize, is_equal: bool, draws: &mut Draws) -> Vec<usize> {
    if is_equal {
        return (1..=segments).map(|part| part * steps / segments).collect();
    }
    // So many of the places between steps, each choice alike (Knuth, algorithm S).
    let mut wanted = segments - 1;
    let mut ends = Vec::with_capacity(segments);
    for place in 1..steps {
        if draws.below(steps - place) < wanted {
            wanted -= 1;
            ends.push(place);
        }
    }
    ends.push(steps);
    ends
}

/// The parts in an order.
fn permuted(values: &[f32], features: usize, ends: &[usize], order: &[usize]) -> Vec<f32> {
    let begin = |part: usize| if part == 0 { 0 } else { ends[part - 1] };
    order.iter().flat_map(|&part| &values[begin(part) * features..ends[part] * features]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_and_none_is_empty() {
        let mut draws = Draws::new(crate::draws::Key { seed: 1, round: 0, sample: 0 }, 0);
        for is_equal in [true, false] {
            for (steps, segments) in [(7, 3), (5, 5), (1, 1), (9, 1)] {
                let ends = cuts(steps, segments, is_equal, &mut draws);
                assert_eq!((ends.len(), ends[segments - 1]), (segments, steps));
                assert!(ends[0] > 0 && ends.windows(2).all(|pair| pair[0] < pair[1]), "{ends:?}");
            }
        }
    }

    #[test]
    fn parts_come_in_their_order() {
        let values = [1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 4.0, -4.0];
        let other = permuted(&values, 2, &[1, 2, 4], &[2, 0, 1]);
        assert_eq!(other, [3.0, -3.0, 4.0, -4.0, 1.0, -1.0, 2.0, -2.0]);
    }
}
