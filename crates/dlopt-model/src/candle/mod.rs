//! The same networks in candle's operations: for other devices, and as the reference that the CPU kernels are tested
//! against. Nothing is shared with them but the plan and the layout of the weights.
//!
//! Each layer is spelled out in operations whose gradients candle has right (0.11.1): windows are gathered cell by cell
//! and multiplied as one matrix, maxima are chosen by comparison (candle's own maximum pool gives a quarter of the
//! gradient), and no random numbers are candle's. Tensors lie as in the kernels: pictures `[sample, y, x, channel]`,
//! series `[sample, time, feature]`.

mod functions;
mod norms;
mod recurrent;
mod windows;

use candle_core::{Device, Tensor, Var};
use dlopt_checkpoint::{Error, Result};
use dlopt_kernels::nn::dropout;

use crate::layout::FlatLayout;
use crate::network::Mode;
use crate::plan::{Node, Op, Parameter, Role, Shape};

/// A device by name: `cpu`, `cuda`, `cuda:1`, `metal`.
///
/// # Errors
/// When there is no such device, or this build has no support for it.
pub fn device(name: &str) -> Result<Device> {
    let (kind, number) = match name.split_once(':') {
        None => (name, Some(0)),
        Some((kind, number)) => (kind, number.parse::<usize>().ok()),
    };
    let (made, is_built) = match (kind, number) {
        ("cpu", _) => (Ok(Device::Cpu), true),
        ("cuda", Some(number)) => (Device::new_cuda(number), cfg!(feature = "cuda")),
        ("metal", Some(number)) => (Device::new_metal(number), cfg!(feature = "metal")),
        _ => {
            return Err(
                Error::usage(format!("there is no device `{name}`")).hint("cpu, cuda, cuda:1 (the second), metal")
            );
        }
    };
    made.map_err(|e| match is_built {
        true => Error::input(format!("device `{name}`: {e}")),
        false => Error::usage(format!("this dlopt was built without support for `{name}`"))
            .hint(format!("cargo build --release --features {kind}")),
    })
}

/// A network on a device of candle's. Weights, gradients and running statistics go in and out as flat vectors in the
/// layout's order, as with [`Network`](crate::Network).
pub struct CandleNetwork {
    nodes: Vec<Node>,
    device: Device,
    /// Frozen nodes, in the layout's order.
    is_frozen: Vec<bool>,
    slots: Vec<Slots>,
    /// What the last training pass left for the way back.
    kept: Option<Kept>,
}

/// The trained values of a node on the device, and where its values lie in the flat vectors.
struct Slots {
    trained: Vec<(std::ops::Range<usize>, Var)>,
    buffers: Vec<std::ops::Range<usize>>,
}

struct Kept {
    input: Var,
    output: Tensor,
}

/// A pass through the nodes.
struct Pass<'a> {
    network: &'a CandleNetwork,
    buffers: &'a mut [f32],
    mode: Mode,
    /// The node to come, counted as in the layout.
    next: usize,
}

/// What flows between two nodes.
#[derive(Clone)]
struct Flow {
    x: Tensor,
    /// Valid steps of each sample of a series.
    lengths: Option<Vec<u32>>,
}

impl CandleNetwork {
    /// Takes a plan to a device; its weights are zero until [`Self::load`].
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(nodes: &[Node], layout: &FlatLayout, is_frozen: &[bool], device: Device) -> Result<Self> {
        if let Some(node) = nodes.iter().find(|node| matches!(node.op, Op::Seq2seq(_))) {
            return Err(Error::usage(format!("layer `{}`: an encoder and decoder runs on the CPU alone", node.name))
                .hint("--device cpu"));
        }
        let parameters = by_node(nodes);
        let mut slots = Vec::with_capacity(layout.nodes.len());
        for (own, parameters) in layout.nodes.iter().zip(parameters) {
            let mut trained = Vec::with_capacity(own.trained.len());
            for (slot, range) in own.trained.iter().enumerate() {
                let shape = memory_shape(&parameters, slot, range.len());
                let zeros = Tensor::zeros(shape, candle_core::DType::F32, &device).map_err(failed)?;
                trained.push((range.clone(), Var::from_tensor(&zeros).map_err(failed)?));
            }
            slots.push(Slots { trained, buffers: own.buffers.clone() });
        }
        Ok(Self { nodes: nodes.to_vec(), device, is_frozen: is_frozen.to_vec(), slots, kept: None })
    }

