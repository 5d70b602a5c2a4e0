//! Accuracy under corruption: a pass over the split for every corruption at every strength.

use dlopt_augment::{Augmenter, CORRUPTIONS, Corruption};
use dlopt_checkpoint::{Error, Progress, Result};
use dlopt_metrics::{Corrupted, predictions};
use dlopt_train::Engine;

use super::Job;
use super::run::Opened;
use super::samples::Truth;
use crate::progress::Bar;

/// Which samples are right as they are, and under every corruption.
pub(super) struct Under {
    clean: Vec<bool>,
    corrupted: Vec<Corrupted>,
}

/// A corruption, and how it changes samples at each of its strengths.
pub(super) type Changing = (&'static Corruption, Vec<Augmenter>);

impl Under {
    /// Both, as metrics take them.
    pub(super) fn parts(&self) -> (&[bool], &[Corrupted]) {
        (&self.clean, &self.corrupted)
    }
}

/// All corruptions of the samples; refuses data that none is for.
pub(super) fn changes(job: &Job<'_>, opened: &Opened, truth: &Truth) -> Result<Vec<Changing>> {
    if truth.labels.is_empty() {
        return Err(Error::usage(
            "--corrupt counts the samples that are right: it needs classes, and the outputs are none",
        ));
    }
    let of_one = |(place, corruption): (usize, &'static Corruption)| -> Result<Changing> {
        let at = |&strength: &f64| {
            let changing = corruption.of(strength, &opened.dataset, job.samples.clone(), job.args.seed)?;
            Ok(changing.in_round(place as u64))
        };
        Ok((corruption, corruption.strengths.iter().map(at).collect::<Result<_>>()?))
    };
    CORRUPTIONS.iter().enumerate().map(of_one).collect()
}

/// Runs the network over all of them; `clean` is what it says of the samples as they are, and their labels.
pub(super) fn run(
    job: &Job<'_>,
    opened: &Opened,
    engine: &mut Engine,
    changes: Vec<Changing>,
    (clean, labels): (&[f32], &[u32]),
) -> Result<Under> {
    let right = |outputs: &[f32]| -> Result<Vec<bool>> {
        let said = predictions(outputs, opened.loaded().config.outputs, None)?;
        Ok(said.iter().zip(labels).map(|(said, label)| said.predicted == *label).collect())
    };
    let bar = Bar::of_samples(job.args.report.quiet);
    let passes: usize = changes.iter().map(|(_, strengths)| strengths.len()).sum();
    bar.phase("corrupt", (passes * job.samples.len()) as u64);
    let mut corrupted = Vec::with_capacity(changes.len());
    for (corruption, changes) in changes {
        let mut own = Corrupted {
            name: corruption.name.to_owned(),
            unit: corruption.unit.to_owned(),
            strengths: corruption.strengths.to_vec(),
            right: Vec::with_capacity(changes.len()),
        };
        for changes in &changes {
            let outputs = opened.outputs_changed(job, engine, changes, &bar)?;
            own.right.push(right(&outputs).map_err(|e| e.within(corruption.name))?);
        }
        corrupted.push(own);
    }
    bar.clear();
    Ok(Under { clean: right(clean)?, corrupted })
}
