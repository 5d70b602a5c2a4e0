//! AugMix: `(1 - m) x + m (w_1 c_1(x) + ... + w_k c_k(x))`, with each chain `c` of one to `depth` operations on the picture,
//! weights `w` drawn alike among those whose sum is 1, and `m` drawn from 0 to 1. Operations: autocontrast, equalise,
//! posterise, solarise, rotate, shear and translate each way, with strengths drawn from 0.1 to `severity` of 10 as the
//! authors' code has them. The label stays. Source: Hendrycks et al. 2020 (arXiv 1912.02781), with their alpha 1; their
//! loss between several variants is the training's, not the data's.

use serde::{Deserialize, Serialize};

use super::histogram::{autocontrast, equalise};
use super::tone::{posterise, solarise};
use crate::draws::Draws;
use crate::geometry::{Affine, Fill, Filter, Geometry, Resampling};
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::ln;
use crate::range::Range;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<AugMix>(
    "augmix",
    "severity",
    Kinds::IMAGES,
    "a mean of the picture and width (3) chains of up to depth (3) operations of severity (3, of 10) on it",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AugMix {
    /// Largest strength, 0.1..=10.
    severity: f32,
    /// Chains, 1..=16.
    width: usize,
    /// Most operations of a chain, 1..=16.
    depth: usize,
}

impl Default for AugMix {
    fn default() -> Self {
        Self { severity: 3.0, width: 3, depth: 3 }
    }
}

impl Operation for AugMix {
    fn validate(&self) -> Result<(), String> {
        Range::only(self.severity).within("severity", "", 0.1, 10.0)?;
        for (name, count) in [("width", self.width), ("depth", self.depth)] {
            if !(1..=16).contains(&count) {
                return Err(format!("{name} is {count}; wanted 1 to 16"));
            }
        }
        Ok(())
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let part = draws.unit();
        // Exponential numbers over their sum: of Dirichlet's distribution with all alphas 1.
        let mut weights: Vec<f32> = (0..self.width).map(|_| -ln(f64::from(1.0 - draws.unit())) as f32).collect();
        let sum = weights.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        weights.iter_mut().for_each(|weight| *weight *= part / sum);
        scratch.note(|| format!("augmix {part:.2}"));
        let own = floats(&sample.data);
        let mut mixed: Vec<f32> = own.iter().map(|x| (1.0 - part) * x).collect();
        for weight in weights {
            let mut chained = sample.clone();
            for _ in 0..1 + draws.below(self.depth) {
                self.change(&mut chained, draws, scratch);
            }
            mixed.iter_mut().zip(floats(&chained.data)).for_each(|(sum, x)| *sum += weight * x);
        }
        match &mut sample.data {
            Data::U8(pixels) => pixels.iter_mut().zip(mixed).for_each(|(to, from)| *to = u8::of(from)),
            Data::F32(pixels) => pixels.copy_from_slice(&mixed),
            Data::Tokens(_) => {}
        }
    }
}

fn floats(data: &Data) -> Vec<f32> {
    match data {
        Data::U8(pixels) => pixels.iter().map(|&x| f32::from(x)).collect(),
        Data::F32(pixels) => pixels.clone(),
        Data::Tokens(_) => Vec::new(),
    }
}

impl AugMix {
    /// One operation, any.
    fn change(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let Form::Image { height, width, .. } = sample.form else { return };
        let which = draws.below(9);
        let level = 0.1 + (self.severity - 0.1) * draws.unit();
        let share = level / 10.0;
        let signed = f64::from(share * draws.sign());
        let third = |extent: usize| (signed * extent as f64 / 3.0).trunc();
        let about = |linear| Affine::about_middle(linear, [0.0; 2], height, width);
        let map = match which {
            0 => return autocontrast(sample),
            1 => return equalise(sample),
            2 => return posterise(sample, 4 - (4.0 * share) as u32),
            3 => return solarise(sample, (256.0 - (256.0 * share).trunc()) / 255.0),
            4 => Affine::rotation((30.0 * signed).trunc(), height, width),
            5 => about([1.0, 0.3 * signed, 0.0, 1.0]),
            6 => about([1.0, 0.0, 0.3 * signed, 1.0]),
            7 => Affine::stretch([1.0, 1.0], [third(width), 0.0]),
            _ => Affine::stretch([1.0, 1.0], [0.0, third(height)]),
        };
        let resampling = Resampling { filter: Filter::Bilinear, fill: Fill::Constant, value: 0.0 };
        Geometry { map, resampling: Some(resampling) }.carry_out(sample, scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Key;

    #[test]
    fn a_mean_stays_near_the_picture() {
        let pixels: Vec<u8> = (0..20 * 17 * 3).map(|at| (at * 31 % 256) as u8).collect();
        let form = Form::Image { height: 20, width: 17, channels: 3, white: 255.0 };
        let (mut changed, mut seen) = (0, std::collections::BTreeSet::new());
        for number in 0..50 {
            let mut sample = Sample { form, data: Data::U8(pixels.clone()), steps: 1 };
            let mut draws = Draws::new(Key { seed: 1, round: 0, sample: number }, 0);
            AugMix::default().apply(&mut sample, &mut draws, &mut Scratch::default());
            let Data::U8(own) = sample.data else { panic!() };
            changed += usize::from(own != pixels);
            seen.insert(own);
        }
        assert!(changed > 40 && seen.len() > 40, "{changed}");
        // Grey of one shade stays where nothing is moved in: only brightness may change.
        let mut flat = Sample { form, data: Data::F32(vec![0.5; 20 * 17 * 3]), steps: 1 };
        let mut draws = Draws::new(Key { seed: 1, round: 0, sample: 0 }, 0);
        AugMix { severity: 0.1, ..AugMix::default() }.apply(&mut flat, &mut draws, &mut Scratch::default());
        let Data::F32(own) = flat.data else { panic!() };
        assert!(own.iter().all(|x| (0.0..=127.6).contains(x)));
    }
}
