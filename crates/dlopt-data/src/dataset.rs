//! A dataset that is open: what it holds, and batches of it.
//!
//! Labels, targets and lengths are kept in memory; inputs too when they fit in a budget, and are read sample by sample
//! where they lie when they do not.

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use dlopt_checkpoint::{Checkpoint, Dtype, Error, Result, TensorInfo, Tensors, alignment_bytes, dtype_name};

use crate::convert::{Affine, STORABLE};
use crate::info::{DATASET_KEY, DatasetInfo, Elements, Learns, Preprocessing};
use crate::memory::available_memory_bytes;
use crate::sequences::Sequences;

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
    /// `[batch, outputs]`; empty when there are classes.
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
        let sides = Sides { labels, targets, lengths, sequences: None };
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
        match &self.inputs {
            Inputs::Memory(bytes) => {
                let sample_bytes = self.sample_bytes();
                let elements = self.sample_elements();
                for (place, &index) in indices.iter().enumerate() {
                    let sample = &bytes[index * sample_bytes..][..sample_bytes];
                    self.convert(index, sample, &mut batch.inputs[place * elements..][..elements])?;
                    self.next_tokens(sample, place, &mut batch.sequences);
                }
                Ok(())
            }
            Inputs::Disk { checkpoint, parts } => {
                let mut buffer = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
                let done = self.read(checkpoint, parts, &mut buffer, batch);
                self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
                done
            }
        }
    }

    fn sample_bytes(&self) -> usize {
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
    fn convert(&self, index: usize, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        let elements = match &self.lengths {
            None => out.len(),
            Some(lengths) => lengths[index] as usize * self.info.elements.step(),
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
    fn read(&self, checkpoint: &Checkpoint, parts: &[Part], buffer: &mut Vec<u8>, batch: &mut Batch) -> Result<()> {
        let (sample_bytes, elements) = (self.sample_bytes(), self.sample_elements());
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
            for &(index, place) in &wanted[begin..end] {
                let sample = &buffer[(index - first) * sample_bytes..][..sample_bytes];
                self.convert(index, sample, &mut batch.inputs[place * elements..][..elements])?;
                self.next_tokens(sample, place, &mut batch.sequences);
            }
            begin = end;
        }
        Ok(())
    }
}

/// What lies beside the inputs.
struct Sides {
    labels: Vec<u32>,
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
    let Sides { labels, targets, lengths, sequences } = sides;
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

/// The tensors that make up one, in order.
struct Whole {
    /// Dtype and shape of all together; `None` when there are none.
    kind: Option<(Dtype, Vec<usize>)>,
    parts: Vec<Part>,
}

/// `NAME`, or `NAME.0`, `NAME.1`… which follow each other along the samples.
fn parts_of(checkpoint: &Checkpoint, name: &str) -> Result<Whole> {
    let tensors = &checkpoint.header.tensors;
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (tensor, info) in tensors.iter().enumerate() {
        if info.name == name {
            found = vec![(0, tensor)];
            break;
        }
        if let Some(number) = info.name.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'))
            && let Ok(number) = number.parse()
        {
            found.push((number, tensor));
        }
    }
    found.sort_unstable();
    let mut whole = Whole { kind: None, parts: Vec::with_capacity(found.len()) };
    for (place, &(number, tensor)) in found.iter().enumerate() {
        let info: &TensorInfo = &tensors[tensor];
        if number != place {
            return Err(Error::input(format!("tensor `{name}.{place}` is missing; `{}` is there", info.name)));
        }
        let Some((&samples, rest)) = info.shape.split_first() else {
            return Err(Error::input(format!("tensor `{}` is a single number; wanted one for each sample", info.name)));
        };
        let first = match &mut whole.kind {
            None => {
                whole.kind = Some((info.dtype, info.shape.clone()));
                0
            }
            Some((dtype, shape)) => {
                if *dtype != info.dtype || shape[1..] != *rest {
                    return Err(Error::input(format!(
                        "tensor `{}` is {} {:?}, but `{}` is {} {shape:?}",
                        info.name,
                        dtype_name(info.dtype),
                        info.shape,
                        tensors[found[0].1].name,
                        dtype_name(*dtype)
                    )));
                }
                let first = shape[0];
                shape[0] = first
                    .checked_add(samples)
                    .ok_or_else(|| Error::input(format!("the parts of `{name}` hold too many samples together")))?;
                first
            }
        };
        whole.parts.push(Part { tensor, first, samples });
    }
    Ok(whole)
}

/// The bytes of all parts, one after the other.
fn read_all(checkpoint: &Checkpoint, parts: &[Part], bytes: u64) -> Result<Vec<u8>> {
    let size = usize::try_from(bytes).map_err(|_| Error::input(format!("{bytes} bytes do not fit this machine")))?;
    let mut all = vec![0; size];
    let mut rest = &mut all[..];
    for part in parts {
        let (own, after) = rest.split_at_mut(checkpoint.header.tensors[part.tensor].bytes() as usize);
        checkpoint.read(part.tensor, 0, own)?;
        rest = after;
    }
    Ok(all)
}

/// A tensor of one whole number a sample, such as class numbers.
fn whole_numbers(checkpoint: &Checkpoint, name: &str) -> Result<Option<Vec<u32>>> {
    token_rows(checkpoint, name, 1)
}

/// A tensor of whole numbers, `width` for each of its rows.
fn token_rows(checkpoint: &Checkpoint, name: &str, width: usize) -> Result<Option<Vec<u32>>> {
    let whole = parts_of(checkpoint, name)?;
    let Some((dtype, shape)) = whole.kind else { return Ok(None) };
    if shape.iter().skip(1).product::<usize>() != width {
        return Err(Error::input(format!("`{name}` has shape {shape:?}; wanted [samples], one number each"))
            .hint("class numbers, not one column a class; numbers to predict belong into `targets`"));
    }
    let bytes = read_all(
        checkpoint,
        &whole.parts,
        shape.iter().map(|&e| e as u64).product::<u64>() * alignment_bytes(dtype) as u64,
    )?;
    let wide: Box<dyn Iterator<Item = i64> + '_> = match dtype {
        Dtype::U8 => Box::new(bytes.iter().map(|&x| i64::from(x))),
        Dtype::I8 => Box::new(bytes.iter().map(|&x| i64::from(x as i8))),
        Dtype::U16 => Box::new(bytes.as_chunks().0.iter().map(|&x| i64::from(u16::from_le_bytes(x)))),
        Dtype::I16 => Box::new(bytes.as_chunks().0.iter().map(|&x| i64::from(i16::from_le_bytes(x)))),
        Dtype::U32 => Box::new(bytes.as_chunks().0.iter().map(|&x| i64::from(u32::from_le_bytes(x)))),
        Dtype::I32 => Box::new(bytes.as_chunks().0.iter().map(|&x| i64::from(i32::from_le_bytes(x)))),
        Dtype::I64 => Box::new(bytes.as_chunks().0.iter().map(|&x| i64::from_le_bytes(x))),
        // What exceeds 2^63 becomes negative and is refused below.
        Dtype::U64 => Box::new(bytes.as_chunks().0.iter().map(|&x| u64::from_le_bytes(x) as i64)),
        _ => {
            return Err(Error::input(format!("`{name}` is {}; wanted whole numbers", dtype_name(dtype)))
                .hint("numbers to predict belong into `targets`"));
        }
    };
    wide.enumerate()
        .map(|(sample, x)| {
            u32::try_from(x)
                .map_err(|_| Error::input(format!("`{name}` of sample {sample} is {x}; wanted 0 to {}", u32::MAX)))
        })
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

/// A tensor of floats.
fn numbers(checkpoint: &Checkpoint, name: &str) -> Result<Option<Vec<f32>>> {
    let whole = parts_of(checkpoint, name)?;
    let Some((dtype, shape)) = whole.kind else { return Ok(None) };
    if !STORABLE.contains(&dtype) {
        return Err(Error::input(format!("`{name}` is {}; wanted numbers", dtype_name(dtype))));
    }
    if shape.len() > 2 {
        return Err(Error::input(format!("`{name}` has shape {shape:?}; wanted [samples, outputs]")));
    }
    let elements = shape.iter().map(|&e| e as u64).product::<u64>();
    let bytes = read_all(checkpoint, &whole.parts, elements * alignment_bytes(dtype) as u64)?;
    let mut values = vec![0.0; elements as usize];
    // What is not finite is refused, with its place, when the parts are put together.
    Affine::plain().apply(dtype, &bytes, &mut values);
    Ok(Some(values))
}

/// Names in backticks with commas between.
pub(crate) fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use dlopt_checkpoint::Header;

    /// A tensor to be written: name, dtype, shape, bytes.
    pub(crate) type Tensor<'a> = (&'a str, Dtype, &'a [usize], Vec<u8>);

    /// The bytes of a safetensors file.
    pub(crate) fn file_of(tensors: &[Tensor<'_>], about: Option<&str>) -> Vec<u8> {
        let mut header = Header::default();
        if let Some(about) = about {
            header.metadata.insert(DATASET_KEY.to_owned(), about.to_owned());
        }
        header.tensors = tensors.iter().map(|(name, dtype, shape, _)| TensorInfo::new(*name, *dtype, *shape)).collect();
        let mut bytes = header.to_bytes().unwrap();
        tensors.iter().for_each(|(.., data)| bytes.extend_from_slice(data));
        bytes
    }

    fn opened(tensors: &[Tensor<'_>], about: Option<&str>, memory_bytes: u64) -> Result<Dataset> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.safetensors");
        std::fs::write(&path, file_of(tensors, about)).unwrap();
        Dataset::open_within(&path, memory_bytes)
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn pictures(samples: usize) -> Vec<Tensor<'static>> {
        let shape: &'static [usize] = Box::leak(vec![samples, 5, 3].into_boxed_slice());
        let labels: &'static [usize] = Box::leak(vec![samples].into_boxed_slice());
        vec![
            ("inputs", Dtype::U8, shape, (0..samples * 15).map(|i| (i * 31 % 256) as u8).collect()),
            ("labels", Dtype::I64, labels, (0..samples as i64).flat_map(|i| (i % 3).to_le_bytes()).collect()),
        ]
    }

    #[test]
    fn a_file_that_a_user_made_is_a_dataset() {
        let data = opened(&pictures(11), None, u64::MAX).unwrap();
        assert_eq!(data.info().elements, Elements::Image { height: 5, width: 3, channels: 1 });
        assert_eq!(data.classes(), ["0", "1", "2"]);
        assert_eq!(data.split("train").unwrap(), 0..11);
        assert_eq!((data.samples(), data.outputs(), data.sample_elements()), (11, 3, 15));
        let mut batch = Batch::default();
        data.gather(&[10, 0], &mut batch).unwrap();
        assert_eq!(batch.labels, [1, 0]);
        assert_eq!(batch.indices, [10, 0]);
        assert_eq!(batch.inputs.len(), 30);
        assert_eq!(batch.inputs[16], 31.0 * (1.0 / 255.0));
        assert_eq!(batch.lengths, None);
    }

    #[test]
    fn batches_from_disk_equal_those_from_memory() {
        let (memory, disk) =
            (opened(&pictures(101), None, u64::MAX).unwrap(), opened(&pictures(101), None, 0).unwrap());
        assert!(memory.is_in_memory() && !disk.is_in_memory());
        let (mut a, mut b) = (Batch::default(), Batch::default());
        for indices in [vec![7, 8, 9, 3, 3, 100, 0, 8], vec![], (0..101).rev().collect()] {
            memory.gather(&indices, &mut a).unwrap();
            disk.gather(&indices, &mut b).unwrap();
            assert_eq!(a, b);
        }
    }

    #[test]
    fn parts_follow_each_other_along_the_samples() {
        let whole = pictures(7);
        let mut parts = vec![("labels", Dtype::I64, &[7][..], whole[1].3.clone())];
        parts.push(("inputs.1", Dtype::U8, &[5, 5, 3], whole[0].3[30..].to_vec()));
        parts.push(("inputs.0", Dtype::U8, &[2, 5, 3], whole[0].3[..30].to_vec()));
        let (mut a, mut b) = (Batch::default(), Batch::default());
        let indices: Vec<usize> = (0..7).collect();
        opened(&whole, None, u64::MAX).unwrap().gather(&indices, &mut a).unwrap();
        for memory in [0, u64::MAX] {
            opened(&parts, None, memory).unwrap().gather(&indices, &mut b).unwrap();
            assert_eq!(a, b);
        }
        parts.pop();
        let error = opened(&parts, None, 0).err().unwrap();
        assert!(error.message().contains("`inputs.0` is missing"), "{error}");
    }

    #[test]
    fn steps_after_the_end_of_a_series_are_zero() {
        let about = r#"{"schema":1,"mean":[1.0,2.0],"deviation":[0.5,0.25]}"#;
        let tensors: Vec<Tensor<'_>> = vec![
            ("inputs", Dtype::F32, &[2, 3, 2], floats(&[1.0, 2.0, 2.0, 3.0, 0.0, 0.0, 1.5, 2.5, 1.0, 1.0, 3.0, 2.0])),
            ("labels", Dtype::U8, &[2], vec![1, 0]),
            ("lengths", Dtype::U32, &[2], [2_u32, 3].iter().flat_map(|x| x.to_le_bytes()).collect()),
        ];
        let data = opened(&tensors, Some(about), u64::MAX).unwrap();
        let mut batch = Batch::default();
        data.gather(&[1, 0], &mut batch).unwrap();
        assert_eq!(batch.inputs, [1.0, 2.0, 0.0, -4.0, 4.0, 0.0, 0.0, 0.0, 2.0, 4.0, 0.0, 0.0]);
        assert_eq!(batch.lengths, Some(vec![3, 2]));
    }

    #[test]
    fn targets_travel_with_their_samples() {
        let tensors: Vec<Tensor<'_>> = vec![
            ("inputs", Dtype::F32, &[3, 1], floats(&[1.0, 2.0, 3.0])),
            ("targets", Dtype::F32, &[3, 2], floats(&[1.0, -1.0, 2.0, -2.0, 3.0, -3.0])),
        ];
        let data = opened(&tensors, None, u64::MAX).unwrap();
        assert_eq!((data.outputs(), data.classes().len()), (2, 0));
        let mut batch = Batch::default();
        data.gather(&[2, 0], &mut batch).unwrap();
        assert_eq!(batch.targets, [3.0, -3.0, 1.0, -1.0]);
        assert!(batch.labels.is_empty());
    }

    #[test]
    fn inputs_that_are_no_number_name_their_sample() {
        let tensors: Vec<Tensor<'_>> = vec![
            ("inputs", Dtype::F32, &[3, 2], floats(&[1.0, 2.0, 3.0, 4.0, 5.0, f32::NAN])),
            ("labels", Dtype::U8, &[3], vec![0, 1, 0]),
        ];
        for memory in [0, u64::MAX] {
            let error = opened(&tensors, None, memory).unwrap().gather(&[0, 2], &mut Batch::default()).unwrap_err();
            assert!(error.message().contains("sample 2: element 1 is NaN"), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |tensors: &[Tensor<'_>], about: Option<&str>| {
            opened(tensors, about, u64::MAX).err().expect("must be refused").message().to_owned()
        };
        let inputs: Tensor<'_> = ("inputs", Dtype::U8, &[3, 2], vec![0; 6]);
        let labels: Tensor<'_> = ("labels", Dtype::U8, &[3], vec![0, 5, 1]);
        assert!(refused(std::slice::from_ref(&labels), None).contains("no tensor `inputs`"));
        assert!(refused(std::slice::from_ref(&inputs), None).contains("neither `labels` nor `targets`"));
        assert!(refused(&[inputs.clone(), ("labels", Dtype::U8, &[2], vec![0; 2])], None).contains("2 labels for 3"));
        let named = r#"{"schema":1,"classes":["a","b"]}"#;
        let outside = refused(&[inputs.clone(), labels.clone()], Some(named));
        assert!(outside.contains("label 5 of sample 1 is outside the 2 classes"), "{outside}");
        let negative = ("labels", Dtype::I8, &[3][..], vec![0, 255, 1]);
        assert!(refused(&[inputs.clone(), negative], None).contains("`labels` of sample 1 is -1"));
        let floats = ("labels", Dtype::F32, &[3][..], vec![0; 12]);
        assert!(refused(&[inputs.clone(), floats], None).contains("wanted whole numbers"));
        let lengths = ("lengths", Dtype::U8, &[3][..], vec![1; 3]);
        assert!(refused(&[inputs.clone(), labels.clone(), lengths], None).contains("which have no time"));
        let odd = ("inputs", Dtype::BOOL, &[3, 2][..], vec![0; 6]);
        assert!(refused(&[odd, labels.clone()], None).contains("BOOL"));
        let splits = r#"{"schema":1,"splits":{"train":[0,4]}}"#;
        assert!(refused(&[inputs.clone(), labels], Some(splits)).contains("0..4"));
        let empty = refused(&[("inputs", Dtype::U8, &[0, 2], vec![]), ("labels", Dtype::U8, &[0], vec![])], None);
        assert!(empty.contains("no numbers"), "{empty}");
    }

    #[test]
    fn an_unknown_split_names_those_there_are() {
        let about = r#"{"schema":1,"splits":{"train":[0,8],"test":[8,11],"validation":[11,11]}}"#;
        let data = opened(&pictures(11), Some(about), u64::MAX).unwrap();
        assert_eq!(data.split("test").unwrap(), 8..11);
        let error = data.split("tests").unwrap_err();
        assert!(error.message().contains("no split `tests`; there are `train`, `test`, `validation`"), "{error}");
        assert_eq!(error.what_to_try(), Some("did you mean `test`?"));
        assert!(data.split("validation").unwrap_err().message().contains("has no samples"));
        assert!(data.gather(&[11], &mut Batch::default()).unwrap_err().message().contains("no sample 11"));
    }

    #[test]
    fn statistics_of_a_checkpoint_can_replace_the_files_own() {
        let mut data = opened(&pictures(11), None, u64::MAX).unwrap();
        let mut other = data.preprocessing().clone();
        (other.mean, other.deviation) = (vec![0.5], vec![0.25]);
        data.set_preprocessing(other.clone()).unwrap();
        let mut batch = Batch::default();
        data.gather(&[0], &mut batch).unwrap();
        assert_eq!(batch.inputs[0], -2.0);
        other.dtype = "F32".to_owned();
        let error = data.set_preprocessing(other).unwrap_err();
        assert!(error.message().contains("element type F32 in what is wanted, U8 in the data"), "{error}");
    }

    #[test]
    fn a_dataset_can_be_made_of_memory() {
        let parts = Parts {
            name: "made".to_owned(),
            info: DatasetInfo::plain(Elements::Vector { features: 2, names: Vec::new() }),
            dtype: Dtype::F32,
            inputs: floats(&[1.0, 2.0, 3.0, 4.0]),
            labels: vec![1, 0],
            targets: None,
            lengths: None,
        };
        let data = Dataset::from_parts(parts.clone()).unwrap();
        let mut batch = Batch::default();
        data.gather(&[1], &mut batch).unwrap();
        assert_eq!(batch.inputs, [3.0, 4.0]);
        let error = Dataset::from_parts(Parts { inputs: vec![0; 9], ..parts }).err().unwrap();
        assert!(error.message().contains("made: 9 bytes"), "{error}");
    }
}
