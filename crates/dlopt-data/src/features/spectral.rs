//! The shape of a sound's spectra, frame by frame, in hertz: where its centre lies (centroid), how wide it is around it
//! (bandwidth), and below what frequency most of it lies (roll-off); the means of the three, then their deviations. As
//! librosa's `spectral_centroid`, `spectral_bandwidth` and `spectral_rolloff` have them, of amplitudes.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;
use crate::sound::{Spectra, means_and_deviations, mono};

/// The feature.
pub(super) const KIND: FeatureKind = FeatureKind::of::<Spectral>(
    "spectral",
    "rolloff",
    "sounds: spectral centroid, bandwidth and roll-off, means and deviations (librosa)",
);

/// The shape of spectra.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct Spectral {
    options: Options,
    spectra: Spectra,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// The share of a spectrum that lies below the roll-off, 0 to 1.
    rolloff: f64,
    /// Samples of a frame.
    frame: usize,
    /// Samples of the window; those of a frame when nobody says.
    window: Option<usize>,
    /// Samples from one frame to the next.
    hop: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { rolloff: 0.85, frame: 512, window: None, hop: 160 }
    }
}

impl TryFrom<Options> for Spectral {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        if !(options.rolloff > 0.0 && options.rolloff < 1.0) {
            return Err(format!("a roll-off at {}; wanted a share between 0 and 1", options.rolloff));
        }
        let spectra = Spectra::new(options.frame, options.window, options.hop)?;
        Ok(Self { options, spectra })
    }
}

impl Feature for Spectral {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let (sound, rate) = mono(raw, KIND.name)?;
        let step = f64::from(rate) / self.options.frame as f64;
        let mut values = Vec::new();
        let mut amplitudes = vec![0.0; self.spectra.bins()];
        self.spectra.each(&sound, |power| {
            amplitudes.iter_mut().zip(power).for_each(|(to, power)| *to = power.sqrt());
            values.extend(shape(&amplitudes, step, self.options.rolloff));
        });
        out.extend(means_and_deviations(&values, 3));
        Ok(())
    }

    fn names(&self, name: &str, _: usize) -> Vec<String> {
        let of = |what: &'static str| {
            ["centroid", "bandwidth", "rolloff"].into_iter().map(move |which| format!("{name}_{which}_{what}"))
        };
        of("mean").chain(of("deviation")).collect()
    }
}

/// Centroid, bandwidth and roll-off of amplitudes `step` hertz apart; zeros of silence.
fn shape(amplitudes: &[f64], step: f64, rolloff: f64) -> [f64; 3] {
    let sum: f64 = amplitudes.iter().sum();
    if sum <= f64::MIN_POSITIVE {
        return [0.0; 3];
    }
    let mean = |of: &dyn Fn(f64) -> f64| {
        amplitudes.iter().enumerate().map(|(bin, x)| of(bin as f64 * step) * x).sum::<f64>() / sum
    };
    let centroid = mean(&|hertz| hertz);
    let bandwidth = mean(&|hertz| (hertz - centroid).powi(2)).sqrt();
    let mut below = 0.0;
    let bin = amplitudes.iter().position(|x| {
        below += x;
        below >= rolloff * sum
    });
    [centroid, bandwidth, bin.unwrap_or(amplitudes.len() - 1) as f64 * step]
}
