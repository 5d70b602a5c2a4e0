//! A dataset out of a dataset: every sample of a split in several changed copies, the other splits as they are.
//!
//! All but the inputs is decided first, so sizes are known before a sample is read; inputs stream through the operations
//! in blocks, on all threads, in the order of the samples: the original, if it is kept, and then its copies.
//!
//! Where samples are mixed, `shares` holds what each has of the classes, and `labels` the class of the largest share.

mod marks;
mod places;
mod sides;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dlopt_checkpoint::{Checkpoint, Dtype, Error, Header, NewFile, Progress, Result, TensorInfo, alignment_bytes};
use dlopt_data::{Changed, DATASET_KEY, Dataset, ordered};
use serde::Serialize;
use serde_json::{Value, json};

use crate::recipe::Recipe;
use crate::worker::{Augmenter, Worker};
use marks::Marks;
use places::{Places, class_counts, places};
use sides::{Side, side_tensors};

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
    /// Where the samples that come of each stand in the output.
    places: Places,
    header: Header,
    /// The tensors that are known before the inputs.
    sides: BTreeMap<String, Side>,
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
        let mixes = augmenter.recipe().mixes();
        let split = dataset.split(&options.split)?;
        let places = places(&dataset, &split, &options)?;
        let samples = places.outputs();
        let mut info = dataset.info().clone();
        info.splits.values_mut().for_each(|range| *range = range.map(|sample| places.begin(sample)));
        info.options.insert("augment".to_owned(), history(&info.options, &recipe_spec, &options));
        let mut header = Header { tensors: Vec::new(), metadata };
        let text = serde_json::to_string(&info).expect("strings, numbers and lists of them always serialise");
        header.metadata.insert(DATASET_KEY.to_owned(), text);
        let mut shape = vec![samples];
        shape.extend(tensors.inputs);
        header.tensors.push(TensorInfo::new("inputs", dataset.dtype(), shape));
        let is_late = |name: &str| name == "lengths" || mixes && name == "labels";
        let mut sides = BTreeMap::new();
        for side in tensors.sides {
            if mixes && side.info.name == "shares" {
                continue;
            }
            header.tensors.push(side.planned(dataset.samples(), &places)?);
            if !is_late(&side.info.name) {
                sides.insert(side.info.name.clone(), side);
            }
        }
        if mixes {
            header.tensors.push(TensorInfo::new("shares", Dtype::F32, [samples, dataset.classes().len()]));
        }
        // The widest elements first, so that all are aligned; but what the inputs decide stands behind them.
        let first = usize::from(mixes || dataset.lengths().is_some());
        header.tensors[first..].sort_by_key(|tensor| std::cmp::Reverse(alignment_bytes(tensor.dtype)));
        let classes = class_counts(&dataset, &split, &places);
        let old = &dataset.info().splits;
        let report = PassReport {
            input: dataset.name().to_owned(),
            elements: dataset.info().elements.in_words(),
            samples_in: dataset.samples(),
            samples,
            changed: samples - places.kept(),
            bytes: header.to_bytes()?.len() as u64 + header.data_bytes(),
            splits: old
                .iter()
                .map(|(name, &[a, b])| (name.clone(), [b - a, places.begin(b) - places.begin(a)]))
                .collect(),
            classes,
            recipe: recipe_spec,
            seed: options.seed,
        };
        Ok(Self { dataset, augmenter, options, places, header, sides, report })
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
        let mut marks = Marks::default();
        for tensor in &self.header.tensors {
            match self.sides.get(&tensor.name) {
                _ if tensor.name == "inputs" => self.inputs(&mut sink, &mut marks, progress, stop)?,
                Some(side) => sink.write_many(|give| side.write(&self.places, give))?,
                None => sink.write_many(|give| marks.write(tensor, &self.dataset, &self.places, give))?,
            }
        }
        sink.finish()
    }

    /// Streams the inputs; `marks` takes what is known of the samples afterwards.
    fn inputs(&self, sink: &mut Sink, marks: &mut Marks, progress: &dyn Progress, stop: &AtomicBool) -> Result<()> {
        let sample_bytes = self.dataset.sample_bytes();
        let block = (BLOCK_BYTES / sample_bytes.max(1)).max(1);
        let idle: Mutex<Vec<Worker>> = Mutex::new(Vec::new());
        let (has_lengths, mixes) = (self.dataset.lengths().is_some(), self.augmenter.recipe().mixes());
        ordered(
            self.options.threads,
            |give| {
                for begin in (0..self.report.samples).step_by(block) {
                    if stop.load(Ordering::Relaxed) {
                        return Err(Error::interrupted("stopped by a signal"));
                    }
                    let outputs = begin..(begin + block).min(self.report.samples);
                    let first = self.places.source(outputs.start);
                    let mut bytes = Vec::new();
                    self.dataset.stored(first..self.places.source(outputs.end - 1) + 1, &mut bytes)?;
                    give((outputs, first, bytes))?;
                }
                Ok(())
            },
            |(outputs, first, bytes): (Range<usize>, usize, Vec<u8>)| {
                let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
                let worker = lock().pop();
                let mut worker = worker.unwrap_or_else(|| self.augmenter.worker());
                let mut out = Vec::with_capacity(outputs.len() * sample_bytes);
                let mut marks = Marks::default();
                let mut source = first;
                for place in outputs {
                    while self.places.begin(source + 1) <= place {
                        source += 1;
                    }
                    let begin = out.len();
                    out.extend_from_slice(&bytes[(source - first) * sample_bytes..][..sample_bytes]);
                    let mut changed = Changed { steps: self.steps(source), mixed: None };
                    if let Some(copy) = self.places.copy(source, place) {
                        changed = worker.augment(copy as u64, source, &mut out[begin..], changed.steps)?;
                    }
                    marks.push(changed, source, has_lengths, mixes);
                }
                lock().push(worker);
                Ok((out, marks))
            },
            |(out, next)| {
                progress.advance((out.len() / sample_bytes.max(1)) as u64);
                marks.append(next);
                sink.write(&out)
            },
        )
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

    /// Writes what is given piece by piece.
    fn write_many(&mut self, run: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>) -> Result<()> {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        run(&mut |bytes| {
            if block.len() + bytes.len() > BLOCK_BYTES {
                self.write(&block)?;
                block.clear();
            }
            block.extend_from_slice(bytes);
            Ok(())
        })?;
        self.write(&block)
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::File { file, .. } => file.finish(),
            Self::Stream(mut stream) => stream.flush().map_err(|e| Error::input(format!("standard output: {e}"))),
        }
    }
}
