//! Max and average pools on images `[y, x, channel]`, and their gradients.
//!
//! The pool that follows most convolutions is fused into [`super::Convolution`]; these serve every other size, the global
//! average at the end of a residual network among them.

use super::conv::extent;

/// Channels taken at a time.
const LANES: usize = 16;

/// The sizes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Channels of input and output.
    pub channels: usize,
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Steps from one window to the next.
    pub stride: [usize; 2],
    /// What windows may hang over the edges: above, below, left, right. It never wins and is never counted.
    pub padding: [usize; 4],
}

impl PoolShape {
    /// Rows of the output; 0 when no window fits.
    pub fn out_height(&self) -> usize {
        extent(self.height + self.padding[0] + self.padding[1], self.kernel[0], self.stride[0], 1)
    }

    /// Columns of the output; 0 when no window fits.
    pub fn out_width(&self) -> usize {
        extent(self.width + self.padding[2] + self.padding[3], self.kernel[1], self.stride[1], 1)
    }

    /// Values of an input image.
    pub fn input_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Values of an output map.
    pub fn output_len(&self) -> usize {
        self.out_height() * self.out_width() * self.channels
    }

    fn check(&self, images: usize, input: usize, output: usize) {
        let [kh, kw] = self.kernel;
        let [top, bottom, left, right] = self.padding;
        let positive = [self.height, self.width, self.channels, kh, kw, self.stride[0], self.stride[1]];
        assert!(positive.iter().all(|&n| n > 0), "sizes of a pool are at least 1, found {self:?}");
        assert!(
            top.max(bottom) < kh && left.max(right) < kw && kh * kw <= usize::from(u16::MAX),
            "a pool's padding is less than its kernel, whose taps number below 65536, found {self:?}"
        );
        assert_eq!(input, images * self.input_len(), "values of a pool's inputs");
        assert_eq!(output, images * self.output_len(), "values of a pool's outputs");
    }

    /// Calls `visit` for every output of an image: its first value, and the window's taps inside the image.
    #[inline(always)]
    fn each_window(&self, mut visit: impl FnMut(usize, Window)) {
        let (rows, columns) = (self.out_height(), self.out_width());
        for y in 0..rows {
            let (first_y, top, bottom) = clip(y * self.stride[0], self.padding[0], self.kernel[0], self.height);
            for x in 0..columns {
                let (first_x, left, right) = clip(x * self.stride[1], self.padding[2], self.kernel[1], self.width);
                let at = (first_y * self.width + first_x) * self.channels;
                visit((y * columns + x) * self.channels, Window { at, taps: [top, bottom, left, right] });
            }
        }
    }
}

/// The taps of a window that lie inside the image.
#[derive(Clone, Copy)]
struct Window {
    /// Where the first of them lies.
    at: usize,
    /// First and end of the rows, first and end of the columns.
    taps: [usize; 4],
}

impl Window {
    fn count(&self) -> usize {
        let [top, bottom, left, right] = self.taps;
        (bottom - top) * (right - left)
    }

    /// Calls `visit` with each tap's number in the whole window and its place in the image.
    #[inline(always)]
    fn each_tap(&self, shape: &PoolShape, mut visit: impl FnMut(usize, usize)) {
        let [top, bottom, left, right] = self.taps;
        for y in top..bottom {
            let row = self.at + (y - top) * shape.width * shape.channels;
            for x in left..right {
                visit(y * shape.kernel[1] + x, row + (x - left) * shape.channels);
            }
        }
    }
}

/// First place inside the image, first tap inside and first tap behind it.
fn clip(start: usize, padding: usize, kernel: usize, len: usize) -> (usize, usize, usize) {
    let first = padding.saturating_sub(start);
    (start + first - padding, first, kernel.min(len + padding - start))
}

