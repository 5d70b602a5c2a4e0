//! What is seen of the weights: scores of the slices of each tensor.

use std::collections::BTreeMap;

use dlopt_checkpoint::{Dtype, Error, Result, Unit};
use dlopt_kernels::Float;
use dlopt_prune::{Group, Part, Pieces, Structure};

use super::network::Prunable;
use super::pass::{PruneStructure, Weigh};

/// Scores of the slices of tensors.
#[derive(Default)]
pub(super) struct Seen {
    /// For every member of a group, by the numbers of both, a score for each channel.
    members: BTreeMap<[usize; 2], Vec<f64>>,
    /// For every tensor the sum of its slices' scores, and how many values it has.
    tensors: BTreeMap<String, (f64, usize)>,
}

impl Seen {
    /// Adds what a tensor of the plan says.
    pub(super) fn see(&mut self, pass: &PruneStructure, network: &Prunable, name: &str, values: &[f32]) {
        let Weigh::Weights(by) = &pass.options.weigh else { return };
        let shape = network.shape(name);
        for (at, group) in network.coupling.groups.iter().enumerate() {
            let counting = group.members.iter().enumerate().filter(|(_, m)| m.tensor == name && by.counts(m.part));
            for (number, member) in counting {
                let is_first = || !self.tensors.contains_key(name);
                let scores = || by.scores(&Pieces::new(member, group.channels, shape, values), pass.options.seed);
                match pass.options.structure {
                    // The rows say it all; columns would count the same weights again.
                    Structure::Layers if member.part != Part::Reads && is_first() => {
                        self.tensors.insert(name.to_owned(), (scores().iter().sum(), values.len()));
                    }
                    Structure::Channels(_) if pass.may(group) => {
                        self.members.insert([at, number], scores());
                    }
                    _ => {}
                }
            }
        }
    }

    /// Adds what was seen of other tensors.
    pub(super) fn take(&mut self, mut other: Self) {
        self.members.append(&mut other.members);
        self.tensors.append(&mut other.tensors);
    }

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
    /// The values of a tensor, as f32.
    pub(super) fn values(&self, unit: &Unit, bytes: &[u8]) -> Result<Vec<f32>> {
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
                return Err(Error::input(format!("tensor `{}` holds {what} at index {at}", unit.name))
                    .hint("--allow-nonfinite goes on"));
            }
            values.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = f32::MAX);
        }
        Ok(values)
    }
}
