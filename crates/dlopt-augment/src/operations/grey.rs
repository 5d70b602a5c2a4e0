//! Pictures in grey, and nearer to grey or further from it; the label stays.
//!
//! Grey is `0.299 R + 0.587 G + 0.114 B` (ITU-R BT.601); for bytes `(19595 R + 38470 G + 7471 B + 32768) / 65536`, as
//! Pillow computes it. `saturation`: `grey + f (x - grey)`. Opacity stays as it is.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// In grey.
pub(super) const GREY: OperationKind = OperationKind::of::<Grey>(
    "grey",
    "",
    Kinds::IMAGES,
    "colour pictures in grey, one in ten unless p says otherwise; they keep their channels",
)
.with_probability(0.1);

/// Colours stronger or weaker.
pub(super) const SATURATION: OperationKind = OperationKind::of::<Saturation>(
    "saturation",
    "factor",
    Kinds::IMAGES,
    "colours stronger or weaker by a factor (0.8..1.2; 0 is grey)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grey {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Saturation {
    /// Factor, 0..=10.
    factor: Range,
}

impl Default for Saturation {
    fn default() -> Self {
        Self { factor: Range::new(0.8, 1.2) }
    }
}

impl Operation for Grey {
    fn check(&self, form: &Form) -> Result<(), String> {
        in_colour(form)
    }

    fn apply(&self, sample: &mut Sample, _draws: &mut Draws, scratch: &mut Scratch) {
        scratch.note(|| "grey".to_owned());
        saturate(sample, 0.0);
    }
}

impl Operation for Saturation {
    fn validate(&self) -> Result<(), String> {
        self.factor.within("factor", "", 0.0, 10.0)
    }

    fn check(&self, form: &Form) -> Result<(), String> {
        in_colour(form)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let factor = draws.of(self.factor);
        scratch.note(|| format!("saturation {factor:.2}"));
        saturate(sample, factor);
    }
}

/// Refuses pictures without colours.
pub(crate) fn in_colour(form: &Form) -> Result<(), String> {
    match form {
        Form::Image { channels: 3 | 4, .. } => Ok(()),
        other => Err(format!("the samples are {}; wanted red, green and blue", other.in_words())),
    }
}

/// Saturation by a factor; 0 is grey.
pub(crate) fn saturate(sample: &mut Sample, factor: f32) {
    let Form::Image { channels: channels @ (3 | 4), white, .. } = sample.form else { return };
    if factor == 1.0 {
        return;
    }
    match (&mut sample.data, channels) {
        (Data::U8(values), 3) => saturate_bytes::<3>(values, factor),
        (Data::U8(values), _) => saturate_bytes::<4>(values, factor),
        (Data::F32(values), _) => {
            for pixel in values.chunks_exact_mut(channels) {
                let grey = of_floats([pixel[0], pixel[1], pixel[2]]);
                pixel[..3].iter_mut().for_each(|x| *x = (grey + factor * (*x - grey)).clamp(0.0, white));
            }
        }
        (Data::Tokens(_), _) => {}
    }
}

fn saturate_bytes<const C: usize>(values: &mut [u8], factor: f32) {
    for pixel in values.as_chunks_mut::<C>().0 {
        let grey = f32::from(of_bytes([pixel[0], pixel[1], pixel[2]]));
        pixel[..3].iter_mut().for_each(|x| *x = u8::of(grey + factor * (f32::from(*x) - grey)));
    }
}

fn of_bytes([r, g, b]: [u8; 3]) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 32768) >> 16) as u8
}

fn of_floats([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// The mean of a picture in grey, 0..=1; for bytes a whole number of 255. Of other than three or four channels, the mean
/// of all.
pub(crate) fn mean(sample: &Sample) -> f64 {
    let Form::Image { channels, white, .. } = sample.form else { return 0.0 };
    let is_colour = matches!(channels, 3 | 4);
    match &sample.data {
        Data::U8(values) => {
            let sum: u64 = match is_colour {
                true if channels == 3 => values.as_chunks::<3>().0.iter().map(|&p| u64::from(of_bytes(p))).sum(),
                true => values.chunks_exact(channels).map(|p| u64::from(of_bytes([p[0], p[1], p[2]]))).sum(),
                false => values.iter().map(|&x| u64::from(x)).sum(),
            };
            let count = if is_colour { values.len() / channels } else { values.len() };
            (sum as f64 / count.max(1) as f64 + 0.5).floor() / 255.0
        }
        Data::F32(values) => {
            let sum: f64 = match is_colour {
                true => values.chunks_exact(channels).map(|p| f64::from(of_floats([p[0], p[1], p[2]]))).sum(),
                false => values.iter().map(|&x| f64::from(x)).sum(),
            };
            let count = if is_colour { values.len() / channels } else { values.len() };
            sum / count.max(1) as f64 / f64::from(white)
        }
        Data::Tokens(_) => 0.0,
    }
}
