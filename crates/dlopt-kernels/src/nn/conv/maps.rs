//! What happens to maps around the sums: max pool with ReLU, its reverse, ReLU's mask, bias gradients.
#![allow(unsafe_op_in_unsafe_fn, reason = "raw kernels; each states its contract")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use super::correlate::load_upto;
use crate::nn::simd::{V, per_isa};

/// More lanes than any register has.
const LANES: usize = 16;

per_isa! {
/// Max pool of two rows of `2 * windows` pixels, then ReLU. `won`: the place in the window (0 to 3, in reading order)
/// that was greatest, the first of equals, or 4 where nothing was positive.
///
/// # Safety
/// `map` must be valid for both rows, `map_row` floats apart, of pixels `map_pixel` floats apart; `out` and `won` for
/// `windows` pixels `out_pixel` values apart; each pixel for `channels` values.
pool_rows(map: *const f32, map_pixel: usize, map_row: usize, windows: usize, channels: usize, out: *mut f32,
won: Option<*mut u8>, out_pixel: usize) [T, NR = 4 / 2]
pool_rows_in::<T>(map, map_pixel, map_row, windows, channels, out, won, out_pixel) }

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
unsafe fn pool_rows_in<T: V>(
    map: *const f32,
    map_pixel: usize,
    map_row: usize,
    windows: usize,
    channels: usize,
    out: *mut f32,
    won: Option<*mut u8>,
    out_pixel: usize,
) {
    let mut spare = [0_u8; LANES];
    for window in 0..windows {
        for channel in (0..channels).step_by(T::N) {
            let p = map.add(2 * window * map_pixel + channel);
            let four = [p, p.add(map_pixel), p.add(map_row), p.add(map_row + map_pixel)];
            let at = window * out_pixel + channel;
            let left = channels - channel;
            if left >= T::N {
                let won = won.map_or(spare.as_mut_ptr(), |won| won.add(at));
                let four = [T::load(four[0]), T::load(four[1]), T::load(four[2]), T::load(four[3])];
                T::pool4(four, out.add(at), won);
            } else {
                let four = four.map(|p| T::load_part(p, left));
                pool4_part(four, out.add(at), won.map(|won| won.add(at)), left);
            }
        }
    }
}

/// [`V::pool4`] of the first `left` lanes.
///
/// # Safety
/// `out` and `won` must be valid for so many values.
#[inline(always)]
pub(super) unsafe fn pool4_part<T: V>(four: [T; 4], out: *mut f32, won: Option<*mut u8>, left: usize) {
    let (mut best, mut places) = ([0.0; LANES], [0_u8; LANES]);
    T::pool4(four, best.as_mut_ptr(), places.as_mut_ptr());
    std::ptr::copy_nonoverlapping(best.as_ptr(), out, left);
    if let Some(won) = won {
        std::ptr::copy_nonoverlapping(places.as_ptr(), won, left);
    }
}

per_isa! {
/// The reverse of [`pool_rows`]: each gradient goes to the pixel that won, zero to the others; `db` gets the sum added.
///
/// # Safety
/// `gradient` and `won` must be valid for `[height, width, channels]`, `map` for twice as many rows and columns, `db`
/// for `channels`.
unpool(gradient: *const f32, won: *const u8, height: usize, width: usize, channels: usize, map: *mut f32,
db: Option<*mut f32>) [T, NR = 4 / 2] unpool_in::<T>(gradient, won, height, width, channels, map, db) }

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
unsafe fn unpool_in<T: V>(
    gradient: *const f32,
    won: *const u8,
    height: usize,
    width: usize,
    channels: usize,
    map: *mut f32,
    db: Option<*mut f32>,
) {
    let map_row = 2 * width * channels;
    for channel in (0..channels).step_by(T::N) {
        let left = channels - channel;
        let mut sum = T::splat(0.0);
        for y in 0..height {
            for x in 0..width {
                let at = (y * width + x) * channels + channel;
                let d = map.add(2 * y * map_row + 2 * x * channels + channel);
                let four = [d, d.add(channels), d.add(map_row), d.add(map_row + channels)];
                if left >= T::N {
                    sum = sum.add(T::load(gradient.add(at)).unpool4(won.add(at), four));
                } else {
                    let mut places = [4_u8; LANES];
                    std::ptr::copy_nonoverlapping(won.add(at), places.as_mut_ptr(), left);
                    let mut spread = [[0.0_f32; LANES]; 4];
                    let to = spread.each_mut().map(|lanes| lanes.as_mut_ptr());
                    sum = sum.add(T::load_part(gradient.add(at), left).unpool4(places.as_ptr(), to));
                    for (lanes, d) in spread.iter().zip(four) {
                        std::ptr::copy_nonoverlapping(lanes.as_ptr(), d, left);
                    }
                }
            }
        }
        if let Some(db) = db {
            add_upto(db.add(channel), sum, left);
        }
    }
}

per_isa! {
/// Copies `len` gradients, zero where `out` is not positive.
///
/// # Safety
/// All three must be valid for `len` values; `to` may be `gradient` itself.
mask(gradient: *const f32, out: *const f32, len: usize, to: *mut f32) [T, NR = 4 / 2]
mask_in::<T>(gradient, out, len, to) }

#[inline(always)]
unsafe fn mask_in<T: V>(gradient: *const f32, out: *const f32, len: usize, to: *mut f32) {
    let whole = len - len % T::N;
    for i in (0..whole).step_by(T::N) {
        T::load(gradient.add(i)).where_pos(T::load(out.add(i))).store(to.add(i));
    }
    if whole < len {
        let out = T::load_part(out.add(whole), len - whole);
        T::load_part(gradient.add(whole), len - whole).where_pos(out).store_part(to.add(whole), len - whole);
    }
}

per_isa! {
/// `db[channel] += sum over pixels of gradient[pixel, channel]`, as four sums of every fourth pixel.
///
/// # Safety
/// `gradient` must be valid for `[pixels, channels]`, `db` for `channels`.
bias_gradient(gradient: *const f32, pixels: usize, channels: usize, db: *mut f32) [T, NR = 4 / 2]
bias_gradient_in::<T>(gradient, pixels, channels, db) }

#[inline(always)]
unsafe fn bias_gradient_in<T: V>(gradient: *const f32, pixels: usize, channels: usize, db: *mut f32) {
    for channel in (0..channels).step_by(T::N) {
        let left = channels - channel;
        let mut sums = [T::splat(0.0); 4];
        for first in (0..pixels).step_by(4) {
            for i in 0..4.min(pixels - first) {
                sums[i] = sums[i].add(load_upto::<T>(gradient.add((first + i) * channels + channel), left));
            }
        }
        add_upto(db.add(channel), sums[0].add(sums[1]).add(sums[2].add(sums[3])), left);
    }
}

/// # Safety
/// `to` must be valid for `left` values or a register of them.
#[inline(always)]
unsafe fn add_upto<T: V>(to: *mut f32, sum: T, left: usize) {
    if left >= T::N {
        T::load(to).add(sum).store(to);
    } else {
        T::load_part(to, left).add(sum).store_part(to, left);
    }
}
