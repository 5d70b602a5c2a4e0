//! Pictures as features see them: planes of floats, and cells of a grid.

use std::ops::Range;

use dlopt_checkpoint::{Error, Result};

use crate::raw::{Image, Raw, Values, wrong};
use crate::steps::grey::{luma, luma_of_bytes};

/// One channel of a picture, or its luma.
pub(super) struct Plane {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Row by row; bytes run from 0 to 255.
    pub(super) values: Vec<f32>,
}

/// The picture that the feature `who` is taken of.
pub(super) fn picture<'a>(raw: &'a Raw, who: &str) -> Result<&'a Image> {
    match raw {
        Raw::Image(image) => Ok(image),
        other => Err(wrong(who, "pictures", other)),
    }
}

/// The value of white, by the kind of elements when nobody says.
pub(super) fn white(image: &Image, said: Option<f32>) -> f32 {
    said.unwrap_or(match image.pixels {
        Values::U8(_) => 255.0,
        Values::F32(_) => 1.0,
    })
}

/// The picture in grey: its luma (BT.601, as the step `grey` has it) when it has colours; alpha is left out.
pub(super) fn grey(image: &Image) -> Plane {
    let channels = image.channels;
    let values = match &image.pixels {
        Values::U8(pixels) if channels < 3 => pixels.iter().step_by(channels).map(|&x| f32::from(x)).collect(),
        Values::U8(pixels) => pixels.chunks_exact(channels).map(|rgb| f32::from(luma_of_bytes(rgb))).collect(),
        Values::F32(pixels) if channels < 3 => pixels.iter().step_by(channels).copied().collect(),
        Values::F32(pixels) => pixels.chunks_exact(channels).map(luma).collect(),
    };
    Plane { height: image.height, width: image.width, values }
}

/// The channels of a picture but its alpha, one plane each.
pub(super) fn channels(image: &Image) -> Vec<Plane> {
    let colours = if image.channels < 3 { 1 } else { 3 };
    let every = |channel: usize| match &image.pixels {
        Values::U8(pixels) => pixels.iter().skip(channel).step_by(image.channels).map(|&x| f32::from(x)).collect(),
        Values::F32(pixels) => pixels.iter().skip(channel).step_by(image.channels).copied().collect(),
    };
    (0..colours).map(|channel| Plane { height: image.height, width: image.width, values: every(channel) }).collect()
}

/// Rows and columns of the cells of a grid of `count` by `count`, row by row.
pub(super) fn cells(height: usize, width: usize, count: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let part = move |extent: usize, at: usize| extent * at / count..extent * (at + 1) / count;
    (0..count).flat_map(move |y| (0..count).map(move |x| (part(height, y), part(width, x))))
}

/// Checks that every cell of a grid of `count` by `count` has a pixel.
pub(super) fn check_grid(who: &str, height: usize, width: usize, count: usize) -> Result<()> {
    if count == 0 || count > height.min(width) {
        return Err(Error::usage(format!(
            "`{who}`: a grid of {count}x{count} cells over pictures of {height}x{width} pixels; wanted 1 to {}",
            height.min(width)
        )));
    }
    Ok(())
}
