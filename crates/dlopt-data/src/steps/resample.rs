//! Sounds to another rate: `round(n * to / from)` samples, nothing of the sound moved.
//!
//! `sinc` keeps exactly what the lower of both rates can hold (the spectrum of the whole sound is cut or filled up, as
//! `scipy.signal.resample` does it); `linear` draws straight lines, which is fast and lets high tones fold down.

use dlopt_checkpoint::{Error, Result};
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Raw, Series, Values};
use crate::step::{Step, StepKind};

/// The step.
pub(super) const KIND: StepKind = StepKind::of::<Resample>("resample", "rate", "sounds to so many samples a second");

/// Samples of silence behind a sound.
const SILENCE: usize = 1024;

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
            Quality::Sinc => sinc(&values.floats(), features, wanted, [from, to])?,
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

/// Each channel's spectrum, cut or filled up to the new rate: what the ideal filter gives. Silence stands behind the sound, so
/// that its end does not run into its beginning.
fn sinc(values: &[f32], channels: usize, wanted: usize, [from, to]: [u32; 2]) -> Result<Vec<f32>> {
    let divisor = greatest_common_divisor(from, to);
    let (from, to) = ((from / divisor) as usize, (to / divisor) as usize);
    let blocks = (values.len() / channels + SILENCE).div_ceil(from);
    // Whole periods of both rates; an even number of samples, so that the last bin is the highest frequency.
    let blocks = blocks.next_multiple_of(2);
    let (long, new) = (blocks * from, blocks * to);
    let mut planner = RealFftPlanner::<f64>::new();
    let (forward, back) = (planner.plan_fft_forward(long), planner.plan_fft_inverse(new));
    let (mut sound, mut spectrum) = (forward.make_input_vec(), forward.make_output_vec());
    let (mut other, mut resampled) = (back.make_input_vec(), back.make_output_vec());
    let failed = |e: realfft::FftError| Error::input(format!("a sound that cannot be resampled: {e}"));
    let mut out = vec![0.0; wanted * channels];
    for channel in 0..channels {
        sound.fill(0.0);
        let own = values.iter().skip(channel).step_by(channels);
        sound.iter_mut().zip(own).for_each(|(to, &from)| *to = f64::from(from));
        forward.process(&mut sound, &mut spectrum).map_err(failed)?;
        other.fill(Complex::default());
        // The highest frequency of the lower rate belongs to both of its signs, and is left out.
        let kept = spectrum.len().min(other.len()) - 1;
        other[..kept].copy_from_slice(&spectrum[..kept]);
        back.process(&mut other, &mut resampled).map_err(failed)?;
        for (to, &from) in out.iter_mut().skip(channel).step_by(channels).zip(&resampled) {
            *to = (from / long as f64) as f32;
        }
    }
    Ok(out)
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
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
            // Near the ends the filter sees silence.
            let inner = 800..2 * wanted - 800;
            let (new, expected) = (new.values.floats(), expected.values.floats());
            let pairs = new[inner.clone()].iter().zip(&expected[inner]);
            let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-3, "{from} to {to}: {off}");
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
