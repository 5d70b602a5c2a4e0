//! The budget solver: one choice for each item, so that the choices fit into so many bytes and do the least damage.
//!
//! ```text
//! min  sum_i damage[i][c_i]    such that  sum_i bytes[i][c_i] <= budget
//! ```
//! A multiple-choice knapsack (Sinha and Zoltners, 1979; Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, chapter
//! 11). `Relaxation` solves its linear program, whose value no choice can go below: the steps along the lower
//! convex hulls of all items, best first. `search` then looks for the best whole choice among the few that the bound
//! leaves. An item may stand for several tensors that have to be stored alike.

mod hull;
mod relaxation;
mod search;

use dlopt_checkpoint::{Error, Result};
use serde::Serialize;

use self::relaxation::Relaxation;

/// A way to store an item.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// What it takes in the file.
    pub bytes: u64,
    /// What it is predicted to cost: finite, any unit that adds up over items.
    pub damage: f64,
}

/// What gets exactly one of its choices.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// What people know it by.
    pub name: String,
    /// At least one.
    pub choices: Vec<Choice>,
}

/// One choice for each item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Solution {
    /// The position of each item's choice, in the order of the items.
    pub picks: Vec<usize>,
    /// What they take together.
    pub bytes: u64,
    /// What they cost together.
    pub damage: f64,
    /// What no choice within the budget can go below: the value of the linear program.
    pub bound: f64,
    /// Whether every better choice was ruled out.
    pub is_optimal: bool,
}

impl Solution {
    /// How far the damage lies above the bound, as a share of the bound: 0.001 is 0.1 %.
    pub fn gap(&self) -> f64 {
        match (self.damage - self.bound).max(0.0) {
            0.0 => 0.0,
            above => above / self.bound.abs(),
        }
    }
}

/// The least bytes that any choice takes.
pub fn least_bytes(items: &[Item]) -> u64 {
    items.iter().map(|item| item.choices.iter().map(|c| c.bytes).min().unwrap_or(0)).sum()
}

/// Chooses for every item.
///
/// # Errors
/// When the budget is below the smallest choices together, which the message states; when an item has no choice, or a
/// damage is no finite number.
pub fn solve(items: &[Item], budget_bytes: u64) -> Result<Solution> {
    check(items)?;
    let least = least_bytes(items);
    if least > budget_bytes {
        return Err(Error::input(format!("a budget of {budget_bytes} bytes is below the smallest possible, {least}"))
            .hint(format!("a budget of {least} bytes or more, or smaller choices")));
    }
    let relaxation = Relaxation::of(items, budget_bytes);
    Ok(search::search(items, budget_bytes, &relaxation))
}

/// The ways from the smallest choices to those that cost least, one item a step better, best step first: each a bound's
/// own choice. The budget of [`solve`] along the way is what the last step takes.
///
/// # Errors
/// As [`solve`], but for the budget.
pub fn path(items: &[Item]) -> Result<Vec<Vec<usize>>> {
    check(items)?;
    Ok(relaxation::path(items))
}

fn check(items: &[Item]) -> Result<()> {
    for item in items {
        if item.choices.is_empty() {
            return Err(Error::input(format!("`{}` has no choice", item.name)));
        }
        if let Some(bad) = item.choices.iter().find(|c| !c.damage.is_finite()) {
            return Err(Error::input(format!("`{}`: a damage of {} says nothing", item.name, bad.damage))
                .hint("weights may be NaN or infinite: dlopt inspect --stats"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
