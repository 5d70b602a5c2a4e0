//! Augmentation: operations that change samples at random, and recipes of them.
//!
//! The same operations make a larger dataset out of one, and change every sample anew in each epoch of a training. What
//! is drawn for a sample depends on the seed, the round (copy or epoch), the number of the sample and the place of the
//! operation in the recipe, and on nothing else: threads, batches and resumed runs change no byte.

mod beta;
mod corruption;
mod draws;
#[cfg(test)]
mod every_operation;
mod geometry;
mod normal;
mod operation;
mod operations;
mod pass;
mod portable;
mod range;
mod recipe;
mod sample;
mod series;
mod tokens;
mod worker;

pub use corruption::{CORRUPTIONS, Corruption, STRENGTHS};
pub use draws::{Draws, Key};
pub use geometry::{Affine, Fill, Filter, Geometry, Resampling};
pub use operation::{Kinds, Mixing, Operation, OperationKind};
pub use operations::OPERATIONS;
pub use pass::{AugmentPass, Output, PassOptions, PassReport};
pub use range::Range;
pub use recipe::{Mix, Recipe};
pub use sample::{Data, Form, Sample, Scratch};
pub use worker::{Augmenter, Worker};
