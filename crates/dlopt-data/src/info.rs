//! `dlopt.dataset`: what a dataset says about itself, and what was done to the raw elements.

use std::collections::BTreeMap;
use std::fmt::Write;

use dlopt_checkpoint::{Dtype, Error, Result, dtype_name};
use serde::{Deserialize, Serialize};

use crate::pipeline::StepSpec;

/// The metadata key.
pub const DATASET_KEY: &str = "dlopt.dataset";

/// The schema that this version writes and reads.
const SCHEMA: u32 = 1;

/// Most statistics that are written out in a message.
const SHOWN_STATISTICS: usize = 4;

/// What the elements of one sample mean; extents outermost first, as they lie in `inputs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Elements {
    /// A picture, `[height, width, channels]`.
    Image {
        /// Rows of pixels.
        height: usize,
        /// Pixels in a row.
        width: usize,
        /// Numbers of a pixel.
        channels: usize,
    },
    /// A series, `[time, features]`, padded with zeros at the end when `lengths` says so.
    Series {
        /// Steps of the longest series.
        time: usize,
        /// Numbers of a step.
        features: usize,
    },
    /// A row of a table, `[features]`.
    Vector {
        /// Numbers of a row.
        features: usize,
        /// What the columns are called; empty when the raw data did not say.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<String>,
    },
    /// Token numbers, `[time]`.
    Tokens {
        /// Tokens of the longest sample.
        time: usize,
        /// Tokens are below this.
        vocabulary: usize,
    },
}

impl Elements {
    /// Extents of one sample.
    pub fn shape(&self) -> Vec<usize> {
        match *self {
            Self::Image { height, width, channels } => vec![height, width, channels],
            Self::Series { time, features } => vec![time, features],
            Self::Vector { features, .. } => vec![features],
            Self::Tokens { time, .. } => vec![time],
        }
    }

    /// Numbers in one sample.
    pub fn elements(&self) -> usize {
        self.shape().iter().fold(1, |product: usize, &extent| product.saturating_mul(extent))
    }

    /// The innermost extent that statistics are taken over: channels of a picture, features of a series or row.
    pub fn channels(&self) -> usize {
        match *self {
            Self::Image { channels, .. } => channels,
            Self::Series { features, .. } | Self::Vector { features, .. } => features,
            Self::Tokens { .. } => 1,
        }
    }

    /// Steps of the longest sample; 1 for what has no time.
    pub fn steps(&self) -> usize {
        match *self {
            Self::Series { time, .. } | Self::Tokens { time, .. } => time,
            Self::Image { .. } | Self::Vector { .. } => 1,
        }
    }

    /// Numbers of one step, for what is cut by `lengths`.
    pub(crate) fn step(&self) -> usize {
        match *self {
            Self::Series { features, .. } => features,
            _ => 1,
        }
    }

    /// What a channel or feature is called in a message.
    pub fn channel_name(&self, channel: usize) -> String {
        match self {
            Self::Image { .. } => format!("channel {channel}"),
            Self::Vector { names, .. } => match names.get(channel) {
                Some(name) => format!("feature `{name}`"),
                None => format!("feature {channel}"),
            },
            _ => format!("feature {channel}"),
        }
    }

    /// In words, such as `pictures of 28x28x1`.
    pub fn in_words(&self) -> String {
        match self {
            Self::Image { height, width, channels } => format!("pictures of {height}x{width}x{channels}"),
            Self::Series { time, features } => format!("series of up to {time} steps with {features} features"),
            Self::Vector { features, .. } => format!("rows of {features} features"),
            Self::Tokens { time, vocabulary } => format!("up to {time} tokens of {vocabulary}"),
        }
    }
}

