//! Perspective: pictures as if seen from another side. Each corner moves inwards by up to half of `distortion` of the width
//! and of the height; the map that takes the picture's corners there is projective, `x = (a x' + b y' + c) / w`,
//! `y = (d x' + e y' + f) / w`, `w = g x' + h y' + 1` (Heckbert 1989, section 2.2.3). The label stays. Source: as
//! torchvision's RandomPerspective draws it.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::geometry::{Fill, Filter, Resampling, from_places};
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<Perspective>(
    "perspective",
    "distortion",
    Kinds::IMAGES,
    "corners moved inwards by up to half of distortion (0.3) of the extents; filter and fill as rotate",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Perspective {
    /// Share of the extents, 0..=0.9; two opposite corners may come as near as 1 - distortion.
    distortion: Range,
    /// How values between pixels are found.
    filter: Filter,
    /// What lies outside.
    fill: Fill,
    /// Of a constant fill, 0..=1 of white.
    value: f32,
}

impl Default for Perspective {
    fn default() -> Self {
        Self { distortion: Range::only(0.3), filter: Filter::default(), fill: Fill::default(), value: 0.0 }
    }
}

impl Operation for Perspective {
    fn validate(&self) -> Result<(), String> {
        self.distortion.within("distortion", "of the extents", 0.0, 0.9)?;
        Resampling { filter: self.filter, fill: self.fill, value: self.value }.validate()
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let Form::Image { height, width, .. } = sample.form else { return };
        let distortion = draws.of(self.distortion);
        scratch.note(|| format!("perspective {distortion:.2}"));
        if distortion == 0.0 || height < 2 || width < 2 {
            return;
        }
        let [x, y] = [(width - 1) as f64, (height - 1) as f64];
        let mut inwards = |extent: f64| f64::from(draws.unit() * distortion / 2.0) * extent;
        let mut corners = [[0.0; 2]; 4];
        for (corner, [right, bottom]) in corners.iter_mut().zip([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) {
            let moved = [inwards(x), inwards(y)];
            *corner = [right * x + (1.0 - 2.0 * right) * moved[0], bottom * y + (1.0 - 2.0 * bottom) * moved[1]];
        }
        let how = Resampling { filter: self.filter, fill: self.fill, value: self.value };
        carry_out(sample, scratch, how, &from_corners(corners, height, width));
    }
}

/// Resamples by a projective map.
pub(super) fn carry_out(sample: &mut Sample, scratch: &mut Scratch, how: Resampling, map: &[f64; 9]) {
    let &[a, b, c, d, e, f, g, h, i] = map;
    from_places(sample, scratch, how, |x, y| {
        let (x, y) = (x as f64, y as f64);
        // Beyond the horizon lies nothing: as far away as can be.
        let depth = g * x + h * y + i;
        let depth = if depth > 1e-9 { depth } else { 1e-9 };
        [(a * x + b * y + c) / depth, (d * x + e * y + f) / depth]
    });
}

/// The map from new places to old ones that takes these corners (top left, top right, bottom right, bottom left) to those
/// of a picture; its last number is 1 where it can be.
pub(super) fn from_corners(corners: [[f64; 2]; 4], height: usize, width: usize) -> [f64; 9] {
    // From the unit square to the corners.
    let [[x0, y0], [x1, y1], [x2, y2], [x3, y3]] = corners;
    let (dx1, dx2, dx3) = (x1 - x2, x3 - x2, x0 - x1 + x2 - x3);
    let (dy1, dy2, dy3) = (y1 - y2, y3 - y2, y0 - y1 + y2 - y3);
    let area = dx1 * dy2 - dx2 * dy1;
    let (g, h) = ((dx3 * dy2 - dx2 * dy3) / area, (dx1 * dy3 - dx3 * dy1) / area);
    let (a, b, c) = (x1 - x0 + g * x1, x3 - x0 + h * x3, x0);
    let (d, e, f) = (y1 - y0 + g * y1, y3 - y0 + h * y3, y0);
    // Its inverse, up to a factor, and from the unit square to the picture.
    let inverse = [
        e - f * h,
        c * h - b,
        b * f - c * e,
        f * g - d,
        a - c * g,
        c * d - a * f,
        d * h - e * g,
        b * g - a * h,
        a * e - b * d,
    ];
    let (right, bottom) = ((width - 1) as f64, (height - 1) as f64);
    let scale = [right, right, right, bottom, bottom, bottom, 1.0, 1.0, 1.0];
    let mut map = [0.0; 9];
    for (place, out) in map.iter_mut().enumerate() {
        *out = inverse[place] * scale[place] / inverse[8];
    }
    map
}
