//! Teachers that are asked while a student learns: one network, or several whose answers are averaged.
//!
//! The answer of several is `sum_m w_m ln softmax(z_m)`, weights summing to one: the geometric mean of their
//! distributions, up to a factor that no softmax sees (Hinton et al., 2015, arXiv:1503.02531, section 1). Where outputs are
//! no classes, it is the mean of the outputs.

use std::ops::Range;
use std::sync::Arc;

use dlopt_checkpoint::{Checkpoint, Error, Result, hex};
use dlopt_data::{Batch, Dataset};
use dlopt_kernels::nn::Team;
use dlopt_model::{Loaded, Tap, load, taps};
use dlopt_train::{check_learns, check_preprocessing, check_shape, check_vocabulary};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::network::{Cost, Network};

/// What a teacher says of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// `[samples, outputs]`, or `[samples * steps, outputs]`: logits, or numbers.
    pub outputs: Vec<f32>,
    /// What each of the layers asked for puts out, `[samples, …]`.
    pub features: Vec<Vec<f32>>,
}

/// Who a teacher is, wherever its file lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// SHA-256 of its config and its weights.
    pub digest: String,
    /// How much it counts among several, all together 1.
    pub weight: f64,
}

/// Networks in inference mode.
pub struct Teacher {
    members: Vec<Member>,
    taps: Vec<Tap>,
    is_classification: bool,
}

struct Member {
    name: String,
    /// As it was trained: students may be made of it.
    loaded: Loaded,
    network: Network,
    identity: Identity,
}

impl Teacher {
    /// Opens networks, each with how much it counts, for data that students learn from; `layers` are those whose values are
    /// wanted.
    ///
    /// # Errors
    /// When a network does not take the data or answers something else than they ask, when weights sum to zero, or when
    /// there is no such layer.
    pub fn open(
        checkpoints: Vec<(Checkpoint, f64)>,
        dataset: &Dataset,
        layers: &[String],
        device: &str,
        team: &Arc<Team>,
    ) -> Result<Self> {
        let sum: f64 = checkpoints.iter().map(|(_, weight)| weight).sum();
        if checkpoints.iter().any(|(_, weight)| !(weight.is_finite() && *weight >= 0.0)) || sum <= 0.0 {
            return Err(Error::usage("the weights of the teachers must be numbers, 0 or more, and not all 0")
                .hint("--teacher a.safetensors=2 --teacher b.safetensors=1"));
        }
        if checkpoints.len() > 1 && !layers.is_empty() {
            return Err(Error::usage("layers are compared with those of one teacher, and there are several")
                .hint("compare outputs (kd), or name one teacher"));
        }
        let mut found = Vec::new();
        let mut members = Vec::with_capacity(checkpoints.len());
        for (checkpoint, weight) in checkpoints {
            let loaded = load(&checkpoint)?;
            check(&loaded, &checkpoint.name, dataset)?;
            found = taps(&loaded.nodes, layers).map_err(|e| e.within(&checkpoint.name))?;
            let identity = Identity { digest: digest(&loaded), weight: weight / sum };
            let network = Network::new(&checkpoint, device, team, &found)?;
            members.push(Member { name: checkpoint.name, loaded, network, identity });
        }
        Ok(Self { members, taps: found, is_classification: dataset.targets().is_none() })
    }

    /// Who they are, in the order of the command.
    pub fn identities(&self) -> Vec<Identity> {
        self.members.iter().map(|member| member.identity.clone()).collect()
    }

    /// The layers whose values it gives.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// The networks, each with its name and how much it counts.
    pub fn networks(&self) -> impl Iterator<Item = (&str, &Loaded, f64)> {
        self.members.iter().map(|member| (member.name.as_str(), &member.loaded, member.identity.weight))
    }

    /// Whether it reads the tokens that should come out.
    pub fn has_decoder(&self) -> bool {
        self.members.iter().any(|member| member.network.engine.start().is_some())
    }

