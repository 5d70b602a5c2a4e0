//! A network, opened for the data and run over the split.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dlopt_checkpoint::{Checkpoint, Error, Progress, Result, TensorInfo};
use dlopt_data::{Batch, Changes, Dataset};
use dlopt_model::{Loaded, Prepared};
use dlopt_train::{Engine, open_fitting, run_over, run_over_changed};

use super::{Job, Metrics, ModelReport};
use crate::job;
use crate::progress::Bar;
use crate::verbs::kernels::engine;

/// A network that has been run over the split.
pub(super) struct Run {
    pub(super) name: String,
    bytes: u64,
    /// Those of the checkpoint, compressed or not.
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) prepared: Prepared,
    /// Samples a second of every run.
    rates: Vec<f64>,
}

/// A network, and the data as it reads them.
pub(super) struct Opened {
    checkpoint: Checkpoint,
    prepared: Prepared,
    pub(super) dataset: Arc<Dataset>,
}

impl Opened {
    /// Loads a network, and opens the data anew: two networks may have been trained on data prepared in two ways, and each
    /// gets its own numbers.
    pub(super) fn new(job: &Job<'_>, path: &Path) -> Result<Self> {
        let checkpoint = job::open_whole(path)?;
        let prepared = job.args.kernels.prepare(&checkpoint, job.args.batch, &job.args.device, &job.team)?;
        let loaded = &prepared.loaded;
        let dataset = open_fitting(loaded, &checkpoint.name, &job.args.data, job.args.use_own_preprocessing)?;
        Ok(Self { checkpoint, prepared, dataset: Arc::new(dataset) })
    }

    /// An engine with the weights.
    pub(super) fn engine(&self, job: &Job<'_>) -> Result<Engine> {
        engine(&self.prepared, &job.args.device, &job.team)
    }

    /// The network.
    pub(super) fn loaded(&self) -> &Loaded {
        &self.prepared.loaded
    }

    /// Gives every batch of the split and its outputs, in order.
    pub(super) fn each_batch(
        &self,
        job: &Job<'_>,
        engine: &mut Engine,
        each: impl FnMut(&Batch, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let mut buffers = self.loaded().buffers.clone();
        let values = (&self.loaded().params[..], &mut buffers[..]);
        run_over(engine, &self.dataset, job.samples.clone(), job.args.batch, values, job.stop, each)
    }

    /// Gives what is put out for every sample, changed on its way, `[samples, outputs]`.
    pub(super) fn outputs_changed(
        &self,
        job: &Job<'_>,
        engine: &mut Engine,
        changes: &dyn Changes,
        bar: &Bar,
    ) -> Result<Vec<f32>> {
        let mut buffers = self.loaded().buffers.clone();
        let values = (&self.loaded().params[..], &mut buffers[..]);
        let (samples, cut) = (job.samples.clone(), (job.args.batch, job.team.threads()));
        let mut all = Vec::with_capacity(samples.len() * self.loaded().config.outputs);
        run_over_changed(engine, &self.dataset, (samples, changes), cut, values, job.stop, |batch, outputs| {
            all.extend_from_slice(outputs);
            bar.advance(batch.indices.len() as u64);
            Ok(())
        })?;
        Ok(all)
    }

    /// Runs `once` as often as --repeat says; what the last run gave, and the samples a second of every run.
    pub(super) fn repeated<T>(&self, job: &Job<'_>, mut once: impl FnMut(&Self) -> Result<T>) -> Result<(T, Vec<f64>)> {
        let mut rates = Vec::with_capacity(job.args.repeat);
        let mut timed = || {
            let began = Instant::now();
            let found = once(self)?;
            rates.push(job.samples.len() as f64 / began.elapsed().as_secs_f64().max(1e-9));
            Ok::<T, Error>(found)
        };
        let mut last = timed()?;
        for _ in 1..job.args.repeat {
            last = timed()?;
        }
        Ok((last, rates))
    }

    /// What the checkpoint is called.
    pub(super) fn name(&self) -> &str {
        &self.checkpoint.name
    }

    /// The network that has been run, at so many samples a second.
    pub(super) fn into_run(self, rates: Vec<f64>) -> Run {
        let Self { checkpoint, prepared, .. } = self;
        let (bytes, tensors) = (checkpoint.header.data_bytes(), checkpoint.header.tensors);
        Run { name: checkpoint.name, bytes, tensors, prepared, rates }
    }
}

impl Run {
    /// The network.
    pub(super) fn loaded(&self) -> &Loaded {
        &self.prepared.loaded
    }

    /// What it is worth.
    pub(super) fn report(&self, metrics: Metrics) -> ModelReport {
        ModelReport {
            name: self.name.clone(),
            bytes: self.bytes,
            memory_bytes: self.prepared.bytes(),
            parameters: self.prepared.parameters,
            samples_per_second: median(&self.rates),
            samples_per_second_of_runs: self.rates.clone(),
            metrics,
            tta: None,
            corruption: None,
        }
    }
}

/// The middle one; of an even number the upper of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
