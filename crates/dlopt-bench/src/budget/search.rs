//! From the linear program to whole choices.
//!
//! With `price` the multiplier of the budget, a choice's *regret* is what `damage + price * bytes` lies above the item's
//! least. Every whole choice costs at least the bound plus its regrets, so one that is to beat the best so far can only
//! use choices of small regret: few of thousands. Among those, states (bytes, damage) that another state beats in both are
//! dropped, item by item (Nemhauser and Ullmann, 1969).

use super::relaxation::Relaxation;
use super::{Item, Solution};

/// States kept after an item. More are thinned out, and the answer is no longer called optimal.
const STATES: usize = 1 << 13;
/// Items whose choice is searched for; with more, the others keep the linear program's.
const CORE: usize = 64;
/// A gap that no prediction of damage can resolve: among many items the search is not begun for it.
const NEGLIGIBLE: f64 = 1e-4;

/// A partial choice.
#[derive(Clone, Copy)]
struct State {
    bytes: u64,
    damage: f64,
    regret: f64,
    /// The state before it, and what was chosen for the last open item.
    from: usize,
    pick: usize,
}

pub(super) fn search(items: &[Item], budget: u64, relaxation: &Relaxation) -> Solution {
    let mut best = relaxation.picks.clone();
    fill(items, budget, &mut best);
    let (mut bytes, mut damage) = sums(items, &best);
    let bound = relaxation.bound;
    let mut is_optimal = damage <= bound;
    if !is_optimal && (items.len() <= CORE || damage - bound > NEGLIGIBLE * bound.abs()) {
        let found = exhaust(items, budget, relaxation, damage - bound);
        is_optimal = found.is_complete;
        if let Some(picks) = found.picks {
            let (found_bytes, found_damage) = sums(items, &picks);
            if found_damage < damage {
                (best, bytes, damage) = (picks, found_bytes, found_damage);
            }
        }
    }
    Solution { picks: best, bytes, damage, bound: bound.min(damage), is_optimal }
}

fn sums(items: &[Item], picks: &[usize]) -> (u64, f64) {
    let chosen = || items.iter().zip(picks).map(|(item, at)| item.choices[*at]);
    (chosen().map(|c| c.bytes).sum(), chosen().map(|c| c.damage).sum())
}

/// Spends what is left, the largest saving first.
fn fill(items: &[Item], budget: u64, picks: &mut [usize]) {
    let mut left = budget - sums(items, picks).0;
    loop {
        let mut best: Option<(f64, usize, usize, u64)> = None;
        for (i, item) in items.iter().enumerate() {
            let now = item.choices[picks[i]];
            for (c, choice) in item.choices.iter().enumerate() {
                let saved = now.damage - choice.damage;
                if saved > best.map_or(0.0, |b| b.0) && choice.bytes <= now.bytes + left {
                    best = Some((saved, i, c, choice.bytes));
                }
            }
        }
        let Some((_, i, c, bytes)) = best else { return };
        left = left + items[i].choices[picks[i]].bytes - bytes;
        picks[i] = c;
    }
}

struct Found {
    picks: Option<Vec<usize>>,
    is_complete: bool,
}

/// An item that may get another choice than the linear program's.
struct Open {
    item: usize,
    /// Its choices of small regret, and their regrets.
    choices: Vec<(usize, f64)>,
    /// The least regret of another choice than the best.
    second: f64,
}

/// The best choice whose regrets stay below `slack`, what the best so far lies above the bound. Of many items only a core
/// (Balas and Zemel, 1980) is open: those for which another choice costs least.
fn exhaust(items: &[Item], budget: u64, relaxation: &Relaxation, slack: f64) -> Found {
    let mut open: Vec<Open> = (0..items.len())
        .map(|item| open_choices(item, &items[item], relaxation.price, slack))
        .filter(|open| open.choices.len() > 1)
        .collect();
    let mut is_complete = open.len() <= CORE;
    open.sort_by(|a, b| a.second.total_cmp(&b.second));
    open.truncate(CORE);
    let mut picks = relaxation.picks.clone();
    let is_open = |item: usize| open.iter().any(|open| open.item == item);
    let fixed: u64 = (0..items.len()).filter(|i| !is_open(*i)).map(|i| items[i].choices[picks[i]].bytes).sum();
    let least_after = least_after(items, &open);
    let mut levels: Vec<Vec<State>> = Vec::with_capacity(open.len());
    let mut states = vec![State { bytes: fixed, damage: 0.0, regret: 0.0, from: 0, pick: 0 }];
    for (i, own) in open.iter().enumerate() {
        let mut next = Vec::with_capacity(states.len() * own.choices.len());
        for (from, state) in states.iter().enumerate() {
            for (pick, regret) in &own.choices {
                let choice = items[own.item].choices[*pick];
                let bytes = state.bytes + choice.bytes;
                let regret = state.regret + regret;
                if regret <= slack && bytes.saturating_add(least_after[i + 1]) <= budget {
                    next.push(State { bytes, damage: state.damage + choice.damage, regret, from, pick: *pick });
                }
            }
        }
        next.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.damage.total_cmp(&b.damage)));
        let mut lowest = f64::INFINITY;
        next.retain(|state| {
            let is_better = state.damage < lowest;
            lowest = lowest.min(state.damage);
            is_better
        });
        if next.len() > STATES {
            is_complete = false;
            thin(&mut next);
        }
        levels.push(std::mem::replace(&mut states, next));
    }
    // Damage falls with the bytes.
    let Some(end) = states.len().checked_sub(1) else { return Found { picks: None, is_complete } };
    let mut state = states[end];
    for (own, level) in open.iter().zip(&levels).rev() {
        picks[own.item] = state.pick;
        state = level[state.from];
    }
    Found { picks: Some(picks), is_complete }
}

/// The choices of an item whose regret is small enough.
fn open_choices(at: usize, item: &Item, price: f64, slack: f64) -> Open {
    let cost = |c: usize| item.choices[c].damage + price * item.choices[c].bytes as f64;
    let least = (0..item.choices.len()).map(cost).fold(f64::INFINITY, f64::min);
    let choices: Vec<(usize, f64)> =
        (0..item.choices.len()).map(|c| (c, cost(c) - least)).filter(|(_, regret)| *regret <= slack).collect();
    let mut regrets: Vec<f64> = choices.iter().map(|(_, regret)| *regret).collect();
    regrets.sort_by(f64::total_cmp);
    Open { item: at, choices, second: regrets.get(1).copied().unwrap_or(f64::INFINITY) }
}

/// The least bytes of each open item and all behind it, and 0 at the end.
fn least_after(items: &[Item], open: &[Open]) -> Vec<u64> {
    let mut after = vec![0; open.len() + 1];
    for (i, own) in open.iter().enumerate().rev() {
        let bytes = own.choices.iter().map(|(c, _)| items[own.item].choices[*c].bytes);
        after[i] = after[i + 1] + bytes.min().unwrap_or(0);
    }
    after
}

/// Keeps the states of least regret, in their order.
fn thin(states: &mut Vec<State>) {
    let mut regrets: Vec<f64> = states.iter().map(|s| s.regret).collect();
    let (_, limit, _) = regrets.select_nth_unstable_by(STATES - 1, f64::total_cmp);
    let limit = *limit;
    states.retain(|s| s.regret <= limit);
    states.truncate(STATES);
}
