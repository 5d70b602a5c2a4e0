//! A dataset out of a dataset: every sample of a split in several changed copies, the other splits as they are.
//!
//! All but the inputs is decided first, so sizes are known before a sample is read; inputs stream through the operations
//! in blocks, on all threads, in the order of the samples: the original, if it is kept, and then its copies.

mod places;
mod sides;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dlopt_checkpoint::{Checkpoint, Error, Header, NewFile, Progress, Result, TensorInfo, alignment_bytes};
use dlopt_data::{DATASET_KEY, Dataset, ordered};
use serde::Serialize;
use serde_json::{Value, json};

use crate::recipe::Recipe;
use crate::worker::{Augmenter, Worker};
use places::{class_counts, places};
use sides::side_tensors;

/// Bytes of samples that a thread works on at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Most bytes of inputs that are kept in memory.
const MEMORY_BYTES: u64 = 32 << 20;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct PassOptions {
    /// Decides all draws.
    pub seed: u64,
    /// Changed copies of every sample.
    pub copies: usize,
    /// Whether originals stay beside their copies.
    pub keeps_original: bool,
    /// Classes whose samples are augmented, by name; all when empty.
    pub only_classes: Vec<String>,
    /// Whether rare classes get more copies, until all are as large as the largest.
    pub balances: bool,
    /// The split that is augmented.
    pub split: String,
    /// Threads.
    pub threads: usize,
    /// Whether an existing file is replaced.
    pub force: bool,
}

/// Where a dataset goes to.
pub enum Output {
    /// A file, which appears whole or not at all.
    File(PathBuf),
    /// A pipe.
    Stream(Box<dyn Write + Send>),
}

/// What was, or would be, written.
#[derive(Clone, Debug, Serialize)]
pub struct PassReport {
    /// The dataset that was read.
    pub input: String,
    /// What samples are, in words.
    pub elements: String,
    /// Samples that were read.
    pub samples_in: usize,
    /// Samples that are written.
    pub samples: usize,
    /// Changed samples among them.
    pub changed: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Samples of each split: before and after.
    pub splits: BTreeMap<String, [usize; 2]>,
    /// Samples of each class in the augmented split: before and after.
    pub classes: Vec<(String, [usize; 2])>,
    /// The recipe with all options.
    pub recipe: Value,
    /// Decides all draws.
    pub seed: u64,
}

/// A dataset that is about to be augmented.
pub struct AugmentPass {
    dataset: Arc<Dataset>,
    augmenter: Augmenter,
    options: PassOptions,
    /// Where the samples that come of each begin in the output, and after the last the end.
    begins: Vec<usize>,
    /// Whether each sample stands before its copies.
    keeps: Vec<bool>,
    header: Header,
    /// The tensors beside the inputs, but for the lengths.
    sides: BTreeMap<String, Vec<u8>>,
    report: PassReport,
}

impl AugmentPass {
    /// Decides what is written.
    ///
    /// # Errors
    /// When the file is no dataset, the recipe does not fit it, or there is no such split or class.
    pub fn plan(checkpoint: Checkpoint, recipe: Recipe, options: PassOptions) -> Result<Self> {
        let tensors = side_tensors(&checkpoint)?;
        let metadata = checkpoint.header.metadata.clone();
        let dataset = Arc::new(Dataset::of(checkpoint, MEMORY_BYTES)?);
        let recipe_spec = recipe.spec();
        let augmenter = Augmenter::new(recipe, &dataset, &options.split, options.seed)?;
        if augmenter.recipe().mixes() {
            return Err(Error::usage("mixing gives samples shares of several classes, which a dataset cannot hold")
                .hint("`dlopt train --augment` mixes while it trains"));
        }
        let split = dataset.split(&options.split)?;
        let (begins, keeps) = places(&dataset, &split, &options)?;
        let samples = begins[dataset.samples()];
        let source_of: Vec<u32> =
            (0..dataset.samples()).flat_map(|s| std::iter::repeat_n(s as u32, begins[s + 1] - begins[s])).collect();
        let mut info = dataset.info().clone();
        info.splits.values_mut().for_each(|range| *range = range.map(|place| begins[place]));
        info.options.insert("augment".to_owned(), history(&info.options, &recipe_spec, &options));
        let mut header = Header { tensors: Vec::new(), metadata };
        let text = serde_json::to_string(&info).expect("strings, numbers and lists of them always serialise");
        header.metadata.insert(DATASET_KEY.to_owned(), text);
        let mut shape = vec![samples];
        shape.extend(tensors.inputs);
        header.tensors.push(TensorInfo::new("inputs", dataset.dtype(), shape));
        let mut sides = BTreeMap::new();
        for (side, bytes) in tensors.sides {
            let (info, bytes) = side.of(&bytes, &source_of, &begins)?;
            if side.name != "lengths" {
                sides.insert(side.name.clone(), bytes);
            }
            header.tensors.push(info);
        }
        // The widest elements first, so that all are aligned; but lengths are known only after the inputs.
        if dataset.lengths().is_none() {
            header.tensors.sort_by_key(|tensor| std::cmp::Reverse(alignment_bytes(tensor.dtype)));
        } else {
            header.tensors[1..].sort_by_key(|tensor| std::cmp::Reverse(alignment_bytes(tensor.dtype)));
        }
        let kept = keeps.iter().filter(|kept| **kept).count();
        let classes = class_counts(&dataset, &split, &begins);
        let old = &dataset.info().splits;
        let report = PassReport {
            input: dataset.name().to_owned(),
            elements: dataset.info().elements.in_words(),
            samples_in: dataset.samples(),
            samples,
            changed: samples - kept,
            bytes: header.to_bytes()?.len() as u64 + header.data_bytes(),
            splits: old.iter().map(|(name, &[a, b])| (name.clone(), [b - a, begins[b] - begins[a]])).collect(),
            classes,
            recipe: recipe_spec,
            seed: options.seed,
        };
        Ok(Self { dataset, augmenter, options, begins, keeps, header, sides, report })
    }

