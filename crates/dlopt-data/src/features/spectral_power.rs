//! Where the power of each feature of a series lies: the mean density of power in bands of equal width from 0 to half the
//! rate, as SciPy's `periodogram` (the whole series at once) or `welch` (the mean over halfway overlapping segments under
//! Hann's window) estimate it, the mean taken off first. Bin `k` of `n` is in band `k bands / n`, rounded down.

use dlopt_checkpoint::{Error, Result};
use realfft::RealFftPlanner;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::columns::columns;
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// The feature.
pub(super) const KIND: FeatureKind = FeatureKind::of::<SpectralPower>(
    "spectral-power",
    "bands",
    "series: power in bands of frequency, by periodogram or Welch's method (SciPy)",
);

/// Least density that has a logarithm.
const LEAST: f64 = 1e-20;

/// Where the power of series lies.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct SpectralPower(Options);

/// How power is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Method {
    /// Of the whole series at once.
    Periodogram,
    /// The mean over segments.
    Welch,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Bands.
    bands: usize,
    /// How power is estimated.
    method: Method,
    /// Steps of a segment of Welch's method; the whole series when it is shorter.
    segment: usize,
    /// Whether the natural logarithm is taken.
    log: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { bands: 8, method: Method::Welch, segment: 256, log: true }
    }
}

impl TryFrom<Options> for SpectralPower {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        if !(2..=1 << 24).contains(&options.segment) || !(1..=options.segment / 2 + 1).contains(&options.bands) {
            return Err("wanted a `segment` of 2 steps or more, and 1 to segment / 2 + 1 `bands`".to_owned());
        }
        Ok(Self(options))
    }
}

impl Feature for SpectralPower {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.0)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let Options { bands, method, segment, log } = self.0;
        let (columns, rate) = columns(raw, KIND.name)?;
        for column in columns {
            let densities = match method {
                Method::Periodogram => densities(&column, column.len(), false, rate),
                Method::Welch => densities(&column, segment.min(column.len()), true, rate),
            };
            let bins = densities.len();
            if bins < bands {
                return Err(Error::input(format!("a series of {} steps, too short for {bands} bands", column.len()))
                    .hint("fewer `bands`"));
            }
            let (mut sums, mut counts) = (vec![0.0; bands], vec![0.0; bands]);
            for (bin, density) in densities.into_iter().enumerate() {
                sums[bin * bands / bins] += density;
                counts[bin * bands / bins] += 1.0;
            }
            let value = |(sum, count): (f64, f64)| if log { (sum / count).max(LEAST).ln() } else { sum / count };
            out.extend(sums.into_iter().zip(counts).map(|pair| value(pair) as f32));
        }
        Ok(())
    }
}

/// One-sided densities of power, the mean over segments of this length, each half over the next.
fn densities(column: &[f64], segment: usize, is_hann: bool, rate: f64) -> Vec<f64> {
    let angle = 2.0 * std::f64::consts::PI / segment as f64;
    let hann = |at: usize| 0.5 - 0.5 * (angle * at as f64).cos();
    let window: Vec<f64> = (0..segment).map(|at| if is_hann && segment > 1 { hann(at) } else { 1.0 }).collect();
    let scale = 1.0 / (rate * window.iter().map(|w| w * w).sum::<f64>());
    let fft = RealFftPlanner::<f64>::new().plan_fft_forward(segment);
    let (mut frame, mut spectrum) = (fft.make_input_vec(), fft.make_output_vec());
    let mut sums = vec![0.0; spectrum.len()];
    let step = (segment - segment / 2).max(1);
    let mut segments = 0.0;
    for own in column.windows(segment).step_by(step) {
        let mean = own.iter().sum::<f64>() / segment as f64;
        frame.iter_mut().zip(own).zip(&window).for_each(|((to, x), w)| *to = (x - mean) * w);
        if fft.process(&mut frame, &mut spectrum).is_err() {
            unreachable!("buffers are as long as the transform wants them");
        }
        sums.iter_mut().zip(&spectrum).for_each(|(sum, x)| *sum += x.norm_sqr() * scale);
        segments += 1.0;
    }
    let last = if segment.is_multiple_of(2) { sums.len() - 1 } else { sums.len() };
    sums.iter_mut()
        .enumerate()
        .for_each(|(bin, sum)| *sum *= if bin == 0 || bin == last { 1.0 } else { 2.0 } / segments);
    sums
}
