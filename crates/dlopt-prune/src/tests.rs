//! Whole passes, over checkpoints in memory.

mod densify;
mod executor;
mod prune;
