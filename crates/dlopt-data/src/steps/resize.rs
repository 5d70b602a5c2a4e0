//! Scales pictures: each axis by itself, `out[i] = sum_k weight[i, k] * in[k]`.
//!
//! Bilinear: a triangle around the place `(i + 1/2) * in / out - 1/2` that is as wide as the wider of both pixels, its
//! weights made to sum to 1: it interpolates when pictures grow, and averages when they shrink. Nearest: the pixel that
//! the place lies in. `[height, width, channels]` to `[height', width', channels]`. Pictures of whole numbers stay so.

use dlopt_checkpoint::{Dtype, Error, Result};

use super::{Sample, Step, Wanted};
use crate::info::Elements;
use crate::readers::Values;

/// Largest height or width that is made.
const MOST: usize = 1 << 14;

/// How pictures are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Between the nearest pixels, or their average when pictures shrink.
    #[default]
    Bilinear,
    /// The nearest pixel.
    Nearest,
}

impl Filter {
    /// As the command line writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilinear => "bilinear",
            Self::Nearest => "nearest",
        }
    }
}

struct Resize {
    sample: Sample,
    before: [usize; 2],
    channels: usize,
    rows: Axis,
    columns: Axis,
    gain: f32,
}

/// Which pixels make up each new one along an axis.
struct Axis {
    /// First pixel, and where its weights begin and end.
    taps: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<f32>,
}

pub(super) fn make(wanted: &Wanted, sample: &Sample) -> Result<Option<Box<dyn Step>>> {
    let Some([height, width]) = wanted.resize else { return Ok(None) };
    let Elements::Image { height: own_height, width: own_width, channels } = sample.elements else {
        return Err(Error::usage(format!("--resize is for pictures, and these are {}", sample.elements.in_words()))
            .hint("--shape HxW says that rows are pictures"));
    };
    if height == 0 || width == 0 || height > MOST || width > MOST {
        return Err(Error::usage(format!("--resize {height}x{width}: wanted 1 to {MOST} pixels each way")));
    }
    let elements = Elements::Image { height, width, channels };
    Ok(Some(Box::new(Resize {
        sample: Sample { elements, dtype: sample.dtype },
        before: [own_height, own_width],
        channels,
        rows: Axis::new(own_height, height, wanted.filter),
        columns: Axis::new(own_width, width, wanted.filter),
        gain: f32::from(wanted.gain),
    })))
}

impl Axis {
    fn new(from: usize, to: usize, filter: Filter) -> Self {
        let ratio = from as f64 / to as f64;
        let reach = ratio.max(1.0);
        let mut axis = Self { taps: Vec::with_capacity(to), weights: Vec::new() };
        for i in 0..to {
            let place = (i as f64 + 0.5) * ratio;
            let begin = axis.weights.len();
            if filter == Filter::Nearest {
                axis.weights.push(1.0);
                axis.taps.push(((place as usize).min(from - 1), begin..begin + 1));
                continue;
            }
            let first = (place - 0.5 - reach).ceil().max(0.0) as usize;
            let last = ((place - 0.5 + reach).floor() as usize).min(from - 1);
            let weight = |k: usize| (1.0 - (k as f64 + 0.5 - place).abs() / reach).max(0.0);
            let sum: f64 = (first..=last).map(weight).sum();
            axis.weights.extend((first..=last).map(|k| (weight(k) / sum) as f32));
            axis.taps.push((first, begin..axis.weights.len()));
        }
        axis
    }
}

impl Step for Resize {
    fn sample(&self) -> Sample {
        self.sample.clone()
    }

    fn apply(&self, values: Values) -> Values {
        let wide = |values: &[u8]| values.iter().map(|&x| f32::from(x)).collect::<Vec<_>>();
        match values {
            Values::U8(values) => {
                let out = self.scaled(&wide(&values));
                Values::U8(out.into_iter().map(|x| (x * self.gain + 0.5).clamp(0.0, 255.0) as u8).collect())
            }
            Values::F32(values) => Values::F32(self.scaled(&values)),
        }
    }
}

impl Resize {
    fn scaled(&self, values: &[f32]) -> Vec<f32> {
        let ([height, width], channels) = (self.before, self.channels);
        let row = self.columns.taps.len() * channels;
        let mut out =
            Vec::with_capacity(values.len() / (height * width * channels).max(1) * row * self.rows.taps.len());
        let mut narrow = vec![0.0; height * row];
        for picture in values.chunks_exact(height * width * channels) {
            for (line, narrow) in picture.chunks_exact(width * channels).zip(narrow.chunks_exact_mut(row)) {
                for ((first, weights), pixel) in self.columns.taps.iter().zip(narrow.chunks_exact_mut(channels)) {
                    pixel.fill(0.0);
                    for (k, &weight) in self.columns.weights[weights.clone()].iter().enumerate() {
                        let from = &line[(first + k) * channels..][..channels];
                        pixel.iter_mut().zip(from).for_each(|(out, x)| *out += weight * x);
                    }
                }
            }
            for (first, weights) in &self.rows.taps {
                let begin = out.len();
                out.resize(begin + row, 0.0);
                for (k, &weight) in self.rows.weights[weights.clone()].iter().enumerate() {
                    let from = &narrow[(first + k) * row..][..row];
                    out[begin..].iter_mut().zip(from).for_each(|(out, x)| *out += weight * x);
                }
            }
        }
        out
    }
}

