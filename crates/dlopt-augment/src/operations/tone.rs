//! What is done to every number of a picture by itself, on a scale from 0 (black) to 1 (white); the label stays.
//!
//! - `brightness`: `f x`
//! - `contrast`: `m + f (x - m)`, with `m` the mean of the picture in grey, rounded for bytes (as Pillow has it)
//! - `gamma`: `x^g`
//! - `invert`: `1 - x`
//! - `solarise`: `1 - x` where `x` is at least a threshold
//! - `posterise`: the upper bits of eight
//!
//! Bytes are rounded to nearest; all are held to 0..=1. Factors and thresholds as in Pillow and torchvision.

use serde::{Deserialize, Serialize};

use super::grey;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::pow;
use crate::range::Range;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// All of this file.
pub(super) const BRIGHTNESS: OperationKind = OperationKind::of::<Brightness>(
    "brightness",
    "factor",
    Kinds::IMAGES,
    "pictures brighter or darker by a factor (0.8..1.2; 0 is black)",
);
pub(super) const CONTRAST: OperationKind = OperationKind::of::<Contrast>(
    "contrast",
    "factor",
    Kinds::IMAGES,
    "distance from the mean grey by a factor (0.8..1.2; 0 is grey)",
);
pub(super) const GAMMA: OperationKind = OperationKind::of::<Gamma>(
    "gamma",
    "exponent",
    Kinds::IMAGES,
    "every number to the power of an exponent (0.8..1.25; above 1 is darker)",
);
pub(super) const INVERT: OperationKind = OperationKind::of::<Invert>(
    "invert",
    "",
    Kinds::IMAGES,
    "black for white, every other one unless p says otherwise",
)
.with_probability(0.5);
pub(super) const SOLARISE: OperationKind = OperationKind::of::<Solarise>(
    "solarise",
    "threshold",
    Kinds::IMAGES,
    "numbers from a threshold (0.5 of white) on inverted",
);
pub(super) const POSTERISE: OperationKind = OperationKind::of::<Posterise>(
    "posterise",
    "bits",
    Kinds::IMAGES,
    "fewer shades: the upper bits (4, of 8) of every number",
);

/// Applies a function of 0..=1 to every number of a picture: by a table for bytes.
pub(crate) fn each(sample: &mut Sample, function: impl Fn(f32) -> f32) {
    let Form::Image { white, .. } = sample.form else { return };
    match &mut sample.data {
        Data::U8(values) => {
            let mut table = [0_u8; 256];
            for (x, out) in table.iter_mut().enumerate() {
                *out = u8::of(function(x as f32 / 255.0) * 255.0);
            }
            values.iter_mut().for_each(|x| *x = table[usize::from(*x)]);
        }
        Data::F32(values) => values.iter_mut().for_each(|x| *x = function(*x / white).clamp(0.0, 1.0) * white),
        Data::Tokens(_) => {}
    }
}

/// Brightness by a factor.
pub(crate) fn brighten(sample: &mut Sample, factor: f32) {
    if factor != 1.0 {
        each(sample, |x| x * factor);
    }
}

/// Contrast by a factor.
pub(crate) fn contrast(sample: &mut Sample, factor: f32) {
    if factor == 1.0 {
        return;
    }
    let mean = grey::mean(sample) as f32;
    each(sample, |x| mean + factor * (x - mean));
}

/// Numbers from a threshold in 0..=1 on, inverted; above 1 none.
pub(crate) fn solarise(sample: &mut Sample, threshold: f32) {
    each(sample, |x| if x >= threshold { 1.0 - x } else { x });
}

/// The upper `bits` of eight.
pub(crate) fn posterise(sample: &mut Sample, bits: u32) {
    if bits >= 8 {
        return;
    }
    let mask = 255 << (8 - bits.max(1)) & 255;
    each(sample, |x| f32::from(u8::of(x * 255.0) & mask as u8) / 255.0);
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Brightness {
    /// Factor, 0..=10.
    factor: Range,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Contrast {
    /// Factor, 0..=10.
    factor: Range,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gamma {
    /// Exponent, 0.1..=10.
    exponent: Range,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invert {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Solarise {
    /// Smallest number that is inverted, 0..=1.
    threshold: Range,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Posterise {
    /// Bits that are kept, 1..=8.
    bits: u32,
}

impl Default for Brightness {
    fn default() -> Self {
        Self { factor: Range::new(0.8, 1.2) }
    }
}

impl Default for Contrast {
    fn default() -> Self {
        Self { factor: Range::new(0.8, 1.2) }
    }
}

impl Default for Gamma {
    fn default() -> Self {
        Self { exponent: Range::new(0.8, 1.25) }
    }
}

impl Default for Solarise {
    fn default() -> Self {
        Self { threshold: Range::only(0.5) }
    }
}

impl Default for Posterise {
    fn default() -> Self {
        Self { bits: 4 }
    }
}

impl Operation for Brightness {
    fn validate(&self) -> Result<(), String> {
        self.factor.within("factor", "", 0.0, 10.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let factor = draws.of(self.factor);
        scratch.note(|| format!("brightness {factor:.2}"));
        brighten(sample, factor);
    }
}

impl Operation for Contrast {
    fn validate(&self) -> Result<(), String> {
        self.factor.within("factor", "", 0.0, 10.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let factor = draws.of(self.factor);
        scratch.note(|| format!("contrast {factor:.2}"));
        contrast(sample, factor);
    }
}

impl Operation for Gamma {
    fn validate(&self) -> Result<(), String> {
        self.exponent.within("exponent", "", 0.1, 10.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let exponent = draws.of(self.exponent);
        scratch.note(|| format!("gamma {exponent:.2}"));
        if exponent != 1.0 {
            each(sample, |x| pow(f64::from(x), f64::from(exponent)) as f32);
        }
    }
}

impl Operation for Invert {
    fn apply(&self, sample: &mut Sample, _draws: &mut Draws, scratch: &mut Scratch) {
        scratch.note(|| "invert".to_owned());
        each(sample, |x| 1.0 - x);
    }
}

impl Operation for Solarise {
    fn validate(&self) -> Result<(), String> {
        self.threshold.within("threshold", "of white", 0.0, 1.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let threshold = draws.of(self.threshold);
        scratch.note(|| format!("solarise {threshold:.2}"));
        solarise(sample, threshold);
    }
}

impl Operation for Posterise {
    fn validate(&self) -> Result<(), String> {
        match self.bits {
            1..=8 => Ok(()),
            bits => Err(format!("bits is {bits}; wanted 1 to 8")),
        }
    }

    fn apply(&self, sample: &mut Sample, _draws: &mut Draws, scratch: &mut Scratch) {
        scratch.note(|| format!("posterise {}", self.bits));
        posterise(sample, self.bits);
    }
}
