//! How often each of the most frequent words of the training texts stands in a text, more for rare words:
//! `count (ln((1 + texts) / (1 + texts with it)) + 1)`, divided by the root of the sum of their squares, as scikit-learn's
//! `TfidfVectorizer` has it.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::terms::{Cut, FitTerms, Seen, Terms, normalise, text, unfitted};
use super::{Feature, FeatureKind, FitFeature};
use crate::options;
use crate::raw::Raw;

/// The feature.
pub(super) const KIND: FeatureKind =
    FeatureKind::of::<TfIdf>("tf-idf", "limit", "texts: frequent words, weighted by how rare they are (scikit-learn)");

/// Weighted counts of words.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct TfIdf {
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
    /// Whether a count `c` above 0 is taken as `1 + ln(c)`.
    sublinear: bool,
    /// Whether upper case stays.
    case: bool,
    /// The words, in the order of their numbers; learned when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    terms: Option<Vec<String>>,
    /// The weight of each word; learned when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Vec<f64>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { limit: 2000, least: 1, sublinear: false, case: false, terms: None, weights: None }
    }
}

impl TryFrom<Options> for TfIdf {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        if options.limit == 0 {
            return Err("wanted a `limit` of 1 or more".to_owned());
        }
        if options.terms.as_ref().map(Vec::len) != options.weights.as_ref().map(Vec::len) {
            return Err("wanted as many `weights` as `terms`".to_owned());
        }
        let terms = options.terms.as_deref().map(Terms::new).transpose()?;
        Ok(Self { options, terms })
    }
}

impl Feature for TfIdf {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let terms = self.terms.as_ref().ok_or_else(|| unfitted(KIND.name))?;
        let mut values = terms.counts(text(raw, KIND.name)?, Cut::Words, self.options.case);
        if self.options.sublinear {
            values.iter_mut().filter(|x| **x > 0.0).for_each(|x| *x = 1.0 + x.ln());
        }
        values.iter_mut().zip(self.options.weights.iter().flatten()).for_each(|(x, weight)| *x *= weight);
        normalise(&mut values);
        out.extend(values.into_iter().map(|x| x as f32));
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
        let make = Box::new(move |terms: Vec<String>, weights: Vec<f64>| -> Result<Box<dyn Feature>> {
            let options = Options { terms: Some(terms), weights: Some(weights), ..options };
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
