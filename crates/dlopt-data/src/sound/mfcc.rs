//! Mel-frequency cepstral coefficients: the cosine transform (type 2, orthonormal) of levels in mel bands (Davis and
//! Mermelstein, 1980), as librosa's `mfcc` has them.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};

use super::{Level, MelOptions, MelSpectrum};

/// What the step and the feature `mfcc` are asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MfccOptions {
    /// How many coefficients.
    coefficients: usize,
    /// Mel bands.
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
    /// Levels further below the loudest are raised to this, in decibels; `null` for none.
    top: Option<f64>,
    /// Lifter: coefficient `k` (from 1) times `1 + lifter / 2 sin(pi k / lifter)`; 0 for none.
    lifter: f64,
}

impl Default for MfccOptions {
    fn default() -> Self {
        Self {
            coefficients: 13,
            mels: 40,
            frame: 512,
            window: None,
            hop: 160,
            low: 0.0,
            high: None,
            htk: false,
            top: Some(80.0),
            lifter: 0.0,
        }
    }
}

/// Sounds to cepstral coefficients.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "MfccOptions")]
pub(crate) struct Mfcc {
    /// As it was asked.
    pub(crate) options: MfccOptions,
    mel: MelSpectrum,
    /// The transform, `[coefficients, mels]`.
    cosines: Vec<f64>,
}

impl TryFrom<MfccOptions> for Mfcc {
    type Error = String;

    fn try_from(options: MfccOptions) -> Result<Self, String> {
        let MfccOptions { coefficients, mels, frame, window, hop, low, high, htk, lifter, .. } = options;
        let mel = MelSpectrum::new(MelOptions { frame, window, hop, mels, low, high, htk })?;
        if !(1..=mels).contains(&coefficients) {
            return Err(format!("{coefficients} coefficients; wanted 1 to {mels}, the mel bands"));
        }
        if !(lifter >= 0.0 && lifter.is_finite()) {
            return Err(format!("a lifter of {lifter}; wanted 0 or more"));
        }
        let cosine = |row: usize, band: usize| {
            let angle = std::f64::consts::PI * row as f64 * (band as f64 + 0.5) / mels as f64;
            let norm = if row == 0 { 1.0 } else { 2.0 };
            let lift = match lifter {
                0.0 => 1.0,
                lifter => 1.0 + lifter / 2.0 * (std::f64::consts::PI * (row + 1) as f64 / lifter).sin(),
            };
            angle.cos() * (norm / mels as f64).sqrt() * lift
        };
        let cosines = (0..coefficients).flat_map(|row| (0..mels).map(move |band| cosine(row, band))).collect();
        Ok(Self { options, mel, cosines })
    }
}

impl Mfcc {
    /// Coefficients of a frame.
    pub(crate) fn coefficients(&self) -> usize {
        self.options.coefficients
    }

    /// The coefficients of each frame, `[frames, coefficients]`.
    ///
    /// # Errors
    /// When the bands do not fit the rate.
    pub(crate) fn of(&self, sound: &[f32], rate: u32) -> Result<Vec<f64>> {
        let levels = self.mel.levels(sound, rate, Level::Decibels(self.options.top))?;
        let product = |frame: &[f64], row: &[f64]| frame.iter().zip(row).map(|(x, w)| x * w).sum::<f64>();
        let mels = self.options.mels;
        let rows = |frame| self.cosines.chunks_exact(mels).map(move |row| product(frame, row));
        Ok(levels.chunks_exact(mels).flat_map(rows).collect())
    }
}
