//! Where the pixels of a picture come from: an affine map from places in the new picture to places in the old one, and
//! the resampling that carries it out.
//!
//! `x = a x' + b y' + c`, `y = d x' + e y' + f`, with pixels at whole numbers. Places are held in 1/65536 of a pixel,
//! weights of bytes in 1/256; sums are rounded to nearest (see `dlopt_kernels::pixels`).

use dlopt_kernels::pixels::{self, Map, warp_f32, warp_u8};
use serde::{Deserialize, Serialize};

use crate::portable::sin_cos;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// How a value between pixels is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Of the four around it, by distance.
    #[default]
    Bilinear,
    /// The nearest.
    Nearest,
}

/// What lies outside of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// One value.
    #[default]
    Constant,
    /// The nearest pixel of the edge.
    Edge,
    /// The picture, mirrored at its outermost pixels, which come once.
    Reflect,
}

/// The options of geometric operations that say how a picture is resampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    /// Between pixels.
    pub filter: Filter,
    /// Outside.
    pub fill: Fill,
    /// The value of a constant fill, 0..=1 of white.
    pub value: f32,
}

impl Resampling {
    /// Refuses a value out of range.
    pub(crate) fn validate(&self) -> Result<(), String> {
        match (0.0..=1.0).contains(&self.value) {
            true => Ok(()),
            false => Err(format!("value is {}; wanted 0 to 1, black to white", self.value)),
        }
    }
}

/// An affine map from new to old places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine([f64; 6]);

impl Affine {
    pub(crate) const IDENTITY: Self = Self([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);

    /// The map with `[a, b, d, e]` about the middle of a picture, which goes to the middle moved by `shift` (x, y).
    pub(crate) fn about_middle(linear: [f64; 4], shift: [f64; 2], height: usize, width: usize) -> Self {
        let [a, b, d, e] = linear;
        let (x, y) = ((width as f64 - 1.0) / 2.0, (height as f64 - 1.0) / 2.0);
        let (u, v) = (x + shift[0], y + shift[1]);
        Self([a, b, x - (a * u + b * v), d, e, y - (d * u + e * v)])
    }

    /// Turned counter-clockwise by an angle in degrees.
    pub(crate) fn rotation(degrees: f64, height: usize, width: usize) -> Self {
        let (sine, cosine) = sin_cos(degrees);
        Self::about_middle([cosine, -sine, sine, cosine], [0.0; 2], height, width)
    }

    /// `x = step[0] x' + begin[0]`, `y = step[1] y' + begin[1]`.
    pub(crate) fn stretch(step: [f64; 2], begin: [f64; 2]) -> Self {
        Self([step[0], 0.0, begin[0], 0.0, step[1], begin[1]])
    }

    /// First `self`, then `next`: a place goes back through `next` and then through `self`.
    pub(crate) fn then(self, next: Self) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (self.0, next.0);
        Self([a * g + b * j, a * h + b * k, a * i + b * l + c, d * g + e * j, d * h + e * k, d * i + e * l + f])
    }
}

/// What a geometric operation does to a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Where pixels come from.
    pub map: Affine,
    /// How they are had; `None` when whole pixels move within the picture, so that it does not matter.
    pub resampling: Option<Resampling>,
}

impl Geometry {
    /// Both in one, when they resample in the same way.
    pub(crate) fn then(self, next: Self) -> Option<Self> {
        let resampling = match (self.resampling, next.resampling) {
            (Some(own), Some(other)) if own != other => return None,
            (own, other) => own.or(other),
        };
        Some(Self { map: self.map.then(next.map), resampling })
    }

    /// Moves the pixels of a picture.
    pub(crate) fn carry_out(&self, sample: &mut Sample, scratch: &mut Scratch) {
        if self.map == Affine::IDENTITY {
            return;
        }
        let usual = Resampling { filter: Filter::Nearest, fill: Fill::Edge, value: 0.0 };
        warp(sample, scratch, Map::Affine(self.map.0), self.resampling.unwrap_or(usual));
    }
}

/// Fills a picture with what lies at other places of it; `place` takes a pixel's x and y to where it comes from.
pub(crate) fn from_places(
    sample: &mut Sample,
    scratch: &mut Scratch,
    how: Resampling,
    place: impl Fn(usize, usize) -> [f64; 2],
) {
    let Form::Image { height, width, .. } = sample.form else { return };
    let mut places = std::mem::take(&mut scratch.places);
    places.resize(2 * height * width, 0.0);
    let (xs, ys) = places.split_at_mut(height * width);
    for (at, (to_x, to_y)) in xs.iter_mut().zip(&mut *ys).enumerate() {
        [*to_x, *to_y] = place(at % width, at / width);
    }
    warp(sample, scratch, Map::Places(xs, ys), how);
    scratch.places = places;
}

fn warp(sample: &mut Sample, scratch: &mut Scratch, map: Map<'_>, how: Resampling) {
    let Form::Image { height, width, channels, white } = sample.form else { return };
    let shape = [height, width, channels];
    let filter = match how.filter {
        Filter::Bilinear => pixels::Filter::Bilinear,
        Filter::Nearest => pixels::Filter::Nearest,
    };
    let value = how.value * white;
    match &mut sample.data {
        Data::U8(pixels) => warp_u8(pixels, shape, map, filter, how.fill.of(u8::of(value)), &mut scratch.warped_bytes),
        Data::F32(pixels) => warp_f32(pixels, shape, map, filter, how.fill.of(value), &mut scratch.warped_floats),
        Data::Tokens(_) => {}
    }
}

impl Fill {
    fn of<P>(self, value: P) -> pixels::Fill<P> {
        match self {
            Self::Constant => pixels::Fill::Constant(value),
            Self::Edge => pixels::Fill::Edge,
            Self::Reflect => pixels::Fill::Reflect,
        }
    }
}
