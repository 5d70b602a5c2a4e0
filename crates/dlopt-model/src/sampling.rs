//! Which token comes next, drawn from its scores.
//!
//! `p = softmax(scores / temperature)`; of the `top_k` likeliest tokens, then of the fewest whose probabilities sum to
//! `top_p` (Holtzman et al., 2020, arXiv:1904.09751), one is drawn. A temperature of 0 takes the likeliest. The generator is
//! ChaCha8, so a seed means the same everywhere.

use dlopt_checkpoint::{Error, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 or more; scores are divided by it.
    pub temperature: f64,
    /// Likeliest tokens to draw from; all of them when nobody says.
    pub top_k: Option<usize>,
    /// Over 0, at most 1.
    pub top_p: f64,
}

/// Draws tokens, one after the other.
#[derive(Debug)]
pub struct Sampler {
    how: Sampling,
    generator: ChaCha8Rng,
    order: Vec<u32>,
    shares: Vec<f64>,
}

impl Sampler {
    /// One that begins at a seed.
    ///
    /// # Errors
    /// When a number is outside its range.
    pub fn new(how: Sampling, seed: u64) -> Result<Self> {
        if !(how.temperature >= 0.0 && how.temperature.is_finite()) {
            return Err(Error::usage(format!("the temperature is {}; wanted 0 or more", how.temperature)));
        }
        if !(how.top_p > 0.0 && how.top_p <= 1.0) {
            return Err(Error::usage(format!("top-p is {}; wanted more than 0, at most 1", how.top_p)));
        }
        if how.top_k == Some(0) {
            return Err(Error::usage("top-k is 0; wanted 1 or more"));
        }
        Ok(Self { how, generator: ChaCha8Rng::seed_from_u64(seed), order: Vec::new(), shares: Vec::new() })
    }

    /// The next token, by the scores of all.
    ///
    /// # Errors
    /// When there are no scores, or one is NaN or infinite.
    pub fn next(&mut self, scores: &[f32]) -> Result<u32> {
        if scores.is_empty() || scores.iter().any(|score| !score.is_finite()) {
            return Err(Error::input("the network puts out NaN or infinity")
                .hint("`dlopt inspect --stats` shows whether weights are NaN"));
        }
        self.order.clear();
        self.order.extend(0..scores.len() as u32);
        let score = |token: u32| scores[token as usize];
        // Equal scores in the order of their tokens, so that nothing depends on how they are sorted.
        self.order.sort_unstable_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
        if self.how.temperature == 0.0 {
            return Ok(self.order[0]);
        }
        self.order.truncate(self.how.top_k.unwrap_or(usize::MAX));
        let largest = f64::from(score(self.order[0]));
        self.shares.clear();
        let power = |&token: &u32| ((f64::from(score(token)) - largest) / self.how.temperature).exp();
        self.shares.extend(self.order.iter().map(power));
        let mut sum: f64 = self.shares.iter().sum();
        if self.how.top_p < 1.0 {
            let (mut kept, mut reached) = (0, 0.0);
            while kept < self.shares.len() && reached < self.how.top_p * sum {
                reached += self.shares[kept];
                kept += 1;
            }
            self.shares.truncate(kept.max(1));
            sum = self.shares.iter().sum();
        }
        // 53 bits, in 0..1.
        let mut left = (self.generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        for (token, share) in self.order.iter().zip(&self.shares) {
            left -= share;
            if left < 0.0 {
                return Ok(*token);
            }
        }
        Ok(self.order[self.shares.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(how: Sampling, scores: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(how, 3).unwrap();
        let mut counts = vec![0; scores.len()];
        (0..draws).for_each(|_| counts[sampler.next(scores).unwrap() as usize] += 1);
        counts
    }

    const PLAIN: Sampling = Sampling { temperature: 1.0, top_k: None, top_p: 1.0 };

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        // Probabilities 1/10, 2/10, 3/10, 4/10.
        let scores = [1.0_f32, 2.0, 3.0, 4.0].map(f32::ln);
        let found = counts(PLAIN, &scores, 20_000);
        for (token, count) in found.iter().enumerate() {
            assert!((*count as f64 / 20_000.0 - (token + 1) as f64 / 10.0).abs() < 0.015, "{found:?}");
        }
        // Halved: the squares, 1/30, 4/30, 9/30, 16/30.
        let cold = counts(Sampling { temperature: 0.5, ..PLAIN }, &scores, 20_000);
        assert!((cold[3] as f64 / 20_000.0 - 16.0 / 30.0).abs() < 0.015, "{cold:?}");
        assert_eq!(counts(Sampling { temperature: 0.0, ..PLAIN }, &scores, 50), [0, 0, 0, 50]);
        assert_eq!(counts(Sampling { temperature: 0.0, ..PLAIN }, &[1.0, 2.0, 2.0], 50), [0, 50, 0]);
    }

    #[test]
    fn the_unlikely_are_left_out() {
        let scores = [1.0_f32, 2.0, 3.0, 4.0].map(f32::ln);
        let found = counts(Sampling { top_k: Some(2), ..PLAIN }, &scores, 20_000);
        assert_eq!(found[..2], [0, 0]);
        assert!((found[3] as f64 / 20_000.0 - 4.0 / 7.0).abs() < 0.015, "{found:?}");
        // 4/10 alone are not enough, 7/10 are.
        let found = counts(Sampling { top_p: 0.5, ..PLAIN }, &scores, 2000);
        assert!(found[..2] == [0, 0] && found[2] > 0, "{found:?}");
        assert_eq!(counts(Sampling { top_p: 0.1, ..PLAIN }, &scores, 50), [0, 0, 0, 50]);
        assert_eq!(counts(Sampling { top_k: Some(9), ..PLAIN }, &scores, 50).iter().sum::<usize>(), 50);
    }

    #[test]
    fn a_seed_means_the_same_draws_everywhere() {
        let scores = [0.1, -0.3, 0.2, 0.0, 0.4];
        let drawn = |seed: u64| {
            let mut sampler = Sampler::new(PLAIN, seed).unwrap();
            (0..12).map(|_| sampler.next(&scores).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        for how in [
            Sampling { temperature: -1.0, ..PLAIN },
            Sampling { temperature: f64::NAN, ..PLAIN },
            Sampling { top_k: Some(0), ..PLAIN },
            Sampling { top_p: 0.0, ..PLAIN },
            Sampling { top_p: 1.5, ..PLAIN },
        ] {
            assert!(Sampler::new(how, 0).is_err(), "{how:?}");
        }
        let mut sampler = Sampler::new(PLAIN, 0).unwrap();
        assert!(sampler.next(&[]).is_err() && sampler.next(&[0.0, f32::NAN]).is_err());
    }
}
