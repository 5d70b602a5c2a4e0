//! Architectures and layers: a description becomes a plan of nodes, a plan becomes a network that runs.

mod description;
mod layout;
mod network;
mod plan;
mod presets;
mod resolve;

pub use description::{
    ActivationLayer, BatchNorm, Conv1d, Conv2d, Dense, DepthwiseConv2d, Description, Dropout, Embedding, Extents, Flatten,
    GlobalPool, Initialization, LAYER_TYPES, Layer, LayerNorm, LayerType, Padding, Pool1d, Pool2d, RecurrentStack,
    Residual, Units,
};
pub use network::{Mode, Network};
pub use layout::{FlatLayout, FlatTensor, NamedTensor, NodeSlots};
pub use plan::{Activation, Direction, FlattenOrder, Init, Node, Op, Parameter, PoolKind, RecurrentKind, Role, Shape};
pub use presets::{PRESETS, Preset};
pub use resolve::resolve;
