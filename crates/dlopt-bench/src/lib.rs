//! Which variant of a model should be shipped: what each tensor can bear, the best choice under a budget, sweeps of
//! variants, and reports of them.

pub mod budget;
mod cache;
mod chain;
mod compare;
mod measure;
mod menu;
mod picked;
mod pin;
mod quality;
pub mod report;
mod results;
mod runner;
pub mod sensitivity;
mod steps;
pub mod sweep;
mod timing;

pub use cache::Cache;
pub use chain::{Chain, Link, Stage};
pub use compare::{Change, Comparison, compare};
pub use measure::{Measurement, Request, Throughput, measure};
pub use menu::{Fitted, HIT, Menu};
pub use picked::Picked;
pub use pin::PinnedTeam;
pub use quality::{Paired, Quality};
pub use results::{Machine, Results, VariantResult};
pub use runner::{Commands, Runner};
pub use steps::words_of;
pub use timing::{Ratio, Timing, in_turns};
