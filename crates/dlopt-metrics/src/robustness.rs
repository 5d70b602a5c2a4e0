//! What a classifier is worth under corruption, by the protocol of common corruptions.
//!
//! With `a_cs` the accuracy under corruption `c` at strength `s`: of one corruption, the mean over its strengths; of all, the
//! mean of those, the corrupted accuracy. Against another model, the corruption error is
//! `CE_c = sum_s (1 - a_cs) / sum_s (1 - b_cs)` with `b` the other's, and mCE its mean over corruptions: below 1 where the
//! model is the more robust one. Accuracies of one corruption and of all have intervals by resampling samples, each with
//! all that was done to it.
//! Source: Hendrycks and Dietterich, 2019, arXiv 1903.12261, section 4.3; they divide by the errors of AlexNet.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::bootstrap::{bca_of_mean, resample, weighted_sum};
use crate::estimate::{Estimate, Options};
use crate::intervals::{mcnemar, paired_proportions, wilson};
use crate::paired::{PairedDifference, differences, of_means};

/// Which samples a classifier gets right under one corruption.
#[derive(Clone, Debug, PartialEq)]
pub struct Corrupted {
    /// The corruption.
    pub name: String,
    /// What a strength is a number of.
    pub unit: String,
    /// The strengths, the weakest first.
    pub strengths: Vec<f64>,
    /// Whether each sample is right at each strength, `[strengths][samples]`.
    pub right: Vec<Vec<bool>>,
}

/// What a classifier is worth under corruption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RobustnessReport {
    /// Samples that were evaluated, each as it is and once for every corruption and strength.
    pub samples: u64,
    /// The accuracy on samples as they are.
    pub clean: Estimate,
    /// The mean accuracy over all corruptions, each the mean over its strengths.
    pub corrupted: Estimate,
    /// The share of the clean accuracy that is left under corruption; absent where the clean one is 0.
    pub retained: Option<f64>,
    /// The mean accuracy over corruptions at each strength.
    pub by_strength: Vec<f64>,
    /// Each corruption by itself.
    pub corruptions: Vec<CorruptionReport>,
    /// Resamples behind every bootstrap interval.
    pub resamples: usize,
    /// Decides what was drawn for each sample, and the resamples.
    pub seed: u64,
}

/// One corruption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorruptionReport {
    /// Its name.
    pub name: String,
    /// What a strength is a number of.
    pub unit: String,
    /// The mean accuracy over its strengths.
    pub mean: Estimate,
    /// Each strength by itself, the weakest first.
    pub strengths: Vec<StrengthReport>,
}

/// One strength of a corruption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrengthReport {
    /// In the corruption's unit.
    pub strength: f64,
    /// The fraction of samples that are classified rightly.
    pub accuracy: Estimate,
}

/// Two classifiers under the same corruption of the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedRobustnessReport {
    /// The accuracy on samples as they are; its p-value is McNemar's exact one.
    pub clean: PairedDifference,
    /// The mean accuracy over all corruptions.
    pub corrupted: PairedDifference,
    /// The mean corruption error of the second over the first, mCE; absent where the first makes no error under some
    /// corruption.
    pub corruption_error: Option<f64>,
    /// Each corruption by itself.
    pub corruptions: Vec<PairedCorruptionReport>,
}

/// One corruption of two classifiers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedCorruptionReport {
    /// Its name.
    pub name: String,
    /// The mean accuracy over its strengths.
    pub accuracy: PairedDifference,
    /// The error of the second over that of the first, CE; absent where the first makes none.
    pub corruption_error: Option<f64>,
}

/// Measures a classifier: which samples are right as they are, and under every corruption.
///
/// # Errors
/// When there are no samples or corruptions, or shapes disagree.
pub fn robustness(clean: &[bool], corruptions: &[Corrupted], options: &Options) -> Result<RobustnessReport> {
    options.check()?;
    check(clean, corruptions)?;
    let samples = clean.len();
    let columns = shares(samples, corruptions);
    let mut resampled = resampled(&columns, options).into_iter();
    let mut estimates = columns.iter().map(|column| bca_of_mean(column, resampled.next().unwrap_or_default()));
    let corrupted = estimates.next().unwrap_or(Estimate { value: f64::NAN, interval: None });
    let accuracy = |right: &[bool]| wilson(count(right), samples as u64);
    let clean = accuracy(clean);
    let corruptions: Vec<CorruptionReport> = corruptions
        .iter()
        .zip(estimates)
        .map(|(own, mean)| CorruptionReport {
            name: own.name.clone(),
            unit: own.unit.clone(),
            mean,
            strengths: own
                .strengths
                .iter()
                .zip(&own.right)
                .map(|(&strength, right)| StrengthReport { strength, accuracy: accuracy(right) })
                .collect(),
        })
        .collect();
    let strengths = corruptions.iter().map(|own| own.strengths.len()).min().unwrap_or(0);
    let at = |place: usize| corruptions.iter().map(move |own| own.strengths[place].accuracy.value);
    let by_strength = (0..strengths).map(|place| at(place).sum::<f64>() / corruptions.len() as f64).collect();
    Ok(RobustnessReport {
        samples: samples as u64,
        retained: (clean.value > 0.0).then(|| corrupted.value / clean.value),
        clean,
        corrupted,
        by_strength,
        corruptions,
        resamples: options.resamples,
        seed: options.seed,
    })
}

