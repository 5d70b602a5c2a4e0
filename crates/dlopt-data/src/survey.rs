//! What a dataset holds, counted: splits and classes, lengths, and on request the range of every channel.

use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_checkpoint::{Error, Progress, Result, dtype_name};
use serde::Serialize;

use crate::dataset::{Batch, Dataset};
use crate::info::{DatasetInfo, Elements, Learns, Preprocessing, Standardise};
use crate::prepare::SplitReport;

/// Where the largest class has more than so many times the samples of the smallest, the balance is worth a warning.
const FAR_MORE: u64 = 10;

/// Numbers that are read at a time.
const BATCH_ELEMENTS: usize = 1 << 20;

/// What a dataset holds.
#[derive(Clone, Debug, Serialize)]
pub struct DatasetSurvey {
    /// How many samples there are.
    pub samples: usize,
    /// What a sample is, in words.
    pub elements: String,
    /// Extents of `inputs`, samples first.
    pub shape: Vec<usize>,
    /// Element type of the inputs.
    pub dtype: String,
    /// The splits, in the order they are stored.
    pub splits: Vec<SplitReport>,
    /// Steps of series, tokens of texts, when they differ.
    pub lengths: Option<LengthReport>,
    /// Tokens of the sequences that are learned, their ends included.
    pub sequences: Option<LengthReport>,
    /// The stored numbers of each channel or feature, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<ChannelReport>>,
    /// What it says about itself.
    pub info: DatasetInfo,
    /// What a reader should know.
    pub warnings: Vec<String>,
}

/// How lengths are spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LengthReport {
    /// The shortest.
    pub shortest: u32,
    /// A quarter is shorter.
    pub lower_quartile: u32,
    /// Half is shorter.
    pub median: u32,
    /// Three quarters are shorter.
    pub upper_quartile: u32,
    /// The longest.
    pub longest: u32,
    /// All together over their number.
    pub mean: f64,
}

impl LengthReport {
    /// Of these lengths; `None` of none.
    fn of(mut lengths: Vec<u32>) -> Option<Self> {
        lengths.sort_unstable();
        let at = |share: usize| lengths.get((lengths.len().max(1) - 1) * share / 4).copied();
        let total: f64 = lengths.iter().map(|&length| f64::from(length)).sum();
        Some(Self {
            shortest: at(0)?,
            lower_quartile: at(1)?,
            median: at(2)?,
            upper_quartile: at(3)?,
            longest: at(4)?,
            mean: total / lengths.len() as f64,
        })
    }
}

/// The stored numbers of a channel or feature in all samples, padding left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChannelReport {
    /// What it is called.
    pub name: String,
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
}

impl DatasetSurvey {
    /// Counts from what is beside the inputs.
    pub fn of(dataset: &Dataset) -> Self {
        let info = dataset.info().clone();
        let splits = splits(dataset, &info);
        let lengths = dataset.lengths().and_then(|lengths| LengthReport::of(lengths.to_vec()));
        let is_sequence = matches!(info.learns, Learns::Sequence { .. });
        let steps = |sample| dataset.sequence_length(sample) as u32;
        let sequences = is_sequence.then(|| LengthReport::of((0..dataset.samples()).map(steps).collect())).flatten();
        let mut shape = vec![dataset.samples()];
        shape.extend(info.elements.shape());
        Self {
            samples: dataset.samples(),
            elements: info.elements.in_words(),
            shape,
            dtype: dtype_name(dataset.dtype()).to_owned(),
            lengths,
            sequences,
            channels: None,
            warnings: warnings(&splits, &info),
            splits,
            info,
        }
    }

    /// Reads all inputs and adds the range, mean and deviation of every channel. Tokens have none.
    ///
    /// # Errors
    /// When the inputs cannot be read, hold NaN or infinities, or `stop` is set.
    pub fn measure(&mut self, dataset: &mut Dataset, progress: &dyn Progress, stop: &AtomicBool) -> Result<()> {
        if matches!(self.info.elements, Elements::Tokens { .. }) {
            return Ok(());
        }
        let own = dataset.preprocessing().clone();
        // As they are stored: without a factor, not standardised.
        dataset.set_preprocessing(Preprocessing {
            scale: 1.0,
            mean: Vec::new(),
            deviation: Vec::new(),
            standardise: Standardise::None,
            ..own.clone()
        })?;
        let measured = ranges(dataset, progress, stop);
        dataset.set_preprocessing(own)?;
        let name = |(channel, range): (usize, Range)| range.report(self.info.elements.channel_name(channel));
        self.channels = Some(measured?.into_iter().enumerate().map(name).collect());
        Ok(())
    }
}

/// Samples and classes of each split, ordered as they are stored.
fn splits(dataset: &Dataset, info: &DatasetInfo) -> Vec<SplitReport> {
    let mut ranges: Vec<(&String, [usize; 2])> = info.splits.iter().map(|(name, range)| (name, *range)).collect();
    ranges.sort_by_key(|(_, range)| *range);
    let report = |(name, [begin, end]): (&String, [usize; 2])| {
        let mut classes = vec![0; info.classes.len()];
        for &label in dataset.labels().get(begin..end).unwrap_or_default() {
            if let Some(count) = classes.get_mut(label as usize) {
                *count += 1;
            }
        }
        SplitReport { name: name.clone(), samples: end - begin, classes }
    };
    ranges.into_iter().map(report).collect()
}

