//! Sounds to mel-frequency cepstral coefficients, `[frames, coefficients]`. Several channels become their mean.

use dlopt_checkpoint::Result;
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Raw, Series, Values};
use crate::sound::{Mfcc, mono};
use crate::step::{Step, StepKind};

/// The step.
pub(super) const KIND: StepKind =
    StepKind::of::<Mfcc>("mfcc", "coefficients", "sounds to mel-frequency cepstral coefficients, frame by frame");

impl Step for Mfcc {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let (sound, rate) = mono(&raw, KIND.name)?;
        let values = self.of(&sound, rate)?;
        let features = self.coefficients();
        let time = values.len() / features;
        let values = Values::F32(values.into_iter().map(|x| x as f32).collect());
        Ok(Raw::Series(Series { time, features, rate: None, values }))
    }
}
