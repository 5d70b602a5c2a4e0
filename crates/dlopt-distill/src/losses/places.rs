//! The places of two layers brought to one grid: the larger extent is averaged down to the smaller, as adaptive average
//! pooling does it.
//!
//! Place `i` of `n`, from `m >= n` places, is the mean of those from `floor(i m / n)` up to `ceil((i + 1) m / n)`; height
//! and width each for itself, so a picture of 4 x 6 and a series of 1 x 9 meet at 1 x 6.

use std::ops::Range;

/// The grid that both of two layers can be averaged down to.
pub(super) fn smaller(a: [usize; 2], b: [usize; 2]) -> [usize; 2] {
    [a[0].min(b[0]), a[1].min(b[1])]
}

/// An average from one grid, `[height, width]`, to another that is no larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pooling {
    pub(super) from: [usize; 2],
    pub(super) to: [usize; 2],
}

impl Pooling {
    /// Whether nothing is to be averaged.
    pub(super) fn is_identity(&self) -> bool {
        self.from == self.to
    }

    /// Averages `values`, `[rows, from, channels]`, into `out`, `[rows, to, channels]`.
    pub(super) fn average<T: Copy + Into<f64>>(&self, values: &[T], channels: usize, out: &mut Vec<f64>) {
        let [height, width] = self.from;
        let row_len = height * width * channels;
        out.clear();
        for row in values.chunks_exact(row_len) {
            for (ys, xs) in self.windows() {
                let start = out.len();
                out.resize(start + channels, 0.0);
                let share = 1.0 / (ys.len() * xs.len()) as f64;
                for y in ys {
                    for place in row[(y * width + xs.start) * channels..][..xs.len() * channels].chunks_exact(channels)
                    {
                        out[start..].iter_mut().zip(place).for_each(|(out, value)| *out += (*value).into());
                    }
                }
                out[start..].iter_mut().for_each(|out| *out *= share);
            }
        }
    }

    /// Gives each averaged value's share of `gradient`, `[rows, to, channels]`, to `add`, with its place among
    /// `[rows, from, channels]`; a value that lies in several averages comes several times.
    pub(super) fn spread<T: Copy + Into<f64>>(&self, gradient: &[T], channels: usize, mut add: impl FnMut(usize, f64)) {
        let ([height, width], [rows, columns]) = (self.from, self.to);
        for (row, gradient) in gradient.chunks_exact(rows * columns * channels).enumerate() {
            for ((ys, xs), gradient) in self.windows().zip(gradient.chunks_exact(channels)) {
                let share = 1.0 / (ys.len() * xs.len()) as f64;
                for y in ys {
                    for x in xs.clone() {
                        let start = ((row * height + y) * width + x) * channels;
                        gradient.iter().enumerate().for_each(|(c, g)| add(start + c, share * (*g).into()));
                    }
                }
            }
        }
    }

    /// Which rows and columns each place of the smaller grid averages, in order.
    fn windows(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        let Self { from, to } = *self;
        (0..to[0]).flat_map(move |y| (0..to[1]).map(move |x| (window(y, from[0], to[0]), window(x, from[1], to[1]))))
    }
}

fn window(at: usize, from: usize, to: usize) -> Range<usize> {
    at * from / to..((at + 1) * from).div_ceil(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_where_extents_do_not_divide() {
        let windows: Vec<_> = (0..3).map(|at| window(at, 5, 3)).collect();
        assert_eq!(windows, [0..2, 1..4, 3..5]);
        assert_eq!((0..3).map(|at| window(at, 3, 3)).collect::<Vec<_>>(), [0..1, 1..2, 2..3]);
    }

    #[test]
    fn a_picture_and_a_series_meet_where_both_can_go() {
        assert_eq!(smaller([4, 6], [1, 9]), [1, 6]);
        let pooling = Pooling { from: [2, 3], to: [1, 2] };
        let mut out = vec![];
        // Two rows of two channels; the second channel is ten times the first.
        let values: Vec<f32> = (0..12).flat_map(|v| [v as f32, 10.0 * v as f32]).collect();
        pooling.average(&values, 2, &mut out);
        assert_eq!(out, [2.0, 20.0, 3.0, 30.0, 8.0, 80.0, 9.0, 90.0]);
    }

    #[test]
    fn spreading_is_the_transpose_of_averaging() {
        let pooling = Pooling { from: [3, 5], to: [2, 3] };
        let (values, gradient) = (|i: usize| ((i * i) as f64).sin(), |i: usize| ((3 * i) as f64).cos());
        let values: Vec<f64> = (0..2 * 15 * 2).map(values).collect();
        let gradient: Vec<f64> = (0..2 * 6 * 2).map(gradient).collect();
        let (mut out, mut spread) = (vec![], vec![0.0; values.len()]);
        pooling.average(&values, 2, &mut out);
        pooling.spread(&gradient, 2, |at, share| spread[at] += share);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        assert!((dot(&out, &gradient) - dot(&values, &spread)).abs() < 1e-12);
    }
}
