//! What layers put out, channel by channel, those within residual blocks included.
//!
//! Each chain of nodes runs as a network of its own, with what comes out of some of its nodes kept; the chains of a residual
//! block run on what reached the block.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Batch;
use dlopt_kernels::nn::Team;
use dlopt_model::{
    FlatLayout, GivenImportance, Loaded, Mode, NamedTensor, Network, Node, Op, Shape, Tap, Traced, tap_at, traced,
};
use serde_json::Value;

use super::Looking;

/// The channel behind each feature of what comes out of a node.
type Flow = Vec<Option<[usize; 2]>>;

/// The mean of `score` over what comes out of the layers of every group: behind their activations where they have some.
pub(super) fn importance(
    criterion: &str,
    facts: Value,
    loaded: &Loaded,
    looking: &Looking<'_>,
    samples: &[usize],
    score: fn(f64) -> f64,
) -> Result<GivenImportance> {
    let traced = traced(&loaded.nodes);
    let stored = loaded.layout.to_checkpoint(&loaded.params, &loaded.buffers);
    let stored: HashMap<String, NamedTensor> = stored.into_iter().map(|own| (own.name.clone(), own)).collect();
    let mut chain = Chain::new(&loaded.nodes, &traced, &stored, looking.team)?;
    let channels = traced.coupling.groups.iter().map(|group| vec![(0.0, 0); group.channels]);
    // Behind activations, and behind anything else.
    let mut sums = Sums { score, found: [channels.clone().collect(), channels.collect()] };
    let mut batch = Batch::default();
    for indices in samples.chunks(looking.batches[1]) {
        if looking.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped while looking at activations"));
        }
        looking.dataset.gather(indices, &mut batch)?;
        chain.run(&batch.inputs, batch.lengths.as_deref(), &mut sums);
    }
    let mean = |own: &Vec<(f64, u64)>| {
        let is_seen = own.iter().all(|(_, count)| *count > 0);
        is_seen.then(|| own.iter().map(|(sum, count)| sum / *count as f64).collect::<Vec<_>>())
    };
    let [behind, other] = &sums.found;
    let groups = behind.iter().zip(other).map(|(behind, other)| mean(behind).or_else(|| mean(other))).collect();
    Ok(GivenImportance { criterion: criterion.to_owned(), facts, groups, tensors: None })
}

/// Scores so far: their sum and their number for every channel of every group.
struct Sums {
    score: fn(f64) -> f64,
    found: [Vec<Vec<(f64, u64)>>; 2],
}

impl Sums {
    /// Adds what came out of a node: `[samples, places, features]`, of which the first `steps` of a series count.
    fn add(&mut self, is_behind: bool, flow: &Flow, values: &[f32], places: usize, steps: Option<&[u32]>) {
        let found = &mut self.found[usize::from(!is_behind)];
        for (sample, own) in values.chunks_exact((places * flow.len()).max(1)).enumerate() {
            let valid = steps.map_or(places, |steps| (steps[sample] as usize).min(places));
            for place in own.chunks_exact(flow.len()).take(valid) {
                for (value, channel) in place.iter().zip(flow) {
                    let Some([group, channel]) = channel else { continue };
                    let (sum, count) = &mut found[*group][*channel];
                    *sum += (self.score)(f64::from(*value));
                    *count += 1;
                }
            }
        }
    }
}

/// A chain of nodes as a network of its own.
struct Chain {
    nodes: Vec<Node>,
    network: Network,
    params: Vec<f32>,
    buffers: Vec<f32>,
    /// Nodes whose values are kept.
    taps: Vec<usize>,
    /// Of those that are looked at: the node, the channels behind its features, and whether it is an activation.
    seen: Vec<(usize, Flow, bool)>,
    /// Chains within residual blocks, with the block's node.
    inner: Vec<(usize, Self)>,
}

impl Chain {
    fn new(nodes: &[Node], traced: &Traced, stored: &HashMap<String, NamedTensor>, team: &Arc<Team>) -> Result<Self> {
        let (mut seen, mut inner) = (Vec::new(), Vec::new());
        for (at, node) in nodes.iter().enumerate() {
            // What was flattened lies in memory in another order than in the checkpoint.
            let is_flat = at > 0 && matches!(nodes[at - 1].op, Op::Flatten { .. });
            let flow = traced.flows.get(&node.name).filter(|flow| flow.len() == node.output.features() && !is_flat);
            let is_activation = matches!(node.op, Op::Activation(_));
            let is_maker = matches!(
                node.op,
                Op::Convolution { .. } | Op::Dense | Op::Recurrent { .. } | Op::Embedding { .. } | Op::BatchNorm { .. }
            );
            if let Some(flow) = flow.filter(|_| is_activation || is_maker) {
                seen.push((at, flow.clone(), is_activation));
            }
            if let Op::Residual { body, shortcut } = &node.op {
                for chain in [body, shortcut].into_iter().filter(|chain| !chain.is_empty()) {
                    inner.push((at, Self::new(chain, traced, stored, team)?));
                }
            }
        }
        let mut taps: Vec<usize> = seen.iter().map(|(at, _, _)| *at).collect();
        taps.extend(inner.iter().filter_map(|(at, _)| at.checked_sub(1)));
        taps.sort_unstable();
        taps.dedup();
        let layout = FlatLayout::of(nodes);
        let values = |tensor: &dlopt_model::FlatTensor| Ok(stored[&tensor.name].values.clone());
        let (params, buffers) = layout.from_checkpoint(values)?;
        let places: Vec<Tap> = taps.iter().filter_map(|&at| tap_at(nodes, at)).collect();
        let mut network = Network::with_taps(nodes, &layout, &[], Arc::clone(team), &places);
        network.load(&params, false);
        Ok(Self { nodes: nodes.to_vec(), network, params, buffers, taps, seen, inner })
    }

    /// Runs the chain, and those within it, on a batch.
    fn run(&mut self, inputs: &[f32], lengths: Option<&[u32]>, sums: &mut Sums) {
        if self.nodes.iter().any(|node| matches!(node.op, Op::Seq2seq(_))) {
            return;
        }
        let outputs = self.network.forward(&self.params, &mut self.buffers, inputs, lengths, Mode::Inference);
        self.network.recycle(outputs);
        let tapped = self.network.tapped();
        let kept = |at: usize| self.taps.iter().position(|tap| *tap == at).map(|place| tapped[place]);
        let mut steps: Vec<Option<Vec<u32>>> = vec![lengths.map(<[u32]>::to_vec)];
        for node in &self.nodes {
            let last = steps.last().and_then(Option::as_ref);
            let is_series = matches!(node.output, Shape::Series { .. });
            let own = last.filter(|_| is_series).map(|lengths| node.steps_of(lengths));
            steps.push(own);
        }
        for (at, flow, is_activation) in &self.seen {
            let places = self.nodes[*at].output.len() / flow.len().max(1);
            let Some(values) = kept(*at) else { continue };
            sums.add(*is_activation, flow, values, places, steps[at + 1].as_deref());
        }
        for (at, chain) in &mut self.inner {
            let values = at.checked_sub(1).map_or(Some(inputs), kept);
            if let Some(values) = values {
                chain.run(values, steps[*at].as_deref(), sums);
            }
        }
    }
}
