//! Distillation: a student learns from what a teacher says.
//!
//! [`LOSSES`] names what can be compared; a [`Term`] is one of them with its weight and options, as a user writes it.

mod losses;
mod options;
mod ramp;
mod term;

pub use losses::{DistillLoss, Kind, LOSSES, Learned, On, Pair, Values};
pub use options::Options;
pub use ramp::Ramp;
pub use term::Term;