/// Max pool: `out`, `[images, out_height, out_width, channels]`, is the greatest value of each window of `x`.
///
/// `won` is given for training: the place of that value in its window, `ky * kernel[1] + kx`, the first of equals. NaN is
/// greater than every number, so it shows in the output.
///
/// # Panics
/// When a slice does not have the length it should, or padding is not less than the kernel.
pub fn max_pool(shape: &PoolShape, images: usize, x: &[f32], out: &mut [f32], won: Option<&mut [u16]>) {
    shape.check(images, x.len(), out.len());
    assert!(won.as_ref().is_none_or(|won| won.len() == out.len()), "one winner for each output");
    let mut won = won.unwrap_or_default();
    let (input, output) = (shape.input_len(), shape.output_len().max(1));
    for (x, out) in x.chunks_exact(input).zip(out.chunks_exact_mut(output)) {
        let (part, rest) = std::mem::take(&mut won).split_at_mut_checked(output).unwrap_or_default();
        won = rest;
        dispatch!(max_image(shape: &PoolShape, x: &[f32], out: &mut [f32], part: &mut [u16]));
    }
}

#[inline(always)]
fn max_image(shape: &PoolShape, x: &[f32], out: &mut [f32], won: &mut [u16]) {
    shape.each_window(|to, window| {
        for channel in (0..shape.channels).step_by(LANES) {
            let count = LANES.min(shape.channels - channel);
            let mut best = [f32::NEG_INFINITY; LANES];
            let mut tap_of_best = [window.taps[0] as u32 * shape.kernel[1] as u32 + window.taps[2] as u32; LANES];
            window.each_tap(shape, |tap, at| {
                let values = load(x, at + channel, count);
                for lane in 0..LANES {
                    // Without a branch, so that lanes stay together.
                    let wins = (values[lane] > best[lane]) | values[lane].is_nan();
                    best[lane] = if wins { values[lane] } else { best[lane] };
                    tap_of_best[lane] = if wins { tap as u32 } else { tap_of_best[lane] };
                }
            });
            out[to + channel..][..count].copy_from_slice(&best[..count]);
            if !won.is_empty() {
                let places = tap_of_best.map(|tap| tap as u16);
                won[to + channel..][..count].copy_from_slice(&places[..count]);
            }
        }
    });
}

/// Gradient of [`max_pool`]: writes `dx`, where each gradient went to the place that `won`; overlapping windows add up.
///
/// # Panics
/// When a slice does not have the length it should, or padding is not less than the kernel.
pub fn max_pool_gradient(shape: &PoolShape, images: usize, won: &[u16], gradient: &[f32], dx: &mut [f32]) {
    shape.check(images, dx.len(), gradient.len());
    assert_eq!(won.len(), gradient.len(), "one winner for each gradient");
    dx.fill(0.0);
    let (input, output) = (shape.input_len(), shape.output_len().max(1));
    let parts = won.chunks_exact(output).zip(gradient.chunks_exact(output));
    for (dx, (won, gradient)) in dx.chunks_exact_mut(input).zip(parts) {
        dispatch!(max_gradient_image(shape: &PoolShape, won: &[u16], gradient: &[f32], dx: &mut [f32]));
    }
}

#[inline(always)]
fn max_gradient_image(shape: &PoolShape, won: &[u16], gradient: &[f32], dx: &mut [f32]) {
    shape.each_window(|from, window| {
        for channel in (0..shape.channels).step_by(LANES) {
            let count = LANES.min(shape.channels - channel);
            let values = load(gradient, from + channel, count);
            let mut places = [u16::MAX; LANES];
            places[..count].copy_from_slice(&won[from + channel..][..count]);
            window.each_tap(shape, |tap, at| {
                let mut sums = load(dx, at + channel, count);
                for lane in 0..LANES {
                    sums[lane] += if u32::from(places[lane]) == tap as u32 { values[lane] } else { 0.0 };
                }
                dx[at + channel..][..count].copy_from_slice(&sums[..count]);
            });
        }
    });
}