/// Compares two classifiers, each with what is right as it is and under the same corruptions.
///
/// # Errors
/// As for [`robustness`], or when the corruptions or samples of the two are not the same.
pub fn paired_robustness(
    (first_clean, first): (&[bool], &[Corrupted]),
    (second_clean, second): (&[bool], &[Corrupted]),
    options: &Options,
) -> Result<PairedRobustnessReport> {
    options.check()?;
    check(first_clean, first).map_err(|e| e.within("first model"))?;
    check(second_clean, second).map_err(|e| e.within("second model"))?;
    let samples = first_clean.len();
    let is_same = |a: &Corrupted, b: &Corrupted| a.name == b.name && a.strengths == b.strengths;
    if second_clean.len() != samples
        || first.len() != second.len()
        || !first.iter().zip(second).all(|(a, b)| is_same(a, b))
    {
        return Err(Error::input("the two models were measured under different corruptions, or on different samples"));
    }
    let columns = [shares(samples, first), shares(samples, second)];
    let apart: Vec<Vec<f64>> = columns[0].iter().zip(&columns[1]).map(|(a, b)| differences(a, b)).collect();
    let resampled = resampled(&apart, options);
    let mut all = resampled
        .into_iter()
        .enumerate()
        .map(|(place, resampled)| of_means(&columns[0][place], &columns[1][place], &apart[place], resampled));
    let corrupted = all.next().ok_or_else(|| Error::input("there are no corruptions"))?;
    let corruptions: Vec<PairedCorruptionReport> = first
        .iter()
        .zip(all)
        .map(|(own, accuracy)| PairedCorruptionReport {
            name: own.name.clone(),
            corruption_error: (accuracy.first < 1.0).then(|| (1.0 - accuracy.second) / (1.0 - accuracy.first)),
            accuracy,
        })
        .collect();
    let errors: Option<Vec<f64>> = corruptions.iter().map(|own| own.corruption_error).collect();
    let corruption_error = errors.map(|errors| errors.iter().sum::<f64>() / errors.len() as f64);
    Ok(PairedRobustnessReport { clean: of_clean(first_clean, second_clean), corrupted, corruption_error, corruptions })
}

fn of_clean(first: &[bool], second: &[bool]) -> PairedDifference {
    let samples = first.len() as u64;
    let only = |own: &[bool], other: &[bool]| own.iter().zip(other).filter(|(own, other)| **own && !**other).count();
    let (only_first, only_second) = (only(first, second) as u64, only(second, first) as u64);
    PairedDifference {
        first: count(first) as f64 / samples as f64,
        second: count(second) as f64 / samples as f64,
        difference: paired_proportions(only_first, only_second, samples),
        p_value: mcnemar(only_first, only_second).0,
    }
}

fn count(right: &[bool]) -> u64 {
    right.iter().filter(|&&right| right).count() as u64
}

/// How often each sample is right, in 0..=1: under all corruptions, then under each.
fn shares(samples: usize, corruptions: &[Corrupted]) -> Vec<Vec<f64>> {
    let of_one = |own: &Corrupted| -> Vec<f64> {
        let times = |sample: usize| own.right.iter().filter(|right| right[sample]).count();
        (0..samples).map(|sample| times(sample) as f64 / own.right.len() as f64).collect()
    };
    let each: Vec<Vec<f64>> = corruptions.iter().map(of_one).collect();
    let mean = |sample: usize| each.iter().map(|own| own[sample]).sum::<f64>() / each.len() as f64;
    std::iter::once((0..samples).map(mean).collect()).chain(each.iter().cloned()).collect()
}

/// The mean of every column on every resample.
fn resampled(columns: &[Vec<f64>], options: &Options) -> Vec<Vec<f64>> {
    let samples = columns[0].len();
    resample(samples, columns.len(), options, || {
        move |draws: &[u32], values: &mut [f64]| {
            for (value, column) in values.iter_mut().zip(columns) {
                *value = weighted_sum(draws, column) / samples as f64;
            }
        }
    })
}

