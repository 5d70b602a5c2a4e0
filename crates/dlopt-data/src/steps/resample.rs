//! Sounds to another rate: `round(n * to / from)` samples. `sinc` may leave the sound up to two samples late or early.
//!
//! `sinc` interpolates with a windowed sinc of 256 samples that keeps what the lower of both rates can hold; `linear`
//! draws straight lines, which is fast and lets high tones fold down.

use dlopt_checkpoint::{Error, Result};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Resampler, SincInterpolationParameters};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Raw, Series, Values};
use crate::step::{Step, StepKind};

/// The step.
pub(super) const KIND: StepKind = StepKind::of::<Resample>("resample", "rate", "sounds to so many samples a second");

/// Samples that go through the filter at once.
const CHUNK: usize = 1024;

/// Sounds to another rate.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct Resample(Options);

/// How samples between samples are found.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Quality {
    /// A windowed sinc.
    #[default]
    Sinc,
    /// Straight lines.
    Linear,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Samples a second.
    rate: u32,
    /// How samples between samples are found.
    #[serde(default)]
    quality: Quality,
}

impl TryFrom<Options> for Resample {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        if !(100..=1_000_000).contains(&options.rate) {
            return Err(format!("{} samples a second; wanted 100 to 1000000", options.rate));
        }
        Ok(Self(options))
    }
}

impl Step for Resample {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(&self.0)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let (Series { time, features, values, .. }, from) = raw.sound(KIND.name)?;
        let to = self.0.rate;
        if from == to || time == 0 {
            return Ok(Raw::Series(Series { time, features, rate: Some(to), values }));
        }
        let ratio = f64::from(to) / f64::from(from);
        if !(1.0 / 256.0..=256.0).contains(&ratio) {
            return Err(Error::input(format!(
                "a sound of {from} samples a second, to {to}: at most 256 times as many"
            )));
        }
        // At least one: a sound stays one.
        let wanted = ((time as f64 * ratio).round() as usize).max(1);
        let values = match self.0.quality {
            Quality::Linear => linear(&values.floats(), features, wanted, 1.0 / ratio),
            Quality::Sinc => sinc(&values.floats(), features, wanted, ratio)?,
        };
        Ok(Raw::Series(Series { time: wanted, features, rate: Some(to), values: Values::F32(values) }))
    }
}

fn linear(values: &[f32], channels: usize, wanted: usize, step: f64) -> Vec<f32> {
    let last = values.len() / channels - 1;
    let mut out = Vec::with_capacity(wanted * channels);
    for at in 0..wanted {
        let place = at as f64 * step;
        let (left, share) = ((place as usize).min(last), place.fract() as f32);
        let right = (left + 1).min(last);
        let between = |channel: usize| {
            let (a, b) = (values[left * channels + channel], values[right * channels + channel]);
            a + (b - a) * share
        };
        out.extend((0..channels).map(between));
    }
    out
}

fn sinc(values: &[f32], channels: usize, wanted: usize, ratio: f64) -> Result<Vec<f32>> {
    let failed = |e: &dyn std::fmt::Display| Error::input(format!("a sound that cannot be resampled: {e}"));
    let time = values.len() / channels;
    let parameters = SincInterpolationParameters::default();
    let mut resampler =
        Async::<f32>::new_sinc(ratio, 1.0, &parameters, CHUNK, channels, FixedAsync::Input).map_err(|e| failed(&e))?;
    let sound = InterleavedSlice::new(values, channels, time).map_err(|e| failed(&e))?;
    let mut out = resampler.process_all(&sound, time, None).map_err(|e| failed(&e))?.take_data();
    out.resize(wanted * channels, 0.0);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resampled(options: &str, raw: Series) -> Series {
        let step = (KIND.make)(KIND.name, serde_json::from_str(options).unwrap()).unwrap();
        step.apply(Raw::Series(raw)).unwrap().series("").unwrap()
    }

    /// Two channels: a tone, and its negative.
    fn tone(hertz: f64, rate: u32, time: usize) -> Series {
        let at = |t: usize| (2.0 * std::f64::consts::PI * hertz * t as f64 / f64::from(rate)).sin() as f32;
        let values = Values::F32((0..time).flat_map(|t| [at(t), -at(t)]).collect());
        Series { time, features: 2, rate: Some(rate), values }
    }

    #[test]
    fn tones_stay_where_they_are() {
        for (from, to, time) in [(44_100, 16_000, 9001), (8000, 16_000, 3001), (16_000, 22_050, 4000)] {
            let new = resampled(&format!(r#"{{"rate": {to}}}"#), tone(440.0, from, time));
            let wanted = (time as f64 * f64::from(to) / f64::from(from)).round() as usize;
            assert_eq!((new.time, new.features, new.rate), (wanted, 2, Some(to)));
            let expected = tone(440.0, to, wanted);
            // Near the ends the filter sees silence; of the delay up to two samples are left.
            let inner = 800..2 * wanted - 800;
            let (new, expected) = (new.values.floats(), expected.values.floats());
            let pairs = new[inner.clone()].iter().zip(&expected[inner]);
            let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 4.0 * std::f32::consts::PI * 440.0 / to as f32, "{from} to {to}: {off}");
        }
    }

    #[test]
    fn tones_above_the_new_rate_are_silenced() {
        let new = resampled(r#"{"rate": 8000}"#, tone(6000.0, 16_000, 8000));
        let loudest = new.values.floats()[800..6000].iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        assert!(loudest < 1e-3, "{loudest}");
    }

    #[test]
    fn lines_are_straight() {
        let sound = Series { time: 3, features: 1, rate: Some(1000), values: Values::F32(vec![0.0, 1.0, 3.0]) };
        let new = resampled(r#"{"rate": 2000, "quality": "linear"}"#, sound.clone());
        assert_eq!(new.values, Values::F32(vec![0.0, 0.5, 1.0, 2.0, 3.0, 3.0]));
        assert_eq!(resampled(r#"{"rate": 1000}"#, sound.clone()), sound);
        let short = Series { time: 1, values: Values::F32(vec![1.0]), ..sound };
        assert_eq!(resampled(r#"{"rate": 300}"#, short).time, 1);
        assert!((KIND.make)(KIND.name, serde_json::from_str(r#"{"rate": 0}"#).unwrap()).is_err());
    }
}
