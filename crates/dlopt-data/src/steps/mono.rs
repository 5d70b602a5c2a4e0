//! Sounds of several channels to their mean.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::with_channels;
use crate::options;
use crate::raw::Raw;
use crate::step::{Step, StepKind};

/// The step.
pub(super) const KIND: StepKind = StepKind::of::<Mono>("mono", "", "sounds of several channels to their mean");

/// Sounds to the mean of their channels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mono {}

impl Step for Mono {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let (sound, _) = raw.sound(KIND.name)?;
        with_channels(Raw::Series(sound), 1)
    }
}
