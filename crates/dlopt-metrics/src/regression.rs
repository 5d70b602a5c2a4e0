//! What a model of numbers is worth.
//!
//! Shapes: predictions and targets `[samples, outputs]`. With e = prediction − target:
//! MSE = mean e², RMSE = √MSE, MAE = mean |e|, R² = 1 − Σ e² / Σ (target − mean target)².
//! Over several outputs, MSE, MAE and R² are the means of the outputs' (RMSE is the root of the mean MSE); R² leaves out
//! outputs whose targets do not vary, for which it is undefined.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{acceleration, bca, bca_of_mean, mean, resample, weighted_sum};
use crate::classification::names;
use crate::estimate::{Estimate, Options};
use crate::softmax::{check_finite, check_shape};

/// Up to so many outputs, each has intervals of its own; resampling thousands of outputs would take minutes.
const MAX_OUTPUTS_WITH_INTERVALS: usize = 64;

/// What a model of numbers is worth on some samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegressionReport {
    /// Samples that were evaluated.
    pub samples: u64,
    /// Mean squared error over samples and outputs, in squared units of the targets.
    pub mse: Estimate,
    /// Its root, in units of the targets.
    pub rmse: Estimate,
    /// Mean absolute error over samples and outputs, in units of the targets.
    pub mae: Estimate,
    /// The mean of the outputs' R²; absent where no output's targets vary, without an interval beyond 64 outputs.
    pub r2: Option<Estimate>,
    /// Each output by itself; beyond 64 outputs without intervals.
    pub outputs: Vec<RegressionOutput>,
    /// Resamples behind every interval.
    pub resamples: usize,
    /// The seed of the resamples.
    pub seed: u64,
}

/// One output of a model of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegressionOutput {
    /// The output's name.
    pub name: String,
    /// Mean squared error.
    pub mse: Estimate,
    /// Its root.
    pub rmse: Estimate,
    /// Mean absolute error.
    pub mae: Estimate,
    /// The fraction of the targets' variance that is explained; negative if worse than always saying their mean.
    pub r2: Option<Estimate>,
}

/// One output's samples.
struct Column {
    square: Vec<f64>,
    absolute: Vec<f64>,
    /// Target − mean target.
    centred: Vec<f64>,
    centred_square: Vec<f64>,
}

impl Column {
    fn new(predictions: &[f32], targets: &[f32], outputs: usize, output: usize) -> Self {
        let column = |values: &[f32]| -> Vec<f64> {
            values.iter().skip(output).step_by(outputs).map(|v| f64::from(*v)).collect()
        };
        let (predictions, targets) = (column(predictions), column(targets));
        let centre = mean(&targets);
        let errors: Vec<f64> = predictions.iter().zip(&targets).map(|(p, t)| p - t).collect();
        let varies = targets.iter().any(|t| *t != targets[0]);
        let centred: Vec<f64> = targets.iter().map(|t| if varies { t - centre } else { 0.0 }).collect();
        Self {
            square: errors.iter().map(|e| e * e).collect(),
            absolute: errors.iter().map(|e| e.abs()).collect(),
            centred_square: centred.iter().map(|t| t * t).collect(),
            centred,
        }
    }

    /// R² from its sums over `samples`; NaN where the targets do not vary.
    fn r2(square: f64, centred: f64, centred_square: f64, samples: f64) -> f64 {
        let variation = centred_square - centred * centred / samples;
        // What cancellation leaves of equal targets is no variation.
        if variation > 1e-12 * centred_square { 1.0 - square / variation } else { f64::NAN }
    }

    fn value_of_r2(&self) -> Option<f64> {
        let sums = [&self.square, &self.centred, &self.centred_square].map(|c| c.iter().sum::<f64>());
        let r2 = Self::r2(sums[0], sums[1], sums[2], self.square.len() as f64);
        r2.is_finite().then_some(r2)
    }

    /// R² without each sample in turn.
    fn r2_without_each(&self) -> Vec<f64> {
        let sums = [&self.square, &self.centred, &self.centred_square].map(|c| c.iter().sum::<f64>());
        let without = |i: usize| {
            let (s, c, q) = (sums[0] - self.square[i], sums[1] - self.centred[i], sums[2] - self.centred_square[i]);
            Self::r2(s, c, q, (self.square.len() - 1) as f64)
        };
        (0..self.square.len()).map(without).collect()
    }
}

