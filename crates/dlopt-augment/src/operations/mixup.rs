//! Mixup: `x = l a + (1 - l) b` of a sample `a` and another one `b`, element by element, with `l` of Beta(alpha, alpha).
//! The label becomes the same mixture: `l` of its own class, `1 - l` of the other's. Bytes are rounded to nearest.
//! Source: Zhang et al. 2018 (arXiv 1710.09412); alpha 0 is `l = 1`, as in their code.
//!
//! Of series, the steps of `a` count: a longer `b` is cut, a shorter one starts again, so that the shares are the same at
//! every step.

use serde::{Deserialize, Serialize};

use crate::beta::beta;
use crate::draws::Draws;
use crate::operation::{Kinds, Mixing, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<Mixup>(
    "mixup",
    "alpha",
    Kinds::NUMBERS,
    "a mean of two samples and of their labels, weighted by l of Beta(alpha, alpha) (0.2; Zhang et al. 2018)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mixup {
    /// Of the beta distribution, 0.001..=1000, or 0 for samples as they are; below 1 one of the two prevails.
    alpha: f32,
}

impl Default for Mixup {
    fn default() -> Self {
        Self { alpha: 0.2 }
    }
}

impl Operation for Mixup {
    fn validate(&self) -> Result<(), String> {
        alpha_within(self.alpha)
    }

    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn mixing(&self) -> Option<&dyn Mixing> {
        Some(self)
    }
}

impl Mixing for Mixup {
    fn mix(&self, sample: &mut Sample, other: &Sample, draws: &mut Draws, scratch: &mut Scratch) -> f32 {
        let kept = share(self.alpha, draws);
        scratch.note(|| format!("mixup {kept:.2}"));
        if kept < 1.0 {
            blend(sample, other, kept);
        }
        kept
    }
}

/// Refuses parameters of the distribution that are out of range.
pub(super) fn alpha_within(alpha: f32) -> Result<(), String> {
    if alpha == 0.0 { Ok(()) } else { Range::only(alpha).within("alpha", "(or 0: nothing is mixed)", 0.001, 1000.0) }
}

/// What a sample keeps of itself, in 0..=1.
pub(super) fn share(alpha: f32, draws: &mut Draws) -> f32 {
    if alpha == 0.0 { 1.0 } else { beta(f64::from(alpha), draws) as f32 }
}

fn blend(sample: &mut Sample, other: &Sample, kept: f32) {
    let [own, others] = [elements(sample), elements(other)];
    match (&mut sample.data, &other.data) {
        (Data::U8(to), Data::U8(from)) => blend_elements(&mut to[..own], &from[..others], kept),
        (Data::F32(to), Data::F32(from)) => blend_elements(&mut to[..own], &from[..others], kept),
        _ => {}
    }
}

/// Elements that count.
fn elements(sample: &Sample) -> usize {
    match sample.form {
        Form::Image { height, width, channels, .. } => height * width * channels,
        Form::Series { features, .. } => sample.steps * features,
        Form::Tokens { .. } => sample.steps,
        Form::Row { features } => features,
    }
}

fn blend_elements<P: Element + Into<f32>>(to: &mut [P], from: &[P], kept: f32) {
    for to in to.chunks_mut(from.len().max(1)) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = P::of(kept * (*to).into() + (1.0 - kept) * from.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: Vec<f32>) -> Sample {
        Sample { form: Form::Row { features: values.len() }, data: Data::F32(values), steps: 1 }
    }

    #[test]
    fn a_quarter_of_another_is_a_quarter() {
        let mut own = row(vec![1.0, 2.0, -3.0]);
        blend(&mut own, &row(vec![5.0, 2.0, 1.0]), 0.75);
        assert_eq!(own.data, Data::F32(vec![2.0, 2.0, -2.0]));
        let form = Form::Image { height: 1, width: 3, channels: 1, white: 255.0 };
        let bytes = |data| Sample { form, data: Data::U8(data), steps: 1 };
        let mut own = bytes(vec![0, 255, 10]);
        blend(&mut own, &bytes(vec![255, 255, 11]), 0.5);
        assert_eq!(own.data, Data::U8(vec![128, 255, 11]));
    }

    #[test]
    fn a_shorter_series_starts_again_and_a_longer_one_is_cut() {
        let form = Form::Series { time: 4, features: 1 };
        let series = |data: [f32; 4], steps| Sample { form, data: Data::F32(data.to_vec()), steps };
        let mut own = series([0.0, 0.0, 0.0, 9.0], 3);
        blend(&mut own, &series([2.0, 4.0, 8.0, 8.0], 2), 0.5);
        assert_eq!((own.data, own.steps), (Data::F32(vec![1.0, 2.0, 1.0, 9.0]), 3));
        let mut own = series([0.0; 4], 1);
        blend(&mut own, &series([2.0, 4.0, 8.0, 8.0], 4), 0.5);
        assert_eq!(own.data, Data::F32(vec![1.0, 0.0, 0.0, 0.0]));
    }
}