/// What raw samples are, before any step: what a prediction takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RawInput {
    /// Picture files of any size.
    Image,
    /// Sound files.
    Sound,
    /// Texts.
    Text,
    /// Series, `[time, features]`.
    Series {
        /// Numbers of a step.
        features: usize,
    },
    /// Rows of a table.
    Row {
        /// What the columns are called, or their numbers.
        columns: Vec<String>,
    },
    /// Arrays that are pictures already, `[height, width, channels]`.
    Pixels {
        /// Rows of pixels.
        height: usize,
        /// Pixels in a row.
        width: usize,
        /// Numbers of a pixel.
        channels: usize,
    },
}

impl RawInput {
    /// What elements of a fixed shape are.
    pub(crate) fn of(elements: &Elements) -> Self {
        match elements {
            &Elements::Image { height, width, channels } => Self::Pixels { height, width, channels },
            &Elements::Series { features, .. } => Self::Series { features },
            Elements::Vector { features, names } => Self::Row {
                columns: match names.is_empty() {
                    true => (0..*features).map(|column| column.to_string()).collect(),
                    false => names.clone(),
                },
            },
            Elements::Tokens { .. } => Self::Text,
        }
    }
}

/// What a network learns to put out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Learns {
    /// The class, or the numbers, of a sample.
    #[default]
    Sample,
    /// At each token of a sample the one that follows it. `inputs` holds one token more than a sample has.
    NextToken,
    /// A sequence of other tokens (`sequences` `[samples, time]`, `sequence_lengths` `[samples]`): a translation, a
    /// pronunciation. Each ends with the token `end`; a decoder begins with `start`.
    Sequence {
        /// Tokens of the longest sequence, its end included.
        time: usize,
        /// Tokens are below this.
        vocabulary: usize,
        /// The token before the first.
        start: u32,
        /// The token after the last.
        end: u32,
    },
}

/// Which statistics of the training split are taken off and divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standardise {
    /// None.
    #[default]
    None,
    /// Mean and deviation of each channel of a picture, over all its pixels.
    Channel,
    /// Mean and deviation of each feature: a column of rows, a feature of series over all steps, a pixel of pictures.
    Feature,
    /// Smallest value and range of each channel or feature: training values come to lie in 0..=1.
    MinMax,
    /// Median and the range between the quartiles of each channel or feature, which outliers hardly move. Of at most
    /// 65,536 values each, taken evenly from the training split.
    Robust,
    /// Numbers that somebody gave.
    Given,
}

impl Standardise {
    /// As the command line writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Channel => "channel",
            Self::Feature => "feature",
            Self::MinMax => "min-max",
            Self::Robust => "robust",
            Self::Given => "given",
        }
    }
}

/// A file that a dataset was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its name, without folders.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes as they lie on disk, in lower-case hexadecimal.
    pub sha256: String,
}

/// What a dataset says about itself.
///
/// An element `x` of the file becomes `(scale * x - mean[j]) / deviation[j]` in a batch, where `j` is the position of
/// `x` in its sample modulo the number of statistics: one number for all, one a channel or feature, or one an element.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetInfo {
    /// Version of this description.
    pub schema: u32,
    /// What the elements mean.
    pub elements: Elements,
    /// What the classes are called, by number; empty when there are `targets`.
    pub classes: Vec<String>,
    /// What the columns of `targets` are called; empty when there are classes, or when nobody said.
    pub outputs: Vec<String>,
    /// The splits: first sample, and the one after the last. Samples are stored ordered by split.
    pub splits: BTreeMap<String, [usize; 2]>,
    /// Factor on the raw elements.
    pub scale: f32,
    /// Which statistics `mean` and `deviation` are.
    pub standardise: Standardise,
    /// Taken off after scaling; empty for nothing.
    pub mean: Vec<f32>,
    /// Divided by after `mean` was taken off; as many as `mean`.
    pub deviation: Vec<f32>,
    /// The files it was made from.
    pub sources: Vec<SourceFile>,
    /// The options it was prepared with, resolved.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// What the raw samples were; `None` when nobody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawInput>,
    /// What was done to each sample, step by step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepSpec>,
    /// What was done to each sequence that is learned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sequence_steps: Vec<StepSpec>,
    /// What is learned.
    pub learns: Learns,
}

