//! Statistics, diff and verify of checkpoints in every format.
