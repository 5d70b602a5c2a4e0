//! What to remove from a checkpoint, in what pattern, and how to store what is left.
//!
//! * a **criterion** gives every weight a key; the smallest keys go first ([`criteria`]);
//! * a **pattern** says among which weights the keys are compared ([`patterns`]);
//! * a **store** says how the rest lies on disk ([`stores`]).
//!
//! Each is one file and one line in the table of its `mod.rs`. [`Prune`] is the pass over a checkpoint, [`Densify`] the
//! way back from bitmask storage, [`claims`] what a checkpoint's history promises of its zeros.
//!
//! Where whole channels go, [`Coupling`] says which slices of a network's tensors can only be cut together, [`Importance`]
//! how much each channel matters, [`Widths`] how many of each layer stay, and [`Cut`] what is then left of a tensor.

mod claims;
mod compressed;
mod coupling;
mod criteria;
mod densify;
mod importance;
mod keys;
mod patterns;
mod prune;
mod rules;
mod search;
mod stores;
#[cfg(test)]
mod tests;
mod view;
mod widths;

pub use claims::{Claim, claims, is_pruned};
pub use compressed::refuse_compressed;
pub use coupling::{Coupling, Cut, Group, Maker, Member, Part, Pieces, Slices};
pub use criteria::{Criterion, Rank, criteria};
pub use densify::Densify;
pub use importance::{Importance, importance_named, importances};
pub use patterns::{Pattern, Structure, kept_of, patterns};
pub use prune::{Prune, PruneOptions, PruneScope};
pub use rules::ShareRule;
pub use search::zeros_at;
pub use stores::{Store, stores};
pub use widths::{Widths, closest_prefix};

/// A line of a table: what it is called and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it was published; empty when it is folklore.
    pub source: &'static str,
}

/// Names of a table, for messages.
fn names(plugins: &[Plugin]) -> String {
    plugins.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}
