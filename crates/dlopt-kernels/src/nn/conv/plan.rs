//! Where the operands of every output lie: a convolution, and its input gradient, as correlations of a bordered map.
//!
//! Every correlation here is the sum, over runs of contiguous values, of `map[pixel + offset(run) + i] * weight[run, i]`. In a
//! convolution without dilation or groups the `kw * inputs` values of a kernel row are one run.
//!
//! The input gradient of a convolution with stride `s` falls apart into `s[0] * s[1]` phases: the inputs of a phase see the
//! same taps, and see the output gradient as a map without gaps. So it is one small correlation a phase, and no zeros are
//! put between the gradients.

use std::ops::Range;

use super::pack::packed_len;
use super::shape::ConvShape;

/// A map with a border of zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    /// Above, below, left, right.
    pub(super) border: [usize; 4],
}

impl Frame {
    /// Floats from one row to the next.
    pub(super) fn row(&self) -> usize {
        (self.border[2] + self.width + self.border[3]) * self.channels
    }

    pub(super) fn len(&self) -> usize {
        (self.border[0] + self.height + self.border[1]) * self.row()
    }

    /// Where the map itself begins.
    pub(super) fn inside(&self) -> usize {
        self.border[0] * self.row() + self.border[2] * self.channels
    }

    pub(super) fn is_bare(&self) -> bool {
        self.border == [0; 4]
    }
}

/// Rows of a correlation whose sums take the same runs; the others meet only the border.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Band {
    pub(super) rows: Range<usize>,
    pub(super) runs: Range<usize>,
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
    /// Where each run begins, from the pixel's place.
    pub(super) offsets: Vec<usize>,
    /// Values of a run.
    pub(super) len: usize,
    pub(super) bands: Vec<Band>,
    /// The same by run: the rows that take it.
    pub(super) live: Vec<Range<usize>>,
    /// The kernel's taps, `ky * kw + kx`, in the order in which the runs meet them.
    pub(super) taps: Vec<usize>,
    /// Where the first output lies, and floats from one output to the next and from one row to the next.
    pub(super) first: usize,
    pub(super) out_pixel: usize,
    pub(super) out_row: usize,
}

impl Correlation {
    /// Values of all runs: the rows of the packed weight.
    pub(super) fn depth(&self) -> usize {
        self.offsets.len() * self.len
    }

    /// Values of the packed weight.
    pub(super) fn packed_len(&self) -> usize {
        self.groups * packed_len(self.depth(), self.channels)
    }

    fn with_bands(mut self) -> Self {
        for row in 0..self.rows {
            let mut taken = (0..self.live.len()).filter(|&run| self.live[run].contains(&row));
            let runs = taken.next().map_or(0..0, |first| first..taken.next_back().unwrap_or(first) + 1);
            match self.bands.last_mut() {
                Some(band) if band.runs == runs => band.rows.end = row + 1,
                _ => self.bands.push(Band { rows: row..row + 1, runs }),
            }
        }
        self
    }
}

/// The rows `r < rows` for which `r * step + at`, counted in rows of the bordered map, is a row of the map itself.
fn live_rows(rows: usize, step: usize, at: usize, frame: &Frame) -> Range<usize> {
    let top = frame.border[0];
    let first = top.saturating_sub(at).div_ceil(step);
    let end = (top + frame.height).saturating_sub(at).div_ceil(step);
    first.min(rows)..end.min(rows).max(first.min(rows))
}

/// The bordered input. A depthwise convolution sees each input channel once for each of its outputs.
pub(super) fn input_frame(shape: &ConvShape) -> Frame {
    let channels = if shape.is_depthwise() { shape.outputs } else { shape.inputs };
    Frame { height: shape.height, width: shape.width, channels, border: shape.padding }
}

/// The forward pass on [`input_frame`] for the first `rows` and `columns` of the output.
pub(super) fn forward(shape: &ConvShape, frame: &Frame, rows: usize, columns: usize) -> Correlation {
    let [kh, kw] = shape.kernel;
    let (pixel, row) = (frame.channels, frame.row());
    // Whole kernel rows where they are contiguous.
    let is_whole = shape.groups == 1 && (shape.dilation[1] == 1 || kw == 1);
    let across = if is_whole { 1 } else { kw };
    let runs = || (0..kh).flat_map(|ky| (0..across).map(move |kx| (ky, kx)));
    let (is_depthwise, groups) = channel_groups(shape);
    Correlation {
        is_depthwise,
        groups,
        channels: shape.outputs / groups,
        sees: frame.channels / groups,
        rows,
        columns,
        pixel: shape.stride[1] * pixel,
        row: shape.stride[0] * row,
        offsets: runs().map(|(ky, kx)| ky * shape.dilation[0] * row + kx * shape.dilation[1] * pixel).collect(),
        len: if is_whole { kw * shape.inputs } else { shape.inputs / shape.groups },
        bands: vec![],
        live: runs().map(|(ky, _)| live_rows(rows, shape.stride[0], ky * shape.dilation[0], frame)).collect(),
        taps: (0..kh * kw).collect(),
        first: 0,
        out_pixel: shape.outputs,
        out_row: shape.out_width() * shape.outputs,
    }
    .with_bands()
}

