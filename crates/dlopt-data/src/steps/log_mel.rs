//! Sounds to levels in mel bands, `[frames, mels]`: a spectrogram as the ear hears it, as librosa's `melspectrogram` and
//! `power_to_db` have it. Several channels become their mean.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Raw, Series, Values};
use crate::sound::{Level, MelOptions, MelSpectrum, mono};
use crate::step::{Step, StepKind};

/// The step.
pub(super) const KIND: StepKind =
    StepKind::of::<LogMel>("log-mel", "mels", "sounds to levels in mel bands, frame by frame: a spectrogram");

/// Sounds to levels in mel bands.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct LogMel {
    options: Options,
    mel: MelSpectrum,
}

/// How power becomes level.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Scale {
    /// Ten times the decimal logarithm.
    Db,
    /// The natural logarithm.
    Log,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Bands.
    mels: usize,
    /// Samples of a frame.
    frame: usize,
    /// Samples of the window; those of a frame when nobody says.
    window: Option<usize>,
    /// Samples from one frame to the next.
    hop: usize,
    /// The lowest frequency, in hertz.
    low: f64,
    /// The highest; half the rate when nobody says.
    high: Option<f64>,
    /// Whether pitch is as HTK has it.
    htk: bool,
    /// How power becomes level.
    scale: Scale,
    /// Levels further below the loudest are raised to this, in decibels; `null` for none. Not for `log`.
    top: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mels: 40,
            frame: 512,
            window: None,
            hop: 160,
            low: 0.0,
            high: None,
            htk: false,
            scale: Scale::Db,
            top: Some(80.0),
        }
    }
}

impl TryFrom<Options> for LogMel {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        let Options { mels, frame, window, hop, low, high, htk, .. } = options;
        let mel = MelSpectrum::new(MelOptions { frame, window, hop, mels, low, high, htk })?;
        Ok(Self { options, mel })
    }
}

impl Step for LogMel {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let (sound, rate) = mono(&raw, KIND.name)?;
        let level = match self.options.scale {
            Scale::Db => Level::Decibels(self.options.top),
            Scale::Log => Level::Natural,
        };
        let levels = self.mel.levels(&sound, rate, level)?;
        let features = self.options.mels;
        let values = Values::F32(levels.iter().map(|&x| x as f32).collect());
        Ok(Raw::Series(Series { time: levels.len() / features, features, rate: None, values }))
    }
}
