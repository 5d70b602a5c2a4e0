//! What is seen of the weights: scores of the slices of each tensor.

use std::collections::BTreeMap;
use std::ops::Range;

use dlopt_checkpoint::{Dtype, Error, Result, Unit};
use dlopt_kernels::Float;
use dlopt_prune::{Group, Part, Pieces, Structure};

use super::network::Prunable;
use super::pass::{PruneStructure, Weigh};

/// Scores of the slices of tensors, each piece of neighbouring rows by itself: pieces are seen in any order, and added up in
/// theirs.
#[derive(Default)]
pub(super) struct Seen {
    /// For every member of a group, by the numbers of both, and every first row of a piece, a score for each channel.
    members: BTreeMap<([usize; 2], usize), Vec<f64>>,
    /// For every tensor and every first row the sum of its slices' scores, and how many values there are.
    tensors: BTreeMap<(String, usize), (f64, usize)>,
}

/// Scores of the slices of whole tensors.
pub(super) struct Scores {
    members: BTreeMap<[usize; 2], Vec<f64>>,
    tensors: BTreeMap<String, (f64, usize)>,
}

impl Seen {
    /// Adds what a piece of a tensor of the plan says, which are `rows` of it.
    pub(super) fn see(
        &mut self,
        pass: &PruneStructure,
        network: &Prunable,
        name: &str,
        rows: &Range<usize>,
        values: &[f32],
    ) {
        let Weigh::Weights(by) = &pass.options.weigh else { return };
        let shape = network.shape(name);
        let of_tensor = (name.to_owned(), rows.start);
        for (at, group) in network.coupling.groups.iter().enumerate() {
            let counting = group.members.iter().enumerate().filter(|(_, m)| m.tensor == name && by.counts(m.part));
            for (number, member) in counting {
                let is_first = || !self.tensors.contains_key(&of_tensor);
                let pieces = || Pieces::of_rows(member, group.channels, shape, rows.clone(), values);
                let scores = || by.scores(&pieces(), pass.options.seed);
                match pass.options.structure {
                    // The rows say it all; columns would count the same weights again.
                    Structure::Layers if member.part != Part::Reads && is_first() => {
                        self.tensors.insert(of_tensor.clone(), (scores().iter().sum(), values.len()));
                    }
                    Structure::Channels(_) if pass.may(group) => {
                        self.members.insert(([at, number], rows.start), scores());
                    }
                    _ => {}
                }
            }
        }
    }

    /// Adds what was seen of other pieces.
    pub(super) fn take(&mut self, mut other: Self) {
        self.members.append(&mut other.members);
        self.tensors.append(&mut other.tensors);
    }

    /// The scores of whole tensors.
    pub(super) fn scores(self) -> Scores {
        let (mut members, mut tensors) = (BTreeMap::new(), BTreeMap::new());
        for ((member, _), piece) in self.members {
            let sums: &mut Vec<f64> = members.entry(member).or_insert_with(|| vec![0.0; piece.len()]);
            sums.iter_mut().zip(piece).for_each(|(sum, score)| *sum += score);
        }
        for ((name, _), (score, values)) in self.tensors {
            let own: &mut (f64, usize) = tensors.entry(name).or_default();
            *own = (own.0 + score, own.1 + values);
        }
        Scores { members, tensors }
    }
}

impl Scores {
    /// How much each channel of a group matters, if anything was seen that says so.
    pub(super) fn importance(&self, at: usize, group: &Group) -> Option<Vec<f64>> {
        self.members.keys().any(|[own, _]| *own == at).then(|| {
            let number = |member| group.members.iter().position(|own| std::ptr::eq(own, member));
            group.shares(|member| self.members.get(&[at, number(member)?]).map(Vec::as_slice))
        })
    }

    /// The mean score of a tensor's values, with how many there are.
    pub(super) fn tensor(&self, name: &str) -> Option<(f64, usize)> {
        self.tensors.get(name).copied()
    }
}

impl PruneStructure {
    /// The values of rows of a tensor, as f32; `first` is the index of the first value.
    pub(super) fn values(&self, unit: &Unit, first: usize, bytes: &[u8]) -> Result<Vec<f32>> {
        let kind = match unit.writes[0].info.dtype {
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::BF16,
            Dtype::F64 => Float::F64,
            _ => Float::F32,
        };
        let mut values = vec![0.0; bytes.len() / kind.bytes()];
        dlopt_kernels::widen(kind, bytes, &mut values);
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            if !self.options.allow_nonfinite {
                let what = if values[at].is_nan() { "NaN" } else { "infinity" };
                let index = first + at;
                return Err(Error::input(format!("tensor `{}` holds {what} at index {index}", unit.name))
                    .hint("--allow-nonfinite goes on"));
            }
            values.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = f32::MAX);
        }
        Ok(values)
    }
}