    /// Takes in weights that have changed.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// When `weights` are not those of the layout.
    pub fn load(&mut self, weights: &[f32]) -> Result<()> {
        for (range, var) in self.slots.iter().flat_map(|slots| &slots.trained) {
            let values = Tensor::from_slice(&weights[range.clone()], var.shape(), &self.device).map_err(failed)?;
            var.set(&values).map_err(failed)?;
        }
        Ok(())
    }

    /// Runs a batch, as [`Network::forward`](crate::Network::forward) does.
    ///
    /// # Errors
    /// When a token is none of the table's, or the device fails.
    ///
    /// # Panics
    /// When `inputs` does not hold whole samples.
    pub fn forward(
        &mut self,
        buffers: &mut [f32],
        inputs: &[f32],
        lengths: Option<&[u32]>,
        mode: Mode,
    ) -> Result<Vec<f32>> {
        let Some(first) = self.nodes.first() else { return Ok(inputs.to_vec()) };
        let sample = first.input.len().max(1);
        assert_eq!(inputs.len() % sample, 0, "whole samples");
        let x =
            Tensor::from_slice(inputs, extents(inputs.len() / sample, &first.input), &self.device).map_err(failed)?;
        let input = Var::from_tensor(&x).map_err(failed)?;
        let trains = matches!(mode, Mode::Training { .. });
        let x = if trains { input.as_tensor().clone() } else { x };
        let mut pass = Pass { network: self, buffers, mode, next: 0 };
        let out = pass.chain(&self.nodes, Flow { x, lengths: lengths.map(<[u32]>::to_vec) })?.x;
        let values = out.flatten_all().and_then(|flat| flat.to_vec1()).map_err(failed)?;
        self.kept = trains.then_some(Kept { input, output: out });
        Ok(values)
    }

    /// Goes back through the last training pass, as [`Network::backward`](crate::Network::backward) does.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// When no training pass came before, or `gradient` is not one of its outputs.
    pub fn backward(&mut self, gradient: &[f32], gradients: &mut [f32], wants_input: bool) -> Result<Option<Vec<f32>>> {
        let kept = self.kept.take().expect("a training pass comes before its backward pass");
        let mut go = || {
            let upstream = Tensor::from_slice(gradient, kept.output.shape(), &self.device)?;
            let store = (&kept.output * &upstream)?.sum_all()?.backward()?;
            for (own, is_frozen) in self.slots.iter().zip(self.is_frozen.iter().chain(std::iter::repeat(&false))) {
                for (range, var) in own.trained.iter().filter(|_| !is_frozen) {
                    if let Some(found) = store.get(var) {
                        let found: Vec<f32> = found.flatten_all()?.to_vec1()?;
                        gradients[range.clone()].iter_mut().zip(found).for_each(|(sum, value)| *sum += value);
                    }
                }
            }
            let of_input = store.get(&kept.input).filter(|_| wants_input);
            of_input.map(|found| found.flatten_all()?.to_vec1()).transpose()
        };
        go().map_err(failed)
    }
}