/// Average pool: the mean of each window of `x`, padding not counted.
///
/// # Panics
/// When a slice does not have the length it should, or padding is not less than the kernel.
pub fn average_pool(shape: &PoolShape, images: usize, x: &[f32], out: &mut [f32]) {
    shape.check(images, x.len(), out.len());
    let (input, output) = (shape.input_len(), shape.output_len().max(1));
    for (x, out) in x.chunks_exact(input).zip(out.chunks_exact_mut(output)) {
        dispatch!(average_image(shape: &PoolShape, x: &[f32], out: &mut [f32]));
    }
}

#[inline(always)]
fn average_image(shape: &PoolShape, x: &[f32], out: &mut [f32]) {
    shape.each_window(|to, window| {
        let taps = window.count() as f32;
        for channel in (0..shape.channels).step_by(LANES) {
            let count = LANES.min(shape.channels - channel);
            let mut sums = [0.0; LANES];
            window.each_tap(shape, |_, at| {
                let values = load(x, at + channel, count);
                for lane in 0..LANES {
                    sums[lane] += values[lane];
                }
            });
            let means = sums.map(|sum| sum / taps);
            out[to + channel..][..count].copy_from_slice(&means[..count]);
        }
    });
}

/// Gradient of [`average_pool`]: writes `dx`, where each gradient is shared evenly by its window.
///
/// # Panics
/// When a slice does not have the length it should, or padding is not less than the kernel.
pub fn average_pool_gradient(shape: &PoolShape, images: usize, gradient: &[f32], dx: &mut [f32]) {
    shape.check(images, dx.len(), gradient.len());
    dx.fill(0.0);
    let (input, output) = (shape.input_len(), shape.output_len().max(1));
    for (dx, gradient) in dx.chunks_exact_mut(input).zip(gradient.chunks_exact(output)) {
        dispatch!(average_gradient_image(shape: &PoolShape, gradient: &[f32], dx: &mut [f32]));
    }
}

#[inline(always)]
fn average_gradient_image(shape: &PoolShape, gradient: &[f32], dx: &mut [f32]) {
    shape.each_window(|from, window| {
        let taps = window.count() as f32;
        for channel in (0..shape.channels).step_by(LANES) {
            let count = LANES.min(shape.channels - channel);
            let shares = load(gradient, from + channel, count).map(|value| value / taps);
            window.each_tap(shape, |_, at| {
                let mut sums = load(dx, at + channel, count);
                for lane in 0..LANES {
                    sums[lane] += shares[lane];
                }
                dx[at + channel..][..count].copy_from_slice(&sums[..count]);
            });
        }
    });
}

