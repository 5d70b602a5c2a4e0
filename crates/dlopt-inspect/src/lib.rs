//! Statistics, diff and verify of checkpoints in every format.
//!
//! * [`summary`] reads headers only: sizes, dtypes, modules, history, quantization;
//! * [`stats`] reads the weights: range, spread, zeros, patterns, NaN;
//! * [`diff`] compares two checkpoints tensor by tensor;
//! * [`verify`] makes a checkpoint prove itself.
//!
//! All of them see compressed tensors decoded. Results are plain structs; printing is the command line's.

mod blocks;
mod decode;
mod diff;
mod moments;
mod stats;
mod summary;
mod values;
mod verify;

pub use diff::{Diff, DiffOptions, ShapeMismatch, Side, TensorDiff, TotalDiff, diff};
pub use stats::{TensorStats, stats};
pub use summary::{
    CompanionSummary, DtypeSummary, MetadataSummary, ModuleSummary, QuantizationGroup, QuantizationSummary,
    ShardSummary, Summary, TensorSummary, metadata, summary,
};
pub use verify::{Check, Finding, Severity, Verification, VerifyOptions, verify, verify_path};
