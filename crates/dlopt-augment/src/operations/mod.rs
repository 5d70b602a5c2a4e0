//! The operations, one file each, or one for a few that share their arithmetic.
//!
//! To add one: a file here with a type that holds its options and is an [`Operation`](crate::Operation), and its line in
//! [`OPERATIONS`].

mod affine;
mod crop;
mod flip;
mod grey;
mod noise;
mod rotate;
#[cfg(test)]
mod tests;
mod tone;

use crate::operation::OperationKind;

/// All operations.
pub const OPERATIONS: &[OperationKind] = &[
    rotate::KIND,
    affine::SCALE,
    affine::TRANSLATE,
    affine::SHEAR,
    affine::AFFINE,
    flip::HORIZONTAL,
    flip::VERTICAL,
    crop::CROP,
    crop::RESIZED,
    noise::KIND,
    tone::BRIGHTNESS,
    tone::CONTRAST,
    grey::SATURATION,
    tone::GAMMA,
    tone::INVERT,
    tone::SOLARISE,
    tone::POSTERISE,
    grey::GREY,
];
