//! What is done to samples on their way into a dataset, one file a step.
//!
//! Steps change each sample by itself, in the order somebody asks for them; a dataset and the checkpoints trained on it
//! keep them, so that a prediction takes the same ones. To add one: a file here with a type that holds its options and is
//! a [`Step`](crate::step::Step), and its line in [`STEPS`]. Splits and statistics look at all samples together and have
//! their own places: [`split`] and [`standardise`].

mod channels;
mod crop;
mod duration;
mod features;
pub(crate) mod grey;
mod log_mel;
mod mfcc;
mod mono;
mod multiply;
mod normalise;
mod picture;
mod resample;
pub(crate) mod resize;
pub(crate) mod split;
pub(crate) mod standardise;
mod tokenise;
mod trim;

pub(crate) use channels::with_channels;
pub use features::features_spec;

use crate::step::StepKind;

/// All steps.
pub const STEPS: &[StepKind] = &[
    StepKind::of::<multiply::Multiply>("multiply", "by", "every number by a factor; bytes stay bytes, at most 255"),
    StepKind::of::<resize::Resize>(
        "resize",
        "size",
        "pictures to HxW: bilinear, bicubic, lanczos, box, nearest; aspect=crop or pad keeps the ratio",
    ),
    StepKind::of::<crop::Crop>("crop", "size", "pictures to a size at an anchor, to a box, or to their content"),
    grey::GREY,
    grey::RGB,
    mono::KIND,
    resample::KIND,
    trim::KIND,
    duration::KIND,
    log_mel::KIND,
    mfcc::KIND,
    normalise::KIND,
    picture::KIND,
    tokenise::KIND,
    features::KIND,
];
