//! Running statistics of batch norms, estimated anew: what channels that left, or weights that changed, made of them.
//!
//! Every statistic is the mean of those of the batches, each of equal weight, as in PyTorch's `update_bn` (Izmailov et al.,
//! 2018, arXiv:1803.05407, section 3.3); nothing is dropped meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Batch;
use dlopt_model::{Loaded, Mode, NamedTensor, Node, Op};

use crate::engine::Engine;
use crate::salience::Looking;

/// The running statistics that batches of data give a network, as a checkpoint holds them; none where it has no batch norm.
///
/// # Errors
/// When the data do not fit, or cannot be read; or `stop` was set.
pub fn statistics(loaded: &Loaded, looking: &Looking<'_>) -> Result<Vec<NamedTensor>> {
    if loaded.buffers.is_empty() {
        return Ok(Vec::new());
    }
    let mut nodes = loaded.nodes.clone();
    take_batches_whole(&mut nodes);
    let mut engine = Engine::new("cpu", &nodes, &loaded.layout, &[], Arc::clone(looking.team))?;
    engine.load(&loaded.params, true)?;
    let mut sums = vec![0.0_f64; loaded.buffers.len()];
    let mut batch = Batch::default();
    let samples = looking.samples()?;
    // A last batch that is smaller would count as much as the others.
    let size = looking.batches[1].min(samples.len());
    for indices in samples.chunks_exact(size) {
        if looking.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped while estimating statistics"));
        }
        looking.dataset.gather(indices, &mut batch)?;
        let mut buffers = loaded.buffers.clone();
        let outputs = engine.forward(&loaded.params, &mut buffers, &batch, Mode::Training { key: 0 })?;
        engine.recycle(outputs);
        sums.iter_mut().zip(&buffers).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let batches = samples.chunks_exact(size).len() as f64;
    let means: Vec<f32> = sums.into_iter().map(|sum| (sum / batches) as f32).collect();
    Ok(loaded.layout.buffers_to_checkpoint(&means))
}

/// Has every batch norm take a batch's statistics for its own, and drops nothing.
fn take_batches_whole(nodes: &mut [Node]) {
    for node in nodes {
        match &mut node.op {
            Op::BatchNorm { momentum, .. } => *momentum = 1.0,
            Op::Dropout { rate } => *rate = 0.0,
            Op::Residual { body, shortcut } => {
                take_batches_whole(body);
                take_batches_whole(shortcut);
            }
            _ => {}
        }
    }
}
