//! The passes of this crate on whole checkpoints in memory.

// Clippy takes only the functions marked `#[test]` for tests.
#![allow(clippy::unwrap_used)]

mod codebooks;
mod executor;
mod golden;
mod plans;
mod properties;
