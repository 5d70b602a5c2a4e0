//! What a training is asked to do. All of it that changes a byte of the result is written into the checkpoint.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::loss::Loss;
use crate::optimizer::Optimizer;
use crate::pruning::Pruning;
use crate::schedule::Schedule;

/// Everything that decides the bytes of a trained checkpoint, beside the data and the first weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Times every sample of the training split is used.
    pub epochs: usize,
    /// Samples of one pass; the last batch of an epoch may be smaller.
    pub batch: usize,
    /// Passes whose gradients one update adds up.
    pub accumulate: usize,
    /// How weights follow gradients.
    pub optimizer: Optimizer,
    /// Step size before the schedule.
    pub learning_rate: f64,
    /// Decay of weights: a penalty on their squares, or apart from the gradient for AdamW (Loshchilov and Hutter, 2017).
    pub weight_decay: f64,
    /// Whether biases and norms decay as well.
    pub decays_all: bool,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Updates over which the learning rate rises to its value.
    pub warmup_steps: u64,
    /// What is made small.
    pub loss: Loss,
    /// Share of the probability that is spread over all classes.
    pub label_smoothing: f32,
    /// Weight of each class in the loss; empty for equal ones.
    pub class_weights: Vec<f32>,
    /// How much of what a decoder reads is what it said itself.
    #[serde(default)]
    pub sampling: Sampling,
    /// What is done to samples in every epoch, as recipes are kept; nothing when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<serde_json::Value>,
    /// Decides how samples are changed; the seed, when it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment_seed: Option<u64>,
    /// How many times samples are changed anew before the same ones come again; every epoch, when it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment_views: Option<u64>,
    /// Largest norm of all gradients together.
    pub clip_norm: Option<f64>,
    /// Largest magnitude of a single gradient.
    pub clip_value: Option<f32>,
    /// Decay of an average of the weights, which is what is evaluated and written.
    pub average: Option<f32>,
    /// Epochs without a lower validation loss before training stops.
    pub patience: Option<usize>,
    /// Whether the weights with the best validation loss are written, not the last ones.
    pub keeps_best: bool,
    /// How weights leave while training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruning: Option<Pruning>,
    /// Whether weights that are 0 in the beginning stay 0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_zeros: bool,
    /// SHA-256 of which weights stay 0, where another network says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// What is done to the weights that the network runs with, as the history has it of `quantize`; nothing when there is
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fake_quantize: Option<serde_json::Value>,
    /// Whose shared values are trained, as the history has it of `quantize`; nobody's when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_weights: Option<serde_json::Value>,
    /// Names of tensors that stay as they are; `*` crosses dots.
    pub freeze: Vec<String>,
    /// The split that is trained on, or several with `+` between them.
    pub training_split: String,
    /// Names of classes whose samples are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_classes: Vec<String>,
    /// The split that is watched.
    pub validation_split: Option<String>,
    /// Decides first weights, order, dropout.
    pub seed: u64,
    /// What a teacher adds: losses, teachers, samples without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<serde_json::Value>,
}

/// Scheduled sampling: a share of the tokens that a decoder reads while it is taught are those it said itself. The share
/// rises from 0 in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// The share in the end, 0..=1.
    pub share: f64,
    /// Part of the training after which it is reached, 0..=1.
    pub ramp: f64,
}

impl Sampling {
    /// Reads `SHARE` or `SHARE,RAMP`; the ramp is 0.5 where it is not said.
    ///
    /// # Errors
    /// When one is no number in 0..=1.
    pub fn parse(text: &str) -> Result<Self> {
        let (share, ramp) = text.split_once(',').unwrap_or((text, "0.5"));
        let read = |part: &str| part.trim().parse::<f64>().ok().filter(|value| (0.0..=1.0).contains(value));
        match (read(share), read(ramp)) {
            (Some(share), Some(ramp)) => Ok(Self { share, ramp }),
            _ => Err(Error::usage(format!("scheduled sampling `{text}` is not SHARE or SHARE,RAMP, each in 0..=1"))
                .hint("0.25,0.5 rises to a quarter over the first half of the training")),
        }
    }

    /// The share at update `step` of `steps`.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        let end = self.ramp * steps as f64;
        self.share * if end > 0.0 { (step as f64 / end).min(1.0) } else { 1.0 }
    }
}

