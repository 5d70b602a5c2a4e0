//! What a classifier says of each sample, and where it is most surely wrong.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};

use crate::softmax::{Softmax, argmax, check, check_finite, check_shape};

/// What a classifier says of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The sample's index.
    pub sample: u64,
    /// The class it is of, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<u32>,
    /// The class of the largest logit, the first of equals.
    pub predicted: u32,
    /// Its probability, in 0..=1.
    pub confidence: f64,
    /// −ln of the label's probability, where the label is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

/// What a classifier says of every sample: `logits` `[samples, classes]`, `labels` `[samples]` where known.
///
/// # Errors
/// When there are no samples, shapes disagree, a label is no class, or a logit is NaN or infinite.
pub fn predictions(logits: &[f32], classes: usize, labels: Option<&[u32]>) -> Result<Vec<Prediction>> {
    if let Some(labels) = labels {
        check(logits, classes, labels)?;
        return Ok(labelled(&Softmax::new(logits, classes, labels), labels));
    }
    let samples = logits.len() / classes.max(1);
    check_shape("logits", logits, classes, "class", samples, "samples")?;
    check_finite("logits", logits, classes)?;
    let of_row = |(i, row): (usize, &[f32])| {
        let predicted = argmax(row);
        let largest = f64::from(row[predicted]);
        let sum: f64 = row.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
        Prediction { sample: i as u64, label: None, predicted: predicted as u32, confidence: 1.0 / sum, loss: None }
    };
    Ok(logits.chunks_exact(classes).enumerate().map(of_row).collect())
}

/// The `count` wrongly classified samples of largest loss, the largest first; fewer if fewer are wrong.
///
/// # Errors
/// As for [`predictions`].
pub fn worst_mistakes(logits: &[f32], classes: usize, labels: &[u32], count: usize) -> Result<Vec<Prediction>> {
    check(logits, classes, labels)?;
    let mut wrong = labelled(&Softmax::new(logits, classes, labels), labels);
    wrong.retain(|p| p.label != Some(p.predicted));
    wrong.sort_by(|a, b| b.loss.unwrap_or(0.0).total_cmp(&a.loss.unwrap_or(0.0)));
    wrong.truncate(count);
    Ok(wrong)
}

fn labelled(softmax: &Softmax, labels: &[u32]) -> Vec<Prediction> {
    let of_sample = |(i, label): (usize, &u32)| Prediction {
        sample: i as u64,
        label: Some(*label),
        predicted: softmax.predicted[i],
        confidence: softmax.confidence[i],
        loss: Some(softmax.loss[i]),
    };
    labels.iter().enumerate().map(of_sample).collect()
}
