//! How much a channel matters, by its slices: what goes first when whole channels go.
//!
//! One file and one line in the table each. Scores of the slices of one tensor are made comparable, and added up over the
//! tensors of a group, by [`Group::importance`](crate::Group::importance).

mod geometric_median;
mod l1;
mod l2;
mod random;
mod scale;

use dlopt_checkpoint::{Error, Result};

use crate::coupling::{Part, Pieces};
use crate::{Plugin, names};

/// One line for each.
static TABLE: [&dyn Importance; 5] =
    [&l2::L2, &l1::L1, &scale::Scale, &geometric_median::GeometricMedian, &random::Random];

/// What scores channels by their slices.
pub trait Importance: Send + Sync {
    /// Its line in the table.
    fn plugin(&self) -> Plugin;

    /// Whether slices of tensors that do `part` with the channels count.
    fn counts(&self, part: Part) -> bool {
        part != Part::Follows
    }

    /// A score for each channel, 0 or more; those of the lowest go first.
    fn scores(&self, pieces: &Pieces<'_>, seed: u64) -> Vec<f64>;

    /// Whether the scores of a tensor are the sums of those of its rows, so that it need not be seen as a whole.
    fn adds_up(&self) -> bool {
        false
    }

    /// Whether the seed matters.
    fn is_seeded(&self) -> bool {
        false
    }
}

/// The ways there are to score channels by their weights.
pub fn importances() -> Vec<Plugin> {
    TABLE.iter().map(|own| own.plugin()).collect()
}

/// The one of a name.
///
/// # Errors
/// When the table has none.
pub fn importance_named(name: &str) -> Result<&'static dyn Importance> {
    TABLE.iter().find(|own| own.plugin().name == name).copied().ok_or_else(|| {
        Error::usage(format!("no criterion of channels is named `{name}`"))
            .hint(format!("one of {}", names(&importances())))
    })
}

#[cfg(test)]
mod tests;