/// `count` values and zeros.
#[inline(always)]
fn load(values: &[f32], at: usize, count: usize) -> [f32; LANES] {
    if let Some(lanes) = values[at..at + count].first_chunk() {
        return *lanes;
    }
    let mut lanes = [0.0; LANES];
    lanes[..count].copy_from_slice(&values[at..at + count]);
    lanes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::conv::tests::{close, noise};
    use super::*;
    use crate::level::at_every_level;

    const GLOBAL: PoolShape =
        PoolShape { height: 2, width: 2, channels: 1, kernel: [2, 2], stride: [2, 2], padding: [0; 4] };

    /// The values of `x` in each window, by output: tap and place in the image.
    fn windows(shape: &PoolShape) -> Vec<Vec<(usize, usize)>> {
        let s = *shape;
        let outputs = (0..s.out_height()).flat_map(|y| (0..s.out_width()).map(move |x| (y, x)));
        outputs
            .flat_map(|(y, x)| (0..s.channels).map(move |channel| (y, x, channel)))
            .map(|(y, x, channel)| {
                (0..s.kernel[0] * s.kernel[1])
                    .filter_map(|tap| {
                        let row = (y * s.stride[0] + tap / s.kernel[1]).checked_sub(s.padding[0])?;
                        let column = (x * s.stride[1] + tap % s.kernel[1]).checked_sub(s.padding[2])?;
                        let inside = row < s.height && column < s.width;
                        inside.then_some((tap, (row * s.width + column) * s.channels + channel))
                    })
                    .collect()
            })
            .collect()
    }

    fn agrees(shape: &PoolShape) {
        let images = 2;
        let (input, output) = (shape.input_len(), shape.output_len());
        // Few different values, so that there are ties.
        let x: Vec<f32> = noise(images * input, 1).iter().map(|v| (v * 4.0).round() / 4.0).collect();
        let gradient = noise(images * output, 2);
        let [highest, means, highest_dx, means_dx] = at_every_level(|| {
            let mut out = [vec![f32::NAN; images * output], vec![f32::NAN; images * output]];
            let mut dx = [vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]];
            let mut won = vec![u16::MAX; images * output];
            max_pool(shape, images, &x, &mut out[0], Some(&mut won));
            max_pool_gradient(shape, images, &won, &gradient, &mut dx[0]);
            average_pool(shape, images, &x, &mut out[1]);
            average_pool_gradient(shape, images, &gradient, &mut dx[1]);
            let mut again = vec![0.0; images * output];
            max_pool(shape, images, &x, &mut again, None);
            assert_eq!(again, out[0]);
            let ([a, b], [c, d]) = (out, dx);
            [a, b, c, d]
        });
        let mut expected = [vec![], vec![], vec![0.0; x.len()], vec![0.0; x.len()]];
        for image in 0..images {
            for (window, g) in windows(shape).iter().zip(&gradient[image * output..]) {
                let value = |place: usize| f64::from(x[image * input + place]);
                let highest = window.iter().map(|&(_, place)| value(place)).fold(f64::NEG_INFINITY, f64::max);
                let first = window.iter().find(|&&(_, place)| value(place) == highest).expect("a window holds values");
                expected[0].push(highest);
                expected[1].push(window.iter().map(|&(_, place)| value(place)).sum::<f64>() / window.len() as f64);
                expected[2][image * input + first.1] += f64::from(*g);
                for (_, place) in window {
                    expected[3][image * input + place] += f64::from(*g) / window.len() as f64;
                }
            }
        }
        close("max", &highest, &expected[0]);
        close("average", &means, &expected[1]);
        close("gradient of max", &highest_dx, &expected[2]);
        close("gradient of average", &means_dx, &expected[3]);
    }

    #[test]
    fn a_global_average_agrees() {
        agrees(&PoolShape { height: 7, width: 5, channels: 35, kernel: [7, 5], stride: [1, 1], padding: [0; 4] });
    }

    #[test]
    fn overlapping_windows_with_padding_agree() {
        agrees(&PoolShape { height: 9, width: 8, channels: 19, kernel: [3, 3], stride: [2, 2], padding: [1; 4] });
    }

    #[test]
    fn nan_wins_and_padding_never_does() {
        let mut out = [0.0];
        let mut won = [9];
        max_pool(&GLOBAL, 1, &[1.0, f32::NAN, 3.0, 2.0], &mut out, Some(&mut won));
        assert!(out[0].is_nan() && won == [1], "{out:?} {won:?}");
        let padded = PoolShape { padding: [1, 0, 1, 0], ..GLOBAL };
        max_pool(&padded, 1, &[-5.0, 1.0, 1.0, 1.0], &mut out, Some(&mut won));
        assert_eq!((out, won), ([-5.0], [3]));
    }

    #[test]
    #[should_panic(expected = "padding is less than its kernel")]
    fn a_window_of_nothing_but_padding_is_refused() {
        let padded = PoolShape { padding: [2, 0, 0, 0], ..GLOBAL };
        average_pool(&padded, 1, &[0.0; 4], &mut [0.0; 2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_shape_agrees(
            size in [1_usize..8, 1_usize..8],
            channels in 1_usize..40,
            kernel in [1_usize..5, 1_usize..5],
            stride in [1_usize..4, 1_usize..4],
            padding in [0_usize..4, 0_usize..4, 0_usize..4, 0_usize..4],
        ) {
            let [height, width] = size;
            let [top, bottom, left, right] = padding;
            let (down, across) = (kernel[0] - 1, kernel[1] - 1);
            let padding = [top.min(down), bottom.min(down), left.min(across), right.min(across)];
            agrees(&PoolShape { height, width, channels, kernel, stride, padding });
        }
    }
}
