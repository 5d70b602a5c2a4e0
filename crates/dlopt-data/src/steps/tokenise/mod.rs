//! Texts to token numbers: bytes, characters, words, symbols between white space, or what a `tokenizer.json` says.
//!
//! Symbols are learned from the training samples, the most frequent first and equally frequent ones in the order of their
//! text: `<pad>` is 0, `<unk>` is 1, then `<s>` and `</s>` where they are asked for, then the rest. Bytes need nothing
//! learned and are their own numbers, `<s>` and `</s>` behind them. Words are those of Unicode (annex 29), marks of
//! punctuation among them, without white space.

mod alphabet;
mod learn;

use std::path::PathBuf;

use dlopt_checkpoint::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use unicode_segmentation::UnicodeSegmentation;

use self::alphabet::Alphabet;
use self::learn::Learn;
use crate::options;
use crate::raw::{Raw, wrong};
use crate::step::{FitStep, Step, StepKind, Vocabulary};

/// The step.
pub(super) const KIND: StepKind = StepKind::of::<Tokenise>(
    "tokenise",
    "how",
    "texts to tokens: bytes, chars, words, symbols (between spaces), or file=tokenizer.json",
);

/// Texts to token numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Options")]
struct Tokenise {
    options: Options,
    /// What the numbers mean; `None` until it is learned.
    alphabet: Option<Alphabet>,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    /// A byte of UTF-8.
    Bytes,
    /// A character.
    Chars,
    /// A word or mark of punctuation.
    Words,
    /// What stands between white space.
    Symbols,
    /// What a `tokenizer.json` says.
    Tokenizer,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// What a token is; bytes when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    how: Option<How>,
    /// A `tokenizer.json`, which is kept whole in `tokenizer`.
    #[serde(skip_serializing)]
    file: Option<PathBuf>,
    /// Most symbols to learn, those with a meaning of their own not counted; all when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    /// Whether texts are made lower-case first.
    lowercase: bool,
    /// Most tokens of a text, its end included; what is longer is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<usize>,
    /// Whether `<s>` and `</s>` are tokens, and `</s>` is appended: for sequences that are learned.
    bounds: bool,
    /// Whether `</s>` is a token and appended.
    end: bool,
    /// The symbols, in the order of their numbers; learned when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    symbols: Option<Vec<String>>,
    /// What the `tokenizer.json` holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<Value>,
}

impl TryFrom<Options> for Tokenise {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        Self::new(options).map_err(|e| e.message().to_owned())
    }
}

impl Tokenise {
    fn new(mut options: Options) -> Result<Self> {
        if let Some(path) = options.file.take() {
            let bytes = std::fs::read(&path).at(path.display())?;
            let json = serde_json::from_slice(&bytes)
                .map_err(|e| Error::input(format!("{}: is no tokenizer.json: {e}", path.display())))?;
            options.tokenizer = Some(json);
        }
        let default = if options.tokenizer.is_some() { How::Tokenizer } else { How::Bytes };
        let how = *options.how.get_or_insert(default);
        if (how == How::Tokenizer) != options.tokenizer.is_some() {
            return Err(Error::usage("a tokenizer.json is named with file=PATH, and `how` is then `tokenizer`"));
        }
        if !how.is_learned() && (options.symbols.is_some() || options.limit.is_some()) {
            return Err(Error::usage("`limit` and `symbols` are for chars, words and symbols"));
        }
        let least = if options.bounds || options.end { 2 } else { 1 };
        if options.length.is_some_and(|length| length < least) || options.limit == Some(0) {
            return Err(Error::usage(format!("`length` is at least {least} here and `limit` at least 1")));
        }
        let alphabet = match (how, &options.tokenizer, &options.symbols) {
            (How::Bytes, ..) => Some(Alphabet::bytes(options.bounds, options.end)),
            (_, Some(json), _) => Some(Alphabet::library(json, options.bounds, options.end)?),
            (_, _, Some(symbols)) => Some(Alphabet::listed(symbols, how != How::Chars, options.bounds, options.end)?),
            _ => None,
        };
        Ok(Self { options, alphabet })
    }

    fn tokens_of(&self, text: &str) -> Result<Vec<u32>> {
        let alphabet = self
            .alphabet
            .as_ref()
            .ok_or_else(|| Error::usage("`tokenise` has not learned its symbols from training samples"))?;
        let lower = self.options.lowercase.then(|| text.to_lowercase());
        let text = lower.as_deref().unwrap_or(text);
        let most = self.options.length.unwrap_or(usize::MAX) - usize::from(alphabet.end().is_some());
        let mut tokens = match alphabet {
            Alphabet::Bytes { .. } => text.bytes().take(most).map(u32::from).collect(),
            Alphabet::Library { .. } => alphabet.encode(text)?,
            Alphabet::Listed { .. } => {
                let pieces = self.options.how.unwrap_or(How::Bytes).pieces(text);
                pieces.take(most).map(|piece| alphabet.number(piece)).collect::<Result<_>>()?
            }
        };
        tokens.truncate(most);
        match alphabet.end() {
            Some(end) => tokens.push(end),
            // A network reads at least one token.
            None if tokens.is_empty() => tokens.push(alphabet.nothing()),
            None => {}
        }
        Ok(tokens)
    }
}

impl How {
    fn is_learned(self) -> bool {
        matches!(self, Self::Chars | Self::Words | Self::Symbols)
    }

    /// The pieces of a text.
    fn pieces(self, text: &str) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Chars => Box::new(text.char_indices().map(|(at, char)| &text[at..at + char.len_utf8()])),
            Self::Words => Box::new(text.split_word_bounds().filter(|piece| !piece.trim().is_empty())),
            _ => Box::new(text.split_whitespace()),
        }
    }
}

impl Step for Tokenise {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        match raw {
            Raw::Tokens(tokens) => Ok(Raw::Tokens(tokens)),
            Raw::Text(text) => Ok(Raw::Tokens(self.tokens_of(&text)?)),
            other => Err(wrong(KIND.name, "texts", &other)),
        }
    }

    fn fitting(&self) -> Option<Box<dyn FitStep>> {
        match self.alphabet {
            None => Some(Box::new(Learn::new(self.options.clone()))),
            Some(_) => None,
        }
    }

    fn tokens(&self) -> Option<&dyn Vocabulary> {
        self.alphabet.as_ref().map(|alphabet| alphabet as &dyn Vocabulary)
    }
}

#[cfg(test)]
mod tests;
