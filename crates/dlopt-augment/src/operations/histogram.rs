//! What depends on how often each value comes in a picture, each channel by itself; the label stays.
//!
//! - `equalise`: values moved so that all come about as often. Bytes as Pillow's `ImageOps.equalize` maps them:
//!   `(s / 2 + how many are below x) / s`, all divisions whole, with `s` a 255th of how many are not of the highest value
//!   (nothing moves when that is 0); floats are counted in 256 steps from black to white, and take the step's new value
//! - `autocontrast`: the least value becomes black and the highest white, `(x - min) / (max - min)`, as
//!   `ImageOps.autocontrast`; bytes are rounded to nearest where Pillow cuts fractions off
//!
//! A channel of one value stays as it is.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// All values about as often.
pub(super) const EQUALISE: OperationKind = OperationKind::of::<Equalise>(
    "equalise",
    "",
    Kinds::IMAGES,
    "values moved so that all come about as often, every other picture unless p says otherwise",
)
.with_probability(0.5);

/// From black to white.
pub(super) const AUTOCONTRAST: OperationKind = OperationKind::of::<Autocontrast>(
    "autocontrast",
    "",
    Kinds::IMAGES,
    "values stretched from black to white, every other picture unless p says otherwise",
)
.with_probability(0.5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Equalise {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Autocontrast {}

impl Operation for Equalise {
    fn apply(&self, sample: &mut Sample, _draws: &mut Draws, scratch: &mut Scratch) {
        scratch.note(|| "equalise".to_owned());
        equalise(sample);
    }
}

impl Operation for Autocontrast {
    fn apply(&self, sample: &mut Sample, _draws: &mut Draws, scratch: &mut Scratch) {
        scratch.note(|| "autocontrast".to_owned());
        autocontrast(sample);
    }
}

/// Moves values so that all come about as often.
pub(crate) fn equalise(sample: &mut Sample) {
    let Form::Image { channels, white, .. } = sample.form else { return };
    for channel in 0..channels {
        match &mut sample.data {
            Data::U8(values) => {
                let own = values.iter_mut().skip(channel).step_by(channels);
                let table = equal(own.map(|x| *x));
                values.iter_mut().skip(channel).step_by(channels).for_each(|x| *x = table[usize::from(*x)]);
            }
            Data::F32(values) => {
                let step = |x: f32| u8::of((x / white).clamp(0.0, 1.0) * 255.0);
                let own = values.iter().skip(channel).step_by(channels);
                let table = equal(own.map(|&x| step(x)));
                // Where nothing moves, floats keep what lies between steps.
                if (0..256).all(|at| usize::from(table[at]) == at) {
                    continue;
                }
                let own = values.iter_mut().skip(channel).step_by(channels);
                own.for_each(|x| *x = f32::from(table[usize::from(step(*x))]) / 255.0 * white);
            }
            Data::Tokens(_) => {}
        }
    }
}

/// The new value of each byte.
fn equal(values: impl Iterator<Item = u8>) -> [u8; 256] {
    let mut counts = [0_u64; 256];
    values.for_each(|x| counts[usize::from(x)] += 1);
    let same = std::array::from_fn(|at| at as u8);
    let last = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    let step = (counts.iter().sum::<u64>() - counts[last]) / 255;
    if step == 0 {
        return same;
    }
    let mut sum = step / 2;
    let mut table = same;
    for (out, count) in table.iter_mut().zip(counts) {
        *out = (sum / step).min(255) as u8;
        sum += count;
    }
    table
}

/// Stretches values from black to white.
pub(crate) fn autocontrast(sample: &mut Sample) {
    let Form::Image { channels, white, .. } = sample.form else { return };
    for channel in 0..channels {
        match &mut sample.data {
            Data::U8(values) => {
                let own = || values.iter().skip(channel).step_by(channels).copied();
                let (least, most) = (own().min().unwrap_or(0), own().max().unwrap_or(255));
                if least == most {
                    continue;
                }
                let factor = 255.0 / f32::from(most - least);
                let table: [u8; 256] = std::array::from_fn(|x| u8::of((x as f32 - f32::from(least)) * factor));
                values.iter_mut().skip(channel).step_by(channels).for_each(|x| *x = table[usize::from(*x)]);
            }
            Data::F32(values) => {
                let own = || values.iter().skip(channel).step_by(channels).copied();
                let (least, most) = (own().fold(f32::INFINITY, f32::min), own().fold(f32::NEG_INFINITY, f32::max));
                let factor = white / (most - least);
                if factor.is_finite() {
                    values.iter_mut().skip(channel).step_by(channels).for_each(|x| *x = (*x - least) * factor);
                }
            }
            Data::Tokens(_) => {}
        }
    }
}
