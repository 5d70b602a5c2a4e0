//! The diagonal of the empirical Fisher information: what a change costs, from gradients of single samples.
//!
//! ```text
//! F_i = mean over samples of (d -ln p(label | sample) / d w_i)^2,   damage = sum_i F_i (w_i - w'_i)^2 / 2
//! ```
//! in nats a sample: the second-order change of the loss where the network has learned what it can (LeCun, Denker and
//! Solla, Optimal brain damage, 1990; the empirical Fisher as its curvature: Kunstner et al., 2019, arXiv:1905.12558). One
//! backward pass a sample, and none for a change. For classifiers without batch norms, whose gradients of one sample are
//! not those of inference; dropout stays on.

use std::sync::Arc;

use dlopt_checkpoint::{Checkpoint, Error, Result};
use dlopt_data::{Batch, Dataset, Learns};
use dlopt_kernels::nn::{Team, softmax_cross_entropy};
use dlopt_model::{Mode, Node, Op};

use super::subject::Subject;
use super::{Judge, Judgement};

/// A network's weights and how much each matters.
pub struct Fisher {
    subject: Subject,
    /// One for each weight.
    information: Vec<f32>,
}

impl Fisher {
    /// Takes the gradients of the first `most` samples of a split.
    ///
    /// # Errors
    /// When the network does not fit the data, is no classifier of samples, or has batch norms.
    pub fn open(checkpoint: &Checkpoint, dataset: Dataset, split: &str, most: usize, team: &Arc<Team>) -> Result<Self> {
        if dataset.info().learns != Learns::Sample || dataset.targets().is_some() {
            return Err(Error::usage(format!("{}: the Fisher information is taken of classes alone", dataset.name()))
                .hint("--measure measured"));
        }
        let mut subject = Subject::open(checkpoint, dataset, split, most, team)?;
        if has_batch_norm(&subject.loaded.nodes) {
            return Err(Error::input(format!(
                "{}: has batch norms, and one sample has no statistics of a batch",
                checkpoint.name
            ))
            .hint("--measure measured"));
        }
        let information = information(&mut subject)?;
        Ok(Self { subject, information })
    }
}

fn has_batch_norm(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| match &node.op {
        Op::BatchNorm { .. } => true,
        Op::Residual { body, shortcut } => has_batch_norm(body) || has_batch_norm(shortcut),
        _ => false,
    })
}

fn information(subject: &mut Subject) -> Result<Vec<f32>> {
    let Subject { loaded, engine, dataset, samples, .. } = subject;
    let mut sums = vec![0.0f64; loaded.params.len()];
    let mut gradients = vec![0.0f32; loaded.params.len()];
    let mut buffers = loaded.buffers.clone();
    let mut batch = Batch::default();
    engine.load(&loaded.params, true)?;
    for sample in samples.clone() {
        dataset.gather(&[sample], &mut batch)?;
        let key = sample as u64;
        let outputs = engine.forward(&loaded.params, &mut buffers, &batch, Mode::Training { key })?;
        let mut gradient = vec![0.0; outputs.len()];
        softmax_cross_entropy(1, outputs.len(), &outputs, &batch.labels, None, 0.0, 1.0, &mut gradient);
        engine.recycle(outputs);
        gradients.fill(0.0);
        engine.backward(&loaded.params, gradient, Vec::new(), &mut gradients)?;
        sums.iter_mut().zip(&gradients).for_each(|(sum, g)| *sum += f64::from(*g) * f64::from(*g));
    }
    let count = samples.len().max(1) as f64;
    Ok(sums.into_iter().map(|sum| (sum / count) as f32).collect())
}

impl Judge for Fisher {
    fn name(&self) -> &'static str {
        "fisher"
    }

    fn judge(&mut self, name: &str, values: &[f32]) -> Result<Judgement> {
        let changed = self.subject.with(&[(name, values)])?;
        let each = self.subject.loaded.params.iter().zip(&changed).zip(&self.information);
        let damage = each.map(|((w, c), f)| f64::from(*f) * (f64::from(*w) - f64::from(*c)).powi(2) / 2.0).sum();
        Ok(Judgement { damage, quality: None })
    }
}
