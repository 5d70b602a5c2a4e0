//! The linear program: all steps of all hulls, the best first, until the budget is spent; the last one in part.

use super::hull::{Hull, HullStep};
use super::{Item, least_bytes};

/// The linear program's answer.
pub(super) struct Relaxation {
    /// What no choice can go below.
    pub(super) bound: f64,
    /// What a byte more would save: the multiplier of the budget.
    pub(super) price: f64,
    /// The whole steps that fit: one choice for each item.
    pub(super) picks: Vec<usize>,
}

impl Relaxation {
    /// The budget holds the smallest choices.
    pub(super) fn of(items: &[Item], budget_bytes: u64) -> Self {
        let hulls: Vec<Hull> = items.iter().map(Hull::of).collect();
        let mut picks: Vec<usize> = hulls.iter().map(|hull| hull.first).collect();
        let mut bound: f64 = items.iter().zip(&picks).map(|(item, at)| item.choices[*at].damage).sum();
        let mut left = budget_bytes - least_bytes(items);
        let mut price = 0.0;
        for (item, step) in best_first(&hulls) {
            if step.bytes > left {
                bound -= step.efficiency() * left as f64;
                price = step.efficiency();
                break;
            }
            left -= step.bytes;
            bound -= step.saved;
            picks[item] = step.to;
        }
        Self { bound, price, picks }
    }
}

/// The choices after each step, the smallest first.
pub(super) fn path(items: &[Item]) -> Vec<Vec<usize>> {
    let hulls: Vec<Hull> = items.iter().map(Hull::of).collect();
    let mut picks: Vec<usize> = hulls.iter().map(|hull| hull.first).collect();
    let mut all = vec![picks.clone()];
    for (item, step) in best_first(&hulls) {
        picks[item] = step.to;
        all.push(picks.clone());
    }
    all
}

/// All steps by what a byte saves. Those of one item keep their order: their efficiencies fall, and the sort is stable.
fn best_first(hulls: &[Hull]) -> Vec<(usize, HullStep)> {
    let each = hulls.iter().enumerate();
    let mut steps: Vec<_> = each.flat_map(|(i, hull)| hull.steps.iter().map(move |step| (i, *step))).collect();
    steps.sort_by(|(_, a), (_, b)| b.efficiency().total_cmp(&a.efficiency()));
    steps
}
