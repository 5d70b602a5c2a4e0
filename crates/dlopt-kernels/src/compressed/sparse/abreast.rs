//! Sparse convolutions of many images: as many abreast as a register has lanes.
//!
//! Pixels lie as `[y, channel, x, image]`, so that every tap reads whole registers on whole lines of the cache, which shifted
//! planes of one image cannot have, and no sum lies between two rows. The order of every sum is the same.
#![allow(unsafe_op_in_unsafe_fn, reason = "pointers are valid for the images they were planned for: see `correlate`")]

use super::lanes::{Kernel, Lanes, Weight, run};
use super::shifts::{Ends, Places, Shifts};
use super::transpose::transpose;
use crate::compressed::lines::with_lines;
use crate::level::{Level, level};
use crate::nn::ConvShape;

/// The most registers of pixels that are summed at once.
const BLOCK: usize = 12;
/// Registers of pixels that fit the first cache.
const LINES: usize = 448;
/// Floats of the rows of pixels that are held at a time: half of a second cache, or less, but for what one row of outputs sees.
const HELD: usize = 1 << 16;

/// Images that run abreast at the level in use.
pub(super) fn lanes() -> usize {
    if level() >= Level::Avx512 { 16 } else { 8 }
}

/// How pixels lie, in registers, and where weights find them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abreast {
    shape: ConvShape,
    /// Pixels of a row with its padding.
    width: usize,
}

impl Abreast {
    pub(super) fn new(shape: ConvShape) -> Self {
        Self { shape, width: shape.width + shape.padding[2] + shape.padding[3] }
    }

    /// Where the weight `[ky, kx, input]` finds its pixel for the output at 0.
    pub(super) fn offset(&self, weight: usize) -> usize {
        let ConvShape { inputs, kernel, dilation, .. } = self.shape;
        let (tap, input) = (weight / inputs, weight % inputs);
        let [y, x] = [tap / kernel[1] * dilation[0], tap % kernel[1] * dilation[1]];
        (y * inputs + input) * self.width + x
    }

    /// Which part of a channel's weights `[ky, kx, input]` is in: those of a part read what fits the first cache.
    pub(super) fn part(&self, weight: usize) -> usize {
        let ConvShape { inputs, kernel, .. } = self.shape;
        let (tap, input) = (weight / inputs, weight % inputs);
        let seen = self.width.min(BLOCK * self.shape.stride[1] + kernel[1]);
        if inputs * kernel[0] * seen <= LINES {
            0
        } else if inputs * seen <= LINES {
            tap / kernel[1]
        } else {
            let most = (LINES / BLOCK).min(inputs);
            tap * inputs.div_ceil(most) + input / most
        }
    }

    /// Registers of a row of pixels of all channels.
    fn row(&self) -> usize {
        self.shape.inputs * self.width
    }

    /// Rows of pixels that so many rows of outputs see.
    fn seen(&self, rows: usize) -> usize {
        (rows - 1) * self.shape.stride[0] + (self.shape.kernel[0] - 1) * self.shape.dilation[0] + 1
    }

    /// The most rows of outputs whose pixels are held at a time, a multiple of `even`.
    fn band(&self, rows: usize, even: usize, lanes: usize) -> usize {
        let fits = |band: &usize| self.seen(*band) * self.row() * lanes <= HELD;
        (even..=rows).step_by(even).take_while(fits).last().unwrap_or(even).min(rows)
    }
}

/// What is to be computed.
pub(super) struct Job<'a> {
    pub(super) pixels: Abreast,
    /// Rows and columns of outputs, before the pool.
    pub(super) size: [usize; 2],
    pub(super) ends: Ends<'a>,
    pub(super) pool: bool,
}

/// Computes the outputs of images, `x` being `[images, y, x, channel]`.
///
/// # Panics
/// When a slice does not have the length it should.
pub(super) fn correlate<W: Weight>(weights: &Shifts<W>, job: &Job<'_>, images: usize, x: &[f32], out: &mut [f32]) {
    let shape = &job.pixels.shape;
    let even = if job.pool { 2 } else { 1 };
    let [rows, columns] = job.size;
    assert_eq!(x.len(), images * shape.input_len(), "values of the images");
    assert_eq!(out.len(), images * rows * columns / (even * even) * shape.outputs, "values of the outputs");
    let lanes = lanes();
    let width = block(columns);
    let columns = columns.next_multiple_of(width);
    let band = job.pixels.band(rows, even, lanes);
    // What a last block reads behind the last row; and channels that are no power of two apart.
    let held = job.pixels.seen(band) * job.pixels.row() + columns * shape.stride[1];
    let step = columns * lanes + 16;
    with_lines(held * lanes, |held| {
        // What no pixel is written to is computed with too: where it is no ordinary number that may be slow.
        let written = if images.is_multiple_of(lanes) { job.pixels.seen(band) * job.pixels.row() * lanes } else { 0 };
        held[written..].fill(0.0);
        with_lines(even * shape.outputs * step, |sums| {
            let run_of = Run { weights, job, images, lanes, width, band, step, x, held, sums, out };
            // SAFETY: the slices have the lengths that were worked out for these images above.
            unsafe { run(run_of) };
        });
    });
}

/// Registers of a block, the same for all blocks of a row.
fn block(columns: usize) -> usize {
    columns.div_ceil(columns.div_ceil(BLOCK)).next_multiple_of(2)
}

