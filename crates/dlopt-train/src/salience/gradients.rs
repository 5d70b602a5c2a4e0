//! How the loss changes, to first order, with all weights together that take a channel in.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Batch;
use dlopt_model::{GivenImportance, JointChanges, Loaded, Mode, Node, Op, coupling};
use serde_json::Value;

use super::{Looking, loss_of};
use crate::engine::Engine;
use crate::loss::LossOptions;

/// `factor` times the mean square of the change over batches of `batch` samples, for every channel.
pub(super) fn importance(
    criterion: &str,
    facts: Value,
    loaded: &Loaded,
    looking: &Looking<'_>,
    samples: &[usize],
    batch: usize,
    factor: f64,
) -> Result<GivenImportance> {
    let (mut nodes, mut is_frozen) = (loaded.nodes.clone(), Vec::new());
    settle(&mut nodes, &mut is_frozen);
    let mut engine = Engine::new("cpu", &nodes, &loaded.layout, &is_frozen, Arc::clone(looking.team))?;
    engine.load(&loaded.params, true)?;
    let loss = loss_of(loaded, looking.dataset);
    let mut buffers = loaded.buffers.clone();
    let graph = coupling(&loaded.nodes);
    let mut changes = JointChanges::new(&graph);
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
        gradients.iter_mut().zip(&loaded.params).for_each(|(gradient, weight)| *gradient *= weight);
        changes.add(&loaded.layout.params_to_checkpoint(&gradients));
    }
    Ok(changes.importance(criterion, facts, factor))
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
