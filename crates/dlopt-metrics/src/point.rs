//! Scores of a classifier without intervals: for several runs, whose spread says how sure they are.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};

use crate::calibration::Gaps;
use crate::softmax::{check, probabilities};

/// What a classifier is worth on some rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointScores {
    /// The fraction of rows whose label is predicted.
    pub accuracy: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// The expected calibration error in 15 bins, in 0..=1.
    pub calibration_error: f64,
}

/// How alike two classifiers answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likeness {
    /// The fraction of rows for which both predict the same class.
    pub agreement: f64,
    /// Mean of KL(first || second), in nats.
    pub divergence: f64,
}

/// Scores of `logits` `[rows, classes]`.
///
/// # Errors
/// When shapes disagree, a label is no class, or a logit is not finite.
pub fn point_scores(logits: &[f32], classes: usize, labels: &[u32]) -> Result<PointScores> {
    check(logits, classes, labels)?;
    let (mut right, mut loss) = (Vec::with_capacity(labels.len()), 0.0);
    let mut confidence = Vec::with_capacity(labels.len());
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let p = probabilities(row);
        let predicted = largest(row);
        right.push(predicted == label as usize);
        confidence.push(p[predicted]);
        loss -= log_probability(row, label as usize);
    }
    let gaps = Gaps::new(&confidence, |row| right[row], 15);
    let calibration_error = gaps.error(&vec![1; labels.len()], &mut Vec::new());
    let rows = labels.len() as f64;
    let accuracy = right.iter().filter(|right| **right).count() as f64 / rows;
    Ok(PointScores { accuracy, loss: loss / rows, calibration_error })
}

/// How alike `first` and `second`, both `[rows, classes]` of logits, answer; nothing without rows.
pub fn likeness(first: &[f32], second: &[f32], classes: usize) -> Option<Likeness> {
    if first.is_empty() || first.len() != second.len() {
        return None;
    }
    let (mut same, mut divergence) = (0, 0.0);
    for (a, b) in first.chunks_exact(classes.max(1)).zip(second.chunks_exact(classes.max(1))) {
        same += usize::from(largest(a) == largest(b));
        let own: f64 = probabilities(a)
            .iter()
            .enumerate()
            .map(|(class, p)| match *p {
                0.0 => 0.0,
                p => p * (log_probability(a, class) - log_probability(b, class)),
            })
            .sum();
        divergence += own.max(0.0);
    }
    let rows = (first.len() / classes.max(1)) as f64;
    Some(Likeness { agreement: same as f64 / rows, divergence: divergence / rows })
}

/// The place of the largest, the first of equals.
fn largest(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best })
}

/// `ln softmax(row)[class]`.
fn log_probability(row: &[f32], class: usize) -> f64 {
    let most = f64::from(row[largest(row)]);
    let sum: f64 = row.iter().map(|v| (f64::from(*v) - most).exp()).sum();
    f64::from(row[class]) - most - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, classification};

    #[test]
    fn scores_are_those_of_the_whole_report() {
        let logits: Vec<f32> = (0..3 * 41).map(|i| (i as f32 * 1.7).sin() * 3.0).collect();
        let labels: Vec<u32> = (0..41).map(|i| i * 7 % 3).collect();
        let names = ["a", "b", "c"].map(str::to_owned);
        let whole =
            classification(&logits, 3, &labels, &names, &Options { resamples: 100, ..Options::default() }).unwrap();
        let point = point_scores(&logits, 3, &labels).unwrap();
        assert!((point.accuracy - whole.accuracy.value).abs() < 1e-12);
        assert!((point.loss - whole.loss.value).abs() < 1e-9);
        assert!((point.calibration_error - whole.calibration.expected_error.value).abs() < 1e-9);
    }

    #[test]
    fn likeness_by_hand() {
        let log = 3.0_f32.ln();
        // (3/4, 1/4) against (1/2, 1/2), and two equal ones, shifted.
        let found = likeness(&[log, 0.0, 1.0, 2.0], &[0.0, 0.0, 5.0, 6.0], 2).unwrap();
        let wanted = (0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln()) / 2.0;
        assert!((found.divergence - wanted).abs() < 1e-7 && found.agreement == 1.0, "{found:?}");
        assert_eq!(likeness(&[0.0, 1.0], &[1.0, 0.0], 2).unwrap().agreement, 0.0);
        assert!(likeness(&[], &[], 2).is_none());
    }
}
