//! Distillation: a student learns from what a teacher says.
//!
//! [`LOSSES`] names what can be compared; a [`Term`] is one of them with its weight and options, as a user writes it.

mod cache;
mod distillation;
#[cfg(test)]
mod distillation_tests;
mod evidence;
mod losses;
mod network;
mod options;
mod ramp;
mod rows;
mod sequence_level;
mod teacher;
mod term;
#[cfg(test)]
mod testing;

pub use cache::{Cache, Facts, Keeping, Making, Top, make};
pub use distillation::{Distillation, Plan, Source};
pub use evidence::{Answers, Figures, Gain, Role, measure, measure_teacher};
pub use losses::{DistillLoss, Kind, LOSSES, Learned, On, Pair, Values};
pub use network::Cost;
pub use options::Options;
pub use ramp::Ramp;
pub use sequence_level::take_sequences;
pub use teacher::{Identity, Said, Teacher};
pub use term::Term;
