//! Mel-frequency cepstral coefficients of a sound: the mean of each over all frames, then the deviation of each.

use dlopt_checkpoint::Result;
use serde_json::{Map, Value};

use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;
use crate::sound::{Mfcc, means_and_deviations, mono};

/// The feature.
pub(super) const KIND: FeatureKind = FeatureKind::of::<Mfcc>(
    "mfcc",
    "coefficients",
    "sounds: mel-frequency cepstral coefficients, means and deviations (librosa)",
);

impl Feature for Mfcc {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let (sound, rate) = mono(raw, KIND.name)?;
        out.extend(means_and_deviations(&self.of(&sound, rate)?, self.coefficients()));
        Ok(())
    }

    fn names(&self, name: &str, count: usize) -> Vec<String> {
        let of = |what: &'static str| (0..count / 2).map(move |at| format!("{name}_{what}_{at}"));
        of("mean").chain(of("deviation")).collect()
    }
}
