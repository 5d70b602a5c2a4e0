//! A network that channels or layers can leave: what its header says, what it costs, and its config without them.

use std::collections::{BTreeMap, HashMap};

use dlopt_checkpoint::{Error, Header, Result, TensorInfo, dtype_name};
use dlopt_prune::{Coupling, Cut, Slices, refuse_compressed};
use serde::Serialize;

use super::resize::resize;
use crate::architectures::Architecture;
use crate::config::ModelConfig;
use crate::coupling::coupling;
use crate::derive::{Derivation, droppable};
use crate::layout::FlatLayout;
use crate::plan::{Node, Op, parameters};
use crate::summary::multiply_adds;
use crate::weights::{is_readable, names_in_plan};

/// Bytes of an activation.
const VALUE_BYTES: u64 = 4;

/// What a network costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Costs {
    /// Trained values.
    pub parameters: u64,
    /// Multiply-adds of products, forward, for one sample.
    pub multiply_adds: u64,
    /// Bytes of its tensors, as they are stored.
    pub bytes: u64,
    /// Bytes of what its layers put out for one sample, as f32.
    pub activation_bytes: u64,
}

/// The network of a checkpoint, by its header.
pub(super) struct Prunable {
    pub(super) config: ModelConfig,
    pub(super) nodes: Vec<Node>,
    pub(super) coupling: Coupling,
    /// What the plan calls each tensor of the header.
    pub(super) names: Vec<String>,
    /// Its tensors, by the plan's names.
    shapes: HashMap<String, Vec<usize>>,
    /// Bytes of a value of each tensor, by the plan's name.
    value_bytes: HashMap<String, u64>,
}

/// A network without what left it.
pub(super) struct Pruned {
    pub(super) config: ModelConfig,
    pub(super) nodes: Vec<Node>,
    /// The network's own tensor behind each of this one's.
    pub(super) sources: BTreeMap<String, String>,
}

impl Prunable {
    /// Reads which network the weights of a header belong to.
    pub(super) fn of(header: &Header) -> Result<Self> {
        refuse_compressed(header)?;
        let own = header.config()?;
        let foreign = own.is_none_or(|config| !config.contains_key("model_type")).then(|| Architecture::of(header));
        let config = match foreign.flatten() {
            Some((_, config)) => config,
            None => ModelConfig::of(header)?,
        };
        let nodes = config.resolve()?;
        let names = names_in_plan(header, &FlatLayout::of(&nodes));
        let by_name: HashMap<&str, &TensorInfo> = names.iter().map(String::as_str).zip(&header.tensors).collect();
        let mut value_bytes = HashMap::new();
        for own in parameters(&nodes) {
            let info = by_name.get(own.name.as_str()).filter(|info| info.shape == own.shape).ok_or_else(|| {
                Error::input(format!(
                    "the network has a tensor `{}` {:?}, and the checkpoint none",
                    own.name, own.shape
                ))
                .hint("config and weights belong to different networks: see `dlopt inspect`")
            })?;
            if !is_readable(info.dtype) {
                let dtype = dtype_name(info.dtype);
                return Err(Error::input(format!("tensor `{}` holds {dtype}, and only floats are pruned", info.name)));
            }
            value_bytes.insert(own.name.clone(), info.dtype.bitsize() as u64 / 8);
        }
        let stranger =
            names.iter().find(|name| !value_bytes.contains_key(*name) && !name.ends_with("num_batches_tracked"));
        if let Some(stranger) = stranger {
            return Err(Error::input(format!("tensor `{stranger}` is of no layer, so nothing says what goes with it"))
                .hint("config and weights belong to different networks: see `dlopt inspect`"));
        }
        let coupling = coupling(&nodes);
        let shapes = parameters(&nodes).into_iter().map(|own| (own.name.clone(), own.shape.clone())).collect();
        Ok(Self { config, nodes, coupling, names, shapes, value_bytes })
    }

    /// The network with the channels of a cut alone.
    pub(super) fn narrowed(&self, cut: &Cut<'_>) -> Result<Pruned> {
        let mut config = self.config.clone();
        resize(&mut config.description, &self.nodes, &|name, shape| cut.slices(name, shape).shape);
        let nodes = config.resolve()?;
        let slices = self.slices(cut);
        for own in parameters(&nodes) {
            let stays = slices.get(&own.name).map(|slices| slices.shape.as_slice());
            if stays != Some(own.shape.as_slice()) {
                return Err(Error::input(format!(
                    "the pruned network wants `{}` with {:?}, and {:?} is left of it",
                    own.name,
                    own.shape,
                    stays.unwrap_or_default()
                ))
                .hint("--exclude the layer, and say so in an issue"));
            }
        }
        Ok(Pruned { config, nodes, sources: slices.keys().map(|name| (name.clone(), name.clone())).collect() })
    }

    /// The network with the layers of these numbers alone, counted as [`Derivation::layers`] does.
    pub(super) fn shortened(&self, stays: &[usize]) -> Result<Pruned> {
        let derivation = Derivation { layers: Some(stays.to_vec()), ..Derivation::default() };
        let mut config = self.config.clone();
        config.description = derivation.description(&self.config.description)?;
        let nodes = config.resolve()?;
        let sources = derivation.names(&self.config.description, &FlatLayout::of(&nodes))?;
        Ok(Pruned { config, nodes, sources })
    }

    /// Whether each of the layers that [`Derivation::layers`] counts can leave.
    pub(super) fn layers(&self) -> Vec<bool> {
        self.config.description.named().map(|own| droppable(&own.layers)).unwrap_or_default()
    }

    /// Whether a tensor is one of the plan's.
    pub(super) fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// The shape of a tensor of the plan.
    pub(super) fn shape(&self, name: &str) -> &[usize] {
        self.shapes.get(name).map_or(&[], Vec::as_slice)
    }

    /// What stays of every tensor of the plan.
    pub(super) fn slices(&self, cut: &Cut<'_>) -> BTreeMap<String, Slices> {
        parameters(&self.nodes).into_iter().map(|own| (own.name.clone(), cut.slices(&own.name, &own.shape))).collect()
    }

    /// What a network costs whose tensors are stored as this one's behind them.
    pub(super) fn costs(&self, nodes: &[Node], sources: &BTreeMap<String, String>) -> Costs {
        nodes.iter().fold(Costs::default(), |sum, node| {
            let inner = match &node.op {
                Op::Residual { body, shortcut } => self.costs(body, sources).plus(self.costs(shortcut, sources)),
                _ => Costs::default(),
            };
            sum.plus(self.of_node(node, sources)).plus(inner)
        })
    }

    /// The same of one node, without what lies within.
    pub(super) fn of_node(&self, node: &Node, sources: &BTreeMap<String, String>) -> Costs {
        let value_bytes = |name: &str| {
            let own = sources.get(name).map_or(name, String::as_str);
            self.value_bytes.get(own).copied().unwrap_or(VALUE_BYTES)
        };
        Costs {
            parameters: node.parameters.iter().filter(|p| p.is_trained).map(|p| p.len() as u64).sum(),
            multiply_adds: multiply_adds(node),
            bytes: node.parameters.iter().map(|p| p.len() as u64 * value_bytes(&p.name)).sum(),
            activation_bytes: node.output.len() as u64 * VALUE_BYTES,
        }
    }
}

impl Costs {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            parameters: self.parameters + other.parameters,
            multiply_adds: self.multiply_adds.saturating_add(other.multiply_adds),
            bytes: self.bytes + other.bytes,
            activation_bytes: self.activation_bytes + other.activation_bytes,
        }
    }
}
