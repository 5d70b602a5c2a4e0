//! Networks that run as their checkpoint holds them: compressed weights stay compressed in memory, and each layer gets the
//! kernel that is fastest here.
//!
//! Batch norms go into the layers before them ([`fold`]); what is left is a chain of products with what stands behind each
//! done in passing. Every kernel that a layer may get gives the same bytes, so a choice by the clock changes no result; what
//! does change results, activations in eight bits, is never chosen by the clock.

mod choose;
mod coded;
mod fold;
mod kinds;
mod source;

use std::sync::Arc;

use dlopt_checkpoint::{Checkpoint, Pass, Result, Tensors, View};
use dlopt_kernels::nn::Team;
use dlopt_kernels::{release_free_memory, release_program_pages};
use dlopt_prune::Densify;
use dlopt_quantize::StoredWeight;

use self::choose::Chooser;
use self::fold::Folded;
use self::source::Source;
use crate::layout::{FlatLayout, FlatTensor};
use crate::network::{Held, HeldLayer};
use crate::plan::{Node, Op, Role};
use crate::weights::{Found, Loaded, config_of, decoded, within};

pub use choose::Choice;

/// Which kernels layers get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// The fastest here, compressed or not.
    #[default]
    Auto,
    /// Those of f32, on decoded weights, whatever the scheme asks of activations.
    Dense,
    /// Those that take the least memory.
    Compressed,
}

/// What becomes of activations on their way into a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// What the checkpoint's scheme asks for: int8 for W8A8, else floats.
    #[default]
    Stored,
    /// They stay f32.
    Float,
    /// They become int8 with a scale a row, or a picture, where the weight is stored as integers.
    Int8,
}

/// How a network is to run.
#[derive(Clone, Copy, Debug)]
pub struct Execution {
    /// Which kernels.
    pub kernels: Kernels,
    /// Which activations.
    pub arithmetic: Arithmetic,
    /// Samples that usually run together: kernels are chosen for them.
    pub batch: usize,
    /// Whether batch norms go into the layers before them; not where the values of every layer are wanted.
    pub folds: bool,
}

impl Default for Execution {
    fn default() -> Self {
        Self { kernels: Kernels::Auto, arithmetic: Arithmetic::Stored, batch: 1, folds: true }
    }
}

/// A network that is ready for inference.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Nodes, layout and values without those that lie in `held`.
    pub loaded: Loaded,
    /// Weights that stay as they are.
    pub held: Held,
    /// The values of all its parameters, as it was trained.
    pub parameters: usize,
    /// What [`Prepared::bytes`] is without compressed weights.
    pub dense_bytes: usize,
    /// How many batch norms went into the layers before them.
    pub folded: usize,
    /// What each layer with a choice got.
    pub choices: Vec<Choice>,
}

impl Prepared {
    /// Bytes of all weights and statistics in memory, those included that layers of f32 lay out for their kernels.
    pub fn bytes(&self) -> usize {
        bytes(&self.loaded.layout) + self.held.bytes()
    }
}

fn bytes(layout: &FlatLayout) -> usize {
    let is_packed = |tensor: &&FlatTensor| {
        let is_weight = matches!(
            tensor.role,
            Role::ConvolutionWeight | Role::DenseWeight { .. } | Role::RecurrentInput | Role::RecurrentHidden
        );
        is_weight && !tensor.range.is_empty()
    };
    let packed: usize =
        layout.tensors().iter().filter(is_packed).map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    4 * (layout.params_len + layout.buffers_len + packed)
}

/// Reads a checkpoint for inference.
///
/// # Errors
/// As [`load`](crate::load), and when codes or scales are out of range.
pub fn prepare(checkpoint: &Checkpoint, execution: &Execution, team: &Arc<Team>) -> Result<Prepared> {
    let named = |e| within(e, &checkpoint.name);
    // What has run so far will not run beside the weights, nor what reads them beside the network.
    let is_small = execution.kernels == Kernels::Compressed;
    if is_small {
        release_program_pages();
    }
    let config = config_of(checkpoint)?;
    let nodes = config.resolve().map_err(named)?;
    let whole = FlatLayout::of(&nodes);
    let folded = if execution.folds { Folded::of(&nodes) } else { Folded::nothing(&nodes) };
    decoded(checkpoint, |source| {
        let found = Found::new(source, &whole);
        found.refuse_strangers(&whole)?;
        // Before there is memory for what a config claims.
        whole.tensors().iter().try_for_each(|tensor| found.place(tensor).map(|_| ()))?;
        let read = |tensor: &FlatTensor| found.read(tensor);
        let densify: &[&dyn Pass] = &[&Densify];
        let coded = View::new(checkpoint, densify)?;
        let stored = StoredWeight::all(coded.header())?;
        let mut walk = Walk {
            found: &found,
            coded: &coded,
            stored: &stored,
            folded: &folded,
            chooser: Chooser::new(*execution, team),
            held: Held::default(),
            next: 0,
        };
        if execution.kernels == Kernels::Dense {
            // Decoding multiplies whatever is there; the other choices look at every code and scale anyway.
            check(&stored, &coded)?;
        } else {
            walk.chain(&folded.nodes)?;
        }
        let (held, choices) = (walk.held, walk.chooser.choices);
        let layout = FlatLayout::without_weights(&folded.nodes, held.nodes());
        let (params, buffers) = layout.from_checkpoint(|tensor| folded.read(tensor, &read))?;
        let loaded = Loaded { config, nodes: folded.nodes.clone(), layout, params, buffers };
        if is_small {
            release_free_memory();
            release_program_pages();
        }
        let (parameters, dense_bytes) = (whole.params_len, bytes(&whole));
        Ok(Prepared { loaded, held, parameters, dense_bytes, folded: folded.norms(), choices })
    })
}

