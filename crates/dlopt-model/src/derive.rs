//! Students derived from their teacher: narrower, shallower, with the teacher's weights where they fit.
//!
//! A derivation is written `width=0.5`, `hidden=64`, `layers=0,2,4`, or several of them: `width=0.5;layers=0,2` or
//! `width=0.5,layers=0,2`. [`Derivation::description`] gives the student's description, [`Derivation::take_over`] its
//! weights: layers that are dropped (Sanh et al., 2019, arXiv:1910.01108; Fan et al., 2019, arXiv:1909.11556) take theirs
//! along, and of the channels of what stays the most important ones are kept (Fang et al., 2023, arXiv:2301.12900).

mod depth;
mod take_over;
mod widths;

use std::fmt;

use dlopt_checkpoint::{Error, Result};

use crate::description::{Description, nearest};

pub(crate) use depth::droppable;
pub use take_over::{Origin, Taken, TakenOver};

/// The keys of a derivation.
const KEYS: [&str; 3] = ["width", "hidden", "layers"];

const EXAMPLE: &str = "a derivation is width=0.5, hidden=64, layers=0,2,4, or several with `;` between";

/// How a student differs from its teacher; nothing set is the teacher itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Derivation {
    /// Share of the filters, units, hidden units and values of embeddings that the student has, in (0, 1].
    pub width: Option<f64>,
    /// Hidden units of recurrent layers and of `seq2seq`.
    pub hidden: Option<usize>,
    /// The layers that stay, counted from 0 in the order they run: residual blocks, and the layers of recurrent stacks.
    pub layers: Option<Vec<usize>>,
}

impl Derivation {
    /// Reads a derivation; nothing if the text does not begin as one, with `WORD=`, and so is the name or the path of
    /// something.
    ///
    /// # Errors
    /// When a key is unknown (with the nearest one), given twice or without a value, or a value is out of range.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if text.trim().is_empty() {
            return Err(Error::usage("the derivation is empty").hint(EXAMPLE));
        }
        let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        if text.split_once('=').is_none_or(|(key, _)| !is_word(key.trim())) {
            return Ok(None);
        }
        let mut own = Self::default();
        for part in options(text) {
            let (key, value) = part.split_once('=').unwrap_or((&part, ""));
            own.set(key.trim(), value.trim())?;
        }
        own.check()?;
        Ok(Some(own))
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        if !KEYS.contains(&key) {
            let known = format!("known: {}; {EXAMPLE}", KEYS.join(", "));
            let error = Error::usage(format!("a derivation has no `{key}`"));
            return Err(match nearest(key, &KEYS) {
                Some(near) => error.hint(format!("did you mean `{near}`? {known}")),
                None => error.hint(known),
            });
        }
        if value.is_empty() {
            return Err(Error::usage(format!("`{key}` has no value")).hint(EXAMPLE));
        }
        let is_new = match key {
            "width" => self.width.replace(number(key, value, "a share such as 0.5")?).is_none(),
            "hidden" => self.hidden.replace(number(key, value, "a number of units")?).is_none(),
            _ => {
                let numbers = value.split(',').map(|part| number(key, part.trim(), "numbers of layers such as 0,2,4"));
                self.layers.replace(numbers.collect::<Result<_>>()?).is_none()
            }
        };
        match is_new {
            true => Ok(()),
            false => Err(Error::usage(format!("`{key}` is given twice")).hint("give it once")),
        }
    }

    /// Whether every value is one that a student can have.
    fn check(&self) -> Result<()> {
        if let Some(width) = self.width
            && !(width > 0.0 && width <= 1.0)
        {
            return Err(Error::usage(format!("`width` is {width}; it is more than 0 and at most 1"))
                .hint("a derived student is no wider than its teacher: width=0.5 halves it"));
        }
        if self.hidden == Some(0) {
            return Err(Error::usage("`hidden` is 0; it is at least 1"));
        }
        if let Some(layers) = &self.layers {
            let twice = layers.iter().enumerate().find(|(at, layer)| layers[..*at].contains(layer));
            if let Some((_, layer)) = twice {
                return Err(
                    Error::usage(format!("`layers` names {layer} twice")).hint("name each layer that stays once")
                );
            }
        }
        Ok(())
    }

    /// The student's description: the teacher's layers under their names, fewer and narrower.
    ///
    /// # Errors
    /// When a value is out of range, `hidden` is more than the teacher has or there is no recurrent layer, or `layers`
    /// leaves out a layer that must stay, names one that is not there, or there is none that could go.
    pub fn description(&self, teacher: &Description) -> Result<Description> {
        self.check()?;
        let mut student = teacher.named()?;
        if *self != Self::default() {
            // Both are about the teacher.
            (student.summary, student.source) = (None, None);
        }
        if let Some(stays) = &self.layers {
            depth::keep(&mut student.layers, stays)?;
        }
        widths::narrow(&mut student.layers, self.width, self.hidden)?;
        Ok(student)
    }
}

/// As [`Derivation::parse`] reads it.
impl fmt::Display for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |layers: &Vec<usize>| layers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let parts = [
            self.width.map(|width| format!("width={width}")),
            self.hidden.map(|hidden| format!("hidden={hidden}")),
            self.layers.as_ref().map(|layers| format!("layers={}", list(layers))),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(";"))
    }
}

/// The `key=value` of a text: they end at `;`, and at a comma behind which the next one begins.
fn options(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    for part in text.split(';') {
        let mut own: Vec<String> = Vec::new();
        for piece in part.split(',') {
            match own.last_mut() {
                Some(last) if !piece.contains('=') => *last = format!("{last},{piece}"),
                _ => own.push(piece.to_owned()),
            }
        }
        all.extend(own);
    }
    all
}

fn number<T: std::str::FromStr>(key: &str, value: &str, wanted: &str) -> Result<T> {
    value.parse().map_err(|_| Error::usage(format!("`{key}` is `{value}`; it takes {wanted}")).hint(EXAMPLE))
}

#[cfg(test)]
mod tests;
