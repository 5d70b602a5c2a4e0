//! What token numbers mean.

use std::collections::HashMap;

use dlopt_checkpoint::{Error, Result};
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::step::Vocabulary;

/// Fills up short samples.
pub(super) const PAD: &str = "<pad>";
/// Stands for what was not learned.
pub(super) const UNKNOWN: &str = "<unk>";
/// Stands before a sequence.
pub(super) const START: &str = "<s>";
/// Stands after a sequence.
pub(super) const END: &str = "</s>";
/// Symbols that no text can contain.
pub(super) const SPECIAL: [&str; 4] = [PAD, UNKNOWN, START, END];

/// How tokenizers of others call the beginning and the end.
const BOUNDS: [[&str; 2]; 4] = [[START, END], ["<bos>", "<eos>"], ["[CLS]", "[SEP]"], ["<|im_start|>", "<|im_end|>"]];

/// What token numbers mean.
#[derive(Clone, Debug)]
pub(super) enum Alphabet {
    /// Bytes are their own numbers.
    Bytes { start: Option<u32>, end: Option<u32> },
    /// The place in a list.
    Listed { symbols: Vec<String>, numbers: HashMap<String, u32>, between: &'static str, bounds: Bounds },
    /// As the library reads a `tokenizer.json`.
    Library { tokenizer: Box<Tokenizer>, size: usize, bounds: Bounds },
}

/// The special numbers of a vocabulary, where it has them and they are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    unknown: Option<u32>,
    start: Option<u32>,
    end: Option<u32>,
}

impl Alphabet {
    pub(super) fn bytes(bounds: bool, end: bool) -> Self {
        match (bounds, end) {
            (true, _) => Self::Bytes { start: Some(256), end: Some(257) },
            (false, true) => Self::Bytes { start: None, end: Some(256) },
            (false, false) => Self::Bytes { start: None, end: None },
        }
    }

    /// Symbols in the order of their numbers; decoded ones are written with spaces between, or without.
    pub(super) fn listed(symbols: &[String], has_spaces: bool, bounds: bool, end: bool) -> Result<Self> {
        let mut numbers = HashMap::with_capacity(symbols.len());
        for (number, symbol) in symbols.iter().enumerate() {
            if numbers.insert(symbol.clone(), number as u32).is_some() {
                return Err(Error::usage(format!("`symbols` holds `{symbol}` twice")));
            }
        }
        let [_, unknown, start_mark, end_mark] = SPECIAL.map(|special| numbers.remove(special));
        let asked = |number: Option<u32>, is_asked: bool, name: &str| match number {
            None if is_asked => Err(Error::usage(format!("`symbols` holds no `{name}`, which is asked for"))),
            number => Ok(number.filter(|_| is_asked)),
        };
        let bounds =
            Bounds { unknown, start: asked(start_mark, bounds, START)?, end: asked(end_mark, bounds || end, END)? };
        if numbers.is_empty() {
            return Err(Error::usage("`symbols` holds none"));
        }
        let between = if has_spaces { " " } else { "" };
        Ok(Self::Listed { symbols: symbols.to_vec(), numbers, between, bounds })
    }