impl Default for Settings {
    /// What `dlopt train` does when nothing is said.
    fn default() -> Self {
        let optimizer = Optimizer::default();
        Self {
            epochs: 10,
            batch: 32,
            accumulate: 1,
            optimizer,
            learning_rate: optimizer.default_learning_rate(),
            weight_decay: 0.0,
            decays_all: false,
            schedule: Schedule::default(),
            warmup_steps: 0,
            loss: Loss::default(),
            label_smoothing: 0.0,
            class_weights: Vec::new(),
            sampling: Sampling::default(),
            augment: None,
            augment_seed: None,
            augment_views: None,
            clip_norm: None,
            clip_value: None,
            average: None,
            patience: None,
            keeps_best: false,
            pruning: None,
            keeps_zeros: false,
            mask: None,
            fake_quantize: None,
            share_weights: None,
            freeze: Vec::new(),
            training_split: "train".to_owned(),
            without_classes: Vec::new(),
            validation_split: None,
            seed: 0,
            distillation: None,
        }
    }
}

impl Settings {
    /// Refuses values that no training can mean.
    ///
    /// # Errors
    /// When a number is out of its range, or one setting needs another.
    pub fn check(&self) -> Result<()> {
        let refuse = |is_wrong: bool, text: &str| if is_wrong { Err(Error::usage(text)) } else { Ok(()) };
        refuse(self.batch == 0, "--batch must be 1 or more")?;
        refuse(self.accumulate == 0, "--accumulate must be 1 or more")?;
        refuse(!(self.learning_rate.is_finite() && self.learning_rate >= 0.0), "--learning-rate must be 0 or more")?;
        refuse(!(self.weight_decay.is_finite() && self.weight_decay >= 0.0), "--weight-decay must be 0 or more")?;
        refuse(!(0.0..1.0).contains(&self.label_smoothing), "--label-smoothing must be in 0..1")?;
        refuse(self.clip_norm.is_some_and(|c| !(c.is_finite() && c > 0.0)), "--clip-norm must be more than 0")?;
        refuse(self.clip_value.is_some_and(|c| !(c.is_finite() && c > 0.0)), "--clip-value must be more than 0")?;
        refuse(self.average.is_some_and(|a| !(0.0..1.0).contains(&a)), "--average must be in 0..1")?;
        let is_share = |value: f64| (0.0..=1.0).contains(&value);
        let sampling = self.sampling;
        refuse(!(is_share(sampling.share) && is_share(sampling.ramp)), "--scheduled-sampling takes shares in 0..=1")?;
        let watches = self.patience.is_some() || self.keeps_best || matches!(self.schedule, Schedule::Plateau { .. });
        if watches && self.validation_split.is_none() {
            return Err(Error::usage("--patience, --keep-best and the schedule `plateau` watch a validation split")
                .hint(
                    "--validation NAME takes a split of the dataset; `dlopt prepare --split validation=0.1` makes one",
                ));
        }
        self.pruning.as_ref().map_or(Ok(()), |pruning| pruning.check(self.epochs))?;
        self.optimizer.check()
    }

    /// Which time samples are changed in an epoch; epochs of the same round see the same ones.
    pub fn round(&self, epoch: usize) -> u64 {
        match self.augment_views {
            Some(views) => epoch as u64 % views.max(1),
            None => epoch as u64,
        }
    }

    /// Samples of one update.
    pub fn samples_per_step(&self) -> usize {
        self.batch * self.accumulate
    }

    /// Updates of an epoch of `samples`.
    pub fn steps_per_epoch(&self, samples: usize) -> u64 {
        samples.div_ceil(self.samples_per_step()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_sampling_rises_in_a_line() {
        let sampling = Sampling::parse("0.5,0.4").unwrap();
        let shares: Vec<f64> = [0, 10, 20, 40, 90].map(|step| sampling.at(step, 100)).into();
        assert_eq!(shares, [0.0, 0.125, 0.25, 0.5, 0.5]);
        assert_eq!(Sampling::parse("0.3,0").unwrap().at(0, 10), 0.3);
        assert_eq!(Sampling::default().at(5, 10), 0.0);
        for text in ["", "2", "0.5,-1", "x,1", "NaN"] {
            assert!(Sampling::parse(text).unwrap_err().message().contains("SHARE,RAMP"));
        }
    }
}
