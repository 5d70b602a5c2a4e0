//! Two reports of a sweep, an old and a new one: what got worse, beyond chance.
//!
//! * bytes on disk are exact: any more is worse;
//! * shares (accuracy) are compared by the two-sided z test of two proportions with their pooled variance, as nothing says
//!   which samples the old one had right; other metrics are worse when the two intervals do not meet;
//! * latency by the rounds' medians: worse when the Mann-Whitney U test (1947, normal approximation with correction for
//!   continuity) rejects at 1 % and the median is slower by more than both machines' noise and 5 %. Only on one machine.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

use crate::quality::Quality;
use crate::results::{Results, VariantResult};

/// What chance explains is no change.
const LEVEL: f64 = 0.01;
/// A latency that is slower by less is no regression, however sure.
const LEAST_SLOWDOWN: f64 = 0.05;

/// Two reports side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What changed beyond chance.
    pub changes: Vec<Change>,
    /// Variants of the old report that the new one lacks, or has failed at.
    pub missing: Vec<String>,
    /// Why something was not compared.
    pub remarks: Vec<String>,
}

/// One figure of one variant that changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The variant.
    pub variant: String,
    /// `bytes`, `latency` or the metric.
    pub figure: String,
    /// What it was.
    pub old: f64,
    /// What it is.
    pub new: f64,
    /// Two-sided, of no change; nothing where the figure is exact or its interval was compared.
    pub p_value: Option<f64>,
    /// Whether it got worse.
    pub is_regression: bool,
}

impl Comparison {
    /// Whether anything got worse or is gone.
    pub fn is_worse(&self) -> bool {
        !self.missing.is_empty() || self.changes.iter().any(|c| c.is_regression)
    }

    /// What people read.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for change in &self.changes {
            let kind = if change.is_regression { "regression" } else { "improvement" };
            let sure = change.p_value.map_or(String::new(), |p| format!(" (p = {p:.1e})"));
            let (old, new) = (number(change.old), number(change.new));
            text.push_str(&format!("{kind}: {}: {} {old} -> {new}{sure}\n", change.variant, change.figure));
        }
        for name in &self.missing {
            text.push_str(&format!("regression: {name}: no figures any more\n"));
        }
        for remark in &self.remarks {
            text.push_str(&format!("{remark}\n"));
        }
        if self.changes.is_empty() && self.missing.is_empty() {
            text.push_str("nothing changed beyond chance\n");
        }
        text
    }
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.4}") }
}

/// Compares every variant of the old report with the one of its name.
pub fn compare(old: &Results, new: &Results) -> Comparison {
    let mut all = Comparison { changes: Vec::new(), missing: Vec::new(), remarks: Vec::new() };
    let is_one_machine = old.machine.is_like(&new.machine);
    if !is_one_machine {
        all.remarks.push(format!(
            "latency was not compared: the old report is of {} with {} cores, {}",
            old.machine.processor,
            old.machine.cores,
            old.machine.pinning()
        ));
    }
    if old.split != new.split || old.data != new.data {
        all.remarks.push(format!("the old report is of {} of {}", old.split, old.data));
    }
    for before in old.variants.iter().filter(|v| v.failure.is_none()) {
        let Some(after) = new.variants.iter().find(|v| v.name == before.name && v.failure.is_none()) else {
            all.missing.push(before.name.clone());
            continue;
        };
        let changes = [
            bytes(before, after),
            before.quality.as_ref().zip(after.quality.as_ref()).and_then(|(a, b)| quality(&before.name, a, b)),
            if is_one_machine { latency(before, after) } else { None },
        ];
        all.changes.extend(changes.into_iter().flatten());
    }
    all
}

fn bytes(before: &VariantResult, after: &VariantResult) -> Option<Change> {
    let (old, new) = (before.bytes()? as f64, after.bytes()? as f64);
    (old != new).then(|| Change {
        variant: before.name.clone(),
        figure: "bytes".to_owned(),
        old,
        new,
        p_value: None,
        is_regression: new > old,
    })
}

fn quality(variant: &str, before: &Quality, after: &Quality) -> Option<Change> {
    let (old, new) = (before.value, after.value);
    let p_value = (before.is_share && after.is_share)
        .then(|| two_proportions((old, before.samples as f64), (new, after.samples as f64)));
    let is_sure = match p_value {
        Some(p) => p < LEVEL,
        None => before.interval.zip(after.interval).is_some_and(|(a, b)| a[1] < b[0] || b[1] < a[0]),
    };
    let is_regression = if before.is_gain { new < old } else { new > old };
    let (variant, figure) = (variant.to_owned(), before.metric.clone());
    is_sure.then_some(Change { variant, figure, old, new, p_value, is_regression })
}

