//! What a step is: something done to every sample by itself, in a dataset and again before a prediction.

use std::fmt::Debug;

use dlopt_checkpoint::Result;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::options;
use crate::raw::Raw;

/// Something done to every sample by itself.
pub trait Step: Debug + Send + Sync {
    /// Its name in the table of steps.
    fn name(&self) -> &'static str;

    /// Its options, all of them, as a dataset and a checkpoint keep them.
    fn options(&self) -> Map<String, Value>;

    /// Changes one sample.
    ///
    /// # Errors
    /// When it does not apply to such a sample.
    fn apply(&self, raw: Raw) -> Result<Raw>;

    /// What must be learned from the training samples before it can be applied (a vocabulary); `None` when nothing.
    fn fitting(&self) -> Option<Box<dyn FitStep>> {
        None
    }

    /// What the numbers of a row that it makes are called, once it has made one; empty when nobody knows.
    fn column_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the tokens that it makes mean; `None` when it makes no tokens.
    fn tokens(&self) -> Option<&dyn Vocabulary> {
        None
    }
}

/// What token numbers mean.
pub trait Vocabulary {
    /// How many tokens there are: numbers are below this.
    fn size(&self) -> usize;

    /// The text of tokens; padding and the marks of beginning and end say nothing.
    fn decode(&self, tokens: &[u32]) -> String;

    /// How a single token is written, such as `<unk>`.
    fn symbol(&self, token: u32) -> String;

    /// The tokens before the first and after the last one of a sequence, when they are in the vocabulary.
    fn bounds(&self) -> Option<(u32, u32)>;

    /// The token after the last one of a text, when it is appended.
    fn end(&self) -> Option<u32>;

    /// Whether tokens are bytes.
    fn are_bytes(&self) -> bool;
}

/// Learns from the training samples, in their order.
pub trait FitStep: Send {
    /// Looks at one sample.
    ///
    /// # Errors
    /// When the step does not apply to such a sample.
    fn see(&mut self, raw: &Raw) -> Result<()>;

    /// The step with what it learned in its options.
    ///
    /// # Errors
    /// When there was nothing to learn from.
    fn fitted(self: Box<Self>) -> Result<Box<dyn Step>>;
}

/// Makes a step of a name from its options.
type Make = fn(&str, Map<String, Value>) -> Result<Box<dyn Step>>;

/// A step that can be asked for.
pub struct StepKind {
    /// As `--step` names it.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The option that `NAME=VALUE` sets; empty when there is none.
    pub main: &'static str,
    /// Makes it from its options.
    pub(crate) make: Make,
}

impl StepKind {
    /// A kind whose options are the fields of `T` (serde; every one with a default or required, unknown ones refused).
    pub(crate) const fn of<T: Step + DeserializeOwned + 'static>(
        name: &'static str,
        main: &'static str,
        summary: &'static str,
    ) -> Self {
        Self { name, summary, main, make: make::<T> }
    }
}

fn make<T: Step + DeserializeOwned + 'static>(name: &str, options: Map<String, Value>) -> Result<Box<dyn Step>> {
    Ok(Box::new(options::read::<T>(name, options)?))
}
