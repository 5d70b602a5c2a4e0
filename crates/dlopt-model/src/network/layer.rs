//! What a layer is to the network, and how it spreads its work.

use dlopt_kernels::nn::Team;

use super::Mode;
use super::states::Carried;
use super::values::{Memory, Values};
use crate::plan::Node;

/// Samples a task holds where sums over samples are stored: small enough for two cores to share a batch of 32, large
/// enough that adding the sums up is cheap. It decides the bytes, so it never follows the threads.
const SAMPLES_PER_SUM: usize = 8;

/// Most values that the sums of all chunks of one layer take; chunks grow for layers with many weights.
const MOST_SUMMED_VALUES: usize = 4 << 20;

/// A pass through the layers.
pub(crate) struct Forward<'a> {
    pub(crate) team: &'a Team,
    pub(crate) memory: &'a mut Memory,
    pub(crate) weights: &'a [f32],
    pub(crate) buffers: &'a mut [f32],
    pub(crate) samples: usize,
    /// Valid steps of each sample, as they reach the layer: windows over a series change them.
    pub(crate) lengths: Option<Vec<u32>>,
    /// What a decoder reads, when there is one.
    pub(crate) decoder: Option<DecoderInputs<'a>>,
    /// States that recurrent layers begin from and hand on, when series are read piece by piece.
    pub(crate) carried: Option<Carried<'a>>,
    pub(crate) mode: Mode,
}

/// What a decoder reads while it is taught: the token before each that should come out.
#[derive(Clone, Copy, Debug)]
pub struct DecoderInputs<'a> {
    /// `[samples, steps]`; after a sample's end anything that is a token.
    pub tokens: &'a [u32],
    /// Steps of each sample; the outputs of the others are zeros.
    pub lengths: &'a [u32],
}

impl Forward<'_> {
    /// Whether what the backward pass needs must be kept.
    pub(crate) fn trains(&self) -> bool {
        matches!(self.mode, Mode::Training { .. })
    }

    /// Windows of `node` went over the series.
    pub(crate) fn passed(&mut self, node: &Node) {
        if let Some(lengths) = &mut self.lengths {
            *lengths = node.steps_of(lengths);
        }
    }
}

/// A pass back.
pub(crate) struct Backward<'a> {
    pub(crate) team: &'a Team,
    pub(crate) memory: &'a mut Memory,
    pub(crate) weights: &'a [f32],
    pub(crate) gradients: &'a mut [f32],
    pub(crate) samples: usize,
}

/// One layer that is ready to run.
pub(crate) trait Layer: Send {
    /// Takes in weights that have changed; with `trains`, also what the backward pass needs of them.
    fn load(&mut self, _team: &Team, _weights: &[f32], _trains: bool) {}

    /// Whether it has weights that gradients are wanted for.
    fn is_trained(&self) -> bool {
        false
    }

    /// Its output. In training it keeps what its backward pass needs; otherwise it releases its input.
    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values;

    /// Adds to the gradients of its weights, and returns the gradient of its input if it is wanted.
    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>>;

    /// Lets go of what it kept, when its backward pass is not needed.
    fn forget(&mut self, memory: &mut Memory);
}

/// Samples a forward task holds: as few as keep all threads busy, at most `most`.
pub(crate) fn forward_chunk(samples: usize, team: &Team, most: usize) -> usize {
    samples.div_ceil(team.threads()).clamp(1, most.max(1))
}

/// Samples a task of a backward pass holds when each task sums `values` values.
pub(crate) fn sum_chunk(samples: usize, values: usize) -> usize {
    let most_chunks = (MOST_SUMMED_VALUES / values.max(1)).max(1);
    samples.div_ceil(most_chunks).max(SAMPLES_PER_SUM)
}

/// Adds the values at `at` of the sums of all chunks, `[chunks, stride]`, to `into`, in the order of chunks.
pub(crate) fn add_sums(team: &Team, sums: &[f32], stride: usize, at: usize, into: &mut [f32]) {
    const VALUES_PER_TASK: usize = 8192;
    team.chunks(into, VALUES_PER_TASK, |index, piece| {
        let start = at + index * VALUES_PER_TASK;
        for sums in sums.chunks_exact(stride) {
            dlopt_kernels::nn::add_into(&sums[start..start + piece.len()], piece);
        }
    });
}

/// Goes back through a chain of layers, only as far as something is trained or the input's gradient is wanted.
pub(crate) fn backward_through(
    layers: &mut [Box<dyn Layer>],
    run: &mut Backward<'_>,
    gradient: Vec<f32>,
    wants_input: bool,
) -> Option<Vec<f32>> {
    backward_with_taps(layers, run, gradient, wants_input, &[])
}

/// The same with gradients that reach the outputs of some layers from elsewhere, each with the layer.
pub(crate) fn backward_with_taps(
    layers: &mut [Box<dyn Layer>],
    run: &mut Backward<'_>,
    gradient: Vec<f32>,
    wants_input: bool,
    taps: &[(usize, Vec<f32>)],
) -> Option<Vec<f32>> {
    let first_trained = layers.iter().position(|layer| layer.is_trained());
    let mut gradient = Some(gradient);
    for (index, layer) in layers.iter_mut().enumerate().rev() {
        let wants = wants_input || first_trained.is_some_and(|first| first < index);
        for (_, tap) in taps.iter().filter(|(at, _)| *at == index) {
            if let Some(gradient) = &mut gradient {
                dlopt_kernels::nn::add_into(tap, gradient);
            }
        }
        gradient = match gradient {
            Some(g) if wants || layer.is_trained() => layer.backward(run, g, wants),
            unused => {
                unused.into_iter().for_each(|g| run.memory.give(g));
                layer.forget(run.memory);
                None
            }
        };
    }
    gradient
}
