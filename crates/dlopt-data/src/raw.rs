//! One sample on its way from a reader to the dataset: what steps and features work on.

use std::borrow::Cow;

use dlopt_checkpoint::{Error, Result};

/// Elements of one sample, or of several one after the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Whole numbers from 0 to 255.
    U8(Vec<u8>),
    /// Any numbers.
    F32(Vec<f32>),
}

impl Values {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as floats.
    pub fn floats(&self) -> Cow<'_, [f32]> {
        match self {
            Self::U8(values) => Cow::Owned(values.iter().map(|&x| f32::from(x)).collect()),
            Self::F32(values) => Cow::Borrowed(values),
        }
    }
}

/// A picture, `[height, width, channels]`. Bytes run from 0 to 255; grey, grey and alpha, RGB or RGBA.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Numbers of a pixel.
    pub channels: usize,
    /// Row by row.
    pub pixels: Values,
}

/// A series, `[time, features]`; a sound has a rate, and its features are its channels (-1 to 1).
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Steps.
    pub time: usize,
    /// Numbers of a step.
    pub features: usize,
    /// Samples a second, when it is a sound.
    pub rate: Option<u32>,
    /// Step by step.
    pub values: Values,
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A picture.
    Image(Image),
    /// A series or a sound.
    Series(Series),
    /// A row of a table.
    Row(Values),
    /// A text.
    Text(String),
    /// Token numbers.
    Tokens(Vec<u32>),
}

impl Raw {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "a picture",
            Self::Series(Series { rate: Some(_), .. }) => "a sound",
            Self::Series(_) => "a series",
            Self::Row(_) => "a row of numbers",
            Self::Text(_) => "a text",
            Self::Tokens(_) => "tokens",
        }
    }

    /// The picture that `who` (a step or feature) works on.
    ///
    /// # Errors
    /// When it is none.
    pub fn image(self, who: &str) -> Result<Image> {
        match self {
            Self::Image(image) => Ok(image),
            other => Err(wrong(who, "pictures", &other)),
        }
    }

    /// The series that `who` works on.
    ///
    /// # Errors
    /// When it is none.
    pub fn series(self, who: &str) -> Result<Series> {
        match self {
            Self::Series(series) => Ok(series),
            other => Err(wrong(who, "series and sounds", &other)),
        }
    }

    /// The sound that `who` works on, and its rate.
    ///
    /// # Errors
    /// When it is none.
    pub fn sound(self, who: &str) -> Result<(Series, u32)> {
        match self {
            Self::Series(series) if series.rate.is_some() => {
                let rate = series.rate.unwrap_or_default();
                Ok((series, rate))
            }
            other => Err(wrong(who, "sounds", &other)),
        }
    }

    /// The text that `who` works on.
    ///
    /// # Errors
    /// When it is none.
    pub fn text(self, who: &str) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(wrong(who, "texts", &other)),
        }
    }
}

/// The error of a step or feature that was given the wrong kind of sample.
pub(crate) fn wrong(who: &str, wanted: &str, found: &Raw) -> Error {
    Error::usage(format!("`{who}` is for {wanted}, and the samples are {}", plural(found)))
}

fn plural(raw: &Raw) -> &'static str {
    match raw {
        Raw::Image(_) => "pictures",
        Raw::Series(Series { rate: Some(_), .. }) => "sounds",
        Raw::Series(_) => "series",
        Raw::Row(_) => "rows of numbers",
        Raw::Text(_) => "texts",
        Raw::Tokens(_) => "tokens",
    }
}
