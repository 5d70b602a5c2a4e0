//! New raw samples to what a network reads, with the steps and statistics that its checkpoint keeps: the same numbers that
//! `prepare` and a batch of the dataset would have made of them.

mod arrays;
mod files;
mod rows;

use std::io::BufRead;
use std::path::Path;

use dlopt_checkpoint::{Dtype, Error, Result};

use crate::convert::Affine;
use crate::info::{Elements, Preprocessing, RawInput};
use crate::pipeline::Pipeline;
use crate::raw::{Image, Raw, Series, Values};
use crate::step::Vocabulary;

/// Gets every sample by its name, or the reason why it cannot be read; an error of its own ends the reading.
pub type Each<'a> = dyn FnMut(String, Result<Raw>) -> Result<()> + 'a;

/// What a network takes in, and how it becomes that.
#[derive(Debug)]
pub struct Intake {
    preprocessing: Preprocessing,
    raw: RawInput,
    steps: Pipeline,
    answers: Pipeline,
    affine: Affine,
}

/// A sample as a network reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// Its values, without padding.
    values: Vec<f32>,
    /// Steps that count; 1 when there is no time.
    steps: usize,
    /// Steps that it had, when there were more than the network takes.
    pub too_long: Option<usize>,
}

impl Intake {
    /// Makes it of what a checkpoint keeps.
    ///
    /// # Errors
    /// When a step is unknown, or the numbers cannot be used.
    pub fn new(preprocessing: Preprocessing) -> Result<Self> {
        preprocessing.check()?;
        Ok(Self {
            raw: preprocessing.raw.clone().unwrap_or_else(|| RawInput::of(&preprocessing.elements)),
            steps: Pipeline::of(&preprocessing.steps)?,
            answers: Pipeline::of(&preprocessing.sequence_steps)?,
            affine: Affine::new(&preprocessing),
            preprocessing,
        })
    }

    /// What raw samples are.
    pub fn raw(&self) -> &RawInput {
        &self.raw
    }

    /// What the checkpoint keeps.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// What the tokens that go in mean, when tokens do.
    pub fn tokens(&self) -> Option<&dyn Vocabulary> {
        self.steps.tokens()
    }

    /// What the tokens that come out mean, when sequences are learned.
    pub fn answers(&self) -> Option<&dyn Vocabulary> {
        self.answers.tokens()
    }

    /// Reads the samples of a file, or of all files below a folder in the order of their names, several at a time on
    /// `threads` threads.
    ///
    /// # Errors
    /// When `each` fails, or the file is of another kind altogether.
    pub fn read(&self, path: &Path, threads: usize, each: &mut Each<'_>) -> Result<()> {
        files::read(self, path, threads, each)
    }

    /// Reads the rows of a table that is called `name` in messages.
    ///
    /// # Errors
    /// When `each` fails, or columns are missing; they are named.
    pub fn read_rows(&self, name: &str, table: Box<dyn BufRead>, each: &mut Each<'_>) -> Result<()> {
        rows::read(self, name, table, each)
    }

    /// Takes the steps, and scales and standardises what they give. Series and tokens that are too long lose their end, the
    /// mark of it excepted.
    ///
    /// # Errors
    /// When the steps do not apply, or something else than the network takes comes out.
    pub fn take(&self, raw: Raw) -> Result<Taken> {
        let raw = self.steps.apply(raw)?;
        let wanted = &self.preprocessing.elements;
        let (values, steps, most) = match (raw, wanted) {
            (Raw::Image(Image { height, width, channels, pixels }), Elements::Image { .. })
                if wanted.shape() == [height, width, channels] =>
            {
                (pixels, 1, 1)
            }
            (Raw::Row(values), Elements::Vector { features, .. }) if values.len() == *features => (values, 1, 1),
            (Raw::Series(Series { time: steps, features: own, values, .. }), &Elements::Series { time, features })
                if own == features =>
            {
                (values, steps, time)
            }
            (Raw::Tokens(tokens), &Elements::Tokens { time, vocabulary }) => {
                let (steps, kept) = self.cut_tokens(tokens, time, vocabulary)?;
                (Values::F32(kept.into_iter().map(|token| token as f32).collect()), steps, time)
            }
            (other, _) => return Err(unlike(&other, wanted)),
        };
        if steps == 0 {
            return Err(Error::input("there is nothing in it after all steps"));
        }
        let kept = steps.min(most);
        let mut numbers = self.numbers(&values)?;
        if steps > most {
            numbers.truncate(kept * wanted.step());
        }
        Ok(Taken { values: numbers, steps: kept, too_long: (steps > most).then_some(steps) })
    }

