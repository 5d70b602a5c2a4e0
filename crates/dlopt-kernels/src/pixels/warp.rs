//! Pictures resampled: every pixel is taken from a place in the picture, of the four pixels around it or the nearest.
//!
//! Places are held in fixed point, with 16 bits behind the point up to extents of 8192 and fewer above; weights of bytes are
//! in 1/256, those of floats in as many parts as places. A value is `t + (b - t) d`, with `t` and `b` found likewise of the
//! pairs above and below.
//!
//! A run of pixels goes through three loops: places to offsets and weights, the four pixels copied side by side, and the
//! blend. The first and the last are alike in every lane, so they become vectors; the second is loads and stores.

mod blend;
#[cfg(test)]
mod tests;

use super::border::border;
use blend::Blend;

/// How a value between pixels is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Of the four around it, by distance.
    Bilinear,
    /// The nearest.
    Nearest,
}

/// What lies outside of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill<P> {
    /// One value.
    Constant(P),
    /// The nearest pixel of the edge.
    Edge,
    /// The picture, mirrored at its outermost pixels, which come once.
    Reflect,
}

/// Where pixels are taken from; pixels of a picture are at whole numbers.
#[derive(Clone, Copy, Debug)]
pub enum Map<'a> {
    /// The pixel at `x`, `y` from `[0] x + [1] y + [2]`, `[3] x + [4] y + [5]`.
    Affine([f64; 6]),
    /// The `x` and the `y` of every pixel, line by line.
    Places(&'a [f64], &'a [f64]),
}

/// Room that is used again for every picture.
#[derive(Clone, Debug)]
pub struct Room<P> {
    bordered: Vec<P>,
    quads: Vec<[P; 4]>,
}

impl<P> Default for Room<P> {
    fn default() -> Self {
        Self { bordered: Vec::new(), quads: Vec::new() }
    }
}

/// Resamples a picture `[y, x, channel]` of bytes.
pub fn warp_u8(
    pixels: &mut [u8],
    shape: [usize; 3],
    map: Map<'_>,
    filter: Filter,
    fill: Fill<u8>,
    room: &mut Room<u8>,
) {
    check(pixels.len(), shape, map);
    dispatch!(bytes(
        pixels: &mut [u8], shape: [usize; 3], map: Map<'_>, filter: Filter, fill: Fill<u8>, room: &mut Room<u8>
    ));
}

/// Resamples a picture `[y, x, channel]` of floats.
pub fn warp_f32(
    pixels: &mut [f32],
    shape: [usize; 3],
    map: Map<'_>,
    filter: Filter,
    fill: Fill<f32>,
    room: &mut Room<f32>,
) {
    check(pixels.len(), shape, map);
    dispatch!(floats(
        pixels: &mut [f32], shape: [usize; 3], map: Map<'_>, filter: Filter, fill: Fill<f32>, room: &mut Room<f32>
    ));
}

fn check(elements: usize, [height, width, channels]: [usize; 3], map: Map<'_>) {
    assert_eq!(elements, height * width * channels);
    if let Map::Places(xs, ys) = map {
        assert_eq!([xs.len(), ys.len()], [height * width; 2]);
    }
}

#[inline(always)]
fn bytes(pixels: &mut [u8], shape: [usize; 3], map: Map<'_>, filter: Filter, fill: Fill<u8>, room: &mut Room<u8>) {
    warp(pixels, shape, map, filter, fill, room);
}

#[inline(always)]
fn floats(pixels: &mut [f32], shape: [usize; 3], map: Map<'_>, filter: Filter, fill: Fill<f32>, room: &mut Room<f32>) {
    warp(pixels, shape, map, filter, fill, room);
}

/// Pixels of a run.
const RUN: usize = 32;

#[inline(always)]
fn warp<P: Blend>(
    pixels: &mut [P],
    shape: [usize; 3],
    map: Map<'_>,
    filter: Filter,
    fill: Fill<P>,
    room: &mut Room<P>,
) {
    if pixels.is_empty() {
        return;
    }
    border(pixels, shape, fill, &mut room.bordered);
    let [height, width, channels] = shape;
    let axes = Axes::new(shape, filter, fill);
    let is_one = channels == 1 && filter == Filter::Bilinear;
    if is_one {
        quads(&room.bordered, width + 3, &mut room.quads);
    }
    let (mut xs, mut ys) = ([0.0; RUN], [0.0; RUN]);
    let mut taken = Taken { at: [0; RUN], right: [0; RUN], down: [0; RUN] };
    for y in 0..height {
        for begin in (0..width).step_by(RUN) {
            let count = RUN.min(width - begin);
            match map {
                Map::Affine([a, b, c, d, e, f]) => {
                    let (line_x, line_y) = (b * y as f64 + c, e * y as f64 + f);
                    for (at, (to_x, to_y)) in xs.iter_mut().zip(&mut ys).enumerate() {
                        let x = (begin + at) as f64;
                        *to_x = a * x + line_x;
                        *to_y = d * x + line_y;
                    }
                }
                Map::Places(all_x, all_y) => {
                    let first = y * width + begin;
                    xs[..count].copy_from_slice(&all_x[first..][..count]);
                    ys[..count].copy_from_slice(&all_y[first..][..count]);
                }
            }
            axes.take(&xs, &ys, &mut taken);
            let rest = &mut pixels[(y * width + begin) * channels..];
            if is_one {
                one(&room.quads, &taken, count, rest);
                continue;
            }
            let run = &mut rest[..count * channels];
            match filter {
                Filter::Nearest => nearest(&room.bordered, &taken, channels, run),
                Filter::Bilinear => several(&room.bordered, &taken, channels, (width + 3) * channels, run),
            }
        }
    }
}

