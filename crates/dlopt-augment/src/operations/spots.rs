//! Noise that is not Gaussian; the label stays.
//!
//! - `salt-and-pepper`: each pixel becomes white or black, all its channels, with a probability; `salt` of those white
//! - `speckle`: `x + sigma x z`, with `z` normal, anew for every number
//! - `poisson`: the noise of counting light, `P / n`, with `P` drawn from a Poisson distribution of mean `n x` (`x` from 0
//!   to 1, `n` the particles that are white)
//!
//! Bytes are rounded to nearest; all are held to black and white. Source: as scikit-image's `random_noise`; speckle and
//! shot noise also in ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261).

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::exp;
use crate::range::Range;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// White and black pixels.
pub(super) const SALT_AND_PEPPER: OperationKind = OperationKind::of::<SaltAndPepper>(
    "salt-and-pepper",
    "amount",
    Kinds::IMAGES,
    "a share amount (0.02) of the pixels white or black, salt (0.5) of them white",
);

/// Stronger where it is bright.
pub(super) const SPECKLE: OperationKind = OperationKind::of::<Speckle>(
    "speckle",
    "sigma",
    Kinds::IMAGES,
    "every number times a normal one of mean 1 and deviation sigma (0.1)",
);

/// Of counting light.
pub(super) const POISSON: OperationKind = OperationKind::of::<Poisson>(
    "poisson",
    "particles",
    Kinds::IMAGES,
    "the noise of counting light where white is so many particles (60..250; fewer is noisier)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SaltAndPepper {
    /// Share of the pixels, 0..=1.
    amount: Range,
    /// Share of those that become white, 0..=1.
    salt: f32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Speckle {
    /// Deviation, 0..=10.
    sigma: Range,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Poisson {
    /// Particles that are white, 1..=1000000.
    particles: Range,
}

impl Default for SaltAndPepper {
    fn default() -> Self {
        Self { amount: Range::only(0.02), salt: 0.5 }
    }
}

impl Default for Speckle {
    fn default() -> Self {
        Self { sigma: Range::only(0.1) }
    }
}

impl Default for Poisson {
    fn default() -> Self {
        Self { particles: Range::new(60.0, 250.0) }
    }
}

impl Operation for SaltAndPepper {
    fn validate(&self) -> Result<(), String> {
        self.amount.within("amount", "of the pixels", 0.0, 1.0)?;
        Range::only(self.salt).within("salt", "of those", 0.0, 1.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let Form::Image { channels, white, .. } = sample.form else { return };
        let amount = draws.of(self.amount);
        scratch.note(|| format!("salt-and-pepper {amount:.3}"));
        match &mut sample.data {
            Data::U8(pixels) => salt(pixels, channels, amount, self.salt, 255, draws),
            Data::F32(pixels) => salt(pixels, channels, amount, self.salt, white, draws),
            Data::Tokens(_) => {}
        }
    }
}

fn salt<P: Element>(pixels: &mut [P], channels: usize, amount: f32, salt: f32, white: P, draws: &mut Draws) {
    for pixel in pixels.chunks_exact_mut(channels) {
        let unit = draws.unit();
        if unit < amount {
            pixel.fill(if unit < amount * salt { white } else { P::default() });
        }
    }
}

impl Operation for Speckle {
    fn validate(&self) -> Result<(), String> {
        self.sigma.within("sigma", "", 0.0, 10.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let sigma = draws.of(self.sigma);
        scratch.note(|| format!("speckle {sigma:.3}"));
        if sigma > 0.0 {
            let noise = |draws: &mut Draws, noise: &mut [f32]| draws.normals(noise);
            each(sample, draws, &mut scratch.floats, noise, |x, z| x + sigma * x * z);
        }
    }
}

impl Operation for Poisson {
    fn validate(&self) -> Result<(), String> {
        self.particles.within("particles", "", 1.0, 1e6)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let particles = draws.of(self.particles);
        scratch.note(|| format!("poisson {particles:.0}"));
        let mut own = draws.part(0);
        let nothing = |_: &mut Draws, _: &mut [f32]| {};
        each(sample, draws, &mut scratch.floats, nothing, |x, _| {
            counted(f64::from(x.max(0.0)) * f64::from(particles), &mut own) / particles
        });
    }
}

/// Numbers that are drawn at once.
const RUN: usize = 640;

/// Changes every number, from black 0 to white 1, together with one that was drawn.
fn each(
    sample: &mut Sample,
    draws: &mut Draws,
    room: &mut Vec<f32>,
    draw: impl Fn(&mut Draws, &mut [f32]),
    mut change: impl FnMut(f32, f32) -> f32,
) {
    let Form::Image { white, .. } = sample.form else { return };
    room.clear();
    room.resize(RUN, 0.0);
    match &mut sample.data {
        Data::U8(values) => {
            for values in values.chunks_mut(RUN) {
                draw(draws, &mut room[..values.len()]);
                for (x, z) in values.iter_mut().zip(&*room) {
                    *x = u8::of(change(f32::from(*x) / 255.0, *z) * 255.0);
                }
            }
        }
        Data::F32(values) => {
            for values in values.chunks_mut(RUN) {
                draw(draws, &mut room[..values.len()]);
                for (x, z) in values.iter_mut().zip(&*room) {
                    *x = change(*x / white, *z).clamp(0.0, 1.0) * white;
                }
            }
        }
        Data::Tokens(_) => {}
    }
}

/// From this mean on, a Poisson count is drawn as a normal number, rounded: its skewness is below 0.16 there.
const MANY: f64 = 40.0;

/// A count of a Poisson distribution: by products of uniform numbers (Knuth), or nearly, when the mean is large.
fn counted(mean: f64, draws: &mut Draws) -> f32 {
    if mean >= MANY {
        return (mean + mean.sqrt() * f64::from(draws.normal()) + 0.5).floor().max(0.0) as f32;
    }
    let limit = exp(-mean);
    let (mut product, mut count) = (1.0, 0);
    loop {
        // From above 0 to 1.
        product *= ((draws.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        if product <= limit {
            return count as f32;
        }
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Key;

    #[test]
    fn counts_have_their_mean_and_variance() {
        let mut draws = Draws::new(Key { seed: 2, round: 0, sample: 0 }, 0);
        for mean in [0.0, 0.3, 4.0, 39.0, 41.0, 900.0] {
            let counts: Vec<f64> = (0..20_000).map(|_| f64::from(counted(mean, &mut draws))).collect();
            let own = counts.iter().sum::<f64>() / 20_000.0;
            let variance = counts.iter().map(|x| (x - own).powi(2)).sum::<f64>() / 20_000.0;
            // Five deviations of the mean, and of the variance of a nearly normal count.
            assert!((own - mean).abs() <= 5.0 * (mean / 20_000.0).sqrt() + 1e-12, "{mean}: {own}");
            assert!((variance - mean).abs() <= 0.06 * mean + 0.01, "{mean}: {variance}");
        }
    }

    fn grey(value: u8) -> Sample {
        let form = Form::Image { height: 100, width: 150, channels: 2, white: 255.0 };
        Sample { form, data: Data::U8(vec![value; 30_000]), steps: 1 }
    }

    fn after(operation: &dyn Operation, mut sample: Sample) -> Vec<u8> {
        let mut draws = Draws::new(Key { seed: 1, round: 2, sample: 3 }, 4);
        operation.apply(&mut sample, &mut draws, &mut Scratch::default());
        let Data::U8(values) = sample.data else { panic!() };
        values
    }

    #[test]
    fn shares_and_deviations_are_those_asked_for() {
        let salted = after(&SaltAndPepper { amount: Range::only(0.1), salt: 0.25 }, grey(100));
        let count = |value: u8| salted.chunks(2).filter(|pixel| **pixel == [value; 2]).count();
        // Five deviations of binomial counts of 15,000.
        assert!(count(255).abs_diff(375) < 96 && count(0).abs_diff(1125) < 162 && count(100) > 13_000);
        let deviation = |values: &[u8]| {
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64;
            (values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
        };
        let speckled = after(&Speckle { sigma: Range::only(0.1) }, grey(120));
        assert!((deviation(&speckled) - 12.0).abs() < 0.3);
        let counted = after(&Poisson { particles: Range::only(100.0) }, grey(51));
        // A mean of 20 counts: a deviation of its root, in hundredths of white.
        assert!((deviation(&counted) - 255.0 * 20.0_f64.sqrt() / 100.0).abs() < 0.3);
    }
}
