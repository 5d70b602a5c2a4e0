//! From the nodes of a plan to layers that are ready to run: neighbours that one pass can do become one layer.

use std::sync::Arc;

use dlopt_kernels::compressed::{Maps, Product, RecurrentProduct};
use dlopt_kernels::nn::{ConvShape, Convolution, PoolShape, Recurrent, RecurrentShape};

use super::activation::ActivationLayer;
use super::batch_norm::BatchNormLayer;
use super::convolution::ConvolutionLayer;
use super::dense::DenseLayer;
use super::dropout::DropoutLayer;
use super::embedding::EmbeddingLayer;
use super::held::{Held, HeldLayer};
use super::held_convolution::HeldConvolutionLayer;
use super::held_dense::HeldDenseLayer;
use super::held_recurrent::HeldRecurrentLayer;
use super::layer::Layer;
use super::layer_norm::LayerNormLayer;
use super::magnitude::MagnitudeLayer;
use super::pad::PadLayer;
use super::pool::PoolLayer;
use super::recurrent::{RecurrentLayer, Way};
use super::residual::ResidualLayer;
use super::seq2seq::Seq2seqLayer;
use crate::layout::{FlatLayout, NodeSlots, cell};
use crate::plan::{Activation, Direction, Node, Op, PoolKind, Shape};

/// The layers of a plan; `is_frozen` has an entry for every node in the layout's order. No layer does the work of a node
/// that is a tap and of the one behind it; returns also which layer puts out what each tap does.
pub(crate) fn layers(
    nodes: &[Node],
    layout: &FlatLayout,
    is_frozen: &[bool],
    taps: &[usize],
    held: &Held,
) -> (Vec<Box<dyn Layer>>, Vec<usize>) {
    let mut walk = Walk { slots: &layout.nodes, is_frozen, held, next: 0, dropouts: 0 };
    let (mut layers, mut ends) = (Vec::new(), vec![0; taps.len()]);
    let mut begin = 0;
    let mut cuts: Vec<usize> = taps.iter().map(|tap| tap + 1).chain([nodes.len()]).collect();
    cuts.sort_unstable();
    for end in cuts {
        layers.extend(walk.chain(&nodes[begin..end]));
        begin = end;
        for (tap, own) in taps.iter().zip(&mut ends) {
            if tap + 1 == end {
                *own = layers.len().saturating_sub(1);
            }
        }
    }
    (layers, ends)
}

/// Goes through nodes in the layout's order.
struct Walk<'a> {
    slots: &'a [NodeSlots],
    is_frozen: &'a [bool],
    held: &'a Held,
    next: usize,
    dropouts: u64,
}

