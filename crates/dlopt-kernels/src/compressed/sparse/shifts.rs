//! Outputs of a sparse convolution as sums of shifted pixels: its weights, and the kernel over the planes of one image.
#![allow(unsafe_op_in_unsafe_fn, reason = "pointers are valid for the pixels they were planned for: see `correlate`")]
#![allow(clippy::needless_range_loop, reason = "registers read best by their numbers")]

use super::lanes::{Kernel, Lanes, Weight, run};
use super::rows::Rows;
use super::stream::Stream;
use super::transpose::transpose;

/// The most neighbouring pixels that are summed at once.
const BLOCK: usize = 64;

/// Weights of output channels, each with its offset among the pixels.
#[derive(Debug)]
pub(super) struct Shifts<W> {
    parts: Vec<Part>,
    offsets: Stream<u32>,
    values: Stream<W>,
}

/// Weights whose pixels are near each other, of all channels.
#[derive(Debug)]
struct Part {
    /// Channels, those with the fewest weights first.
    order: Vec<u32>,
    /// Weights before each channel of the order, and one entry more.
    start: Vec<u32>,
}

impl<W: Weight> Shifts<W> {
    /// `part` cuts the weights of a channel, in order, so that the pixels which those of a part see for a block of outputs
    /// fit into the first cache.
    pub(super) fn pack(rows: &Rows<W>, offset: impl Fn(usize) -> usize, part: impl Fn(usize) -> usize) -> Self {
        let (mut parts, mut offsets, mut values) = (vec![], vec![], vec![]);
        let mut left: Vec<_> = (0..rows.outputs()).map(|output| rows.of(output)).collect();
        for index in 0..=part(rows.inputs - 1) {
            let mut taken = vec![];
            for (output, (places, weights)) in left.iter_mut().enumerate() {
                let count = places.partition_point(|&place| part(place as usize) <= index);
                let (these, rest) = (places.split_at(count), weights.split_at(count));
                (*places, *weights) = (these.1, rest.1);
                // The first and the last part begin and end the sums of all channels.
                if count > 0 || index == 0 || index == part(rows.inputs - 1) {
                    taken.push((output as u32, these.0, rest.0));
                }
            }
            // Loops over channels of equal counts end where the processor expects it.
            taken.sort_by_key(|(_, places, _)| places.len());
            let mut start = vec![values.len() as u32];
            for (_, places, weights) in &taken {
                offsets.extend(places.iter().map(|&place| offset(place as usize) as u32));
                values.extend(*weights);
                start.push(values.len() as u32);
            }
            parts.push(Part { order: taken.iter().map(|(output, ..)| *output).collect(), start });
        }
        Self { parts, offsets: Stream::new(&offsets), values: Stream::new(&values) }
    }

    pub(super) fn bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| size_of_val(&*part.order) + size_of_val(&*part.start)).sum();
        parts + self.offsets.bytes() + self.values.bytes()
    }

    pub(super) fn nonzeros(&self) -> usize {
        self.values.as_slice().len()
    }
}

/// What a sum begins with, and what follows it.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) bias: Option<&'a [f32]>,
    /// Where weights are codes.
    pub(super) scale: Option<&'a [f32]>,
    pub(super) relu: bool,
}

/// Where the pixels of a block of outputs are, and where their sums go.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) from: *const f32,
    /// Floats of one of a weight's offset, and between the pixels of two registers.
    pub(super) unit: usize,
    pub(super) apart: usize,
    pub(super) to: *mut f32,
    /// Floats between the sums of two channels.
    pub(super) step: usize,
}

impl<W: Weight> Shifts<W> {
    /// Sums of all channels for as many registers of pixels.
    ///
    /// # Safety
    /// All pixels and sums are there, and `T` is.
    #[inline(always)]
    pub(super) unsafe fn block<T: Lanes, const REGISTERS: usize>(&self, ends: Ends<'_>, places: Places) {
        let Self { parts, offsets, values } = self;
        let (mut offset, mut value) = (offsets.as_slice().as_ptr(), values.as_slice().as_ptr());
        for (index, part) in parts.iter().enumerate() {
            let (is_first, is_last) = (index == 0, index + 1 == parts.len());
            for channel in 0..part.order.len() {
                let output = part.order[channel] as usize;
                let to = places.to.add(output * places.step);
                let bias = ends.bias.map_or(0.0, |bias| bias[output]);
                let mut sums = [T::splat(if ends.scale.is_some() { 0.0 } else { bias }); REGISTERS];
                if !is_first {
                    for register in 0..REGISTERS {
                        sums[register] = T::load(to.add(register * T::N));
                    }
                }
                for _ in part.start[channel]..part.start[channel + 1] {
                    let from = places.from.add(*offset as usize * places.unit);
                    let weight = (*value).splat::<T>();
                    for register in 0..REGISTERS {
                        sums[register] = sums[register].fma(weight, T::load(from.add(register * places.apart)));
                    }
                    (offset, value) = (offset.add(1), value.add(1));
                }
                for register in 0..REGISTERS {
                    let mut sum = sums[register];
                    if is_last {
                        if let Some(scale) = ends.scale {
                            sum = T::splat(bias).fma(sum, T::splat(scale[output]));
                        }
                        sum = if ends.relu { sum.positive() } else { sum };
                    }
                    sum.store(to.add(register * T::N));
                }
            }
        }
    }
}

