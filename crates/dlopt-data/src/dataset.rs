//! A dataset that is open: what it holds, and batches of it.
//!
//! Labels, targets and lengths are kept in memory; inputs too when they fit in a budget, and are read sample by sample
//! where they lie when they do not.

mod shares;
mod tensors;
#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use dlopt_checkpoint::{Checkpoint, Dtype, Error, Result, Tensors, alignment_bytes, dtype_name};

use crate::change::Change;
use crate::convert::{Affine, STORABLE};
use crate::info::{DATASET_KEY, DatasetInfo, Elements, Learns, Preprocessing};
use crate::memory::available_memory_bytes;
use crate::sequences::Sequences;
use tensors::{numbers, parts_of, read_all, token_rows, whole_numbers};

/// Bytes of neighbouring samples that are read at once.
const RUN_BYTES: usize = 1 << 20;

/// Labels above this are taken for a mistake when nobody named the classes.
const MOST_CLASSES: u32 = 1 << 20;

/// A dataset that is open for reading; any thread may gather batches from it.
pub struct Dataset {
    name: String,
    info: DatasetInfo,
    dtype: Dtype,
    samples: usize,
    inputs: Inputs,
    labels: Vec<u32>,
    shares: Option<Vec<f32>>,
    targets: Option<Vec<f32>>,
    outputs: usize,
    lengths: Option<Vec<u32>>,
    sequences: Option<Sequences>,
    preprocessing: Preprocessing,
    affine: Affine,
    /// Buffers for samples on their way from disk.
    buffers: Mutex<Vec<Vec<u8>>>,
}

enum Inputs {
    Memory(Vec<u8>),
    Disk { checkpoint: Box<Checkpoint>, parts: Vec<Part> },
}

/// A run of samples that lies in one tensor.
struct Part {
    tensor: usize,
    first: usize,
    samples: usize,
}

/// What a dataset in memory is made of; see [`Dataset::from_parts`].
#[derive(Clone, Debug)]
pub struct Parts {
    /// How messages name it.
    pub name: String,
    /// What the elements mean.
    pub info: DatasetInfo,
    /// Element type of `inputs`.
    pub dtype: Dtype,
    /// `[samples, …]`, little-endian.
    pub inputs: Vec<u8>,
    /// `[samples]`, or empty when there are targets.
    pub labels: Vec<u32>,
    /// `[samples, outputs]`.
    pub targets: Option<Vec<f32>>,
    /// `[samples]`, steps of each series.
    pub lengths: Option<Vec<u32>>,
}

/// Some samples, ready for a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Which samples these are.
    pub indices: Vec<usize>,
    /// `[batch, …]`, scaled and standardised; steps after the end of a series are 0.
    pub inputs: Vec<f32>,
    /// `[batch]`, steps of each series, when they differ.
    pub lengths: Option<Vec<u32>>,
    /// `[batch]`, class numbers; empty when there are targets.
    pub labels: Vec<u32>,
    /// `[batch, outputs]`; for classes empty, or their shares `[batch, classes]` where samples are or were mixed.
    pub targets: Vec<f32>,
    /// `[batch, steps]`, the token that should come out at each step; empty when no tokens are to be learned.
    pub sequences: Vec<u32>,
    /// `[batch]`, the steps of each sequence that count; the others hold 0.
    pub sequence_lengths: Vec<u32>,
}