    /// What is written.
    pub fn report(&self) -> &PassReport {
        &self.report
    }

    /// The dataset that is read.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The recipe at work.
    pub fn augmenter(&self) -> &Augmenter {
        &self.augmenter
    }

    /// The split that is augmented.
    pub fn split(&self) -> &str {
        &self.options.split
    }

    /// Writes the dataset.
    ///
    /// # Errors
    /// When it cannot be read or written, or `stop` was set.
    pub fn run(&self, output: Output, progress: &dyn Progress, stop: &AtomicBool) -> Result<()> {
        let mut sink = Sink::new(output, self.report.bytes, self.options.force)?;
        sink.write(&self.header.to_bytes()?)?;
        progress.phase("augmenting", self.report.samples as u64);
        let mut lengths = Vec::new();
        for tensor in &self.header.tensors {
            match tensor.name.as_str() {
                "inputs" => self.inputs(&mut sink, &mut lengths, progress, stop)?,
                "lengths" => {
                    let bytes: Vec<u8> = lengths.iter().flat_map(|length: &u32| length.to_le_bytes()).collect();
                    sink.write(&bytes)?;
                }
                name => sink.write(&self.sides[name])?,
            }
        }
        sink.finish()
    }

    /// Streams the inputs; `lengths` takes the steps of each sample.
    fn inputs(
        &self,
        sink: &mut Sink,
        lengths: &mut Vec<u32>,
        progress: &dyn Progress,
        stop: &AtomicBool,
    ) -> Result<()> {
        let sample_bytes = self.dataset.sample_bytes();
        let block = (BLOCK_BYTES / sample_bytes.max(1)).max(1);
        let idle: Mutex<Vec<Worker>> = Mutex::new(Vec::new());
        let has_lengths = self.dataset.lengths().is_some();
        ordered(
            self.options.threads,
            |give| {
                for begin in (0..self.report.samples).step_by(block) {
                    if stop.load(Ordering::Relaxed) {
                        return Err(Error::interrupted("stopped by a signal"));
                    }
                    let outputs = begin..(begin + block).min(self.report.samples);
                    let first = self.source(outputs.start);
                    let mut bytes = Vec::new();
                    self.dataset.stored(first..self.source(outputs.end - 1) + 1, &mut bytes)?;
                    give((outputs, first, bytes))?;
                }
                Ok(())
            },
            |(outputs, first, bytes): (Range<usize>, usize, Vec<u8>)| {
                let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
                let worker = lock().pop();
                let mut worker = worker.unwrap_or_else(|| self.augmenter.worker());
                let mut out = Vec::with_capacity(outputs.len() * sample_bytes);
                let mut steps_of = Vec::new();
                let mut source = first;
                for place in outputs {
                    while self.begins[source + 1] <= place {
                        source += 1;
                    }
                    let begin = out.len();
                    out.extend_from_slice(&bytes[(source - first) * sample_bytes..][..sample_bytes]);
                    let mut steps = self.steps(source);
                    let kept = usize::from(self.keeps[source]);
                    if let Some(copy) = (place - self.begins[source]).checked_sub(kept) {
                        steps = worker.augment(copy as u64, source, &mut out[begin..], steps)?.steps;
                    }
                    if has_lengths {
                        steps_of.push(steps as u32);
                    }
                }
                lock().push(worker);
                Ok((out, steps_of))
            },
            |(out, steps_of)| {
                progress.advance((out.len() / sample_bytes.max(1)) as u64);
                lengths.extend(steps_of);
                sink.write(&out)
            },
        )
    }

    /// The sample that an output comes of.
    fn source(&self, output: usize) -> usize {
        self.begins.partition_point(|begin| *begin <= output) - 1
    }

    fn steps(&self, sample: usize) -> usize {
        match self.dataset.lengths() {
            Some(lengths) => lengths[sample] as usize,
            None => self.dataset.info().elements.steps(),
        }
    }
}

/// All augmentations that a dataset went through.
fn history(before: &serde_json::Map<String, Value>, recipe: &Value, options: &PassOptions) -> Value {
    let mut all = match before.get("augment") {
        Some(Value::Array(all)) => all.clone(),
        _ => Vec::new(),
    };
    all.push(json!({
        "recipe": recipe, "seed": options.seed, "copies": options.copies, "keep_original": options.keeps_original,
        "only_class": options.only_classes, "balance": options.balances, "split": options.split,
    }));
    Value::Array(all)
}

/// Takes bytes one after the other.
enum Sink {
    File { file: NewFile, next: u64 },
    Stream(Box<dyn Write + Send>),
}

impl Sink {
    fn new(output: Output, bytes: u64, force: bool) -> Result<Self> {
        Ok(match output {
            Output::File(path) => Self::File { file: NewFile::create(Path::new(&path), bytes, force)?, next: 0 },
            Output::Stream(stream) => Self::Stream(stream),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File { file, next } => {
                file.write_at(*next, bytes)?;
                *next += bytes.len() as u64;
                Ok(())
            }
            Self::Stream(stream) => stream.write_all(bytes).map_err(|e| Error::input(format!("standard output: {e}"))),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::File { file, .. } => file.finish(),
            Self::Stream(mut stream) => stream.flush().map_err(|e| Error::input(format!("standard output: {e}"))),
        }
    }
}