/// Where the pixels of a run lie in the bordered picture, and how far to the right and down of it their places are, in
/// 1/65536.
struct Taken {
    at: [u32; RUN],
    right: [u32; RUN],
    down: [u32; RUN],
}

/// How places become offsets.
struct Axes {
    columns: Axis,
    lines: Axis,
    fill: Fill<()>,
}

struct Axis {
    /// The outermost pixel, in fixed point.
    last: f64,
    /// Elements from one pixel to the next.
    stride: u32,
    /// Bits behind the point.
    bits: u32,
    /// What brings places to the pixel that is taken: a half for the nearest, in fixed point.
    half: u32,
}

impl Axes {
    fn new<P>([height, width, channels]: [usize; 3], filter: Filter, fill: Fill<P>) -> Self {
        let extent_bits = usize::BITS - height.max(width).leading_zeros();
        let bits = 29 - extent_bits.clamp(13, 21);
        let one = f64::from(1_u32 << bits);
        let fill = match fill {
            Fill::Constant(_) => Fill::Constant(()),
            Fill::Edge => Fill::Edge,
            Fill::Reflect => Fill::Reflect,
        };
        let axis = |extent: usize, stride: usize| Axis {
            last: (extent as f64 - 1.0) * one,
            stride: stride as u32,
            bits,
            half: if filter == Filter::Nearest { 1 << (bits - 1) } else { 0 },
        };
        Self { columns: axis(width, channels), lines: axis(height, (width + 3) * channels), fill }
    }

    #[inline(always)]
    fn take(&self, xs: &[f64; RUN], ys: &[f64; RUN], taken: &mut Taken) {
        let (mut columns, mut lines) = ([0; RUN], [0; RUN]);
        match self.fill {
            Fill::Constant(()) => {
                self.columns.take(xs, Axis::held_beyond, &mut columns, &mut taken.right);
                self.lines.take(ys, Axis::held_beyond, &mut lines, &mut taken.down);
            }
            Fill::Edge => {
                self.columns.take(xs, Axis::held_within, &mut columns, &mut taken.right);
                self.lines.take(ys, Axis::held_within, &mut lines, &mut taken.down);
            }
            Fill::Reflect => {
                self.columns.take(xs, Axis::mirrored, &mut columns, &mut taken.right);
                self.lines.take(ys, Axis::mirrored, &mut lines, &mut taken.down);
            }
        }
        for (at, (column, line)) in taken.at.iter_mut().zip(columns.iter().zip(&lines)) {
            *at = column + line;
        }
    }
}

/// Places further out than this, in fixed point, are as far out as this.
const FAR: f64 = (1_i64 << 45) as f64;
/// Added to a whole number of less than 2^51, it leaves it in the last bits.
const WHOLE: f64 = 1.5 * (1_i64 << 52) as f64;

impl Axis {
    /// One pixel in fixed point.
    #[inline(always)]
    fn one(&self) -> f64 {
        f64::from(1_u32 << self.bits)
    }

    #[inline(always)]
    fn held_beyond(&self, place: f64) -> f64 {
        hold(place, -self.one(), self.last + self.one())
    }

    #[inline(always)]
    fn held_within(&self, place: f64) -> f64 {
        hold(place, 0.0, self.last)
    }

    #[inline(always)]
    fn mirrored(&self, place: f64) -> f64 {
        // Whole, so that places there and back are the same.
        let place = hold(place, -FAR, FAR) + WHOLE - WHOLE;
        let period = 2.0 * self.last;
        // A quotient that is rounded across a whole number leaves a place a little below 0 or at the period.
        let place = (place - period * (place / period).floor()).abs();
        let place = if place < period - place { place } else { period - place };
        // Of a single pixel the period is 0.
        hold(place, 0.0, self.last)
    }

