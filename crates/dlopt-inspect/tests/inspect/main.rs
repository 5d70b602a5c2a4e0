//! Inspect, diff and verify on real files.

mod diffs;
mod fixture;
mod hostile;
mod statistics;
mod summaries;
mod verifying;
