//! How often each of the most frequent words of the training texts stands in a text, as scikit-learn's `CountVectorizer`
//! counts: words are runs of two or more letters, digits or underscores, in lower case; numbers stand in the order of the
//! words' text.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::terms::{Cut, FitTerms, Seen, Terms, text, unfitted};
use super::{Feature, FeatureKind, FitFeature};
use crate::options;
use crate::raw::Raw;

/// The feature.
pub(super) const KIND: FeatureKind = FeatureKind::of::<BagOfWords>(
    "bag-of-words",
    "limit",
    "texts: how often each frequent word stands there (scikit-learn)",
);

/// Counts of words.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct BagOfWords {
    options: Options,
    terms: Option<Terms>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Most words.
    limit: usize,
    /// Training texts that a word must stand in.
    least: u64,
    /// Whether a word counts once a text.
    binary: bool,
    /// Whether upper case stays.
    case: bool,
    /// The words, in the order of their numbers; learned when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    terms: Option<Vec<String>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { limit: 2000, least: 1, binary: false, case: false, terms: None }
    }
}

impl TryFrom<Options> for BagOfWords {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        if options.limit == 0 {
            return Err("wanted a `limit` of 1 or more".to_owned());
        }
        let terms = options.terms.as_deref().map(Terms::new).transpose()?;
        Ok(Self { options, terms })
    }
}

impl Feature for BagOfWords {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let terms = self.terms.as_ref().ok_or_else(|| unfitted(KIND.name))?;
        let counts = terms.counts(text(raw, KIND.name)?, Cut::Words, self.options.case);
        out.extend(counts.into_iter().map(|count| if self.options.binary { count.min(1.0) } else { count } as f32));
        Ok(())
    }

    fn names(&self, name: &str, _: usize) -> Vec<String> {
        self.options.terms.iter().flatten().map(|term| format!("{name}_{term}")).collect()
    }

    fn fitting(&self) -> Option<Box<dyn FitFeature>> {
        if self.terms.is_some() {
            return None;
        }
        let options = self.options.clone();
        let (keeps_case, limit, least) = (options.case, options.limit, options.least);
        let make = Box::new(move |terms: Vec<String>, _: Vec<f64>| -> Result<Box<dyn Feature>> {
            let options = Options { terms: Some(terms), ..options };
            Ok(Box::new(Self::try_from(options).map_err(Error::usage)?))
        });
        Some(Box::new(FitTerms {
            who: KIND.name,
            cut: Cut::Words,
            keeps_case,
            limit,
            least,
            make,
            seen: Seen::default(),
        }))
    }
}
