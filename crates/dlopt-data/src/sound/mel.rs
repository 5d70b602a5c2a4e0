//! Spectra in mel bands: triangles that grow wider as the ear hears pitch, each of area 1 (Slaney, Auditory Toolbox,
//! 1998), as librosa's `melspectrogram` has them; and their level in decibels.

use dlopt_checkpoint::{Error, Result};

use super::Spectra;

/// Smallest power that has a level.
const LEAST_POWER: f64 = 1e-10;

/// How bands are cut, as the options of steps and features say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MelOptions {
    /// Samples of a frame.
    pub(crate) frame: usize,
    /// Samples of the window; those of a frame when nobody says.
    pub(crate) window: Option<usize>,
    /// Samples from one frame to the next.
    pub(crate) hop: usize,
    /// Bands.
    pub(crate) mels: usize,
    /// The lowest frequency, in hertz.
    pub(crate) low: f64,
    /// The highest; half the rate when nobody says.
    pub(crate) high: Option<f64>,
    /// Whether pitch is as HTK has it: `2595 log10(1 + f / 700)`.
    pub(crate) htk: bool,
}

/// How power becomes level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Level {
    /// `10 log10`, nothing further than this below the loudest.
    Decibels(Option<f64>),
    /// The natural logarithm.
    Natural,
}

/// Sounds to power in mel bands.
#[derive(Clone, Debug)]
pub(crate) struct MelSpectrum {
    options: MelOptions,
    spectra: Spectra,
}

/// A band: its first bin, and the weights of that and those that follow.
type Band = (usize, Vec<f64>);

impl MelSpectrum {
    /// # Errors
    /// When an option makes no sense.
    pub(crate) fn new(options: MelOptions) -> Result<Self, String> {
        let spectra = Spectra::new(options.frame, options.window, options.hop)?;
        if !(1..=spectra.bins()).contains(&options.mels) {
            return Err(format!("{} mel bands; wanted 1 to {}, the bins of a spectrum", options.mels, spectra.bins()));
        }
        let high = options.high.unwrap_or(f64::MAX);
        if !(options.low >= 0.0 && options.low < high) {
            return Err(format!("bands from {} to {high} Hz; wanted 0 or more, and rising", options.low));
        }
        Ok(Self { options, spectra })
    }

    /// Power in each band of each frame, `[frames, mels]`.
    ///
    /// # Errors
    /// When the bands do not fit the rate.
    pub(crate) fn powers(&self, sound: &[f32], rate: u32) -> Result<Vec<f64>> {
        let bands = self.bands(rate)?;
        let mut out = Vec::new();
        self.spectra.each(sound, |power| {
            let band = |(first, weights): &Band| weights.iter().zip(&power[*first..]).map(|(w, p)| w * p).sum::<f64>();
            out.extend(bands.iter().map(band));
        });
        Ok(out)
    }

    /// Level in each band of each frame, `[frames, mels]`.
    ///
    /// # Errors
    /// When the bands do not fit the rate.
    pub(crate) fn levels(&self, sound: &[f32], rate: u32, level: Level) -> Result<Vec<f64>> {
        let mut values = self.powers(sound, rate)?;
        match level {
            Level::Natural => values.iter_mut().for_each(|x| *x = x.max(LEAST_POWER).ln()),
            Level::Decibels(below) => {
                values.iter_mut().for_each(|x| *x = 10.0 * x.max(LEAST_POWER).log10());
                if let Some(below) = below {
                    let least = values.iter().copied().fold(f64::MIN, f64::max) - below;
                    values.iter_mut().for_each(|x| *x = x.max(least));
                }
            }
        }
        Ok(values)
    }

