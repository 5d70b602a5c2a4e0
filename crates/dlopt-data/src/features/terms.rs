//! What texts are counted by: words, or runs of characters; and the terms that training texts taught.

use std::collections::{BTreeMap, HashMap};

use dlopt_checkpoint::{Error, Result};

use super::{Feature, FitFeature};
use crate::raw::{Raw, wrong};

/// How a text is cut into terms.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// Runs of two or more letters, digits or underscores: scikit-learn's `(?u)\b\w\w+\b`.
    Words,
    /// Runs of so many characters, white space of several characters being one space.
    Chars { shortest: usize, longest: usize },
    /// The same within words, which have a space on both sides.
    CharsInWords { shortest: usize, longest: usize },
}

impl Cut {
    /// Gives each term of a text in lower case (unless that matters), in order.
    pub(super) fn each(self, text: &str, keeps_case: bool, give: &mut dyn FnMut(&str)) {
        let lower = (!keeps_case).then(|| text.to_lowercase());
        let text = lower.as_deref().unwrap_or(text);
        match self {
            Self::Words => text
                .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                .filter(|word| word.chars().nth(1).is_some())
                .for_each(give),
            Self::Chars { shortest, longest } => {
                let text = narrow(text);
                let places = places(&text);
                for length in shortest..=longest {
                    places.windows(length + 1).for_each(|at| give(&text[at[0]..at[length]]));
                }
            }
            Self::CharsInWords { shortest, longest } => {
                for word in text.split_whitespace() {
                    let word = format!(" {word} ");
                    let places = places(&word);
                    for length in shortest..=longest {
                        if length + 1 >= places.len() {
                            // A short word counts once, whole.
                            give(&word);
                            break;
                        }
                        places.windows(length + 1).for_each(|at| give(&word[at[0]..at[length]]));
                    }
                }
            }
        }
    }
}

/// Where characters begin, and the end.
fn places(text: &str) -> Vec<usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()
}

/// Two or more characters of white space as one space.
fn narrow(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_whitespace() && chars.peek().is_some_and(|c| c.is_whitespace()) {
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            out.push(' ');
        } else {
            out.push(c);
        }
    }
    out
}

/// The text that `who` works on.
pub(super) fn text<'a>(raw: &'a Raw, who: &str) -> Result<&'a str> {
    match raw {
        Raw::Text(text) => Ok(text),
        other => Err(wrong(who, "texts", other)),
    }
}

/// The terms of training texts, each with its place.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    places: HashMap<String, u32>,
    count: usize,
}

impl Terms {
    /// # Errors
    /// When a term stands there twice.
    pub(super) fn new(terms: &[String]) -> Result<Self, String> {
        let mut places = HashMap::with_capacity(terms.len());
        for (place, term) in terms.iter().enumerate() {
            if places.insert(term.clone(), place as u32).is_some() {
                return Err(format!("`terms` holds `{term}` twice"));
            }
        }
        Ok(Self { places, count: terms.len() })
    }

    /// How often each term stands in a text.
    pub(super) fn counts(&self, text: &str, cut: Cut, keeps_case: bool) -> Vec<f64> {
        let mut counts = vec![0.0; self.count];
        cut.each(text, keeps_case, &mut |term| {
            if let Some(&place) = self.places.get(term) {
                counts[place as usize] += 1.0;
            }
        });
        counts
    }
}

/// The error of a feature that was not fitted.
pub(super) fn unfitted(who: &str) -> Error {
    Error::usage(format!("`{who}` has not learned its terms from training texts"))
}

/// Divides by the root of the sum of squares, when there is one.
pub(super) fn normalise(values: &mut [f64]) {
    let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
    if norm > 0.0 {
        values.iter_mut().for_each(|x| *x /= norm);
    }
}

/// Weights of terms by how few texts hold them, smoothed: `ln((1 + texts) / (1 + texts with it)) + 1`.
fn rarity(texts: u64, with: u64) -> f64 {
    ((1 + texts) as f64 / (1 + with) as f64).ln() + 1.0
}

/// Makes a feature of terms in the order of their text, and of their rarity.
pub(super) type Make = Box<dyn FnOnce(Vec<String>, Vec<f64>) -> Result<Box<dyn Feature>> + Send>;

/// Counts the terms of training texts.
pub(super) struct FitTerms {
    pub(super) who: &'static str,
    pub(super) cut: Cut,
    pub(super) keeps_case: bool,
    /// Most terms to keep, the most frequent ones.
    pub(super) limit: usize,
    /// Texts that a term must stand in.
    pub(super) least: u64,
    pub(super) make: Make,
    pub(super) seen: Seen,
}

/// What was counted.
#[derive(Default)]
pub(super) struct Seen {
    texts: u64,
    /// How often each term stands in all texts, in how many, and the last of them.
    terms: HashMap<String, [u64; 3]>,
}

impl FitFeature for FitTerms {
    fn see(&mut self, raw: &Raw) -> Result<()> {
        let text = text(raw, self.who)?;
        self.seen.texts += 1;
        let (number, terms) = (self.seen.texts, &mut self.seen.terms);
        self.cut.each(text, self.keeps_case, &mut |term| match terms.get_mut(term) {
            Some([count, texts, last]) => {
                *count += 1;
                *texts += u64::from(*last != number);
                *last = number;
            }
            None => {
                terms.insert(term.to_owned(), [1, 1, number]);
            }
        });
        Ok(())
    }

    fn fitted(self: Box<Self>) -> Result<Box<dyn Feature>> {
        let Seen { texts, terms } = self.seen;
        let least = self.least;
        let mut terms: Vec<(String, [u64; 3])> = terms.into_iter().filter(|(_, [_, with, _])| *with >= least).collect();
        if terms.is_empty() {
            return Err(Error::input(format!("`{}`: no term stands in {least} of {texts} training texts", self.who)));
        }
        terms.sort_unstable_by(|a, b| b.1[0].cmp(&a.1[0]).then_with(|| a.0.cmp(&b.0)));
        terms.truncate(self.limit);
        let terms: BTreeMap<String, [u64; 3]> = terms.into_iter().collect();
        let rarities = terms.values().map(|[_, with, _]| rarity(texts, *with)).collect();
        (self.make)(terms.into_keys().collect(), rarities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(cut: Cut, text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        cut.each(text, false, &mut |term| terms.push(term.to_owned()));
        terms
    }

    #[test]
    fn words_have_two_characters() {
        assert_eq!(cut(Cut::Words, "A cat's über_x 42, 7; ÀB"), ["cat", "über_x", "42", "àb"]);
    }

    #[test]
    fn runs_of_characters_overlap() {
        assert_eq!(cut(Cut::Chars { shortest: 2, longest: 3 }, "aß \n b"), ["aß", "ß ", " b", "aß ", "ß b"]);
        assert_eq!(cut(Cut::CharsInWords { shortest: 3, longest: 4 }, "ab c"), [" ab", "ab ", " ab ", " c "]);
        assert!(cut(Cut::Chars { shortest: 3, longest: 3 }, "ab").is_empty());
    }
}
