//! The operations at work on the samples of a dataset: bytes in, bytes out.
//!
//! A sample that is mixed into another is any of the split, all alike, changed in the same round by what stands before the
//! mixing.

use std::ops::Range;
use std::sync::Arc;

use dlopt_checkpoint::{Dtype, Error, Result, dtype_name};
use dlopt_data::{Change, Changed, Changes, Dataset, Learns};

use crate::draws::Key;
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
        Self::over(recipe, dataset, dataset.split(split)?, seed)
    }

    /// The recipe for these samples.
    ///
    /// # Errors
    /// As [`Augmenter::new`].
    pub fn over(recipe: Recipe, dataset: &Arc<Dataset>, samples: Range<usize>, seed: u64) -> Result<Self> {
        let form = form_of(dataset).map_err(|e| e.within(dataset.name()))?;
        recipe.check(&form).map_err(|e| e.within(dataset.name()))?;
        if recipe.mixes() && (dataset.labels().is_empty() || dataset.info().learns != Learns::Sample) {
            return Err(Error::usage(format!(
                "{}: the recipe mixes samples and their labels, and there are no classes",
                dataset.name()
            ))
            .hint("leave mixup and cutmix out"));
        }
        Ok(Self { recipe: Arc::new(recipe), dataset: Arc::clone(dataset), split: samples, form, seed, round: 0 })
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
pub(crate) fn form_of(dataset: &Dataset) -> Result<Form> {
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
        own.recipe.apply_mixing(sample, key(number), scratch, &mut |mix, sample, scratch| {
            let mut draws = mix.draws;
            let partner = own.split.start + draws.below(own.split.len());
            if let Err(e) = own.dataset.stored(partner..partner + 1, room) {
                failed = Some(e);
                return;
            }
            load(room, dtype, other);
            other.steps =
                own.dataset.lengths().map_or(own.dataset.info().elements.steps(), |all| all[partner] as usize);
            own.recipe.apply_before(other, key(partner), other_scratch, mix.place);
            mixed = Some((partner, mix.mixing.mix(sample, other, &mut draws, scratch)));
            let class = own.dataset.labels().get(partner).and_then(|&label| own.dataset.classes().get(label as usize));
            scratch.note(|| format!("with {}", class.map_or("another", String::as_str)));
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

#[cfg(test)]
mod tests {
    use dlopt_data::{Batch, DatasetInfo, Elements, Parts};

    use super::*;

    /// Series of one number, 100 and the number of the sample, in three classes; the last ten are to test on.
    fn dataset() -> Arc<Dataset> {
        let mut info = DatasetInfo::plain(Elements::Series { time: 1, features: 1 });
        info.classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        info.splits = [("train".to_owned(), [0, 60]), ("test".to_owned(), [60, 70])].into();
        let inputs = (0..70).flat_map(|sample| (100.0 + sample as f32).to_le_bytes()).collect();
        let labels = (0..70).map(|sample| sample % 3).collect();
        let parts =
            Parts { name: "series".to_owned(), info, dtype: Dtype::F32, inputs, labels, targets: None, lengths: None };
        Arc::new(Dataset::from_parts(parts).unwrap())
    }

    fn batch(ops: &[&str], indices: &[usize]) -> Batch {
        let dataset = dataset();
        let augmenter = Augmenter::new(Recipe::of_ops(ops).unwrap(), &dataset, "train", 7).unwrap();
        let mut batch = Batch::default();
        dataset.gather_changed(indices, &mut batch, &mut *augmenter.change()).unwrap();
        batch
    }

    #[test]
    fn labels_become_shares_of_the_classes_that_were_mixed() {
        let indices: Vec<usize> = (0..60).collect();
        let own = batch(&["mixup=1"], &indices);
        assert_eq!((own.labels.len(), own.targets.len()), (60, 180));
        let mut mixed = 0;
        for (sample, shares) in own.targets.chunks(3).enumerate() {
            assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{shares:?}");
            let kept = shares[sample % 3];
            let Some(other) = (0..3).find(|class| *class != sample % 3 && shares[*class] > 0.0) else { continue };
            // Of all samples of that class, one makes this mixture.
            let value = |other: usize| kept * (100.0 + sample as f32) + (1.0 - kept) * (100.0 + other as f32);
            let found = (0..60).any(|at| at % 3 == other && (value(at) - own.inputs[sample]).abs() < 1e-3);
            assert!(found, "{sample}: {shares:?} and {}", own.inputs[sample]);
            mixed += 1;
        }
        assert!(mixed > 25, "{mixed}");
        // In any order, and beside any others.
        let indices: Vec<usize> = (0..20).rev().collect();
        let again = batch(&["mixup=1"], &indices);
        assert!((0..20).all(|at| again.targets[(19 - at) * 3..][..3] == own.targets[at * 3..][..3]));
    }

    #[test]
    fn what_stands_before_the_mixing_is_done_to_both_and_what_stands_behind_to_the_mixture() {
        let indices: Vec<usize> = (0..60).collect();
        // 6.0206 dB are a factor of two.
        for (ops, plain) in
            [(["gain=6.0206", "mixup=1"], ["gain=0", "mixup=1"]), (["mixup=1", "gain=6.0206"], ["mixup=1", "gain=0"])]
        {
            let (own, plain) = (batch(&ops, &indices), batch(&plain, &indices));
            assert!(
                own.inputs.iter().zip(&plain.inputs).all(|(own, plain)| (own - 2.0 * plain).abs() < 0.01),
                "{ops:?}"
            );
            assert_eq!(own.targets, plain.targets);
        }
    }

    #[test]
    fn samples_without_a_partner_keep_their_class() {
        let own = batch(&["mixup=1,p=0"], &[3, 4]);
        assert_eq!(own.targets, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(own.inputs, [103.0, 104.0]);
    }
}
