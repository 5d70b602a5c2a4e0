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

impl GivenImportance {
    /// How much channels matter where every weight has a number of its own, all on one scale: a channel counts as the sum
    /// over its slices of weights and scales.
    pub fn of_weights(criterion: &str, facts: Value, coupling: &Coupling, weights: &[NamedTensor]) -> Self {
        let by_name: BTreeMap<&str, &NamedTensor> = weights.iter().map(|own| (own.name.as_str(), own)).collect();
        let mut groups = Vec::new();
        for group in &coupling.groups {
            let mut sums = vec![0.0; group.channels];
            for member in group.members.iter().filter(|member| member.part != Part::Follows) {
                let Some(own) = by_name.get(member.tensor.as_str()) else { continue };
                let pieces = Pieces::new(member, group.channels, &own.shape, &own.values);
                sums.iter_mut().zip(pieces.sums(|value| value)).for_each(|(sum, own)| *sum += own);
            }
            groups.push(Some(sums));
        }
        let sum = |own: &NamedTensor| own.values.iter().map(|&value| f64::from(value)).sum();
        let tensors = Some(weights.iter().map(|own| (own.name.clone(), sum(own))).collect());
        Self { criterion: criterion.to_owned(), facts, groups, tensors }
    }
}
