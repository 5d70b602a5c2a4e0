//! Which weights leave next.

use std::collections::HashMap;
use std::ops::Range;

use dlopt_checkpoint::{Error, Result};
use dlopt_model::{FlatLayout, Node, coupling};
use dlopt_prune::{Coupling, Group, Importance, Maker, Pieces, Widths, closest_prefix, importance_named, kept_of};

use super::pattern::Leaving;
use super::places::{Places, joined};
use super::{Among, Pruning};
use crate::masks::ranges_of_weights;
use crate::trainer::is_weight;

/// Share of the channels of each layer that stays where layers compete with each other.
const FLOOR: f64 = 0.1;
/// What says how much a channel matters.
const CRITERION: &str = "l2";

/// Chooses by magnitude, in a pattern.
#[derive(Clone)]
pub(super) enum Chooser {
    /// Single weights, by the slots they lie in.
    Weights(Vec<Vec<Range<usize>>>),
    /// Of each group of `m` weights along the inputs.
    NOfM { n: usize, m: usize, matrices: Vec<Matrix> },
    /// Whole blocks, by where the weights of each lie; lists that compete.
    Blocks(Vec<Vec<Vec<usize>>>),
    /// Whole channels.
    Channels(Box<Channels>),
}

/// A weight as `[out, in * taps]`.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    columns: usize,
    places: Vec<usize>,
}

impl Chooser {
    /// One for a network whose `frozen` slots stay as they are.
    ///
    /// # Errors
    /// When channels are to leave and the network has none that can, or not so many.
    pub(super) fn new(pruning: &Pruning, nodes: &[Node], layout: &FlatLayout, frozen: &[Range<usize>]) -> Result<Self> {
        let is_free = |range: &Range<usize>| !frozen.iter().any(|own| own.start < range.end && range.start < own.end);
        let competes = pruning.scope() == Among::Global;
        match &pruning.pattern {
            Leaving::Weights => {
                let ranges: Vec<_> = ranges_of_weights(layout).into_iter().filter(is_free).collect();
                let apart = || ranges.iter().map(|range| vec![range.clone()]).collect();
                Ok(Self::Weights(if competes { vec![ranges.clone()] } else { apart() }))
            }
            Leaving::NOfM { n, m } => Ok(Self::NOfM { n: *n, m: *m, matrices: matrices(layout, is_free) }),
            Leaving::Block { rows, columns } => {
                let own = matrices(layout, is_free);
                let own: Vec<_> = own.iter().map(|matrix| matrix.blocks(*rows, *columns)).collect();
                Ok(Self::Blocks(if competes { vec![own.concat()] } else { own }))
            }
            Leaving::Channels(makers) => {
                let channels = Channels::new(pruning, makers, nodes, layout, is_free)?;
                Ok(Self::Channels(Box::new(channels)))
            }
        }
    }

    /// Share of what may leave that is 0.
    pub(super) fn zeros(&self, layout: &FlatLayout, weights: &[f32]) -> f64 {
        let share = |places: &mut dyn Iterator<Item = usize>| {
            let (mut zeros, mut all) = (0_usize, 0_usize);
            for place in places {
                all += 1;
                zeros += usize::from(weights[place] == 0.0);
            }
            zeros as f64 / all.max(1) as f64
        };
        match self {
            Self::Weights(lists) => share(&mut lists.iter().flatten().cloned().flatten()),
            Self::NOfM { matrices, .. } => share(&mut matrices.iter().flat_map(|matrix| matrix.places.iter().copied())),
            Self::Blocks(lists) => share(&mut lists.iter().flatten().flatten().copied()),
            Self::Channels(channels) => channels.dead(layout, weights),
        }
    }

    /// Sets the share `sparsity` to 0, the least first, and says where beside weights nothing may come back.
    pub(super) fn choose(&self, sparsity: f64, layout: &FlatLayout, weights: &mut [f32]) -> Result<Vec<usize>> {
        match self {
            Self::Weights(lists) => {
                lists.iter().for_each(|own| zero_smallest(weights, own.iter().cloned().flatten().collect(), sparsity));
            }
            Self::NOfM { n, m, matrices } => {
                matrices.iter().for_each(|matrix| matrix.zero_of_groups(*n, *m, sparsity, weights));
            }
            Self::Blocks(lists) => lists.iter().for_each(|blocks| zero_blocks(weights, blocks, sparsity)),
            Self::Channels(channels) => return channels.choose(sparsity, layout, weights),
        }
        Ok(Vec::new())
    }
}

