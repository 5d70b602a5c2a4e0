//! Sounds to one length: cut at the end, or filled up with silence.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Raw, Series, Values};
use crate::step::{Step, StepKind};

/// The step.
pub(super) const KIND: StepKind =
    StepKind::of::<Duration>("duration", "seconds", "sounds to a length in seconds: cut, or filled up with silence");

/// Longest sound, in samples.
const MOST: f64 = (1 << 28) as f64;

/// Sounds to one length.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct Duration(Options);

/// Where the sound stands.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Anchor {
    /// At the beginning.
    #[default]
    Start,
    /// In the middle.
    Centre,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// The length, in seconds.
    seconds: f64,
    /// Where the sound stands in it.
    #[serde(default)]
    anchor: Anchor,
}

impl TryFrom<Options> for Duration {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        if !(options.seconds > 0.0 && options.seconds * 384_000.0 <= MOST) {
            return Err(format!("{} seconds; wanted more than 0, and a few minutes at most", options.seconds));
        }
        Ok(Self(options))
    }
}

impl Step for Duration {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(&self.0)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let (Series { time, features, values, .. }, rate) = raw.sound(KIND.name)?;
        let wanted = ((self.0.seconds * f64::from(rate)).round().min(MOST) as usize).max(1);
        let half = |more: usize| match self.0.anchor {
            Anchor::Start => 0,
            Anchor::Centre => more / 2,
        };
        let (from, to) = (half(time.saturating_sub(wanted)), half(wanted.saturating_sub(time)));
        let kept = time.min(wanted) * features;
        let mut out = vec![0.0; wanted * features];
        out[to * features..][..kept].copy_from_slice(&values.floats()[from * features..][..kept]);
        Ok(Raw::Series(Series { time: wanted, features, rate: Some(rate), values: Values::F32(out) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(options: &str, time: usize) -> Vec<f32> {
        let step = (KIND.make)(KIND.name, serde_json::from_str(options).unwrap()).unwrap();
        let values = Values::F32((1..=time).map(|at| at as f32).collect());
        match step.apply(Raw::Series(Series { time, features: 1, rate: Some(4), values })).unwrap() {
            Raw::Series(Series { values: Values::F32(values), rate: Some(4), time, .. }) if time == values.len() => {
                values
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sounds_are_cut_and_filled_up() {
        assert_eq!(lasting(r#"{"seconds": 1}"#, 6), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(lasting(r#"{"seconds": 1}"#, 2), [1.0, 2.0, 0.0, 0.0]);
        assert_eq!(lasting(r#"{"seconds": 0.8, "anchor": "centre"}"#, 6), [2.0, 3.0, 4.0]);
        assert_eq!(lasting(r#"{"seconds": 1, "anchor": "centre"}"#, 1), [0.0, 1.0, 0.0, 0.0]);
        assert!((KIND.make)(KIND.name, serde_json::from_str(r#"{"seconds": 0}"#).unwrap()).is_err());
    }
}
