//! Sharpening: `s + f (x - s)`, with `s` the picture smoothed by the kernel `[1 1 1; 1 5 1; 1 1 1] / 13`; the outermost
//! pixels stay. A factor above 1 sharpens, below 1 it blurs, 0 is `s`. Bytes: `s` and the result are rounded to nearest.
//! The label stays. Source: Pillow's `ImageEnhance.Sharpness`, which cuts fractions of the result off.

use dlopt_kernels::pixels::{sharpen_f32, sharpen_u8};
use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Data, Form, Sample, Scratch};

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
    if factor == 1.0 {
        return;
    }
    let shape = [height, width, channels];
    match &mut sample.data {
        Data::U8(pixels) => {
            scratch.bytes.clear();
            scratch.bytes.extend_from_slice(pixels);
            sharpen_u8(&scratch.bytes, pixels, shape, factor);
        }
        Data::F32(pixels) => {
            scratch.floats.clear();
            scratch.floats.extend_from_slice(pixels);
            sharpen_f32(&scratch.floats, pixels, shape, factor, white);
        }
        Data::Tokens(_) => {}
    }
}
