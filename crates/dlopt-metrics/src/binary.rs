//! What a model of yes-or-no outputs is worth: one sigmoid output, or several independent ones (multilabel).
//!
//! Shapes: logits and targets `[samples, outputs]`, targets 0 or 1. An output says yes where its logit is above 0, that
//! is its probability above ½.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::auroc::{Area, mean_area};
use crate::bootstrap::{bca_of_mean, resample, weighted_sum};
use crate::classification::names;
use crate::estimate::{Estimate, Options};
use crate::intervals::{f1, wilson};
use crate::softmax::{check_finite, check_shape};

/// What a model of yes-or-no outputs is worth on some samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinaryReport {
    /// Samples that were evaluated.
    pub samples: u64,
    /// Binary cross-entropy in nats, averaged over samples and outputs.
    pub loss: Estimate,
    /// The fraction of right answers among all outputs of all samples.
    pub accuracy: Estimate,
    /// The fraction of samples with every output right.
    pub exact_match: Estimate,
    /// The mean of the outputs' areas under the ROC curve; absent where no output has one.
    pub auroc: Option<Estimate>,
    /// Each output by itself.
    pub outputs: Vec<BinaryOutput>,
    /// Resamples behind every bootstrap interval.
    pub resamples: usize,
    /// The seed of the resamples.
    pub seed: u64,
}

/// One yes-or-no output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinaryOutput {
    /// The output's name.
    pub name: String,
    /// Samples whose target is yes.
    pub support: u64,
    /// Samples for which the model says yes.
    pub predicted: u64,
    /// Mean binary cross-entropy, in nats.
    pub loss: Estimate,
    /// The fraction of right answers.
    pub accuracy: Estimate,
    /// Of the yes that the model says, the fraction that is right; absent where it says none.
    pub precision: Option<Estimate>,
    /// Of the yes that there are, the fraction that the model says; absent where there are none.
    pub recall: Option<Estimate>,
    /// The harmonic mean of both; absent where there is no yes on either side.
    pub f1: Option<Estimate>,
    /// The area under the ROC curve; absent where all targets are equal.
    pub auroc: Option<Estimate>,
}

/// Measures yes-or-no outputs: `logits` and `targets` `[samples, outputs]`, `output_names` `[outputs]` or empty.
///
/// # Errors
/// When there are no samples, shapes disagree, a target is neither 0 nor 1, or a logit is NaN or infinite.
pub fn binary(
    logits: &[f32],
    outputs: usize,
    targets: &[f32],
    output_names: &[String],
    options: &Options,
) -> Result<BinaryReport> {
    options.check()?;
    let samples = targets.len() / outputs.max(1);
    check_shape("targets", targets, outputs, "output", samples, "samples")?;
    check_shape("logits", logits, outputs, "output", samples, "samples")?;
    if let Some(at) = targets.iter().position(|t| *t != 0.0 && *t != 1.0) {
        let (sample, output, target) = (at / outputs, at % outputs, targets[at]);
        return Err(Error::input(format!("sample {sample} has target {target} for output {output}; wanted 0 or 1"))
            .hint("targets of other values are for regression"));
    }
    check_finite("logits", logits, outputs)?;
    let names = names(output_names, outputs, "output")?;

    // By output, so that each one's samples lie together.
    let mut losses = vec![0.0f64; samples * outputs];
    let mut scores = vec![0.0f64; samples * outputs];
    let mut sample_loss = vec![0.0f64; samples];
    let mut sample_right = vec![0u64; samples];
    for i in 0..samples {
        for o in 0..outputs {
            let (x, t) = (f64::from(logits[i * outputs + o]), f64::from(targets[i * outputs + o]));
            let loss = x.max(0.0) - t * x + (-x.abs()).exp().ln_1p();
            losses[o * samples + i] = loss;
            scores[o * samples + i] = x;
            sample_loss[i] += loss / outputs as f64;
            sample_right[i] += u64::from((x > 0.0) == (t > 0.5));
        }
    }
    let share_right: Vec<f64> = sample_right.iter().map(|r| *r as f64 / outputs as f64).collect();
    let columns: Vec<&[f64]> =
        [&sample_loss[..], &share_right[..]].into_iter().chain(losses.chunks_exact(samples)).collect();
    let mut resampled = resample(samples, columns.len(), options, || {
        let columns = &columns;
        move |draws: &[u32], values: &mut [f64]| {
            for (value, column) in values.iter_mut().zip(columns) {
                *value = weighted_sum(draws, column) / samples as f64;
            }
        }
    })
    .into_iter();
    let mut next = || resampled.next().unwrap_or_default();
    let loss = bca_of_mean(&sample_loss, next());
    let answers = bca_of_mean(&share_right, next());
    let exact_match = wilson(sample_right.iter().filter(|r| **r == outputs as u64).count() as u64, samples as u64);

    let mut areas = Vec::new();
    let mut area_estimates = Vec::new();
    let mut reports = Vec::with_capacity(outputs);
    for (o, name) in names.into_iter().enumerate() {
        let is_yes = |i: usize| targets[i * outputs + o] == 1.0;
        let says_yes = |i: usize| logits[i * outputs + o] > 0.0;
        let count = |f: &dyn Fn(usize) -> bool| (0..samples).filter(|i| f(*i)).count() as u64;
        let (support, predicted) = (count(&is_yes), count(&says_yes));
        let both = count(&|i| is_yes(i) && says_yes(i));
        let union = support + predicted - both;
        let range = o * samples..(o + 1) * samples;
        let area = Area::new(&scores[range.clone()], is_yes);
        let auroc = area.as_ref().map(|a| a.estimate(is_yes));
        areas.extend(area);
        area_estimates.extend(auroc);
        reports.push(BinaryOutput {
            name,
            support,
            predicted,
            loss: bca_of_mean(&losses[range], next()),
            accuracy: wilson(count(&|i| is_yes(i) == says_yes(i)), samples as u64),
            precision: (predicted > 0).then(|| wilson(both, predicted)),
            recall: (support > 0).then(|| wilson(both, support)),
            f1: (union > 0).then(|| f1(both, union)),
            auroc,
        });
    }
    Ok(BinaryReport {
        samples: samples as u64,
        loss,
        accuracy: accuracy(answers, exact_match, outputs),
        exact_match,
        auroc: mean_area(&areas.iter().collect::<Vec<_>>(), &area_estimates),
        outputs: reports,
        resamples: options.resamples,
        seed: options.seed,
    })
}

/// One output's answers are independent; several of one sample are not, so samples are resampled. Where no resample
/// varies (everything right, say), the interval is the one of whole samples.
fn accuracy(answers: Estimate, exact_match: Estimate, outputs: usize) -> Estimate {
    if outputs == 1 {
        return exact_match;
    }
    match (answers.interval, exact_match.interval) {
        (None, Some(interval)) if answers.value == exact_match.value => {
            Estimate { value: answers.value, interval: Some(interval) }
        }
        _ => answers,
    }
}