/// The extents of one image's outputs.
pub(super) struct Job<'a> {
    /// Floats of a row of a plane.
    pub(super) row: usize,
    /// Rows and columns of outputs, before the pool.
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Rows whose sums are held at a time, and floats from one channel's sums to the next one's.
    pub(super) band: usize,
    pub(super) step: usize,
    pub(super) outputs: usize,
    pub(super) ends: Ends<'a>,
    pub(super) pool: bool,
}

/// Computes the outputs of one image.
///
/// # Safety
/// The planes hold a block of pixels behind every pixel that an output sees. `sums` has `outputs` channels of `step`, which
/// is a band of rows and a block or more, `line` with a pool a row of outputs, `out` all outputs.
pub(super) unsafe fn correlate<W: Weight>(
    weights: &Shifts<W>,
    job: &Job,
    planes: &[f32],
    sums: &mut [f32],
    line: &mut [f32],
    out: &mut [f32],
) {
    run(Image { weights, job, planes: planes.as_ptr(), sums: sums.as_mut_ptr(), line: line.as_mut_ptr(), out })
}

struct Image<'a, W> {
    weights: &'a Shifts<W>,
    job: &'a Job<'a>,
    planes: *const f32,
    sums: *mut f32,
    line: *mut f32,
    out: &'a mut [f32],
}

impl<W: Weight> Kernel for Image<'_, W> {
    #[inline(always)]
    unsafe fn run<T: Lanes>(mut self) {
        let job = self.job;
        for first in (0..job.rows).step_by(job.band) {
            let rows = job.band.min(job.rows - first);
            let pixels = (rows - 1) * job.row + job.columns;
            let mut at = 0;
            while at < pixels {
                // The narrowest block that holds what is left.
                let planes = self.planes.add(first * job.row + at);
                at += match pixels - at {
                    0..=16 if T::N == 16 => self.block::<T, 1>(planes, at),
                    0..=16 => self.block::<T, 2>(planes, at),
                    17..=32 if T::N == 16 => self.block::<T, 2>(planes, at),
                    17..=32 => self.block::<T, 4>(planes, at),
                    _ if T::N == 16 => self.block::<T, 4>(planes, at),
                    _ => self.block::<T, 8>(planes, at),
                };
            }
            if job.pool { self.pool::<T>(first, rows) } else { self.write(first, rows) }
        }
    }
}

impl<W: Weight> Image<'_, W> {
    /// Sums of all channels for a block of pixels; says how many pixels.
    #[inline(always)]
    unsafe fn block<T: Lanes, const REGISTERS: usize>(&mut self, planes: *const f32, at: usize) -> usize {
        let (to, step) = (self.sums.add(at), self.job.step);
        let places = Places { from: planes, unit: 1, apart: T::N, to, step };
        self.weights.block::<T, REGISTERS>(self.job.ends, places);
        (REGISTERS * T::N).min(BLOCK)
    }

    #[inline(always)]
    unsafe fn write(&mut self, first: usize, rows: usize) {
        let job = self.job;
        for row in 0..rows {
            let out = self.out[(first + row) * job.columns * job.outputs..].as_mut_ptr();
            transpose(self.sums.add(row * job.row), job.step, job.outputs, job.columns, out, job.outputs);
        }
    }

    /// The largest of each 2x2 outputs, none of which is below 0.
    #[inline(always)]
    unsafe fn pool<T: Lanes>(&mut self, first: usize, rows: usize) {
        let job = self.job;
        for row in (0..rows).step_by(2) {
            for output in 0..job.outputs {
                let upper = self.sums.add(output * job.step + row * job.row);
                // Whole registers may reach into the lower row, which has been read there by then, but no further.
                let whole = job.columns.next_multiple_of(T::N);
                let len = if whole > 2 * job.row { job.columns } else { whole };
                larger::<T>(upper, upper.add(job.row), len, upper);
            }
            transpose(self.sums.add(row * job.row), job.step, job.outputs, job.columns, self.line, job.outputs);
            let out = &mut self.out[(first + row) / 2 * (job.columns / 2) * job.outputs..];
            let out = &mut out[..job.columns / 2 * job.outputs];
            for (pixel, out) in out.chunks_exact_mut(job.outputs).enumerate() {
                let left = self.line.add(2 * pixel * job.outputs);
                larger::<T>(left, left.add(job.outputs), job.outputs, out.as_mut_ptr());
            }
        }
    }
}

/// The larger of each two values, to where the first ones are if asked.
#[inline(always)]
unsafe fn larger<T: Lanes>(a: *const f32, b: *const f32, len: usize, to: *mut f32) {
    let whole = len / T::N * T::N;
    for at in (0..whole).step_by(T::N) {
        T::load(a.add(at)).larger(T::load(b.add(at))).store(to.add(at));
    }
    for at in whole..len {
        *to.add(at) = if *a.add(at) > *b.add(at) { *a.add(at) } else { *b.add(at) };
    }
}
