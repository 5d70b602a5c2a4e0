//! What a classifier is worth.
//!
//! Shapes: logits `[samples, classes]`, labels `[samples]`. The predicted class is the one of the largest logit, the
//! first of equals; probabilities are the softmax.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::auroc::{Area, mean_area, mean_of};
use crate::bootstrap::{basic, bca_of_mean, percentile, resample, weighted_sum};
use crate::calibration::{Calibration, Gaps};
use crate::estimate::{Estimate, Options};
use crate::intervals::{f1, wilson};
use crate::scores::{AVERAGES, Counts};
use crate::softmax::{Softmax, check};

/// What a classifier is worth on some samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassificationReport {
    /// Samples that were evaluated.
    pub samples: u64,
    /// Mean cross-entropy, in nats.
    pub loss: Estimate,
    /// The fraction of samples whose label is predicted.
    pub accuracy: Estimate,
    /// The k of `top_accuracy`.
    pub top: usize,
    /// The fraction of samples whose label is among the k largest logits; absent unless there are more classes than k.
    pub top_accuracy: Option<Estimate>,
    /// Σ (probability − one-hot)² over classes, averaged over samples: 0..=2 (Brier 1950).
    pub brier: Estimate,
    /// Mean entropy of the predicted probabilities, in nats: 0..=ln(classes).
    pub entropy: Estimate,
    /// The mean of the classes' areas under the ROC curve, each against the rest; absent where no class has one.
    pub auroc: Option<Estimate>,
    /// Means over the classes that occur, as label or prediction.
    pub macro_average: AverageScores,
    /// The same weighted by support.
    pub weighted_average: AverageScores,
    /// Each class by itself, in the order of the logits.
    pub classes: Vec<ClassReport>,
    /// Samples by label (outer) and predicted class (inner) `[classes][classes]`.
    pub confusion: Vec<Vec<u64>>,
    /// Whether confidence is earned.
    pub calibration: Calibration,
    /// Resamples behind every bootstrap interval.
    pub resamples: usize,
    /// The seed of the resamples.
    pub seed: u64,
}

/// Precision, recall and F1, averaged over classes. A class whose score is 0/0 counts as 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AverageScores {
    /// Of the samples predicted as a class, the fraction that is of it.
    pub precision: Estimate,
    /// Of the samples of a class, the fraction that is predicted as it.
    pub recall: Estimate,
    /// The harmonic mean of both.
    pub f1: Estimate,
}

/// One class against the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// The class's name.
    pub name: String,
    /// Samples of the class.
    pub support: u64,
    /// Samples predicted as the class.
    pub predicted: u64,
    /// TP / predicted; absent where the class is never predicted.
    pub precision: Option<Estimate>,
    /// TP / support; absent where no sample is of the class.
    pub recall: Option<Estimate>,
    /// 2·TP / (predicted + support); absent where both are zero.
    pub f1: Option<Estimate>,
    /// The area under the ROC curve of the class's probability; absent where all samples or none are of the class.
    pub auroc: Option<Estimate>,
}

