//! Two models of tokens on the same samples: those that say the next one, and those that put out sequences.
//!
//! Rates are sums over samples divided by sums, so every resample draws samples and divides anew. Differences are second
//! minus first. Whole sequences are right or wrong, which McNemar's test compares.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::bootstrap::{p_value, percentile, resample, weighted_sum};
use crate::edits::nearest_edits;
use crate::estimate::Options;
use crate::intervals::{mcnemar, paired_proportions};
use crate::paired::PairedDifference;
use crate::sequences::SequenceSample;
use crate::tokens::SampleTokens;

/// Two models that say the next token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedTokenReport {
    /// Samples that were evaluated.
    pub samples: u64,
    /// Loss in bits.
    pub bits_per_token: PairedDifference,
    /// Share of tokens that the model thought likeliest.
    pub accuracy: PairedDifference,
    /// Resamples behind every interval.
    pub resamples: usize,
    /// The seed of the resamples.
    pub seed: u64,
}

/// Two models that put out sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedSequenceReport {
    /// Samples that were evaluated.
    pub samples: u64,
    /// Edits over tokens.
    pub token_error_rate: PairedDifference,
    /// Share of samples that equal no reference; its p-value is McNemar's exact one.
    pub sequence_error_rate: PairedDifference,
    /// Samples for which both say the same.
    pub same: u64,
    /// Resamples behind every interval of the bootstrap.
    pub resamples: usize,
    /// The seed of the resamples.
    pub seed: u64,
}

/// What one model reaches: numerators and denominators of a rate, sample by sample.
struct Rate {
    above: Vec<f64>,
    below: Vec<f64>,
}

/// Compares what two models say of the tokens of the same samples.
///
/// # Errors
/// When they are not as many, or there are no tokens.
pub fn paired_tokens(first: &[SampleTokens], second: &[SampleTokens], options: &Options) -> Result<PairedTokenReport> {
    options.check()?;
    check(first.len(), second.len())?;
    if first.iter().chain(second).any(|s| s.tokens == 0 || !s.nats.is_finite()) {
        return Err(Error::input("a sample without tokens, or with a loss that is no number"));
    }
    let rate = |of: fn(&SampleTokens) -> f64| {
        [first, second].map(|all| Rate {
            above: all.iter().map(of).collect(),
            below: all.iter().map(|s| s.tokens as f64).collect(),
        })
    };
    Ok(PairedTokenReport {
        samples: first.len() as u64,
        bits_per_token: of_rates(&rate(|s| s.nats / std::f64::consts::LN_2), options),
        accuracy: of_rates(&rate(|s| s.right as f64), options),
        resamples: options.resamples,
        seed: options.seed,
    })
}

/// Compares the sequences that two models put out for the same samples.
///
/// # Errors
/// When they are not as many, or one has no reference.
pub fn paired_sequences(
    first: &[SequenceSample],
    second: &[SequenceSample],
    options: &Options,
) -> Result<PairedSequenceReport> {
    options.check()?;
    check(first.len(), second.len())?;
    if first.iter().chain(second).any(|s| s.references.is_empty()) {
        return Err(Error::input("a sample without reference"));
    }
    let edits = [first, second]
        .map(|all| all.iter().map(|s| nearest_edits(&s.hypothesis, &s.references)).collect::<Vec<(usize, usize)>>());
    let rates = [0, 1].map(|model: usize| Rate {
        above: edits[model].iter().map(|e| e.0 as f64).collect(),
        below: edits[model].iter().map(|e| e.1 as f64).collect(),
    });
    let count = |wanted: [bool; 2]| {
        let pairs = edits[0].iter().zip(&edits[1]);
        pairs.filter(|(a, b)| [a.0 > 0, b.0 > 0] == wanted).count() as u64
    };
    let (only_first, only_second, both) = (count([true, false]), count([false, true]), count([true, true]));
    let samples = first.len() as u64;
    let share = |wrong: u64| wrong as f64 / samples as f64;
    Ok(PairedSequenceReport {
        samples,
        token_error_rate: of_rates(&rates, options),
        sequence_error_rate: PairedDifference {
            first: share(both + only_first),
            second: share(both + only_second),
            difference: paired_proportions(only_first, only_second, samples),
            p_value: mcnemar(only_first, only_second).0,
        },
        same: first.iter().zip(second).filter(|(a, b)| a.hypothesis == b.hypothesis).count() as u64,
        resamples: options.resamples,
        seed: options.seed,
    })
}

