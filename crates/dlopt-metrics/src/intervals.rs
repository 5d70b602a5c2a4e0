//! Intervals and tests in closed form.

use statrs::distribution::{Binomial, ContinuousCDF, Discrete, DiscreteCDF, Normal};

use crate::estimate::{Estimate, Interval, Method, Z};

/// A proportion with Wilson's score interval: the proportions p with |p̂ − p| ≤ z·√(p(1−p)/n).
///
/// `trials` > 0. Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
pub(crate) fn wilson(successes: u64, trials: u64) -> Estimate {
    let (x, n) = (successes as f64, trials as f64);
    let p = x / n;
    let scale = 1.0 / (1.0 + Z * Z / n);
    let centre = (p + Z * Z / (2.0 * n)) * scale;
    let half = Z * scale * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == trials { 1.0 } else { (centre + half).min(1.0) };
    Estimate::new(p, low, high, Method::Wilson)
}

/// F1 of one class: J = TP / (TP + FP + FN) is a proportion among the samples that truth or model give to the class,
/// and F1 = 2J / (1 + J) grows with it.
///
/// `union` = TP + FP + FN > 0. Source: Lam, Gopal and Qian, arXiv:2309.14621 (there "Wilson indirect").
pub(crate) fn f1(true_positives: u64, union: u64) -> Estimate {
    let mut estimate = wilson(true_positives, union).map(|j| 2.0 * j / (1.0 + j));
    if let Some(interval) = &mut estimate.interval {
        interval.method = Method::WilsonOfJaccard;
    }
    estimate
}

/// The difference of two proportions on the same samples, second minus first: with one sample added to each of the
/// four kinds of pairs, halved, the difference and its normal interval.
///
/// `only_first` and `only_second` are the samples that only one model gets right. Source: D. G. Bonett and
/// R. M. Price, Adjusted Wald confidence interval for a difference of binomial proportions based on paired data, 2012.
pub(crate) fn paired_proportions(only_first: u64, only_second: u64, samples: u64) -> Estimate {
    let (b, c, n) = (only_first as f64, only_second as f64, samples as f64);
    let (p, q) = ((b + 1.0) / (n + 2.0), (c + 1.0) / (n + 2.0));
    let centre = q - p;
    let half = Z * ((p + q - centre * centre) / (n + 2.0)).sqrt();
    Estimate::new((c - b) / n, (centre - half).max(-1.0), (centre + half).min(1.0), Method::BonettPrice)
}

/// McNemar's test: two-sided p-values, exact and mid-p, of as many or fewer wins among the discordant samples when
/// either model is equally likely to win one.
///
/// Source: Q. McNemar, 1947; mid-p after Fagerland, Lydersen and Laake, 2013.
pub(crate) fn mcnemar(only_first: u64, only_second: u64) -> (f64, f64) {
    let discordant = only_first + only_second;
    if discordant == 0 {
        return (1.0, 1.0);
    }
    let fewer = only_first.min(only_second);
    let binomial = Binomial::new(0.5, discordant).expect("one half is a probability");
    let exact = (2.0 * binomial.cdf(fewer)).min(1.0);
    let mid = 2.0 * binomial.cdf(fewer) - binomial.pmf(fewer);
    (exact, mid.clamp(0.0, 1.0))
}

/// An interval of an area of exactly 0 or 1: the areas θ with |θ̂ − θ| ≤ z·√V(θ), where
/// V(θ) = θ(1−θ)·(1 + (m−1)·(1−θ)/(2−θ) + (n−1)·θ/(1+θ)) / (mn).
///
/// V is not symmetric in the two sides; m is the fewer of positives and negatives and n the more, which is the wider
/// of both. Source of V: J. A. Hanley and B. J. McNeil, The meaning and use of the area under a receiver operating
/// characteristic (ROC) curve, 1982. Solving it for θ, as for Wilson's interval, is R. G. Newcombe's idea, 2006; he
/// puts the mean of m and n in both places, which is too narrow for a class against the many others.
pub(crate) fn perfect_area(is_one: bool, positives: u64, negatives: u64) -> Interval {
    let (m, n) = (positives.min(negatives) as f64, positives.max(negatives) as f64);
    let variance =
        |t: f64| t * (1.0 - t) * (1.0 + (m - 1.0) * (1.0 - t) / (2.0 - t) + (n - 1.0) * t / (1.0 + t)) / (m * n);
    let (mut outside, mut inside) = (0.0f64, 1.0f64);
    for _ in 0..60 {
        let t = f64::midpoint(outside, inside);
        if 1.0 - t <= Z * variance(t).sqrt() { inside = t } else { outside = t }
    }
    let method = Method::HanleyMcneilScore;
    if is_one { Interval { low: inside, high: 1.0, method } } else { Interval { low: 0.0, high: 1.0 - inside, method } }
}

/// The standard normal quantile.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

/// The standard normal distribution function.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::{bca_of_mean, resample, weighted_sum};
    use crate::estimate::Options;

    /// How often an interval holds the share that samples were drawn with: a sum over all that can be drawn.
    fn coverage(samples: u64, share: f64, interval: impl Fn(u64) -> Estimate) -> f64 {
        let drawn = Binomial::new(share, samples).unwrap();
        let likely = (0..=samples).map(|right| (right, drawn.pmf(right))).filter(|(_, likelihood)| *likelihood > 1e-5);
        let holds = |right: u64| interval(right).interval.is_some_and(|own| own.low <= share && share <= own.high);
        likely.filter(|(right, _)| holds(*right)).map(|(_, likelihood)| likelihood).sum()
    }

    fn bootstrapped(right: u64, samples: u64) -> Estimate {
        let values: Vec<f64> = (0..samples).map(|at| f64::from(u8::from(at < right))).collect();
        let make = || |draws: &[u32], out: &mut [f64]| out[0] = weighted_sum(draws, &values) / values.len() as f64;
        let means = resample(values.len(), 1, &Options::default(), make);
        bca_of_mean(&values, means.into_iter().next().unwrap())
    }

    /// Why shares of samples have Wilson's interval, where other metrics have the bootstrap's.
    #[test]
    fn shares_are_held_nearer_to_95_percent_by_wilson_than_by_the_bootstrap() {
        for (samples, share) in [(100, 0.9), (100, 0.98), (300, 0.97), (300, 0.995)] {
            let closed = coverage(samples, share, |right| wilson(right, samples));
            let drawn = coverage(samples, share, |right| bootstrapped(right, samples));
            eprintln!("{samples} samples, share {share}: Wilson {closed:.4}, bootstrap {drawn:.4}");
            assert!((closed - 0.95).abs() < (drawn - 0.95).abs(), "{samples} {share}: {closed} {drawn}");
        }
        // All right says nothing of the spread to a bootstrap.
        assert!(bootstrapped(50, 50).interval.is_none_or(|own| own.low == 1.0));
        assert!(wilson(50, 50).interval.is_some_and(|own| own.low < 0.95));
    }
}
