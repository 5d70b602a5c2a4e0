//! Which samples a training is on.

use std::ops::Range;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Dataset;

use crate::settings::Settings;

/// The samples of the splits that `names` joins by `+`, split after split.
///
/// # Errors
/// When there is no such split, or one is named twice.
pub fn split_ranges(dataset: &Dataset, names: &str) -> Result<Vec<Range<usize>>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for name in names.split('+') {
        let range = dataset.split(name.trim())?;
        if ranges.contains(&range) {
            return Err(Error::usage(format!("--split {names}: `{name}` is named twice")));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// The samples that a training uses, in the data's order: those of its splits, without the classes that are left out.
///
/// # Errors
/// When there is no such split or class, or nothing is left.
pub fn training_samples(settings: &Settings, dataset: &Dataset) -> Result<Vec<usize>> {
    let ranges = split_ranges(dataset, &settings.training_split)?;
    let mut left_out = vec![false; dataset.classes().len()];
    for name in &settings.without_classes {
        let Some(class) = dataset.classes().iter().position(|class| class == name) else {
            return Err(Error::usage(format!("{}: no class `{name}`", dataset.name()))
                .hint(format!("it has {}", dataset.classes().join(", "))));
        };
        left_out[class] = true;
    }
    let labels = dataset.labels();
    let stays = |sample: &usize| settings.without_classes.is_empty() || !left_out[labels[*sample] as usize];
    let samples: Vec<usize> = ranges.into_iter().flatten().filter(stays).collect();
    if samples.is_empty() {
        return Err(Error::usage(format!("{}: no sample is left to train on", dataset.name())));
    }
    Ok(samples)
}
