//! Pictures scaled, moved and slanted about their middle; the label stays.
//!
//! - `scale`: objects grow by the factor, `x = x' / s` from the middle
//! - `translate`: to the right and down by a share of width and height, `x = x' - t W`
//! - `shear`: horizontally by an angle, `x = x' + tan(a) y'`, and vertically
//! - `affine`: all of them and a rotation: slanted, scaled, turned and then moved, in the order of torchvision

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::geometry::{Affine, Fill, Filter, Geometry, Resampling};
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::sin_cos;
use crate::range::Range;
use crate::sample::{Form, Sample, Scratch};

/// Larger or smaller.
pub(super) const SCALE: OperationKind = OperationKind::of::<Scale>(
    "scale",
    "factor",
    Kinds::IMAGES,
    "pictures zoomed by a factor (0.8..1.25; above 1 things grow); filter and fill as rotate",
);

/// Moved.
pub(super) const TRANSLATE: OperationKind = OperationKind::of::<Translate>(
    "translate",
    "share",
    Kinds::IMAGES,
    "pictures moved each way by a share of their extents (±0.1); filter and fill as rotate",
);

/// Slanted.
pub(super) const SHEAR: OperationKind = OperationKind::of::<Shear>(
    "shear",
    "degrees",
    Kinds::IMAGES,
    "pictures slanted by degrees (±10), horizontally, and vertically by y; filter and fill as rotate",
);

/// All in one.
pub(super) const AFFINE: OperationKind = OperationKind::of::<All>(
    "affine",
    "degrees",
    Kinds::IMAGES,
    "rotation (degrees), shear, scale and translate in one; filter and fill as rotate",
);