/// The description as a file may hold it: what is not said follows from the tensors.
#[derive(Deserialize)]
struct Stored {
    schema: u32,
    elements: Option<Elements>,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default)]
    outputs: Vec<String>,
    #[serde(default)]
    splits: BTreeMap<String, [usize; 2]>,
    scale: Option<f32>,
    #[serde(default)]
    standardise: Standardise,
    #[serde(default)]
    mean: Vec<f32>,
    #[serde(default)]
    deviation: Vec<f32>,
    #[serde(default)]
    sources: Vec<SourceFile>,
    #[serde(default)]
    options: serde_json::Map<String, serde_json::Value>,
    raw: Option<RawInput>,
    #[serde(default)]
    steps: Vec<StepSpec>,
    #[serde(default)]
    sequence_steps: Vec<StepSpec>,
    #[serde(default)]
    learns: Learns,
}

impl DatasetInfo {
    /// A description of elements that are used as they are: no classes, no splits, scale 1.
    pub fn plain(elements: Elements) -> Self {
        Self {
            schema: SCHEMA,
            elements,
            classes: Vec::new(),
            outputs: Vec::new(),
            splits: BTreeMap::new(),
            scale: 1.0,
            standardise: Standardise::None,
            mean: Vec::new(),
            deviation: Vec::new(),
            sources: Vec::new(),
            options: serde_json::Map::new(),
            raw: None,
            steps: Vec::new(),
            sequence_steps: Vec::new(),
            learns: Learns::Sample,
        }
    }

    /// What a file says, completed by what its `inputs` of this dtype and shape suggest.
    pub(crate) fn resolve(text: Option<&str>, dtype: Dtype, shape: &[usize]) -> Result<Self> {
        let stored = match text {
            None => None,
            Some(text) => {
                let stored: Stored = serde_json::from_str(text)
                    .map_err(|e| Error::input(format!("metadata `{DATASET_KEY}` is unreadable: {e}")))?;
                if stored.schema != SCHEMA {
                    return Err(Error::input(format!(
                        "metadata `{DATASET_KEY}` has schema {}, this dlopt reads {SCHEMA}",
                        stored.schema
                    ))
                    .hint("use the version of dlopt that wrote it, or prepare the data again"));
                }
                Some(stored)
            }
        };
        let Some(stored) = stored else {
            let mut info = Self::plain(suggested(dtype, shape)?);
            info.scale = default_scale(&info.elements, dtype);
            return Ok(info);
        };
        let elements = match stored.elements {
            Some(elements) => elements,
            None => suggested(dtype, shape)?,
        };
        Ok(Self {
            schema: SCHEMA,
            scale: stored.scale.unwrap_or_else(|| default_scale(&elements, dtype)),
            elements,
            classes: stored.classes,
            outputs: stored.outputs,
            splits: stored.splits,
            standardise: stored.standardise,
            mean: stored.mean,
            deviation: stored.deviation,
            sources: stored.sources,
            options: stored.options,
            raw: stored.raw,
            steps: stored.steps,
            sequence_steps: stored.sequence_steps,
            learns: stored.learns,
        })
    }

    /// Checks the description against the tensors: `shape` of `inputs`, samples first.
    pub(crate) fn check(&self, shape: &[usize]) -> Result<()> {
        let said = |what: String| Error::input(format!("metadata `{DATASET_KEY}`: {what}"));
        let samples = shape.first().copied().unwrap_or(0);
        let found: usize = shape.iter().skip(1).product();
        if found != self.stored_elements() {
            return Err(said(format!(
                "samples are {} ({} numbers), but `inputs` has shape {shape:?}, {found} numbers a sample",
                self.elements.in_words(),
                self.stored_elements()
            )));
        }
        for (name, &[begin, end]) in &self.splits {
            if begin > end || end > samples {
                return Err(said(format!("split `{name}` is samples {begin}..{end}, but there are {samples}")));
            }
        }
        check_statistics(&self.elements, self.scale, &self.mean, &self.deviation).map_err(|e| said(e.message().into()))
    }

