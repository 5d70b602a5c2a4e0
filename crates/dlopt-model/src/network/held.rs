//! Weights that lie outside of a network's flat vector, packed for kernels that multiply them as they are.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use dlopt_kernels::compressed::{Maps, Product};

/// The matrices of layers, by the node's place in [`FlatLayout::nodes`](crate::FlatLayout::nodes).
#[derive(Clone, Debug, Default)]
pub struct Held {
    layers: BTreeMap<usize, HeldLayer>,
}

/// The weights of one layer.
#[derive(Clone, Debug)]
pub enum HeldLayer {
    /// Of a dense layer, `[outputs, inputs]`.
    Dense {
        /// The weight.
        weight: Arc<dyn Product>,
        /// Height, width and channels of the flattened picture whose values it expects channel by channel; nothing where
        /// it takes them as they come, row, column, channel.
        by_channels: Option<[usize; 3]>,
    },
    /// Of a convolution.
    Convolution(Arc<dyn Maps>),
    /// Of a recurrent layer, for each direction `weight_ih` and `weight_hh`.
    Recurrent(Vec<[Arc<dyn Product>; 2]>),
}

impl HeldLayer {
    /// Bytes it holds in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense { weight, .. } => weight.bytes(),
            Self::Convolution(maps) => maps.bytes(),
            Self::Recurrent(ways) => ways.iter().flatten().map(|matrix| matrix.bytes()).sum(),
        }
    }
}

impl Held {
    /// Takes in the weights of a node.
    pub fn insert(&mut self, node: usize, layer: HeldLayer) {
        self.layers.insert(node, layer);
    }

    /// The weights of a node, if they lie here.
    pub fn get(&self, node: usize) -> Option<&HeldLayer> {
        self.layers.get(&node)
    }

    /// The nodes whose weights lie here.
    pub fn nodes(&self) -> HashSet<usize> {
        self.layers.keys().copied().collect()
    }

    /// Bytes of all in memory.
    pub fn bytes(&self) -> usize {
        self.layers.values().map(HeldLayer::bytes).sum()
    }
}
