//! What is to be learned, brought together from all sources.

use std::collections::{BTreeSet, HashMap};

use dlopt_checkpoint::{Error, Result};

use crate::dataset::quoted;
use crate::readers::{About, Labels};

/// What is to be learned, by sample as the sources give them.
#[derive(Default)]
pub(super) struct Learned {
    pub(super) classes: Vec<String>,
    pub(super) labels: Vec<u32>,
    pub(super) targets: Vec<f32>,
    /// Of the columns of targets.
    pub(super) names: Vec<String>,
    pub(super) outputs: usize,
    /// Whether the samples bring sequences with them.
    pub(super) has_sequences: bool,
    /// Whether the next token is to be learned.
    pub(super) is_next: bool,
}

impl Learned {
    /// Keeps these samples, in this order.
    pub(super) fn keep(&mut self, kept: &[u32]) {
        if !self.labels.is_empty() {
            self.labels = kept.iter().map(|&sample| self.labels[sample as usize]).collect();
        }
        if !self.targets.is_empty() {
            let row = |&sample: &u32| &self.targets[sample as usize * self.outputs..][..self.outputs];
            self.targets = kept.iter().flat_map(row).copied().collect();
        }
    }
}

/// Brings what all sources say about their samples to one set of classes or targets.
pub(super) fn learned(abouts: &[&About], given: &[String]) -> Result<Learned> {
    let first = abouts[0];
    let mut learned = Learned::default();
    if matches!(first.labels, Labels::Next | Labels::Sequences) {
        if let Some(other) = abouts.iter().find(|other| other.labels != first.labels) {
            return Err(differently(first, other));
        }
        if !given.is_empty() {
            return Err(Error::usage("--classes names classes, and the data hold none"));
        }
        learned.has_sequences = first.labels == Labels::Sequences;
        learned.is_next = !learned.has_sequences;
        return Ok(learned);
    }
    if let Labels::Targets { names, outputs, .. } = &first.labels {
        if !given.is_empty() {
            return Err(Error::usage("--classes names classes, and the data hold numbers to predict"));
        }
        (learned.names, learned.outputs) = (names.clone(), *outputs);
        for about in abouts {
            match &about.labels {
                Labels::Targets { values, outputs, .. } if *outputs == learned.outputs => {
                    learned.targets.extend_from_slice(values);
                }
                _ => return Err(differently(first, about)),
            }
        }
        return Ok(learned);
    }
    learned.classes = classes(abouts, given)?;
    let place: HashMap<&str, u32> =
        learned.classes.iter().enumerate().map(|(i, name)| (name.as_str(), i as u32)).collect();
    for about in abouts {
        match &about.labels {
            Labels::Numbers(numbers) => {
                if let Some(sample) = numbers.iter().position(|&number| number as usize >= learned.classes.len()) {
                    return Err(Error::input(format!(
                        "{}: label {} of sample {sample} is outside the {} classes (0 to {})",
                        about.name,
                        numbers[sample],
                        learned.classes.len(),
                        learned.classes.len() - 1
                    ))
                    .hint("--classes names them all, in the order of their numbers"));
                }
                learned.labels.extend_from_slice(numbers);
            }
            Labels::Names { distinct, of_sample } => {
                let numbers = distinct
                    .iter()
                    .map(|(name, at)| {
                        let number = || name.parse::<u32>().ok().filter(|&n| (n as usize) < learned.classes.len());
                        place.get(name.as_str()).copied().or_else(number).ok_or_else(|| {
                            Error::input(format!(
                                "{}: {at}: class `{name}` is outside the classes: {}",
                                about.name,
                                quoted(&learned.classes)
                            ))
                        })
                    })
                    .collect::<Result<Vec<_>>>()?;
                learned.labels.extend(of_sample.iter().map(|&at| numbers[at as usize]));
            }
            _ => return Err(differently(first, about)),
        }
    }
    Ok(learned)
}

fn differently(first: &About, other: &About) -> Error {
    Error::input(format!("{} and {} hold different things to learn", first.name, other.name))
        .hint("all raw data of one dataset must have the same classes or the same targets")
}

/// What the classes are called: as somebody says, as the files declare, or as they occur.
fn classes(abouts: &[&About], given: &[String]) -> Result<Vec<String>> {
    if !given.is_empty() {
        let different: BTreeSet<&String> = given.iter().collect();
        if different.len() < given.len() {
            return Err(Error::usage("--classes names a class twice"));
        }
        return Ok(given.to_vec());
    }
    let declared = abouts.iter().filter_map(|about| about.classes.as_ref());
    let mut classes: Vec<String> = Vec::new();
    for name in declared.flatten() {
        if !classes.contains(name) {
            classes.push(name.clone());
        }
    }
    if !classes.is_empty() {
        return Ok(classes);
    }
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut largest = None;
    for about in abouts {
        match &about.labels {
            Labels::Numbers(numbers) => largest = largest.max(numbers.iter().max().copied()),
            Labels::Names { distinct, .. } => names.extend(distinct.iter().map(|(name, _)| name.as_str())),
            _ => return Err(differently(abouts[0], about)),
        }
    }
    if let Some(largest) = largest {
        if !names.is_empty() {
            return Err(Error::input("some of the files hold class numbers, others class names")
                .hint("--classes names the classes, in the order of their numbers"));
        }
        if largest >= 1 << 20 {
            return Err(Error::input(format!("label {largest} is no class number"))
                .hint("numbers to predict are floats in .npz, and columns named with --targets in tables"));
        }
        return Ok((0..=largest).map(|class| class.to_string()).collect());
    }
    let mut names: Vec<&str> = names.into_iter().collect();
    let number = |name: &str| name.parse::<i64>();
    if names.iter().all(|name| number(name).is_ok()) {
        names.sort_by_key(|name| number(name).unwrap_or_default());
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}
