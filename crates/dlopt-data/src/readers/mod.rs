//! Raw data, one file a format.
//!
//! Opening a source says all about it but its inputs: kind and number of samples, labels, lengths. The inputs then
//! stream by in chunks of whole samples, as often as asked. To add a format: a file here with a [`Format`], and its line
//! in [`FORMATS`].

#[cfg(test)]
mod any_bytes;
mod arrays;
mod cifar;
mod class_folder;
mod columns;
mod csv;
mod dictionary;
mod groups;
mod idx;
mod json_lines;
mod labels;
mod lines;
mod list;
mod media;
mod parallel;
mod pictures;
mod raw_bytes;
mod records;
mod sounds;
mod sources;
mod text_table;
mod ts;
mod windows;

use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Dtype, Error, Result};

use crate::info::Elements;
use crate::pipeline::StepSpec;
pub(crate) use crate::raw::Values;
pub(crate) use crate::spool::Item;

pub(crate) use media::Medium;
pub use pictures::read as read_picture;
pub(crate) use raw_bytes::open_bytes;
pub use sounds::read as read_sound;
pub(crate) use sources::open_sources;

/// The formats, in the order in which a file's content is tried on them.
pub(crate) const FORMATS: [&Format; 9] = [
    &idx::FORMAT,
    &arrays::FORMAT,
    &cifar::FORMAT,
    &ts::FORMAT,
    &json_lines::FORMAT,
    &dictionary::FORMAT,
    &windows::FORMAT,
    &parallel::FORMAT,
    &csv::FORMAT,
];

/// Bytes of inputs that a chunk holds, unless one sample is larger.
const CHUNK_BYTES: usize = 1 << 20;

/// Most numbers in a sample: more is a damaged header, not data.
const MOST_ELEMENTS: usize = 1 << 28;

/// Bytes from the beginning of a file (unpacked) that tell its format.
const SNIFFED_BYTES: usize = 4096;

/// A format of raw data.
pub struct Format {
    /// As `--format` names it.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Endings of file names, without `.gz`.
    pub extensions: &'static [&'static str],
    /// Whether a file that begins like this is one, when its name does not say.
    sniff: fn(&[u8]) -> bool,
    /// Puts the files together that belong together: pictures and their labels.
    group: fn(Vec<PathBuf>) -> Result<Vec<Vec<PathBuf>>>,
    /// Opens the files of one group.
    open: fn(&[PathBuf], &ReadOptions) -> Result<Vec<Source>>,
}

/// The formats that `prepare` reads.
pub fn formats() -> impl Iterator<Item = &'static Format> {
    FORMATS.into_iter()
}

/// How raw data are to be read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Name of the format; by names and contents when nobody says.
    pub format: Option<String>,
    /// Whether a table begins with the names of its columns; found out when nobody says.
    pub header: Option<bool>,
    /// What stands between the columns of a table; found out when nobody says.
    pub delimiter: Option<u8>,
    /// The column of a table that holds the class: its name, or its number from 1 on. The last when nobody says.
    pub label: Option<String>,
    /// The columns of a table that hold numbers to predict.
    pub targets: Vec<String>,
    /// The columns of a table that are left out.
    pub drop: Vec<String>,
    /// The column of a table, or the field of a record, that holds the text.
    pub text: Option<String>,
    /// The column or field that holds the text to put out: a translation.
    pub answer: Option<String>,
    /// The column or field whose samples must not be in two splits; for folders of files a regular expression, whose first
    /// brackets hold it, on names below the folder of a class.
    pub group: Option<String>,
    /// Whether quotes hold the fields of a table of texts together; not between tabs when nobody says.
    pub quotes: Option<bool>,
    /// What texts are written in, as the Encoding Standard of the WHATWG names it; UTF-8 when nobody says.
    pub encoding: Option<String>,
    /// Tokens of a window of text that a network learns to go on with.
    pub window: Option<usize>,
    /// What a token of such a window is.
    pub unit: Unit,
    /// Extents of one sample, outermost first, when the raw data do not say.
    pub shape: Vec<usize>,
    /// What the samples are, when the raw data leave it open.
    pub kind: Option<Kind>,
    /// Where compressed members of archives are unpacked.
    pub tmp_dir: PathBuf,
}

/// What samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pictures.
    Image,
    /// Series.
    Series,
    /// Rows of a table.
    Vector,
}

