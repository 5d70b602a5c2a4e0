//! What a cache is of: another teacher, other data or other views, and it does not belong.

use std::ops::Range;

use dlopt_checkpoint::{Error, Result, TensorInfo};
use dlopt_data::Dataset;
use dlopt_train::Settings;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::teacher::{Identity, Teacher};

/// Key of the facts in a cache's metadata.
pub(crate) const KEY: &str = "dlopt.teacher";

/// The schema that this version writes and reads.
const SCHEMA: u32 = 1;

/// How answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keeping {
    /// Whether values have 16 bits, or 32.
    pub is_half: bool,
    /// Only so many of the largest logits of each row, and the mass of the others.
    pub top: Option<Top>,
}

/// The largest logits of a row, and the mass of the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Top {
    /// How many.
    pub count: usize,
    /// The temperature at which the mass of the others is exact.
    pub temperature: f64,
}

/// What a cache is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    schema: u32,
    /// The teachers.
    pub teachers: Vec<Identity>,
    /// Digest of the data: what they were made from, labels, lengths.
    pub data: String,
    /// What is applied to the raw elements.
    pub preprocessing: Value,
    /// The samples, `[begin, end)` each.
    pub samples: Vec<[usize; 2]>,
    /// How often every sample is there, changed anew each time; 1.
    pub views: u64,
    /// What changes samples, if something does.
    pub augment: Option<Value>,
    /// What the changes are drawn from.
    pub augment_seed: Option<u64>,
    /// Values of an answer: outputs, or outputs of all steps.
    pub outputs: usize,
    /// Of them, those of one row: classes.
    pub width: usize,
    /// The layers, each with its height, width and channels.
    pub layers: Vec<(String, [usize; 3])>,
    /// How answers are kept.
    pub keeping: Keeping,
}

impl Facts {
    /// What a cache of a teacher's answers would be.
    pub fn new(
        teacher: &Teacher,
        dataset: &Dataset,
        samples: &[Range<usize>],
        settings: &Settings,
        keeping: Keeping,
    ) -> Self {
        let width = dataset.outputs();
        let is_changed = settings.augment.is_some();
        let views = settings.augment_views.unwrap_or(settings.epochs as u64);
        Self {
            schema: SCHEMA,
            teachers: teacher.identities(),
            data: digest(dataset),
            preprocessing: serde_json::to_value(dataset.preprocessing()).unwrap_or_default(),
            samples: samples.iter().map(|range| [range.start, range.end]).collect(),
            views: if is_changed { views.max(1) } else { 1 },
            augment: settings.augment.clone(),
            augment_seed: is_changed.then(|| settings.augment_seed.unwrap_or(settings.seed)),
            outputs: width * dataset.sequence_steps().max(1),
            width,
            layers: teacher
                .taps()
                .iter()
                .map(|tap| {
                    let (places, channels) = crate::distillation::extents(&tap.shape);
                    (tap.name.clone(), [places[0], places[1], channels])
                })
                .collect(),
            keeping,
        }
    }

    /// Reads the facts of a cache.
    pub(crate) fn read(text: Option<&String>) -> Result<Self> {
        let text = text.ok_or_else(|| {
            Error::input("holds no answers of a teacher")
                .hint("`dlopt logits` writes them, or --cache-teacher a new file")
        })?;
        let facts: Self =
            serde_json::from_str(text).map_err(|e| Error::input(format!("its facts cannot be read: {e}")))?;
        let is_order = facts.samples.iter().all(|[begin, end]| begin <= end);
        if facts.schema == SCHEMA && is_order && facts.views.checked_mul(facts.samples_per_view() as u64).is_some() {
            return Ok(facts);
        }
        Err(Error::input(format!("its facts are of schema {} or damaged; this dlopt reads {SCHEMA}", facts.schema))
            .hint("make the cache again"))
    }

    /// The facts as a cache of them is read.
    fn read_back(&self) -> Result<Self> {
        Self::read(Some(&self.text()))
    }

    /// The facts as they stand in a cache.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialise")
    }

    /// Refuses a cache that is not of what is wanted; more layers and more views than are wanted are no harm.
    pub(crate) fn check(&self, wanted: &Self) -> Result<()> {
        // Fractions may come back from their text a little different, so both are to have gone that way.
        let wanted = &wanted.read_back()?;
        let mut differ = Vec::new();
        let mut compare = |what: &str, is_same: bool| {
            if !is_same {
                differ.push(what.to_owned());
            }
        };
        compare("another teacher", self.teachers == wanted.teachers);
        compare("other data", self.data == wanted.data);
        compare("data prepared differently", self.preprocessing == wanted.preprocessing);
        compare("other samples", self.samples == wanted.samples);
        compare("another augmentation", self.augment == wanted.augment);
        compare("another seed of the augmentation", self.augment_seed == wanted.augment_seed);
        compare("fewer views", self.views >= wanted.views);
        compare("answers of another size", (self.outputs, self.width) == (wanted.outputs, wanted.width));
        compare("other layers", wanted.layers.iter().all(|layer| self.layers.contains(layer)));
        if differ.is_empty() {
            return Ok(());
        }
        Err(Error::input(format!("the cache does not belong: it has {}", differ.join(", ")))
            .hint("name another file for --cache-teacher, or remove this one"))
    }

    /// Rows of the cache: views times samples.
    pub fn rows(&self) -> usize {
        self.views as usize * self.samples_per_view()
    }

    /// Bytes of its tensors.
    pub fn bytes(&self) -> u64 {
        super::make::header(self, "", self.rows()).data_bytes()
    }

    /// Its tensors, in the order of the file.
    pub fn tensors(&self) -> Vec<TensorInfo> {
        super::make::header(self, "", self.rows()).tensors
    }

    /// Samples of one view.
    pub fn samples_per_view(&self) -> usize {
        self.samples.iter().map(|[begin, end]| end - begin).fold(0, usize::saturating_add)
    }

    /// The row of a sample in a view.
    pub(crate) fn row(&self, view: u64, sample: usize) -> Option<usize> {
        let mut before = 0;
        for &[begin, end] in &self.samples {
            if (begin..end).contains(&sample) {
                let view = usize::try_from(view).ok()?;
                return (view < self.views as usize).then(|| view * self.samples_per_view() + before + sample - begin);
            }
            before += end - begin;
        }
        None
    }
}

/// SHA-256 of what the data are: their facts, labels, targets and lengths, and some of their inputs.
fn digest(dataset: &Dataset) -> String {
    let mut digest = Sha256::new();
    digest.update(serde_json::to_string(dataset.info()).unwrap_or_default());
    digest.update((dataset.samples() as u64).to_le_bytes());
    dataset.labels().iter().for_each(|label| digest.update(label.to_le_bytes()));
    dataset.targets().unwrap_or_default().iter().for_each(|target| digest.update(target.to_le_bytes()));
    dataset.lengths().unwrap_or_default().iter().for_each(|length| digest.update(length.to_le_bytes()));
    for sample in 0..dataset.samples() {
        for token in dataset.answers(sample).into_iter().flatten() {
            digest.update(token.to_le_bytes());
        }
    }
    // All of the inputs may be more than memory; equal sources and options made equal inputs.
    let mut bytes = Vec::new();
    let last = dataset.samples().saturating_sub(1);
    for sample in [0, last / 2, last] {
        if dataset.samples() > 0 && dataset.stored(sample..sample + 1, &mut bytes).is_ok() {
            digest.update(&bytes);
        }
    }
    dlopt_checkpoint::hex(&digest.finalize())
}
