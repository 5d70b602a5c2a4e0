//! Background noise at a signal-to-noise ratio: `x + g z`, with `z` a noise of its colour and `g` such that the mean square
//! of the series is `10^(snr / 10)` times that of what is added, over the steps that count; each feature has a noise of its
//! own, and all have one `g`. Silence stays silent. The label stays. Source: multi-style training, Lippmann et al. 1987;
//! white noise is flat, pink falls by 3 dB an octave (Kellet's filter, 1999), brown by 6 (a running sum with a leak).

use serde::{Deserialize, Serialize};

use super::change;
use super::gain::amplitude;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<BackgroundNoise>(
    "background-noise",
    "snr",
    Kinds::SERIES,
    "noise, white, pink or brown (colour), at a signal-to-noise ratio snr in dB (10..30)",
);

/// How loud its frequencies are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Colour {
    /// All alike.
    White,
    /// Down by 3 dB an octave.
    Pink,
    /// Down by 6 dB an octave.
    Brown,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BackgroundNoise {
    /// Signal-to-noise ratio in dB, -60..=120.
    snr: Range,
    /// How loud its frequencies are.
    colour: Colour,
}

impl Default for BackgroundNoise {
    fn default() -> Self {
        Self { snr: Range::new(10.0, 30.0), colour: Colour::White }
    }
}

impl Operation for BackgroundNoise {
    fn validate(&self) -> Result<(), String> {
        self.snr.within("snr", "dB", -60.0, 120.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let snr = draws.of(self.snr);
        scratch.note(|| format!("background-noise {snr:.1} dB"));
        let mut noise = std::mem::take(&mut scratch.floats);
        change(sample, scratch, |steps| {
            noise.clear();
            noise.resize(steps.values.len(), 0.0);
            draws.normals(&mut noise);
            for feature in 0..steps.features {
                paint(&mut noise, steps.features, feature, self.colour);
            }
            mix(steps.values, &noise, f64::from(snr));
        });
        scratch.floats = noise;
    }
}

/// Gives white noise a colour.
fn paint(noise: &mut [f32], features: usize, feature: usize, colour: Colour) {
    let mut held = [0.0_f64; 3];
    for z in noise.iter_mut().skip(feature).step_by(features) {
        let white = f64::from(*z);
        *z = match colour {
            Colour::White => white,
            Colour::Pink => {
                held[0] = 0.997_65 * held[0] + 0.099_046 * white;
                held[1] = 0.963 * held[1] + 0.296_516_4 * white;
                held[2] = 0.57 * held[2] + 1.052_691_3 * white;
                held[0] + held[1] + held[2] + 0.184_8 * white
            }
            Colour::Brown => {
                held[0] = 0.998 * held[0] + white;
                held[0]
            }
        } as f32;
    }
}

/// Adds noise at a ratio in dB.
pub(super) fn mix(values: &mut [f32], noise: &[f32], snr: f64) {
    let power = |values: &[f32]| values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    let (signal, own) = (power(values), power(noise));
    if signal > 0.0 && own > 0.0 {
        let gain = (signal / own).sqrt() / amplitude(snr);
        values.iter_mut().zip(noise).for_each(|(x, &z)| *x = (f64::from(*x) + f64::from(z) * gain) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_fall_as_they_should() {
        // Power of neighbours' differences against that of the noise: white 2, the others far less.
        let ratio = |colour| {
            let mut noise = vec![0.0; 40_000];
            Draws::new(crate::draws::Key { seed: 1, round: 0, sample: 0 }, 0).normals(&mut noise);
            paint(&mut noise, 2, 0, colour);
            let own: Vec<f64> = noise.iter().step_by(2).map(|&x| f64::from(x)).collect();
            let steps: f64 = own.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum();
            steps / own.iter().map(|x| x * x).sum::<f64>()
        };
        let [white, pink, brown] = [Colour::White, Colour::Pink, Colour::Brown].map(ratio);
        assert!((white - 2.0).abs() < 0.1, "{white}");
        assert!((0.1..0.8).contains(&pink), "{pink}");
        assert!(brown < 0.02, "{brown}");
    }

    #[test]
    fn silence_stays_silent() {
        let mut values = [0.0; 4];
        mix(&mut values, &[1.0, 2.0, 3.0, 4.0], 10.0);
        assert_eq!(values, [0.0; 4]);
    }
}