impl Dataset {
    /// Opens a dataset file or a folder of shards. Inputs are kept in memory when they take at most half of what is
    /// available now.
    ///
    /// # Errors
    /// When nothing readable is there, when tensors are missing or do not fit each other, or when a label is outside
    /// the classes.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_within(path, available_memory_bytes() / 2)
    }

    /// The same with a budget: inputs are kept in memory when they take at most `memory_bytes`.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_within(path: &Path, memory_bytes: u64) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let name = checkpoint.name.clone();
        if checkpoint.stream().is_some() {
            return Err(Error::input(format!("{name}: a dataset is read here and there, and this is a pipe"))
                .hint("save it to a file first"));
        }
        Self::of(checkpoint, memory_bytes)
    }

    /// A dataset of a file that is open already, and is no pipe; otherwise as [`Dataset::open_within`].
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn of(checkpoint: Checkpoint, memory_bytes: u64) -> Result<Self> {
        let name = checkpoint.name.clone();
        load(checkpoint, memory_bytes).map_err(|e| if e.message().starts_with(&name) { e } else { e.within(&name) })
    }

    /// A dataset of what is in memory already.
    ///
    /// # Errors
    /// When the parts do not fit each other, or a label is outside the classes.
    pub fn from_parts(parts: Parts) -> Result<Self> {
        let Parts { name, info, dtype, inputs, labels, targets, lengths } = parts;
        let within = |e: Error| e.within(&name);
        let sample_bytes = info.stored_elements().saturating_mul(dtype.bitsize() / 8);
        if sample_bytes == 0 || !inputs.len().is_multiple_of(sample_bytes) {
            return Err(within(Error::input(format!(
                "{} bytes of inputs are no whole number of {} ({sample_bytes} bytes each)",
                inputs.len(),
                info.elements.in_words()
            ))));
        }
        let mut shape = info.elements.shape();
        shape.insert(0, inputs.len() / sample_bytes);
        let sides = Sides { labels, shares: None, targets, lengths, sequences: None };
        assemble(name.clone(), info, dtype, &shape, Inputs::Memory(inputs), sides).map_err(within)
    }

    /// How messages name it: its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says about itself.
    pub fn info(&self) -> &DatasetInfo {
        &self.info
    }

    /// How many samples it holds, in all splits together.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Element type of the stored inputs.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Numbers in one sample.
    pub fn sample_elements(&self) -> usize {
        self.info.elements.elements()
    }

    /// The samples of a split.
    ///
    /// # Errors
    /// When there is no such split, or nothing in it.
    pub fn split(&self, name: &str) -> Result<Range<usize>> {
        let names = self.info.split_names();
        let Some(&[begin, end]) = self.info.splits.get(name) else {
            let error = Error::input(format!("{}: no split `{name}`; there are {}", self.name, quoted(&names)));
            let nearest = names.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
            return Err(match nearest.filter(|near| strsim::jaro(near, name) > 0.7) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("prepare the data with --split, such as --split test=0.2,validation=0.1"),
            });
        };
        if begin == end {
            return Err(Error::input(format!("{}: split `{name}` has no samples", self.name))
                .hint("prepare the data with a larger share for it"));
        }
        Ok(begin..end)
    }

    /// What the classes are called, by number; empty when there are targets.
    pub fn classes(&self) -> &[String] {
        &self.info.classes
    }

    /// The class of every sample; empty when there are targets.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The targets of all samples, `[samples, outputs]`.
    pub fn targets(&self) -> Option<&[f32]> {
        self.targets.as_deref()
    }

    /// Numbers a network should put out: as many as classes, or as targets a sample.
    pub fn outputs(&self) -> usize {
        match (&self.info.learns, &self.info.elements) {
            (Learns::Sequence { vocabulary, .. }, _) | (Learns::NextToken, Elements::Tokens { vocabulary, .. }) => {
                *vocabulary
            }
            _ if self.targets.is_some() => self.outputs,
            _ => self.info.classes.len(),
        }
    }

    /// Tokens of a sample's sequence at most; 0 when no sequences are learned.
    pub fn sequence_steps(&self) -> usize {
        match (&self.info.learns, &self.info.elements) {
            (Learns::Sequence { time, .. }, _) | (Learns::NextToken, Elements::Tokens { time, .. }) => *time,
            _ => 0,
        }
    }

    /// Tokens of a sample's sequence that count, its end included; 0 when no sequences are learned.
    pub fn sequence_length(&self, sample: usize) -> usize {
        self.sequences.as_ref().map_or(self.sequence_steps(), |own| own.lengths[sample] as usize)
    }

    /// All sequences that are right for a sample, each with its end token; none when no sequences are kept beside the
    /// inputs.
    pub fn answers(&self, sample: usize) -> Vec<&[u32]> {
        self.sequences.as_ref().map(|sequences| sequences.answers(sample)).unwrap_or_default()
    }

    /// Takes another sequence, its end included, for the first right answer of a sample.
    ///
    /// # Errors
    /// When no sequences are kept beside the inputs, there is no such sample, or the sequence does not fit.
    pub fn set_answer(&mut self, sample: usize, tokens: &[u32]) -> Result<()> {
        let vocabulary = self.outputs();
        let fits = tokens.iter().all(|token| (*token as usize) < vocabulary);
        match &mut self.sequences {
            Some(own) if sample < self.samples && (1..=own.time).contains(&tokens.len()) && fits => {
                let row = &mut own.tokens[sample * own.time..][..own.time];
                row.fill(0);
                row[..tokens.len()].copy_from_slice(tokens);
                own.lengths[sample] = tokens.len() as u32;
                Ok(())
            }
            _ => Err(Error::input(format!(
                "{}: a sequence of {} tokens is no answer for sample {sample}",
                self.name,
                tokens.len()
            ))),
        }
    }

    /// Steps of every series, when they differ.
    pub fn lengths(&self) -> Option<&[u32]> {
        self.lengths.as_deref()
    }

    /// What is applied to the raw elements.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Applies other statistics than the file's own from now on: those a checkpoint was trained with.
    ///
    /// # Errors
    /// When they are for other elements, or unusable.
    pub fn set_preprocessing(&mut self, preprocessing: Preprocessing) -> Result<()> {
        if !preprocessing.fits(&self.preprocessing) {
            let difference = preprocessing.difference(&self.preprocessing, "what is wanted", "the data");
            return Err(Error::input(format!(
                "{}: the data are prepared differently: {}",
                self.name,
                difference.unwrap_or_default()
            ))
            .hint("prepare the data again with the same options"));
        }
        preprocessing.check()?;
        self.affine = Affine::new(&preprocessing);
        self.preprocessing = preprocessing;
        Ok(())
    }

    /// Whether the inputs are in memory, so that a batch costs no read.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.inputs, Inputs::Memory(_))
    }

    /// Fills a batch with these samples, in this order. The buffers of the batch are used again.
    ///
    /// # Errors
    /// When there is no such sample, when the file cannot be read, or when an input is NaN or infinite.
    pub fn gather(&self, indices: &[usize], batch: &mut Batch) -> Result<()> {
        self.fill(indices, batch, None)
    }

    /// The same, with every sample changed on its way. Where samples are mixed, `targets` hold the shares of the classes.
    ///
    /// # Errors
    /// As [`Dataset::gather`], and when a sample cannot be changed.
    pub fn gather_changed(&self, indices: &[usize], batch: &mut Batch, change: &mut dyn Change) -> Result<()> {
        self.fill(indices, batch, Some(change))
    }

    fn fill(&self, indices: &[usize], batch: &mut Batch, change: Option<&mut dyn Change>) -> Result<()> {
        if let Some(index) = indices.iter().find(|index| **index >= self.samples) {
            return Err(Error::input(format!("{}: no sample {index}; there are {}", self.name, self.samples)));
        }
        batch.indices.clear();
        batch.indices.extend_from_slice(indices);
        batch.labels.clear();
        if !self.labels.is_empty() {
            batch.labels.extend(indices.iter().map(|&index| self.labels[index]));
        }
        batch.targets.clear();
        if let Some(targets) = &self.targets {
            for &index in indices {
                batch.targets.extend_from_slice(&targets[index * self.outputs..][..self.outputs]);
            }
        }
        match &self.lengths {
            None => batch.lengths = None,
            Some(lengths) => {
                let own = batch.lengths.get_or_insert_default();
                own.clear();
                own.extend(indices.iter().map(|&index| lengths[index]));
            }
        }
        let steps = self.sequence_steps();
        batch.sequences.clear();
        batch.sequence_lengths.clear();
        match &self.sequences {
            Some(own) => {
                for &index in indices {
                    batch.sequences.extend_from_slice(&own.tokens[index * steps..][..steps]);
                    batch.sequence_lengths.push(own.lengths[index]);
                }
            }
            None if steps > 0 => {
                batch.sequences.resize(indices.len() * steps, 0);
                batch.sequence_lengths.resize(indices.len(), steps as u32);
            }
            None => {}
        }
        batch.inputs.resize(indices.len() * self.sample_elements(), 0.0);
        let classes = self.info.classes.len();
        let mixes = change.as_ref().is_some_and(|change| change.mixes());
        if (mixes || self.shares.is_some()) && !self.labels.is_empty() {
            batch.targets.resize(indices.len() * classes, 0.0);
            if change.is_none() {
                for (&index, shares) in indices.iter().zip(batch.targets.chunks_exact_mut(classes)) {
                    self.shares_of(index, None, shares);
                }
            }
        }
        match &self.inputs {
            Inputs::Memory(bytes) => {
                let sample_bytes = self.sample_bytes();
                let samples = indices.iter().enumerate();
                let samples = samples.map(|(place, &index)| (place, &bytes[index * sample_bytes..][..sample_bytes]));
                self.take(samples, batch, change)
            }
            Inputs::Disk { checkpoint, parts } => {
                let mut buffer = self.buffer();
                let done = self.read(checkpoint, parts, &mut buffer, batch, change);
                self.put_back(buffer);
                done
            }
        }
    }

    /// Puts samples, each with its place, into a batch.
    fn take<'a>(
        &self,
        samples: impl Iterator<Item = (usize, &'a [u8])>,
        batch: &mut Batch,
        change: Option<&mut dyn Change>,
    ) -> Result<()> {
        let elements = self.sample_elements();
        let steps = |index: usize| self.lengths.as_ref().map_or(self.info.elements.steps(), |all| all[index] as usize);
        let Some(change) = change else {
            for (place, sample) in samples {
                let index = batch.indices[place];
                self.convert(index, sample, steps(index), &mut batch.inputs[place * elements..][..elements])?;
                self.next_tokens(sample, place, &mut batch.sequences);
            }
            return Ok(());
        };
        let mut buffer = self.buffer();
        for (place, sample) in samples {
            let index = batch.indices[place];
            buffer.clear();
            buffer.extend_from_slice(sample);
            let changed = change.change(index, &mut buffer, steps(index))?;
            self.convert(index, &buffer, changed.steps, &mut batch.inputs[place * elements..][..elements])?;
            self.next_tokens(&buffer, place, &mut batch.sequences);
            if let Some(lengths) = &mut batch.lengths {
                lengths[place] = changed.steps as u32;
            }
            if !batch.targets.is_empty() && !self.labels.is_empty() {
                let classes = self.info.classes.len();
                self.shares_of(index, changed.mixed, &mut batch.targets[place * classes..][..classes]);
            }
        }
        self.put_back(buffer);
        Ok(())
    }

    fn buffer(&self) -> Vec<u8> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn put_back(&self, buffer: Vec<u8>) {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    /// Replaces `out` by the bytes of neighbouring samples, as they are stored.
    ///
    /// # Errors
    /// When there are no such samples, or the file cannot be read.
    pub fn stored(&self, samples: Range<usize>, out: &mut Vec<u8>) -> Result<()> {
        if samples.start > samples.end || samples.end > self.samples {
            return Err(Error::input(format!("{}: no samples {samples:?}; there are {}", self.name, self.samples)));
        }
        let bytes = self.sample_bytes();
        out.clear();
        match &self.inputs {
            Inputs::Memory(all) => out.extend_from_slice(&all[samples.start * bytes..samples.end * bytes]),
            Inputs::Disk { checkpoint, parts } => {
                out.resize(samples.len() * bytes, 0);
                for part in parts {
                    let (begin, end) = (samples.start.max(part.first), samples.end.min(part.first + part.samples));
                    if begin < end {
                        let own = &mut out[(begin - samples.start) * bytes..(end - samples.start) * bytes];
                        checkpoint.read(part.tensor, ((begin - part.first) * bytes) as u64, own)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes of one sample, as it is stored.
    pub fn sample_bytes(&self) -> usize {
        self.info.stored_elements() * alignment_bytes(self.dtype)
    }

    /// The tokens that follow those of a sample, where they are learned.
    fn next_tokens(&self, bytes: &[u8], place: usize, sequences: &mut [u32]) {
        if self.info.learns != Learns::NextToken {
            return;
        }
        let steps = self.sequence_steps();
        let out = &mut sequences[place * steps..][..steps];
        let width = alignment_bytes(self.dtype);
        for (out, token) in out.iter_mut().zip(bytes.chunks_exact(width).skip(1)) {
            *out = token.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte));
        }
    }

    /// Turns the stored bytes of one sample into numbers.
    fn convert(&self, index: usize, bytes: &[u8], steps: usize, out: &mut [f32]) -> Result<()> {
        let elements = match self.info.elements {
            Elements::Series { .. } | Elements::Tokens { .. } => steps * self.info.elements.step(),
            _ => out.len(),
        };
        let (valid, padding) = out.split_at_mut(elements);
        padding.fill(0.0);
        if self.affine.apply(self.dtype, &bytes[..elements * alignment_bytes(self.dtype)], valid) {
            return Ok(());
        }
        let place = valid.iter().position(|x| !x.is_finite()).unwrap_or(0);
        Err(Error::input(format!(
            "{}: sample {index}: element {place} is {} as a 32-bit float",
            self.name,
            if valid[place].is_nan() { "NaN" } else { "infinite" }
        ))
        .hint("clean the raw data and prepare them again"))
    }

    /// Reads samples in the order they lie in the file, neighbours together.
    fn read(
        &self,
        checkpoint: &Checkpoint,
        parts: &[Part],
        buffer: &mut Vec<u8>,
        batch: &mut Batch,
        mut change: Option<&mut dyn Change>,
    ) -> Result<()> {
        let sample_bytes = self.sample_bytes();
        let mut wanted: Vec<(usize, usize)> =
            batch.indices.iter().enumerate().map(|(place, &index)| (index, place)).collect();
        wanted.sort_unstable();
        let most = (RUN_BYTES / sample_bytes.max(1)).max(1);
        let mut begin = 0;
        while begin < wanted.len() {
            let first = wanted[begin].0;
            let part = &parts[parts.partition_point(|part| part.first + part.samples <= first)];
            let limit = (part.first + part.samples).min(first + most);
            let mut end = begin + 1;
            while end < wanted.len() && wanted[end].0 <= wanted[end - 1].0 + 1 && wanted[end].0 < limit {
                end += 1;
            }
            let bytes = (wanted[end - 1].0 + 1 - first) * sample_bytes;
            if buffer.len() < bytes {
                buffer.resize(bytes, 0);
            }
            checkpoint.read(part.tensor, ((first - part.first) * sample_bytes) as u64, &mut buffer[..bytes])?;
            let run = wanted[begin..end].iter();
            let run = run.map(|&(index, place)| (place, &buffer[(index - first) * sample_bytes..][..sample_bytes]));
            match &mut change {
                Some(change) => self.take(run, batch, Some(&mut **change))?,
                None => self.take(run, batch, None)?,
            }
            begin = end;
        }
        Ok(())
    }
}

/// What lies beside the inputs.
struct Sides {
    labels: Vec<u32>,
    shares: Option<Vec<f32>>,
    targets: Option<Vec<f32>>,
    lengths: Option<Vec<u32>>,
    sequences: Option<Sequences>,
}

fn load(checkpoint: Checkpoint, memory_bytes: u64) -> Result<Dataset> {
    let inputs = parts_of(&checkpoint, "inputs")?;
    let Some((dtype, shape)) = inputs.kind else {
        let names: Vec<&str> = checkpoint.header.tensors.iter().map(|t| t.name.as_str()).take(5).collect();
        return Err(Error::input(format!(
            "no tensor `inputs`; a dataset holds `inputs` and `labels`, and here is {}",
            quoted(&names)
        ))
        .hint("dlopt prepare makes datasets from raw data"));
    };
    let info = DatasetInfo::resolve(checkpoint.header.metadata.get(DATASET_KEY).map(String::as_str), dtype, &shape)?;
    info.check(&shape)?;
    let sides = Sides {
        labels: whole_numbers(&checkpoint, "labels")?.unwrap_or_default(),
        shares: numbers(&checkpoint, "shares")?,
        targets: numbers(&checkpoint, "targets")?,
        lengths: whole_numbers(&checkpoint, "lengths")?,
        sequences: sequences(&checkpoint, &info)?,
    };
    let bytes = shape.iter().map(|&extent| extent as u64).product::<u64>() * alignment_bytes(dtype) as u64;
    let name = checkpoint.name.clone();
    let store = if bytes <= memory_bytes {
        Inputs::Memory(read_all(&checkpoint, &inputs.parts, bytes)?)
    } else {
        Inputs::Disk { checkpoint: Box::new(checkpoint), parts: inputs.parts }
    };
    assemble(name, info, dtype, &shape, store, sides)
}

/// The sequences that a file holds.
fn sequences(checkpoint: &Checkpoint, info: &DatasetInfo) -> Result<Option<Sequences>> {
    let Learns::Sequence { time, .. } = info.learns else { return Ok(None) };
    let all = |name: &str, width: usize| Ok::<_, Error>(token_rows(checkpoint, name, width)?.unwrap_or_default());
    Ok(Some(Sequences {
        time,
        tokens: all("sequences", time)?,
        lengths: all("sequence_lengths", 1)?,
        references: all("references", time)?,
        reference_lengths: all("reference_lengths", 1)?,
        reference_samples: all("reference_samples", 1)?,
    }))
}

/// Checks the parts against each other. `shape` is that of the inputs, samples first.
fn assemble(
    name: String,
    mut info: DatasetInfo,
    dtype: Dtype,
    shape: &[usize],
    inputs: Inputs,
    sides: Sides,
) -> Result<Dataset> {
    if !STORABLE.contains(&dtype) {
        return Err(Error::input(format!(
            "`inputs` is {}; dlopt reads whole numbers and floats of 8 to 64 bits",
            dtype_name(dtype)
        )));
    }
    info.check(shape)?;
    let samples = shape[0];
    if samples == 0 || info.elements.elements() == 0 {
        return Err(Error::input(format!("`inputs` has shape {shape:?}: there are no numbers in it")));
    }
    let Sides { labels, shares, targets, lengths, sequences } = sides;
    let outputs = match &targets {
        Some(targets) if !labels.is_empty() => {
            return Err(Error::input(format!("both {} labels and {} targets", labels.len(), targets.len()))
                .hint("a dataset has `labels` for classes or `targets` for numbers"));
        }
        Some(targets) if targets.is_empty() || !targets.len().is_multiple_of(samples) => {
            return Err(Error::input(format!("{} targets for {samples} samples", targets.len())));
        }
        Some(targets) => targets.len() / samples,
        None if labels.is_empty() && info.learns != Learns::Sample => 0,
        None if labels.is_empty() => {
            return Err(Error::input("neither `labels` nor `targets`")
                .hint("add `labels` with a class number for every sample, or `targets` with the numbers to predict"));
        }
        None if labels.len() != samples => {
            return Err(Error::input(format!("{} labels for {samples} samples", labels.len())));
        }
        None => 0,
    };
    if let Some(targets) = &targets
        && let Some(place) = targets.iter().position(|x| !x.is_finite())
    {
        return Err(Error::input(format!(
            "target {} of sample {} is {}",
            place % outputs,
            place / outputs,
            targets[place]
        )));
    }
    check_classes(&mut info, &labels)?;
    if let Some(shares) = &shares {
        shares::check(shares, &labels, samples, info.classes.len())?;
    }
    if let Some(lengths) = &lengths {
        check_lengths(&info.elements, lengths, samples)?;
    }
    if let Some(sequences) = &sequences {
        sequences.check(&info.learns, samples)?;
    }
    if info.learns == Learns::NextToken && !matches!(info.elements, Elements::Tokens { .. }) {
        return Err(Error::input(format!("the next token is learned of {}", info.elements.in_words())));
    }
    if info.splits.is_empty() {
        info.splits.insert("train".to_owned(), [0, samples]);
    }
    let preprocessing = info.preprocessing(dtype);
    Ok(Dataset {
        name,
        dtype,
        samples,
        inputs,
        labels,
        shares,
        targets,
        outputs,
        lengths,
        sequences,
        affine: Affine::new(&preprocessing),
        preprocessing,
        info,
        buffers: Mutex::default(),
    })
}

fn check_classes(info: &mut DatasetInfo, labels: &[u32]) -> Result<()> {
    let Some((sample, &largest)) = labels.iter().enumerate().max_by_key(|(_, label)| **label) else { return Ok(()) };
    if info.classes.is_empty() {
        if largest >= MOST_CLASSES {
            return Err(Error::input(format!("label {largest} of sample {sample} is no class number"))
                .hint("numbers to predict belong into `targets`"));
        }
        info.classes = (0..=largest).map(|class| class.to_string()).collect();
    } else if largest as usize >= info.classes.len() {
        return Err(Error::input(format!(
            "label {largest} of sample {sample} is outside the {} classes (0 to {})",
            info.classes.len(),
            info.classes.len() - 1
        )));
    }
    Ok(())
}

fn check_lengths(elements: &Elements, lengths: &[u32], samples: usize) -> Result<()> {
    let time = match *elements {
        Elements::Series { time, .. } | Elements::Tokens { time, .. } => time,
        _ => return Err(Error::input(format!("`lengths` beside {}, which have no time", elements.in_words()))),
    };
    if lengths.len() != samples {
        return Err(Error::input(format!("{} lengths for {samples} samples", lengths.len())));
    }
    match lengths.iter().enumerate().find(|(_, length)| **length == 0 || **length as usize > time) {
        Some((sample, length)) => {
            Err(Error::input(format!("sample {sample} has {length} steps; wanted 1 to {time}, as `inputs` is wide")))
        }
        None => Ok(()),
    }
}

/// Names in backticks with commas between.
pub(crate) fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}