/// What windows of text are counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    #[default]
    Bytes,
    /// Characters.
    Chars,
    /// Words and marks of punctuation, as Unicode cuts them.
    Words,
    /// What stands between white space.
    Symbols,
}

/// A run of raw samples that is open.
pub(crate) struct Source {
    /// The split it belongs to, when its files say.
    pub(crate) split: Option<&'static str>,
    /// What it holds.
    pub(crate) about: About,
    /// Where its samples come from.
    pub(crate) samples: Samples,
}

/// Where samples come from.
pub(crate) enum Samples {
    /// One after the other, all of one shape, as [`About::fixed`] says.
    Stream(Box<dyn Inputs>),
    /// One after the other, of any size.
    Items(Box<dyn Items>),
    /// Each by itself, in any order.
    Each(Box<dyn Load>),
}

/// All about a source but its inputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// How messages name it.
    pub(crate) name: String,
    /// The files behind it.
    pub(crate) files: Vec<PathBuf>,
    /// How many samples there are.
    pub(crate) samples: usize,
    /// What is to be learned.
    pub(crate) labels: Labels,
    /// Names of the classes, when the files declare them.
    pub(crate) classes: Option<Vec<String>>,
    /// The split of every sample, when the data say.
    pub(crate) splits: Option<Vec<&'static str>>,
    /// What belongs together (a speaker, a word) and must not be in two splits, for every sample, when the data say.
    pub(crate) groups: Option<Vec<String>>,
    /// What every sample looks like, when that is known before they are read.
    pub(crate) fixed: Option<Fixed>,
    /// Steps to take when nobody asks for others: on what goes in, and on what should come out.
    pub(crate) steps: [Vec<StepSpec>; 2],
    /// Files that were passed over, when there were any: how many, and the first.
    pub(crate) passed_over: Option<(usize, PathBuf)>,
}

/// What samples look like that are all of one shape.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    /// What the elements mean.
    pub(crate) elements: Elements,
    /// `U8` when every element is a whole number from 0 to 255 that should be stored so, else `F32`.
    pub(crate) dtype: Dtype,
    /// Steps of each series, when they may differ.
    pub(crate) lengths: Option<Vec<u32>>,
    /// Numbers that pixels of the raw pictures have; `None` when they are no pictures.
    pub(crate) channels: Option<usize>,
    /// The largest element, when all of them were looked at.
    pub(crate) largest: Option<f32>,
}

#[cfg(test)]
impl Samples {
    /// What streams by.
    pub(crate) fn stream(&self) -> &dyn Inputs {
        match self {
            Self::Stream(inputs) => &**inputs,
            _ => panic!("of any size"),
        }
    }

    /// All samples.
    pub(crate) fn items(&self) -> Vec<Item> {
        let Self::Items(items) = self else { panic!("not read one after the other") };
        let mut all = Vec::new();
        items
            .read(&mut |item| {
                all.push(item);
                Ok(())
            })
            .expect("readable");
        all
    }
}

#[cfg(test)]
impl About {
    /// What every sample looks like.
    pub(crate) fn fixed(&self) -> &Fixed {
        self.fixed.as_ref().expect("samples of one shape")
    }
}

/// What is to be learned about each sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Labels {
    /// At each token the one that follows.
    #[default]
    Next,
    /// Sequences, which come with their samples.
    Sequences,
    /// Class numbers.
    Numbers(Vec<u32>),
    /// Class names.
    Names {
        /// The different names, in the order they came, and where each came first (`line 7`).
        distinct: Vec<(String, String)>,
        /// The place in `distinct` for every sample.
        of_sample: Vec<u32>,
    },
    /// Numbers to predict, `[samples, outputs]`.
    Targets {
        /// Row by row.
        values: Vec<f32>,
        /// What the columns are called; empty when the data do not say.
        names: Vec<String>,
        /// Numbers a sample.
        outputs: usize,
    },
}

/// Inputs that stream by.
pub(crate) trait Inputs: Send + Sync {
    /// Gives all inputs, in order, in chunks of whole samples.
    fn read(&self, each: &mut dyn FnMut(Values) -> Result<()>) -> Result<()>;
}

/// Samples of any size that are read one after the other.
pub(crate) trait Items: Send + Sync {
    /// Gives all samples, in order.
    fn read(&self, each: &mut dyn FnMut(Item) -> Result<()>) -> Result<()>;

    /// How messages and reports name one.
    fn name(&self, index: usize) -> String;
}

