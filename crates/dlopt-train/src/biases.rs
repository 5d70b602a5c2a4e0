//! Biases, estimated anew: what a layer puts out gets the mean back that it had before channels left.
//!
//! ```text
//! b[k] <- b[k] + mean of y[k] in the whole network - mean of y[k] in what is left of it
//! ```
//! with `y` what a convolution or dense layer puts out before its activation, over samples and places. Layers are gone through
//! from the first to the last, each with those before it as they are by then. It is the bias correction of Nagel et al.,
//! 2019, arXiv:1906.04721, section 4.2, for weights that left in place of weights that were rounded. Layers with a norm
//! behind them have their means from its statistics, and layers within residual blocks are left alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Batch;
use dlopt_model::{Loaded, Mode, NamedTensor, Node, Op, Role, Tap, tap_at};

use crate::engine::Engine;
use crate::salience::Looking;

/// The biases of `left`, of which `kept` says for each tensor which entries of the whole one it has; nothing where all. Only
/// those that change.
///
/// # Errors
/// When the data do not fit, or cannot be read; or `stop` was set.
pub fn biases(
    whole: &Loaded,
    left: &Loaded,
    kept: impl Fn(&str) -> Option<Vec<usize>>,
    looking: &Looking<'_>,
) -> Result<Vec<NamedTensor>> {
    // Channels leave, layers do not: both have the same chain.
    let places: Vec<usize> = (0..left.nodes.len()).filter(|&at| bias_of(&left.nodes, at).is_some()).collect();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = means(whole, &whole.params, &places, looking)?;
    let mut params = left.params.clone();
    let mut found = Vec::new();
    for (&at, wanted) in places.iter().zip(&wanted) {
        let Some(name) = bias_of(&left.nodes, at) else { continue };
        let Some(tensor) = left.layout.tensors().iter().find(|tensor| tensor.name == name) else { continue };
        let own = means(left, &params, &[at], looking)?;
        let kept = kept(name).unwrap_or_else(|| (0..wanted.len()).collect());
        let bias = &mut params[tensor.range.clone()];
        for ((bias, own), channel) in bias.iter_mut().zip(&own[0]).zip(kept) {
            *bias = (f64::from(*bias) + wanted[channel] - own) as f32;
        }
        if *bias != left.params[tensor.range.clone()] {
            found.push(NamedTensor { name: name.to_owned(), shape: tensor.shape.clone(), values: bias.to_vec() });
        }
    }
    Ok(found)
}

/// The bias of a node that has one, and no norm behind it.
fn bias_of(nodes: &[Node], at: usize) -> Option<&str> {
    let has_norm = matches!(nodes.get(at + 1).map(|node| &node.op), Some(Op::BatchNorm { .. } | Op::LayerNorm { .. }));
    let node = nodes.get(at).filter(|node| matches!(node.op, Op::Convolution { .. } | Op::Dense) && !has_norm)?;
    node.parameters.iter().find(|own| own.role == Role::Bias).map(|own| own.name.as_str())
}

/// The mean of each channel of what some nodes put out.
fn means(loaded: &Loaded, params: &[f32], places: &[usize], looking: &Looking<'_>) -> Result<Vec<Vec<f64>>> {
    let taps: Vec<Tap> = places.iter().filter_map(|&at| tap_at(&loaded.nodes, at)).collect();
    let mut engine = Engine::with_taps("cpu", &loaded.nodes, &loaded.layout, &[], Arc::clone(looking.team), &taps)?;
    engine.load(params, false)?;
    let channels = |at: &usize| loaded.nodes[*at].output.features();
    let mut sums: Vec<Vec<f64>> = places.iter().map(|at| vec![0.0; channels(at)]).collect();
    let mut counts = vec![0_usize; places.len()];
    let (mut batch, mut buffers) = (Batch::default(), loaded.buffers.clone());
    for indices in looking.samples()?.chunks(looking.batches[1]) {
        if looking.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped while estimating biases"));
        }
        looking.dataset.gather(indices, &mut batch)?;
        let outputs = engine.forward(params, &mut buffers, &batch, Mode::Inference)?;
        for ((sums, count), values) in sums.iter_mut().zip(&mut counts).zip(engine.tapped()) {
            for place in values.chunks_exact(sums.len().max(1)) {
                sums.iter_mut().zip(place).for_each(|(sum, value)| *sum += f64::from(*value));
                *count += 1;
            }
        }
        engine.recycle(outputs);
    }
    for (sums, count) in sums.iter_mut().zip(counts) {
        sums.iter_mut().for_each(|sum| *sum /= count.max(1) as f64);
    }
    Ok(sums)
}