fn warnings(splits: &[SplitReport], info: &DatasetInfo) -> Vec<String> {
    let mut warnings = Vec::new();
    for split in splits {
        let counts = split.classes.iter().copied().zip(&info.classes);
        let missing: Vec<&String> = counts.clone().filter(|(count, _)| *count == 0).map(|(_, name)| name).collect();
        if !missing.is_empty() {
            let shown = crate::dataset::quoted(&missing[..missing.len().min(6)]);
            warnings.push(format!("split `{}` has no sample of {} classes: {shown}", split.name, missing.len()));
        }
        let present = counts.filter(|(count, _)| *count > 0);
        if let (Some((few, rare)), Some((many, frequent))) =
            (present.clone().min_by_key(|(count, _)| *count), present.max_by_key(|(count, _)| *count))
            && many > FAR_MORE * few
        {
            warnings.push(format!(
                "split `{}` is unbalanced: {many} samples of `{frequent}`, {few} of `{rare}`",
                split.name
            ));
        }
    }
    warnings
}

/// What is known of the numbers of a channel so far.
#[derive(Clone, Copy)]
struct Range {
    min: f32,
    max: f32,
    count: f64,
    mean: f64,
    /// Sum of squared distances from the mean, updated as Welford (1962) has it.
    spread: f64,
}

impl Range {
    const EMPTY: Self = Self { min: f32::INFINITY, max: f32::NEG_INFINITY, count: 0.0, mean: 0.0, spread: 0.0 };

    fn see(&mut self, value: f32) {
        (self.min, self.max) = (self.min.min(value), self.max.max(value));
        self.count += 1.0;
        let distance = f64::from(value) - self.mean;
        self.mean += distance / self.count;
        self.spread += distance * (f64::from(value) - self.mean);
    }

    fn report(self, name: String) -> ChannelReport {
        let deviation = (self.spread / self.count.max(1.0)).sqrt();
        ChannelReport { name, min: self.min, max: self.max, mean: self.mean, deviation }
    }
}

fn ranges(dataset: &Dataset, progress: &dyn Progress, stop: &AtomicBool) -> Result<Vec<Range>> {
    let elements = &dataset.info().elements;
    let channels = elements.channels();
    let mut ranges = vec![Range::EMPTY; channels];
    let mut batch = Batch::default();
    let each = (BATCH_ELEMENTS / dataset.sample_elements().max(1)).max(1);
    progress.phase("measuring", dataset.samples() as u64);
    for begin in (0..dataset.samples()).step_by(each) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped by a signal"));
        }
        let indices: Vec<usize> = (begin..dataset.samples().min(begin + each)).collect();
        dataset.gather(&indices, &mut batch)?;
        for (place, sample) in batch.inputs.chunks_exact(dataset.sample_elements()).enumerate() {
            let steps = batch.lengths.as_ref().map_or(usize::MAX, |lengths| lengths[place] as usize);
            let values = &sample[..sample.len().min(steps.saturating_mul(elements.step()))];
            values.iter().enumerate().for_each(|(at, &value)| ranges[at % channels].see(value));
        }
        progress.advance(indices.len() as u64);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_of_lengths_are_found() {
        let of = |lengths: &[u32]| LengthReport::of(lengths.to_vec());
        let five = of(&[9, 1, 3, 7, 5]).unwrap();
        let LengthReport { shortest, lower_quartile, median, upper_quartile, longest, mean } = five;
        assert_eq!([shortest, lower_quartile, median, upper_quartile, longest], [1, 3, 5, 7, 9]);
        assert_eq!(mean, 5.0);
        assert_eq!(of(&[4]).unwrap().longest, 4);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn ranges_hold_mean_and_deviation() {
        let mut range = Range::EMPTY;
        [1.0, 2.0, 6.0].into_iter().for_each(|value| range.see(value));
        let report = range.report("x".to_owned());
        assert_eq!((report.min, report.max, report.mean), (1.0, 6.0, 3.0));
        assert!((report.deviation - (14.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn unbalanced_and_missing_classes_are_told() {
        let info = |classes: &[&str]| DatasetInfo {
            classes: classes.iter().map(|&name| name.to_owned()).collect(),
            ..DatasetInfo::plain(Elements::Vector { features: 1, names: Vec::new() })
        };
        let split = |classes: &[u64]| SplitReport { name: "train".into(), samples: 1, classes: classes.to_vec() };
        assert!(warnings(&[split(&[10, 1])], &info(&["a", "b"])).is_empty());
        let said = warnings(&[split(&[0, 30, 2])], &info(&["a", "b", "c"]));
        assert_eq!(said[0], "split `train` has no sample of 1 classes: `a`");
        assert_eq!(said[1], "split `train` is unbalanced: 30 samples of `b`, 2 of `c`");
    }
}