fn check(clean: &[bool], corruptions: &[Corrupted]) -> Result<()> {
    if clean.is_empty() {
        return Err(Error::input("there are no samples to evaluate").hint("choose a split that holds samples"));
    }
    if corruptions.is_empty() {
        return Err(Error::input("there are no corruptions to measure under"));
    }
    let is_whole = |own: &Corrupted| {
        let is_square = own.right.len() == own.strengths.len() && !own.right.is_empty();
        is_square && own.right.iter().all(|right| right.len() == clean.len())
    };
    match corruptions.iter().find(|own| !is_whole(own)) {
        Some(own) => Err(Error::input(format!(
            "`{}` was not measured on all of {} samples at each of {} strengths",
            own.name,
            clean.len(),
            own.strengths.len()
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrupted(name: &str, right: &[&[u8]]) -> Corrupted {
        let right = right.iter().map(|row| row.iter().map(|&x| x == 1).collect()).collect::<Vec<Vec<bool>>>();
        Corrupted {
            name: name.to_owned(),
            unit: "times".to_owned(),
            strengths: (1..=right.len()).map(|strength| strength as f64).collect(),
            right,
        }
    }

    const CLEAN: [bool; 4] = [true, true, true, false];

    fn first() -> Vec<Corrupted> {
        vec![corrupted("turn", &[&[1, 1, 1, 0], &[1, 0, 0, 0]]), corrupted("blur", &[&[1, 1, 0, 0], &[0, 0, 0, 0]])]
    }

    fn second() -> Vec<Corrupted> {
        vec![corrupted("turn", &[&[1, 1, 1, 1], &[1, 1, 0, 0]]), corrupted("blur", &[&[1, 1, 0, 1], &[0, 1, 0, 0]])]
    }

    #[test]
    fn accuracies_are_averaged_over_strengths_and_then_over_corruptions() {
        let report = robustness(&CLEAN, &first(), &Options::default()).unwrap();
        assert_eq!((report.samples, report.clean.value), (4, 0.75));
        let means: Vec<f64> = report.corruptions.iter().map(|own| own.mean.value).collect();
        assert_eq!(means, [0.5, 0.25]);
        assert_eq!((report.corrupted.value, report.retained), (0.375, Some(0.5)));
        assert_eq!(report.by_strength, [0.625, 0.125]);
        let turn: Vec<f64> = report.corruptions[0].strengths.iter().map(|own| own.accuracy.value).collect();
        assert_eq!(turn, [0.75, 0.25]);
        let interval = report.corrupted.interval.unwrap();
        assert!(interval.low < 0.375 && interval.high > 0.375);
    }

    #[test]
    fn two_models_are_compared_on_the_same_samples() {
        let (first, second) = (first(), second());
        let report = paired_robustness((&CLEAN, &first), (&[true; 4], &second), &Options::default()).unwrap();
        assert_eq!((report.clean.first, report.clean.second), (0.75, 1.0));
        assert_eq!((report.corrupted.first, report.corrupted.second), (0.375, 0.625));
        // Errors 4 and 6 of 8 of the first, 2 and 4 of the second.
        let errors: Vec<_> = report.corruptions.iter().map(|own| own.corruption_error.unwrap()).collect();
        assert_eq!(errors, [0.5, 4.0 / 6.0]);
        assert!((report.corruption_error.unwrap() - 7.0 / 12.0).abs() < 1e-12);
        let same = paired_robustness((&CLEAN, &first), (&CLEAN, &first), &Options::default()).unwrap();
        assert_eq!((same.corrupted.difference.value, same.corruption_error), (0.0, Some(1.0)));
        assert_eq!(same.corrupted.p_value, 1.0);
    }

    #[test]
    fn threads_change_nothing_and_the_seed_does() {
        let right = |salt: usize| (0..997).map(|i| (i * 31 + salt) % 7 > 2).collect::<Vec<bool>>();
        let all = [Corrupted { right: vec![right(0), right(5)], ..first().remove(0) }];
        let report = |threads, seed| {
            robustness(&right(1), &all, &Options { threads, seed, ..Options::default() }).unwrap().corrupted
        };
        assert_eq!(report(1, 0), report(3, 0));
        assert_ne!(report(1, 0), report(1, 1));
    }

    #[test]
    fn where_nothing_can_be_divided_nothing_is_said() {
        let perfect = [corrupted("turn", &[&[1, 1, 1, 1]])];
        let report = paired_robustness((&CLEAN, &perfect), (&CLEAN, &perfect), &Options::default()).unwrap();
        assert_eq!((report.corruption_error, report.corruptions[0].corruption_error), (None, None));
        assert_eq!(robustness(&[false; 4], &first(), &Options::default()).unwrap().retained, None);
    }

    #[test]
    fn shapes_that_disagree_are_refused() {
        let message = |clean: &[bool], corruptions: &[Corrupted]| {
            robustness(clean, corruptions, &Options::default()).unwrap_err().message().to_owned()
        };
        assert!(message(&[], &first()).contains("no samples"));
        assert!(message(&CLEAN, &[]).contains("no corruptions"));
        assert!(message(&[true; 3], &first()).contains("`turn` was not measured on all of 3 samples"));
        let others = [corrupted("noise", &[&[1, 1, 1, 0]])];
        let error = paired_robustness((&CLEAN, &first()), (&CLEAN, &others), &Options::default()).unwrap_err();
        assert!(error.message().contains("different corruptions"), "{error}");
    }
}
