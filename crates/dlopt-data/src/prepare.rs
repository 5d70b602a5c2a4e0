//! Raw data to a dataset file.
//!
//! First all sources are opened, which says everything but their inputs; so classes, splits and the size of every tensor
//! are known before a byte is written. Then inputs stream from a reading thread through the steps to their place in the
//! file, while the statistics of the training split are taken; the header, whose room was reserved, comes last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use dlopt_checkpoint::{Context, Dtype, Error, Header, NewFile, Progress, Result, TensorInfo, alignment_bytes, hex};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::dataset::quoted;
use crate::info::{DATASET_KEY, DatasetInfo, Elements, SourceFile, Standardise};
use crate::readers::{About, Labels, ReadOptions, Source, Values, open_sources};
use crate::steps::resize::{Filter, gain};
use crate::steps::split::{SplitOptions, Splits, TRAIN, assign};
use crate::steps::standardise::{Constant, Fit, groups, statistics};
use crate::steps::{Sample, Step, Wanted, chain};

/// Chunks that wait between the reading thread and the steps.
const CHUNKS_AHEAD: usize = 3;

/// Most bytes that a number takes in the header: `-1.2345678e-38,`, rounded up.
const NUMBER_BYTES: usize = 16;

/// What is to be prepared, and how.
#[derive(Clone, Debug, Default)]
pub struct PrepareOptions {
    /// Files and folders of raw data, each with the split it is for when somebody says.
    pub inputs: Vec<(Option<&'static str>, PathBuf)>,
    /// How they are read.
    pub read: ReadOptions,
    /// Names of the classes, by number; from the data when nobody says.
    pub classes: Vec<String>,
    /// How samples are split.
    pub split: SplitOptions,
    /// Height and width that pictures are scaled to.
    pub resize: Option<[usize; 2]>,
    /// How they are scaled.
    pub filter: Filter,
    /// Factor on the elements; when nobody says, 1/255 for bytes, the largest becomes 1 for pictures of other numbers,
    /// and 1 for all else.
    pub scale: Option<Scale>,
    /// Which statistics are taken off and divided by; when nobody says, those of channels of pictures, else of features.
    pub standardise: Option<Standardise>,
    /// What is done about constant features.
    pub constant: Constant,
    /// Whether an existing dataset is replaced.
    pub force: bool,
}

/// A factor on the elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// This one.
    By(f32),
    /// One over the largest magnitude in the training split.
    Largest,
}

/// What was prepared.
#[derive(Clone, Debug, Serialize)]
pub struct PrepareReport {
    /// The dataset file.
    pub output: String,
    /// Its size.
    pub bytes: u64,
    /// How many samples it holds.
    pub samples: usize,
    /// What a sample is, in words.
    pub elements: String,
    /// Element type of the inputs.
    pub dtype: String,
    /// The splits, in the order they are stored.
    pub splits: Vec<SplitReport>,
    /// What it says about itself.
    pub info: DatasetInfo,
    /// Steps of the shortest and the longest series, when they differ.
    pub lengths: Option<[u32; 2]>,
    /// What a reader should know.
    pub warnings: Vec<String>,
}

/// What is in a split.
#[derive(Clone, Debug, Serialize)]
pub struct SplitReport {
    /// Its name.
    pub name: String,
    /// How many samples it has.
    pub samples: usize,
    /// How many of each class, by class number.
    pub classes: Vec<u64>,
}

