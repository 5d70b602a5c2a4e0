//! What a network says about a split.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_checkpoint::{Error, Result};
use dlopt_data::{Changes, Dataset, Loader, batches};
use dlopt_model::Mode;

use crate::engine::Engine;
use crate::loss::LossOptions;
use crate::right::Right;
use crate::settings::Settings;
use crate::trainer::{BATCHES_AHEAD, EVALUATION_BATCH};

/// Loss and accuracy on a split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    pub(crate) accuracy: Option<f64>,
}

/// Runs the network over samples in batches, in order, and calls `each` with every batch and its outputs.
///
/// # Errors
/// When a batch cannot be read or does not fit, `each` fails, or `stop` was set.
pub fn run_over(
    engine: &mut Engine,
    dataset: &Arc<Dataset>,
    samples: Range<usize>,
    batch: usize,
    (weights, buffers): (&[f32], &mut [f32]),
    stop: &AtomicBool,
    each: impl FnMut(&dlopt_data::Batch, &[f32]) -> Result<()>,
) -> Result<()> {
    let passes = batches(samples.collect(), batch);
    run_through(engine, Loader::new(Arc::clone(dataset), passes, 2), (weights, buffers), stop, each)
}

/// The same, over samples that are changed on their way, on as many threads as are asked for.
///
/// # Errors
/// As [`run_over`], or when a sample cannot be changed.
pub fn run_over_changed(
    engine: &mut Engine,
    dataset: &Arc<Dataset>,
    (samples, changes): (Range<usize>, &dyn Changes),
    (batch, threads): (usize, usize),
    values: (&[f32], &mut [f32]),
    stop: &AtomicBool,
    each: impl FnMut(&dlopt_data::Batch, &[f32]) -> Result<()>,
) -> Result<()> {
    let passes = batches(samples.collect(), batch).collect();
    let loader = Loader::changing(dataset, passes, BATCHES_AHEAD.max(2 * threads), changes, threads);
    run_through(engine, loader, values, stop, each)
}

fn run_through(
    engine: &mut Engine,
    mut loader: Loader,
    (weights, buffers): (&[f32], &mut [f32]),
    stop: &AtomicBool,
    mut each: impl FnMut(&dlopt_data::Batch, &[f32]) -> Result<()>,
) -> Result<()> {
    engine.load(weights, false)?;
    while let Some(batch) = loader.next() {
        let batch = batch?;
        let outputs = engine.forward(weights, buffers, &batch, Mode::Inference)?;
        each(&batch, &outputs)?;
        engine.recycle(outputs);
        loader.give_back(batch);
        if stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped while evaluating"));
        }
    }
    Ok(())
}

/// Mean loss, without smoothing and class weights, and accuracy.
pub(crate) fn look(
    engine: &mut Engine,
    settings: &Settings,
    dataset: &Arc<Dataset>,
    samples: Range<usize>,
    weights: &[f32],
    buffers: &mut [f32],
    stop: &AtomicBool,
) -> Result<Outcome> {
    let (mut loss, mut right) = (0.0, Right::default());
    let mut unused = Vec::new();
    run_over(engine, dataset, samples, EVALUATION_BATCH, (weights, buffers), stop, |batch, outputs| {
        unused.resize(outputs.len(), 0.0);
        let options = LossOptions { class_weights: &[], label_smoothing: 0.0, scale: 1.0 };
        loss += settings.loss.evaluate(&options, outputs, batch, &mut unused);
        right += if settings.loss.is_classification() {
            Right::of(outputs, batch)
        } else {
            Right { right: 0, of: batch.indices.len() as u64 }
        };
        Ok(())
    })?;
    let accuracy = settings.loss.is_classification().then(|| right.share());
    Ok(Outcome { loss: loss / right.of.max(1) as f64, accuracy })
}
