//! The operations at work on the samples of a dataset: bytes in, bytes out.

use std::ops::Range;
use std::sync::Arc;

use dlopt_checkpoint::{Dtype, Error, Result, dtype_name};
use dlopt_data::{Change, Changed, Changes, Dataset, Learns};

use crate::draws::{Draws, Key};
use crate::recipe::Recipe;
use crate::sample::{Data, Form, Sample, Scratch};

/// A recipe for the samples of a dataset.
#[derive(Clone)]
pub struct Augmenter {
    recipe: Arc<Recipe>,
    dataset: Arc<Dataset>,
    /// Where samples to mix in are taken from.
    split: Range<usize>,
    form: Form,
    seed: u64,
    round: u64,
}

impl Augmenter {
    /// The recipe for the samples of a split.
    ///
    /// # Errors
    /// When an operation does not fit the data, or their elements are of a type that none works on.
    pub fn new(recipe: Recipe, dataset: &Arc<Dataset>, split: &str, seed: u64) -> Result<Self> {
        let split = dataset.split(split)?;
        let form = form_of(dataset).map_err(|e| e.within(dataset.name()))?;
        recipe.check(&form).map_err(|e| e.within(dataset.name()))?;
        if recipe.mixes() && (dataset.labels().is_empty() || dataset.info().learns != Learns::Sample) {
            return Err(Error::usage(format!(
                "{}: the recipe mixes samples and their labels, and there are no classes",
                dataset.name()
            ))
            .hint("leave mixup and cutmix out"));
        }
        Ok(Self { recipe: Arc::new(recipe), dataset: Arc::clone(dataset), split, form, seed, round: 0 })
    }

    /// The same for another copy or epoch.
    #[must_use]
    pub fn in_round(&self, round: u64) -> Self {
        Self { round, ..self.clone() }
    }

    /// What the samples are.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Does the work, one thread at a time.
    pub fn worker(&self) -> Worker {
        let data = match (self.form, self.dataset.dtype()) {
            (Form::Tokens { .. }, _) => Data::Tokens(Vec::new()),
            (_, Dtype::U8) => Data::U8(Vec::new()),
            _ => Data::F32(Vec::new()),
        };
        let sample = Sample { form: self.form, data, steps: 1 };
        Worker {
            other: sample.clone(),
            sample,
            own: self.clone(),
            scratch: Scratch::default(),
            other_scratch: Scratch::default(),
            bytes: Vec::new(),
        }
    }
}

impl Changes for Augmenter {
    fn change(&self) -> Box<dyn Change> {
        Box::new(self.worker())
    }
}

/// What the samples of a dataset are.
fn form_of(dataset: &Dataset) -> Result<Form> {
    let (info, dtype) = (dataset.info(), dataset.dtype());
    let form = Form::of(&info.elements, dtype == Dtype::U8, info.scale);
    let is_known = match form {
        Form::Tokens { .. } => matches!(dtype, Dtype::U8 | Dtype::U16 | Dtype::U32),
        _ => matches!(dtype, Dtype::U8 | Dtype::F32),
    };
    if !is_known {
        return Err(Error::input(format!("the elements are {}; augmentation works on u8 and f32", dtype_name(dtype)))
            .hint("`dlopt prepare` stores one of them"));
    }
    if info.learns == Learns::NextToken {
        return Err(Error::input("the next token is learned, and augmentation would change what is right")
            .hint("augment texts that have classes or answers"));
    }
    Ok(form)
}

/// Changes samples, one after the other.
pub struct Worker {
    own: Augmenter,
    sample: Sample,
    other: Sample,
    scratch: Scratch,
    other_scratch: Scratch,
    bytes: Vec<u8>,
}

