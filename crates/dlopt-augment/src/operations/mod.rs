//! The operations, one file each, or one for a few that share their arithmetic.
//!
//! To add one: a file here with a type that holds its options and is an [`Operation`](crate::Operation), and its line in
//! [`OPERATIONS`].

mod affine;
mod augmix;
mod blur;
mod crop;
mod cutmix;
mod cutout;
mod elastic;
mod filter;
mod flip;
#[cfg(test)]
mod golden;
mod grey;
mod grid_mask;
mod histogram;
mod hue;
mod jpeg;
mod mixup;
mod motion_blur;
mod noise;
mod perspective;
mod policy;
mod rand_augment;
mod rotate;
mod sharpen;
mod spots;
#[cfg(test)]
mod tests;
mod tone;
mod trivial_augment;

use crate::operation::OperationKind;
use crate::{series, tokens};

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
    perspective::KIND,
    elastic::KIND,
    noise::KIND,
    spots::SALT_AND_PEPPER,
    spots::SPECKLE,
    spots::POISSON,
    tone::BRIGHTNESS,
    tone::CONTRAST,
    grey::SATURATION,
    hue::KIND,
    tone::GAMMA,
    tone::INVERT,
    tone::SOLARISE,
    tone::POSTERISE,
    histogram::EQUALISE,
    histogram::AUTOCONTRAST,
    grey::GREY,
    blur::KIND,
    motion_blur::KIND,
    sharpen::KIND,
    jpeg::KIND,
    cutout::CUTOUT,
    cutout::ERASE,
    grid_mask::KIND,
    rand_augment::KIND,
    trivial_augment::KIND,
    augmix::KIND,
    mixup::KIND,
    cutmix::KIND,
    series::JITTER,
    series::SCALING,
    series::MAGNITUDE_WARP,
    series::TIME_WARP,
    series::WINDOW_SLICE,
    series::WINDOW_WARP,
    series::PERMUTATION,
    series::TIME_SHIFT,
    series::TIME_STRETCH,
    series::GAIN,
    series::BACKGROUND_NOISE,
    series::TIME_MASK,
    series::FREQUENCY_MASK,
    series::SPEC_AUGMENT,
    tokens::DELETION,
    tokens::SWAP,
    tokens::MASK,
    tokens::INSERTION,
    tokens::WORD_DROPOUT,
    tokens::SPAN_CROP,
];
