//! Two models on the same samples: is the second better, and how sure is that.
//!
//! Differences are second minus first. Accuracy is tested by McNemar's test on the samples that only one of them gets
//! right; everything else by resampling samples, both models on the same draws.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{bca_of_mean, mean, p_value, percentile, resample, weighted_sum};
use crate::calibration::Gaps;
use crate::estimate::{Estimate, Options};
use crate::intervals::{mcnemar, paired_proportions, wilson};
use crate::regression;
use crate::scores::Counts;
use crate::softmax::{Softmax, check};

/// Two classifiers on the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedReport {
    /// Samples that were evaluated.
    pub samples: u64,
    /// Samples that both classify rightly.
    pub both_right: u64,
    /// Samples that only the first classifies rightly.
    pub only_first: u64,
    /// Samples that only the second classifies rightly.
    pub only_second: u64,
    /// Samples that both classify wrongly, alike or not.
    pub both_wrong: u64,
    /// The fraction of samples for which both predict the same class.
    pub agreement: Estimate,
    /// McNemar's test of equal accuracy.
    pub mcnemar: McNemar,
    /// Accuracy; its p-value is McNemar's exact one.
    pub accuracy: PairedDifference,
    /// Mean cross-entropy, in nats.
    pub loss: PairedDifference,
    /// Brier score, in 0..=2.
    pub brier: PairedDifference,
    /// Macro F1.
    pub macro_f1: PairedDifference,
    /// Expected calibration error.
    pub calibration_error: PairedDifference,
    /// Resamples behind every bootstrap interval.
    pub resamples: usize,
    /// The seed of the resamples.
    pub seed: u64,
}

/// Two models of numbers on the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedRegressionReport {
    /// Samples that were evaluated.
    pub samples: u64,
    /// Mean squared error over samples and outputs.
    pub mse: PairedDifference,
    /// Mean absolute error over samples and outputs.
    pub mae: PairedDifference,
    /// Resamples behind every interval.
    pub resamples: usize,
    /// The seed of the resamples.
    pub seed: u64,
}

/// McNemar's test: p-values, two-sided, of equal accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// By the binomial distribution: never too small, often too large.
    pub exact: f64,
    /// With half the probability of what was observed: nearer its level.
    pub mid: f64,
}

/// A metric of two models.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// The first model's.
    pub first: f64,
    /// The second model's.
    pub second: f64,
    /// Second minus first; without an interval where no resample differs from another.
    pub difference: Estimate,
    /// Two-sided, of no difference; by resampling never below 2 / (resamples + 1).
    pub p_value: f64,
}