/// Measures a classifier: `logits` `[samples, classes]`, `labels` `[samples]` in 0..classes, `class_names` `[classes]`
/// (or empty: classes are called by their numbers).
///
/// # Errors
/// When there are no samples, shapes disagree, a label is no class, or a logit is NaN or infinite.
pub fn classification(
    logits: &[f32],
    classes: usize,
    labels: &[u32],
    class_names: &[String],
    options: &Options,
) -> Result<ClassificationReport> {
    options.check()?;
    check(logits, classes, labels)?;
    let names = names(class_names, classes, "class")?;
    let softmax = Softmax::new(logits, classes, labels);
    let samples = labels.len();
    let is_right = |i: usize| softmax.predicted[i] == labels[i];

    let mut counts = Counts::new(classes);
    counts.recount(labels, &softmax.predicted, &vec![1; samples]);
    let mut confusion = vec![vec![0u64; classes]; classes];
    for (label, predicted) in labels.iter().zip(&softmax.predicted) {
        confusion[*label as usize][*predicted as usize] += 1;
    }

    let mut areas = Vec::new();
    let mut area_estimates = Vec::new();
    let mut reports = Vec::with_capacity(classes);
    for (c, name) in names.into_iter().enumerate() {
        let (right, predicted, support) = (counts.right[c], counts.predicted[c], counts.support[c]);
        let union = predicted + support - right;
        let is_class = |i: usize| labels[i] as usize == c;
        let area = Area::new(&softmax.log_odds[c * samples..(c + 1) * samples], is_class);
        let auroc = area.as_ref().map(|a| a.estimate(is_class));
        areas.extend(area);
        area_estimates.extend(auroc);
        reports.push(ClassReport {
            name,
            support,
            predicted,
            precision: (predicted > 0).then(|| wilson(right, predicted)),
            recall: (support > 0).then(|| wilson(right, support)),
            f1: (union > 0).then(|| f1(right, union)),
            auroc,
        });
    }

    let gaps = Gaps::new(&softmax.confidence, is_right, options.bins);
    let mut resampled = resample(samples, 4 + AVERAGES, options, || {
        let mut counts = Counts::new(classes);
        let mut bins = Vec::new();
        let (softmax, gaps) = (&softmax, &gaps);
        move |draws: &[u32], values: &mut [f64]| {
            values[0] = weighted_sum(draws, &softmax.loss) / samples as f64;
            values[1] = weighted_sum(draws, &softmax.brier) / samples as f64;
            values[2] = weighted_sum(draws, &softmax.entropy) / samples as f64;
            values[3] = gaps.error(draws, &mut bins);
            counts.recount(labels, &softmax.predicted, draws);
            values[4..].copy_from_slice(&counts.averages());
        }
    })
    .into_iter();
    let mut next = || resampled.next().unwrap_or_default();
    let loss = bca_of_mean(&softmax.loss, next());
    let brier = bca_of_mean(&softmax.brier, next());
    let entropy = bca_of_mean(&softmax.entropy, next());
    let expected_error = basic(gaps.error(&vec![1; samples], &mut Vec::new()), samples, next());
    let averages = counts.averages();
    let mut average = |first: usize| {
        let mut score = |k: usize, of: fn(&ClassReport) -> Option<Estimate>| {
            let estimate = percentile(averages[first + k], samples, next());
            let of_classes: Vec<_> = reports.iter().filter_map(of).collect();
            if estimate.interval.is_none() { mean_of(estimate.value, &of_classes) } else { estimate }
        };
        let precision = score(0, |c| c.precision);
        let recall = score(1, |c| c.recall);
        AverageScores { precision, recall, f1: score(2, |c| c.f1) }
    };
    let (macro_average, weighted_average) = (average(0), average(3));

    let within = |k: usize| softmax.rank.iter().filter(|r| (**r as usize) < k).count() as u64;
    Ok(ClassificationReport {
        samples: samples as u64,
        loss,
        accuracy: wilson(within(1), samples as u64),
        top: options.top,
        top_accuracy: (classes > options.top).then(|| wilson(within(options.top), samples as u64)),
        brier,
        entropy,
        auroc: mean_area(&areas.iter().collect::<Vec<_>>(), &area_estimates),
        macro_average,
        weighted_average,
        classes: reports,
        confusion,
        calibration: gaps.report(&softmax.confidence, expected_error),
        resamples: options.resamples,
        seed: options.seed,
    })
}

/// The names, or numbers where none are given.
pub(crate) fn names(given: &[String], wanted: usize, of: &str) -> Result<Vec<String>> {
    if given.is_empty() {
        return Ok((0..wanted).map(|c| c.to_string()).collect());
    }
    if given.len() != wanted {
        return Err(Error::input(format!(
            "wanted {wanted} {of} names, as many as the model has, found {}",
            given.len()
        ))
        .hint("give as many names, or none"));
    }
    Ok(given.to_vec())
}
