//! Rectangles painted over; the label stays.
//!
//! `cutout`: squares about pixels that are drawn alike, cut at the edges (DeVries and Taylor, 2017, arXiv 1708.04552).
//! `erase`: a rectangle within the picture with a share of the area and a ratio (Zhong et al., 2017, arXiv 1708.04896).

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::{exp, ln};
use crate::range::Range;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// Squares.
pub(super) const CUTOUT: OperationKind = OperationKind::of::<Cutout>(
    "cutout",
    "size",
    Kinds::IMAGES,
    "count (1) squares of size (8) pixels painted over with value (0 to 1)",
);

/// A rectangle.
pub(super) const ERASE: OperationKind = OperationKind::of::<Erase>(
    "erase",
    "area",
    Kinds::IMAGES,
    "a rectangle of a share of the area (0.02..0.33) painted over, every other one unless p says otherwise",
)
.with_probability(0.5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Cutout {
    /// Side in pixels, 0..=4096.
    size: u32,
    /// How many, 1..=100.
    count: u32,
    /// What it is painted with, 0..=1 of white.
    value: f32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Erase {
    /// Share of the area, 0..=1.
    area: Range,
    /// Width to height, 0.01..=100; its logarithm is drawn alike.
    ratio: Range,
    /// What it is painted with, 0..=1 of white.
    value: f32,
}

impl Default for Cutout {
    fn default() -> Self {
        Self { size: 8, count: 1, value: 0.0 }
    }
}

impl Default for Erase {
    fn default() -> Self {
        Self { area: Range::new(0.02, 0.33), ratio: Range::new(0.3, 3.3), value: 0.0 }
    }
}

impl Operation for Cutout {
    fn validate(&self) -> Result<(), String> {
        if self.size > 4096 {
            return Err(format!("size is {}; wanted 0 to 4096 pixels", self.size));
        }
        if !(1..=100).contains(&self.count) {
            return Err(format!("count is {}; wanted 1 to 100", self.count));
        }
        Range::only(self.value).within("value", "of white", 0.0, 1.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let Form::Image { height, width, .. } = sample.form else { return };
        let size = self.size as usize;
        for _ in 0..self.count {
            let (x, y) = (draws.below(width), draws.below(height));
            scratch.note(|| format!("cutout {x} {y}"));
            let span = |at: usize, extent: usize| {
                let begin = at.saturating_sub(size / 2);
                begin..(at + size - size / 2).min(extent).max(begin)
            };
            paint(sample, span(y, height), span(x, width), self.value);
        }
    }
}

impl Operation for Erase {
    fn validate(&self) -> Result<(), String> {
        self.area.within("area", "of the picture", 0.0, 1.0)?;
        self.ratio.within("ratio", "", 0.01, 100.0)?;
        Range::only(self.value).within("value", "of white", 0.0, 1.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let Form::Image { height, width, .. } = sample.form else { return };
        let area = (height * width) as f64 * f64::from(draws.of(self.area));
        let logs = Range::new(ln(f64::from(self.ratio.low)) as f32, ln(f64::from(self.ratio.high)) as f32);
        let ratio = exp(f64::from(draws.of(logs)));
        let w = ((area * ratio).sqrt().round() as usize).min(width);
        let h = ((area / ratio).sqrt().round() as usize).min(height);
        let (x, y) = (draws.below(width - w + 1), draws.below(height - h + 1));
        scratch.note(|| format!("erase {w}x{h}"));
        paint(sample, y..y + h, x..x + w, self.value);
    }
}

/// Paints a rectangle; opacity stays as it is.
pub(crate) fn paint(sample: &mut Sample, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>, value: f32) {
    let Form::Image { width, channels, white, .. } = sample.form else { return };
    let painted = if matches!(channels, 2 | 4) { channels - 1 } else { channels };
    for row in rows {
        let own = (row * width + columns.start) * channels..(row * width + columns.end) * channels;
        match &mut sample.data {
            Data::U8(values) => values[own].chunks_exact_mut(channels).for_each(|pixel| {
                pixel[..painted].fill(u8::of(value * white));
            }),
            Data::F32(values) => values[own].chunks_exact_mut(channels).for_each(|pixel| {
                pixel[..painted].fill(value * white);
            }),
            Data::Tokens(_) => {}
        }
    }
}
