//! Pictures turned about their middle, counter-clockwise for positive angles: `x = cos(t) x' - sin(t) y'`,
//! `y = sin(t) x' + cos(t) y'` from the middle, y downwards. The label stays.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::geometry::{Affine, Fill, Filter, Geometry, Resampling};
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<Rotate>(
    "rotate",
    "degrees",
    Kinds::IMAGES,
    "pictures turned by degrees (±15): filter bilinear or nearest, fill constant (value 0 to 1), edge or reflect",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rotate {
    /// Angle in degrees, -360..=360; counter-clockwise.
    degrees: Range,
    /// How values between pixels are found.
    filter: Filter,
    /// What lies outside.
    fill: Fill,
    /// Of a constant fill, 0..=1 of white.
    value: f32,
}

impl Default for Rotate {
    fn default() -> Self {
        Self { degrees: Range::new(-15.0, 15.0), filter: Filter::Bilinear, fill: Fill::Constant, value: 0.0 }
    }
}

impl Rotate {
    fn resampling(&self) -> Resampling {
        Resampling { filter: self.filter, fill: self.fill, value: self.value }
    }
}

impl Operation for Rotate {
    fn validate(&self) -> Result<(), String> {
        self.degrees.within("degrees", "degrees", -360.0, 360.0)?;
        self.resampling().validate()
    }

    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn geometry(&self, form: &Form, draws: &mut Draws, scratch: &mut Scratch) -> Option<Geometry> {
        let &Form::Image { height, width, .. } = form else { return None };
        let degrees = draws.of(self.degrees);
        scratch.note(|| format!("rotate {degrees:.1}°"));
        Some(Geometry { map: Affine::rotation(f64::from(degrees), height, width), resampling: Some(self.resampling()) })
    }
}
