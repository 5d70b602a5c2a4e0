//! Pictures cut to a part at a random place, and brought back to their extents. The label stays.
//!
//! `crop`: a border is put around the picture, and a window of its own size is cut out, whole pixels from where it was
//! (Krizhevsky, 2009; He et al., 2015, arXiv 1512.03385, section 4.2). `random-resized-crop`: a window with a share of the
//! area and a ratio of width to height is stretched to the picture, `x = (x' + 1/2) w / W - 1/2 + left` (Szegedy et al.,
//! 2014, arXiv 1409.4842); the logarithm of the ratio is drawn alike. At its rim, half a pixel of what lies beyond the window
//! is looked at, where torchvision repeats the rim. A window that does not fit is drawn again, ten
//! times; then it is the largest with the nearest ratio.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::geometry::{Affine, Fill, Filter, Geometry, Resampling};
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::{exp, ln};
use crate::range::Range;
use crate::sample::{Form, Sample, Scratch};

/// A window of whole pixels.
pub(super) const CROP: OperationKind = OperationKind::of::<Crop>(
    "crop",
    "padding",
    Kinds::IMAGES,
    "pictures moved by up to padding (4) pixels each way, what is behind the border by fill",
);

/// A window that is stretched.
pub(super) const RESIZED: OperationKind = OperationKind::of::<Resized>(
    "random-resized-crop",
    "area",
    Kinds::IMAGES,
    "a window of a share of the area (0.08..1) and a ratio (0.75..1.3333), stretched to the picture",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Crop {
    /// Pixels of the border, 0..=4096.
    padding: u32,
    /// What the border holds.
    fill: Fill,
    /// Of a constant fill, 0..=1 of white.
    value: f32,
}

impl Default for Crop {
    fn default() -> Self {
        Self { padding: 4, fill: Fill::Constant, value: 0.0 }
    }
}

impl Crop {
    fn resampling(&self) -> Resampling {
        Resampling { filter: Filter::Bilinear, fill: self.fill, value: self.value }
    }
}

impl Operation for Crop {
    fn validate(&self) -> Result<(), String> {
        if self.padding > 4096 {
            return Err(format!("padding is {}; wanted 0 to 4096 pixels", self.padding));
        }
        self.resampling().validate()
    }

    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn geometry(&self, form: &Form, draws: &mut Draws, scratch: &mut Scratch) -> Option<Geometry> {
        let &Form::Image { height, width, .. } = form else { return None };
        let most = f64::from(self.padding);
        let mut shift = || draws.below(2 * self.padding as usize + 1) as f64 - most;
        let shift = [shift(), shift()];
        scratch.note(|| format!("crop {:+} {:+}", shift[0], shift[1]));
        let map = Affine::about_middle([1.0, 0.0, 0.0, 1.0], shift, height, width);
        Some(Geometry { map, resampling: Some(self.resampling()) })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Resized {
    /// Share of the area, 0.0001..=1.
    area: Range,
    /// Width to height, 0.01..=100.
    ratio: Range,
    /// How values between pixels are found.
    filter: Filter,
}

impl Default for Resized {
    fn default() -> Self {
        Self { area: Range::new(0.08, 1.0), ratio: Range::new(0.75, 4.0 / 3.0), filter: Filter::Bilinear }
    }
}

impl Operation for Resized {
    fn validate(&self) -> Result<(), String> {
        self.area.within("area", "of the picture", 0.0001, 1.0)?;
        self.ratio.within("ratio", "", 0.01, 100.0)
    }

    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn geometry(&self, form: &Form, draws: &mut Draws, scratch: &mut Scratch) -> Option<Geometry> {
        let &Form::Image { height, width, .. } = form else { return None };
        let ([h, w], [top, left]) = self.window(height, width, draws);
        scratch.note(|| format!("crop {w}x{h} at {left} {top}"));
        let map = stretched([h, w].map(|x| x as f64), [top, left].map(|x| x as f64), height, width);
        // Places beyond the edge are at most half a pixel beyond it.
        let own = Resampling { filter: self.filter, fill: Fill::Edge, value: 0.0 };
        Some(Geometry { map, resampling: Some(own) })
    }
}

/// A window of `[height, width]` at `[top, left]`, stretched to a picture.
pub(super) fn stretched([h, w]: [f64; 2], [top, left]: [f64; 2], height: usize, width: usize) -> Affine {
    let step = [w / width as f64, h / height as f64];
    Affine::stretch(step, [left + step[0] / 2.0 - 0.5, top + step[1] / 2.0 - 0.5])
}

impl Resized {
    /// Extents and place of the window, in whole pixels.
    fn window(&self, height: usize, width: usize, draws: &mut Draws) -> ([usize; 2], [usize; 2]) {
        let all = (height * width) as f64;
        let logs = Range::new(ln(f64::from(self.ratio.low)) as f32, ln(f64::from(self.ratio.high)) as f32);
        for _ in 0..10 {
            let area = all * f64::from(draws.of(self.area));
            let ratio = exp(f64::from(draws.of(logs)));
            let (w, h) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                return ([h, w], [draws.below(height - h + 1), draws.below(width - w + 1)]);
            }
        }
        let own = width as f64 / height as f64;
        let ratio = own.clamp(f64::from(self.ratio.low), f64::from(self.ratio.high));
        let (w, h) = match own > ratio {
            true => ((height as f64 * ratio).round() as usize, height),
            false => (width, (width as f64 / ratio).round() as usize),
        };
        let (w, h) = (w.clamp(1, width), h.clamp(1, height));
        ([h, w], [(height - h) / 2, (width - w) / 2])
    }
}
