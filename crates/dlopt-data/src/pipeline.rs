//! The steps of a dataset, one after the other; as a checkpoint keeps them.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::dataset::quoted;
use crate::options;
use crate::raw::Raw;
use crate::step::{FitStep, Step, StepKind, Vocabulary};
use crate::steps::STEPS;

/// A step with its options, all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSpec {
    /// Its name in the table of steps.
    pub step: String,
    /// Its options.
    #[serde(flatten)]
    pub options: Map<String, Value>,
}

/// Steps that are taken one after the other.
#[derive(Debug, Default)]
pub struct Pipeline {
    steps: Vec<Box<dyn Step>>,
}

impl Pipeline {
    /// Steps as a checkpoint keeps them.
    ///
    /// # Errors
    /// When a step is unknown or an option is wrong.
    pub fn of(specs: &[StepSpec]) -> Result<Self> {
        let make = |spec: &StepSpec| {
            let kind = kind_named(&spec.step)?;
            (kind.make)(kind.name, spec.options.clone())
        };
        Ok(Self { steps: specs.iter().map(make).collect::<Result<_>>()? })
    }

    /// A step as a command line writes it: `NAME`, `NAME=VALUE`, `NAME=VALUE,key=value…`.
    ///
    /// # Errors
    /// When the step is unknown or an option is wrong.
    pub fn spec(text: &str) -> Result<StepSpec> {
        let (step, options) = options::parse(text, |name| Ok(kind_named(name)?.main))?;
        Ok(StepSpec { step, options })
    }

    /// The steps with all their options.
    pub fn specs(&self) -> Vec<StepSpec> {
        self.steps.iter().map(|s| StepSpec { step: s.name().to_owned(), options: s.options() }).collect()
    }

    /// Takes all steps.
    ///
    /// # Errors
    /// When one does not apply to such a sample.
    pub fn apply(&self, raw: Raw) -> Result<Raw> {
        self.steps.iter().try_fold(raw, |raw, step| step.apply(raw))
    }

    /// What the tokens that come out mean, when tokens do.
    pub fn tokens(&self) -> Option<&dyn Vocabulary> {
        self.steps.iter().rev().find_map(|step| step.tokens())
    }

    /// What the numbers of a row that comes out are called, once there was one.
    pub(crate) fn column_names(&self) -> Vec<String> {
        self.steps.last().map(|step| step.column_names()).unwrap_or_default()
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a step must see the training samples first.
    pub(crate) fn needs_fitting(&self) -> bool {
        self.steps.iter().any(|step| step.fitting().is_some())
    }

    /// The steps before the first one that must see the training samples, and that one and all after it.
    pub(crate) fn split_at_fitting(self) -> (Self, Self) {
        let mut first = self.steps;
        let place = first.iter().position(|step| step.fitting().is_some()).unwrap_or(first.len());
        let rest = first.split_off(place);
        (Self { steps: first }, Self { steps: rest })
    }

    /// What learns for the first step, when it must.
    pub(crate) fn fitting(&self) -> Option<Box<dyn FitStep>> {
        self.steps.first()?.fitting()
    }

    /// Puts a step that has learned in the place of the first.
    pub(crate) fn replace_first(&mut self, fitted: Box<dyn Step>) {
        self.steps[0] = fitted;
    }

    /// Appends the steps of another.
    pub(crate) fn extend(&mut self, other: Self) {
        self.steps.extend(other.steps);
    }
}

/// The step of this name.
fn kind_named(name: &str) -> Result<&'static StepKind> {
    STEPS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<&str> = STEPS.iter().map(|kind| kind.name).collect();
        let error = Error::usage(format!("no step `{name}`; there are {}", quoted(&names)));
        match names.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name))) {
            Some(near) if strsim::jaro(near, name) > 0.7 => error.hint(format!("did you mean `{near}`?")),
            _ => error.hint("`dlopt list steps` says what they do"),
        }
    })
}