    /// Answers a batch.
    ///
    /// # Errors
    /// When the batch does not fit, or an answer is no number: the sample is named.
    pub fn say(&mut self, batch: &Batch, said: &mut Said) -> Result<()> {
        let is_one = self.members.len() == 1;
        said.outputs.clear();
        said.features.resize(self.taps.len(), Vec::new());
        for Member { network, identity, name, .. } in &mut self.members {
            let width = network.prepared.loaded.config.outputs;
            network.answer(batch, |outputs, engine| {
                refuse_no_numbers(outputs, batch, name)?;
                for (own, values) in said.features.iter_mut().zip(engine.tapped()) {
                    own.clear();
                    own.extend_from_slice(values);
                }
                if is_one {
                    said.outputs.extend_from_slice(outputs);
                } else {
                    said.outputs.resize(outputs.len(), 0.0);
                    add_weighted(outputs, width, identity.weight, self.is_classification, &mut said.outputs);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// What each network costs: in batches, of those that it answered so far; by themselves, of the first of `samples`.
    ///
    /// # Errors
    /// When data or device fail.
    pub fn costs(&mut self, dataset: &Dataset, samples: Range<usize>) -> Result<Vec<Cost>> {
        self.members.iter_mut().map(|member| member.network.cost(dataset, samples.clone())).collect()
    }
}

/// Adds `weight` times the logarithms of the distributions, or the outputs themselves, to `into`.
fn add_weighted(outputs: &[f32], width: usize, weight: f64, is_classification: bool, into: &mut [f32]) {
    for (row, into) in outputs.chunks_exact(width.max(1)).zip(into.chunks_exact_mut(width.max(1))) {
        let shift = if is_classification {
            let most = row.iter().fold(f32::NEG_INFINITY, |most, v| most.max(*v));
            f64::from(most) + row.iter().map(|v| f64::from(v - most).exp()).sum::<f64>().ln()
        } else {
            0.0
        };
        for (into, value) in into.iter_mut().zip(row) {
            *into += (weight * (f64::from(*value) - shift)) as f32;
        }
    }
}

fn refuse_no_numbers(outputs: &[f32], batch: &Batch, name: &str) -> Result<()> {
    let Some(at) = outputs.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let row = at / (outputs.len() / batch.indices.len().max(1)).max(1);
    Err(Error::input(format!("{name}: the teacher says {} of sample {}", outputs[at], batch.indices[row]))
        .hint("`dlopt verify` looks for weights that are no numbers"))
}

/// Refuses a teacher for other data.
fn check(loaded: &Loaded, name: &str, dataset: &Dataset) -> Result<()> {
    check_shape(&loaded.config, name, dataset)?;
    check_vocabulary(&loaded.nodes, dataset)?;
    check_preprocessing(&loaded.config, name, dataset)?;
    check_learns(&loaded.nodes, dataset)?;
    let (own, wanted) = (&loaded.config.classes, dataset.classes());
    let differ = !own.is_empty() && !wanted.is_empty() && own != wanted;
    if loaded.config.outputs != dataset.outputs() || differ {
        return Err(Error::input(format!(
            "{name}: teaches {} outputs{}, and {} asks for {}{}",
            loaded.config.outputs,
            listed(own),
            dataset.name(),
            dataset.outputs(),
            listed(wanted)
        ))
        .hint("teacher, student and data must agree on the classes and their order"));
    }
    Ok(())
}

fn listed(classes: &[String]) -> String {
    if classes.is_empty() { String::new() } else { format!(" ({})", classes.join(", ")) }
}

/// SHA-256 of what a network is and of its values.
fn digest(loaded: &Loaded) -> String {
    let mut digest = Sha256::new();
    digest.update(loaded.config.to_json());
    for value in loaded.params.iter().chain(&loaded.buffers) {
        digest.update(value.to_le_bytes());
    }
    hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_teachers_say_the_geometric_mean() {
        // Distributions (3/4, 1/4) and (1/4, 3/4) in equal parts are even, whatever the logits are shifted by.
        let log = 3.0_f32.ln();
        let mut all = vec![0.0; 2];
        add_weighted(&[log + 5.0, 5.0], 2, 0.5, true, &mut all);
        add_weighted(&[0.0, log], 2, 0.5, true, &mut all);
        assert!((all[0] - all[1]).abs() < 1e-6, "{all:?}");
        let mut numbers = vec![0.0; 2];
        add_weighted(&[1.0, 2.0], 2, 0.25, false, &mut numbers);
        add_weighted(&[5.0, -2.0], 2, 0.75, false, &mut numbers);
        assert_eq!(numbers, [4.0, -1.0]);
    }

    #[test]
    fn an_answer_that_is_no_number_names_its_sample() {
        let batch = Batch { indices: vec![7, 9], ..Batch::default() };
        let error = refuse_no_numbers(&[0.0, 1.0, f32::NAN, 0.0], &batch, "t.safetensors").unwrap_err();
        assert!(error.message().contains("NaN of sample 9"), "{error}");
    }
}