    /// Numbers that are stored for one sample: one token more where the next one is learned.
    pub(crate) fn stored_elements(&self) -> usize {
        self.elements.elements() + usize::from(self.learns == Learns::NextToken)
    }

    /// What is applied to the raw elements of this dtype.
    pub fn preprocessing(&self, dtype: Dtype) -> Preprocessing {
        Preprocessing {
            elements: self.elements.clone(),
            dtype: dtype_name(dtype).to_owned(),
            scale: self.scale,
            standardise: self.standardise,
            mean: self.mean.clone(),
            deviation: self.deviation.clone(),
            raw: self.raw.clone(),
            steps: self.steps.clone(),
            sequence_steps: self.sequence_steps.clone(),
            learns: self.learns.clone(),
        }
    }

    /// The names of the splits, in the order of their samples.
    pub fn split_names(&self) -> Vec<&str> {
        let mut splits: Vec<_> = self.splits.iter().map(|(name, range)| (range, name.as_str())).collect();
        splits.sort_unstable();
        splits.into_iter().map(|(_, name)| name).collect()
    }
}

/// What `inputs` of this dtype and shape (samples first) probably are.
fn suggested(dtype: Dtype, shape: &[usize]) -> Result<Elements> {
    Ok(match (dtype, shape) {
        (_, [_]) => Elements::Vector { features: 1, names: Vec::new() },
        (_, &[_, features]) => Elements::Vector { features, names: Vec::new() },
        (Dtype::U8, &[_, height, width]) => Elements::Image { height, width, channels: 1 },
        (_, &[_, time, features]) => Elements::Series { time, features },
        (_, &[_, height, width, channels]) => Elements::Image { height, width, channels },
        _ => {
            return Err(Error::input(format!(
                "`inputs` has shape {shape:?}; wanted [samples, features], [samples, time, features], \
                 [samples, height, width] of U8, or [samples, height, width, channels]"
            )));
        }
    })
}

/// Bytes of pictures run from 0 to 255; all else is taken as it is.
pub(crate) fn default_scale(elements: &Elements, dtype: Dtype) -> f32 {
    match (elements, dtype) {
        (Elements::Image { .. }, Dtype::U8) => 1.0 / 255.0,
        _ => 1.0,
    }
}

fn check_statistics(elements: &Elements, scale: f32, mean: &[f32], deviation: &[f32]) -> Result<()> {
    if !scale.is_finite() || scale == 0.0 {
        return Err(Error::input(format!("the scale is {scale}")));
    }
    if mean.len() != deviation.len() {
        return Err(Error::input(format!("{} means and {} deviations", mean.len(), deviation.len())));
    }
    if !mean.is_empty() && !elements.elements().is_multiple_of(mean.len()) {
        return Err(Error::input(format!(
            "{} means do not repeat evenly over the {} numbers of a sample",
            mean.len(),
            elements.elements()
        )));
    }
    for (j, (m, d)) in mean.iter().zip(deviation).enumerate() {
        if !m.is_finite() || !d.is_finite() || *d == 0.0 {
            return Err(Error::input(format!(
                "mean {m} and deviation {d} at {j}; wanted numbers, and none to divide by 0"
            )));
        }
    }
    Ok(())
}

