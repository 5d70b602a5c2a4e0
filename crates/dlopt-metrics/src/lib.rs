//! What a model is worth: metrics with intervals, paired tests, and their pictures.
//!
//! * [`classification`], [`binary`] and [`regression`] turn what a model says and what is true into a report;
//! * [`sequences`] does for translations and the like, [`tokens`] for what says the next token;
//! * [`paired`], [`paired_regression`], [`paired_sequences`] and [`paired_tokens`] test two models on the same samples;
//! * [`robustness`] and [`paired_robustness`] say what is left of a classifier under corruption;
//! * [`MeanOfViews`] takes the mean answer to several views of each sample;
//! * [`EpochRecord`] is one line of a training log;
//! * [`learning_curves_svg`], [`confusion_matrix_svg`], [`reliability_svg`], [`robustness_svg`] and [`contact_sheet_png`]
//!   draw them.
//!
//! All take plain slices, outermost extent first. Reports are plain structs for `serde`, with a `text()` for people;
//! functions that draw return the file's content, and write nothing. Every metric is an [`Estimate`]: the value, its
//! 95 % interval, and how the interval was made. Sums are in `f64` and in a fixed order, and resamples draw from
//! generators keyed by (seed, resample), so that equal input and seed give equal bytes at any thread count.

mod auroc;
mod binary;
mod bleu;
mod bootstrap;
mod calibration;
mod chrf;
mod classification;
mod edits;
mod estimate;
mod history;
mod intervals;
mod mistakes;
mod paired;
mod paired_tokens;
mod pictures;
mod point;
mod regression;
mod robustness;
mod scores;
mod sequences;
mod softmax;
mod text;
mod tokens;
mod views;

pub use binary::{BinaryOutput, BinaryReport, binary};
pub use calibration::{Calibration, CalibrationBin};
pub use classification::{AverageScores, ClassReport, ClassificationReport, classification};
pub use edits::{edit_distance, nearest_edits};
pub use estimate::{Estimate, Interval, Method, Options};
pub use history::EpochRecord;
pub use mistakes::{Prediction, predictions, worst_mistakes};
pub use paired::{McNemar, PairedDifference, PairedRegressionReport, PairedReport, paired, paired_regression};
pub use paired_tokens::{PairedSequenceReport, PairedTokenReport, paired_sequences, paired_tokens};
pub use pictures::{
    CoupledChannels, DistillationRole, Picture, Pixels, ShareBar, Stop, confusion_matrix_svg, contact_sheet_png,
    coupling_svg, distillation_svg, learning_curves_svg, picture_table_png, reliability_svg, robustness_svg,
    shares_svg,
};
pub use point::{Likeness, PointScores, likeness, point_scores};
pub use regression::{RegressionOutput, RegressionReport, regression};
pub use robustness::{
    Corrupted, CorruptionReport, PairedCorruptionReport, PairedRobustnessReport, RobustnessReport, StrengthReport,
    paired_robustness, robustness,
};
pub use sequences::{SequenceReport, SequenceSample, sequences};
pub use softmax::probabilities;
pub use tokens::{SampleTokens, TokenReport, tokens};
pub use views::{MeanOfViews, OutputKind};
