//! The choices of one item that a linear program can mix: the lower convex hull of (bytes, damage).

use super::Item;

/// A step along a hull: more bytes, less damage.
#[derive(Clone, Copy, Debug)]
pub(super) struct HullStep {
    /// The choice it leads to.
    pub(super) to: usize,
    /// More than 0.
    pub(super) bytes: u64,
    /// What it saves, more than 0.
    pub(super) saved: f64,
}

impl HullStep {
    /// What a byte saves.
    pub(super) fn efficiency(&self) -> f64 {
        self.saved / self.bytes as f64
    }
}

/// The smallest choice, and the steps from it; efficiencies fall.
#[derive(Clone, Debug)]
pub(super) struct Hull {
    pub(super) first: usize,
    pub(super) steps: Vec<HullStep>,
}

impl Hull {
    pub(super) fn of(item: &Item) -> Self {
        let choices = &item.choices;
        let mut order: Vec<usize> = (0..choices.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (&choices[*a], &choices[*b]);
            a.bytes.cmp(&b.bytes).then(a.damage.total_cmp(&b.damage))
        });
        let mut hull: Vec<usize> = Vec::new();
        for at in order {
            // What takes as much and costs no less is never chosen.
            if hull.last().is_some_and(|last| choices[at].damage >= choices[*last].damage) {
                continue;
            }
            while let [.., before, last] = hull[..] {
                // The middle one lies on or above the line between its neighbours.
                let slope = |from: usize, to: usize| {
                    (choices[from].damage - choices[to].damage) / (choices[to].bytes - choices[from].bytes) as f64
                };
                if slope(before, last) > slope(last, at) {
                    break;
                }
                hull.pop();
            }
            hull.push(at);
        }
        let steps = hull.windows(2).map(|pair| HullStep {
            to: pair[1],
            bytes: choices[pair[1]].bytes - choices[pair[0]].bytes,
            saved: choices[pair[0]].damage - choices[pair[1]].damage,
        });
        Self { first: hull[0], steps: steps.collect() }
    }
}
