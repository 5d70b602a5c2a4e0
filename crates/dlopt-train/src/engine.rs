//! What runs a network for the loop: the CPU kernels, or candle on another device.

use std::sync::Arc;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Batch;
use dlopt_kernels::nn::Team;
use dlopt_model::{CandleNetwork, FlatLayout, Mode, Network, Node, Shape, device};

/// The device that is candle on this CPU: slow, and an independent second opinion.
const CANDLE_ON_CPU: &str = "candle";

/// A network that the loop can train. Weights and gradients are flat vectors in the layout's order, wherever it runs.
pub struct Engine {
    runner: Runner,
    input: Shape,
    team: Arc<Team>,
}

enum Runner {
    Kernels(Network),
    Candle(Box<CandleNetwork>),
}

impl Engine {
    /// A network on a device: `cpu` for the kernels, `cuda`, `cuda:1`, `metal` for candle there, `candle` for candle on
    /// the CPU. `is_frozen` is as in [`Network::new`].
    ///
    /// # Errors
    /// When the device is unknown, not built in, or not there.
    pub fn new(on: &str, nodes: &[Node], layout: &FlatLayout, is_frozen: &[bool], team: Arc<Team>) -> Result<Self> {
        let input = nodes.first().map_or(Shape::Vector { features: 0 }, |node| node.input.clone());
        let runner = if on == "cpu" {
            Runner::Kernels(Network::new(nodes, layout, is_frozen, Arc::clone(&team)))
        } else {
            let on = device(if on == CANDLE_ON_CPU { "cpu" } else { on })?;
            Runner::Candle(Box::new(CandleNetwork::new(nodes, layout, is_frozen, on)?))
        };
        Ok(Self { runner, input, team })
    }

    /// The threads it works with.
    pub fn team(&self) -> &Team {
        &self.team
    }

    /// Takes in weights that have changed.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load(&mut self, weights: &[f32], trains: bool) -> Result<()> {
        match &mut self.runner {
            Runner::Kernels(network) => network.load(weights, trains),
            Runner::Candle(network) => network.load(weights)?,
        }
        Ok(())
    }

    /// Outputs of a batch, `[samples, outputs]`.
    ///
    /// # Errors
    /// When the batch does not fit the network, or the device fails.
    pub fn forward(&mut self, weights: &[f32], buffers: &mut [f32], batch: &Batch, mode: Mode) -> Result<Vec<f32>> {
        let expected = batch.indices.len() * self.input.len();
        if batch.inputs.len() != expected {
            return Err(Error::input(format!(
                "a batch of {} samples holds {} values, and the network takes {expected}",
                batch.indices.len(),
                batch.inputs.len()
            )));
        }
        let lengths = batch.lengths.as_deref();
        match &mut self.runner {
            Runner::Kernels(network) => Ok(network.forward(weights, buffers, &batch.inputs, lengths, mode)),
            Runner::Candle(network) => network.forward(buffers, &batch.inputs, lengths, mode),
        }
    }

    /// Adds the gradients of the weights for `gradient`, that of the outputs of the last training pass.
    ///
    /// # Errors
    /// When the device fails.
    pub fn backward(&mut self, weights: &[f32], gradient: Vec<f32>, gradients: &mut [f32]) -> Result<()> {
        match &mut self.runner {
            Runner::Kernels(network) => drop(network.backward(weights, gradient, gradients, false)),
            Runner::Candle(network) => drop(network.backward(&gradient, gradients, false)?),
        }
        Ok(())
    }

    /// Takes the vector of [`Engine::forward`] back for reuse.
    pub fn recycle(&mut self, values: Vec<f32>) {
        if let Runner::Kernels(network) = &mut self.runner {
            network.recycle(values);
        }
    }
}
