//! The area under the receiver operating characteristic curve, with DeLong's variance.
//!
//! A = P(score of a positive > score of a negative) + ½ P(equal), over all pairs.
//! Its variance comes from placements: V(i) for a positive is the fraction of negatives below it, for a negative the
//! fraction of positives above it, ties half; var A = S²(positives' V) / m + S²(negatives' V) / n.
//! Ranks give all placements in O(samples · log samples). Source: E. R. DeLong, D. M. DeLong and
//! D. L. Clarke-Pearson, Comparing the areas under two or more correlated receiver operating characteristic curves,
//! 1988; by ranks: X. Sun and W. Xu, 2014. The interval is made on the logit scale, where it cannot leave 0..=1.

use crate::estimate::{Estimate, Method, Z};
use crate::intervals::perfect_area;

/// One area, and how far each sample moves it.
pub(crate) struct Area {
    pub(crate) positives: u64,
    pub(crate) negatives: u64,
    pub(crate) value: f64,
    /// (V(i) − A) / m for positives, (V(i) − A) / n for negatives `[samples]`.
    pub(crate) influence: Vec<f64>,
}

impl Area {
    /// The area of `scores` `[samples]`, none NaN; none where there are only positives or only negatives.
    pub(crate) fn new(scores: &[f64], is_positive: impl Fn(usize) -> bool) -> Option<Self> {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_unstable_by(|a, b| scores[*a as usize].total_cmp(&scores[*b as usize]));
        let positives = (0..scores.len()).filter(|i| is_positive(*i)).count();
        let negatives = scores.len() - positives;
        if positives == 0 || negatives == 0 {
            return None;
        }
        let (m, n) = (positives as f64, negatives as f64);
        let mut influence = vec![0.0; scores.len()];
        let (mut positives_below, mut negatives_below) = (0usize, 0usize);
        // Twice the pairs won, so that it is an integer and the area does not depend on the order of summing.
        let mut doubled: u128 = 0;
        for ties in order.chunk_by(|a, b| scores[*a as usize] == scores[*b as usize]) {
            let tied_positives = ties.iter().filter(|i| is_positive(**i as usize)).count();
            let tied_negatives = ties.len() - tied_positives;
            let below = 2 * negatives_below + tied_negatives;
            let above = 2 * (positives - positives_below) - tied_positives;
            doubled += tied_positives as u128 * below as u128;
            for i in ties {
                let i = *i as usize;
                influence[i] = if is_positive(i) { below as f64 / (2.0 * n) } else { above as f64 / (2.0 * m) };
            }
            positives_below += tied_positives;
            negatives_below += tied_negatives;
        }
        let value = doubled as f64 / (2.0 * m * n);
        for (i, v) in influence.iter_mut().enumerate() {
            *v = (*v - value) / if is_positive(i) { m } else { n };
        }
        Some(Self { positives: positives as u64, negatives: negatives as u64, value, influence })
    }

    /// The area with its interval; `is_positive` as it was given to [`Area::new`].
    pub(crate) fn estimate(&self, is_positive: impl Fn(usize) -> bool) -> Estimate {
        if self.value == 0.0 || self.value == 1.0 {
            let interval = perfect_area(self.value == 1.0, self.positives, self.negatives);
            return Estimate { value: self.value, interval: Some(interval) };
        }
        // Of one positive or one negative the spread is unknown.
        if self.positives < 2 || self.negatives < 2 {
            return Estimate { value: self.value, interval: None };
        }
        let (mut of_positives, mut of_negatives) = (0.0, 0.0);
        for (i, v) in self.influence.iter().enumerate() {
            *(if is_positive(i) { &mut of_positives } else { &mut of_negatives }) += v * v;
        }
        let corrected = |sum: f64, count: u64| sum * count as f64 / (count - 1) as f64;
        let variance = corrected(of_positives, self.positives) + corrected(of_negatives, self.negatives);
        on_logit_scale(self.value, variance)
    }
}

/// The mean of several areas over the same samples; samples move them together, so their influences are added.
///
/// Where the variance is zero, the ends are the means of the areas' ends.
pub(crate) fn mean_area(areas: &[&Area], estimates: &[Estimate]) -> Option<Estimate> {
    let first = areas.first()?;
    if areas.len() == 1 {
        return Some(estimates[0]);
    }
    let count = areas.len() as f64;
    let value = areas.iter().map(|a| a.value).sum::<f64>() / count;
    let mut variance = 0.0;
    for i in 0..first.influence.len() {
        let sum: f64 = areas.iter().map(|a| a.influence[i]).sum();
        variance += sum * sum;
    }
    let samples = first.influence.len() as f64;
    variance *= samples / (samples - 1.0) / (count * count);
    if variance == 0.0 || value == 0.0 || value == 1.0 {
        return Some(mean_of(value, estimates));
    }
    Some(on_logit_scale(value, variance))
}

/// `value` with the mean of the estimates' ends; without an interval if one of them has none.
pub(crate) fn mean_of(value: f64, estimates: &[Estimate]) -> Estimate {
    let ends: Option<Vec<_>> = estimates.iter().map(|e| e.interval).collect();
    match ends {
        Some(ends) if !ends.is_empty() => {
            let count = ends.len() as f64;
            let low = ends.iter().map(|i| i.low).sum::<f64>() / count;
            let high = ends.iter().map(|i| i.high).sum::<f64>() / count;
            Estimate::new(value, low.min(value), high.max(value), Method::MeanOfClasses)
        }
        _ => Estimate { value, interval: None },
    }
}

/// logit(A) ± z·√var / (A·(1 − A)), back on the scale of areas.
fn on_logit_scale(value: f64, variance: f64) -> Estimate {
    let logit = (value / (1.0 - value)).ln();
    let half = Z * variance.sqrt() / (value * (1.0 - value));
    let area = |x: f64| 1.0 / (1.0 + (-x).exp());
    Estimate::new(value, area(logit - half).min(value), area(logit + half).max(value), Method::DelongLogit)
}