    /// Takes the steps on a signal of any length, and scales it: for networks that read windows in turn.
    ///
    /// # Errors
    /// When the steps do not apply, or something else than one channel comes out.
    pub fn signal(&self, raw: Raw) -> Result<Vec<f32>> {
        match self.steps.apply(raw)? {
            Raw::Series(Series { features: 1, values, .. }) => self.numbers(&values),
            other => Err(unlike(&other, &self.preprocessing.elements)),
        }
    }

    /// The tokens of a text that goes on: as many as there are, without a mark of the end.
    ///
    /// # Errors
    /// When the steps make no tokens of a text, or there are none.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut specs = self.preprocessing.steps.clone();
        for step in &mut specs {
            step.options.remove("length");
        }
        if text.is_empty() {
            return Err(Error::usage("the prompt is empty; the network goes on with what it has read"));
        }
        let mut tokens = match Pipeline::of(&specs)?.apply(Raw::Text(text.to_owned()))? {
            Raw::Tokens(tokens) => tokens,
            other => return Err(unlike(&other, &self.preprocessing.elements)),
        };
        if self.tokens().and_then(|own| own.end()).is_some() {
            tokens.pop();
        }
        if tokens.is_empty() {
            return Err(Error::usage("there are no tokens in the prompt"));
        }
        Ok(tokens)
    }

    /// Samples side by side, `[samples, …]`, with their lengths when one is shorter than the network takes.
    pub fn batch(&self, taken: &[Taken]) -> (Vec<f32>, Option<Vec<u32>>) {
        let elements = self.preprocessing.elements.elements();
        let mut inputs = vec![0.0; taken.len() * elements];
        for (sample, row) in taken.iter().zip(inputs.chunks_exact_mut(elements.max(1))) {
            row[..sample.values.len()].copy_from_slice(&sample.values);
        }
        let are_whole = taken.iter().all(|sample| sample.values.len() == elements);
        (inputs, (!are_whole).then(|| taken.iter().map(|sample| sample.steps as u32).collect()))
    }

    /// How many tokens there were, and those that are kept.
    fn cut_tokens(&self, mut tokens: Vec<u32>, most: usize, vocabulary: usize) -> Result<(usize, Vec<u32>)> {
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
            return Err(Error::input(format!("token {token} is outside the {vocabulary} that the network knows")));
        }
        let steps = tokens.len();
        if steps > most {
            tokens.truncate(most);
            if let (Some(end), Some(last)) = (self.tokens().and_then(|own| own.end()), tokens.last_mut()) {
                *last = end;
            }
        }
        Ok((steps, tokens))
    }

    fn numbers(&self, values: &Values) -> Result<Vec<f32>> {
        let mut out = vec![0.0; values.len()];
        let is_finite = match values {
            Values::U8(values) => self.affine.apply(Dtype::U8, values, &mut out),
            Values::F32(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                self.affine.apply(Dtype::F32, &bytes, &mut out)
            }
        };
        if is_finite {
            return Ok(out);
        }
        let at = out.iter().position(|x| !x.is_finite()).unwrap_or(0);
        Err(Error::input(format!("element {at} is {}", if out[at].is_nan() { "NaN" } else { "infinite" })))
    }

    /// Whole numbers from 0 to 255 as bytes, where the data that the network learned from were bytes.
    fn as_stored(&self, values: Vec<f32>) -> Values {
        let info = &self.preprocessing;
        // Steps on bytes round; features make floats of bytes.
        let were_bytes = info.dtype == "U8" || info.steps.iter().any(|step| step.step == "features");
        if were_bytes && values.iter().all(|x| (0.0..=255.0).contains(x) && x.fract() == 0.0) {
            return Values::U8(values.into_iter().map(|x| x as u8).collect());
        }
        Values::F32(values)
    }
}

/// The error of a sample that is not what a network takes.
fn unlike(found: &Raw, wanted: &Elements) -> Error {
    let own = match found {
        Raw::Image(Image { height, width, channels, .. }) => format!("a picture of {height}x{width}x{channels}"),
        Raw::Series(Series { features, .. }) => format!("a series of {features} features"),
        Raw::Row(values) => format!("a row of {} numbers", values.len()),
        Raw::Text(_) => "a text".to_owned(),
        Raw::Tokens(tokens) => format!("{} tokens", tokens.len()),
    };
    let error = Error::input(format!("is {own}; the network takes {}", wanted.in_words()));
    match (found, wanted) {
        (Raw::Text(_), Elements::Tokens { .. }) => {
            error.hint("prepare the data with --step tokenise=…, so that the checkpoint knows the tokens of a text")
        }
        (Raw::Image(_), Elements::Image { .. }) => {
            error.hint("prepare the data with --resize HxW and --step grey, so that pictures of any size become alike")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests;
