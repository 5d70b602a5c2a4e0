//! Where the operands of every output lie: a convolution, and its input gradient, as correlations of a map.
//!
//! Every correlation here is the sum, over runs of contiguous values, of `map[pixel + at(run) + i] * weight[run, i]`. In a
//! convolution without dilation or groups the `kw * inputs` values of a kernel row are one run. Taps that meet only padding
//! above or below the map are left out, and those beside it either too, or they meet columns of zeros around a copy of
//! the map: outputs that take the same taps form a cell.
//!
//! The input gradient of a convolution with stride `s` falls apart into `s[0] * s[1]` phases: the inputs of a phase see the
//! same taps, and see the output gradient as a map without gaps. So it is one small correlation a phase, and no zeros are
//! put between the gradients.

use std::ops::Range;

use super::frame::Frame;
use super::pack::packed_len;
use super::shape::ConvShape;

/// Contiguous values that a sum takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where they begin in the map, from the place of the output: its row times [`Correlation::row`] and its column times
    /// [`Correlation::pixel`].
    pub(crate) at: isize,
    /// The row of the packed weight that the first of them meets.
    pub(crate) weight: usize,
}

/// Outputs whose sums take the same runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
    pub(super) runs: Vec<Run>,
    /// Values of each run.
    pub(super) len: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Correlation {
    /// Each lane is a channel of its own, and a run a tap of all of them.
    pub(super) is_depthwise: bool,
    /// Groups of channels, 1 if depthwise; those that a group computes, and those of the map that it sees.
    pub(super) groups: usize,
    pub(super) channels: usize,
    pub(super) sees: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Floats in the map from one output to the next in a row, and from one row to the next.
    pub(super) pixel: usize,
    pub(super) row: usize,
    /// The kernel's taps, `ky * kw + kx`, in the order of the packed weight.
    pub(super) taps: Vec<usize>,
    /// All outputs, each once.
    pub(super) cells: Vec<Cell>,
    /// All runs at their whole length, and the rows of outputs that take each.
    pub(super) runs: Vec<(Run, Range<usize>)>,
    pub(super) len: usize,
    /// Where the first output lies, and floats from one output to the next and from one row to the next.
    pub(super) first: usize,
    pub(super) out_pixel: usize,
    pub(super) out_row: usize,
}

impl Correlation {
    /// Rows of the packed weight.
    pub(super) fn depth(&self) -> usize {
        self.taps.len() * if self.is_depthwise { 1 } else { self.sees }
    }

    /// Values of the packed weight.
    pub(super) fn packed_len(&self) -> usize {
        self.groups * packed_len(self.depth(), self.channels)
    }
}

/// One axis of a correlation.
struct Axis {
    /// Outputs, and the step between two in places of the map.
    count: usize,
    step: usize,
    /// Taps of the kernel and where each lies from the first output, nearest to the beginning of the map first.
    taps: Vec<(usize, isize)>,
    /// Places of the map.
    len: usize,
}

impl Axis {
    /// The outputs that meet the map itself with a tap at `at`.
    fn live(&self, at: isize) -> Range<usize> {
        let first = (-at).max(0).cast_unsigned().div_ceil(self.step).min(self.count);
        let end = (self.len.cast_signed() - at).max(0).cast_unsigned().div_ceil(self.step).min(self.count);
        first..end.max(first)
    }

    /// Outputs that take the same taps, with the range of those in `taps`.
    fn bands(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let mut bands: Vec<(Range<usize>, Range<usize>)> = vec![];
        let live: Vec<Range<usize>> = self.taps.iter().map(|tap| self.live(tap.1)).collect();
        for output in 0..self.count {
            let mut taken = (0..live.len()).filter(|&tap| live[tap].contains(&output));
            let taps = taken.next().map_or(0..0, |first| first..taken.next_back().unwrap_or(first) + 1);
            match bands.last_mut() {
                Some(band) if band.1 == taps => band.0.end = output + 1,
                _ => bands.push((output..output + 1, taps)),
            }
        }
        bands
    }

    /// Columns of zeros before and after the map so that all outputs may take all taps.
    fn border(&self) -> (usize, usize) {
        let (Some(first), Some(last), Some(end)) = (self.taps.first(), self.taps.last(), self.count.checked_sub(1))
        else {
            return (0, 0);
        };
        let behind = last.1 + (end * self.step).cast_signed() + 1 - self.len.cast_signed();
        ((-first.1).max(0).cast_unsigned(), behind.max(0).cast_unsigned())
    }
}

