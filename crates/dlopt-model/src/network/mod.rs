//! A network on the CPU: one differentiable block from a batch to its outputs, with an explicit backward pass.
//!
//! Layers hold no weights. All trained values lie in one flat vector and all running statistics in another
//! ([`FlatLayout`]), so an optimiser, a mask, a gradient clip or an all-reduce is one pass over a slice, and any layer
//! can be run with other weights (averaged, fake-quantized) by handing in another slice.
//!
//! Inside a layer, work is cut into chunks of samples. Where sums over samples are stored (gradients of weights) the
//! size of a chunk decides the bytes, so it depends on shapes alone; forward passes may be cut as the threads like.

mod activation;
mod batch_norm;
pub(crate) mod build;
mod convolution;
mod dense;
mod dropout;
mod embedding;
#[cfg(test)]
mod golden_tests;
mod held;
mod held_convolution;
mod held_dense;
mod held_recurrent;
mod layer;
mod layer_norm;
mod magnitude;
mod pad;
mod pool;
mod recurrent;
mod residual;
mod seq2seq;
mod states;
mod taps;
mod values;

use std::sync::Arc;

use dlopt_checkpoint::Result;
use dlopt_kernels::nn::Team;

use crate::layout::FlatLayout;
use crate::plan::{Node, Shape};
use layer::{Backward, Forward, Layer, backward_with_taps};

pub use held::{Held, HeldLayer};
pub use layer::DecoderInputs;
pub use seq2seq::{Decoding, Hypothesis, Translator};
use states::Carried;
pub use states::States;
pub use taps::{Tap, tap_at, taps};
use values::{Memory, Values};

/// What a pass through the network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Statistics of the batch, dropout keyed by the number, and everything kept for [`Network::backward`].
    Training {
        /// Decides what is dropped; another one every step.
        key: u64,
    },
    /// Running statistics, nothing dropped, nothing kept.
    Inference,
}

/// Layers that are ready to run.
pub struct Network {
    layers: Vec<Box<dyn Layer>>,
    team: Arc<Team>,
    memory: Memory,
    nodes: Vec<Node>,
    input: Shape,
    output: Shape,
    /// Samples of the last training pass.
    seen: Option<usize>,
    /// The layers whose outputs are kept for [`Network::tapped`].
    taps: Vec<usize>,
    tapped: Vec<Values>,
}

impl Network {
    /// Builds the layers of a plan.
    ///
    /// `is_frozen` says for every node in the layout's order whether none of its values will change: gradients of its
    /// parameters are then not computed (they stay as they are in the vector handed to [`Network::backward`]), and a
    /// frozen batch norm uses its running statistics.
    pub fn new(nodes: &[Node], layout: &FlatLayout, is_frozen: &[bool], team: Arc<Team>) -> Self {
        Self::with_taps(nodes, layout, is_frozen, team, &[])
    }

    /// The same, with what some nodes put out kept after every pass: see [`Network::tapped`].
    ///
    /// # Panics
    /// When a tap is no node of the plan.
    pub fn with_taps(nodes: &[Node], layout: &FlatLayout, is_frozen: &[bool], team: Arc<Team>, taps: &[Tap]) -> Self {
        Self::build(nodes, layout, is_frozen, team, taps, &Held::default())
    }

    /// A network for inference, some of whose weights lie in `held` and not in the flat vector: `layout` is
    /// [`FlatLayout::without_weights`] of them.
    ///
    /// # Panics
    /// As [`Network::with_taps`]. Training passes panic.
    pub fn holding(nodes: &[Node], layout: &FlatLayout, held: &Held, team: Arc<Team>, taps: &[Tap]) -> Self {
        Self::build(nodes, layout, &[], team, taps, held)
    }

    fn build(
        nodes: &[Node],
        layout: &FlatLayout,
        is_frozen: &[bool],
        team: Arc<Team>,
        taps: &[Tap],
        held: &Held,
    ) -> Self {
        let places: Vec<usize> = taps.iter().map(|tap| tap.node).collect();
        let (layers, taps) = build::layers(nodes, layout, is_frozen, &places, held);
        let shape = |node: Option<&Node>, f: fn(&Node) -> Shape| node.map_or(Shape::Vector { features: 0 }, f);
        Self {
            layers,
            team,
            memory: Memory::default(),
            nodes: nodes.to_vec(),
            input: shape(nodes.first(), |n| n.input.clone()),
            output: shape(nodes.last(), |n| n.output.clone()),
            seen: None,
            taps,
            tapped: Vec::new(),
        }
    }

    /// What the taps put out in the last pass, in their order: `[samples, output of the node…]` each.
    pub fn tapped(&self) -> Vec<&[f32]> {
        self.tapped.iter().map(|values| values.as_slice()).collect()
    }

    /// The shape of a sample that goes in.
    pub fn input(&self) -> &Shape {
        &self.input
    }

    /// The shape of a sample that comes out.
    pub fn output(&self) -> &Shape {
        &self.output
    }

    /// Takes in weights: must be called after they changed and before the next pass. With `trains`, also what the
    /// backward pass needs of them.
    pub fn load(&mut self, weights: &[f32], trains: bool) {
        for layer in &mut self.layers {
            layer.load(&self.team, weights, trains);
        }
    }

    /// Runs a batch: `inputs` `[samples, input…]`, `lengths` the valid steps of each sample of a series. Training
    /// passes update the running statistics in `buffers`. Returns `[samples, output…]`.
    ///
    /// # Panics
    /// When `inputs` does not hold whole samples, or the weights are not those of the layout.
    pub fn forward(
        &mut self,
        weights: &[f32],
        buffers: &mut [f32],
        inputs: &[f32],
        lengths: Option<&[u32]>,
        mode: Mode,
    ) -> Vec<f32> {
        self.forward_taught(weights, buffers, inputs, lengths, None, mode)
    }

