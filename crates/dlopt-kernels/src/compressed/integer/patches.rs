//! The patches of a quantized image, each a row of bytes `[ky, kx, input]`.
#![allow(unsafe_op_in_unsafe_fn, reason = "pointers are to what each function says")]

use super::registers::BLOCK;
use crate::nn::ConvShape;

/// Bytes that are copied at a time, past the end of what is wanted.
const COPY: usize = 32;

/// Where the patches of a convolution lie in an image with zeros around it.
///
/// With a pool, the four patches of a window are neighbours.
#[derive(Clone, Copy)]
pub(super) struct Patches {
    /// Rows of the image, bytes of one, where the first lies in the frame, and bytes of a row and of all of the frame.
    height: usize,
    image_row: usize,
    first: usize,
    frame_row: usize,
    frame_bytes: usize,
    /// Bytes of contiguous taps, how many such runs a kernel row has, and how far they and the kernel rows are apart.
    run: usize,
    runs: usize,
    run_step: usize,
    kernel_rows: usize,
    kernel_step: usize,
    /// Bytes from one patch to the next, to the right and down.
    right: usize,
    down: usize,
    /// Columns of outputs, or of windows.
    columns: usize,
    count: usize,
    pool: bool,
}

impl Patches {
    /// Those of `size` rows and columns of outputs, or of windows.
    pub(super) fn new(shape: &ConvShape, pool: bool, size: [usize; 2]) -> Self {
        let [top, bottom, left, right] = shape.padding;
        let pixel = shape.inputs;
        let frame_row = (shape.width + left + right) * pixel;
        let is_whole = shape.dilation[1] == 1;
        Self {
            height: shape.height,
            image_row: shape.width * pixel,
            first: top * frame_row + left * pixel,
            frame_row,
            frame_bytes: (shape.height + top + bottom) * frame_row,
            run: if is_whole { shape.kernel[1] * pixel } else { pixel },
            runs: if is_whole { 1 } else { shape.kernel[1] },
            run_step: shape.dilation[1] * pixel,
            kernel_rows: shape.kernel[0],
            kernel_step: shape.dilation[0] * frame_row,
            right: shape.stride[1] * pixel,
            down: shape.stride[0] * frame_row,
            columns: size[1],
            count: size[0] * size[1] * if pool { 4 } else { 1 },
            pool,
        }
    }

    /// Patches of an image.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Values of a patch.
    pub(super) fn len(&self) -> usize {
        self.kernel_rows * self.runs * self.run
    }

    /// Bytes from one gathered patch to the next.
    pub(super) fn row_bytes(&self) -> usize {
        self.len().next_multiple_of(BLOCK) + BLOCK
    }

    /// Bytes of the image with zeros around it, and of what may be read behind it.
    pub(super) fn frame_len(&self) -> usize {
        self.frame_bytes + COPY
    }

    /// Puts an image in its frame, whose sides hold zeros.
    ///
    /// # Safety
    /// `image` and `frame` hold what was planned for.
    pub(super) unsafe fn fill_frame(&self, image: *const u8, frame: *mut u8) {
        for row in 0..self.height {
            let to = frame.add(self.first + row * self.frame_row);
            std::ptr::copy_nonoverlapping(image.add(row * self.image_row), to, self.image_row);
        }
    }

    /// Writes the patches `first..first + count`, each with zeros up to a whole block behind it; with a pool both are
    /// multiples of 4.
    ///
    /// # Safety
    /// `frame` holds what was planned for, `to` as many patches.
    #[inline(always)]
    pub(super) unsafe fn gather(&self, frame: *const u8, first: usize, count: usize, to: *mut u8) {
        let (step, each) = if self.pool { (2, 4) } else { (1, 1) };
        let (mut row, mut column) = (first / each / self.columns, first / each % self.columns);
        let mut to = to;
        for _ in 0..count / each {
            let from = frame.add(step * (row * self.down + column * self.right));
            self.patch(from, to);
            to = to.add(self.row_bytes());
            if self.pool {
                for place in [self.right, self.down, self.down + self.right] {
                    self.patch(from.add(place), to);
                    to = to.add(self.row_bytes());
                }
            }
            column += 1;
            if column == self.columns {
                (row, column) = (row + 1, 0);
            }
        }
    }

    #[inline(always)]
    unsafe fn patch(&self, from: *const u8, to: *mut u8) {
        let mut end = to;
        for kernel_row in 0..self.kernel_rows {
            let mut from = from.add(kernel_row * self.kernel_step);
            for _ in 0..self.runs {
                // What is written too far is written over by the next run.
                for at in (0..self.run).step_by(COPY) {
                    (end.add(at) as *mut [u8; COPY])
                        .write_unaligned((from.add(at) as *const [u8; COPY]).read_unaligned());
                }
                end = end.add(self.run);
                from = from.wrapping_add(self.run_step);
            }
        }
        for at in (self.len()..self.len().next_multiple_of(BLOCK)).step_by(COPY) {
            (to.add(at) as *mut [u8; COPY]).write_unaligned([0; COPY]);
        }
    }
}
