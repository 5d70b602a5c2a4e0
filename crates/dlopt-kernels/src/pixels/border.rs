//! A picture with a border, so that the four pixels around any place that counts are there.

use super::warp::Fill;

/// A copy with one pixel more on the left and top, two more on the right and bottom, and room for a wide load at the end.
pub(super) fn border<P: Copy + Default>(
    pixels: &[P],
    [height, width, channels]: [usize; 3],
    fill: Fill<P>,
    out: &mut Vec<P>,
) {
    let row = width * channels;
    let stride = row + 3 * channels;
    let lines = (height + 3) * stride;
    match fill {
        Fill::Constant(value) => {
            out.clear();
            out.resize(lines + BEHIND, value);
            for (own, out) in pixels.chunks_exact(row).zip(out[stride..].chunks_exact_mut(stride)) {
                out[channels..][..row].copy_from_slice(own);
            }
        }
        // A mirrored place never lies outside: there the border has no weight.
        Fill::Edge | Fill::Reflect => {
            out.resize(lines + BEHIND, P::default());
            for (own, out) in pixels.chunks_exact(row).zip(out[stride..].chunks_exact_mut(stride)) {
                let (left, rest) = out.split_at_mut(channels);
                let (middle, right) = rest.split_at_mut(row);
                left.copy_from_slice(&own[..channels]);
                middle.copy_from_slice(own);
                right[..channels].copy_from_slice(&own[row - channels..]);
                right[channels..].copy_from_slice(&own[row - channels..]);
            }
            out.copy_within(stride..2 * stride, 0);
            out.copy_within(height * stride..(height + 1) * stride, (height + 1) * stride);
            out.copy_within(height * stride..(height + 1) * stride, (height + 2) * stride);
        }
    }
}

/// Elements behind the last line.
const BEHIND: usize = 8;
