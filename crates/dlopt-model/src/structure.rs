//! Whole channels, units and layers leave a checkpoint: the pass behind `dlopt prune --pattern channels` and its like.
//!
//! Which slices go together is the coupling graph's to say ([`crate::coupling()`]), how much each channel matters an
//! [`Importance`](dlopt_prune::Importance)'s, how many of each layer stay follows from the costs of the network that would be left. The pass
//! reads one tensor after the other, writes each without what goes, and states the new sizes in the config.

mod decide;
mod given;
mod network;
mod pass;
mod report;
mod resize;
mod survey;

pub use given::{GivenImportance, JointChanges};
pub use network::Costs;
pub use pass::{PruneStructure, StructureOptions, Target, Weigh};
pub use report::{GroupChange, LayerChange, MemberChange, StructureReport};

#[cfg(test)]
pub(crate) mod tests;
