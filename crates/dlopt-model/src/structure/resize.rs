//! The description of a network whose tensors have become smaller: every size that a layer states is read off the shape of
//! the tensor that has it.

use std::collections::BTreeMap;

use crate::description::{Description, Layer, LayerType, Units};
use crate::plan::{Node, Op};

/// States the sizes that `shape` gives for tensors, in the layers of a description whose names are those of `nodes`.
pub(super) fn resize(description: &mut Description, nodes: &[Node], shape: &dyn Fn(&str, &[usize]) -> Vec<usize>) {
    let mut by_name = BTreeMap::new();
    collect(nodes, &mut by_name);
    Resizing { by_name, shape }.all(&mut description.layers);
}

fn collect<'n>(nodes: &'n [Node], found: &mut BTreeMap<&'n str, &'n Node>) {
    for node in nodes {
        found.insert(&node.name, node);
        if let Op::Residual { body, shortcut } = &node.op {
            collect(body, found);
            collect(shortcut, found);
        }
    }
}

struct Resizing<'a> {
    by_name: BTreeMap<&'a str, &'a Node>,
    /// The new shape of a tensor, from its name and its own.
    shape: &'a dyn Fn(&str, &[usize]) -> Vec<usize>,
}

impl Resizing<'_> {
    fn all(&self, layers: &mut [Layer]) {
        for layer in layers {
            let name = layer.name.clone().unwrap_or_default();
            self.one(&name, &mut layer.kind);
        }
    }

    fn one(&self, name: &str, kind: &mut LayerType) {
        match kind {
            LayerType::Conv2d(own) => self.filters(name, &mut own.filters, &mut own.groups),
            LayerType::Conv1d(own) => self.filters(name, &mut own.filters, &mut own.groups),
            LayerType::Dense(own) => self.units(name, &mut own.units),
            LayerType::Embedding(own) => own.size = self.extent(name, 0, 1).unwrap_or(own.size),
            LayerType::Rnn(own) | LayerType::Lstm(own) | LayerType::Gru(own) => {
                let first = if own.layers == 1 { name.to_owned() } else { format!("{name}.l0") };
                own.hidden = self.extent(&first, 1, 1).unwrap_or(own.hidden);
            }
            LayerType::Seq2seq(own) => {
                own.embedding = self.extent(name, 0, 1).unwrap_or(own.embedding);
                own.hidden = self.extent(name, 2, 1).unwrap_or(own.hidden);
            }
            LayerType::Residual(own) => {
                self.all(&mut own.body);
                self.all(&mut own.shortcut);
            }
            // Depthwise convolutions and all others follow what goes in.
            _ => {}
        }
    }

    fn filters(&self, name: &str, filters: &mut Units, groups: &mut usize) {
        let before = self.by_name.get(name).map_or(0, |node| node.parameters[0].shape[0]);
        self.units(name, filters);
        let is_depthwise = *groups > 1 && self.by_name.get(name).is_some_and(|node| node.input.features() == *groups);
        if let (Some(after), true) = (self.extent(name, 0, 0), is_depthwise) {
            *groups = after / (before / *groups);
        }
    }

    fn units(&self, name: &str, units: &mut Units) {
        if let (Units::Count(count), Some(after)) = (units, self.extent(name, 0, 0)) {
            *count = after;
        }
    }

    /// The new extent on an axis of a parameter of a node.
    fn extent(&self, node: &str, parameter: usize, axis: usize) -> Option<usize> {
        let own = self.by_name.get(node)?.parameters.get(parameter)?;
        (self.shape)(&own.name, &own.shape).get(axis).copied()
    }
}
