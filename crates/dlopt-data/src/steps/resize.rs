//! Scales pictures: each axis by itself, `out[i] = sum_k weight[i, k] * in[k]`.
//!
//! Bilinear: a triangle around the place `(i + 1/2) * in / out - 1/2` that is as wide as the wider of both pixels, its
//! weights made to sum to 1: it interpolates when pictures grow, and averages when they shrink. Nearest: the pixel that
//! the place lies in. `[height, width, channels]` to `[height', width', channels]`. Pictures of whole numbers stay so.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Image, Raw, Values};
use crate::step::Step;

/// Largest height or width that is made.
const MOST: usize = 1 << 14;

/// How pictures are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Filter {
    /// Between the nearest pixels, or their average when pictures shrink.
    #[default]
    Bilinear,
    /// The nearest pixel.
    Nearest,
}

/// Options of `resize`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resize {
    /// `HxW`.
    size: String,
    #[serde(default)]
    filter: Filter,
}

/// Which pixels make up each new one along an axis.
struct Axis {
    /// First pixel, and where its weights begin and end.
    taps: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<f32>,
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
    fn name(&self) -> &'static str {
        "resize"
    }

    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let [height, width] = self.extents()?;
        let image = raw.image("resize")?;
        let rows = Axis::new(image.height, height, self.filter);
        let columns = Axis::new(image.width, width, self.filter);
        let out = scaled(&image, &rows, &columns);
        let pixels = match image.pixels {
            Values::U8(_) => Values::U8(out.into_iter().map(|x| (x + 0.5).clamp(0.0, 255.0) as u8).collect()),
            Values::F32(_) => Values::F32(out),
        };
        Ok(Raw::Image(Image { height, width, channels: image.channels, pixels }))
    }
}

impl Resize {
    fn extents(&self) -> Result<[usize; 2]> {
        let parsed = self.size.split_once('x').and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
        match parsed {
            Some([height, width]) if (1..=MOST).contains(&height) && (1..=MOST).contains(&width) => Ok([height, width]),
            _ => Err(Error::usage(format!("`resize`: {}: wanted HxW, 1 to {MOST} pixels each way", self.size))),
        }
    }
}

fn scaled(image: &Image, rows: &Axis, columns: &Axis) -> Vec<f32> {
    let values = image.pixels.floats();
    let channels = image.channels;
    let row = columns.taps.len() * channels;
    let mut narrow = vec![0.0; image.height * row];
    for (line, narrow) in values.chunks_exact(image.width * channels).zip(narrow.chunks_exact_mut(row)) {
        for ((first, weights), pixel) in columns.taps.iter().zip(narrow.chunks_exact_mut(channels)) {
            for (k, &weight) in columns.weights[weights.clone()].iter().enumerate() {
                let from = &line[(first + k) * channels..][..channels];
                pixel.iter_mut().zip(from).for_each(|(out, x)| *out += weight * x);
            }
        }
    }
    let mut out = vec![0.0; rows.taps.len() * row];
    for ((first, weights), out) in rows.taps.iter().zip(out.chunks_exact_mut(row)) {
        for (k, &weight) in rows.weights[weights.clone()].iter().enumerate() {
            let from = &narrow[(first + k) * row..][..row];
            out.iter_mut().zip(from).for_each(|(out, x)| *out += weight * x);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(shape: [usize; 3], values: &[f32], size: &str, filter: Filter) -> Vec<f32> {
        let [height, width, channels] = shape;
        let image = Image { height, width, channels, pixels: Values::F32(values.to_vec()) };
        match (Resize { size: size.to_owned(), filter }).apply(Raw::Image(image)).unwrap() {
            Raw::Image(Image { pixels: Values::F32(values), .. }) => values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn growing_interpolates_between_neighbours() {
        // Places -1/4, 1/4, 3/4, 5/4 between two pixels.
        assert_eq!(scaled([1, 2, 1], &[0.0, 4.0], "1x4", Filter::Bilinear), [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(
            scaled([2, 1, 2], &[0.0, 8.0, 4.0, 0.0], "4x1", Filter::Bilinear),
            [0.0, 8.0, 1.0, 6.0, 3.0, 2.0, 4.0, 0.0]
        );
    }

    #[test]
    fn shrinking_averages() {
        // A triangle of width 2 pixels around the middle of each pair: 1/8, 3/8, 3/8, 1/8, and cut at the edge.
        let out = scaled([1, 6, 1], &[0.0, 0.0, 8.0, 8.0, 0.0, 0.0], "1x3", Filter::Bilinear);
        assert_eq!(out[1], 6.0);
        assert!((out[0] - 8.0 / 7.0).abs() < 1e-6 && (out[2] - 8.0 / 7.0).abs() < 1e-6, "{out:?}");
    }

    #[test]
    fn nearest_repeats_pixels() {
        assert_eq!(scaled([1, 3, 1], &[1.0, 2.0, 3.0], "1x7", Filter::Nearest), [1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(scaled([1, 5, 1], &[1.0, 2.0, 3.0, 4.0, 5.0], "1x2", Filter::Nearest), [2.0, 4.0]);
    }

    #[test]
    fn a_constant_picture_stays_constant() {
        for (size, pixels) in [("1x1", 1), ("3x7", 21), ("29x31", 899)] {
            let out = scaled([5, 4, 3], &[0.7; 60], size, Filter::Bilinear);
            assert_eq!(out.len(), pixels * 3);
            assert!(out.iter().all(|x| (x - 0.7).abs() < 1e-6), "{out:?}");
        }
    }

    #[test]
    fn only_pictures_can_be_scaled() {
        let step = |size: &str| Resize { size: size.to_owned(), filter: Filter::Nearest };
        let error = step("2x2").apply(Raw::Text(String::new())).unwrap_err();
        assert!(error.message().contains("`resize` is for pictures"), "{error}");
        let image = Image { height: 1, width: 2, channels: 1, pixels: Values::U8(vec![1, 2]) };
        assert!(step("0x3").apply(Raw::Image(image)).unwrap_err().message().contains("wanted HxW"));
    }
}
