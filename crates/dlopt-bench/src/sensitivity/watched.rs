//! Measured sensitivity: the network is run with one tensor changed, and compared with itself.
//!
//! Damage is the mean over samples (tokens, where those are learned) of `KL(p || p')`, in nats, with `p` what the network
//! says and `p'` what it says with the change; for outputs that are numbers the mean squared difference. Unlike the loss it
//! is never below 0, and needs fewer samples: it has no noise of labels.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{Checkpoint, Result};
use dlopt_data::{Dataset, Learns};
use dlopt_kernels::nn::Team;
use dlopt_metrics::{likeness, point_scores};
use dlopt_train::{run_over, sample_tokens};
use serde::{Deserialize, Serialize};

use super::subject::Subject;
use super::{Judge, Judgement};

/// Samples that run together.
const BATCH: usize = 250;

/// What a network is worth on the samples it is watched on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Mean cross-entropy in nats, of a sample or a token; the mean squared error where outputs are numbers.
    pub loss: f64,
    /// Share of samples, or tokens, that are right; nothing where outputs are numbers.
    pub accuracy: Option<f64>,
    /// What the network says compared with what the unchanged one says: mean KL divergence in nats, or mean squared
    /// difference of numbers.
    pub divergence: f64,
}

/// A network that is watched while its tensors change.
pub struct Watched {
    subject: Subject,
    /// What the unchanged network says, `[rows, outputs]`.
    own: Vec<f32>,
    /// What it is worth.
    baseline: Quality,
    stop: Arc<AtomicBool>,
}

impl Watched {
    /// Loads the network of a checkpoint and runs it on the first `most` samples of a split.
    ///
    /// # Errors
    /// When the network does not fit the data, or there is no such split.
    pub fn open(
        checkpoint: &Checkpoint,
        dataset: Dataset,
        split: &str,
        most: usize,
        team: &Arc<Team>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        let subject = Subject::open(checkpoint, dataset, split, most, team)?;
        let nothing = Quality { loss: 0.0, accuracy: None, divergence: 0.0 };
        let mut watched = Self { subject, own: Vec::new(), baseline: nothing, stop };
        let params = watched.subject.loaded.params.clone();
        let (quality, own) = watched.run(&params)?;
        (watched.baseline, watched.own) = (quality, own);
        Ok(watched)
    }

    /// What the unchanged network is worth.
    pub fn baseline(&self) -> Quality {
        self.baseline
    }

    /// How many samples it is watched on.
    pub fn samples(&self) -> usize {
        self.subject.samples.len()
    }

    /// What the network is worth when tensors of the checkpoint have other values: by name, in the order of the file.
    ///
    /// # Errors
    /// When the network does not have a tensor, or is stopped.
    pub fn quality(&mut self, changed: &[(&str, &[f32])]) -> Result<Quality> {
        let params = self.subject.with(changed)?;
        Ok(self.run(&params)?.0)
    }

    fn run(&mut self, params: &[f32]) -> Result<(Quality, Vec<f32>)> {
        let Subject { loaded, engine, dataset, samples, .. } = &mut self.subject;
        let mut buffers = loaded.buffers.clone();
        let learns_tokens = dataset.info().learns != Learns::Sample;
        let (mut outputs, mut nats, mut right, mut rows) = (Vec::new(), 0.0, 0, 0);
        let width = loaded.config.outputs;
        run_over(engine, dataset, samples.clone(), BATCH, (params, &mut buffers), &self.stop, |batch, said| {
            if !learns_tokens {
                outputs.extend_from_slice(said);
                return Ok(());
            }
            // Steps behind the end of a sequence say nothing.
            let steps = said.len() / width / batch.indices.len().max(1);
            for (sample, length) in batch.sequence_lengths.iter().enumerate() {
                let first = sample * steps * width;
                outputs.extend_from_slice(&said[first..first + *length as usize * width]);
            }
            for sample in sample_tokens(said, batch) {
                nats += sample.nats;
                right += sample.right;
                rows += sample.tokens;
            }
            Ok(())
        })?;
        let (loss, accuracy) = if learns_tokens {
            let rows = rows.max(1) as f64;
            (nats / rows, Some(right as f64 / rows))
        } else if let Some(targets) = dataset.targets() {
            (mean_square(&outputs, &targets[samples.start * width..samples.end * width]), None)
        } else {
            let scores = point_scores(&outputs, width, &dataset.labels()[samples.clone()])?;
            (scores.loss, Some(scores.accuracy))
        };
        let divergence = match accuracy {
            _ if self.own.is_empty() => 0.0,
            Some(_) => likeness(&self.own, &outputs, width).map_or(0.0, |alike| alike.divergence),
            None => mean_square(&self.own, &outputs),
        };
        Ok((Quality { loss, accuracy, divergence }, outputs))
    }
}

fn mean_square(first: &[f32], second: &[f32]) -> f64 {
    let sum: f64 = first.iter().zip(second).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    sum / first.len().max(1) as f64
}

impl Judge for Watched {
    fn name(&self) -> &'static str {
        "measured"
    }

    fn judge(&mut self, name: &str, values: &[f32]) -> Result<Judgement> {
        let quality = self.quality(&[(name, values)])?;
        Ok(Judgement { damage: quality.divergence, quality: Some(quality) })
    }
}