struct Run<'a, W> {
    weights: &'a Shifts<W>,
    job: &'a Job<'a>,
    images: usize,
    lanes: usize,
    /// Registers of a block of outputs.
    width: usize,
    band: usize,
    step: usize,
    x: &'a [f32],
    held: &'a mut [f32],
    sums: &'a mut [f32],
    out: &'a mut [f32],
}

impl<W: Weight> Kernel for Run<'_, W> {
    #[inline(always)]
    unsafe fn run<T: Lanes>(mut self) {
        assert_eq!(T::N, self.lanes, "the level changed on the way");
        let rows = self.job.size[0];
        for first in (0..self.images).step_by(T::N) {
            let count = T::N.min(self.images - first);
            for band in (0..rows).step_by(self.band) {
                let len = self.band.min(rows - band);
                self.fill(first, count, band, len);
                for row in 0..len {
                    self.row::<T>(row);
                    match self.job.pool {
                        true if row % 2 == 1 => self.pool::<T>(first, count, band + row),
                        true => {}
                        false => self.write(first, count, band + row),
                    }
                }
            }
        }
    }
}

impl<W: Weight> Run<'_, W> {
    /// Puts the pixels that a band of outputs sees abreast. Lanes without an image keep what they held.
    #[inline(always)]
    unsafe fn fill(&mut self, first: usize, count: usize, band: usize, len: usize) {
        let (pixels, lanes) = (&self.job.pixels, self.lanes);
        let ConvShape { height, width, inputs, padding: [top, _, left, right], .. } = pixels.shape;
        let (row_len, channel) = (pixels.row() * lanes, pixels.width * lanes);
        let image_len = pixels.shape.input_len();
        for row in 0..pixels.seen(len) {
            let to = &mut self.held[row * row_len..][..row_len];
            let y = (band * pixels.shape.stride[0] + row).wrapping_sub(top);
            if y >= height {
                to.fill(0.0);
                continue;
            }
            if left + right > 0 {
                for line in to.chunks_exact_mut(channel) {
                    line[..left * lanes].fill(0.0);
                    line[(left + width) * lanes..].fill(0.0);
                }
            }
            for x in 0..width {
                let from = &self.x[first * image_len + (y * width + x) * inputs..];
                let to = to[(left + x) * lanes..].as_mut_ptr();
                // The pixel of `count` images, and a place for it in each channel's line.
                transpose(from.as_ptr(), image_len, count, inputs, to, channel);
            }
        }
    }

    /// Sums of a row of outputs, to the upper or the lower row that is held.
    #[inline(always)]
    unsafe fn row<T: Lanes>(&mut self, row: usize) {
        let shape = &self.job.pixels.shape;
        let apart = shape.stride[1] * T::N;
        let from = self.held.as_ptr().add(row * shape.stride[0] * self.job.pixels.row() * T::N);
        let lower = if self.job.pool { row % 2 * shape.outputs * self.step } else { 0 };
        let to = self.sums.as_mut_ptr().add(lower);
        for at in (0..self.job.size[1]).step_by(self.width) {
            let places =
                Places { from: from.add(at * apart), unit: T::N, apart, to: to.add(at * T::N), step: self.step };
            let (weights, ends) = (self.weights, self.job.ends);
            match self.width {
                2 => weights.block::<T, 2>(ends, places),
                4 => weights.block::<T, 4>(ends, places),
                6 => weights.block::<T, 6>(ends, places),
                8 => weights.block::<T, 8>(ends, places),
                10 => weights.block::<T, 10>(ends, places),
                _ => weights.block::<T, BLOCK>(ends, places),
            }
        }
    }

    /// The sums of a row as pixels of the images.
    #[inline(always)]
    unsafe fn write(&mut self, first: usize, count: usize, row: usize) {
        let (outputs, columns) = (self.job.pixels.shape.outputs, self.job.size[1]);
        let image_len = self.job.size[0] * columns * outputs;
        for column in 0..columns {
            let to = self.out[first * image_len + (row * columns + column) * outputs..].as_mut_ptr();
            transpose(self.sums.as_ptr().add(column * self.lanes), self.step, outputs, count, to, image_len);
        }
    }

    /// The largest of each 2x2 outputs, none of which is below 0, as pixels of the images; `row` is the lower one.
    #[inline(always)]
    unsafe fn pool<T: Lanes>(&mut self, first: usize, count: usize, row: usize) {
        let (outputs, [rows, columns]) = (self.job.pixels.shape.outputs, self.job.size);
        for output in 0..outputs {
            let upper = self.sums.as_mut_ptr().add(output * self.step);
            let lower = upper.add(outputs * self.step);
            for column in 0..columns / 2 {
                let of = |row: *mut f32| {
                    let left = row.add(2 * column * T::N);
                    T::load(left).larger(T::load(left.add(T::N)))
                };
                of(upper).larger(of(lower)).store(upper.add(column * T::N));
            }
        }
        let image_len = rows / 2 * (columns / 2) * outputs;
        for column in 0..columns / 2 {
            let to = self.out[first * image_len + (row / 2 * (columns / 2) + column) * outputs..].as_mut_ptr();
            transpose(self.sums.as_ptr().add(column * self.lanes), self.step, outputs, count, to, image_len);
        }
    }
}
