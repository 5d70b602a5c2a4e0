//! What every weight scores with its gradient, and so every channel.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Batch;
use dlopt_model::{GivenImportance, Loaded, Mode, Node, Op, coupling};
use serde_json::Value;

use super::{Looking, loss_of};
use crate::engine::Engine;
use crate::loss::LossOptions;

/// The mean of `score` over batches of `batch` samples, for every weight.
pub(super) fn importance(
    criterion: &str,
    facts: Value,
    loaded: &Loaded,
    looking: &Looking<'_>,
    samples: &[usize],
    batch: usize,
    score: fn(f64, f64) -> f64,
) -> Result<GivenImportance> {
    let (mut nodes, mut is_frozen) = (loaded.nodes.clone(), Vec::new());
    settle(&mut nodes, &mut is_frozen);
    let mut engine = Engine::new("cpu", &nodes, &loaded.layout, &is_frozen, Arc::clone(looking.team))?;
    engine.load(&loaded.params, true)?;
    let loss = loss_of(loaded, looking.dataset);
    let mut buffers = loaded.buffers.clone();
    let mut scores = vec![0.0_f64; loaded.params.len()];
    let mut gradients = vec![0.0; loaded.params.len()];
    let mut own = Batch::default();
    for indices in samples.chunks(batch) {
        if looking.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped while looking at gradients"));
        }
        looking.dataset.gather(indices, &mut own)?;
        let outputs = engine.forward(&loaded.params, &mut buffers, &own, Mode::Training { key: 0 })?;
        let mut gradient = vec![0.0; outputs.len()];
        let options = LossOptions { class_weights: &[], label_smoothing: 0.0, scale: 1.0 / indices.len() as f32 };
        loss.evaluate(&options, &outputs, &own, &mut gradient);
        engine.recycle(outputs);
        gradients.fill(0.0);
        engine.backward(&loaded.params, gradient, Vec::new(), &mut gradients)?;
        for ((sum, gradient), weight) in scores.iter_mut().zip(&gradients).zip(&loaded.params) {
            *sum += score(f64::from(*gradient), f64::from(*weight));
        }
    }
    let batches = samples.chunks(batch).len() as f64;
    let means: Vec<f32> = scores.into_iter().map(|sum| (sum / batches) as f32).collect();
    let tensors = loaded.layout.params_to_checkpoint(&means);
    Ok(GivenImportance::of_weights(criterion, facts, &coupling(&loaded.nodes), &tensors))
}

/// Drops nothing, and has batch norms go by their running statistics: notes for every node whether it is frozen.
fn settle(nodes: &mut [Node], is_frozen: &mut Vec<bool>) {
    for node in nodes {
        is_frozen.push(matches!(node.op, Op::BatchNorm { .. }));
        match &mut node.op {
            Op::Dropout { rate } => *rate = 0.0,
            Op::Seq2seq(plan) => plan.dropout = 0.0,
            Op::Residual { body, shortcut } => {
                settle(body, is_frozen);
                settle(shortcut, is_frozen);
            }
            _ => {}
        }
    }
}