impl Walk<'_> {
    fn chain(&mut self, nodes: &[Node]) -> Vec<Box<dyn Layer>> {
        let mut layers: Vec<Box<dyn Layer>> = Vec::with_capacity(nodes.len());
        let mut rest = nodes;
        while let Some((node, behind)) = rest.split_first() {
            let (relu, pools) = behind_convolution(behind);
            let (layer, used): (Box<dyn Layer>, usize) = match (&node.op, self.held.get(self.next)) {
                (Op::Convolution { .. }, Some(HeldLayer::Convolution(weight))) => {
                    (self.held_convolution(node, weight), usize::from(relu) + usize::from(pools))
                }
                (Op::Dense, Some(HeldLayer::Dense { weight, by_channels })) => {
                    (self.held_dense(weight, *by_channels, relu), usize::from(relu))
                }
                (Op::Recurrent { .. }, Some(HeldLayer::Recurrent(ways))) => (self.held_recurrent(node, ways), 0),
                (Op::Convolution { .. }, _) => {
                    (Box::new(self.convolution(node, relu, pools)), usize::from(relu) + usize::from(pools))
                }
                (Op::Dense, _) => (Box::new(self.dense(node, relu)), usize::from(relu)),
                (Op::BatchNorm { .. }, _) => (Box::new(self.batch_norm(node, relu)), usize::from(relu)),
                (Op::Residual { body, shortcut }, _) => {
                    (Box::new(self.residual(body, shortcut, relu)), usize::from(relu))
                }
                // Rows, columns and channels lie as the next layer wants them: nothing to do.
                (Op::Flatten { .. }, _) => {
                    self.take();
                    rest = behind;
                    continue;
                }
                _ => (self.single(node), 0),
            };
            layers.push(layer);
            for _ in 0..used {
                self.take();
            }
            rest = &behind[used..];
        }
        layers
    }

    /// The slots of the next node, and whether it is frozen.
    fn take(&mut self) -> (&NodeSlots, bool) {
        let at = self.next;
        self.next += 1;
        (&self.slots[at], self.is_frozen.get(at).copied().unwrap_or(false))
    }

    fn held_dense(&mut self, weight: &Arc<dyn Product>, by_channels: Option<[usize; 3]>, relu: bool) -> Box<dyn Layer> {
        let (slots, _) = self.take();
        Box::new(HeldDenseLayer { weight: Arc::clone(weight), bias: slots.trained.get(1).cloned(), relu, by_channels })
    }

    fn held_convolution(&mut self, node: &Node, weight: &Arc<dyn Maps>) -> Box<dyn Layer> {
        let (slots, _) = self.take();
        let bias = slots.trained.get(1).cloned();
        Box::new(HeldConvolutionLayer { weight: Arc::clone(weight), bias, over_series: over_series(node) })
    }

    fn held_recurrent(&mut self, node: &Node, ways: &[[Arc<dyn Product>; 2]]) -> Box<dyn Layer> {
        let (slots, _) = self.take();
        let (shape, returns_sequence) = recurrent(node);
        let each = ways.iter().zip(slots.trained.chunks_exact(2)).enumerate();
        let ways = each.map(|(way, ([input, state], slots))| {
            let (input, state) = (Arc::clone(input), Arc::clone(state));
            (RecurrentProduct::new(shape, way == 1, returns_sequence, input, state), slots[1].clone())
        });
        Box::new(HeldRecurrentLayer::new(ways.collect(), returns_sequence))
    }

    fn convolution(&mut self, node: &Node, relu: bool, pools: bool) -> ConvolutionLayer {
        let (slots, is_frozen) = self.take();
        let kernel = Convolution::new(conv_shape(node), relu, pools);
        let (weight, bias) = (slots.trained[0].clone(), slots.trained.get(1).cloned());
        ConvolutionLayer::new(kernel, pools, weight, bias, !is_frozen, over_series(node))
    }

    fn dense(&mut self, node: &Node, relu: bool) -> DenseLayer {
        let (slots, is_frozen) = self.take();
        let extents = [node.input.features(), node.output.features()];
        DenseLayer::new(extents, relu, slots.trained[0].clone(), slots.trained.get(1).cloned(), !is_frozen)
    }

    fn batch_norm(&mut self, node: &Node, relu: bool) -> BatchNormLayer {
        let Op::BatchNorm { epsilon, momentum } = node.op else { unreachable!("called for batch norms") };
        let (slots, is_frozen) = self.take();
        let channels = node.input.features();
        BatchNormLayer {
            channels,
            rows: node.input.len() / channels.max(1),
            epsilon,
            momentum,
            relu,
            scale: slots.trained[0].clone(),
            shift: slots.trained[1].clone(),
            running_mean: slots.buffers[0].clone(),
            running_variance: slots.buffers[1].clone(),
            is_frozen,
            kept: None,
        }
    }

    fn residual(&mut self, body: &[Node], shortcut: &[Node], relu: bool) -> ResidualLayer {
        self.take();
        let (body, tail) = match body.split_last() {
            Some((last, before)) if matches!(last.op, Op::BatchNorm { .. }) => {
                let body = self.chain(before);
                (body, Some(self.batch_norm(last, relu)))
            }
            _ => (self.chain(body), None),
        };
        ResidualLayer { body, tail, shortcut: self.chain(shortcut), relu, kept: None }
    }

    fn single(&mut self, node: &Node) -> Box<dyn Layer> {
        let number = self.dropouts + 1;
        // An encoder and decoder drops values in three places.
        self.dropouts += if matches!(node.op, Op::Seq2seq(_)) { 3 } else { 1 };
        let (slots, is_frozen) = self.take();
        let features = node.input.features();
        match &node.op {
            Op::Pool { kind, kernel, stride, padding } => {
                let [height, width, channels] = picture(&node.input);
                let (kernel, stride, padding) = (*kernel, *stride, *padding);
                let shape = PoolShape { height, width, channels, kernel, stride, padding };
                Box::new(PoolLayer::new(*kind, shape, over_series(node)))
            }
            Op::LayerNorm { epsilon } => Box::new(LayerNormLayer {
                features,
                epsilon: *epsilon,
                scale: slots.trained[0].clone(),
                shift: slots.trained[1].clone(),
                is_trained: !is_frozen,
                kept: None,
            }),
            Op::Dropout { rate } => Box::new(DropoutLayer { rate: *rate, number, seed: 0 }),
            Op::Activation(activation) => Box::new(ActivationLayer::new(*activation, features)),
            Op::Embedding { .. } => Box::new(EmbeddingLayer {
                size: node.output.features(),
                table: slots.trained[0].clone(),
                is_trained: !is_frozen,
                kept: None,
            }),
            Op::Recurrent { direction, .. } => {
                let (shape, returns_sequence) = recurrent(node);
                let reversed: &[bool] = if *direction == Direction::Both { &[false, true] } else { &[false] };
                let ways = reversed.iter().zip(slots.trained.chunks_exact(2)).map(|(&is_reversed, slots)| {
                    let kernel = Recurrent::new(shape, is_reversed, returns_sequence);
                    Way::new(kernel, slots[0].clone(), slots[1].clone())
                });
                Box::new(RecurrentLayer::new(shape, ways.collect(), returns_sequence, !is_frozen))
            }
            Op::Pad { kind, before, after } => {
                let time = node.input.len() / features.max(1);
                Box::new(PadLayer { kind: *kind, before: *before, after: *after, time, features, kept: None })
            }
            Op::Magnitude => Box::new(MagnitudeLayer { features, kept: None }),
            Op::Seq2seq(plan) => Box::new(Seq2seqLayer::new(plan, &slots.trained, number, !is_frozen)),
            Op::Convolution { .. } | Op::Dense | Op::BatchNorm { .. } | Op::Residual { .. } | Op::Flatten { .. } => {
                unreachable!("`chain` builds these")
            }
        }
    }
}