/// All weights that may leave.
fn matrices(layout: &FlatLayout, is_free: impl Fn(&Range<usize>) -> bool) -> Vec<Matrix> {
    let places = Places::of(layout);
    let own = layout.tensors().iter().filter(|t| t.is_trained && is_weight(t.role) && is_free(&t.range));
    own.filter_map(|tensor| {
        let places = places.get(&tensor.name)?;
        Some(Matrix { columns: places.shape.iter().skip(1).product(), places: places.all() })
    })
    .collect()
}

impl Matrix {
    fn blocks(&self, rows: usize, columns: usize) -> Vec<Vec<usize>> {
        let mut blocks = Vec::new();
        for band in self.places.chunks(rows * self.columns) {
            for first in (0..self.columns).step_by(columns) {
                let last = (first + columns).min(self.columns);
                blocks.push(band.chunks_exact(self.columns).flat_map(|row| &row[first..last]).copied().collect());
            }
        }
        blocks
    }

    /// At `sparsity` below what the pattern is, each group has lost as many of its weights as that share makes whole.
    fn zero_of_groups(&self, n: usize, m: usize, sparsity: f64, weights: &mut [f32]) {
        // A share that ends at `1 - n / m` may be a rounding below it.
        let share = sparsity + 1e-9;
        for group in self.places.chunks_exact(self.columns).flat_map(|row| row.chunks(m)) {
            let most = group.len() - kept_of(group.len(), n, m);
            let gone = most.min((share * group.len() as f64) as usize);
            zero_first(weights, group.to_vec(), gone);
        }
    }
}

/// Sets the share `sparsity` of the weights at `places` to 0, the smallest first, of equals the first.
fn zero_smallest(weights: &mut [f32], places: Vec<usize>, sparsity: f64) {
    let count = ((sparsity * places.len() as f64).round() as usize).min(places.len());
    zero_first(weights, places, count);
}

fn zero_first(weights: &mut [f32], mut places: Vec<usize>, count: usize) {
    if count == 0 {
        return;
    }
    // Magnitudes are ordered as their bits are, NaN above all.
    places.select_nth_unstable_by_key(count - 1, |&place| (weights[place].abs().to_bits(), place));
    places[..count].iter().for_each(|&place| weights[place] = 0.0);
}