/// Prepares raw data and writes them to `output`, whole or not at all.
///
/// # Errors
/// When raw data are unreadable or do not fit together, a split would be empty, an input is NaN or infinite, a feature
/// cannot be standardised, `output` exists, the disk is full, or `stop` is set.
pub fn prepare(
    options: &PrepareOptions,
    output: &Path,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<PrepareReport> {
    check_output(options, output)?;
    let sources = open_sources(&options.inputs, &options.read)?;
    let plan = Plan::new(&sources, options)?;
    plan.write(&sources, options, output, progress, stop)
}

fn check_output(options: &PrepareOptions, output: &Path) -> Result<()> {
    if output.as_os_str().to_string_lossy().ends_with('/') || output.is_dir() {
        return Err(Error::usage(format!("{}: a folder; a dataset is written as one file", output.display()))
            .hint("-o data.safetensors"));
    }
    if !output.exists() {
        return Ok(());
    }
    let own = output.canonicalize().at(output.display())?;
    for (_, input) in &options.inputs {
        if input.canonicalize().is_ok_and(|input| input == own) {
            return Err(Error::usage(format!("{}: is an input, and would be replaced", output.display()))
                .hint("write to another file with -o"));
        }
    }
    if options.force {
        return Ok(());
    }
    Err(Error::input(format!("{}: exists", output.display())).hint("--force replaces it"))
}

/// All that is decided before inputs are read.
struct Plan {
    /// Samples as they are stored.
    stored: Sample,
    /// The steps of each source.
    steps: Vec<Vec<Box<dyn Step>>>,
    splits: Splits,
    learned: Learned,
    /// By sample, as the sources give them.
    lengths: Option<Vec<u32>>,
    standardise: Standardise,
    scale: Scale,
    groups: usize,
    gain: u8,
    warnings: Vec<String>,
}

/// What is to be learned, by sample as the sources give them.
struct Learned {
    classes: Vec<String>,
    labels: Vec<u32>,
    targets: Vec<f32>,
    names: Vec<String>,
    outputs: usize,
}

impl Plan {
    fn new(sources: &[Source], options: &PrepareOptions) -> Result<Self> {
        let abouts: Vec<&About> = sources.iter().map(|s| &s.about).collect();
        for about in &abouts {
            if about.samples == 0 || about.elements.elements() == 0 {
                return Err(Error::input(format!(
                    "{}: holds {} samples of {} numbers",
                    about.name,
                    about.samples,
                    about.elements.elements()
                ))
                .hint("a dataset needs at least one sample for training"));
            }
        }
        let time = same_elements(&abouts)?;
        let dtype = if abouts.iter().all(|a| a.dtype == Dtype::U8) { Dtype::U8 } else { Dtype::F32 };
        let largest = abouts.iter().map(|a| a.largest).reduce(|a, b| Some(a?.max(b?))).flatten();
        let gain = gain(dtype, largest, options.resize, options.filter);
        let wanted = Wanted { dtype, time, resize: options.resize, filter: options.filter, gain };
        let mut steps = Vec::with_capacity(sources.len());
        let mut stored = Sample { elements: abouts[0].elements.clone(), dtype };
        for about in &abouts {
            let (own, sample) = chain(&wanted, Sample { elements: about.elements.clone(), dtype })
                .map_err(|e| e.within(&about.name))?;
            steps.push(own);
            stored = sample;
        }
        let learned = learned(&abouts, &options.classes)?;
        let runs: Vec<_> = sources.iter().map(|s| (s.split, s.about.samples)).collect();
        let strata = (!learned.labels.is_empty()).then_some(&learned.labels[..]);
        let splits = assign(&runs, strata, &options.split)?;
        let channels = abouts[0].channels;
        let standardise = options.standardise.unwrap_or(match channels {
            Some(_) => Standardise::Channel,
            None => Standardise::Feature,
        });
        let scale = options.scale.unwrap_or(match (channels, largest, dtype) {
            (Some(_), Some(_), _) => Scale::Largest,
            (_, _, Dtype::U8) => Scale::By(1.0 / 255.0),
            _ => Scale::By(1.0),
        });
        let lengths = lengths(&abouts, &stored.elements);
        let mut plan = Self {
            groups: groups(standardise, &stored.elements, channels),
            stored,
            steps,
            splits,
            learned,
            lengths,
            standardise,
            scale,
            gain,
            warnings: Vec::new(),
        };
        plan.warn();
        Ok(plan)
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
    fn class_counts(&self) -> Vec<Vec<u64>> {
        let mut counts = vec![vec![0; self.learned.classes.len()]; self.splits.names.len()];
        for (&split, &label) in self.splits.of_sample.iter().zip(&self.learned.labels) {
            counts[usize::from(split)][label as usize] += 1;
        }
        counts
    }

    /// First sample of each split in the file, and the one after the last.
    fn ranges(&self) -> Vec<[usize; 2]> {
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

    fn header(&self) -> Header {
        let samples = self.splits.of_sample.len();
        let mut shape = self.stored.elements.shape();
        shape.insert(0, samples);
        let mut tensors = vec![TensorInfo::new("inputs", self.stored.dtype, shape)];
        if self.learned.targets.is_empty() {
            let dtype = match self.learned.classes.len() {
                0..=256 => Dtype::U8,
                257..=65_536 => Dtype::U16,
                _ => Dtype::U32,
            };
            tensors.push(TensorInfo::new("labels", dtype, [samples]));
        } else {
            tensors.push(TensorInfo::new("targets", Dtype::F32, [samples, self.learned.outputs]));
        }
        if self.lengths.is_some() {
            tensors.push(TensorInfo::new("lengths", Dtype::U32, [samples]));
        }
        // The widest elements first, so that all are aligned.
        tensors.sort_by_key(|tensor| std::cmp::Reverse(alignment_bytes(tensor.dtype)));
        Header { tensors, metadata: BTreeMap::new() }
    }

    fn info(&self, options: &PrepareOptions, sources: Vec<SourceFile>) -> DatasetInfo {
        let mut info = DatasetInfo::plain(self.stored.elements.clone());
        info.classes.clone_from(&self.learned.classes);
        info.outputs.clone_from(&self.learned.names);
        info.splits = self.splits.names.iter().cloned().zip(self.ranges()).collect();
        info.standardise = self.standardise;
        info.sources = sources;
        info.options = resolved(options, self);
        info
    }

    fn write(
        &self,
        sources: &[Source],
        options: &PrepareOptions,
        output: &Path,
        progress: &dyn Progress,
        stop: &AtomicBool,
    ) -> Result<PrepareReport> {
        let mut header = self.header();
        let files: Vec<&PathBuf> = sources.iter().flat_map(|s| &s.about.files).collect();
        let names = |sha256: &str| {
            files
                .iter()
                .map(|path| SourceFile { name: file_name(path), bytes: u64::MAX, sha256: sha256.to_owned() })
                .collect::<Vec<_>>()
        };
        // Room for a header whose digests, sizes and statistics are not known yet.
        let reserved = self.info(options, names(&"0".repeat(64)));
        header.metadata.insert(DATASET_KEY.to_owned(), text_of(&reserved));
        let room = (header.to_bytes()?.len() + NUMBER_BYTES * (2 * self.groups + 1)).next_multiple_of(8);
        let file = NewFile::create(output, room as u64 + header.data_bytes(), options.force)?;
        progress.phase("preparing", header.data_bytes());
        let begin_of: HashMap<String, u64> =
            header.tensors.iter().zip(header.offsets()).map(|(t, at)| (t.name.clone(), room as u64 + at)).collect();
        let is_stopped = &AtomicBool::new(false);
        let (fit, hashed) = std::thread::scope(|scope| {
            let hashing =
                scope.spawn(move || files.iter().map(|path| hash(path, is_stopped)).collect::<Result<Vec<_>>>());
            let fit = self.write_inputs(sources, &file, begin_of["inputs"], progress, stop);
            if fit.is_err() {
                is_stopped.store(true, Ordering::Relaxed);
            }
            let hashed = hashing.join().unwrap_or_else(|_| Err(Error::input("the thread that takes digests died")));
            Ok::<_, Error>((fit?, hashed?))
        })?;
        self.write_sides(&header, &begin_of, &file)?;

        let moments = fit.moments();
        let mut info = self.info(options, hashed);
        info.scale = match self.scale {
            Scale::By(scale) => scale,
            Scale::Largest => {
                let largest = moments.iter().fold(0.0_f64, |most, m| most.max(m.min.abs()).max(m.max.abs()));
                if largest == 0.0 {
                    return Err(Error::input("all training samples are 0, so nothing can be scaled to 1")
                        .hint("--scale 1 takes data as they are"));
                }
                (1.0 / largest) as f32
            }
        };
        let elements = &self.stored.elements;
        (info.mean, info.deviation) = statistics(self.standardise, &moments, info.scale, options.constant, elements)
            .map_err(|e| {
                let names: Vec<&str> =
                    sources.iter().filter(|s| s.split.is_none_or(|s| s == TRAIN)).map(|s| &*s.about.name).collect();
                e.within(names.first().copied().unwrap_or_default())
            })?;
        header.metadata.insert(DATASET_KEY.to_owned(), text_of(&info));
        let mut head = header.to_bytes()?;
        head.resize(room, b' ');
        head[..8].copy_from_slice(&(room as u64 - 8).to_le_bytes());
        file.write_at(0, &head)?;
        file.finish()?;
        Ok(self.report(info, output, room as u64 + header.data_bytes()))
    }

    /// Streams the inputs to their places and takes the statistics of the training split.
    fn write_inputs(
        &self,
        sources: &[Source],
        file: &NewFile,
        begin: u64,
        progress: &dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Fit> {
        let mut writing = Writing {
            plan: self,
            file,
            begin,
            next: self.ranges().iter().map(|range| range[0]).collect(),
            fit: Fit::new(self.groups),
            done: 0,
            runs: vec![Vec::new(); self.splits.names.len()],
        };
        for (source, steps) in sources.iter().zip(&self.steps) {
            let begin = writing.done;
            std::thread::scope(|scope| {
                let (filled, chunks) = sync_channel(CHUNKS_AHEAD);
                let reading = scope.spawn(move || {
                    source.inputs.read(&mut |values| {
                        filled.send(values).map_err(|_| Error::interrupted("nobody takes what is read any more"))
                    })
                });
                let mut taken = Ok(());
                for values in chunks {
                    if stop.load(Ordering::Relaxed) {
                        taken = Err(Error::interrupted("stopped by a signal"));
                        break;
                    }
                    let values = steps.iter().fold(values, |values, step| step.apply(values));
                    progress.advance((values.len() * alignment_bytes(self.stored.dtype)) as u64);
                    taken = writing.take(values, source, begin);
                    if taken.is_err() {
                        break;
                    }
                }
                // The receiver is gone, so a reader that was still busy has stopped with an error that says nothing.
                let read = reading.join().unwrap_or_else(|_| Err(Error::input("the thread that reads died")));
                taken.and(read)
            })?;
            if writing.done != begin + source.about.samples {
                return Err(Error::input(format!("{}: changed while it was read", source.about.name)));
            }
        }
        Ok(writing.fit)
    }

    /// Writes labels, targets and lengths in the order of the splits.
    fn write_sides(&self, header: &Header, begin_of: &HashMap<String, u64>, file: &NewFile) -> Result<()> {
        let mut order: Vec<usize> = (0..self.splits.of_sample.len()).collect();
        order.sort_by_key(|&sample| self.splits.of_sample[sample]);
        for tensor in &header.tensors {
            let bytes: Vec<u8> = match (tensor.name.as_str(), tensor.dtype) {
                ("labels", Dtype::U8) => order.iter().map(|&s| self.learned.labels[s] as u8).collect(),
                ("labels", Dtype::U16) => {
                    order.iter().flat_map(|&s| (self.learned.labels[s] as u16).to_le_bytes()).collect()
                }
                ("labels", _) => order.iter().flat_map(|&s| self.learned.labels[s].to_le_bytes()).collect(),
                ("targets", _) => {
                    let outputs = self.learned.outputs;
                    let row = |&s: &usize| &self.learned.targets[s * outputs..][..outputs];
                    order.iter().flat_map(row).flat_map(|x| x.to_le_bytes()).collect()
                }
                ("lengths", _) => {
                    let lengths = self.lengths.as_deref().unwrap_or_default();
                    order.iter().flat_map(|&s| lengths[s].to_le_bytes()).collect()
                }
                _ => continue,
            };
            file.write_at(begin_of[&tensor.name], &bytes)?;
        }
        Ok(())
    }

    fn report(&self, info: DatasetInfo, output: &Path, bytes: u64) -> PrepareReport {
        let counts = self.splits.counts();
        let splits = self.splits.names.iter().zip(counts).zip(self.class_counts());
        let steps = self.lengths.as_ref().and_then(|lengths| Some([*lengths.iter().min()?, *lengths.iter().max()?]));
        PrepareReport {
            output: output.display().to_string(),
            bytes,
            samples: self.splits.of_sample.len(),
            elements: self.stored.elements.in_words(),
            dtype: dlopt_checkpoint::dtype_name(self.stored.dtype).to_owned(),
            splits: splits
                .map(|((name, samples), classes)| SplitReport { name: name.clone(), samples, classes })
                .collect(),
            info,
            lengths: steps,
            warnings: self.warnings.clone(),
        }
    }
}

/// Inputs on their way into the file.
struct Writing<'a> {
    plan: &'a Plan,
    file: &'a NewFile,
    /// Where the inputs begin.
    begin: u64,
    /// The next sample of each split.
    next: Vec<usize>,
    fit: Fit,
    /// Samples that were taken, of all sources.
    done: usize,
    /// Bytes of the samples of each split in a chunk.
    runs: Vec<Vec<u8>>,
}

impl Writing<'_> {
    /// Takes whole samples of a source whose samples began at `source_begin`.
    fn take(&mut self, values: Values, source: &Source, source_begin: usize) -> Result<()> {
        let plan = self.plan;
        let elements = plan.stored.elements.elements();
        let samples = values.len() / elements;
        if self.done + samples > source_begin + source.about.samples {
            return Err(Error::input(format!("{}: changed while it was read", source.about.name)));
        }
        let train = 0;
        for place in 0..samples {
            let sample = self.done + place;
            let split = usize::from(plan.splits.of_sample[sample]);
            let valid =
                plan.lengths.as_ref().map_or(elements, |own| own[sample] as usize * plan.stored.elements.step());
            match &values {
                Values::U8(values) => {
                    let own = &values[place * elements..][..elements];
                    if split == train {
                        self.fit.add_bytes(&own[..valid]);
                    }
                    self.runs[split].extend_from_slice(own);
                }
                Values::F32(values) => {
                    let own = &values[place * elements..][..elements];
                    if own.iter().fold(false, |bad, x| bad | !x.is_finite()) {
                        let at = own.iter().position(|x| !x.is_finite()).unwrap_or(0);
                        return Err(Error::input(format!(
                            "{}: sample {}: element {at} is {}",
                            source.about.name,
                            sample - source_begin,
                            own[at]
                        ))
                        .hint("clean the raw data: a network cannot learn from NaN or infinity"));
                    }
                    if split == train {
                        self.fit.add_floats(&own[..valid]);
                    }
                    self.runs[split].extend(own.iter().flat_map(|x| x.to_le_bytes()));
                }
            }
        }
        self.done += samples;
        let sample_bytes = elements * alignment_bytes(plan.stored.dtype);
        for (run, next) in self.runs.iter_mut().zip(&mut self.next) {
            if !run.is_empty() {
                self.file.write_at(self.begin + (*next * sample_bytes) as u64, run)?;
                *next += run.len() / sample_bytes;
                run.clear();
            }
        }
        Ok(())
    }
}

/// Checks that all sources hold the same kind of samples; series may differ in length, and the longest is returned.
fn same_elements(abouts: &[&About]) -> Result<Option<usize>> {
    let first = abouts[0];
    let mut longest = None;
    for about in abouts {
        let is_alike = match (&first.elements, &about.elements) {
            (Elements::Series { time: a, features: x }, Elements::Series { time: b, features: y }) => {
                longest = Some(longest.unwrap_or(*a).max(*b));
                // Lengths may only differ where they are kept.
                x == y && (a == b || (first.lengths.is_some() && about.lengths.is_some()))
            }
            (Elements::Vector { names: a, features: x }, Elements::Vector { names: b, features: y }) => {
                if let Some(at) = a.iter().zip(b).position(|(a, b)| a != b) {
                    return Err(Error::input(format!(
                        "{}: column `{}` stands where {} has `{}`",
                        about.name, b[at], first.name, a[at]
                    ))
                    .hint("put the columns of all files into one order"));
                }
                x == y
            }
            (a, b) => a == b,
        };
        if !is_alike || first.channels != about.channels {
            return Err(Error::input(format!(
                "{}: holds {}, but {} holds {}",
                about.name,
                about.elements.in_words(),
                first.name,
                first.elements.in_words()
            ))
            .hint("all raw data of one dataset must have samples of one shape"));
        }
    }
    Ok(longest)
}

/// Steps of every series, when they differ.
fn lengths(abouts: &[&About], stored: &Elements) -> Option<Vec<u32>> {
    let Elements::Series { time, .. } = *stored else { return None };
    let all: Vec<u32> = abouts
        .iter()
        .flat_map(|about| match &about.lengths {
            Some(lengths) => lengths.clone(),
            None => vec![time as u32; about.samples],
        })
        .collect();
    all.iter().any(|&length| length as usize != time).then_some(all)
}

/// Brings what all sources say about their samples to one set of classes or targets.
fn learned(abouts: &[&About], given: &[String]) -> Result<Learned> {
    let first = abouts[0];
    let mut learned =
        Learned { classes: Vec::new(), labels: Vec::new(), targets: Vec::new(), names: Vec::new(), outputs: 0 };
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
            Labels::Targets { .. } => return Err(differently(first, about)),
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
            Labels::Targets { .. } => return Err(differently(abouts[0], about)),
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

/// The options that decided what is in the file, without paths.
fn resolved(options: &PrepareOptions, plan: &Plan) -> serde_json::Map<String, serde_json::Value> {
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
    if let Some(resize) = options.resize {
        say("resize", json!(resize));
        say("filter", json!(options.filter.name()));
    }
    if plan.gain > 1 {
        say("gain", json!(plan.gain));
    }
    say("standardise", json!(plan.standardise.name()));
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
    all
}

fn text_of(info: &DatasetInfo) -> String {
    serde_json::to_string(info).expect("strings, numbers and lists of them always serialise")
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Size and digest of a file.
fn hash(path: &Path, is_stopped: &AtomicBool) -> Result<SourceFile> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).at(path.display())?;
    let (mut digest, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 17], 0);
    loop {
        let count = match file.read(&mut buffer) {
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e).at(path.display()),
        };
        if count == 0 || is_stopped.load(Ordering::Relaxed) {
            break;
        }
        digest.update(&buffer[..count]);
        bytes += count as u64;
    }
    Ok(SourceFile { name: file_name(path), bytes, sha256: hex(&digest.finalize()) })
}
