//! Test-time augmentation: the mean answer to each sample as it is and to changed copies of it.
//!
//! Copy `n` of a sample is changed by what is drawn for the seed, `n` and the number of the sample: the same at any number
//! of threads and size of batches.

use std::path::Path;

use dlopt_augment::{Augmenter, Recipe};
use dlopt_checkpoint::{Error, Progress, Result};
use dlopt_metrics::{MeanOfViews, OutputKind};
use dlopt_train::Engine;
use serde::Serialize;
use serde_json::Value;

use super::run::Opened;
use super::{Job, Metrics, Paired};
use crate::progress::Bar;
use crate::verbs::augment;

/// Copies to be made of every sample.
pub(super) struct Copies {
    count: u16,
    augmenter: Augmenter,
}

/// What was said of the samples as they are, beside the mean over copies.
pub(super) struct Averaged {
    pub(super) copies: Copies,
    pub(super) plain: Vec<f32>,
}

/// What test-time augmentation changes.
#[derive(Serialize)]
pub(super) struct Tta {
    /// Changed copies of every sample, beside the sample as it is.
    copies: u16,
    recipe: Value,
    /// Decides the draws.
    seed: u64,
    /// Of the samples as they are.
    plain: Metrics,
    /// The samples as they are (first), and the mean with their copies (second).
    paired: Paired,
}

impl Copies {
    /// Copies by the recipe that was asked for, or else the one that the network was trained with.
    pub(super) fn new(job: &Job<'_>, opened: &Opened, count: u16) -> Result<Self> {
        let (file, ops) = (job.args.augment.as_deref(), &job.args.augment_op[..]);
        let recipe = match asked(file, ops)? {
            Some(recipe) => recipe,
            None => recorded(opened)?,
        };
        if recipe.mixes() {
            return Err(Error::usage("--tta keeps the label of each sample, and the recipe mixes samples")
                .hint("name other operations with --augment-op, such as --augment-op horizontal-flip"));
        }
        let augmenter = Augmenter::over(recipe, &opened.dataset, job.samples.clone(), job.args.seed)?;
        Ok(Self { count, augmenter })
    }

    /// The mean of what is said of all samples, `plain`, and of their copies.
    pub(super) fn mean(
        &self,
        job: &Job<'_>,
        opened: &Opened,
        engine: &mut Engine,
        kind: OutputKind,
        plain: &[f32],
    ) -> Result<Vec<f32>> {
        let bar = Bar::of_samples(job.args.report.quiet);
        bar.phase("copies", u64::from(self.count) * job.samples.len() as u64);
        let mut mean = MeanOfViews::new(kind, opened.loaded().config.outputs, plain.to_vec());
        for copy in 0..self.count {
            mean.add(&opened.outputs_changed(job, engine, &self.augmenter.in_round(u64::from(copy)), &bar)?)?;
        }
        bar.clear();
        Ok(mean.outputs())
    }

    /// What the copies change.
    pub(super) fn report(&self, seed: u64, plain: Metrics, paired: Paired) -> Tta {
        Tta { copies: self.count, recipe: self.augmenter.recipe().spec(), seed, plain, paired }
    }
}

impl Tta {
    /// What the metrics are of.
    pub(super) fn head(&self) -> String {
        let copies = if self.copies == 1 { "copy" } else { "copies" };
        format!("the mean of every sample and {} changed {copies} of it; ", self.copies)
    }

    /// What the mean is worth more than the samples as they are.
    pub(super) fn text(&self) -> String {
        format!("\n{}", self.paired.text("as they are", &format!("mean of {}", u32::from(self.copies) + 1)))
    }
}

fn asked(file: Option<&Path>, ops: &[String]) -> Result<Option<Recipe>> {
    if file.is_none() && ops.is_empty() {
        return Ok(None);
    }
    augment::recipe(file, ops).map(Some)
}

/// The recipe of the training.
fn recorded(opened: &Opened) -> Result<Recipe> {
    match &opened.loaded().config.training["settings"]["augment"] {
        Value::Null => Err(Error::usage(format!(
            "{}: was trained without augmentation, so it has no recipe for --tta",
            opened.name()
        ))
        .hint("--augment-op horizontal-flip, or --augment FILE.toml")),
        spec => Recipe::of(spec).map_err(|e| e.within(opened.name())),
    }
}