    fn bands(&self, rate: u32) -> Result<Vec<Band>> {
        let MelOptions { mels, low, htk, frame, .. } = self.options;
        let half = f64::from(rate) / 2.0;
        let high = self.options.high.unwrap_or(half);
        if high > half || low >= high {
            return Err(Error::usage(format!("mel bands from {low} to {high} Hz, of a sound that ends at {half} Hz"))
                .hint("a lower `high`, or --step resample to a higher rate"));
        }
        let (from, to) = (mel_of(low, htk), mel_of(high, htk));
        let edge = |at: usize| hertz_of(from + (to - from) * at as f64 / (mels + 1) as f64, htk);
        let edges: Vec<f64> = (0..mels + 2).map(edge).collect();
        let weights = |edges: &[f64]| -> Band {
            let area = 2.0 / (edges[2] - edges[0]);
            let weight = |bin: usize| {
                let frequency = bin as f64 * f64::from(rate) / frame as f64;
                let rising = (frequency - edges[0]) / (edges[1] - edges[0]);
                let falling = (edges[2] - frequency) / (edges[2] - edges[1]);
                rising.min(falling).max(0.0) * area
            };
            let first = (0..self.spectra.bins()).find(|&bin| weight(bin) > 0.0).unwrap_or(0);
            (first, (first..self.spectra.bins()).map(weight).take_while(|&weight| weight > 0.0).collect())
        };
        let bands: Vec<Band> = edges.windows(3).map(weights).collect();
        if let Some(empty) = bands.iter().position(|(_, weights)| weights.is_empty()) {
            return Err(Error::usage(format!(
                "mel band {} of {mels} lies between two bins of the spectrum ({rate} samples a second, frames of {frame})",
                empty + 1
            ))
            .hint("fewer `mels`, or a longer `frame`"));
        }
        Ok(bands)
    }
}

/// Slaney's scale: straight up to 1 kHz (mel 15), 27 steps for each factor of 6.4 above.
fn mel_of(hertz: f64, htk: bool) -> f64 {
    match htk {
        true => 2595.0 * (1.0 + hertz / 700.0).log10(),
        false if hertz < 1000.0 => hertz * 3.0 / 200.0,
        false => 15.0 + (hertz / 1000.0).ln() * 27.0 / 6.4_f64.ln(),
    }
}

fn hertz_of(mel: f64, htk: bool) -> f64 {
    match htk {
        true => 700.0 * (10.0_f64.powf(mel / 2595.0) - 1.0),
        false if mel < 15.0 => mel * 200.0 / 3.0,
        false => 1000.0 * ((mel - 15.0) * 6.4_f64.ln() / 27.0).exp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: MelOptions =
        MelOptions { frame: 64, window: None, hop: 16, mels: 5, low: 0.0, high: None, htk: false };

    #[test]
    fn pitch_and_frequency_are_inverse() {
        for htk in [false, true] {
            for hertz in [0.0, 440.0, 1000.0, 7000.0] {
                assert!((hertz_of(mel_of(hertz, htk), htk) - hertz).abs() < 1e-9 * (1.0 + hertz));
            }
        }
        assert!((mel_of(6400.0, false) - 42.0).abs() < 1e-12);
    }

    #[test]
    fn bands_that_do_not_fit_are_refused() {
        assert!(MelSpectrum::new(MelOptions { mels: 0, ..OPTIONS }).is_err());
        assert!(MelSpectrum::new(MelOptions { low: 9.0, high: Some(8.0), ..OPTIONS }).is_err());
        let many = MelSpectrum::new(MelOptions { mels: 20, high: Some(500.0), ..OPTIONS }).unwrap();
        assert!(many.powers(&[0.0; 9], 8000).unwrap_err().message().contains("mel band 1 of 20 lies between"));
        let high = MelSpectrum::new(MelOptions { high: Some(5000.0), ..OPTIONS }).unwrap();
        assert!(high.powers(&[0.0; 9], 8000).unwrap_err().message().contains("a sound that ends at 4000 Hz"));
    }

    #[test]
    fn silence_has_the_least_level() {
        let mel = MelSpectrum::new(OPTIONS).unwrap();
        let levels = mel.levels(&[0.0; 40], 8000, Level::Decibels(Some(80.0))).unwrap();
        assert_eq!((levels.len(), levels[0]), (3 * 5, -100.0));
        let natural = mel.levels(&[0.0; 40], 8000, Level::Natural).unwrap();
        assert_eq!(natural[7], 1e-10_f64.ln());
    }
}
