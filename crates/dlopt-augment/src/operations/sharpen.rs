//! Sharpening: `s + f (x - s)`, with `s` the picture smoothed by the kernel `[1 1 1; 1 5 1; 1 1 1] / 13`; the outermost
//! pixels stay. A factor above 1 sharpens, below 1 it blurs, 0 is `s`. Bytes: `s` and the result are rounded to nearest.
//! The label stays. Source: Pillow's `ImageEnhance.Sharpness`, which cuts fractions of the result off.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<Sharpen>(
    "sharpen",
    "factor",
    Kinds::IMAGES,
    "sharper (factor above 1; 1..2) or softer (below 1)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sharpen {
    /// Factor, 0..=10.
    factor: Range,
}

impl Default for Sharpen {
    fn default() -> Self {
        Self { factor: Range::new(1.0, 2.0) }
    }
}

impl Operation for Sharpen {
    fn validate(&self) -> Result<(), String> {
        self.factor.within("factor", "", 0.0, 10.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let factor = draws.of(self.factor);
        scratch.note(|| format!("sharpen {factor:.2}"));
        sharpen(sample, factor, scratch);
    }
}

/// Sharpens by a factor; 1 changes nothing.
pub(crate) fn sharpen(sample: &mut Sample, factor: f32, scratch: &mut Scratch) {
    let Form::Image { height, width, channels, white } = sample.form else { return };
    if factor == 1.0 || height < 3 || width < 3 {
        return;
    }
    let shape = [height, width, channels];
    match &mut sample.data {
        Data::U8(pixels) => {
            scratch.bytes.clear();
            scratch.bytes.extend_from_slice(pixels);
            inner(&scratch.bytes, pixels, shape, |sum| (sum + 0.5).floor(), |x, smooth| smooth + factor * (x - smooth));
        }
        Data::F32(pixels) => {
            scratch.floats.clear();
            scratch.floats.extend_from_slice(pixels);
            inner(
                &scratch.floats,
                pixels,
                shape,
                |sum| sum,
                |x, smooth| (smooth + factor * (x - smooth)).clamp(0.0, white),
            );
        }
        Data::Tokens(_) => {}
    }
}

fn inner<P: Element + Into<f32>>(
    own: &[P],
    out: &mut [P],
    [height, width, channels]: [usize; 3],
    rounded: impl Fn(f32) -> f32,
    blend: impl Fn(f32, f32) -> f32,
) {
    let row = width * channels;
    for y in 1..height - 1 {
        let rows = [y - 1, y, y + 1].map(|y| &own[y * row..][..row]);
        let out = &mut out[y * row..][..row];
        for at in channels..row - channels {
            let three = |row: &[P]| row[at - channels].into() + row[at].into() + row[at + channels].into();
            let x: f32 = rows[1][at].into();
            let sum = three(rows[0]) + three(rows[1]) + three(rows[2]) + 4.0 * x;
            out[at] = P::of(blend(x, rounded(sum / 13.0)));
        }
    }
}
