//! What a model that says the next token is worth: its loss per token, as perplexity and in bits.
//!
//! With `l` the sum of `-ln p` over all tokens and `n` the tokens: loss `l / n` in nats, perplexity `e^(l / n)`, bits
//! `l / (n ln 2)`; for bytes that is bits per byte. Resamples draw samples (windows of text), so their tokens stay together.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::bootstrap::{percentile, resample, weighted_sum};
use crate::estimate::{Estimate, Options};

/// What a model said of the tokens of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SampleTokens {
    /// The sum of `-ln p` of the right tokens.
    pub nats: f64,
    /// Tokens.
    pub tokens: u64,
    /// Those that the model thought likeliest.
    pub right: u64,
}

/// What a model of tokens is worth on some samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenReport {
    /// Samples that were evaluated.
    pub samples: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Mean of `-ln p`, in nats.
    pub loss: Estimate,
    /// `e` to the loss.
    pub perplexity: Estimate,
    /// The loss in bits.
    pub bits_per_token: Estimate,
    /// Share of tokens that the model thought likeliest.
    pub accuracy: Estimate,
    /// Resamples behind every interval.
    pub resamples: usize,
    /// The seed of the resamples.
    pub seed: u64,
}

/// Measures what a model says of the tokens of samples, when it has read those before.
///
/// # Errors
/// When there are no tokens, or a loss is no number.
pub fn tokens(samples: &[SampleTokens], options: &Options) -> Result<TokenReport> {
    options.check()?;
    let total: u64 = samples.iter().map(|s| s.tokens).sum();
    if total == 0 {
        return Err(Error::input("there are no tokens to evaluate"));
    }
    if let Some(at) = samples.iter().position(|s| !s.nats.is_finite()) {
        return Err(Error::input(format!("the loss of sample {at} is {}", samples[at].nats)));
    }
    let column = |of: fn(&SampleTokens) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
    let (nats, count, right) = (column(|s| s.nats), column(|s| s.tokens as f64), column(|s| s.right as f64));
    let resampled = resample(samples.len(), 2, options, || {
        let (nats, count, right) = (&nats, &count, &right);
        move |draws: &[u32], values: &mut [f64]| {
            let tokens = weighted_sum(draws, count);
            values[0] = weighted_sum(draws, nats) / tokens;
            values[1] = weighted_sum(draws, right) / tokens;
        }
    });
    let share = |column: &[f64]| column.iter().sum::<f64>() / total as f64;
    let loss = percentile(share(&nats), samples.len(), resampled[0].clone());
    Ok(TokenReport {
        samples: samples.len() as u64,
        tokens: total,
        loss,
        perplexity: loss.map(f64::exp),
        bits_per_token: loss.map(|nats| nats / std::f64::consts::LN_2),
        accuracy: percentile(share(&right), samples.len(), resampled[1].clone()),
        resamples: options.resamples,
        seed: options.seed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coin_costs_one_bit_a_token() {
        let sample = |tokens: u64| SampleTokens { nats: tokens as f64 * 2.0_f64.ln(), tokens, right: tokens / 2 };
        let report = tokens(&[sample(10), sample(4)], &Options::default()).unwrap();
        assert!((report.bits_per_token.value - 1.0).abs() < 1e-12 && (report.perplexity.value - 2.0).abs() < 1e-12);
        assert_eq!((report.samples, report.tokens, report.accuracy.value), (2, 14, 0.5));
        let uneven = [sample(10), SampleTokens { nats: 0.0, tokens: 2, right: 2 }];
        let report = tokens(&uneven, &Options::default()).unwrap();
        assert!((report.bits_per_token.value - 10.0 / 12.0).abs() < 1e-12, "long samples weigh more");
        let interval = report.bits_per_token.interval.unwrap();
        assert!(interval.low < 0.1 && interval.high > 0.9);
        assert!(report.text().contains("bits per token"));
        assert!(tokens(&[], &Options::default()).unwrap_err().message().contains("no tokens"));
        let bad = SampleTokens { nats: f64::NAN, tokens: 3, right: 0 };
        assert!(tokens(&[sample(2), bad], &Options::default()).unwrap_err().message().contains("sample 1"));
    }
}