fn latency(before: &VariantResult, after: &VariantResult) -> Option<Change> {
    let (old, new) = (&before.measurement.as_ref()?.latency, &after.measurement.as_ref()?.latency);
    let p_value = mann_whitney(&old.rounds, &new.rounds);
    let least = LEAST_SLOWDOWN.max(old.noise()).max(new.noise());
    let ratio = new.median / old.median;
    (p_value < LEVEL && (ratio > 1.0 + least || ratio < 1.0 / (1.0 + least))).then(|| Change {
        variant: before.name.clone(),
        figure: "latency, µs".to_owned(),
        old: old.median,
        new: new.median,
        p_value: Some(p_value),
        is_regression: ratio > 1.0,
    })
}

/// Two-sided, of equal proportions: shares with the samples behind them.
fn two_proportions((p, n): (f64, f64), (q, m): (f64, f64)) -> f64 {
    let pooled = (p * n + q * m) / (n + m);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    if deviation == 0.0 { 1.0 } else { two_sided((p - q).abs() / deviation) }
}

/// Two-sided, of neither tending to be larger.
fn mann_whitney(first: &[f64], second: &[f64]) -> f64 {
    let (n, m) = (first.len() as f64, second.len() as f64);
    let wins = |a: &f64| {
        second
            .iter()
            .map(|b| {
                if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                }
            })
            .sum::<f64>()
    };
    let u: f64 = first.iter().map(wins).sum();
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    if deviation == 0.0 { 1.0 } else { two_sided(((u - n * m / 2.0).abs() - 0.5).max(0.0) / deviation) }
}

fn two_sided(z: f64) -> f64 {
    2.0 * Normal::standard().cdf(-z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{results, timing, variant};

    #[test]
    fn tests_by_hand() {
        // 90 % and 85 % of 1,000: z = 0.05 / sqrt(0.875 * 0.125 * 0.002) = 3.381.
        assert!((two_proportions((0.9, 1000.0), (0.85, 1000.0)) - 7.2e-4).abs() < 1e-5);
        // U = 0 of 100: z = (50 - 0.5) / sqrt(100 * 21 / 12) = 3.742.
        let (low, high): (Vec<f64>, Vec<f64>) = ((0..10).map(f64::from).collect(), (10..20).map(f64::from).collect());
        assert!((mann_whitney(&low, &high) - 1.827e-4).abs() < 1e-6);
        assert_eq!(mann_whitney(&low, &low), 1.0);
    }

    #[test]
    fn what_got_worse_is_told_from_chance() {
        let old =
            results(vec![variant("a", 1000, 100.0, 0.9), variant("b", 1000, 100.0, 0.9), variant("c", 1, 1.0, 0.5)]);
        let mut new = results(vec![variant("a", 1000, 100.0, 0.895), variant("b", 1001, 100.0, 0.8)]);
        let comparison = compare(&old, &new);
        let told: Vec<(&str, &str)> =
            comparison.changes.iter().map(|c| (c.variant.as_str(), c.figure.as_str())).collect();
        assert_eq!(told, [("b", "bytes"), ("b", "accuracy")]);
        assert_eq!(comparison.missing, ["c"]);
        assert!(comparison.is_worse() && comparison.text().contains("regression: b: accuracy 0.9000 -> 0.8000"));
        assert!(!compare(&old, &old).is_worse());

        let slower = |v: &mut crate::VariantResult, by: f64| {
            let own = v.measurement.as_mut().unwrap();
            own.latency = timing(by);
            own.latency.rounds.iter_mut().enumerate().for_each(|(i, r)| *r += i as f64 / 1000.0);
        };
        slower(&mut new.variants[0], 103.0);
        assert!(!compare(&old, &new).changes.iter().any(|c| c.figure.starts_with("latency")));
        slower(&mut new.variants[0], 120.0);
        assert!(compare(&old, &new).changes.iter().any(|c| c.figure.starts_with("latency") && c.is_regression));
        new.machine.cores = 64;
        assert!(compare(&old, &new).remarks[0].contains("latency was not compared"));
    }
}
