//! A network in inference mode that keeps what its answers cost.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dlopt_checkpoint::{Checkpoint, Result};
use dlopt_data::{Batch, Dataset};
use dlopt_kernels::nn::Team;
use dlopt_model::{Execution, Kernels, Mode, Prepared, Summary, Tap, prepare};
use dlopt_train::Engine;
use serde::Serialize;

/// Single samples that a latency is the median of.
const TIMED_SAMPLES: usize = 200;

/// Samples that usually run together while a student learns.
const USUAL_BATCH: usize = 64;

/// What a network costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Trained values.
    pub parameters: u64,
    /// Bytes of its tensors, as they are stored.
    pub bytes: u64,
    /// Multiply-adds of a sample.
    pub multiply_adds: u64,
    /// Median time of a sample by itself, in milliseconds.
    pub milliseconds: f64,
    /// Samples a second in batches, in the time of the network alone; 0 where it answered none.
    pub samples_per_second: f64,
}

/// A network that answers.
pub(crate) struct Network {
    pub(crate) prepared: Prepared,
    pub(crate) engine: Engine,
    /// Bytes of its tensors, as they are stored.
    bytes: u64,
    /// The samples that it answered so far, and how long that took.
    answered: usize,
    spent: Duration,
}

impl Network {
    /// A network of a checkpoint, run as it is stored, to be asked for `taps` too.
    pub(crate) fn new(checkpoint: &Checkpoint, device: &str, team: &Arc<Team>, taps: &[Tap]) -> Result<Self> {
        let on_kernels = device == "cpu";
        let execution = Execution {
            kernels: if on_kernels { Kernels::Auto } else { Kernels::Dense },
            batch: USUAL_BATCH,
            folds: on_kernels && taps.is_empty(),
            ..Execution::default()
        };
        let prepared = prepare(checkpoint, &execution, team)?;
        let loaded = &prepared.loaded;
        let mut engine = if on_kernels {
            Engine::holding(&prepared, Arc::clone(team), taps)
        } else {
            let is_frozen = vec![true; loaded.layout.nodes.len()];
            Engine::with_taps(device, &loaded.nodes, &loaded.layout, &is_frozen, Arc::clone(team), taps)?
        };
        engine.load(&loaded.params, false)?;
        Ok(Self { prepared, engine, bytes: checkpoint.header.data_bytes(), answered: 0, spent: Duration::ZERO })
    }

    /// Answers a batch; `take` has its outputs, and the engine with what the taps gave.
    pub(crate) fn answer(&mut self, batch: &Batch, take: impl FnOnce(&[f32], &Engine) -> Result<()>) -> Result<()> {
        let began = Instant::now();
        let loaded = &mut self.prepared.loaded;
        let outputs = self.engine.forward(&loaded.params, &mut loaded.buffers, batch, Mode::Inference)?;
        self.spent += began.elapsed();
        self.answered += batch.indices.len();
        take(&outputs, &self.engine)?;
        self.engine.recycle(outputs);
        Ok(())
    }

    /// What it costs: in batches, of those that it answered so far; by themselves, of the first of `samples`.
    pub(crate) fn cost(&mut self, dataset: &Dataset, samples: Range<usize>) -> Result<Cost> {
        let loaded = &mut self.prepared.loaded;
        let summary = Summary::of(&loaded.config, &loaded.config.resolve()?, 1, 0)?;
        let samples_per_second = self.answered as f64 / self.spent.as_secs_f64().max(1e-9);
        let mut batch = Batch::default();
        let mut seconds = Vec::new();
        for sample in samples.take(TIMED_SAMPLES) {
            dataset.gather(&[sample], &mut batch)?;
            let began = Instant::now();
            let outputs = self.engine.forward(&loaded.params, &mut loaded.buffers, &batch, Mode::Inference)?;
            seconds.push(began.elapsed().as_secs_f64());
            self.engine.recycle(outputs);
        }
        seconds.sort_by(f64::total_cmp);
        Ok(Cost {
            parameters: summary.parameters,
            bytes: self.bytes,
            multiply_adds: summary.multiply_adds,
            milliseconds: 1e3 * seconds.get(seconds.len() / 2).copied().unwrap_or_default(),
            samples_per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_network_counts_the_samples_that_it_answers_in_batches() {
        let (dir, dataset) = (tempfile::tempdir().unwrap(), testing::points());
        let checkpoint = testing::checkpoint(dir.path(), &testing::net(9), 1, &dataset);
        let mut network = Network::new(&checkpoint, "cpu", &Arc::new(Team::new(1)), &[]).unwrap();
        assert_eq!(network.cost(&dataset, 29..36).unwrap().samples_per_second, 0.0);
        let mut batch = Batch::default();
        for indices in [&[3, 1, 4][..], &[5, 9]] {
            dataset.gather(indices, &mut batch).unwrap();
            let check = |outputs: &[f32], _: &Engine| {
                assert_eq!(outputs.len(), 3 * indices.len());
                Ok(())
            };
            network.answer(&batch, check).unwrap();
        }
        // Single samples are timed apart.
        let cost = network.cost(&dataset, 29..36).unwrap();
        assert_eq!(network.answered, 5);
        assert_eq!((cost.parameters, cost.bytes), (3 * 9 + 9 + 9 * 3 + 3, checkpoint.header.data_bytes()));
        assert!(cost.samples_per_second > 0.0 && cost.milliseconds > 0.0, "{cost:?}");
    }
}
