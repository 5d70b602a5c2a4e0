//! All that is decided before inputs are written: splits, what is learned, every tensor's dtype and shape.

use std::collections::BTreeMap;

use dlopt_checkpoint::{Dtype, Header, Result, TensorInfo, alignment_bytes};
use serde_json::json;

use super::blocks::Form;
use super::learned::Learned;
use super::{PrepareOptions, Scale};
use crate::info::{DatasetInfo, Elements, Learns, RawInput, SourceFile, Standardise};
use crate::pipeline::StepSpec;
use crate::steps::split::Splits;
use crate::steps::standardise::{Constant, groups};

/// Sequences that are learned.
pub(super) struct Sequences {
    /// Tokens of the longest.
    pub(super) time: usize,
    pub(super) vocabulary: usize,
    pub(super) dtype: Dtype,
    pub(super) start: u32,
    pub(super) end: u32,
    /// Tokens of each sample's sequence.
    pub(super) lengths: Vec<u32>,
    /// Further right answers: the sample of each, and its tokens.
    pub(super) references: Vec<(u32, u32)>,
}

/// What is known of the samples before they are written.
pub(super) struct Known {
    /// What every sample is when it is stored.
    pub(super) form: Form,
    pub(super) lengths: Option<Vec<u32>>,
    pub(super) sequences: Option<Sequences>,
    /// Numbers of a pixel of the raw pictures; `None` when they are none.
    pub(super) channels: Option<usize>,
    /// The largest raw element, when all were looked at.
    pub(super) largest: Option<f32>,
    /// What the raw samples are.
    pub(super) raw: RawInput,
    /// The steps that were taken, of inputs and of sequences.
    pub(super) steps: [Vec<StepSpec>; 2],
}

impl Known {
    /// Makes series and tokens as long as those that a model takes, when they are shorter.
    fn lengthen(&mut self, like: &Elements, samples: usize) {
        let (own, wanted) = match (&mut self.form.elements, like) {
            (Elements::Series { time, .. }, Elements::Series { time: wanted, .. })
            | (Elements::Tokens { time, .. }, Elements::Tokens { time: wanted, .. }) => (time, *wanted),
            _ => return,
        };
        if *own < wanted {
            self.lengths.get_or_insert_with(|| vec![*own as u32; samples]);
            *own = wanted;
        }
    }
}

/// The plan of a dataset.
pub(super) struct Plan {
    pub(super) form: Form,
    pub(super) lengths: Option<Vec<u32>>,
    pub(super) sequences: Option<Sequences>,
    pub(super) splits: Splits,
    pub(super) learned: Learned,
    pub(super) standardise: Standardise,
    pub(super) scale: Scale,
    pub(super) groups: usize,
    pub(super) warnings: Vec<String>,
    raw: RawInput,
    steps: [Vec<StepSpec>; 2],
}

impl Plan {
    pub(super) fn new(mut known: Known, splits: Splits, learned: Learned, options: &PrepareOptions) -> Self {
        if let Some((like, _)) = &options.like {
            known.lengthen(&like.elements, splits.of_sample.len());
        }
        let is_tokens = matches!(known.form.elements, Elements::Tokens { .. });
        let is_image = matches!(known.form.elements, Elements::Image { .. });
        let standardise = match options.standardise {
            _ if is_tokens => Standardise::None,
            Some(own) => own,
            None if known.channels.is_some() || is_image => Standardise::Channel,
            None => Standardise::Feature,
        };
        let scale = match (options.scale, known.channels.is_some() || is_image, known.largest, known.form.dtype) {
            _ if is_tokens => Scale::By(1.0),
            (Some(own), ..) => own,
            (_, true, Some(_), _) => Scale::Largest,
            (.., Dtype::U8) => Scale::By(1.0 / 255.0),
            _ => Scale::By(1.0),
        };
        let groups = if is_tokens { 1 } else { groups(standardise, &known.form.elements, known.channels) };
        let mut plan = Self {
            groups,
            form: known.form,
            lengths: known.lengths,
            sequences: known.sequences,
            splits,
            learned,
            standardise,
            scale,
            raw: known.raw,
            steps: known.steps,
            warnings: Vec::new(),
        };
        plan.warn();
        plan
    }

