//! Gaussian blur: each pixel becomes the mean of those around it with weights `exp(-(dx^2 + dy^2) / (2 sigma^2))`, up to
//! `ceil(3 sigma)` pixels away; beyond the edge, the picture mirrored. The label stays. Source: as OpenCV and torchvision
//! compute it with a kernel of `2 ceil(3 sigma) + 1` pixels.

use serde::{Deserialize, Serialize};

use super::filter::separable;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::exp;
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<Blur>(
    "blur",
    "sigma",
    Kinds::IMAGES,
    "gaussian blur with a deviation sigma in pixels (0.1..1.5)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Blur {
    /// Deviation in pixels, 0..=100.
    sigma: Range,
}

impl Default for Blur {
    fn default() -> Self {
        Self { sigma: Range::new(0.1, 1.5) }
    }
}

impl Operation for Blur {
    fn validate(&self) -> Result<(), String> {
        self.sigma.within("sigma", "pixels", 0.0, 100.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let sigma = draws.of(self.sigma);
        scratch.note(|| format!("blur {sigma:.2}"));
        blur(sample, sigma, scratch);
    }
}

/// Blurs by a deviation in pixels.
pub(crate) fn blur(sample: &mut Sample, sigma: f32, scratch: &mut Scratch) {
    if sigma > 0.0 {
        separable(sample, &gaussian(f64::from(sigma)), scratch);
    }
}

/// The weights of one axis; their sum is 1.
pub(super) fn gaussian(sigma: f64) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil() as i32;
    let weights = (-radius..=radius).map(|step| exp(-f64::from(step * step) / (2.0 * sigma * sigma)));
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / sum) as f32).collect()
}