    /// The same for a network with a decoder, which reads `decoder`.
    ///
    /// # Panics
    /// As [`Self::forward`], and when there is a decoder and nothing for it to read.
    pub fn forward_taught(
        &mut self,
        weights: &[f32],
        buffers: &mut [f32],
        inputs: &[f32],
        lengths: Option<&[u32]>,
        decoder: Option<DecoderInputs<'_>>,
        mode: Mode,
    ) -> Vec<f32> {
        assert_eq!(inputs.len() % self.input.len().max(1), 0, "whole samples");
        let samples = inputs.len() / self.input.len().max(1);
        let out = self.pass(weights, buffers, samples, inputs, lengths, decoder, None, mode);
        if let Mode::Training { .. } = mode {
            self.seen = Some(samples);
        }
        out
    }

    /// States to begin with, zero, for `rows` series that [`Self::forward_with`] reads side by side and piece by piece.
    ///
    /// # Errors
    /// When a layer needs its series whole; it is named.
    pub fn states(&self, rows: usize) -> Result<States> {
        States::of(&self.nodes, rows, false)
    }

    /// A state to begin with, zero, for one series whose windows are the samples that [`Self::forward_with`] reads.
    ///
    /// # Errors
    /// When a recurrent layer reads from the end too, or sees more of a window than one step; it is named.
    pub fn stream(&self) -> Result<States> {
        States::of(&self.nodes, 1, true)
    }

    /// Reads on where `states` stand, in inference, and moves them to the last valid step of each series.
    ///
    /// With those of [`Self::states`], `inputs` is `[rows, steps, values of a step]` for any number of steps, more or fewer
    /// than samples have; as many come out. With those of [`Self::stream`], `inputs` is `[windows, input…]`.
    ///
    /// # Errors
    /// When `inputs` or `lengths` do not fit the states.
    ///
    /// # Panics
    /// When the states are another network's, or the weights are not those of the layout.
    pub fn forward_with(
        &mut self,
        weights: &[f32],
        buffers: &mut [f32],
        inputs: &[f32],
        lengths: Option<&[u32]>,
        states: &mut States,
    ) -> Result<Vec<f32>> {
        let samples = states.samples(&self.input, inputs.len(), lengths)?;
        let carried = Some(Carried::new(states));
        Ok(self.pass(weights, buffers, samples, inputs, lengths, None, carried, Mode::Inference))
    }

    #[allow(clippy::too_many_arguments, reason = "what a pass is of")]
    fn pass(
        &mut self,
        weights: &[f32],
        buffers: &mut [f32],
        samples: usize,
        inputs: &[f32],
        lengths: Option<&[u32]>,
        decoder: Option<DecoderInputs<'_>>,
        carried: Option<Carried<'_>>,
        mode: Mode,
    ) -> Vec<f32> {
        for values in self.tapped.drain(..) {
            self.memory.release(values);
        }
        let mut tapped: Vec<Option<Values>> = vec![None; self.taps.len()];
        let mut first = self.memory.take(inputs.len());
        first.copy_from_slice(inputs);
        let mut run = Forward {
            team: &self.team,
            memory: &mut self.memory,
            weights,
            buffers,
            samples,
            lengths: lengths.map(<[u32]>::to_vec),
            decoder,
            carried,
            mode,
        };
        let mut x: Values = Arc::new(first);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            x = layer.forward(&mut run, x);
            for (tap, own) in self.taps.iter().zip(&mut tapped) {
                if *tap == index {
                    *own = Some(Arc::clone(&x));
                }
            }
        }
        self.tapped = tapped.into_iter().flatten().collect();
        Arc::try_unwrap(x).unwrap_or_else(|shared| shared.to_vec())
    }

    /// Goes back through the last training pass: `gradient` of the outputs in, gradients of the weights *added to*
    /// `gradients`, and the gradient of the inputs out if it is wanted.
    ///
    /// # Panics
    /// When no training pass came before.
    pub fn backward(
        &mut self,
        weights: &[f32],
        gradient: Vec<f32>,
        gradients: &mut [f32],
        wants_input: bool,
    ) -> Option<Vec<f32>> {
        self.backward_from(weights, gradient, Vec::new(), gradients, wants_input)
    }

    /// The same with gradients of what the taps put out: one for each tap, or none at all.
    ///
    /// # Panics
    /// As [`Network::backward`].
    pub fn backward_from(
        &mut self,
        weights: &[f32],
        gradient: Vec<f32>,
        taps: Vec<Vec<f32>>,
        gradients: &mut [f32],
        wants_input: bool,
    ) -> Option<Vec<f32>> {
        let samples = self.seen.take().expect("a training pass comes before its backward pass");
        let taps: Vec<(usize, Vec<f32>)> = self.taps.iter().copied().zip(taps).collect();
        let mut run = Backward { team: &self.team, memory: &mut self.memory, weights, gradients, samples };
        let out = backward_with_taps(&mut self.layers, &mut run, gradient, wants_input, &taps);
        taps.into_iter().for_each(|(_, values)| self.memory.give(values));
        out
    }

    /// Gives a vector that [`Network::forward`] or [`Network::backward`] returned back for reuse.
    pub fn recycle(&mut self, values: Vec<f32>) {
        self.memory.give(values);
    }
}
