//! The training core: batches, losses, optimisers, the loop.
//!
//! [`Trainer`] is the loop; [`Settings`] all that decides its result; [`Extension`] the one seam for what later passes
//! need (a teacher's loss, an all-reduce). [`Masks`], [`FakeQuantize`] and [`Sharing`] go in through it.

mod biases;
mod changes;
mod engine;
mod evaluate;
mod extension;
#[cfg(test)]
mod extension_tests;
mod fake_quantize;
mod fitting;
#[cfg(test)]
mod golden_tests;
mod loss;
mod masks;
mod optimizer;
mod pruning;
#[cfg(test)]
mod recovery_tests;
mod right;
mod salience;
mod schedule;
mod selection;
#[cfg(test)]
mod sequence_tests;
mod sequences;
mod settings;
mod setup;
mod sharing;
mod state;
mod statistics;
mod trainer;

pub use biases::biases;
pub use changes::{TensorChange, changes};
pub use engine::Engine;
pub use evaluate::{run_over, run_over_changed};
pub use extension::{Extension, ExtraLoss, Moment, Passed};
pub use fake_quantize::FakeQuantize;
pub use fitting::open_fitting;
pub use loss::{LOSSES, Loss};
pub use masks::Masks;
pub use optimizer::{Group, OPTIMIZERS, Optimizer, OptimizerOptions, Step, update};
pub use pruning::{Among, Curve, GradualPruning, Leaving, Pruning};
pub use salience::{Looking, Salience};
pub use schedule::{PlateauState, Position, SCHEDULES, Schedule};
pub use selection::{split_ranges, training_samples};
pub use sequences::sample_tokens;
pub use settings::{Sampling, Settings};
pub use setup::{
    Model, Request, check_learns, check_preprocessing, check_shape, check_vocabulary, run_facts, shape_of,
    use_own_preprocessing,
};
pub use sharing::Sharing;
pub use statistics::statistics;
pub use trainer::{
    EVALUATION_BATCH, Observer, Trained, Trainer, balanced_weights, difference, frozen_nodes, frozen_slots, groups,
    state_folder,
};