impl Worker {
    /// Changes the stored bytes of a sample of which `steps` count, as copy or epoch `round`.
    ///
    /// # Errors
    /// When a sample to be mixed in cannot be read.
    pub fn augment(&mut self, round: u64, number: usize, bytes: &mut [u8], steps: usize) -> Result<Changed> {
        let Self { own, sample, other, scratch, other_scratch, bytes: room } = self;
        let dtype = own.dataset.dtype();
        load(bytes, dtype, sample);
        sample.steps = steps;
        let key = |sample: usize| Key { seed: own.seed, round, sample: sample as u64 };
        let (mut mixed, mut failed) = (None, None);
        own.recipe.apply_mixing(sample, key(number), scratch, &mut |mixing, sample, mut draws: Draws, scratch| {
            let partner = own.split.start + draws.below(own.split.len());
            if let Err(e) = own.dataset.stored(partner..partner + 1, room) {
                failed = Some(e);
                return;
            }
            load(room, dtype, other);
            other.steps = own.dataset.lengths().map_or(other.steps, |all| all[partner] as usize);
            own.recipe.apply(other, key(partner), other_scratch);
            mixed = Some((partner, mixing.mix(sample, other, &mut draws, scratch)));
        });
        if let Some(e) = failed {
            return Err(e);
        }
        sample.steps = sample.steps.max(1);
        store(sample, dtype, bytes);
        Ok(Changed { steps: sample.steps, mixed })
    }

    /// The same, and what was drawn, in words.
    ///
    /// # Errors
    /// As [`Worker::augment`].
    pub fn augment_telling(&mut self, round: u64, number: usize, bytes: &mut [u8], steps: usize) -> Result<String> {
        self.scratch.notes = Some(String::new());
        let done = self.augment(round, number, bytes, steps);
        let notes = self.scratch.notes.take().unwrap_or_default();
        done.map(|_| notes)
    }
}

impl Change for Worker {
    fn mixes(&self) -> bool {
        self.own.recipe.mixes()
    }

    fn change(&mut self, sample: usize, bytes: &mut [u8], steps: usize) -> Result<Changed> {
        self.augment(self.own.round, sample, bytes, steps)
    }
}

fn load(bytes: &[u8], dtype: Dtype, sample: &mut Sample) {
    match &mut sample.data {
        Data::U8(values) => {
            values.clear();
            values.extend_from_slice(bytes);
        }
        Data::F32(values) => {
            values.clear();
            values.extend(bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)));
        }
        Data::Tokens(tokens) => {
            tokens.clear();
            match dtype {
                Dtype::U8 => tokens.extend(bytes.iter().map(|&x| u32::from(x))),
                Dtype::U16 => tokens.extend(bytes.as_chunks().0.iter().map(|&x| u32::from(u16::from_le_bytes(x)))),
                _ => tokens.extend(bytes.as_chunks().0.iter().map(|&x| u32::from_le_bytes(x))),
            }
        }
    }
}

/// Puts a sample back, with zeros behind the steps that count.
fn store(sample: &Sample, dtype: Dtype, bytes: &mut [u8]) {
    match &sample.data {
        Data::U8(values) => bytes.copy_from_slice(values),
        Data::F32(values) => {
            for (out, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *out = value.to_le_bytes();
            }
        }
        Data::Tokens(tokens) => match dtype {
            Dtype::U8 => bytes.iter_mut().zip(tokens).for_each(|(out, &token)| *out = token as u8),
            Dtype::U16 => {
                let out = bytes.as_chunks_mut().0.iter_mut();
                out.zip(tokens).for_each(|(out, &token)| *out = (token as u16).to_le_bytes());
            }
            _ => {
                let out = bytes.as_chunks_mut().0.iter_mut();
                out.zip(tokens).for_each(|(out, &token)| *out = token.to_le_bytes());
            }
        },
    }
    let (Form::Series { time, .. } | Form::Tokens { time, .. }) = sample.form else { return };
    let step = bytes.len() / time.max(1);
    bytes[sample.steps.min(time) * step..].fill(0);
}
