//! Pictures resampled: every pixel is taken from a place in the picture, of the four pixels around it or the nearest.
//!
//! Places are held in fixed point, with 16 bits behind the point up to extents of 8192 and fewer above; weights of bytes are
//! in 1/256, those of floats in as many parts as places. A value is `t + (b - t) d`, with `t` and `b` found likewise of the
//! pairs above and below.
//!
//! A run of pixels goes through three loops: places to offsets and weights, the four pixels copied side by side, and the
//! blend. The first and the last are alike in every lane, so they become vectors; the second is loads and stores.

use super::border::border;

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

/// Two neighbours of every pixel of a run: up to four elements of the left one, and those of the right one from the element
/// of its number of channels on.
type Pairs<P> = [[P; 8]; RUN];

/// Elements that can be put together by weight.
trait Blend: Copy + Default {
    /// Of pairs of `C` channels above and below; `right` and `down` are what is behind the point of their places, in
    /// 1/65536.
    fn blend<const C: usize>(
        pairs: &[Pairs<Self>; 2],
        right: &[u32; RUN],
        down: &[u32; RUN],
        out: &mut [[Self; 4]; RUN],
    );

    /// The same of pixels of one element, whose corners stand side by side.
    fn blend_one(corners: &[[Self; 4]; RUN], right: &[u32; RUN], down: &[u32; RUN], out: &mut [Self; RUN]);
}

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
    let [_, width, channels] = shape;
    let axes = Axes::new(shape, filter, fill);
    let is_one = channels == 1 && filter == Filter::Bilinear;
    if is_one {
        quads(&room.bordered, width + 3, &mut room.quads);
    }
    let (mut xs, mut ys) = ([0.0; RUN], [0.0; RUN]);
    let mut taken = Taken { at: [0; RUN], right: [0; RUN], down: [0; RUN] };
    for (y, line) in pixels.chunks_exact_mut(width * channels).enumerate() {
        for (begin, run) in (0..width).step_by(RUN).zip(line.chunks_mut(RUN * channels)) {
            let pixels = run.len() / channels;
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
                    xs[..pixels].copy_from_slice(&all_x[first..][..pixels]);
                    ys[..pixels].copy_from_slice(&all_y[first..][..pixels]);
                }
            }
            axes.take(&xs, &ys, &mut taken);
            match filter {
                Filter::Nearest => nearest(&room.bordered, &taken, channels, run),
                Filter::Bilinear if is_one => one(&room.quads, &taken, run),
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
            let whole = hold(place * self.one(), -FAR, FAR) + WHOLE - WHOLE;
            // The border is one pixel: places from -1 on are not negative in it.
            let place = (hold_in(self, whole) + self.one() + WHOLE).to_bits() as u32;
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

#[inline(always)]
fn one<P: Blend>(quads: &[[P; 4]], taken: &Taken, run: &mut [P]) {
    let (mut corners, mut out) = ([[P::default(); 4]; RUN], [P::default(); RUN]);
    for (corners, &at) in corners.iter_mut().zip(&taken.at) {
        *corners = quads[at as usize];
    }
    P::blend_one(&corners, &taken.right, &taken.down, &mut out);
    run.copy_from_slice(&out[..run.len()]);
}

#[inline(always)]
fn several<P: Blend>(bordered: &[P], taken: &Taken, channels: usize, stride: usize, run: &mut [P]) {
    let furthest = taken.at.iter().fold(0, |a: u32, &b| a.max(b)) as usize;
    assert!(furthest + stride + channels + channels.max(8) <= bordered.len());
    let mut pairs = [[[P::default(); 8]; RUN]; 2];
    let mut out = [[P::default(); 4]; RUN];
    if channels <= 4 {
        for (pairs, skipped) in pairs.iter_mut().zip([0, stride]) {
            for (pair, &at) in pairs.iter_mut().zip(&taken.at) {
                let at = at as usize + skipped;
                // SAFETY: `at + 8` is at most the length by the assertion, and an array is aligned as its elements.
                *pair = unsafe { bordered.as_ptr().add(at).cast::<[P; 8]>().read() };
            }
        }
        match channels {
            1 => P::blend::<1>(&pairs, &taken.right, &taken.down, &mut out),
            2 => P::blend::<2>(&pairs, &taken.right, &taken.down, &mut out),
            3 => P::blend::<3>(&pairs, &taken.right, &taken.down, &mut out),
            _ => P::blend::<4>(&pairs, &taken.right, &taken.down, &mut out),
        }
        match channels {
            1 => put::<P, 1>(&out, run),
            2 => put::<P, 2>(&out, run),
            3 => put::<P, 3>(&out, run),
            _ => put::<P, 4>(&out, run),
        }
        return;
    }
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

/// The elements of every pixel.
#[inline(always)]
fn put<P: Blend, const C: usize>(lanes: &[[P; 4]; RUN], run: &mut [P]) {
    for (pixel, lanes) in run.as_chunks_mut::<C>().0.iter_mut().zip(lanes) {
        pixel.copy_from_slice(&lanes[..C]);
    }
}

/// A part in 1/65536 as one in 1/256, rounded.
#[inline(always)]
fn in_256(part: u32) -> u32 {
    (part + 128) >> 8
}

impl Blend for u8 {
    #[inline(always)]
    fn blend<const C: usize>(pairs: &[Pairs<u8>; 2], right: &[u32; RUN], down: &[u32; RUN], out: &mut [[u8; 4]; RUN]) {
        let mut corners = [[[0; 4]; RUN]; 4];
        let (mut rights, mut downs) = ([[0_u16; 4]; RUN], [[0_u16; 4]; RUN]);
        for at in 0..RUN {
            let [top, bottom] = [u64::from_le_bytes(pairs[0][at]), u64::from_le_bytes(pairs[1][at])];
            corners[0][at] = (top as u32).to_le_bytes();
            corners[1][at] = ((top >> (8 * C)) as u32).to_le_bytes();
            corners[2][at] = (bottom as u32).to_le_bytes();
            corners[3][at] = ((bottom >> (8 * C)) as u32).to_le_bytes();
            rights[at] = [in_256(right[at]) as u16; 4];
            downs[at] = [in_256(down[at]) as u16; 4];
        }
        let [a, b, c, d] = corners.each_ref().map(|corner| corner.as_flattened());
        let (rights, downs) = (rights.as_flattened(), downs.as_flattened());
        for (at, out) in out.as_flattened_mut().iter_mut().enumerate() {
            let [a, b, c, d] = [a[at], b[at], c[at], d[at]].map(u16::from);
            // Sums are at most 65280; on the way they wrap.
            let pair = |a: u16, b: u16| (a << 8).wrapping_add(b.wrapping_sub(a).wrapping_mul(rights[at])) >> 1;
            let (top, bottom) = (u32::from(pair(a, b)), u32::from(pair(c, d)));
            let down = u32::from(downs[at]);
            *out = ((top * (256 - down) + bottom * down + (1 << 14)) >> 15) as u8;
        }
    }

    #[inline(always)]
    fn blend_one(corners: &[[u8; 4]; RUN], right: &[u32; RUN], down: &[u32; RUN], out: &mut [u8; RUN]) {
        for at in 0..RUN {
            let all = u32::from_le_bytes(corners[at]);
            let [a, b, c, d] = [all & 255, all >> 8 & 255, all >> 16 & 255, all >> 24];
            let (right, down) = (in_256(right[at]), in_256(down[at]));
            let pair = |a: u32, b: u32| (a * (256 - right) + b * right) >> 1;
            out[at] = ((pair(a, b) * (256 - down) + pair(c, d) * down + (1 << 14)) >> 15) as u8;
        }
    }
}

impl Blend for f32 {
    #[inline(always)]
    fn blend<const C: usize>(
        [top, bottom]: &[Pairs<f32>; 2],
        right: &[u32; RUN],
        down: &[u32; RUN],
        out: &mut [[f32; 4]; RUN],
    ) {
        for at in 0..RUN {
            let (right, down) = (share(right[at]), share(down[at]));
            for lane in 0..4 {
                let four = [top[at][lane], top[at][lane + C], bottom[at][lane], bottom[at][lane + C]];
                out[at][lane] = float(four, right, down);
            }
        }
    }

    #[inline(always)]
    fn blend_one(corners: &[[f32; 4]; RUN], right: &[u32; RUN], down: &[u32; RUN], out: &mut [f32; RUN]) {
        for at in 0..RUN {
            out[at] = float(corners[at], share(right[at]), share(down[at]));
        }
    }
}

#[inline(always)]
fn share(part: u32) -> f32 {
    part as i32 as f32 / 65536.0
}

#[inline(always)]
fn float([a, b, c, d]: [f32; 4], right: f32, down: f32) -> f32 {
    let (top, bottom) = (a + (b - a) * right, c + (d - c) * right);
    top + (bottom - top) * down
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;

    const FILLS: [Fill<f64>; 3] = [Fill::Constant(77.0), Fill::Edge, Fill::Reflect];

    fn maps(width: f64, height: f64) -> Vec<[f64; 6]> {
        let (sine, cosine) = 0.6_f64.sin_cos();
        vec![
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            [0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
            [-1.0, 0.0, width - 1.0, 0.0, 1.0, 0.0],
            [cosine, -sine, 1.3, sine, cosine, -2.7],
            [0.31, 0.02, 2.237, -0.0513, 0.413, height / 3.0],
            [9.0, 3.17, -40.31, 2.2, 7.71, -31.13],
        ]
    }

    /// The same in plain `f64`, of places rounded to 1/65536.
    fn plain(
        picture: &[f64],
        [height, width, channels]: [usize; 3],
        map: &[f64; 6],
        filter: Filter,
        fill: Fill<f64>,
    ) -> Vec<f64> {
        let mirrored = |at: i64, extent: usize| {
            let period = (2 * (extent as i64 - 1)).max(1);
            let at = at.rem_euclid(period);
            at.min(period - at).min(extent as i64 - 1)
        };
        let pixel = |x: i64, y: i64, channel: usize| {
            let is_inside = (0..width as i64).contains(&x) && (0..height as i64).contains(&y);
            let (x, y) = match fill {
                Fill::Constant(value) if !is_inside => return value,
                Fill::Constant(_) => (x, y),
                Fill::Edge => (x.clamp(0, width as i64 - 1), y.clamp(0, height as i64 - 1)),
                Fill::Reflect => (mirrored(x, width), mirrored(y, height)),
            };
            picture[(y as usize * width + x as usize) * channels + channel]
        };
        let mut out = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let [a, b, c, d, e, f] = *map;
                let place = |p: f64| (p * 65536.0).round() / 65536.0;
                let (px, py) = (place(a * x as f64 + b * y as f64 + c), place(d * x as f64 + e * y as f64 + f));
                for channel in 0..channels {
                    out.push(match filter {
                        Filter::Nearest => pixel((px + 0.5).floor() as i64, (py + 0.5).floor() as i64, channel),
                        Filter::Bilinear => {
                            let (left, top) = (px.floor() as i64, py.floor() as i64);
                            let (right, down) = (px - px.floor(), py - py.floor());
                            let line =
                                |y| pixel(left, y, channel) * (1.0 - right) + pixel(left + 1, y, channel) * right;
                            line(top) * (1.0 - down) + line(top + 1) * down
                        }
                    });
                }
            }
        }
        out
    }

    #[test]
    fn pixels_come_from_their_places() {
        for shape @ [height, width, channels] in
            [[9, 40, 1], [33, 7, 3], [5, 6, 2], [8, 8, 4], [3, 35, 6], [1, 1, 1], [1, 9, 3]]
        {
            let bytes: Vec<u8> = (0..height * width * channels).map(|at| (at * 89 % 256) as u8).collect();
            let floats: Vec<f32> = bytes.iter().map(|&x| f32::from(x)).collect();
            let exact: Vec<f64> = bytes.iter().map(|&x| f64::from(x)).collect();
            for map in maps(width as f64, height as f64) {
                for (fill, filter) in
                    FILLS.into_iter().flat_map(|fill| [(fill, Filter::Bilinear), (fill, Filter::Nearest)])
                {
                    let wanted = plain(&exact, shape, &map, filter, fill);
                    let own = at_every_level(|| {
                        let mut own = bytes.clone();
                        let fill = match fill {
                            Fill::Constant(_) => Fill::Constant(77),
                            Fill::Edge => Fill::Edge,
                            Fill::Reflect => Fill::Reflect,
                        };
                        warp_u8(&mut own, shape, Map::Affine(map), filter, fill, &mut Room::default());
                        own
                    });
                    for (own, wanted) in own.iter().zip(&wanted) {
                        assert!(
                            (f64::from(*own) - wanted).abs() < 1.6,
                            "{shape:?} {map:?} {fill:?} {filter:?}: {own} {wanted}"
                        );
                    }
                    let own = at_every_level(|| {
                        let mut own = floats.clone();
                        let fill = match fill {
                            Fill::Constant(_) => Fill::Constant(77.0),
                            Fill::Edge => Fill::Edge,
                            Fill::Reflect => Fill::Reflect,
                        };
                        warp_f32(&mut own, shape, Map::Affine(map), filter, fill, &mut Room::default());
                        own.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                    });
                    for (own, wanted) in own.iter().zip(&wanted) {
                        let own = f64::from(f32::from_bits(*own));
                        assert!((own - wanted).abs() < 1e-3, "{shape:?} {map:?} {fill:?} {filter:?}: {own} {wanted}");
                    }
                }
            }
        }
    }

    #[test]
    fn single_places_are_those_of_the_map() {
        let shape = [9, 37, 3];
        let picture: Vec<u8> = (0..9 * 37 * 3).map(|at| (at * 31 % 256) as u8).collect();
        let [a, b, c, d, e, f] = maps(37.0, 9.0)[3];
        let places = |u: f64, v: f64, w: f64| -> Vec<f64> {
            (0..9 * 37).map(|at| u * f64::from(at % 37) + (v * f64::from(at / 37) + w)).collect()
        };
        let [mut one, mut other] = [picture.clone(), picture];
        let mut room = Room::default();
        warp_u8(&mut one, shape, Map::Affine([a, b, c, d, e, f]), Filter::Bilinear, Fill::Reflect, &mut room);
        let (xs, ys) = (places(a, b, c), places(d, e, f));
        warp_u8(&mut other, shape, Map::Places(&xs, &ys), Filter::Bilinear, Fill::Reflect, &mut room);
        assert_eq!(one, other);
        // What is no place at all is somewhere in the picture.
        warp_u8(
            &mut one,
            shape,
            Map::Places(&[f64::NAN; 333], &[f64::INFINITY; 333]),
            Filter::Nearest,
            Fill::Edge,
            &mut room,
        );
        assert!(one.chunks(3).all(|pixel| *pixel == one[..3]));
    }
}
