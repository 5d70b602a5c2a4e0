//! What logits say of each sample.
//!
//! Shapes: logits `[samples, classes]`. Softmax is taken in `f64` after subtracting the largest logit.

use dlopt_checkpoint::{Error, Result};

/// Steps of a log odd in 1; far finer than a logit of 32 bits can tell, far coarser than what rounding leaves.
const STEPS: f64 = (1u64 << 30) as f64;

/// The probabilities of the classes of one sample: softmax of its logits.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let powers: Vec<f64> = logits.iter().map(|x| (f64::from(*x) - f64::from(largest)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Softmax and argmax of every sample, and what follows from its label.
pub(crate) struct Softmax {
    /// The class of the largest logit, the first of equals.
    pub(crate) predicted: Vec<u32>,
    /// The probability of that class.
    pub(crate) confidence: Vec<f64>,
    /// −ln of the label's probability.
    pub(crate) loss: Vec<f64>,
    /// Σ (probability − one-hot)² over the classes, in 0..=2.
    pub(crate) brier: Vec<f64>,
    /// −Σ p ln p, in nats.
    pub(crate) entropy: Vec<f64>,
    /// How many classes stand before the label: larger logits, and equal ones of lower index.
    pub(crate) rank: Vec<u32>,
    /// ln(p / (1 − p)) of every class `[classes, samples]`: grows with p, and unlike p tells confident samples apart.
    /// In steps of 2⁻³⁰, so that equal odds tie although their sums were rounded in another order.
    pub(crate) log_odds: Vec<f64>,
}

/// Checks that there is something to measure, that shapes agree, that labels are classes and that logits are finite.
pub(crate) fn check(logits: &[f32], classes: usize, labels: &[u32]) -> Result<()> {
    check_shape("logits", logits, classes, "class", labels.len(), "labels")?;
    if let Some((i, label)) = labels.iter().enumerate().find(|(_, label)| **label as usize >= classes) {
        return Err(Error::input(format!(
            "sample {i} has label {label}; the model has {classes} classes, 0 to {}",
            classes - 1
        ))
        .hint("evaluate on data with the classes that the model was trained on"));
    }
    check_finite("logits", logits, classes)
}

/// Checks that `values` is `[samples, width]` and not empty.
pub(crate) fn check_shape(
    what: &str,
    values: &[f32],
    width: usize,
    of: &str,
    samples: usize,
    others: &str,
) -> Result<()> {
    if samples == 0 {
        return Err(Error::input("there are no samples to evaluate").hint("choose a split that holds samples"));
    }
    if width == 0 {
        return Err(Error::input(format!("the model has no {of}; wanted at least one")));
    }
    if samples.checked_mul(width) != Some(values.len()) {
        return Err(Error::input(format!(
            "{} {what} do not go with {samples} {others}; wanted [{samples}, {width}]",
            values.len()
        )));
    }
    Ok(())
}

/// Checks that all values `[samples, width]` are finite.
pub(crate) fn check_finite(what: &str, values: &[f32], width: usize) -> Result<()> {
    let is_bad = |row: &[f32]| row.iter().any(|v| !v.is_finite());
    let Some(first) = values.chunks_exact(width).position(is_bad) else { return Ok(()) };
    let count = values.chunks_exact(width).filter(|row| is_bad(row)).count();
    let samples = values.len() / width;
    Err(Error::input(format!("{what} of {count} of {samples} samples are NaN or infinite, of sample {first} first"))
        .hint("`dlopt inspect --stats` shows whether weights are NaN; inputs may be, too"))
}

impl Softmax {
    /// The inputs are checked.
    pub(crate) fn new(logits: &[f32], classes: usize, labels: &[u32]) -> Self {
        let samples = labels.len();
        let mut all = Self {
            predicted: Vec::with_capacity(samples),
            confidence: Vec::with_capacity(samples),
            loss: Vec::with_capacity(samples),
            brier: Vec::with_capacity(samples),
            entropy: Vec::with_capacity(samples),
            rank: Vec::with_capacity(samples),
            log_odds: vec![0.0; samples * classes],
        };
        let mut power = vec![0.0f64; classes];
        for (i, (row, &label)) in logits.chunks_exact(classes).zip(labels).enumerate() {
            let label = label as usize;
            let best = argmax(row);
            let largest = f64::from(row[best]);
            for (e, x) in power.iter_mut().zip(row) {
                *e = (f64::from(*x) - largest).exp();
            }
            let sum: f64 = power.iter().sum();
            // The largest term is 1, so that the rest keeps its digits when it is added up alone.
            let rest: f64 = power.iter().enumerate().filter(|(c, _)| *c != best).map(|(_, e)| e).sum();
            let log_sum = rest.ln_1p();
            let mut entropy = 0.0;
            let mut brier = 0.0;
            for (c, (e, x)) in power.iter().zip(row).enumerate() {
                let p = e / sum;
                let log_p = f64::from(*x) - largest - log_sum;
                entropy -= if *e > 0.0 { p * log_p } else { 0.0 };
                let off = p - f64::from(u8::from(c == label));
                brier += off * off;
                let others = if c == best { rest } else { sum - e };
                all.log_odds[c * samples + i] = ((f64::from(*x) - largest - others.ln()) * STEPS).round() / STEPS;
            }
            let (x, before) = (row[label], &row[..label]);
            let rank = before.iter().filter(|o| **o >= x).count() + row[label..].iter().filter(|o| **o > x).count();
            all.predicted.push(best as u32);
            all.confidence.push(1.0 / sum);
            all.loss.push(log_sum + largest - f64::from(x));
            all.brier.push(brier);
            all.entropy.push(entropy);
            all.rank.push(rank as u32);
        }
        all
    }
}

/// The index of the largest value, the first of equals; values are finite and not empty.
pub(crate) fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (c, x)| if *x > row[best] { c } else { best })
}
