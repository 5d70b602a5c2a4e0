//! The symbols of the training texts.

use std::collections::HashMap;

use dlopt_checkpoint::{Error, Result};

use super::alphabet::{END, PAD, SPECIAL, START, UNKNOWN};
use super::{How, KIND, Options, Tokenise};
use crate::raw::{Raw, wrong};
use crate::step::{FitStep, Step};

/// Counts symbols.
pub(super) struct Learn {
    options: Options,
    counts: HashMap<String, u64>,
}

impl Learn {
    pub(super) fn new(options: Options) -> Self {
        Self { options, counts: HashMap::new() }
    }
}

impl FitStep for Learn {
    fn see(&mut self, raw: &Raw) -> Result<()> {
        let text = match raw {
            Raw::Text(text) => text,
            Raw::Tokens(_) => {
                return Err(Error::usage("`tokenise` cannot learn symbols from samples that are tokens already")
                    .hint("--step tokenise=bytes"));
            }
            other => return Err(wrong(KIND.name, "texts", other)),
        };
        let lower = self.options.lowercase.then(|| text.to_lowercase());
        for piece in self.options.how.unwrap_or(How::Bytes).pieces(lower.as_deref().unwrap_or(text)) {
            match self.counts.get_mut(piece) {
                Some(count) => *count += 1,
                None => {
                    self.counts.insert(piece.to_owned(), 1);
                }
            }
        }
        Ok(())
    }

    fn fitted(self: Box<Self>) -> Result<Box<dyn Step>> {
        let Self { mut options, mut counts } = *self;
        counts.retain(|symbol, _| !SPECIAL.contains(&symbol.as_str()));
        if counts.is_empty() {
            return Err(Error::input("`tokenise` has no symbols to learn: the training texts are empty"));
        }
        let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(options.limit.unwrap_or(usize::MAX));
        let mut symbols = vec![PAD.to_owned(), UNKNOWN.to_owned()];
        if options.bounds {
            symbols.push(START.to_owned());
        }
        if options.bounds || options.end {
            symbols.push(END.to_owned());
        }
        symbols.extend(counts.into_iter().map(|(symbol, _)| symbol));
        options.symbols = Some(symbols);
        Ok(Box::new(Tokenise::new(options)?))
    }
}
