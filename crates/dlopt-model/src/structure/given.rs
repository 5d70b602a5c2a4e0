//! Importance that was found out on data, for the pass to go by.

use std::collections::BTreeMap;

use dlopt_prune::{Coupling, Part, Pieces};
use serde_json::Value;

use crate::layout::NamedTensor;

/// How much channels matter on data.
#[derive(Clone, Debug)]
pub struct GivenImportance {
    /// The criterion.
    pub criterion: String,
    /// On which data, and how much of it: for the history.
    pub facts: Value,
    /// A number for each channel of each group of the coupling graph; nothing for groups of which nothing is known.
    pub groups: Vec<Option<Vec<f64>>>,
    /// The sum over the values of each trained tensor, by its name; `None` where the criterion says nothing of layers.
    pub tensors: Option<BTreeMap<String, f64>>,
}

/// What channels change of a loss as wholes: sums over passes of `(sum over w of g w)^2`, with `w` all weights that take a
/// channel in and `g` their gradients. To take a channel out is to set these weights to zero, all of them together: it is
/// the gate of Molchanov et al., 2019, arXiv:1906.10771, section 3.3.
#[derive(Debug)]
pub struct JointChanges<'a> {
    coupling: &'a Coupling,
    groups: Vec<Vec<f64>>,
    /// Sums of `(g w)^2` over the values of each tensor.
    tensors: BTreeMap<String, f64>,
    passes: usize,
}

impl<'a> JointChanges<'a> {
    /// Nothing yet.
    pub fn new(coupling: &'a Coupling) -> Self {
        let groups = coupling.groups.iter().map(|group| vec![0.0; group.channels]).collect();
        Self { coupling, groups, tensors: BTreeMap::new(), passes: 0 }
    }

    /// Adds a pass: the product of every weight and its gradient, as tensors of a checkpoint.
    pub fn add(&mut self, products: &[NamedTensor]) {
        self.passes += 1;
        let by_name: BTreeMap<&str, &NamedTensor> = products.iter().map(|own| (own.name.as_str(), own)).collect();
        for (group, changes) in self.coupling.groups.iter().zip(&mut self.groups) {
            let mut sums = vec![0.0; group.channels];
            for member in group.members.iter().filter(|member| member.part == Part::Reads) {
                let Some(own) = by_name.get(member.tensor.as_str()) else { continue };
                let pieces = Pieces::new(member, group.channels, &own.shape, &own.values);
                sums.iter_mut().zip(pieces.sums(|value| value)).for_each(|(sum, own)| *sum += own);
            }
            changes.iter_mut().zip(sums).for_each(|(change, sum)| *change += sum * sum);
        }
        for own in products {
            let squares: f64 = own.values.iter().map(|&value| f64::from(value).powi(2)).sum();
            *self.tensors.entry(own.name.clone()).or_default() += squares;
        }
    }

    /// The mean over all passes, times `factor`.
    pub fn importance(self, criterion: &str, facts: Value, factor: f64) -> GivenImportance {
        let scale = factor / self.passes.max(1) as f64;
        let is_read = |at: usize| self.coupling.groups[at].members.iter().any(|member| member.part == Part::Reads);
        let scaled = |(at, own): (usize, Vec<f64>)| is_read(at).then(|| own.into_iter().map(|v| scale * v).collect());
        GivenImportance {
            criterion: criterion.to_owned(),
            facts,
            groups: self.groups.into_iter().enumerate().map(scaled).collect(),
            tensors: Some(self.tensors.into_iter().map(|(name, sum)| (name, scale * sum)).collect()),
        }
    }
}
