//! What a network was and what it is without the channels or layers that left: layer by layer, group by group.

use std::collections::BTreeMap;
use std::fmt::Write;

use dlopt_prune::{Group, Part};
use serde::Serialize;

use super::network::{Costs, Prunable, Pruned};
use crate::plan::{Node, Op};

/// What left a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StructureReport {
    /// What the whole cost.
    pub before: Costs,
    /// What it costs now.
    pub after: Costs,
    /// Every layer with parameters.
    pub layers: Vec<LayerChange>,
    /// The coupling graph: channels that go together.
    pub groups: Vec<GroupChange>,
}

/// What became of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerChange {
    /// Its name before.
    pub layer: String,
    /// Features that came out.
    pub width_before: usize,
    /// Features that come out; 0 where it left.
    pub width_after: usize,
    /// What it cost.
    pub before: Costs,
    /// What it costs.
    pub after: Costs,
}

/// What became of channels that go together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupChange {
    /// The first tensor that writes them.
    pub group: String,
    /// How many there were.
    pub channels_before: usize,
    /// How many stay.
    pub channels_after: usize,
    /// Which stay, where some leave.
    pub kept: Option<Vec<usize>>,
    /// Why they all stay, where they must.
    pub fixed: Option<String>,
    /// Tensors that have a slice for each.
    pub members: Vec<MemberChange>,
}

/// A tensor that has a slice for each channel of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberChange {
    /// Its name.
    pub tensor: String,
    /// The axis that they lie on.
    pub axis: usize,
    /// Whether it `writes` or `reads` them, `scales` them, or `follows`.
    pub part: &'static str,
    /// Places that a channel has on the axis.
    pub per_channel: usize,
}

impl StructureReport {
    /// Compares a network with what is left of it; `kept` has the channels that stay of each group, where channels left.
    pub(super) fn new(structure: &Prunable, pruned: &Pruned, kept: Option<&[Vec<usize>]>) -> Self {
        let own = identity(structure);
        let mut after = BTreeMap::new();
        collect(&pruned.nodes, &mut |node| {
            // The node that the first tensor comes from, whatever it is called now.
            let first = node.parameters.first().and_then(|own| pruned.sources.get(&own.name));
            after.extend(first.map(|source| (source.clone(), node.clone())));
        });
        let mut layers = Vec::new();
        collect(&structure.nodes, &mut |node| {
            let Some(first) = node.parameters.first() else { return };
            let now = after.get(&first.name);
            layers.push(LayerChange {
                layer: node.name.clone(),
                width_before: node.output.features(),
                width_after: now.map_or(0, |node| node.output.features()),
                before: structure.of_node(node, &own),
                after: now.map(|node| structure.of_node(node, &pruned.sources)).unwrap_or_default(),
            });
        });
        let groups = structure.coupling.groups.iter().enumerate();
        Self {
            before: structure.costs(&structure.nodes, &own),
            after: structure.costs(&pruned.nodes, &pruned.sources),
            layers,
            groups: groups.map(|(at, group)| of_group(group, kept.map(|kept| kept[at].as_slice()))).collect(),
        }
    }

    /// The coupling graph as text: a line for each group, then one for each of its members.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        for group in &self.groups {
            let stays = match &group.fixed {
                Some(why) => format!("stay: {why}"),
                None => format!("-> {}", group.channels_after),
            };
            let _ = writeln!(text, "group {}: {} channels {stays}", group.group, group.channels_before);
            for member in &group.members {
                let MemberChange { tensor, axis, part, per_channel } = member;
                let places = if *per_channel == 1 { String::new() } else { format!(", {per_channel} places each") };
                let _ = writeln!(text, "  {part:<7}  {tensor}, axis {axis}{places}");
            }
        }
        text
    }
}

/// Every tensor is its own source.
pub(super) fn identity(structure: &Prunable) -> BTreeMap<String, String> {
    structure.names.iter().map(|name| (name.clone(), name.clone())).collect()
}

/// Calls `see` with every node, those within residual blocks included.
fn collect<'n>(nodes: &'n [Node], see: &mut dyn FnMut(&'n Node)) {
    for node in nodes {
        see(node);
        if let Op::Residual { body, shortcut } = &node.op {
            collect(body, see);
            collect(shortcut, see);
        }
    }
}

fn of_group(group: &Group, kept: Option<&[usize]>) -> GroupChange {
    let part = |part| match part {
        Part::Writes => "writes",
        Part::Reads => "reads",
        Part::Scales => "scales",
        Part::Follows => "follows",
    };
    let members = group.members.iter().map(|member| MemberChange {
        tensor: member.tensor.clone(),
        axis: member.axis,
        part: part(member.part),
        per_channel: member.per_channel,
    });
    GroupChange {
        group: group.name().to_owned(),
        channels_before: group.channels,
        channels_after: kept.map_or(group.channels, <[usize]>::len),
        kept: kept.filter(|kept| kept.len() < group.channels).map(<[usize]>::to_vec),
        fixed: group.fixed.clone(),
        members: members.collect(),
    }
}
