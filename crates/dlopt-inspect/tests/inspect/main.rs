//! Inspect, diff and verify on real files.

#![allow(clippy::unwrap_used)]

mod diffs;
mod fixture;
mod hostile;
mod statistics;
mod summaries;
mod verifying;
