//! Pictures resampled at any places, one by one: for what is no affine map.

use super::{Element, Fill, Filter, ONE, Resampling, border, held};
use crate::geometry::Blend;
use crate::sample::{Data, Form, Sample, Scratch};

/// Fills a picture with what lies at other places of it; `place` takes a pixel's x and y to where it comes from.
pub(crate) fn from_places(
    sample: &mut Sample,
    scratch: &mut Scratch,
    how: Resampling,
    place: impl Fn(usize, usize) -> [f64; 2],
) {
    let Form::Image { height, width, channels, white } = sample.form else { return };
    let shape = [height, width, channels];
    match &mut sample.data {
        Data::U8(pixels) => {
            border(pixels, shape, how.fill, u8::of(how.value * white), &mut scratch.bordered_bytes);
            resample(&scratch.bordered_bytes, pixels, shape, how, place);
        }
        Data::F32(pixels) => {
            border(pixels, shape, how.fill, how.value * white, &mut scratch.bordered_floats);
            resample(&scratch.bordered_floats, pixels, shape, how, place);
        }
        Data::Tokens(_) => {}
    }
}

fn resample<P: Blend>(
    bordered: &[P],
    out: &mut [P],
    [height, width, channels]: [usize; 3],
    how: Resampling,
    place: impl Fn(usize, usize) -> [f64; 2],
) {
    let stride = (width + 3) * channels;
    for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let [x, y] = place(x, y);
            let (x, y) = (fixed(x, width, how.fill), fixed(y, height, how.fill));
            let half = if how.filter == Filter::Nearest { ONE / 2 } else { 0 };
            // The border is one pixel: places from -1 on are not negative in it.
            let (column, line) = ((x + ONE + half) / ONE, (y + ONE + half) / ONE);
            let at = line as usize * stride + column as usize * channels;
            if how.filter == Filter::Nearest {
                pixel.copy_from_slice(&bordered[at..][..channels]);
                continue;
            }
            let (right, down) = ((x & (ONE - 1)) as u32, (y & (ONE - 1)) as u32);
            let (top, bottom) = (&bordered[at..][..2 * channels], &bordered[at + stride..][..2 * channels]);
            for (channel, out) in pixel.iter_mut().enumerate() {
                let four = [top[channel], top[channels + channel], bottom[channel], bottom[channels + channel]];
                *out = P::blend(four, right, down);
            }
        }
    }
}

/// A place in fixed point, held to the bordered picture.
fn fixed(place: f64, extent: usize, fill: Fill) -> i64 {
    held((place.clamp(-super::FAR, super::FAR) * ONE as f64).round() as i64, extent, fill)
}