/// Measures a model of numbers: `predictions` and `targets` `[samples, outputs]`, `output_names` `[outputs]` or empty.
///
/// # Errors
/// When there are no samples, shapes disagree, or a prediction or target is NaN or infinite.
pub fn regression(
    predictions: &[f32],
    outputs: usize,
    targets: &[f32],
    output_names: &[String],
    options: &Options,
) -> Result<RegressionReport> {
    options.check()?;
    let samples = check(predictions, outputs, targets)?;
    let names = names(output_names, outputs, "output")?;
    let columns: Vec<Column> = (0..outputs).map(|o| Column::new(predictions, targets, outputs, o)).collect();
    let (square, absolute) = sample_errors(predictions, outputs, targets);
    let resampled_outputs = if outputs <= MAX_OUTPUTS_WITH_INTERVALS { outputs } else { 0 };

    let resampled = resample(samples, 2 + 3 * resampled_outputs, options, || {
        let (square, absolute, columns) = (&square, &absolute, &columns[..resampled_outputs]);
        move |draws: &[u32], values: &mut [f64]| {
            let count = samples as f64;
            values[0] = weighted_sum(draws, square) / count;
            values[1] = weighted_sum(draws, absolute) / count;
            for (column, values) in columns.iter().zip(values[2..].chunks_exact_mut(3)) {
                let squares = weighted_sum(draws, &column.square);
                values[0] = squares / count;
                values[1] = weighted_sum(draws, &column.absolute) / count;
                let centred = weighted_sum(draws, &column.centred);
                values[2] = Column::r2(squares, centred, weighted_sum(draws, &column.centred_square), count);
            }
        }
    });
    let of = |output: usize, statistic: usize| resampled.get(2 + 3 * output + statistic).cloned().unwrap_or_default();

    let reports: Vec<_> = names
        .into_iter()
        .zip(&columns)
        .enumerate()
        .map(|(o, (name, column))| {
            let mse = bca_of_mean(&column.square, of(o, 0));
            let r2 = column.value_of_r2().map(|value| bca(value, samples, of(o, 2), pull(&column.r2_without_each())));
            RegressionOutput { name, mse, rmse: mse.map(f64::sqrt), mae: bca_of_mean(&column.absolute, of(o, 1)), r2 }
        })
        .collect();
    let mse = bca_of_mean(&square, resampled[0].clone());
    let varying: Vec<usize> = (0..outputs).filter(|o| reports[*o].r2.is_some()).collect();
    Ok(RegressionReport {
        samples: samples as u64,
        mse,
        rmse: mse.map(f64::sqrt),
        mae: bca_of_mean(&absolute, resampled[1].clone()),
        r2: mean_r2(&reports, &columns, &varying, |o| of(o, 2)),
        outputs: reports,
        resamples: options.resamples,
        seed: options.seed,
    })
}

/// The mean R² of the `varying` outputs.
fn mean_r2(
    reports: &[RegressionOutput],
    columns: &[Column],
    varying: &[usize],
    resampled: impl Fn(usize) -> Vec<f64>,
) -> Option<Estimate> {
    let (first, rest) = varying.split_first()?;
    if rest.is_empty() {
        return reports[*first].r2;
    }
    let count = varying.len() as f64;
    let value = varying.iter().filter_map(|o| reports[*o].r2).map(|e| e.value).sum::<f64>() / count;
    let mean_over = |per_output: &dyn Fn(usize) -> Vec<f64>| {
        let mut sum = per_output(*first);
        for o in rest {
            sum.iter_mut().zip(per_output(*o)).for_each(|(s, v)| *s += v);
        }
        sum.iter_mut().for_each(|s| *s /= count);
        sum
    };
    let means = mean_over(&resampled);
    let without_each = if means.is_empty() { Vec::new() } else { mean_over(&|o| columns[o].r2_without_each()) };
    Some(bca(value, columns[0].square.len(), means, pull(&without_each)))
}

/// The acceleration from values without each sample in turn.
fn pull(without_each: &[f64]) -> f64 {
    let finite = without_each.iter().copied().filter(|v| v.is_finite());
    let centre = finite.clone().sum::<f64>() / finite.clone().count().max(1) as f64;
    acceleration(finite.map(|v| centre - v))
}

/// Checks shapes and values; the number of samples.
pub(crate) fn check(predictions: &[f32], outputs: usize, targets: &[f32]) -> Result<usize> {
    let samples = targets.len() / outputs.max(1);
    check_shape("targets", targets, outputs, "output", samples, "samples")?;
    check_shape("predictions", predictions, outputs, "output", samples, "samples")?;
    check_finite("targets", targets, outputs)?;
    check_finite("predictions", predictions, outputs)?;
    Ok(samples)
}

/// The mean squared and mean absolute error of each sample over its outputs, both `[samples]`.
pub(crate) fn sample_errors(predictions: &[f32], outputs: usize, targets: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let rows = predictions.chunks_exact(outputs).zip(targets.chunks_exact(outputs));
    rows.map(|(p, t)| {
        let errors = p.iter().zip(t).map(|(p, t)| f64::from(*p) - f64::from(*t));
        let square: f64 = errors.clone().map(|e| e * e).sum();
        let absolute: f64 = errors.map(f64::abs).sum();
        (square / outputs as f64, absolute / outputs as f64)
    })
    .unzip()
}