/// What is applied to the raw elements before a network sees them. A checkpoint keeps the one it was trained with.
///
/// An element `x` becomes `(scale * x - mean[j]) / deviation[j]`, `j` as in [`DatasetInfo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// What the elements mean.
    pub elements: Elements,
    /// Element type of `inputs`, such as `U8`.
    pub dtype: String,
    /// Factor on the raw elements.
    pub scale: f32,
    /// Which statistics `mean` and `deviation` are.
    #[serde(default)]
    pub standardise: Standardise,
    /// Taken off after scaling; empty for nothing.
    #[serde(default)]
    pub mean: Vec<f32>,
    /// Divided by after `mean` was taken off; as many as `mean`.
    #[serde(default)]
    pub deviation: Vec<f32>,
    /// What the raw samples were; `None` when nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawInput>,
    /// What was done to each sample, step by step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepSpec>,
    /// What was done to each sequence that is learned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequence_steps: Vec<StepSpec>,
    /// What is learned.
    #[serde(default, skip_serializing_if = "is_sample")]
    pub learns: Learns,
}

fn is_sample(learns: &Learns) -> bool {
    *learns == Learns::Sample
}

impl Preprocessing {
    /// Reads what a checkpoint's config keeps.
    ///
    /// # Errors
    /// When it is something else.
    pub fn of(config: &serde_json::Value) -> Result<Self> {
        serde_json::from_value(config.clone())
            .map_err(|e| Error::input(format!("its config's `preprocessing` cannot be read: {e}")))
    }

    /// How `other` differs, in words; `None` when both do the same. `self` is called `own`, `other` is called `others`,
    /// such as `the checkpoint` and `the data`.
    pub fn difference(&self, other: &Self, own: &str, others: &str) -> Option<String> {
        let mut parts = Vec::new();
        let mut differ = |what: &str, a: String, b: String| {
            if a != b {
                parts.push(format!("{what}{a} in {own}, {b} in {others}"));
            }
        };
        differ("", self.elements.in_words(), other.elements.in_words());
        differ("element type ", self.dtype.clone(), other.dtype.clone());
        let steps = |steps: &[StepSpec]| match steps {
            [] => "none".to_owned(),
            all => all.iter().map(|step| step.step.as_str()).collect::<Vec<_>>().join(", "),
        };
        differ("steps: ", steps(&self.steps), steps(&other.steps));
        differ("steps of sequences: ", steps(&self.sequence_steps), steps(&other.sequence_steps));
        differ("scale ", self.scale.to_string(), other.scale.to_string());
        differ("standardised by ", self.standardise.name().to_owned(), other.standardise.name().to_owned());
        for (what, a, b) in [("mean ", &self.mean, &other.mean), ("deviation ", &self.deviation, &other.deviation)] {
            if a != b {
                differ(what, statistics(a), statistics(b));
            }
        }
        if parts.is_empty() {
            if self.steps != other.steps || self.sequence_steps != other.sequence_steps {
                return Some(format!("the options of the steps differ between {own} and {others}"));
            }
            // The columns are called differently, or the statistics agree as far as they are shown.
            let alike = Self { raw: self.raw.clone(), ..other.clone() };
            return (*self != alike).then(|| match (&self.elements, &other.elements) {
                (Elements::Vector { names: a, .. }, Elements::Vector { names: b, .. }) if a != b => {
                    let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
                    let name =
                        |names: &[String]| names.get(at).map_or("without a name".to_owned(), |n| format!("`{n}`"));
                    format!("feature {at} is {} in {own}, {} in {others}", name(a), name(b))
                }
                _ => format!("statistics of {own} and {others} differ after the first {SHOWN_STATISTICS}"),
            });
        }
        Some(parts.join("; "))
    }

    /// Whether this can be applied to raw elements of the other, whatever its statistics: same meaning, same type.
    pub fn fits(&self, other: &Self) -> bool {
        self.elements == other.elements && self.dtype == other.dtype
    }

    /// Checks that the numbers can be used.
    ///
    /// # Errors
    /// When scale or statistics are no numbers, do not repeat over a sample, or would divide by zero.
    pub fn check(&self) -> Result<()> {
        check_statistics(&self.elements, self.scale, &self.mean, &self.deviation)
    }
}

