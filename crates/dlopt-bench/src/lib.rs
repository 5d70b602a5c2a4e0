//! Which variant of a model should be shipped: what each tensor can bear, the best choice under a budget, sweeps of
//! variants, and reports of them.

pub mod budget;
mod menu;
pub mod sensitivity;
pub mod sweep;

pub use menu::{Fitted, HIT, Menu, changed_weights};