    fn warn(&mut self) {
        if self.splits.names.len() == 1 {
            self.warnings.push("all samples are for training; --split test=0.2 keeps some for testing".to_owned());
        }
        let counts = self.class_counts();
        for (class, name) in self.learned.classes.iter().enumerate() {
            if counts[0][class] == 0 {
                self.warnings.push(format!("class `{name}` has no sample in the training split"));
            }
        }
        if self.learned.classes.len() == 1 {
            self.warnings.push(format!("all samples are of class `{}`", self.learned.classes[0]));
        }
    }

    /// Samples of each class, split by split.
    pub(super) fn class_counts(&self) -> Vec<Vec<u64>> {
        let mut counts = vec![vec![0; self.learned.classes.len()]; self.splits.names.len()];
        for (&split, &label) in self.splits.of_sample.iter().zip(&self.learned.labels) {
            counts[usize::from(split)][label as usize] += 1;
        }
        counts
    }

    /// First sample of each split in the file, and the one after the last.
    pub(super) fn ranges(&self) -> Vec<[usize; 2]> {
        let mut next = 0;
        self.splits
            .counts()
            .into_iter()
            .map(|count| {
                let begin = next;
                next += count;
                [begin, next]
            })
            .collect()
    }

    /// The place in the file of every sample, as the sources give them.
    fn places(&self) -> Vec<u32> {
        let mut next: Vec<usize> = self.ranges().iter().map(|range| range[0]).collect();
        let place = |&split: &u8| {
            next[usize::from(split)] += 1;
            (next[usize::from(split)] - 1) as u32
        };
        self.splits.of_sample.iter().map(place).collect()
    }

    /// Further right answers in the order they are stored: the place of their sample, and their tokens.
    fn references(&self) -> Option<Vec<(u32, u32)>> {
        let places = self.places();
        let all = self.sequences.as_ref()?.references.iter();
        let mut all: Vec<(u32, u32)> = all.map(|&(sample, length)| (places[sample as usize], length)).collect();
        all.sort_by_key(|(place, _)| *place);
        Some(all)
    }

    /// First further right answer of each split.
    pub(super) fn first_references(&self) -> Vec<usize> {
        let mut counts = vec![0; self.splits.names.len()];
        for (sample, _) in self.sequences.iter().flat_map(|sequences| &sequences.references) {
            counts[usize::from(self.splits.of_sample[*sample as usize])] += 1;
        }
        counts
            .into_iter()
            .scan(0, |next, count| {
                *next += count;
                Some(*next - count)
            })
            .collect()
    }

    /// Numbers of one sample of `inputs`.
    pub(super) fn stored_elements(&self) -> usize {
        self.form.elements.elements() + usize::from(self.learned.is_next)
    }

    pub(super) fn header(&self) -> Header {
        let samples = self.splits.of_sample.len();
        let mut shape = self.form.elements.shape();
        if self.learned.is_next {
            shape[0] += 1;
        }
        shape.insert(0, samples);
        let mut tensors = vec![TensorInfo::new("inputs", self.form.dtype, shape)];
        if !self.learned.labels.is_empty() {
            let dtype = match self.learned.classes.len() {
                0..=256 => Dtype::U8,
                257..=65_536 => Dtype::U16,
                _ => Dtype::U32,
            };
            tensors.push(TensorInfo::new("labels", dtype, [samples]));
        } else if self.learned.outputs > 0 {
            tensors.push(TensorInfo::new("targets", Dtype::F32, [samples, self.learned.outputs]));
        }
        if self.lengths.is_some() {
            tensors.push(TensorInfo::new("lengths", Dtype::U32, [samples]));
        }
        if let Some(sequences) = &self.sequences {
            tensors.push(TensorInfo::new("sequences", sequences.dtype, [samples, sequences.time]));
            tensors.push(TensorInfo::new("sequence_lengths", Dtype::U32, [samples]));
            let more = sequences.references.len();
            if more > 0 {
                tensors.push(TensorInfo::new("references", sequences.dtype, [more, sequences.time]));
                tensors.push(TensorInfo::new("reference_lengths", Dtype::U32, [more]));
                tensors.push(TensorInfo::new("reference_samples", Dtype::U32, [more]));
            }
        }
        // The widest elements first, so that all are aligned.
        tensors.sort_by_key(|tensor| std::cmp::Reverse(alignment_bytes(tensor.dtype)));
        Header { tensors, metadata: BTreeMap::new() }
    }