    pub(super) fn library(json: &Value, bounds: bool, end: bool) -> Result<Self> {
        let no_tokenizer = |e: &dyn std::fmt::Display| Error::input(format!("no tokenizer.json that dlopt reads: {e}"));
        let mut tokenizer = Tokenizer::from_bytes(json.to_string()).map_err(|e| no_tokenizer(&e))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| no_tokenizer(&e))?;
        let size = tokenizer.get_vocab(true).into_values().max().map_or(0, |largest| largest as usize + 1);
        if size == 0 {
            return Err(no_tokenizer(&"its vocabulary is empty"));
        }
        let both = |[start, end]: [&str; 2]| Some((tokenizer.token_to_id(start)?, tokenizer.token_to_id(end)?));
        let found = BOUNDS.into_iter().find_map(both);
        if (bounds || end) && found.is_none() {
            return Err(Error::usage(
                "the tokenizer.json has no tokens of beginning and end, such as `<s>` and `</s>`",
            ));
        }
        let bounds = Bounds {
            unknown: None,
            start: found.filter(|_| bounds).map(|found| found.0),
            end: found.filter(|_| bounds || end).map(|found| found.1),
        };
        Ok(Self::Library { tokenizer: Box::new(tokenizer), size, bounds })
    }

    /// The number of a symbol.
    ///
    /// # Errors
    /// When there is none, and none that stands for what is unknown.
    pub(super) fn number(&self, symbol: &str) -> Result<u32> {
        let Self::Listed { numbers, bounds, .. } = self else { return Ok(self.nothing()) };
        numbers.get(symbol).copied().or(bounds.unknown).ok_or_else(|| {
            Error::input(format!("`{symbol}` is none of the {} symbols", numbers.len()))
                .hint(format!("a list of symbols with `{UNKNOWN}` takes any"))
        })
    }

    /// The tokens of a text as the library sees it; marks of beginning and end are left to whoever asks for them.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let Self::Library { tokenizer, bounds, .. } = self else { return Ok(Vec::new()) };
        let encoding = tokenizer
            .encode_fast(text, bounds.end.is_none())
            .map_err(|e| Error::input(format!("a text that the tokenizer.json does not take: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// What stands for a text without tokens.
    pub(super) fn nothing(&self) -> u32 {
        match self {
            Self::Listed { bounds, .. } => bounds.unknown.unwrap_or(0),
            Self::Bytes { .. } | Self::Library { .. } => 0,
        }
    }
}

impl Vocabulary for Alphabet {
    fn size(&self) -> usize {
        match self {
            Self::Bytes { start, end } => 256 + usize::from(start.is_some()) + usize::from(end.is_some()),
            Self::Listed { symbols, .. } => symbols.len(),
            Self::Library { size, .. } => *size,
        }
    }

    fn decode(&self, tokens: &[u32]) -> String {
        match self {
            Self::Bytes { .. } => {
                let bytes: Vec<u8> = tokens.iter().filter_map(|&token| u8::try_from(token).ok()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Self::Listed { symbols, between, .. } => {
                let said = tokens.iter().filter_map(|&token| symbols.get(token as usize).map(String::as_str));
                let said: Vec<&str> = said.filter(|symbol| ![PAD, START, END].contains(symbol)).collect();
                said.join(between)
            }
            Self::Library { tokenizer, .. } => tokenizer.decode(tokens, true).unwrap_or_default(),
        }
    }

    fn symbol(&self, token: u32) -> String {
        let unknown = || UNKNOWN.to_owned();
        match self {
            Self::Bytes { start, .. } if *start == Some(token) => START.to_owned(),
            Self::Bytes { end, .. } if *end == Some(token) => END.to_owned(),
            Self::Bytes { .. } => match u8::try_from(token) {
                Ok(byte) => std::ascii::escape_default(byte).to_string(),
                Err(_) => unknown(),
            },
            Self::Listed { symbols, .. } => symbols.get(token as usize).cloned().unwrap_or_else(unknown),
            Self::Library { tokenizer, .. } => tokenizer.id_to_token(token).unwrap_or_else(unknown),
        }
    }

    fn bounds(&self) -> Option<(u32, u32)> {
        match self {
            Self::Bytes { start, end } => start.zip(*end),
            Self::Listed { bounds, .. } | Self::Library { bounds, .. } => bounds.start.zip(bounds.end),
        }
    }

    fn end(&self) -> Option<u32> {
        match self {
            Self::Bytes { end, .. } => *end,
            Self::Listed { bounds, .. } | Self::Library { bounds, .. } => bounds.end,
        }
    }

    fn are_bytes(&self) -> bool {
        matches!(self, Self::Bytes { .. })
    }
}
