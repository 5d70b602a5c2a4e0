//! What runs a network for the loop: the CPU kernels, or candle on another device.

use std::sync::Arc;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Batch;
use dlopt_kernels::nn::Team;
use dlopt_model::{
    CandleNetwork, DecoderInputs, FlatLayout, Mode, Network, Node, Op, Prepared, Shape, States, Tap, device,
};

use crate::sequences;

/// The device that is candle on this CPU: slow, and an independent second opinion.
const CANDLE_ON_CPU: &str = "candle";

/// A network that the loop can train. Weights and gradients are flat vectors in the layout's order, wherever it runs.
pub struct Engine {
    runner: Runner,
    input: Shape,
    /// The token that a decoder reads first, when there is one.
    start: Option<u32>,
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
        Self::with_taps(on, nodes, layout, is_frozen, team, &[])
    }

    /// The same, with what some layers put out kept after every pass: see [`Engine::tapped`].
    ///
    /// # Errors
    /// As [`Engine::new`], and when there are taps and the device is not the CPU.
    pub fn with_taps(
        on: &str,
        nodes: &[Node],
        layout: &FlatLayout,
        is_frozen: &[bool],
        team: Arc<Team>,
        taps: &[Tap],
    ) -> Result<Self> {
        let runner = if on == "cpu" {
            Runner::Kernels(Network::with_taps(nodes, layout, is_frozen, Arc::clone(&team), taps))
        } else if let Some(tap) = taps.first() {
            return Err(
                Error::usage(format!("layer `{}` is looked into on the CPU alone", tap.name)).hint("--device cpu")
            );
        } else {
            let on = device(if on == CANDLE_ON_CPU { "cpu" } else { on })?;
            Runner::Candle(Box::new(CandleNetwork::new(nodes, layout, is_frozen, on)?))
        };
        Ok(Self::around(runner, nodes, team))
    }

    /// A network for inference on the CPU that keeps its weights as [`prepare`](dlopt_model::prepare) left them, with what
    /// some layers put out kept after every pass.
    pub fn holding(prepared: &Prepared, team: Arc<Team>, taps: &[Tap]) -> Self {
        let (nodes, layout) = (&prepared.loaded.nodes, &prepared.loaded.layout);
        let network = Network::holding(nodes, layout, &prepared.held, Arc::clone(&team), taps);
        Self::around(Runner::Kernels(network), nodes, team)
    }

    fn around(runner: Runner, nodes: &[Node], team: Arc<Team>) -> Self {
        let input = nodes.first().map_or(Shape::Vector { features: 0 }, |node| node.input.clone());
        let start = nodes.iter().find_map(|node| match &node.op {
            Op::Seq2seq(plan) => Some(plan.start),
            _ => None,
        });
        Self { runner, input, start, team }
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

    /// The token that a decoder reads first, when there is one.
    pub fn start(&self) -> Option<u32> {
        self.start
    }

    /// Outputs of a batch, `[samples, outputs]`, or `[samples * steps, outputs]`. A decoder reads the tokens that should
    /// have come out.
    ///
    /// # Errors
    /// When the batch does not fit the network, or the device fails.
    pub fn forward(&mut self, weights: &[f32], buffers: &mut [f32], batch: &Batch, mode: Mode) -> Result<Vec<f32>> {
        let tokens = match self.start {
            Some(start) => sequences::before(batch, start),
            None => Vec::new(),
        };
        self.forward_reading(weights, buffers, batch, &tokens, mode)
    }

    /// The same with the tokens `[samples, steps]` that a decoder reads.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub fn forward_reading(
        &mut self,
        weights: &[f32],
        buffers: &mut [f32],
        batch: &Batch,
        tokens: &[u32],
        mode: Mode,
    ) -> Result<Vec<f32>> {
        let expected = batch.indices.len() * self.input.len();
        if batch.inputs.len() != expected {
            return Err(Error::input(format!(
                "a batch of {} samples holds {} values, and the network takes {expected}",
                batch.indices.len(),
                batch.inputs.len()
            )));
        }
        let lengths = batch.lengths.as_deref();
        let decoder = match self.start {
            None => None,
            Some(_) if tokens.len() == batch.sequences.len() && batch.sequence_lengths.len() == batch.indices.len() => {
                Some(DecoderInputs { tokens, lengths: &batch.sequence_lengths })
            }
            Some(_) => return Err(Error::input("a batch without sequences, and the network learns to put them out")),
        };
        match &mut self.runner {
            Runner::Kernels(network) => {
                Ok(network.forward_taught(weights, buffers, &batch.inputs, lengths, decoder, mode))
            }
            Runner::Candle(network) => network.forward(buffers, &batch.inputs, lengths, mode),
        }
    }

    /// States to begin with, for `rows` series that are read side by side and piece by piece: see [`Network::states`].
    ///
    /// # Errors
    /// When a layer needs its series whole, or the network does not run on the kernels.
    pub fn states(&self, rows: usize) -> Result<States> {
        self.kernels()?.states(rows)
    }

    /// A state to begin with, for one series whose windows are samples: see [`Network::stream`].
    ///
    /// # Errors
    /// When a recurrent layer cannot read windows one by one, or the network does not run on the kernels.
    pub fn stream(&self) -> Result<States> {
        self.kernels()?.stream()
    }

    /// Reads on where `states` stand, in inference: see [`Network::forward_with`]. [`Engine::load`] comes before.
    ///
    /// # Errors
    /// When `inputs` or `lengths` do not fit the states, or the network does not run on the kernels.
    pub fn forward_with(
        &mut self,
        weights: &[f32],
        buffers: &mut [f32],
        inputs: &[f32],
        lengths: Option<&[u32]>,
        states: &mut States,
    ) -> Result<Vec<f32>> {
        match &mut self.runner {
            Runner::Kernels(network) => network.forward_with(weights, buffers, inputs, lengths, states),
            Runner::Candle(_) => Err(on_cpu_alone()),
        }
    }

    fn kernels(&self) -> Result<&Network> {
        match &self.runner {
            Runner::Kernels(network) => Ok(network),
            Runner::Candle(_) => Err(on_cpu_alone()),
        }
    }

    /// What the taps put out in the last pass, in their order.
    pub fn tapped(&self) -> Vec<&[f32]> {
        match &self.runner {
            Runner::Kernels(network) => network.tapped(),
            Runner::Candle(_) => Vec::new(),
        }
    }

    /// Adds the gradients of the weights for `gradient`, that of the outputs of the last training pass, and for `taps`,
    /// those of what each tap put out, if there are any.
    ///
    /// # Errors
    /// When the device fails.
    pub fn backward(
        &mut self,
        weights: &[f32],
        gradient: Vec<f32>,
        taps: Vec<Vec<f32>>,
        gradients: &mut [f32],
    ) -> Result<()> {
        match &mut self.runner {
            Runner::Kernels(network) => drop(network.backward_from(weights, gradient, taps, gradients, false)),
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

fn on_cpu_alone() -> Error {
    Error::usage("series are read piece by piece on the CPU alone").hint("--device cpu")
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlopt_model::{Description, initial_values, resolve};

    #[test]
    fn series_are_read_piece_by_piece_on_the_kernels_alone() {
        let text = "layers = [{ type = \"gru\", hidden = 4 }, { type = \"dense\", units = \"classes\" }]";
        let nodes =
            resolve(&Description::from_toml(text).unwrap(), &Shape::Series { time: 3, features: 2 }, 2).unwrap();
        let layout = FlatLayout::of(&nodes);
        let (weights, mut buffers) = initial_values(&nodes, &layout, 1).unwrap();
        let engine = |on: &str| Engine::new(on, &nodes, &layout, &[], Arc::new(Team::new(1))).unwrap();
        let mut own = engine("cpu");
        own.load(&weights, false).unwrap();
        let mut states = own.states(1).unwrap();
        let x = [0.5, -1.0, 0.25, 0.125, 2.0, 1.0];
        let batch = Batch { indices: vec![0], inputs: x.to_vec(), ..Batch::default() };
        let whole = own.forward(&weights, &mut buffers, &batch, Mode::Inference).unwrap();
        let mut last = Vec::new();
        for piece in [&x[..4], &x[4..]] {
            last = own.forward_with(&weights, &mut buffers, piece, None, &mut states).unwrap();
        }
        assert_eq!(last, whole);
        assert!(own.stream().unwrap_err().message().contains("reads 3 steps of each window"));
        let mut other = engine(CANDLE_ON_CPU);
        for error in [
            other.states(1).unwrap_err(),
            other.stream().unwrap_err(),
            other.forward_with(&weights, &mut buffers, &x, None, &mut states).unwrap_err(),
        ] {
            assert_eq!(error.message(), "series are read piece by piece on the CPU alone");
        }
    }
}
