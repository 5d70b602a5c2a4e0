//! The coupling graph of a plan: which slices of which tensors belong to one channel.
//!
//! A walk over the plan carries the channel behind every feature of what flows between two layers. A layer that writes
//! features of its own (convolution, dense, embedding, recurrent) makes new channels; norms, pools and activations pass them
//! on; flattening repeats them; a residual block makes those of its body and its shortcut the same. Every axis of a
//! tensor along which features lie notes their channels. See [`dlopt_prune::Coupling`] for what comes out.

mod channels;

use std::collections::BTreeMap;

use dlopt_prune::{Coupling, Maker, Part};

use crate::plan::{FlattenOrder, Node, Op, Parameter, RecurrentKind, Role, Shape, Translation};
use channels::Channels;

/// The coupling graph of a plan; names are those of a checkpoint's tensors.
pub fn coupling(nodes: &[Node]) -> Coupling {
    traced(nodes).coupling
}

/// The coupling graph of a plan, and what flows between its nodes.
#[derive(Clone, Debug)]
pub struct Traced {
    /// The graph.
    pub coupling: Coupling,
    /// For every node, by its name, the group and the channel of each feature that comes out; nothing where no tensor has it.
    pub flows: BTreeMap<String, Vec<Option<[usize; 2]>>>,
}

/// The coupling graph of a plan with the channels behind the features of every node.
pub fn traced(nodes: &[Node]) -> Traced {
    let mut walk = Walk { channels: Channels::default(), flows: BTreeMap::new() };
    let count = nodes.first().map_or(0, |node| node.input.features());
    let inputs = walk.channels.make(count, Maker::Input);
    walk.channels.fix(&inputs, "it is what goes into the network");
    let outputs = walk.nodes(nodes, inputs);
    walk.channels.fix(&outputs, "it is what comes out of the network");
    let (coupling, roots) = walk.channels.groups();
    let places = |features: &Vec<usize>| walk.channels.places(&roots, features);
    let flows = walk.flows.iter().map(|(name, features)| (name.clone(), places(features))).collect();
    Traced { coupling, flows }
}

struct Walk {
    channels: Channels,
    /// The channels of the features that come out of every node.
    flows: BTreeMap<String, Vec<usize>>,
}

impl Walk {
    /// The channels of the features that come out, from those of the features that go in.
    fn nodes(&mut self, nodes: &[Node], inputs: Vec<usize>) -> Vec<usize> {
        nodes.iter().fold(inputs, |features, node| {
            let out = self.node(node, features);
            self.flows.insert(node.name.clone(), out.clone());
            out
        })
    }

    fn node(&mut self, node: &Node, features: Vec<usize>) -> Vec<usize> {
        let own = &node.parameters;
        match &node.op {
            Op::Convolution { groups, .. } => self.convolution(own, *groups, &features),
            Op::Pool { .. } | Op::Dropout { .. } | Op::Activation(_) | Op::Pad { .. } => features,
            Op::BatchNorm { .. } | Op::LayerNorm { .. } => {
                for parameter in own {
                    let part = if parameter.role == Role::Scale { Part::Scales } else { Part::Follows };
                    self.channels.lie_on(&parameter.name, 0, part, &features);
                }
                features
            }
            Op::Dense => self.dense(own, &features),
            Op::Flatten { order } => flattened(&node.input, *order, &features),
            Op::Embedding { .. } => self.table(&own[0]),
            Op::Recurrent { kind, hidden, .. } => {
                // Rows of a picture are steps: a step holds the channels of every column.
                let features = repeated(&features, node.input.features());
                let ends = own.chunks_exact(4);
                let out: Vec<usize> = ends.flat_map(|four| self.recurrent(four, *kind, *hidden, &features)).collect();
                let stack = own[0].name.rsplit_once('.').map_or("", |(stack, _)| stack);
                self.channels.count_by(stack, &out);
                out
            }
            Op::Seq2seq(plan) => self.translation(&node.name, own, plan),
            Op::Magnitude => {
                let (real, imaginary) = features.split_at(features.len() / 2);
                self.channels.join(real, imaginary);
                real.to_vec()
            }
            Op::Residual { body, shortcut } => {
                let long = self.nodes(body, features.clone());
                let short = self.nodes(shortcut, features);
                self.channels.join(&long, &short);
                long
            }
        }
    }

