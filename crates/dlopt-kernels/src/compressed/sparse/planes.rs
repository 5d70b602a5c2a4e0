//! Images as planes: `[phase][channel][row][column]` with the padding in it, one plane for each phase of the stride.
//!
//! Pixel (y, x) of the padded image lies in the phase `(y % stride, x % stride)` at `(y / stride, x / stride)`. So a tap of
//! a kernel reads the pixels of neighbouring outputs one behind the other, whatever the stride, and one offset for each
//! weight says where.

use super::transpose::transpose;
use crate::nn::ConvShape;

/// Floats behind the last plane that a block of outputs may read.
const BEHIND: usize = 64;

/// Pieces of rows, of 64 pixels and a few more, that fit the first cache.
const LINES: usize = 128;

/// The planes of one image, and where outputs and weights find their pixels in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    shape: ConvShape,
    /// Floats of a row, and of a plane.
    pub(super) row: usize,
    plane: usize,
}

impl Planes {
    pub(super) fn new(shape: ConvShape) -> Self {
        let [top, bottom, left, right] = shape.padding;
        let row = (shape.width + left + right).div_ceil(shape.stride[1]);
        // Planes that are a power of two apart would share the same places of the cache.
        let plane = (row * (shape.height + top + bottom).div_ceil(shape.stride[0])).next_multiple_of(64) + 16;
        Self { shape, row, plane }
    }

    /// Floats of all planes.
    pub(super) fn len(&self) -> usize {
        self.plane * self.shape.inputs * self.shape.stride[0] * self.shape.stride[1] + BEHIND
    }

    /// Where the weight `[ky, kx, input]` finds its pixel for the output at 0.
    pub(super) fn offset(&self, weight: usize) -> usize {
        let ConvShape { inputs, kernel, stride, dilation, .. } = self.shape;
        let (tap, input) = (weight / inputs, weight % inputs);
        let [y, x] = [tap / kernel[1] * dilation[0], tap % kernel[1] * dilation[1]];
        self.plane(y % stride[0], x % stride[1], input) + y / stride[0] * self.row + x / stride[1]
    }

    /// Which part of a channel's weights `[ky, kx, input]` is in: those of a part read little more than the first cache.
    pub(super) fn part(&self, weight: usize) -> usize {
        let ConvShape { inputs, kernel, .. } = self.shape;
        let (tap, input) = (weight / inputs, weight % inputs);
        if inputs * kernel[0] <= LINES {
            0
        } else if inputs <= LINES {
            tap / kernel[1]
        } else {
            tap * inputs.div_ceil(LINES) + input / LINES
        }
    }

    fn plane(&self, y_phase: usize, x_phase: usize, input: usize) -> usize {
        ((y_phase * self.shape.stride[1] + x_phase) * self.shape.inputs + input) * self.plane
    }

    /// Writes an image `[y, x, channel]` into planes whose padding is 0 already.
    pub(super) fn fill(&self, image: &[f32], planes: &mut [f32]) {
        let ConvShape { height, width, inputs, stride, padding: [top, _, left, _], .. } = self.shape;
        assert!(image.len() == self.shape.input_len() && planes.len() == self.len(), "values of an image");
        for y in 0..height {
            for first in 0..stride[1].min(width) {
                let (row, column) = ((y + top) / stride[0], (first + left) / stride[1]);
                let plane = self.plane((y + top) % stride[0], (first + left) % stride[1], 0);
                let from = &image[(y * width + first) * inputs..];
                let to = &mut planes[plane + row * self.row + column..];
                let count = (width - first).div_ceil(stride[1]);
                // SAFETY: `count` pixels of the row, and as many places in the row of each channel's plane.
                unsafe {
                    let (from, to) = (from.as_ptr(), to.as_mut_ptr());
                    transpose(from, stride[1] * inputs, count, inputs, to, self.plane);
                }
            }
        }
    }
}
