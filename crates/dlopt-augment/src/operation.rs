//! What an operation is: something done to a sample at random, of which its label stays true.

use std::fmt::Debug;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::options;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::draws::Draws;
use crate::geometry::Geometry;
use crate::sample::{Form, Sample, Scratch};

/// Something done to a sample at random.
///
/// To add one: a file in `operations/` with a type that holds its options (serde, every one with a default, unknown ones
/// refused) and is an `Operation`, and its line in [`OPERATIONS`](crate::OPERATIONS). With options that change nothing,
/// an operation leaves every byte as it is.
pub trait Operation: Debug + Send + Sync {
    /// Refuses options that are out of range, with the range.
    ///
    /// # Errors
    /// When one is.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// Refuses samples of a kind that it is for, but that it can do nothing with: the hue of grey pictures.
    ///
    /// # Errors
    /// When it does not apply to any such sample.
    fn check(&self, _form: &Form) -> Result<(), String> {
        Ok(())
    }

    /// Changes a sample. All that is random comes from `draws`; nothing but speed may depend on what `scratch` holds.
    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch);

    /// Where the pixels of such a picture come from, when that is all it does; then it is not applied. Neighbouring
    /// operations of this kind are put together, and the picture is resampled once.
    fn geometry(&self, _form: &Form, _draws: &mut Draws, _scratch: &mut Scratch) -> Option<Geometry> {
        None
    }

    /// What it does to pairs of samples and their labels, when it mixes them; then it is not applied.
    fn mixing(&self) -> Option<&dyn Mixing> {
        None
    }
}

/// An operation that puts a part of another sample into a sample; the label becomes a mixture of both.
pub trait Mixing: Debug + Send + Sync {
    /// Changes a sample; gives the share, in 0..=1, that its own label keeps.
    fn mix(&self, sample: &mut Sample, other: &Sample, draws: &mut Draws, scratch: &mut Scratch) -> f32;
}

/// Kinds of samples that an operation is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kinds {
    /// Pictures.
    pub images: bool,
    /// Series, sounds and spectra.
    pub series: bool,
    /// Tokens.
    pub tokens: bool,
    /// Rows of numbers.
    pub rows: bool,
}

impl Kinds {
    /// Pictures alone.
    pub const IMAGES: Self = Self { images: true, series: false, tokens: false, rows: false };
    /// Series alone.
    pub const SERIES: Self = Self { images: false, series: true, tokens: false, rows: false };
    /// Tokens alone.
    pub const TOKENS: Self = Self { images: false, series: false, tokens: true, rows: false };
    /// All that are numbers.
    pub const NUMBERS: Self = Self { images: true, series: true, tokens: false, rows: true };

    /// Whether samples of this form are among them.
    pub fn have(&self, form: &Form) -> bool {
        match form {
            Form::Image { .. } => self.images,
            Form::Series { .. } => self.series,
            Form::Tokens { .. } => self.tokens,
            Form::Row { .. } => self.rows,
        }
    }

    /// In words, such as `pictures and series`.
    pub fn in_words(&self) -> String {
        let all = [
            (self.images, "pictures"),
            (self.series, "series"),
            (self.tokens, "tokens"),
            (self.rows, "rows of numbers"),
        ];
        let all: Vec<&str> = all.into_iter().filter_map(|(is_one, name)| is_one.then_some(name)).collect();
        match &all[..] {
            [] => "nothing".to_owned(),
            [one] => (*one).to_owned(),
            [most @ .., last] => format!("{} and {last}", most.join(", ")),
        }
    }
}

/// An operation and all its options.
pub(crate) type Made = (Box<dyn Operation>, Map<String, Value>);

/// An operation that can be asked for.
pub struct OperationKind {
    /// As `--op` names it.
    pub name: &'static str,
    /// What it does, in one line, with its source.
    pub summary: &'static str,
    /// What it works on.
    pub kinds: Kinds,
    /// The option that `NAME=VALUE` sets; empty when there is none.
    pub main: &'static str,
    /// How likely it is applied where nobody says.
    pub probability: f32,
    make: fn(&str, Map<String, Value>) -> Result<Made>,
}

impl OperationKind {
    /// A kind whose options are the fields of `T`.
    pub(crate) const fn of<T: Operation + Serialize + DeserializeOwned + 'static>(
        name: &'static str,
        main: &'static str,
        kinds: Kinds,
        summary: &'static str,
    ) -> Self {
        Self { name, summary, kinds, main, probability: 1.0, make: make::<T> }
    }

    /// The kind, applied with another probability where nobody says.
    pub(crate) const fn with_probability(self, probability: f32) -> Self {
        Self { probability, ..self }
    }

    /// The operation with these options, checked, and all its options.
    ///
    /// # Errors
    /// When an option is unknown or out of range.
    pub(crate) fn make(&self, options: Map<String, Value>) -> Result<Made> {
        (self.make)(self.name, options)
    }

    /// Refuses samples that the operation is not for.
    ///
    /// # Errors
    /// When it does not apply.
    pub(crate) fn check(&self, operation: &dyn Operation, form: &Form) -> Result<()> {
        if !self.kinds.have(form) {
            let (own, found) = (self.kinds.in_words(), form.in_words());
            return Err(Error::usage(format!("`{}` is for {own}, and the samples are {found}", self.name))
                .hint("`dlopt list` says what each operation works on"));
        }
        operation.check(form).map_err(|what| Error::usage(format!("`{}`: {what}", self.name)))
    }
}

fn make<T: Operation + Serialize + DeserializeOwned + 'static>(
    name: &str,
    options: Map<String, Value>,
) -> Result<Made> {
    let operation = options::read::<T>(name, options)?;
    operation.validate().map_err(|what| Error::usage(format!("`{name}`: {what}")))?;
    let options = options::written(&operation);
    Ok((Box::new(operation), options))
}