/// The node, if it goes over a series.
fn over_series(node: &Node) -> Option<Node> {
    matches!(node.input, Shape::Series { .. }).then(|| node.clone())
}

/// Whether a ReLU stands behind a convolution, and a small max pool behind that: the convolution does them in passing.
pub(crate) fn behind_convolution(behind: &[Node]) -> (bool, bool) {
    let relu = is_relu(behind.first());
    (relu, relu && is_small_max_pool(behind.get(1)))
}

/// What the kernels call the sizes of a convolution.
///
/// # Panics
/// When the node is none.
pub(crate) fn conv_shape(node: &Node) -> ConvShape {
    let Op::Convolution { kernel, stride, dilation, padding, groups } = node.op else {
        unreachable!("called for convolutions")
    };
    let [height, width, inputs] = picture(&node.input);
    ConvShape { height, width, inputs, outputs: node.output.features(), kernel, stride, dilation, padding, groups }
}

/// What the kernels call the sizes of a recurrent layer, and whether all its steps come out.
///
/// # Panics
/// When the node is none.
pub(crate) fn recurrent(node: &Node) -> (RecurrentShape, bool) {
    let Op::Recurrent { kind, hidden, returns_sequence, .. } = node.op else {
        unreachable!("called for recurrent layers")
    };
    let inputs = node.input.features();
    let time = node.input.len() / inputs.max(1);
    (RecurrentShape { cell: cell(kind), time, inputs, hidden }, returns_sequence)
}

fn is_relu(node: Option<&Node>) -> bool {
    node.is_some_and(|n| n.op == Op::Activation(Activation::Relu))
}

/// The pool that a convolution does in passing.
fn is_small_max_pool(node: Option<&Node>) -> bool {
    let small = Op::Pool { kind: PoolKind::Max, kernel: [2, 2], stride: [2, 2], padding: [0; 4] };
    node.is_some_and(|n| n.op == small)
}

/// Height, width and channels; a series is a picture one row high.
fn picture(shape: &Shape) -> [usize; 3] {
    match *shape {
        Shape::Image { height, width, channels } => [height, width, channels],
        Shape::Series { time, features } => [1, time, features],
        Shape::Vector { features } => [1, 1, features],
        Shape::Tokens { time } => [1, time, 1],
    }
}