/// Refuses codes and scales that are out of range.
fn check(stored: &[StoredWeight], from: &dyn Tensors) -> Result<()> {
    for weight in stored.iter().filter(|weight| weight.is_integer() || weight.is_fp8()) {
        for rows in weight.blocks() {
            weight.read_rows(from, rows)?;
        }
    }
    Ok(())
}

/// Goes through the nodes that are left, in the layout's order.
struct Walk<'a> {
    found: &'a Found<'a>,
    coded: &'a dyn Tensors,
    stored: &'a [StoredWeight],
    folded: &'a Folded,
    chooser: Chooser<'a>,
    held: Held,
    next: usize,
}

impl<'a> Walk<'a> {
    fn chain(&mut self, nodes: &[Node]) -> Result<()> {
        for (at, node) in nodes.iter().enumerate() {
            let place = self.next;
            self.next += 1;
            let layer = match &node.op {
                Op::Dense => {
                    let mut matrix = self.source(node, 0)?;
                    let flattened = match node.parameters[0].role {
                        Role::DenseWeight { flattened: Some([height, width, channels]) }
                            if channels > 1 && height * width > 1 =>
                        {
                            Some([height, width, channels])
                        }
                        _ => None,
                    };
                    let by_channels = flattened.filter(|picture| !matrix.take_as_it_comes(*picture));
                    let weight = self.chooser.dense(node, &matrix)?;
                    weight.map(|weight| HeldLayer::Dense { weight, by_channels })
                }
                Op::Convolution { .. } => {
                    let mut matrix = self.source(node, 0)?;
                    let stored = matrix.describe();
                    matrix.take_by_taps(node.parameters[0].shape[2..].iter().product())?;
                    let maps = self.chooser.convolution(node, &nodes[at + 1..], &matrix, stored)?;
                    maps.map(HeldLayer::Convolution)
                }
                Op::Recurrent { .. } => {
                    let ways = 0..node.parameters.len() / 4;
                    let each = ways.map(|way| Ok([self.source(node, 4 * way)?, self.source(node, 4 * way + 1)?]));
                    let ways = each.collect::<Result<Vec<_>>>()?;
                    self.chooser.recurrent(node, &ways)?.map(HeldLayer::Recurrent)
                }
                Op::Residual { body, shortcut } => {
                    self.chain(body)?;
                    self.chain(shortcut)?;
                    None
                }
                _ => None,
            };
            if let Some(layer) = layer {
                self.held.insert(place, layer);
            }
        }
        Ok(())
    }

    /// The matrix of one of a node's parameters.
    fn source(&self, node: &Node, at: usize) -> Result<Source<'a>> {
        let parameter = &node.parameters[at];
        let tensor = fold::tensor(parameter);
        let read = |tensor: &FlatTensor| self.found.read(tensor);
        let name = self.found.stored_name(&parameter.name);
        let weight = self.stored.iter().find(|weight| Some(weight.info().name.as_str()) == name);
        if let Some(weight) = weight
            && (weight.is_integer() || weight.is_fp8())
        {
            let factors = self.folded.factors(&parameter.name, &read)?;
            return Source::codes(weight, self.coded, factors.as_ref());
        }
        let outputs = parameter.shape[0];
        if self.folded.factors(&parameter.name, &read)?.is_none()
            && let Some((float, bits)) = self.found.halves(&parameter.name)?
        {
            return Ok(Source::halves(outputs, float, bits).decoded_from(weight));
        }
        Ok(Source::floats(outputs, self.folded.read(&tensor, &read)?).decoded_from(weight))
    }
}

#[cfg(test)]
mod tests;
