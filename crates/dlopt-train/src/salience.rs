//! How much channels matter on data: criteria that look at activations or gradients, for `dlopt prune` to go by.
//!
//! One file and one line in the table each. Batch norms use their running statistics, and nothing is dropped.

mod activations;
mod apoz;
mod fisher;
mod gradients;
mod mean_activation;
mod taylor;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Dataset;
use dlopt_kernels::nn::Team;
use dlopt_model::{GivenImportance, Loaded};
use serde_json::{Value, json};

use crate::loss::Loss;
use crate::settings::Settings;
use crate::setup::dataset_digest;

/// One line for each.
static TABLE: [Salience; 4] = [taylor::TAYLOR, fisher::FISHER, mean_activation::MEAN_ACTIVATION, apoz::APOZ];

/// A criterion that needs data.
#[derive(Clone, Copy, Debug)]
pub struct Salience {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it was published.
    pub source: &'static str,
    looks: Looks,
}

/// What a criterion looks at.
#[derive(Clone, Copy, Debug)]
enum Looks {
    /// Gradients of the loss: of a batch, or of each sample by itself; and what their squares are multiplied by.
    Gradients { of_samples: bool, factor: f64 },
    /// What layers put out, and what a value scores.
    Activations { score: fn(f64) -> f64 },
}

/// The data that a criterion looks at.
pub struct Looking<'a> {
    /// Prepared as the network takes them.
    pub dataset: &'a Dataset,
    /// Which split.
    pub split: &'a str,
    /// How many batches of it, evenly spaced, and samples of a batch.
    pub batches: [usize; 2],
    /// Who works.
    pub team: &'a Arc<Team>,
    /// Set from outside to stop the work.
    pub stop: &'a AtomicBool,
}

impl Salience {
    /// All of them.
    pub fn all() -> &'static [Self] {
        &TABLE
    }

    /// The one of a name.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|own| own.name == name).copied()
    }

    /// How much each channel of a network matters on data.
    ///
    /// # Errors
    /// When the data do not fit, or cannot be read; or `stop` was set.
    pub fn of(&self, loaded: &Loaded, looking: &Looking<'_>) -> Result<GivenImportance> {
        let samples = looking.samples()?;
        let [_, batch] = looking.batches;
        let facts = looking.facts()?;
        match self.looks {
            Looks::Activations { score } => activations::importance(self.name, facts, loaded, looking, &samples, score),
            Looks::Gradients { of_samples, factor } => {
                let batch = if of_samples { 1 } else { batch };
                gradients::importance(self.name, facts, loaded, looking, &samples, batch, factor)
            }
        }
    }
}

impl Looking<'_> {
    /// Which data, and how much of it, for the history.
    ///
    /// # Errors
    /// When there is no such split, or nothing in it.
    pub fn facts(&self) -> Result<Value> {
        Ok(json!({
            "data": dataset_digest(self.dataset),
            "split": self.split,
            "samples": self.samples()?.len(),
            "batch": self.batches[1],
        }))
    }

    /// So many samples of the split, evenly spaced: those of a split that is sorted by class are of all classes.
    pub(crate) fn samples(&self) -> Result<Vec<usize>> {
        let own = self.dataset.split(self.split)?;
        let [batches, batch] = self.batches;
        let count = batches.saturating_mul(batch).min(own.len());
        if count == 0 {
            return Err(Error::usage(format!("{}: no samples to look at", self.dataset.name()))
                .hint("--batches is at least 1, and the split has samples"));
        }
        Ok((0..count).map(|at| own.start + at * own.len() / count).collect())
    }
}

/// The loss that a network was trained with, if its config says, or else the one that the data ask for.
fn loss_of(loaded: &Loaded, dataset: &Dataset) -> Loss {
    let settings = loaded.config.training.get("settings").cloned().unwrap_or_default();
    match serde_json::from_value::<Settings>(settings) {
        Ok(settings) if settings.loss.check(dataset).is_ok() => settings.loss,
        _ if dataset.targets().is_some() => Loss::Mse,
        _ => Loss::CrossEntropy,
    }
}

#[cfg(test)]
mod tests;