/// The whole factor that spreads bytes up to `largest` over the range of a byte, for pictures that are interpolated.
pub(crate) fn gain(dtype: Dtype, largest: Option<f32>, resize: Option<[usize; 2]>, filter: Filter) -> u8 {
    match (dtype, largest, resize, filter) {
        (Dtype::U8, Some(largest), Some(_), Filter::Bilinear) if largest >= 1.0 => (255.0 / largest) as u8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(elements: Elements, dtype: Dtype, resize: [usize; 2], filter: Filter, gain: u8) -> Box<dyn Step> {
        let wanted = Wanted { dtype, time: None, resize: Some(resize), filter, gain };
        make(&wanted, &Sample { elements, dtype }).unwrap().unwrap()
    }

    fn scaled(shape: [usize; 3], values: &[f32], resize: [usize; 2], filter: Filter) -> Vec<f32> {
        let [height, width, channels] = shape;
        let step = step(Elements::Image { height, width, channels }, Dtype::F32, resize, filter, 1);
        match step.apply(Values::F32(values.to_vec())) {
            Values::F32(values) => values,
            Values::U8(_) => panic!("stays f32"),
        }
    }

    #[test]
    fn growing_interpolates_between_neighbours() {
        // Places -1/4, 1/4, 3/4, 5/4 between two pixels.
        assert_eq!(scaled([1, 2, 1], &[0.0, 4.0], [1, 4], Filter::Bilinear), [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(
            scaled([2, 1, 2], &[0.0, 8.0, 4.0, 0.0], [4, 1], Filter::Bilinear),
            [0.0, 8.0, 1.0, 6.0, 3.0, 2.0, 4.0, 0.0]
        );
    }

    #[test]
    fn shrinking_averages() {
        // A triangle of width 2 pixels around the middle of each pair: 1/8, 3/8, 3/8, 1/8, and cut at the edge.
        let out = scaled([1, 6, 1], &[0.0, 0.0, 8.0, 8.0, 0.0, 0.0], [1, 3], Filter::Bilinear);
        assert_eq!(out[1], 6.0);
        assert!((out[0] - 8.0 / 7.0).abs() < 1e-6 && (out[2] - 8.0 / 7.0).abs() < 1e-6, "{out:?}");
    }

    #[test]
    fn nearest_repeats_pixels() {
        assert_eq!(scaled([1, 3, 1], &[1.0, 2.0, 3.0], [1, 7], Filter::Nearest), [1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(scaled([1, 5, 1], &[1.0, 2.0, 3.0, 4.0, 5.0], [1, 2], Filter::Nearest), [2.0, 4.0]);
    }

    #[test]
    fn every_picture_of_a_chunk_is_scaled() {
        let out = scaled([1, 2, 1], &[0.0, 4.0, 8.0, 0.0], [1, 4], Filter::Bilinear);
        assert_eq!(out, [0.0, 1.0, 3.0, 4.0, 8.0, 6.0, 2.0, 0.0]);
    }

    #[test]
    fn bytes_are_spread_before_they_are_rounded() {
        assert_eq!(gain(Dtype::U8, Some(16.0), Some([28, 28]), Filter::Bilinear), 15);
        assert_eq!(gain(Dtype::U8, Some(16.0), None, Filter::Bilinear), 1);
        assert_eq!(gain(Dtype::U8, Some(255.0), Some([9, 9]), Filter::Bilinear), 1);
        assert_eq!(gain(Dtype::U8, Some(16.0), Some([9, 9]), Filter::Nearest), 1);
        let image = Elements::Image { height: 1, width: 2, channels: 1 };
        let step = step(image, Dtype::U8, [1, 4], Filter::Bilinear, 15);
        assert_eq!(step.apply(Values::U8(vec![1, 16])), Values::U8(vec![15, 71, 184, 240]));
    }

    #[test]
    fn a_constant_picture_stays_constant() {
        for size in [[1, 1], [3, 7], [29, 31]] {
            let out = scaled([5, 4, 3], &[0.7; 60], size, Filter::Bilinear);
            assert_eq!(out.len(), size[0] * size[1] * 3);
            assert!(out.iter().all(|x| (x - 0.7).abs() < 1e-6), "{out:?}");
        }
    }

    #[test]
    fn only_pictures_can_be_scaled() {
        let wanted = Wanted { dtype: Dtype::F32, time: None, resize: Some([2, 2]), filter: Filter::Nearest, gain: 1 };
        let rows = Sample { elements: Elements::Vector { features: 4, names: vec![] }, dtype: Dtype::F32 };
        let error = make(&wanted, &rows).err().unwrap();
        assert!(error.message().contains("--resize is for pictures"), "{error}");
        let none = Wanted { resize: Some([0, 3]), ..wanted };
        let image = Sample { elements: Elements::Image { height: 1, width: 2, channels: 1 }, dtype: Dtype::F32 };
        assert!(make(&none, &image).err().unwrap().message().contains("wanted 1 to"));
    }
}