/// Plans all but where outputs lie; `frame` is the map.
fn correlation(
    shape: &ConvShape,
    frame: &Frame,
    sides: Sides,
    (down, across): (&Axis, &Axis),
    channels: usize,
) -> Correlation {
    let (is_depthwise, groups) = if shape.is_depthwise() { (true, 1) } else { (false, shape.groups) };
    let sees = frame.channels / groups;
    let values = if is_depthwise { 1 } else { sees };
    let (pixel, row) = (frame.channels, frame.row());
    // The neighbouring taps of a kernel row are one run where they are neighbours in the map too.
    let is_whole = !is_depthwise && groups == 1 && across.taps.windows(2).all(|pair| pair[0].1 + 1 == pair[1].1);
    let per_run = if is_whole { across.taps.len() } else { 1 };
    let runs_of = |ky: usize, kx: &Range<usize>| {
        let at = down.taps[ky].1 * row.cast_signed();
        let run = move |kx: usize| Run {
            at: at + (across.taps[kx].1 + frame.left.cast_signed()) * pixel.cast_signed(),
            weight: (ky * across.taps.len() + kx) * values,
        };
        kx.clone().step_by(per_run.max(1)).map(run)
    };
    let all = 0..across.taps.len();
    let sides = match sides {
        Sides::Cut => across.bands(),
        Sides::Zeros => vec![(0..across.count, all.clone())],
    };
    let mut cells = vec![];
    for (rows, ky) in down.bands() {
        for (columns, kx) in &sides {
            let runs = ky.clone().flat_map(|ky| runs_of(ky, kx)).collect();
            let len = values * if is_whole { kx.len() } else { 1 };
            cells.push(Cell { rows: rows.clone(), columns: columns.clone(), runs, len });
        }
    }
    let runs = (0..down.taps.len()).flat_map(|ky| {
        let live = down.live(down.taps[ky].1);
        runs_of(ky, &all).map(move |run| (run, live.clone()))
    });
    let kw = shape.kernel[1];
    Correlation {
        is_depthwise,
        groups,
        channels: channels / groups,
        sees,
        rows: down.count,
        columns: across.count,
        pixel: across.step * pixel,
        row: down.step * row,
        taps: down.taps.iter().flat_map(|ky| across.taps.iter().map(|kx| ky.0 * kw + kx.0)).collect(),
        cells,
        runs: runs.collect(),
        len: values * per_run,
        first: 0,
        out_pixel: 0,
        out_row: 0,
    }
}

/// The forward pass for the first `rows` and `columns` of the output: the map it reads, and the correlation. A depthwise
/// convolution sees each input channel once for each of its outputs.
pub(super) fn forward(shape: &ConvShape, rows: usize, columns: usize, sides: Sides) -> (Frame, Correlation) {
    let axis = |axis: usize, count, len| {
        let at = |k: usize| (k * shape.dilation[axis]).cast_signed() - shape.padding[2 * axis].cast_signed();
        Axis { count, step: shape.stride[axis], taps: (0..shape.kernel[axis]).map(|k| (k, at(k))).collect(), len }
    };
    let (down, across) = (axis(0, rows, shape.height), axis(1, columns, shape.width));
    let repeat = if shape.is_depthwise() { shape.outputs / shape.inputs } else { 1 };
    let channels = shape.inputs * repeat;
    let (left, right) = if sides == Sides::Zeros { across.border() } else { (0, 0) };
    let frame = Frame { height: shape.height, width: shape.width, channels, repeat, left, right };
    let mut plan = correlation(shape, &frame, sides, (&down, &across), shape.outputs);
    (plan.out_pixel, plan.out_row) = (shape.outputs, shape.out_width() * shape.outputs);
    (frame, plan)
}

/// What becomes of taps that meet padding beside the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sides {
    /// They are left out: cells are narrower.
    Cut,
    /// They meet zeros, in a copy of the map: runs stay whole.
    Zeros,
}

/// One axis of a phase: the inputs `stride * q + phase - padding`, and the first of them.
fn phase(shape: &ConvShape, axis: usize, phase: usize, gradients: usize) -> (Axis, usize) {
    let len = [shape.height, shape.width][axis];
    let (stride, dilation, padding) = (shape.stride[axis], shape.dilation[axis], shape.padding[2 * axis]);
    let start = padding.saturating_sub(phase).div_ceil(stride);
    let end = (len + padding).saturating_sub(phase).div_ceil(stride);
    let taps = (0..shape.kernel[axis]).rev().filter(|k| k * dilation % stride == phase);
    let taps = taps.map(|k| (k, start.cast_signed() - (k * dilation / stride).cast_signed())).collect();
    let axis = Axis { count: end.saturating_sub(start), step: 1, taps, len: gradients };
    (axis, (start * stride + phase).saturating_sub(padding))
}

/// The input gradient: one correlation a phase, of the output gradient of the first `rows` and `columns`.
pub(super) fn backward(shape: &ConvShape, rows: usize, columns: usize) -> Vec<Correlation> {
    // A depthwise gradient has the channels of the output; they are summed over the multiplier afterwards.
    let channels = if shape.is_depthwise() { shape.outputs } else { shape.inputs };
    let across: Vec<_> = (0..shape.stride[1]).map(|x| phase(shape, 1, x, columns)).collect();
    let frame = Frame { height: rows, width: columns, channels: shape.outputs, repeat: 1, left: 0, right: 0 };
    let mut phases = vec![];
    for (down, y) in (0..shape.stride[0]).map(|y| phase(shape, 0, y, rows)) {
        for (across, x) in across.iter().filter(|(across, _)| across.count * down.count > 0) {
            let mut plan = correlation(shape, &frame, Sides::Cut, (&down, across), channels);
            plan.first = (y * shape.width + x) * channels;
            plan.out_pixel = shape.stride[1] * channels;
            plan.out_row = shape.stride[0] * shape.width * channels;
            phases.push(plan);
        }
    }
    phases
}