/// Compares two classifiers: logits `[samples, classes]` of each, `labels` `[samples]` of both.
///
/// # Errors
/// As for [`classification`](crate::classification()), with the model named.
pub fn paired(
    first: &[f32],
    second: &[f32],
    classes: usize,
    labels: &[u32],
    options: &Options,
) -> Result<PairedReport> {
    options.check()?;
    check(first, classes, labels).map_err(|e| e.within("first model"))?;
    check(second, classes, labels).map_err(|e| e.within("second model"))?;
    let samples = labels.len();
    let models = [Softmax::new(first, classes, labels), Softmax::new(second, classes, labels)];
    let is_right = |model: usize, i: usize| models[model].predicted[i] == labels[i];
    let gaps = [0, 1].map(|m| Gaps::new(&models[m].confidence, |i| is_right(m, i), options.bins));
    let count = |f: &dyn Fn(usize) -> bool| (0..samples).filter(|i| f(*i)).count() as u64;
    let both_right = count(&|i| is_right(0, i) && is_right(1, i));
    let only_first = count(&|i| is_right(0, i) && !is_right(1, i));
    let only_second = count(&|i| !is_right(0, i) && is_right(1, i));
    let agreed = count(&|i| models[0].predicted[i] == models[1].predicted[i]);

    let loss = differences(&models[0].loss, &models[1].loss);
    let brier = differences(&models[0].brier, &models[1].brier);
    // Macro F1 and calibration error of each model, from how often each sample is drawn.
    let scores = || {
        let mut counts = Counts::new(classes);
        let mut sums = Vec::new();
        let (models, gaps) = (&models, &gaps);
        move |draws: &[u32]| -> [[f64; 2]; 2] {
            [0, 1].map(|m| {
                counts.recount(labels, &models[m].predicted, draws);
                [counts.averages()[2], gaps[m].error(draws, &mut sums)]
            })
        }
    };
    let mut resampled = resample(samples, 4, options, || {
        let mut scores = scores();
        let (loss, brier) = (&loss, &brier);
        move |draws: &[u32], values: &mut [f64]| {
            values[0] = weighted_sum(draws, loss) / samples as f64;
            values[1] = weighted_sum(draws, brier) / samples as f64;
            let [first, second] = scores(draws);
            values[2] = second[0] - first[0];
            values[3] = second[1] - first[1];
        }
    })
    .into_iter();
    let mut next = || resampled.next().unwrap_or_default();
    let loss = of_means(&models[0].loss, &models[1].loss, &loss, next());
    let brier = of_means(&models[0].brier, &models[1].brier, &brier, next());
    let [of_first, of_second] = scores()(&vec![1; samples]);
    let mut of_scores = |k: usize| {
        let resampled = next();
        let p_value = p_value(&resampled);
        let difference = percentile(of_second[k] - of_first[k], samples, resampled);
        PairedDifference { first: of_first[k], second: of_second[k], difference, p_value }
    };
    let (macro_f1, calibration_error) = (of_scores(0), of_scores(1));

    let (exact, mid) = mcnemar(only_first, only_second);
    let accuracy = PairedDifference {
        first: (both_right + only_first) as f64 / samples as f64,
        second: (both_right + only_second) as f64 / samples as f64,
        difference: paired_proportions(only_first, only_second, samples as u64),
        p_value: exact,
    };
    Ok(PairedReport {
        samples: samples as u64,
        both_right,
        only_first,
        only_second,
        both_wrong: samples as u64 - both_right - only_first - only_second,
        agreement: wilson(agreed, samples as u64),
        mcnemar: McNemar { exact, mid },
        accuracy,
        loss,
        brier,
        macro_f1,
        calibration_error,
        resamples: options.resamples,
        seed: options.seed,
    })
}

/// Compares two models of numbers: predictions `[samples, outputs]` of each, `targets` `[samples, outputs]` of both.
///
/// # Errors
/// As for [`regression`](crate::regression()), with the model named.
pub fn paired_regression(
    first: &[f32],
    second: &[f32],
    outputs: usize,
    targets: &[f32],
    options: &Options,
) -> Result<PairedRegressionReport> {
    options.check()?;
    let samples = regression::check(first, outputs, targets).map_err(|e| e.within("first model"))?;
    regression::check(second, outputs, targets).map_err(|e| e.within("second model"))?;
    let (first_square, first_absolute) = regression::sample_errors(first, outputs, targets);
    let (second_square, second_absolute) = regression::sample_errors(second, outputs, targets);
    let square = differences(&first_square, &second_square);
    let absolute = differences(&first_absolute, &second_absolute);
    let mut resampled = resample(samples, 2, options, || {
        let (square, absolute) = (&square, &absolute);
        move |draws: &[u32], values: &mut [f64]| {
            values[0] = weighted_sum(draws, square) / samples as f64;
            values[1] = weighted_sum(draws, absolute) / samples as f64;
        }
    })
    .into_iter();
    let mut next = || resampled.next().unwrap_or_default();
    Ok(PairedRegressionReport {
        samples: samples as u64,
        mse: of_means(&first_square, &second_square, &square, next()),
        mae: of_means(&first_absolute, &second_absolute, &absolute, next()),
        resamples: options.resamples,
        seed: options.seed,
    })
}

pub(crate) fn differences(first: &[f64], second: &[f64]) -> Vec<f64> {
    second.iter().zip(first).map(|(s, f)| s - f).collect()
}

pub(crate) fn of_means(first: &[f64], second: &[f64], differences: &[f64], resampled: Vec<f64>) -> PairedDifference {
    let p_value = p_value(&resampled);
    let difference = bca_of_mean(differences, resampled);
    PairedDifference { first: mean(first), second: mean(second), difference, p_value }
}
