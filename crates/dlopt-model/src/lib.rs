//! Architectures and layers: a description becomes a plan of nodes, a plan becomes a network that runs.

mod architectures;
mod candle;
mod config;
mod coupling;
mod derive;
mod description;
mod inference;
mod init;
mod layout;
mod network;
mod plan;
mod presets;
mod resolve;
mod restate;
mod sampling;
mod structure;
mod summary;
#[cfg(test)]
mod testing;
mod weights;

pub use architectures::{ARCHITECTURES, Architecture};
pub use candle::{CandleNetwork, device};
pub use config::{MODEL_TYPE, ModelConfig, Stream};
pub use coupling::{Traced, coupling, traced};
pub use derive::{Derivation, Origin, Taken, TakenOver};
pub use description::{
    ActivationLayer, Answers, Attention, BatchNorm, Conv1d, Conv2d, Dense, DepthwiseConv2d, Description, Dropout,
    Embedding, Extents, Flatten, GlobalPool, Initialization, LAYER_TYPES, Layer, LayerNorm, LayerType, Magnitude,
    Pad1d, Padding, Pool1d, Pool2d, RecurrentStack, Residual, Seq2seq, SequenceCell, Tokens, Units,
};
pub use inference::{Arithmetic, Choice, Execution, Kernels, Prepared, prepare};
pub use init::{initial, initial_values};
pub use layout::{FlatLayout, FlatTensor, NamedTensor, NodeSlots};
pub use network::{
    DecoderInputs, Decoding, Held, HeldLayer, Hypothesis, Mode, Network, States, Tap, Translator, tap_at, taps,
};
pub use plan::{
    Activation, Direction, FlattenOrder, Init, Node, Op, PadKind, Parameter, PoolKind, RecurrentKind, Role, Shape,
    Translation, parameters, vocabulary,
};
pub use presets::{PRESETS, Preset};
pub use resolve::resolve;
pub use restate::Restate;
pub use sampling::{Sampler, Sampling};
pub use structure::{
    Costs, GivenImportance, GroupChange, JointChanges, LayerChange, MemberChange, PruneStructure, StructureOptions,
    StructureReport, Target, Weigh,
};
pub use summary::{LayerSummary, Summary};
pub use weights::{
    Adopted, Loaded, adopt_weights, config_of, load, load_weights, save, save_through, stored_names, to_tensors,
};
