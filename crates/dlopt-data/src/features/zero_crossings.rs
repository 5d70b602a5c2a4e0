//! How often a sound changes its sign, as a share of the samples of a frame: mean and deviation over all frames, as
//! librosa's `zero_crossing_rate` has it (the first and last sample stand for what lies outside the sound).

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;
use crate::sound::{means_and_deviations, mono};

/// The feature.
pub(super) const KIND: FeatureKind = FeatureKind::of::<ZeroCrossings>(
    "zero-crossings",
    "frame",
    "sounds: how often the sign changes, mean and deviation (librosa)",
);

/// What is so near 0 is 0.
const NOTHING: f32 = 1e-10;

/// How often a sound changes its sign.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct ZeroCrossings(Options);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Samples of a frame.
    frame: usize,
    /// Samples from one frame to the next.
    hop: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { frame: 512, hop: 160 }
    }
}

impl TryFrom<Options> for ZeroCrossings {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        match options.frame < 2 || options.hop == 0 || options.frame > 1 << 24 {
            true => Err("wanted a `frame` of 2 samples or more and a `hop` of 1 or more".to_owned()),
            false => Ok(Self(options)),
        }
    }
}

impl Feature for ZeroCrossings {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.0)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let (sound, _) = mono(raw, KIND.name)?;
        let Options { frame, hop } = self.0;
        let is_negative = |x: f32| x < -NOTHING;
        // Changes up to each sample; the ends repeated beyond the sound change nothing.
        let mut changes = vec![0_u32; sound.len()];
        for at in 1..sound.len() {
            changes[at] = changes[at - 1] + u32::from(is_negative(sound[at]) != is_negative(sound[at - 1]));
        }
        let last = sound.len() - 1;
        let rate = |centre: usize| {
            let begin = centre.saturating_sub(frame / 2).min(last);
            let end = (centre + frame - frame / 2 - 1).min(last);
            f64::from(changes[end] - changes[begin]) / frame as f64
        };
        let frames = (sound.len() + frame / 2 * 2).saturating_sub(frame) / hop + 1;
        let rates: Vec<f64> = (0..frames).map(|at| rate(at * hop)).collect();
        out.extend(means_and_deviations(&rates, 1));
        Ok(())
    }

    fn names(&self, name: &str, _: usize) -> Vec<String> {
        vec![format!("{name}_mean"), format!("{name}_deviation")]
    }
}