fn statistics(values: &[f32]) -> String {
    let mut text = String::from("[");
    for (j, value) in values.iter().take(SHOWN_STATISTICS).enumerate() {
        let _ = write!(text, "{}{value}", if j == 0 { "" } else { ", " });
    }
    match values.len().checked_sub(SHOWN_STATISTICS) {
        None | Some(0) => text.push(']'),
        Some(more) => {
            let _ = write!(text, ", and {more} more]");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> DatasetInfo {
        let mut info = DatasetInfo::plain(Elements::Image { height: 5, width: 3, channels: 2 });
        info.splits.insert("train".to_owned(), [0, 7]);
        info.splits.insert("test".to_owned(), [7, 9]);
        info.scale = 1.0 / 255.0;
        info.mean = vec![0.2860, 0.1];
        info.deviation = vec![0.3530, 0.2];
        info.standardise = Standardise::Channel;
        info
    }

    #[test]
    fn a_description_survives_its_text() {
        let info = info();
        let text = serde_json::to_string(&info).unwrap();
        assert_eq!(DatasetInfo::resolve(Some(&text), Dtype::U8, &[9, 5, 3, 2]).unwrap(), info);
        info.check(&[9, 5, 3, 2]).unwrap();
        assert_eq!(info.split_names(), ["train", "test"]);
    }

    #[test]
    fn preprocessing_survives_its_text() {
        let own = info().preprocessing(Dtype::U8);
        let text = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<Preprocessing>(&text).unwrap(), own);
    }

    #[test]
    fn a_description_may_leave_out_what_the_tensors_say() {
        let info = DatasetInfo::resolve(Some("{\"schema\":1}"), Dtype::U8, &[4, 5, 3]).unwrap();
        assert_eq!(info.elements, Elements::Image { height: 5, width: 3, channels: 1 });
        assert_eq!(info.scale, 1.0 / 255.0);
        let series = DatasetInfo::resolve(None, Dtype::F32, &[4, 5, 3]).unwrap();
        assert_eq!(series.elements, Elements::Series { time: 5, features: 3 });
        assert_eq!(series.scale, 1.0);
    }

    #[test]
    fn another_schema_is_refused() {
        let error = DatasetInfo::resolve(Some("{\"schema\":9}"), Dtype::U8, &[4, 5]).unwrap_err();
        assert!(error.message().contains("schema 9"), "{error}");
    }

    #[test]
    fn descriptions_that_contradict_the_tensors_are_refused() {
        let message = |change: fn(&mut DatasetInfo)| {
            let mut info = info();
            change(&mut info);
            info.check(&[9, 5, 3, 2]).unwrap_err().message().to_owned()
        };
        assert!(message(|i| i.elements = Elements::Tokens { time: 29, vocabulary: 3 }).contains("29 numbers"));
        assert!(message(|i| i.splits.insert("test".into(), [7, 10]).map_or((), |_| ())).contains("7..10"));
        assert!(message(|i| i.mean = vec![0.0]).contains("1 means and 2 deviations"));
        assert!(message(|i| i.deviation[1] = 0.0).contains("deviation 0 at 1"));
        assert!(message(|i| i.scale = f32::NAN).contains("scale"));
        assert!(message(|i| (i.mean, i.deviation) = (vec![0.0; 4], vec![1.0; 4])).contains("evenly"));
    }

    #[test]
    fn differences_name_both_sides() {
        let own = info().preprocessing(Dtype::U8);
        assert_eq!(own.difference(&own, "a", "b"), None);
        let mut other = own.clone();
        other.scale = 1.0;
        other.mean = vec![];
        let said = own.difference(&other, "the checkpoint", "the data").unwrap();
        assert!(said.contains("scale 0.003921569 in the checkpoint, 1 in the data"), "{said}");
        assert!(said.contains("mean [0.286, 0.1] in the checkpoint, [] in the data"), "{said}");
        assert!(own.fits(&other));
        other.dtype = "F32".to_owned();
        assert!(!own.fits(&other));
    }
}