/// Samples that are loaded one by one, by any thread.
pub(crate) trait Load: Send + Sync {
    /// One sample.
    ///
    /// # Errors
    /// When it cannot be read; the error names it.
    fn load(&self, index: usize) -> Result<Item>;

    /// How messages and reports name it.
    fn name(&self, index: usize) -> String;
}

/// Samples of so many elements that fill a chunk.
fn samples_per_chunk(elements: usize, bytes_each: usize) -> usize {
    (CHUNK_BYTES / elements.saturating_mul(bytes_each).max(1)).max(1)
}

/// The format of a name, or the nearest.
fn format_named(name: &str) -> Result<&'static Format> {
    FORMATS.into_iter().find(|f| f.name == name).ok_or_else(|| {
        let names: Vec<_> = FORMATS.iter().map(|f| f.name).collect();
        Error::usage(format!("no format `{name}`; there are {}", crate::dataset::quoted(&names)))
    })
}

/// The format of a file by its name.
fn format_by_name(path: &Path) -> Option<&'static Format> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    FORMATS.into_iter().find(|f| f.extensions.iter().any(|e| stem.ends_with(e)))
}

/// The format of a file by its name, else by its content.
fn format_of(path: &Path) -> Result<Option<&'static Format>> {
    if let Some(by_name) = format_by_name(path) {
        return Ok(Some(by_name));
    }
    let first = raw_bytes::first_bytes(path, SNIFFED_BYTES)?;
    Ok(FORMATS.into_iter().find(|f| (f.sniff)(&first)))
}

/// The error about a column or field that does not exist, among those that do.
fn no_such<S: AsRef<str>>(what: &str, name: &str, names: &[S]) -> Error {
    const SHOWN: usize = 12;
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    let shown = crate::dataset::quoted(&names[..names.len().min(SHOWN)]);
    let error = Error::usage(format!("no {what} `{name}`; there are {shown}{more}"));
    let alike = |own: &str| strsim::jaro(&own.to_lowercase(), &name.to_lowercase());
    match names.iter().map(AsRef::as_ref).max_by(|a, b| alike(a).total_cmp(&alike(b))) {
        Some(near) if alike(near) > 0.7 => error.hint(format!("did you mean `{near}`?")),
        _ => error,
    }
}

/// What elements become when the user says what they are.
fn reshaped(own: Elements, options: &ReadOptions) -> Result<Elements> {
    let wanted = |kind: Kind, shape: &[usize]| -> Result<Elements> {
        Ok(match (kind, shape) {
            (Kind::Image, &[height, width]) => Elements::Image { height, width, channels: 1 },
            (Kind::Image, &[height, width, channels]) => Elements::Image { height, width, channels },
            (Kind::Series, &[time]) => Elements::Series { time, features: 1 },
            (Kind::Series, &[time, ref rest @ ..]) => Elements::Series { time, features: rest.iter().product() },
            (Kind::Vector, shape) => match &own {
                own @ Elements::Vector { .. } => own.clone(),
                _ => Elements::Vector { features: shape.iter().product(), names: Vec::new() },
            },
            (Kind::Image, shape) => {
                return Err(Error::usage(format!(
                    "pictures of shape {shape:?}; wanted height and width, or channels too"
                ))
                .hint("--shape 28x28, or --shape 32x32x3"));
            }
            (Kind::Series, _) => return Err(Error::usage("series of no steps")),
        })
    };
    if options.shape.is_empty() {
        return match options.kind {
            None => Ok(own),
            Some(kind) => wanted(kind, &own.shape()),
        };
    }
    let elements = options.shape.iter().fold(1, |product: usize, &extent| product.saturating_mul(extent));
    if elements != own.elements() {
        return Err(Error::usage(format!(
            "samples are {}, {} numbers each; --shape {} has {elements}",
            own.in_words(),
            own.elements(),
            options.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
        )));
    }
    let kind = options.kind.unwrap_or(if options.shape.len() == 1 { Kind::Vector } else { Kind::Image });
    wanted(kind, &options.shape)
}

/// Numbers of a pixel, when the samples are pictures, or were before somebody said what else to see in them.
fn channels_of(own: &Elements, elements: &Elements) -> Option<usize> {
    match (own, elements) {
        (_, Elements::Image { channels, .. }) | (Elements::Image { channels, .. }, _) => Some(*channels),
        _ => None,
    }
}