    fn convolution(&mut self, own: &[Parameter], groups: usize, features: &[usize]) -> Vec<usize> {
        let (weight, filters) = (&own[0], own[0].shape[0]);
        let out = if groups > 1 && groups == features.len() {
            // Each channel by itself: what comes out is what went in.
            features.iter().flat_map(|&channel| std::iter::repeat_n(channel, filters / groups)).collect()
        } else {
            self.channels.lie_in_runs(&weight.name, 1, Part::Reads, features, groups);
            self.channels.make(filters, Maker::Convolution)
        };
        let runs = if groups == features.len() { 1 } else { groups };
        self.channels.lie_in_runs(&weight.name, 0, Part::Writes, &out, runs);
        own[1..].iter().for_each(|bias| self.channels.lie_on(&bias.name, 0, Part::Follows, &out));
        out
    }

    fn dense(&mut self, own: &[Parameter], features: &[usize]) -> Vec<usize> {
        self.channels.lie_on(&own[0].name, 1, Part::Reads, features);
        let out = self.channels.make(own[0].shape[0], Maker::Dense);
        self.channels.lie_on(&own[0].name, 0, Part::Writes, &out);
        own[1..].iter().for_each(|bias| self.channels.lie_on(&bias.name, 0, Part::Follows, &out));
        out
    }

    fn table(&mut self, own: &Parameter) -> Vec<usize> {
        let out = self.channels.make(own.shape[1], Maker::Embedding);
        self.channels.lie_on(&own.name, 1, Part::Writes, &out);
        out
    }

    /// One direction: weight_ih, weight_hh, bias_ih, bias_hh.
    fn recurrent(&mut self, own: &[Parameter], kind: RecurrentKind, hidden: usize, features: &[usize]) -> Vec<usize> {
        let out = self.channels.make(hidden, Maker::Recurrent);
        let rows = repeated(&out, kind.gates() * hidden);
        for parameter in own {
            match parameter.role {
                Role::RecurrentInput => self.channels.lie_on(&parameter.name, 1, Part::Reads, features),
                Role::RecurrentHidden => self.channels.lie_on(&parameter.name, 1, Part::Reads, &out),
                _ => {}
            }
            let is_weight = matches!(parameter.role, Role::RecurrentInput | Role::RecurrentHidden);
            let part = if is_weight { Part::Writes } else { Part::Follows };
            self.channels.lie_on(&parameter.name, 0, part, &rows);
        }
        out
    }

    /// The encoder's table and recurrent four, the decoder's, attention's weight and bias if it has one, the last layer's.
    fn translation(&mut self, name: &str, own: &[Parameter], plan: &Translation) -> Vec<usize> {
        let mut side = |own: &[Parameter]| {
            let embedded = self.table(&own[0]);
            self.channels.count_by(&format!("{name} embeddings"), &embedded);
            self.recurrent(&own[1..5], plan.kind, plan.hidden, &embedded)
        };
        let (encoder, decoder) = (side(own), side(&own[5..]));
        // The encoder's last state is the decoder's first.
        self.channels.join(&encoder, &decoder);
        let last = &own[10..];
        match plan.has_attention {
            // It reads a sum of the encoder's states, and the decoder's state beside it; as many values come out.
            true => {
                self.channels.count_by(&format!("{name} states"), &encoder);
                let attended = self.dense(&last[..2], &[encoder, decoder].concat());
                self.channels.count_by(&format!("{name} states"), &attended);
                self.dense(&last[2..], &attended)
            }
            false => self.dense(last, &decoder),
        }
    }
}

/// `features` over and over, `len` in all.
fn repeated(features: &[usize], len: usize) -> Vec<usize> {
    features.iter().copied().cycle().take(len).collect()
}

/// The channels of a picture's or series' values, in the order in which the next stored weight expects them.
fn flattened(input: &Shape, order: FlattenOrder, features: &[usize]) -> Vec<usize> {
    let places = input.len() / features.len().max(1);
    match order {
        FlattenOrder::ChannelsLast => repeated(features, input.len()),
        FlattenOrder::ChannelsFirst => {
            features.iter().flat_map(|&channel| std::iter::repeat_n(channel, places)).collect()
        }
    }
}

#[cfg(test)]
mod tests;