/// Sets the blocks of the least mean square to 0, of equals the first, as many as come closest to the share of weights.
fn zero_blocks(weights: &mut [f32], blocks: &[Vec<usize>], sparsity: f64) {
    let all: usize = blocks.iter().map(Vec::len).sum();
    let wanted = sparsity * all as f64;
    let square = |block: &Vec<usize>| block.iter().map(|&at| f64::from(weights[at]).powi(2)).sum::<f64>();
    let mut order: Vec<(f64, usize)> =
        blocks.iter().enumerate().map(|(at, block)| (square(block) / block.len() as f64, at)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut gone = 0;
    for (_, at) in order {
        let own = blocks[at].len();
        if gone as f64 + own as f64 / 2.0 > wanted {
            break;
        }
        blocks[at].iter().for_each(|&place| weights[place] = 0.0);
        gone += own;
    }
}

/// The channels of a network, and where all that writes and reads each lies.
#[derive(Clone)]
pub(super) struct Channels {
    coupling: Coupling,
    /// Whether the channels of a group may leave.
    may: Vec<bool>,
    /// For each group and each of its channels.
    slices: Vec<Vec<Vec<usize>>>,
    competes: bool,
    criterion: &'static dyn Importance,
}

impl Channels {
    fn new(
        pruning: &Pruning,
        makers: &[Maker],
        nodes: &[Node],
        layout: &FlatLayout,
        is_free: impl Fn(&Range<usize>) -> bool,
    ) -> Result<Self> {
        let coupling = coupling(nodes);
        let places = Places::of(layout);
        let frozen: Vec<&str> =
            layout.tensors().iter().filter(|t| t.is_trained && !is_free(&t.range)).map(|t| t.name.as_str()).collect();
        let may = |group: &Group| {
            let is_frozen = group.members.iter().any(|member| frozen.contains(&member.tensor.as_str()));
            group.is_cuttable() && makers.contains(&group.made_by) && !is_frozen
        };
        let slices = |group: &Group| -> Vec<Vec<usize>> {
            let mut slices = vec![Vec::new(); group.channels];
            for member in &group.members {
                let Some(own) = places.get(&member.tensor) else { continue };
                let [low, high] =
                    own.parts().map(|part| Pieces::new(member, group.channels, &own.shape, part).gathered());
                for (channel, (low, high)) in slices.iter_mut().zip(low.iter().zip(&high)) {
                    channel.extend(joined(low, high));
                }
            }
            slices
        };
        let this = Self {
            may: coupling.groups.iter().map(may).collect(),
            slices: coupling.groups.iter().map(slices).collect(),
            competes: pruning.scope() == Among::Global,
            criterion: importance_named(CRITERION)?,
            coupling,
        };
        let widths = this.widths();
        if widths.is_empty() {
            return Err(Error::input(format!("no {} of this network can leave", pruning.pattern))
                .hint("dlopt prune --pattern channels --explain says which go together"));
        }
        let (all, least) = (this.count(&widths.counts(&[])), this.count(&widths.counts(&widths.evenly())));
        let most = 1.0 - least as f64 / all as f64;
        if pruning.sparsity > most {
            let most = (1e4 * most).floor() / 1e4;
            return Err(Error::input(format!(
                "{}% of the channels cannot leave, {:.2}% can: every layer keeps one, and where layers compete a tenth",
                100.0 * pruning.sparsity,
                100.0 * most
            ))
            .hint(format!("a sparsity of {most}")));
        }
        Ok(this)
    }

    fn widths(&self) -> Widths<'_> {
        let floor = if self.competes { FLOOR } else { 0.0 };
        let at = |group: &Group| self.coupling.groups.iter().position(|own| std::ptr::eq(own, group));
        Widths::new(&self.coupling, floor, 1, |group| at(group).is_some_and(|at| self.may[at]))
    }

    /// Channels of groups that may lose some.
    fn count(&self, counts: &[usize]) -> usize {
        self.may.iter().zip(counts).filter(|(may, _)| **may).map(|(_, count)| count).sum()
    }

    /// How much every channel matters, 0 for those that are gone.
    fn importance(&self, layout: &FlatLayout, weights: &[f32]) -> Vec<Vec<f64>> {
        let tensors = layout.params_to_checkpoint(weights);
        let named: HashMap<&str, (&[usize], &[f32])> =
            tensors.iter().map(|t| (t.name.as_str(), (&t.shape[..], &t.values[..]))).collect();
        let values = |member: &dlopt_prune::Member| named.get(member.tensor.as_str()).copied();
        self.coupling.groups.iter().map(|group| group.importance(self.criterion, values)).collect()
    }

    fn dead(&self, layout: &FlatLayout, weights: &[f32]) -> f64 {
        let importance = self.importance(layout, weights);
        let dead: Vec<usize> = importance.iter().map(|own| own.iter().filter(|own| **own == 0.0).count()).collect();
        let all: Vec<usize> = importance.iter().map(Vec::len).collect();
        self.count(&dead) as f64 / self.count(&all).max(1) as f64
    }

    fn choose(&self, sparsity: f64, layout: &FlatLayout, weights: &mut [f32]) -> Result<Vec<usize>> {
        let importance = self.importance(layout, weights);
        let widths = self.widths();
        let order = if self.competes { widths.by_importance(&importance) } else { widths.evenly() };
        let wanted = (1.0 - sparsity) * self.count(&widths.counts(&[])) as f64;
        let cost = |taken: usize| Ok(self.count(&widths.counts(&order[..taken])) as f64);
        let counts = widths.counts(&order[..closest_prefix(order.len(), wanted, cost)?]);
        let mut gone = Vec::new();
        for (at, group) in self.coupling.groups.iter().enumerate().filter(|(at, _)| self.may[*at]) {
            let kept = group.strongest(&importance[at], counts[at])?;
            let leaves = (0..group.channels).filter(|channel| kept.binary_search(channel).is_err());
            gone.extend(leaves.flat_map(|channel| &self.slices[at][channel]));
        }
        gone.iter().for_each(|&place| weights[place] = 0.0);
        Ok(gone)
    }
}
