//! Motion blur: each pixel becomes the mean of the picture along a straight line through it, `length` pixels long, in a
//! direction; `ceil(length)` places of the line count, on straight lines between pixels; beyond the edge, the picture
//! mirrored. The label stays. Source: the camera shake of ImageNet-C, Hendrycks and Dietterich 2019 (arXiv 1903.12261),
//! without its fading tail.

use serde::{Deserialize, Serialize};

use super::filter::sparse;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::sin_cos;
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<MotionBlur>(
    "motion-blur",
    "length",
    Kinds::IMAGES,
    "smeared along a line of length pixels (2..5) in a direction of degrees (0..180)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MotionBlur {
    /// Length of the line in pixels, 1..=200.
    length: Range,
    /// Direction, -360..=360, counter-clockwise from the right.
    degrees: Range,
}

impl Default for MotionBlur {
    fn default() -> Self {
        Self { length: Range::new(2.0, 5.0), degrees: Range::new(0.0, 180.0) }
    }
}

impl Operation for MotionBlur {
    fn validate(&self) -> Result<(), String> {
        self.length.within("length", "pixels", 1.0, 200.0)?;
        self.degrees.within("degrees", "degrees", -360.0, 360.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let (length, degrees) = (draws.of(self.length), draws.of(self.degrees));
        scratch.note(|| format!("motion-blur {length:.1} {degrees:.0}°"));
        if length > 1.0 {
            sparse(sample, &line(f64::from(length), f64::from(degrees)), scratch);
        }
    }
}

/// The weights of the pixels around a line.
fn line(length: f64, degrees: f64) -> Vec<([isize; 2], f32)> {
    let (sine, cosine) = sin_cos(degrees);
    let count = length.ceil() as usize;
    let mut weights: Vec<([isize; 2], f64)> = Vec::with_capacity(4 * count);
    for step in 0..count {
        let along = ((step as f64 + 0.5) / count as f64 - 0.5) * length;
        let (x, y) = (along * cosine, -along * sine);
        let (left, top) = (x.floor(), y.floor());
        let (right, down) = (x - left, y - top);
        let parts = [(1.0 - right) * (1.0 - down), right * (1.0 - down), (1.0 - right) * down, right * down];
        for (place, part) in parts.into_iter().enumerate().filter(|(_, part)| *part > 0.0) {
            let at = [left as isize + (place % 2) as isize, top as isize + (place / 2) as isize];
            match weights.iter_mut().find(|(own, _)| *own == at) {
                Some((_, weight)) => *weight += part / count as f64,
                None => weights.push((at, part / count as f64)),
            }
        }
    }
    weights.into_iter().map(|(at, weight)| (at, weight as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one() {
        for (length, degrees) in [(1.0, 13.0), (2.5, 0.0), (7.3, 45.0), (5.0, 90.0), (33.0, -121.0)] {
            let sum: f32 = line(length, degrees).iter().map(|(_, weight)| weight).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{length} {degrees}");
        }
        let across = line(3.0, 0.0);
        assert_eq!(across.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [[-1, 0], [0, 0], [1, 0]]);
    }
}