impl Pass<'_> {
    fn chain(&mut self, nodes: &[Node], mut flow: Flow) -> Result<Flow> {
        for node in nodes {
            flow = self.node(node, flow).map_err(|e| e.within(format!("layer `{}`", node.name)))?;
        }
        Ok(flow)
    }

    fn node(&mut self, node: &Node, flow: Flow) -> Result<Flow> {
        let network = self.network;
        let own = &network.slots[self.next];
        let is_frozen = network.is_frozen.get(self.next).copied().unwrap_or(false);
        let place = self.next;
        self.next += 1;
        if let Op::Residual { body, shortcut } = &node.op {
            let long = self.chain(body, flow.clone())?;
            let short = self.chain(shortcut, flow)?;
            return Ok(Flow { x: (&long.x + &short.x).map_err(failed)?, lengths: long.lengths });
        }
        let samples = flow.x.dims()[0];
        // A picture may go on as a series of its rows.
        let x = flow.x.reshape(extents(samples, &node.input)).map_err(failed)?;
        // The weights of frozen layers take no part in the graph.
        let weights: Vec<Tensor> = own
            .trained
            .iter()
            .map(|(_, var)| if is_frozen { var.as_tensor().detach() } else { var.as_tensor().clone() })
            .collect();
        let lengths = flow.lengths;
        let out = match &node.op {
            Op::Convolution { kernel, stride, dilation, padding, groups } => {
                let window =
                    windows::Window { kernel: *kernel, stride: *stride, dilation: *dilation, padding: *padding };
                windows::convolution(&x, &window, *groups, &weights).map_err(failed)?
            }
            Op::Pool { kind, kernel, stride, padding } => {
                let window = windows::Window { kernel: *kernel, stride: *stride, dilation: [1, 1], padding: *padding };
                windows::pool(&x, &window, *kind).map_err(failed)?
            }
            Op::BatchNorm { epsilon, momentum } => {
                let uses_batch = matches!(self.mode, Mode::Training { .. }) && !is_frozen;
                let statistics = norms::Statistics { ranges: &own.buffers, buffers: self.buffers, momentum: *momentum };
                norms::batch_norm(&x, &weights, *epsilon, uses_batch, statistics).map_err(failed)?
            }
            Op::LayerNorm { epsilon } => norms::layer_norm(&x, &weights, *epsilon).map_err(failed)?,
            Op::Dense => functions::dense(&x, &weights).map_err(failed)?,
            Op::Flatten { .. } => x,
            Op::Dropout { rate } => match self.mode {
                Mode::Training { key } => {
                    let mut mask = vec![0.0; x.elem_count()];
                    let key = key.wrapping_add((place as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                    dropout(key, 0, *rate, &vec![1.0; mask.len()], &mut mask);
                    Tensor::from_vec(mask, x.shape(), x.device()).and_then(|mask| x * mask).map_err(failed)?
                }
                Mode::Inference => x,
            },
            Op::Activation(function) => functions::activate(&x, *function).map_err(failed)?,
            Op::Embedding { vocabulary } => functions::embedding(&x, &weights[0], *vocabulary)?,
            Op::Recurrent { kind, hidden, direction, returns_sequence } => {
                let layer = recurrent::Layer {
                    kind: *kind,
                    hidden: *hidden,
                    direction: *direction,
                    returns_sequence: *returns_sequence,
                };
                layer.forward(&x, lengths.as_deref(), &weights).map_err(failed)?
            }
            Op::Pad { kind, before, after } => {
                let pad = windows::Pad { kind: *kind, before: *before, after: *after };
                pad.forward(&x, lengths.as_deref()).map_err(failed)?
            }
            Op::Magnitude => functions::magnitude(&x).map_err(failed)?,
            Op::Residual { .. } => unreachable!("went its own way above"),
            Op::Seq2seq(_) => unreachable!("`new` refuses it"),
        };
        let x = out.reshape(extents(samples, &node.output)).map_err(failed)?;
        Ok(Flow { x, lengths: lengths.map(|lengths| node.steps_of(&lengths)) })
    }
}

/// The parameters of each node, counted as in the layout.
fn by_node(nodes: &[Node]) -> Vec<Vec<Parameter>> {
    let mut all = Vec::new();
    for node in nodes {
        all.push(node.parameters.iter().filter(|p| p.is_trained).cloned().collect());
        if let Op::Residual { body, shortcut } = &node.op {
            all.extend(by_node(body));
            all.extend(by_node(shortcut));
        }
    }
    all
}

/// How a slot of `len` values lies in memory.
fn memory_shape(parameters: &[Parameter], slot: usize, len: usize) -> Vec<usize> {
    match parameters.get(slot).map(|p| (p.role, p.shape.as_slice())) {
        Some((Role::ConvolutionWeight, shape)) => vec![shape[2..].iter().product(), shape[1], shape[0]],
        Some((Role::DenseWeight { .. }, &[outputs, inputs])) => vec![inputs, outputs],
        Some((Role::Table, shape)) => shape.to_vec(),
        // Weight and bias of each direction in turn.
        Some((
            Role::RecurrentInput | Role::RecurrentHidden | Role::RecurrentInputBias | Role::RecurrentHiddenBias,
            _,
        )) => {
            let (rows, inputs, hidden) = (parameters[0].shape[0], parameters[0].shape[1], parameters[1].shape[1]);
            if slot.is_multiple_of(2) { vec![inputs + hidden, rows] } else { vec![len] }
        }
        _ => vec![len],
    }
}

fn extents(samples: usize, shape: &Shape) -> Vec<usize> {
    match *shape {
        Shape::Image { height, width, channels } => vec![samples, height, width, channels],
        Shape::Series { time, features } => vec![samples, time, features],
        Shape::Vector { features } => vec![samples, features],
        Shape::Tokens { time } => vec![samples, time],
    }
}

fn failed(error: candle_core::Error) -> Error {
    Error::input(format!("the device failed: {error}")).hint("a smaller --batch needs less of its memory")
}

#[cfg(test)]
mod tests;
