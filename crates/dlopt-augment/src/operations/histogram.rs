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
    match &mut sample.data {
        Data::U8(values) => {
            let tables: Vec<_> = counts(values, channels, |x| x).iter().map(equal).collect();
            look_up(values, &tables);
        }
        Data::F32(values) => {
            let step = |x: f32| u8::of((x / white).clamp(0.0, 1.0) * 255.0);
            for (channel, counts) in counts(values, channels, step).iter().enumerate() {
                let table = equal(counts);
                // Where nothing moves, floats keep what lies between steps.
                if (0..256).all(|at| usize::from(table[at]) == at) {
                    continue;
                }
                let own = values.iter_mut().skip(channel).step_by(channels);
                own.for_each(|x| *x = f32::from(table[usize::from(step(*x))]) / 255.0 * white);
            }
        }
        Data::Tokens(_) => {}
    }
}

/// How often every byte comes, channel by channel.
fn counts<P: Copy>(values: &[P], channels: usize, byte: impl Fn(P) -> u8) -> Vec<[u32; 256]> {
    let mut counts = vec![[0; 256]; channels];
    for pixel in values.chunks_exact(channels) {
        for (counts, &x) in counts.iter_mut().zip(pixel) {
            counts[usize::from(byte(x))] += 1;
        }
    }
    counts
}

/// Every byte by the table of its channel.
fn look_up(values: &mut [u8], tables: &[[u8; 256]]) {
    match tables {
        [table] => values.iter_mut().for_each(|x| *x = table[usize::from(*x)]),
        [first, second, third] => {
            for [a, b, c] in values.as_chunks_mut().0 {
                [*a, *b, *c] = [first[usize::from(*a)], second[usize::from(*b)], third[usize::from(*c)]];
            }
        }
        tables => {
            for pixel in values.chunks_exact_mut(tables.len()) {
                pixel.iter_mut().zip(tables).for_each(|(x, table)| *x = table[usize::from(*x)]);
            }
        }
    }
}

/// The new value of each byte.
fn equal(counts: &[u32; 256]) -> [u8; 256] {
    let same = std::array::from_fn(|at| at as u8);
    let last = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    let step = (counts.iter().sum::<u32>() - counts[last]) / 255;
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
    match &mut sample.data {
        Data::U8(values) => {
            let (least, most) = (ends(values, channels, u8::min), ends(values, channels, u8::max));
            let tables: Vec<[u8; 256]> = least
                .iter()
                .zip(most)
                .map(|(&least, most)| match most - least {
                    0 => std::array::from_fn(|x| x as u8),
                    extent => {
                        std::array::from_fn(|x| u8::of((x as f32 - f32::from(least)) * (255.0 / f32::from(extent))))
                    }
                })
                .collect();
            look_up(values, &tables);
        }
        Data::F32(values) => {
            let (least, most) = (ends(values, channels, f32::min), ends(values, channels, f32::max));
            for (channel, (least, most)) in least.into_iter().zip(most).enumerate() {
                let factor = white / (most - least);
                if factor.is_finite() {
                    values.iter_mut().skip(channel).step_by(channels).for_each(|x| *x = (*x - least) * factor);
                }
            }
        }
        Data::Tokens(_) => {}
    }
}

/// The least or the greatest value of each channel, as `better` says.
fn ends<P: Copy>(values: &[P], channels: usize, better: impl Fn(P, P) -> P) -> Vec<P> {
    // Many pixels side by side, so that it runs in vectors.
    let wide = (16 * channels).min(values.len());
    let mut ends = values[..wide].to_vec();
    for pixels in values.chunks(wide.max(1)) {
        ends.iter_mut().zip(pixels).for_each(|(end, &x)| *end = better(*end, x));
    }
    let (mut first, rest) = (ends[..channels.min(wide)].to_vec(), ends);
    for pixel in rest.chunks_exact(channels) {
        first.iter_mut().zip(pixel).for_each(|(end, &x)| *end = better(*end, x));
    }
    first
}
