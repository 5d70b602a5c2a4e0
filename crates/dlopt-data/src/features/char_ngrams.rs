//! How often each of the most frequent runs of characters of the training texts stands in a text, as scikit-learn's
//! `CountVectorizer` and `TfidfVectorizer` have them with the analyzers `char` and `char_wb`.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::terms::{Cut, FitTerms, Seen, Terms, normalise, text, unfitted};
use super::{Feature, FeatureKind, FitFeature};
use crate::options;
use crate::raw::Raw;

/// The feature.
pub(super) const KIND: FeatureKind =
    FeatureKind::of::<CharNgrams>("char-ngrams", "longest", "texts: frequent runs of characters (scikit-learn)");

/// Longest run of characters.
const MOST: usize = 64;

/// Counts of runs of characters.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct CharNgrams {
    options: Options,
    terms: Option<Terms>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Characters of the shortest runs.
    shortest: usize,
    /// Characters of the longest runs.
    longest: usize,
    /// Most runs.
    limit: usize,
    /// Training texts that a run must stand in.
    least: u64,
    /// Whether runs end at words, which have a space on both sides.
    words: bool,
    /// Whether rare runs weigh more, and squares sum to 1, as in `tf-idf`.
    idf: bool,
    /// Whether upper case stays.
    case: bool,
    /// The runs, in the order of their numbers; learned when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    terms: Option<Vec<String>>,
    /// The weight of each run; learned when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Vec<f64>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shortest: 1,
            longest: 3,
            limit: 2000,
            least: 1,
            words: false,
            idf: false,
            case: false,
            terms: None,
            weights: None,
        }
    }
}

impl TryFrom<Options> for CharNgrams {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        if options.limit == 0 || options.shortest == 0 || !(options.shortest..=MOST).contains(&options.longest) {
            return Err(format!("wanted `limit` and `shortest` of 1 or more, and `longest` from that to {MOST}"));
        }
        if options.terms.as_ref().map(Vec::len) != options.weights.as_ref().map(Vec::len) {
            return Err("wanted as many `weights` as `terms`".to_owned());
        }
        let terms = options.terms.as_deref().map(Terms::new).transpose()?;
        Ok(Self { options, terms })
    }
}

impl CharNgrams {
    fn cut(&self) -> Cut {
        let Options { shortest, longest, words, .. } = self.options;
        if words { Cut::CharsInWords { shortest, longest } } else { Cut::Chars { shortest, longest } }
    }
}

impl Feature for CharNgrams {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let terms = self.terms.as_ref().ok_or_else(|| unfitted(KIND.name))?;
        let mut values = terms.counts(text(raw, KIND.name)?, self.cut(), self.options.case);
        if self.options.idf {
            values.iter_mut().zip(self.options.weights.iter().flatten()).for_each(|(x, weight)| *x *= weight);
            normalise(&mut values);
        }
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
        let (options, cut) = (self.options.clone(), self.cut());
        let (keeps_case, limit, least) = (options.case, options.limit, options.least);
        let make = Box::new(move |terms: Vec<String>, weights: Vec<f64>| -> Result<Box<dyn Feature>> {
            let options = Options { terms: Some(terms), weights: Some(weights), ..options };
            Ok(Box::new(Self::try_from(options).map_err(Error::usage)?))
        });
        Some(Box::new(FitTerms { who: KIND.name, cut, keeps_case, limit, least, make, seen: Seen::default() }))
    }
}
