//! Losses on the outputs of a network. Each gives the sum over the samples of a batch and the gradient of that sum times
//! a scale; what the sum is divided by belongs to the loop, which knows how many samples share an update.
//!
//! - cross-entropy: `-sum_c q_c log softmax(x)_c` with `q` the label, smoothed: `q = (1 - s) onehot + s / classes`
//!   (Szegedy et al., 2015, arXiv 1512.00567), times the weight of the class; targets `[samples, classes]` in the batch
//!   take the label's place (mixing, teachers)
//! - binary cross-entropy: every output is a logit of its own
//! - sequences: the cross-entropy of every token up to the end of its sequence; outputs `[samples * steps, vocabulary]`
//! - mean squared error; Huber (1964): half the square up to `delta`, then a line. Both are means over the outputs

use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Batch, Dataset, Learns};
use dlopt_kernels::nn;
use serde::{Deserialize, Serialize};

use crate::sequences;

/// The names that [`Loss::parse`] knows, with their options.
pub const LOSSES: [(&str, &str); 4] = [
    ("cross-entropy", "classes that exclude each other; labels or soft targets"),
    ("binary-cross-entropy", "every output is a yes or no of its own"),
    ("mse", "mean squared error"),
    ("huber[=DELTA]", "squared up to DELTA, a line beyond [default: 1]"),
];

/// What is made small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Loss {
    /// For classes that exclude each other.
    #[default]
    CrossEntropy,
    /// For outputs that are a yes or no each.
    BinaryCrossEntropy,
    /// For numbers.
    Mse,
    /// For numbers with outliers.
    Huber {
        /// Where the square becomes a line.
        delta: f32,
    },
}

impl Loss {
    /// Reads a name of [`LOSSES`].
    ///
    /// # Errors
    /// When the name is unknown or its value out of range.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let delta = value.map(|v| v.parse::<f32>().ok().filter(|d| d.is_finite() && *d > 0.0));
        match (name, delta) {
            ("cross-entropy", None) => Ok(Self::CrossEntropy),
            ("binary-cross-entropy", None) => Ok(Self::BinaryCrossEntropy),
            ("mse", None) => Ok(Self::Mse),
            ("huber", None) => Ok(Self::Huber { delta: 1.0 }),
            ("huber", Some(Some(delta))) => Ok(Self::Huber { delta }),
            _ => {
                let names: Vec<&str> = LOSSES.iter().map(|(name, _)| *name).collect();
                Err(Error::usage(format!("loss `{text}` is not known or its value is out of range"))
                    .hint(format!("one of {}", names.join(", "))))
            }
        }
    }

    /// Refuses data that the loss has no use for.
    ///
    /// # Errors
    /// When it needs classes and there are targets, or the other way round.
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        if dataset.info().learns != Learns::Sample {
            return match self {
                Self::CrossEntropy => Ok(()),
                _ => Err(Error::usage(format!("{}: has tokens to learn, and the loss needs numbers", dataset.name()))
                    .hint("--loss cross-entropy")),
            };
        }
        let has_targets = dataset.targets().is_some();
        if self.is_classification() == has_targets {
            let (has, wants) = if has_targets { ("targets", "classes") } else { ("classes", "targets") };
            return Err(Error::usage(format!("{}: has {has}, and the loss needs {wants}", dataset.name()))
                .hint(if has_targets { "--loss mse, huber or binary-cross-entropy" } else { "--loss cross-entropy" }));
        }
        Ok(())
    }

    /// Whether outputs are scores of classes.
    pub fn is_classification(&self) -> bool {
        matches!(self, Self::CrossEntropy)
    }

    /// The sum over the samples of the batch, or over the tokens of its sequences, and the gradient of that sum times
    /// `scale` in `gradient`.
    pub(crate) fn evaluate(&self, with: &LossOptions<'_>, outputs: &[f32], batch: &Batch, gradient: &mut [f32]) -> f64 {
        let rows = batch.indices.len();
        let columns = outputs.len() / rows.max(1);
        let scale = with.scale;
        match *self {
            Self::CrossEntropy if !batch.sequences.is_empty() => {
                sequences::cross_entropy(with, outputs, batch, gradient)
            }
            Self::CrossEntropy if batch.targets.is_empty() => {
                let weights = (!with.class_weights.is_empty()).then_some(with.class_weights);
                nn::softmax_cross_entropy(
                    rows,
                    columns,
                    outputs,
                    &batch.labels,
                    weights,
                    with.label_smoothing,
                    scale,
                    gradient,
                )
                .loss
            }
            Self::CrossEntropy => {
                let weights = (!with.class_weights.is_empty()).then_some(with.class_weights);
                let smoothing = with.label_smoothing;
                nn::soft_cross_entropy(rows, columns, outputs, &batch.targets, weights, smoothing, scale, gradient)
            }
            Self::BinaryCrossEntropy => {
                let per_output = scale / columns.max(1) as f32;
                nn::binary_cross_entropy(outputs, &batch.targets, per_output, gradient) / columns.max(1) as f64
            }
            Self::Mse => {
                let per_output = scale / columns.max(1) as f32;
                nn::mse(outputs, &batch.targets, per_output, gradient) / columns.max(1) as f64
            }
            Self::Huber { delta } => {
                let per_output = scale / columns.max(1) as f32;
                nn::huber(outputs, &batch.targets, delta, per_output, gradient) / columns.max(1) as f64
            }
        }
    }
}

/// What a loss is told beside outputs and batch.
pub(crate) struct LossOptions<'a> {
    pub(crate) class_weights: &'a [f32],
    pub(crate) label_smoothing: f32,
    pub(crate) scale: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_nonsense_is_refused() {
        assert_eq!(Loss::parse("huber=0.5").unwrap(), Loss::Huber { delta: 0.5 });
        assert_eq!(Loss::parse("mse").unwrap(), Loss::Mse);
        for text in ["huber=-1", "mse=3", "crossentropy", "huber=x"] {
            assert!(Loss::parse(text).unwrap_err().message().contains(text));
        }
    }
}
