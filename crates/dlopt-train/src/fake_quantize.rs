//! Quantization-aware training: the network runs with quantized weights, and those behind them are trained.
//!
//! ```text
//! y = network(x; Q(w)),   w <- w - rate * dL/dQ(w)
//! ```
//! with `Q` what `dlopt quantize` stores and a reader decodes, bit for bit, and its gradient taken as 1, clipped weights
//! included: the straight-through estimator (Bengio et al., 2013, arXiv:1308.3432), on weights alone (Jacob et al., 2018,
//! arXiv:1712.05877, quantize activations as well). Scales are chosen anew in every step. Zeros stay zeros, so masks on
//! `w` are masks on `Q(w)`.
//!
//! A step is two parallel passes: blocks of rows are gathered from the flat vector and quantized; then the vector is
//! filled from them. Blocks are cut by shape, so nothing depends on threads.

use std::ops::Range;
use std::sync::Arc;

use dlopt_checkpoint::{Error, Header, Result};
use dlopt_kernels::nn::Team;
use dlopt_model::FlatLayout;
use dlopt_quantize::{Quantize, Room, Simulated};

use crate::extension::{Extension, Moment};

/// About how many values a block of rows has.
const VALUES_PER_BLOCK: usize = 1 << 13;
/// Stands for no place; beyond every vector.
const NOWHERE: u32 = u32::MAX;

/// Runs the network with weights as they will be stored.
pub struct FakeQuantize {
    weights: Vec<Simulated>,
    blocks: Vec<Block>,
    /// For each value of the quantized tensors, one tensor after the other in the order of a checkpoint, its place in the
    /// flat vector.
    places: Vec<u32>,
    /// For each value of the flat vector, the index of its place above, or nowhere.
    sources: Vec<u32>,
    /// What the quantized tensors are now, in the order of `places`.
    values: Vec<f32>,
    team: Arc<Team>,
}

/// Rows of a tensor that are worked on alone.
struct Block {
    /// Which of the quantized tensors.
    weight: usize,
    /// Its values among all.
    range: Range<usize>,
    room: Room,
}

impl FakeQuantize {
    /// What `quantize` will do to a checkpoint of this header, whose tensors the layout holds.
    ///
    /// # Errors
    /// When the pass does not apply, or takes a tensor that is not trained.
    pub fn new(quantize: &Quantize, header: &Header, layout: &FlatLayout, team: Arc<Team>) -> Result<Self> {
        let weights = quantize.simulate(header)?;
        let trained: Vec<&str> = layout.tensors().iter().filter(|t| t.is_trained).map(|t| t.name.as_str()).collect();
        let all_places = layout.places();
        let mut own = Self {
            weights,
            blocks: Vec::new(),
            places: Vec::new(),
            sources: vec![NOWHERE; layout.params_len],
            values: Vec::new(),
            team,
        };
        for (weight, simulated) in own.weights.iter().enumerate() {
            let name = header.tensors[simulated.tensor].name.as_str();
            let Some(at) = trained.iter().position(|trained| *trained == name) else {
                return Err(Error::usage(format!(
                    "tensor `{name}` is a running statistic, and only what is trained can be \
                                                 trained as quantized"
                ))
                .hint("leave it out of --rule"));
            };
            let first = own.places.len();
            for (index, place) in all_places[at].iter().enumerate() {
                if let Some(place) = place {
                    own.sources[*place as usize] = (first + index) as u32;
                }
                own.places.push(place.unwrap_or(NOWHERE));
            }
            let quantum = simulated.quantum().max(1) * simulated.columns;
            let len = quantum * (VALUES_PER_BLOCK / quantum.max(1)).max(1);
            let end = own.places.len();
            own.blocks.extend((first..end).step_by(len.max(1)).map(|start| Block {
                weight,
                range: start..(start + len).min(end),
                room: Room::default(),
            }));
        }
        own.values = vec![0.0; own.places.len()];
        Ok(own)
    }

    /// Replaces the weights, in the layout's order, by what a reader of the quantized checkpoint gets.
    pub fn apply(&mut self, weights: &mut [f32]) {
        let (team, simulated, places) = (&self.team, &self.weights, &self.places);
        let mut rest = self.values.as_mut_slice();
        let mut tasks: Vec<(&mut Block, &mut [f32])> = Vec::with_capacity(self.blocks.len());
        for block in &mut self.blocks {
            let (values, behind) = std::mem::take(&mut rest).split_at_mut(block.range.len());
            tasks.push((block, values));
            rest = behind;
        }
        let latent: &[f32] = weights;
        team.each(&mut tasks, |_, (block, values)| {
            for (value, place) in values.iter_mut().zip(&places[block.range.clone()]) {
                // A value without a place is always 0.
                *value = latent.get(*place as usize).copied().unwrap_or(0.0);
            }
            simulated[block.weight].apply(values, &mut block.room);
        });
        let (values, sources) = (&self.values, &self.sources);
        team.chunks(weights, VALUES_PER_BLOCK, |piece, weights| {
            let sources = &sources[piece * VALUES_PER_BLOCK..];
            for (weight, source) in weights.iter_mut().zip(sources) {
                if let Some(value) = values.get(*source as usize) {
                    *weight = *value;
                }
            }
        });
    }
}

impl Extension for FakeQuantize {
    fn weights(&mut self, _at: Moment, _weights: &[f32], used: &mut [f32]) -> Result<bool> {
        self.apply(used);
        Ok(true)
    }
}