fn channel_groups(shape: &ConvShape) -> (bool, usize) {
    if shape.is_depthwise() { (true, 1) } else { (false, shape.groups) }
}

/// One axis of a phase: the inputs `stride * q + phase - padding` and the taps they see.
struct Phase {
    /// The input of the smallest `q`.
    first: usize,
    /// Smallest `q`.
    start: usize,
    count: usize,
    /// Taps and how far behind `q` the gradient lies that each meets; farthest first.
    taps: Vec<(usize, usize)>,
}

fn phase_of(phase: usize, len: usize, stride: usize, dilation: usize, kernel: usize, padding: usize) -> Phase {
    let start = padding.saturating_sub(phase).div_ceil(stride);
    let end = (len + padding).saturating_sub(phase).div_ceil(stride);
    let taps = (0..kernel).rev().filter(|k| k * dilation % stride == phase).map(|k| (k, k * dilation / stride));
    Phase {
        first: (start * stride + phase).saturating_sub(padding),
        start,
        count: end.saturating_sub(start),
        taps: taps.collect(),
    }
}

/// The input gradient: the bordered output gradient of the first `rows` and `columns`, and one correlation a phase.
pub(super) fn backward(shape: &ConvShape, rows: usize, columns: usize) -> (Frame, Vec<Correlation>) {
    let [kh, kw] = shape.kernel;
    let [top, _, left, _] = shape.padding;
    let axis = |axis: usize, len, kernel, padding| -> Vec<Phase> {
        let (stride, dilation) = (shape.stride[axis], shape.dilation[axis]);
        (0..stride).map(|phase| phase_of(phase, len, stride, dilation, kernel, padding)).collect()
    };
    let (down, across) = (axis(0, shape.height, kh, top), axis(1, shape.width, kw, left));
    let (above, below) = borders(&down, rows);
    let (before, after) = borders(&across, columns);
    let frame = Frame { height: rows, width: columns, channels: shape.outputs, border: [above, below, before, after] };
    let (pixel, row) = (frame.channels, frame.row());
    let (is_depthwise, groups) = channel_groups(shape);
    // A depthwise gradient has the channels of the output; they are summed over the multiplier afterwards.
    let channels = if is_depthwise { shape.outputs } else { shape.inputs };
    let mut phases = vec![];
    for y in &down {
        for x in &across {
            let steps_by_one = x.taps.windows(2).all(|pair| pair[0].1 == pair[1].1 + 1);
            let is_whole = shape.groups == 1 && steps_by_one && !x.taps.is_empty();
            let heads = if is_whole { &x.taps[..1] } else { &x.taps[..] };
            let runs = || y.taps.iter().flat_map(|ky| heads.iter().map(move |kx| (ky, kx)));
            let outputs = if is_depthwise { 1 } else { shape.outputs / groups };
            let correlation = Correlation {
                is_depthwise,
                groups,
                channels: channels / groups,
                sees: shape.outputs / groups,
                rows: y.count,
                columns: x.count,
                pixel,
                row,
                offsets: runs()
                    .map(|(ky, kx)| (y.start + above - ky.1) * row + (x.start + before - kx.1) * pixel)
                    .collect(),
                len: if is_whole { x.taps.len() * outputs } else { outputs },
                bands: vec![],
                live: runs().map(|(ky, _)| live_rows(y.count, 1, y.start + above - ky.1, &frame)).collect(),
                taps: y.taps.iter().flat_map(|ky| x.taps.iter().map(|kx| ky.0 * kw + kx.0)).collect(),
                first: (y.first * shape.width + x.first) * channels,
                out_pixel: shape.stride[1] * channels,
                out_row: shape.stride[0] * shape.width * channels,
            };
            if y.count * x.count > 0 {
                phases.push(correlation.with_bands());
            }
        }
    }
    (frame, phases)
}

/// Zeros needed before and after `len` gradients, so that no phase reads beside them.
fn borders(phases: &[Phase], len: usize) -> (usize, usize) {
    let reads = |phase: &Phase| phase.count > 0 && !phase.taps.is_empty();
    let before = phases.iter().filter(|p| reads(p)).map(|p| p.taps[0].1.saturating_sub(p.start)).max();
    let after = phases.iter().filter(|p| reads(p)).map(|p| {
        let nearest = p.taps[p.taps.len() - 1].1;
        (p.start + p.count).saturating_sub(nearest + len)
    });
    (before.unwrap_or(0), after.max().unwrap_or(0))
}
