//! Convolutions and pools: the cells under every tap of a window as tensors of their own.

use candle_core::{DType, Result, Tensor};

use crate::plan::{PadKind, PoolKind};

/// How a window slides over a picture `[samples, y, x, channels]`; a series is a picture of one row.
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// Top, bottom, left, right.
    pub(super) padding: [usize; 4],
}

/// Weights: `[taps, in / groups, out]`, then the bias if any. Gives `[samples, y, x, out]`.
pub(super) fn convolution(x: &Tensor, window: &Window, groups: usize, weights: &[Tensor]) -> Result<Tensor> {
    let x = picture(x)?;
    let taps = window.taps(&x, 0.0)?;
    let (samples, height, width, channels) = taps[0].dims4()?;
    let (count, inputs, outputs) = weights[0].dims3()?;
    let rows = samples * height * width;
    let cells = Tensor::stack(&taps, 3)?.reshape((rows, count, channels))?;
    let y = if inputs == 1 && groups > 1 {
        // Each channel by itself: no matrices, only sums over taps.
        let each = outputs / groups;
        let weight = weights[0].reshape((1, count, channels, each))?;
        cells.unsqueeze(3)?.broadcast_mul(&weight)?.sum(1)?
    } else {
        let each = outputs / groups;
        let parts: Vec<Tensor> = (0..groups)
            .map(|group| {
                let own = cells.narrow(2, group * inputs, inputs)?.contiguous()?.reshape((rows, count * inputs))?;
                let weight = weights[0].narrow(2, group * each, each)?.contiguous()?;
                own.matmul(&weight.reshape((count * inputs, each))?)
            })
            .collect::<Result<_>>()?;
        Tensor::cat(&parts, 1)?
    };
    let y = y.reshape((rows, outputs))?;
    let y = match weights.get(1) {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape((samples, height, width, outputs))
}

/// The largest value of each window, the first of equals, or the mean of its cells inside the picture.
pub(super) fn pool(x: &Tensor, window: &Window, kind: PoolKind) -> Result<Tensor> {
    let x = picture(x)?;
    let outside = match kind {
        PoolKind::Max => f32::NEG_INFINITY,
        PoolKind::Average => 0.0,
    };
    let taps = window.taps(&x, outside)?;
    let (first, rest) = (&taps[0], &taps[1..]);
    match kind {
        PoolKind::Max => rest.iter().try_fold(first.clone(), |most, tap| most.ge(tap)?.where_cond(&most, tap)),
        PoolKind::Average => {
            let sum = rest.iter().try_fold(first.clone(), |sum, tap| sum + tap)?;
            let (_, height, width, _) = x.dims4()?;
            let inside = Tensor::ones((1, height, width, 1), DType::F32, x.device())?;
            let counted = window.taps(&inside, 0.0)?;
            let count = counted[1..].iter().try_fold(counted[0].clone(), |sum, tap| sum + tap)?;
            sum.broadcast_div(&count)
        }
    }
}

impl Window {
    /// For every tap of the kernel, row by row, the cells that it meets: `[samples, y, x, channels]` each.
    fn taps(&self, x: &Tensor, outside: f32) -> Result<Vec<Tensor>> {
        let [top, bottom, left, right] = self.padding;
        let x = pad(&pad(x, 1, top, bottom, outside)?, 2, left, right, outside)?;
        let mut taps = Vec::with_capacity(self.kernel[0] * self.kernel[1]);
        for row in 0..self.kernel[0] {
            let rows = self.along(&x, 1, row)?;
            for column in 0..self.kernel[1] {
                taps.push(self.along(&rows, 2, column)?);
            }
        }
        Ok(taps)
    }

    /// The places along one axis that a tap meets.
    fn along(&self, x: &Tensor, axis: usize, tap: usize) -> Result<Tensor> {
        let [kernel, stride, dilation] = [self.kernel[axis - 1], self.stride[axis - 1], self.dilation[axis - 1]];
        let count = (x.dim(axis)? - dilation * (kernel - 1) - 1) / stride + 1;
        if stride == 1 {
            return x.narrow(axis, tap * dilation, count)?.contiguous();
        }
        let places: Vec<u32> = (0..count).map(|place| (tap * dilation + place * stride) as u32).collect();
        x.contiguous()?.index_select(&Tensor::from_vec(places, count, x.device())?, axis)
    }
}

/// Steps before and after each series.
pub(super) struct Pad {
    pub(super) kind: PadKind,
    pub(super) before: usize,
    pub(super) after: usize,
}

impl Pad {
    /// `x` `[samples, time, features]`; each step that comes out is one of them, or a row of zeros behind them all.
    pub(super) fn forward(&self, x: &Tensor, lengths: Option<&[u32]>) -> Result<Tensor> {
        let (samples, time, features) = x.dims3()?;
        let padded = self.before + time + self.after;
        let mut rows = Vec::with_capacity(samples * padded);
        for sample in 0..samples {
            let length = lengths.map_or(time, |lengths| lengths[sample] as usize);
            rows.extend((0..padded).map(|step| {
                let is_inside = step < self.before + length + self.after;
                let own = if is_inside { self.kind.step(step as isize - self.before as isize, length) } else { None };
                own.map_or(samples * time, |own| sample * time + own) as u32
            }));
        }
        let zeros = Tensor::zeros((1, features), DType::F32, x.device())?;
        let all = Tensor::cat(&[&x.reshape((samples * time, features))?, &zeros], 0)?;
        all.index_select(&Tensor::from_vec(rows, samples * padded, x.device())?, 0)
    }
}

fn picture(x: &Tensor) -> Result<Tensor> {
    if x.rank() == 3 { x.unsqueeze(1) } else { Ok(x.clone()) }
}

fn pad(x: &Tensor, axis: usize, before: usize, after: usize, value: f32) -> Result<Tensor> {
    let cells = |count: usize| {
        let mut shape = x.dims().to_vec();
        shape[axis] = count;
        Tensor::full(value, shape, x.device())
    };
    match (before, after) {
        (0, 0) => Ok(x.clone()),
        (0, after) => Tensor::cat(&[x, &cells(after)?], axis),
        (before, 0) => Tensor::cat(&[&cells(before)?, x], axis),
        (before, after) => Tensor::cat(&[&cells(before)?, x, &cells(after)?], axis),
    }
}
