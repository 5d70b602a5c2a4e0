//! How many samples come of each.

use std::ops::Range;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Dataset;

use super::PassOptions;

/// Where the samples that come of each stand.
pub(super) struct Places {
    /// Where those of each begin, and after the last the end.
    begins: Vec<u32>,
    /// Whether each sample stands before its copies.
    keeps: Vec<bool>,
}

impl Places {
    /// Samples that are written.
    pub(super) fn outputs(&self) -> usize {
        self.begin(self.keeps.len())
    }

    /// Where those of a sample begin; behind the last sample, where all end.
    pub(super) fn begin(&self, sample: usize) -> usize {
        self.begins[sample] as usize
    }

    /// Those of a sample.
    pub(super) fn of(&self, sample: usize) -> Range<usize> {
        self.begin(sample)..self.begin(sample + 1)
    }

    /// The sample that an output comes of.
    pub(super) fn source(&self, output: usize) -> usize {
        self.begins.partition_point(|begin| *begin as usize <= output) - 1
    }

    /// Which copy of its sample an output is; `None` of the original.
    pub(super) fn copy(&self, sample: usize, output: usize) -> Option<usize> {
        (output - self.begin(sample)).checked_sub(usize::from(self.keeps[sample]))
    }

    /// Originals that are written.
    pub(super) fn kept(&self) -> usize {
        self.keeps.iter().filter(|kept| **kept).count()
    }
}

/// Decides how many samples come of each.
pub(super) fn places(dataset: &Dataset, split: &Range<usize>, options: &PassOptions) -> Result<Places> {
    let labels = dataset.labels();
    let wants_classes = options.balances || !options.only_classes.is_empty();
    if wants_classes && labels.is_empty() {
        let flag = if options.balances { "--balance" } else { "--only-class" };
        return Err(Error::usage(format!("{}: {flag} needs classes, and there are none", dataset.name())));
    }
    let mut chosen = vec![options.only_classes.is_empty(); dataset.classes().len()];
    for name in &options.only_classes {
        match dataset.classes().iter().position(|class| class == name) {
            Some(class) => chosen[class] = true,
            None => {
                let names: Vec<&str> = dataset.classes().iter().take(20).map(String::as_str).collect();
                return Err(Error::usage(format!("{}: no class `{name}`", dataset.name()))
                    .hint(format!("there are {}", names.join(", "))));
            }
        }
    }
    let is_chosen = |sample: usize| labels.get(sample).is_none_or(|label| chosen[*label as usize]);
    let mut counts = vec![0_usize; dataset.classes().len()];
    if options.balances {
        split.clone().filter(|&s| is_chosen(s)).for_each(|s| counts[labels[s] as usize] += 1);
    }
    let kept = usize::from(options.keeps_original);
    let wanted = counts.iter().max().copied().unwrap_or(0).saturating_mul(options.copies + kept);
    let mut seen = vec![0_usize; counts.len()];
    let (mut begins, mut keeps) = (vec![0], Vec::with_capacity(dataset.samples()));
    let mut next = 0_usize;
    for sample in 0..dataset.samples() {
        let label = labels.get(sample).map_or(0, |label| *label as usize);
        let (is_kept, copies) = if !split.contains(&sample) || !is_chosen(sample) {
            (true, 0)
        } else if options.balances {
            // The first samples of a class get one copy more when they cannot all have as many.
            let class = label;
            let missing = wanted - kept * counts[class];
            seen[class] += 1;
            (options.keeps_original, missing / counts[class] + usize::from(seen[class] <= missing % counts[class]))
        } else {
            (options.keeps_original, options.copies)
        };
        next = next.saturating_add(usize::from(is_kept)).saturating_add(copies);
        let Ok(begin) = u32::try_from(next) else {
            return Err(Error::usage("the copies are more samples than a dataset can number, 4,294,967,295")
                .hint("fewer --copies; `dlopt train --augment` makes new ones in every epoch"));
        };
        begins.push(begin);
        keeps.push(is_kept);
    }
    Ok(Places { begins, keeps })
}

/// Samples of each class in the split: before and after.
pub(super) fn class_counts(dataset: &Dataset, split: &Range<usize>, places: &Places) -> Vec<(String, [usize; 2])> {
    let mut counts = vec![[0, 0]; dataset.classes().len()];
    if !dataset.labels().is_empty() {
        for sample in split.clone() {
            let own = &mut counts[dataset.labels()[sample] as usize];
            own[0] += 1;
            own[1] += places.of(sample).len();
        }
    }
    dataset.classes().iter().cloned().zip(counts).collect()
}