    /// What lies beside the inputs and sequences, in the order of the splits.
    pub(super) fn side(&self, tensor: &TensorInfo) -> Option<Vec<u8>> {
        let mut order: Vec<usize> = (0..self.splits.of_sample.len()).collect();
        order.sort_by_key(|&sample| self.splits.of_sample[sample]);
        let numbers = |all: &[u32]| order.iter().flat_map(|&s| all[s].to_le_bytes()).collect();
        let labels = &self.learned.labels;
        Some(match (tensor.name.as_str(), tensor.dtype) {
            ("labels", Dtype::U8) => order.iter().map(|&s| labels[s] as u8).collect(),
            ("labels", Dtype::U16) => order.iter().flat_map(|&s| (labels[s] as u16).to_le_bytes()).collect(),
            ("labels", _) => numbers(labels),
            ("targets", _) => {
                let outputs = self.learned.outputs;
                let row = |&s: &usize| &self.learned.targets[s * outputs..][..outputs];
                order.iter().flat_map(row).flat_map(|x| x.to_le_bytes()).collect()
            }
            ("lengths", _) => numbers(self.lengths.as_deref()?),
            ("sequence_lengths", _) => numbers(&self.sequences.as_ref()?.lengths),
            ("reference_lengths", _) => {
                self.references()?.iter().flat_map(|(_, length)| length.to_le_bytes()).collect()
            }
            ("reference_samples", _) => {
                self.references()?.iter().flat_map(|(sample, _)| sample.to_le_bytes()).collect()
            }
            _ => return None,
        })
    }

    pub(super) fn info(&self, options: &PrepareOptions, sources: Vec<SourceFile>) -> Result<DatasetInfo> {
        let mut info = DatasetInfo::plain(self.form.elements.clone());
        info.classes.clone_from(&self.learned.classes);
        info.outputs.clone_from(&self.learned.names);
        info.splits = self.splits.names.iter().cloned().zip(self.ranges()).collect();
        info.standardise = self.standardise;
        info.sources = sources;
        info.options = self.resolved(options);
        info.raw = Some(self.raw.clone());
        [info.steps, info.sequence_steps] = self.steps.clone();
        info.learns = match &self.sequences {
            Some(own) => {
                Learns::Sequence { time: own.time, vocabulary: own.vocabulary, start: own.start, end: own.end }
            }
            None if self.learned.is_next => Learns::NextToken,
            None => Learns::Sample,
        };
        Ok(info)
    }

    /// The options that decided what is in the file, without paths.
    fn resolved(&self, options: &PrepareOptions) -> serde_json::Map<String, serde_json::Value> {
        let mut all = serde_json::Map::new();
        let mut say = |name: &str, value: serde_json::Value| all.insert(name.to_owned(), value);
        say("version", json!(env!("CARGO_PKG_VERSION")));
        say("seed", json!(options.split.seed));
        if !options.split.shares.is_empty() {
            say("split", json!(options.split.shares.iter().cloned().collect::<BTreeMap<_, _>>()));
        }
        if !options.split.at.is_empty() {
            say("split_at", json!(options.split.at));
        }
        if let Some([fold, folds]) = options.split.fold {
            say("fold", json!(format!("{fold}/{folds}")));
        }
        say("standardise", json!(self.standardise.name()));
        if options.constant == Constant::Keep {
            say("constant", json!("keep"));
        }
        for (name, list) in [("targets", &options.read.targets), ("drop", &options.read.drop)] {
            if !list.is_empty() {
                say(name, json!(list));
            }
        }
        if let Some(label) = &options.read.label {
            say("label", json!(label));
        }
        if !options.clean.is_empty() {
            say("clean", json!(options.clean.rules));
        }
        all
    }
}
