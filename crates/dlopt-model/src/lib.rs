//! Architectures and layers: a description becomes a plan of nodes, a plan becomes a network that runs.

mod plan;

pub use plan::{Activation, Direction, FlattenOrder, Init, Node, Op, Parameter, PoolKind, RecurrentKind, Role, Shape};