/// Where a map comes from, for operations of this file.
macro_rules! resampling {
    ($name:ty) => {
        impl $name {
            fn resampling(&self) -> Resampling {
                Resampling { filter: self.filter, fill: self.fill, value: self.value }
            }
        }
    };
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Scale {
    /// How much larger things become, 0.01..=100.
    factor: Range,
    /// How values between pixels are found.
    filter: Filter,
    /// What lies outside.
    fill: Fill,
    /// Of a constant fill, 0..=1 of white.
    value: f32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Translate {
    /// Share of the width and of the height, -1..=1, drawn for each.
    share: Range,
    /// How values between pixels are found.
    filter: Filter,
    /// What lies outside.
    fill: Fill,
    /// Of a constant fill, 0..=1 of white.
    value: f32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Shear {
    /// Horizontal angle in degrees, -80..=80.
    degrees: Range,
    /// Vertical angle in degrees, -80..=80.
    y: Range,
    /// How values between pixels are found.
    filter: Filter,
    /// What lies outside.
    fill: Fill,
    /// Of a constant fill, 0..=1 of white.
    value: f32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct All {
    /// Angle in degrees, -360..=360; counter-clockwise.
    degrees: Range,
    /// How much larger things become, 0.01..=100.
    scale: Range,
    /// Share of the width and of the height, -1..=1, drawn for each.
    translate: Range,
    /// Horizontal slant in degrees, -80..=80.
    shear: Range,
    /// How values between pixels are found.
    filter: Filter,
    /// What lies outside.
    fill: Fill,
    /// Of a constant fill, 0..=1 of white.
    value: f32,
}

impl Default for Scale {
    fn default() -> Self {
        Self { factor: Range::new(0.8, 1.25), filter: Filter::default(), fill: Fill::default(), value: 0.0 }
    }
}

impl Default for Translate {
    fn default() -> Self {
        Self { share: Range::new(-0.1, 0.1), filter: Filter::default(), fill: Fill::default(), value: 0.0 }
    }
}

impl Default for Shear {
    fn default() -> Self {
        let (degrees, y) = (Range::new(-10.0, 10.0), Range::only(0.0));
        Self { degrees, y, filter: Filter::default(), fill: Fill::default(), value: 0.0 }
    }
}

impl Default for All {
    fn default() -> Self {
        Self {
            degrees: Range::new(-15.0, 15.0),
            scale: Range::new(0.9, 1.1),
            translate: Range::new(-0.1, 0.1),
            shear: Range::only(0.0),
            filter: Filter::default(),
            fill: Fill::default(),
            value: 0.0,
        }
    }
}

resampling!(Scale);
resampling!(Translate);
resampling!(Shear);
resampling!(All);

impl Operation for Scale {
    fn validate(&self) -> Result<(), String> {
        self.factor.within("factor", "", 0.01, 100.0)?;
        self.resampling().validate()
    }

    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn geometry(&self, form: &Form, draws: &mut Draws, scratch: &mut Scratch) -> Option<Geometry> {
        let factor = draws.of(self.factor);
        scratch.note(|| format!("scale {factor:.2}"));
        geometry(form, scaled(factor), [0.0; 2], self.resampling())
    }
}

impl Operation for Translate {
    fn validate(&self) -> Result<(), String> {
        self.share.within("share", "of the extent", -1.0, 1.0)?;
        self.resampling().validate()
    }

    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn geometry(&self, form: &Form, draws: &mut Draws, scratch: &mut Scratch) -> Option<Geometry> {
        let shift = [draws.of(self.share), draws.of(self.share)];
        scratch.note(|| format!("move {:+.2} {:+.2}", shift[0], shift[1]));
        geometry(form, scaled(1.0), shift, self.resampling())
    }
}

impl Operation for Shear {
    fn validate(&self) -> Result<(), String> {
        self.degrees.within("degrees", "degrees", -80.0, 80.0)?;
        self.y.within("y", "degrees", -80.0, 80.0)?;
        self.resampling().validate()
    }

    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn geometry(&self, form: &Form, draws: &mut Draws, scratch: &mut Scratch) -> Option<Geometry> {
        let (x, y) = (draws.of(self.degrees), draws.of(self.y));
        scratch.note(|| format!("shear {x:.1}° {y:.1}°"));
        // Slanted horizontally and then vertically, as torchvision does.
        let (x, y) = (tangent(x), tangent(y));
        geometry(form, [1.0 + x * y, x, y, 1.0], [0.0; 2], self.resampling())
    }
}

impl Operation for All {
    fn validate(&self) -> Result<(), String> {
        self.degrees.within("degrees", "degrees", -360.0, 360.0)?;
        self.scale.within("scale", "", 0.01, 100.0)?;
        self.translate.within("translate", "of the extent", -1.0, 1.0)?;
        self.shear.within("shear", "degrees", -80.0, 80.0)?;
        self.resampling().validate()
    }

    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn geometry(&self, form: &Form, draws: &mut Draws, scratch: &mut Scratch) -> Option<Geometry> {
        let &Form::Image { height, width, .. } = form else { return None };
        let (degrees, scale) = (draws.of(self.degrees), draws.of(self.scale));
        let shift = [draws.of(self.translate), draws.of(self.translate)];
        let shear = draws.of(self.shear);
        scratch.note(|| format!("affine {degrees:.1}° x{scale:.2} {:+.2} {:+.2} {shear:.1}°", shift[0], shift[1]));
        let about = |linear| Affine::about_middle(linear, [0.0; 2], height, width);
        let map = about([1.0, tangent(shear), 0.0, 1.0])
            .then(about(scaled(scale)))
            .then(Affine::rotation(f64::from(degrees), height, width))
            .then(moved(shift, height, width));
        Some(Geometry { map, resampling: Some(self.resampling()) })
    }
}

fn geometry(form: &Form, linear: [f64; 4], shift: [f32; 2], resampling: Resampling) -> Option<Geometry> {
    let &Form::Image { height, width, .. } = form else { return None };
    let map = Affine::about_middle(linear, [0.0; 2], height, width).then(moved(shift, height, width));
    Some(Geometry { map, resampling: Some(resampling) })
}

/// To the right and down by shares of the extents.
fn moved(shift: [f32; 2], height: usize, width: usize) -> Affine {
    let [x, y] = shift.map(f64::from);
    Affine::stretch([1.0, 1.0], [-x * width as f64, -y * height as f64])
}

fn scaled(factor: f32) -> [f64; 4] {
    let step = 1.0 / f64::from(factor);
    [step, 0.0, 0.0, step]
}

fn tangent(degrees: f32) -> f64 {
    let (sine, cosine) = sin_cos(f64::from(degrees));
    sine / cosine
}