    /// Offsets of the pixels along this axis, and what is behind the point in 1/65536.
    #[inline(always)]
    fn take(
        &self,
        places: &[f64; RUN],
        hold_in: impl Fn(&Self, f64) -> f64,
        offsets: &mut [u32; RUN],
        parts: &mut [u32; RUN],
    ) {
        let one = 1_u32 << self.bits;
        for ((place, offset), part) in places.iter().zip(offsets).zip(parts) {
            // The border is one pixel: places from -1 on are not negative in it.
            let place = (hold_in(self, place * self.one()) + (WHOLE + self.one())).to_bits() as u32;
            *offset = ((place + self.half) >> self.bits) * self.stride;
            *part = (place & (one - 1)) << (16 - self.bits);
        }
    }
}

/// Held to a range; what is no number goes to its low end.
#[inline(always)]
fn hold(x: f64, low: f64, high: f64) -> f64 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

#[inline(always)]
fn nearest<P: Blend>(bordered: &[P], taken: &Taken, channels: usize, run: &mut [P]) {
    for (out, &at) in run.chunks_exact_mut(channels).zip(&taken.at) {
        out.copy_from_slice(&bordered[at as usize..][..channels]);
    }
}

/// The four corners of every pixel of a picture of one channel.
#[inline(always)]
fn quads<P: Blend>(bordered: &[P], stride: usize, out: &mut Vec<[P; 4]>) {
    let count = bordered.len() - stride - 1;
    let (top, bottom) = (&bordered[..count + 1], &bordered[stride..]);
    out.resize(count, [P::default(); 4]);
    for (at, out) in out.iter_mut().enumerate() {
        *out = [top[at], top[at + 1], bottom[at], bottom[at + 1]];
    }
}

/// The first `count` pixels of `rest`; those behind them, which come later, may be anything afterwards.
#[inline(always)]
fn one<P: Blend>(quads: &[[P; 4]], taken: &Taken, count: usize, rest: &mut [P]) {
    let mut corners = [[P::default(); 4]; RUN];
    for (corners, &at) in corners.iter_mut().zip(&taken.at) {
        *corners = quads[at as usize];
    }
    if let Some(out) = rest.first_chunk_mut() {
        P::blend_one(&corners, &taken.right, &taken.down, out);
        return;
    }
    let mut out = [P::default(); RUN];
    P::blend_one(&corners, &taken.right, &taken.down, &mut out);
    rest[..count].copy_from_slice(&out[..count]);
}

#[inline(always)]
fn several<P: Blend>(bordered: &[P], taken: &Taken, channels: usize, stride: usize, run: &mut [P]) {
    match channels {
        2 => few::<P, 2>(bordered, taken, stride, run),
        3 => few::<P, 3>(bordered, taken, stride, run),
        4 => few::<P, 4>(bordered, taken, stride, run),
        _ => many(bordered, taken, channels, stride, run),
    }
}

/// Pixels of up to four channels: two neighbours are one load.
#[inline(always)]
fn few<P: Blend, const C: usize>(bordered: &[P], taken: &Taken, stride: usize, run: &mut [P]) {
    let furthest = taken.at.iter().fold(0, |a: u32, &b| a.max(b)) as usize;
    assert!(furthest + stride + 8 <= bordered.len());
    let mut pairs = [[[P::default(); 8]; RUN]; 2];
    for (pairs, skipped) in pairs.iter_mut().zip([0, stride]) {
        for (pair, &at) in pairs.iter_mut().zip(&taken.at) {
            let at = at as usize + skipped;
            // SAFETY: `at + 8` is at most the length by the assertion, and an array is aligned as its elements.
            *pair = unsafe { bordered.as_ptr().add(at).cast::<[P; 8]>().read() };
        }
    }
    let mut out = [[P::default(); 4]; RUN];
    P::blend::<C>(&pairs, &taken.right, &taken.down, &mut out);
    for (pixel, lanes) in run.as_chunks_mut::<C>().0.iter_mut().zip(&out) {
        pixel.copy_from_slice(&lanes[..C]);
    }
}

/// Pixels of any number of channels, four at a time.
#[inline(always)]
fn many<P: Blend>(bordered: &[P], taken: &Taken, channels: usize, stride: usize, run: &mut [P]) {
    let mut pairs = [[[P::default(); 8]; RUN]; 2];
    let mut out = [[P::default(); 4]; RUN];
    for first in (0..channels).step_by(4) {
        let count = (channels - first).min(4);
        for (pairs, skipped) in pairs.iter_mut().zip([0, stride]) {
            for (pair, &at) in pairs.iter_mut().zip(&taken.at) {
                let at = at as usize + skipped + first;
                pair[..count].copy_from_slice(&bordered[at..][..count]);
                pair[4..][..count].copy_from_slice(&bordered[at + channels..][..count]);
            }
        }
        P::blend::<4>(&pairs, &taken.right, &taken.down, &mut out);
        for (pixel, lanes) in run.chunks_exact_mut(channels).zip(&out) {
            pixel[first..][..count].copy_from_slice(&lanes[..count]);
        }
    }
}
