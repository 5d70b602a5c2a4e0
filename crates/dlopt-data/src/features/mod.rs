//! Features: numbers that say something about a picture, a sound, a series or a text, one file each.
//!
//! To add one: a file with a type that holds its options (serde, every option with a default, unknown ones refused) and
//! is a [`Feature`], and its line in [`FEATURES`].

mod autocorrelation;
mod bag_of_words;
mod char_ngrams;
mod colour_histogram;
mod colour_moments;
mod colours;
mod columns;
mod edges;
mod glcm;
#[cfg(test)]
mod golden_of_pictures;
#[cfg(test)]
mod golden_of_sounds_and_texts;
mod hashed;
mod hog;
mod hu;
mod lbp;
mod mfcc;
mod moments;
mod planes;
mod spectral;
mod spectral_power;
mod terms;
mod tf_idf;
mod zero_crossings;

use std::fmt::Debug;

use dlopt_checkpoint::Result;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::options;
use crate::raw::Raw;

/// Numbers taken of a sample.
pub trait Feature: Debug + Send + Sync {
    /// Its options, all of them, as a dataset and a checkpoint keep them.
    fn options(&self) -> Map<String, Value>;

    /// Appends its numbers for one sample; as many for every sample of a dataset.
    ///
    /// # Errors
    /// When it does not apply to such a sample.
    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()>;

    /// What its numbers are called, `count` of them; numbered when nothing better is known.
    fn names(&self, name: &str, count: usize) -> Vec<String> {
        (0..count).map(|place| format!("{name}_{place}")).collect()
    }

    /// What must be learned from the training samples before it can be taken (a vocabulary); `None` when nothing.
    fn fitting(&self) -> Option<Box<dyn FitFeature>> {
        None
    }
}

/// Learns from the training samples, in their order.
pub trait FitFeature: Send {
    /// Looks at one sample.
    ///
    /// # Errors
    /// When it does not apply to such a sample.
    fn see(&mut self, raw: &Raw) -> Result<()>;

    /// The feature with what it learned in its options.
    ///
    /// # Errors
    /// When there was nothing to learn from.
    fn fitted(self: Box<Self>) -> Result<Box<dyn Feature>>;
}

/// Makes a feature from its options.
type Make = fn(Map<String, Value>) -> Result<Box<dyn Feature>>;

/// A feature that can be asked for.
pub struct FeatureKind {
    /// As `--features` names it.
    pub name: &'static str,
    /// What it says, in one line, with its source.
    pub summary: &'static str,
    /// The option that `NAME=VALUE` sets; empty when there is none.
    pub main: &'static str,
    make: Make,
}

impl FeatureKind {
    /// The feature with these options.
    pub(crate) fn make(&self, options: Map<String, Value>) -> Result<Box<dyn Feature>> {
        (self.make)(options)
    }

    /// A kind whose options are the fields of `T`.
    const fn of<T: Feature + DeserializeOwned + 'static>(
        name: &'static str,
        main: &'static str,
        summary: &'static str,
    ) -> Self {
        Self { name, summary, main, make: make::<T> }
    }
}

fn make<T: Feature + DeserializeOwned + 'static>(options: Map<String, Value>) -> Result<Box<dyn Feature>> {
    Ok(Box::new(options::read::<T>("feature", options)?))
}

/// All features.
pub const FEATURES: &[FeatureKind] = &[
    lbp::KIND,
    glcm::KIND,
    colour_histogram::KIND,
    colour_moments::KIND,
    hog::KIND,
    hu::KIND,
    edges::KIND,
    mfcc::KIND,
    zero_crossings::KIND,
    spectral::KIND,
    moments::KIND,
    autocorrelation::KIND,
    spectral_power::KIND,
    bag_of_words::KIND,
    tf_idf::KIND,
    char_ngrams::KIND,
    hashed::KIND,
];
