//! Pictures mirrored: left to right, or top to bottom, every other one unless `p` says otherwise. The label stays;
//! whether a mirrored picture still shows what it says (a digit, a letter) is for whoever asks for it to know.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::geometry::{Affine, Geometry};
use crate::operation::{Kinds, Operation, OperationKind};
use crate::sample::{Form, Sample, Scratch};

/// Left to right.
pub(super) const HORIZONTAL: OperationKind = OperationKind::of::<Horizontal>(
    "horizontal-flip",
    "",
    Kinds::IMAGES,
    "pictures mirrored left to right, every other one unless p says otherwise",
)
.with_probability(0.5);

/// Top to bottom.
pub(super) const VERTICAL: OperationKind = OperationKind::of::<Vertical>(
    "vertical-flip",
    "",
    Kinds::IMAGES,
    "pictures mirrored top to bottom, every other one unless p says otherwise",
)
.with_probability(0.5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Horizontal {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vertical {}

impl Operation for Horizontal {
    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn geometry(&self, form: &Form, _draws: &mut Draws, scratch: &mut Scratch) -> Option<Geometry> {
        mirrored(form, [-1.0, 0.0, 0.0, 1.0], scratch, "mirrored left to right")
    }
}

impl Operation for Vertical {
    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn geometry(&self, form: &Form, _draws: &mut Draws, scratch: &mut Scratch) -> Option<Geometry> {
        mirrored(form, [1.0, 0.0, 0.0, -1.0], scratch, "mirrored top to bottom")
    }
}

fn mirrored(form: &Form, linear: [f64; 4], scratch: &mut Scratch, note: &str) -> Option<Geometry> {
    let &Form::Image { height, width, .. } = form else { return None };
    scratch.note(|| note.to_owned());
    Some(Geometry { map: Affine::about_middle(linear, [0.0; 2], height, width), resampling: None })
}
