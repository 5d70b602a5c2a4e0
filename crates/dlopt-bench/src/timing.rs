//! How long calls take: two contenders in turns, so that a machine that slows down slows both.
//!
//! Each contender warms up, then both run in rounds, one after the other. Single calls are timed: their median and 95th and
//! 99th percentiles count, and outliers (beyond three quartile distances above the upper quartile: Tukey, 1977, "far out")
//! are counted and kept. The medians of the rounds say how steady the machine was; ratios are of the same round.

use std::time::{Duration, Instant};

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};

/// Rounds of a timing.
const ROUNDS: usize = 10;
/// Calls of a round at least.
const LEAST_CALLS: usize = 3;
/// Share of a timing that is spent on warming up.
const WARM_UP: f64 = 0.1;

/// How long calls of one contender took, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The middle one.
    pub median: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The fastest.
    pub least: f64,
    /// The slowest.
    pub most: f64,
    /// Calls that were timed.
    pub calls: usize,
    /// Calls before them that were not.
    pub warm_up: usize,
    /// Calls far slower than the others; they count all the same.
    pub outliers: usize,
    /// The median of each round.
    pub rounds: Vec<f64>,
}

/// How two contenders compare: first over second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The median of the rounds' ratios.
    pub median: f64,
    /// The second least of the rounds' ratios.
    pub low: f64,
    /// The second largest.
    pub high: f64,
}

impl Timing {
    fn of(mut calls: Vec<f64>, rounds: Vec<f64>, warm_up: usize) -> Self {
        calls.sort_by(f64::total_cmp);
        let (lower, upper) = (quantile(&calls, 0.25), quantile(&calls, 0.75));
        let limit = upper + 3.0 * (upper - lower);
        Self {
            median: quantile(&calls, 0.5),
            p95: quantile(&calls, 0.95),
            p99: quantile(&calls, 0.99),
            least: calls[0],
            most: calls[calls.len() - 1],
            calls: calls.len(),
            warm_up,
            outliers: calls.iter().filter(|c| **c > limit).count(),
            rounds,
        }
    }

    /// How unsteady the machine was: the distance of the rounds' quartiles over their median.
    pub fn noise(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        (quantile(&rounds, 0.75) - quantile(&rounds, 0.25)) / quantile(&rounds, 0.5)
    }

    /// This contender's rounds over those of another that ran in turns with it.
    pub fn over(&self, other: &Self) -> Ratio {
        let mut ratios: Vec<f64> = self.rounds.iter().zip(&other.rounds).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        Ratio { median: quantile(&ratios, 0.5), low: ratios[1.min(last)], high: ratios[last - 1.min(last)] }
    }
}

/// Of sorted values, between the two nearest in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + part * (sorted[above] - sorted[below])
}

/// Times contenders in turns, for about so many seconds each.
///
/// # Errors
/// Those of the contenders.
pub fn in_turns(contenders: &mut [&mut dyn FnMut() -> Result<()>], seconds: f64) -> Result<Vec<Timing>> {
    let mut warm_ups = Vec::with_capacity(contenders.len());
    for contender in contenders.iter_mut() {
        let began = Instant::now();
        let mut calls = 0;
        while calls < LEAST_CALLS || began.elapsed() < Duration::from_secs_f64(WARM_UP * seconds) {
            contender()?;
            calls += 1;
        }
        warm_ups.push(calls);
    }
    let time = Duration::from_secs_f64(seconds / ROUNDS as f64);
    let mut calls = vec![Vec::new(); contenders.len()];
    let mut rounds = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..ROUNDS {
        for (which, contender) in contenders.iter_mut().enumerate() {
            let mut own = Vec::new();
            let began = Instant::now();
            let mut last = began;
            while own.len() < LEAST_CALLS || last - began < time {
                contender()?;
                // One reading of the clock a call: where one ends the next begins.
                let now = Instant::now();
                own.push((now - last).as_secs_f64() * 1e6);
                last = now;
            }
            calls[which].extend_from_slice(&own);
            own.sort_by(f64::total_cmp);
            rounds[which].push(quantile(&own, 0.5));
        }
    }
    let each = calls.into_iter().zip(rounds).zip(warm_ups);
    Ok(each.map(|((calls, rounds), warm_up)| Timing::of(calls, rounds, warm_up)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_outliers_and_noise_by_hand() {
        let mut calls: Vec<f64> = (1..=101).map(f64::from).collect();
        calls[100] = 1000.0;
        let timing = Timing::of(calls, vec![50.0, 52.0, 48.0, 50.0, 50.0], 3);
        assert_eq!((timing.median, timing.p95, timing.p99), (51.0, 96.0, 100.0));
        assert_eq!((timing.least, timing.most, timing.outliers, timing.calls), (1.0, 1000.0, 1, 101));
        assert_eq!(timing.noise(), 0.0);
        let other = Timing { rounds: vec![25.0, 26.0, 12.0, 25.0, 50.0], ..timing.clone() };
        assert_eq!(timing.over(&other), Ratio { median: 2.0, low: 2.0, high: 2.0 });
    }

    #[test]
    fn contenders_take_turns_and_every_call_counts() {
        let order = std::cell::RefCell::new(Vec::new());
        let mut first = || {
            order.borrow_mut().push(0);
            Ok(())
        };
        let mut second = || {
            order.borrow_mut().push(1);
            Ok(())
        };
        let timings = in_turns(&mut [&mut first, &mut second], 1e-6).unwrap();
        let order = order.into_inner();
        assert_eq!(timings.iter().map(|t| t.calls + t.warm_up).sum::<usize>(), order.len());
        let turns = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(turns, 2 * ROUNDS + 1, "both warm up, then ten rounds of both");
        assert_eq!(timings[0].rounds.len(), ROUNDS);
    }
}
