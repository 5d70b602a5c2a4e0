//! What runs a network for the loop: the CPU kernels, or candle on another device.

use std::sync::Arc;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Batch;
use dlopt_kernels::nn::Team;
use dlopt_model::{FlatLayout, Mode, Network, Node};

/// A network that the loop can train. Weights and gradients are flat vectors in the layout's order, wherever it runs.
pub struct Engine {
    network: Network,
    team: Arc<Team>,
}

impl Engine {
    /// A network on this machine's CPU.
    pub fn on_cpu(nodes: &[Node], layout: &FlatLayout, is_frozen: &[bool], team: Arc<Team>) -> Self {
        Self { network: Network::new(nodes, layout, is_frozen, Arc::clone(&team)), team }
    }

    /// The threads it works with.
    pub fn team(&self) -> &Team {
        &self.team
    }

    /// Takes in weights that have changed.
    pub fn load(&mut self, weights: &[f32], trains: bool) {
        self.network.load(weights, trains);
    }

    /// Outputs of a batch, `[samples, outputs]`.
    ///
    /// # Errors
    /// When the batch does not fit the network, or the device fails.
    pub fn forward(&mut self, weights: &[f32], buffers: &mut [f32], batch: &Batch, mode: Mode) -> Result<Vec<f32>> {
        let expected = batch.indices.len() * self.network.input().len();
        if batch.inputs.len() != expected {
            return Err(Error::input(format!(
                "a batch of {} samples holds {} values, and the network takes {expected}",
                batch.indices.len(),
                batch.inputs.len()
            )));
        }
        Ok(self.network.forward(weights, buffers, &batch.inputs, batch.lengths.as_deref(), mode))
    }

    /// Adds the gradients of the weights for `gradient`, that of the outputs of the last training pass.
    ///
    /// # Errors
    /// When the device fails.
    pub fn backward(&mut self, weights: &[f32], gradient: Vec<f32>, gradients: &mut [f32]) -> Result<()> {
        self.network.backward(weights, gradient, gradients, false);
        Ok(())
    }

    /// Takes the vector of [`Engine::forward`] back for reuse.
    pub fn recycle(&mut self, values: Vec<f32>) {
        self.network.recycle(values);
    }
}
