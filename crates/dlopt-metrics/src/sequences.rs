//! What a model that puts out sequences is worth: translations, pronunciations.
//!
//! * token error rate: edits to the nearest reference over its length, summed over samples before they are divided;
//! * sequence error rate: the share that equals no reference;
//! * corpus BLEU of the tokens, and chrF2 of the texts where they are given.
//!
//! Intervals of rates of samples are Wilson's, all others percentiles of the bootstrap over samples.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::bootstrap::{percentile, resample, weighted_sum};
use crate::edits::nearest_edits;
use crate::estimate::{Estimate, Options};
use crate::intervals::wilson;
use crate::{bleu, chrf};

/// What came out for a sample, and all that would have been right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceSample {
    /// Tokens that came out, without start and end.
    pub hypothesis: Vec<u32>,
    /// Sequences that are right; at least one.
    pub references: Vec<Vec<u32>>,
    /// The same as texts, for chrF; empty where nobody reads the tokens as text.
    pub text: String,
    /// The references as texts.
    pub reference_texts: Vec<String>,
}

/// What a model of sequences is worth on some samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceReport {
    /// Samples that were evaluated.
    pub samples: u64,
    /// Tokens of the nearest references.
    pub tokens: u64,
    /// Edits over tokens, 0 or more.
    pub token_error_rate: Estimate,
    /// Share of samples that equal no reference.
    pub sequence_error_rate: Estimate,
    /// Corpus BLEU of the tokens, 0..=100.
    pub bleu: Estimate,
    /// chrF2 of the texts, 0..=100; absent without texts.
    pub chrf: Option<Estimate>,
    /// Resamples behind every interval of the bootstrap.
    pub resamples: usize,
    /// The seed of the resamples.
    pub seed: u64,
}

/// Measures sequences against what would have been right.
///
/// # Errors
/// When there are no samples, or one has no reference.
pub fn sequences(samples: &[SequenceSample], options: &Options) -> Result<SequenceReport> {
    options.check()?;
    if samples.is_empty() {
        return Err(Error::input("there are no samples to evaluate"));
    }
    if let Some(at) = samples.iter().position(|s| s.references.is_empty()) {
        return Err(Error::input(format!("sample {at} has no reference")));
    }
    let count = samples.len();
    let has_texts = samples.iter().all(|s| s.reference_texts.len() == s.references.len());
    let errors: Vec<(usize, usize)> = samples.iter().map(|s| nearest_edits(&s.hypothesis, &s.references)).collect();
    let edits: Vec<f64> = errors.iter().map(|e| e.0 as f64).collect();
    let lengths: Vec<f64> = errors.iter().map(|e| e.1 as f64).collect();
    let wrong = errors.iter().filter(|e| e.0 > 0).count() as u64;
    let grams = columns(samples.iter().map(|s| {
        let references: Vec<&[u32]> = s.references.iter().map(Vec::as_slice).collect();
        bleu::counts(&s.hypothesis, &references)
    }));
    let characters = match has_texts {
        true => columns(samples.iter().map(|s| chrf::counts(&s.text, &s.reference_texts))),
        false => Vec::new(),
    };
    let statistics = if has_texts { 3 } else { 2 };
    let resampled = resample(count, statistics, options, || {
        let (edits, lengths, grams, characters) = (&edits, &lengths, &grams, &characters);
        move |draws: &[u32], values: &mut [f64]| {
            let sums = |columns: &[Vec<f64>]| columns.iter().map(|c| weighted_sum(draws, c)).collect::<Vec<f64>>();
            values[0] = weighted_sum(draws, edits) / weighted_sum(draws, lengths);
            values[1] = bleu::score(&sums(grams));
            if let Some(value) = values.get_mut(2) {
                *value = chrf::score(&sums(characters));
            }
        }
    });
    let sums = |columns: &[Vec<f64>]| columns.iter().map(|c| c.iter().sum()).collect::<Vec<f64>>();
    let tokens = lengths.iter().sum::<f64>();
    let rate = edits.iter().sum::<f64>() / tokens.max(1.0);
    Ok(SequenceReport {
        samples: count as u64,
        tokens: tokens as u64,
        token_error_rate: percentile(rate, count, resampled[0].clone()),
        sequence_error_rate: wilson(wrong, count as u64),
        bleu: percentile(bleu::score(&sums(&grams)), count, resampled[1].clone()),
        chrf: resampled.get(2).map(|of| percentile(chrf::score(&sums(&characters)), count, of.clone())),
        resamples: options.resamples,
        seed: options.seed,
    })
}

/// The columns of rows of counts.
fn columns<const N: usize>(rows: impl Iterator<Item = [f64; N]>) -> Vec<Vec<f64>> {
    let rows: Vec<[f64; N]> = rows.collect();
    (0..N).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}
