//! The passes of this crate on whole checkpoints in memory.

mod executor;
mod golden;
mod properties;