fn check(first: usize, second: usize) -> Result<()> {
    if first == 0 || first != second {
        return Err(Error::input(format!("{first} samples of the first model, {second} of the second")));
    }
    Ok(())
}

fn of_rates(rates: &[Rate; 2], options: &Options) -> PairedDifference {
    let samples = rates[0].above.len();
    let resampled = resample(samples, 1, options, || {
        move |draws: &[u32], values: &mut [f64]| {
            let [first, second] = [0, 1].map(|model: usize| {
                weighted_sum(draws, &rates[model].above) / weighted_sum(draws, &rates[model].below).max(1.0)
            });
            values[0] = second - first;
        }
    })
    .pop()
    .unwrap_or_default();
    let [first, second] = [0, 1]
        .map(|model: usize| rates[model].above.iter().sum::<f64>() / rates[model].below.iter().sum::<f64>().max(1.0));
    PairedDifference {
        first,
        second,
        p_value: p_value(&resampled),
        difference: percentile(second - first, samples, resampled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_sums_over_sums() {
        let sample = |bits: f64, tokens: u64, right: u64| SampleTokens { nats: bits * 2.0_f64.ln(), tokens, right };
        let first = [sample(10.0, 5, 1), sample(2.0, 1, 0), sample(4.0, 3, 3)];
        let second = [sample(5.0, 5, 2), sample(1.0, 1, 1), sample(3.0, 3, 3)];
        let report = paired_tokens(&first, &second, &Options::default()).unwrap();
        assert!((report.bits_per_token.first - 16.0 / 9.0).abs() < 1e-12);
        assert!((report.bits_per_token.difference.value + 7.0 / 9.0).abs() < 1e-12);
        assert!(report.bits_per_token.difference.interval.unwrap().high < 0.0);
        assert!((report.accuracy.difference.value - 2.0 / 9.0).abs() < 1e-12);
        assert!(report.text("a", "b").contains("bits per token"));
        let none = paired_tokens(&first, &second[..2], &Options::default()).unwrap_err();
        assert!(none.message().contains("3 samples of the first model, 2"), "{none}");
        assert!(paired_tokens(&[sample(1.0, 0, 0)], &first[..1], &Options::default()).is_err());
    }

    #[test]
    fn sequences_are_right_or_wrong_as_a_whole() {
        let sample = |hypothesis: &[u32]| SequenceSample {
            hypothesis: hypothesis.to_vec(),
            references: vec![vec![1, 2, 3], vec![4, 5]],
            ..SequenceSample::default()
        };
        let first = [sample(&[1, 2, 3]), sample(&[1, 2]), sample(&[4])];
        let second = [sample(&[1, 2, 3]), sample(&[4, 5]), sample(&[4])];
        let report = paired_sequences(&first, &second, &Options::default()).unwrap();
        assert_eq!((report.samples, report.same), (3, 2));
        assert!((report.sequence_error_rate.difference.value + 1.0 / 3.0).abs() < 1e-12);
        assert!(report.token_error_rate.second < report.token_error_rate.first);
        assert!((report.sequence_error_rate.p_value - 1.0).abs() < 1e-12);
        assert!(report.text("a", "b").contains("the same for 2 of 3 samples"));
        assert!(paired_sequences(&[], &[], &Options::default()).is_err());
    }
}
