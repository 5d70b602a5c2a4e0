//! Where the pixels of a picture come from: an affine map from places in the new picture to places in the old one, and
//! the resampling that carries it out.
//!
//! `x = a x' + b y' + c`, `y = d x' + e y' + f`, with pixels at whole numbers. Places are held in 1/65536 of a pixel,
//! weights of bytes in 1/2048; sums are rounded to nearest.

mod places;

use serde::{Deserialize, Serialize};

use crate::portable::sin_cos;
use crate::sample::{Data, Element, Form, Sample, Scratch};

pub(crate) use places::from_places;

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
        let Form::Image { height, width, channels, white } = sample.form else { return };
        if self.map == Affine::IDENTITY {
            return;
        }
        let shape = [height, width, channels];
        let how = self.resampling.unwrap_or(Resampling { filter: Filter::Nearest, fill: Fill::Edge, value: 0.0 });
        match &mut sample.data {
            Data::U8(pixels) => {
                border(pixels, shape, how.fill, u8::of(how.value * white), &mut scratch.bordered_bytes);
                resample(&scratch.bordered_bytes, pixels, shape, &self.map, how);
            }
            Data::F32(pixels) => {
                border(pixels, shape, how.fill, how.value * white, &mut scratch.bordered_floats);
                resample(&scratch.bordered_floats, pixels, shape, &self.map, how);
            }
            Data::Tokens(_) => {}
        }
    }
}

/// Bits behind the point of a place.
const PLACE: u32 = 16;
const ONE: i64 = 1 << PLACE;
/// Places further out than this are as far out as this.
const FAR: f64 = (1_i64 << 40) as f64;

/// A copy with one pixel more on the left and top, and two more on the right and bottom.
fn border<P: Element>(pixels: &[P], [height, width, channels]: [usize; 3], fill: Fill, value: P, out: &mut Vec<P>) {
    let row = width * channels;
    let stride = row + 3 * channels;
    out.clear();
    out.resize((height + 3) * stride, value);
    for (own, out) in pixels.chunks_exact(row).zip(out[stride..].chunks_exact_mut(stride)) {
        out[channels..][..row].copy_from_slice(own);
        if fill != Fill::Constant {
            // A mirrored place never lies outside: there the border has no weight.
            out[..channels].copy_from_slice(&own[..channels]);
            out[row + channels..][..channels].copy_from_slice(&own[row - channels..]);
            out[row + 2 * channels..][..channels].copy_from_slice(&own[row - channels..]);
        }
    }
    if fill != Fill::Constant {
        out.copy_within(stride..2 * stride, 0);
        out.copy_within(height * stride..(height + 1) * stride, (height + 1) * stride);
        out.copy_within(height * stride..(height + 1) * stride, (height + 2) * stride);
    }
}

/// A place along an axis of `extent` pixels, brought to where the bordered picture has pixels.
#[inline(always)]
fn held(place: i64, extent: usize, fill: Fill) -> i64 {
    let last = (extent as i64 - 1) << PLACE;
    match fill {
        Fill::Constant => place.clamp(-ONE, last + ONE),
        Fill::Edge => place.clamp(0, last),
        Fill::Reflect if (0..=last).contains(&place) => place,
        Fill::Reflect if last == 0 => 0,
        Fill::Reflect => {
            let within = place.rem_euclid(2 * last);
            within.min(2 * last - within)
        }
    }
}

fn resample<P: Blend>(bordered: &[P], out: &mut [P], shape: [usize; 3], map: &Affine, how: Resampling) {
    match (how.fill, shape[2]) {
        (Fill::Constant, 1) => rows::<P, 0, 1>(bordered, out, shape, map, how.filter),
        (Fill::Constant, 3) => rows::<P, 0, 3>(bordered, out, shape, map, how.filter),
        (Fill::Constant, _) => rows::<P, 0, 0>(bordered, out, shape, map, how.filter),
        (Fill::Edge, 1) => rows::<P, 1, 1>(bordered, out, shape, map, how.filter),
        (Fill::Edge, 3) => rows::<P, 1, 3>(bordered, out, shape, map, how.filter),
        (Fill::Edge, _) => rows::<P, 1, 0>(bordered, out, shape, map, how.filter),
        (Fill::Reflect, _) => rows::<P, 2, 0>(bordered, out, shape, map, how.filter),
    }
}

/// All rows; `CHANNELS` is 0 when it is not known before.
fn rows<P: Blend, const FILL: u8, const CHANNELS: usize>(
    bordered: &[P],
    out: &mut [P],
    [height, width, channels]: [usize; 3],
    map: &Affine,
    filter: Filter,
) {
    let fill = [Fill::Constant, Fill::Edge, Fill::Reflect][usize::from(FILL)];
    let channels = if CHANNELS == 0 { channels } else { CHANNELS };
    let stride = (width + 3) * channels;
    let [a, b, c, d, e, f] = map.0;
    let fixed = |place: f64| (place.clamp(-FAR, FAR) * ONE as f64).round() as i64;
    for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
        let (begin_x, begin_y) = (b * y as f64 + c, d_of(e, y, f));
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let x = x as f64;
            let (x, y) = (held(fixed(a * x + begin_x), width, fill), held(fixed(d * x + begin_y), height, fill));
            match filter {
                Filter::Bilinear => {
                    // The border is one pixel: places from -1 on are not negative in it.
                    let at = ((y + ONE) >> PLACE) as usize * stride + ((x + ONE) >> PLACE) as usize * channels;
                    let (part_x, part_y) = ((x & (ONE - 1)) as u32, (y & (ONE - 1)) as u32);
                    let (top, bottom) = (&bordered[at..][..2 * channels], &bordered[at + stride..][..2 * channels]);
                    for (channel, out) in pixel.iter_mut().enumerate() {
                        let four = [top[channel], top[channels + channel], bottom[channel], bottom[channels + channel]];
                        *out = P::blend(four, part_x, part_y);
                    }
                }
                Filter::Nearest => {
                    let (x, y) = ((x + ONE + ONE / 2) >> PLACE, (y + ONE + ONE / 2) >> PLACE);
                    pixel.copy_from_slice(&bordered[y as usize * stride + x as usize * channels..][..channels]);
                }
            }
        }
    }
}

fn d_of(e: f64, y: usize, f: f64) -> f64 {
    e * y as f64 + f
}

/// Elements that can be put together by weight.
trait Blend: Element {
    /// Of top left, top right, bottom left, bottom right; how far right and down, in 1/65536.
    fn blend(four: [Self; 4], right: u32, down: u32) -> Self;
}

impl Blend for u8 {
    #[inline(always)]
    fn blend(four: [Self; 4], right: u32, down: u32) -> Self {
        let (right, down) = (right >> 5, down >> 5);
        let [a, b, c, d] = four.map(u32::from);
        let top = a * (2048 - right) + b * right;
        let bottom = c * (2048 - right) + d * right;
        ((top * (2048 - down) + bottom * down + (1 << 21)) >> 22) as u8
    }
}

impl Blend for f32 {
    #[inline(always)]
    fn blend(four: [Self; 4], right: u32, down: u32) -> Self {
        let (right, down) = (right as f32 / ONE as f32, down as f32 / ONE as f32);
        let [a, b, c, d] = four;
        let (top, bottom) = (a + (b - a) * right, c + (d - c) * right);
        top + (bottom - top) * down
    }
}
