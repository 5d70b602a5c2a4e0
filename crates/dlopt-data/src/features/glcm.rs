//! Grey-level co-occurrence: how often two grey levels stand at a distance and an angle from each other.
//!
//! `P[i, j]` is the share of pairs `(row, column)`, `(row - d sin a, column + d cos a)` (rounded to pixels) of levels `i`
//! and `j`, counted both ways. Of it: `contrast = sum P (i - j)^2`, `dissimilarity = sum P |i - j|`,
//! `homogeneity = sum P / (1 + (i - j)^2)`, `asm = sum P^2`, `energy = sqrt(asm)`,
//! `correlation = sum P (i - m)(j - m) / v`, 1 where the variance `v` is 0. Grey is luma (BT.601); levels are
//! `floor(value / white * levels)`, the last one with white itself. Numbers stand property by property, within it
//! distance by distance, within it angle by angle (0, 180 / angles, … degrees).
//!
//! Source: Haralick, Shanmugam, Dinstein 1973. Equals skimage.feature.graycomatrix (symmetric, normed) and graycoprops.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::planes::{grey, picture, white};
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// Grey-level co-occurrence.
pub(super) const KIND: FeatureKind = FeatureKind::of::<Glcm>(
    "glcm",
    "distances",
    "texture: co-occurrence of grey levels (Haralick 1973; as scikit-image)",
);

/// What is taken of each matrix.
const PROPERTIES: [&str; 6] = ["contrast", "dissimilarity", "homogeneity", "energy", "correlation", "asm"];

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Glcm {
    /// How far apart, in pixels; several are written `1+2+4`.
    #[serde(deserialize_with = "distances")]
    distances: Vec<usize>,
    /// How many directions, spread evenly over half a turn.
    angles: usize,
    /// How many grey levels are told apart.
    levels: usize,
    /// The value of white; 255 for bytes and 1 for floats when nobody says.
    white: Option<f32>,
    /// Whether the directions are averaged.
    average: bool,
}

impl Default for Glcm {
    fn default() -> Self {
        Self { distances: vec![1], angles: 4, levels: 32, white: None, average: false }
    }
}

/// One distance, a list of them, or several in a text.
fn distances<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<usize>, D::Error> {
    use serde::de::Error;
    let wrong = |said: &Value| D::Error::custom(format!("distances {said}; wanted pixels, such as 1 or 1+2+4"));
    let said = Value::deserialize(from)?;
    let numbers: Option<Vec<usize>> = match &said {
        Value::Number(number) => number.as_u64().map(|number| vec![number as usize]),
        Value::Array(list) => list.iter().map(|number| number.as_u64().map(|number| number as usize)).collect(),
        Value::String(text) => text.split('+').map(|number| number.trim().parse().ok()).collect(),
        _ => None,
    };
    numbers.filter(|numbers| !numbers.is_empty() && !numbers.contains(&0)).ok_or_else(|| wrong(&said))
}

impl Glcm {
    fn check(&self, height: usize, width: usize) -> Result<()> {
        if !(2..=256).contains(&self.levels) || !(1..=64).contains(&self.angles) {
            return Err(Error::usage(format!(
                "`glcm`: {} levels and {} angles; wanted 2 to 256 levels and 1 to 64 angles",
                self.levels, self.angles
            )));
        }
        match self.distances.iter().max() {
            Some(&distance) if distance >= height.min(width) => Err(Error::usage(format!(
                "`glcm`: no pixels of pictures of {height}x{width} are {distance} apart in every direction"
            ))),
            _ => Ok(()),
        }
    }

    /// Rows down and columns right from the first pixel of a pair to the second.
    fn offset(&self, distance: usize, angle: usize) -> [isize; 2] {
        let angle = std::f64::consts::PI * angle as f64 / self.angles as f64;
        [angle.sin(), angle.cos()].map(|part| (part * distance as f64).round() as isize)
    }
}

impl Feature for Glcm {
    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let image = picture(raw, KIND.name)?;
        let (height, width) = (image.height, image.width);
        self.check(height, width)?;
        let last = self.levels - 1;
        let white = white(image, self.white);
        let levels: Vec<u8> =
            grey(image).values.iter().map(|x| ((x / white * self.levels as f32) as usize).min(last) as u8).collect();
        let mut of_pairs = Vec::with_capacity(self.distances.len() * self.angles);
        let mut counts = vec![0_u32; self.levels * self.levels];
        for &distance in &self.distances {
            for angle in 0..self.angles {
                counts.fill(0);
                count_pairs(&levels, [height, width], self.offset(distance, angle), self.levels, &mut counts);
                of_pairs.push(properties(&counts, self.levels));
            }
        }
        for property in 0..PROPERTIES.len() {
            for of_angles in of_pairs.chunks_exact(self.angles) {
                let values = of_angles.iter().map(|all| all[property]);
                if self.average {
                    out.push((values.sum::<f64>() / self.angles as f64) as f32);
                } else {
                    out.extend(values.map(|value| value as f32));
                }
            }
        }
        Ok(())
    }

    fn names(&self, name: &str, _: usize) -> Vec<String> {
        let mut names = Vec::new();
        for property in PROPERTIES {
            for distance in &self.distances {
                if self.average {
                    names.push(format!("{name}_{property}_{distance}"));
                    continue;
                }
                for angle in 0..self.angles {
                    names.push(format!("{name}_{property}_{distance}_{}", 180 * angle / self.angles));
                }
            }
        }
        names
    }
}

/// Counts pairs of levels, both ways; `[levels, levels]`.
fn count_pairs(pixels: &[u8], size: [usize; 2], offset: [isize; 2], levels: usize, counts: &mut [u32]) {
    let [height, width] = size;
    let inside = |extent: usize, by: isize| -> std::ops::Range<usize> {
        let by_least = by.unsigned_abs().min(extent);
        if by < 0 { by_least..extent } else { 0..extent - by_least }
    };
    let columns = inside(width, offset[1]);
    for row in inside(height, offset[0]) {
        let first = &pixels[row * width..][columns.clone()];
        let other = (row.wrapping_add_signed(offset[0]) * width).wrapping_add(columns.start);
        let second = &pixels[other.wrapping_add_signed(offset[1])..][..first.len()];
        for (&i, &j) in first.iter().zip(second) {
            let (i, j) = (usize::from(i), usize::from(j));
            counts[i * levels + j] += 1;
            counts[j * levels + i] += 1;
        }
    }
}

/// The properties of a matrix of counts that is symmetric.
fn properties(counts: &[u32], levels: usize) -> [f64; 6] {
    let total = f64::from(counts.iter().sum::<u32>().max(1));
    let mut by_difference = vec![0_u64; levels];
    let mut by_level = vec![0_u64; levels];
    let (mut squares, mut products) = (0_u64, 0_u64);
    for (i, row) in counts.chunks_exact(levels).enumerate() {
        for (j, &count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = u64::from(count);
            by_difference[i.abs_diff(j)] += count;
            by_level[i] += count;
            squares += count * count;
            products += count * (i * j) as u64;
        }
    }
    let weighed = |counts: &[u64], weight: fn(f64) -> f64| -> f64 {
        counts.iter().enumerate().map(|(at, &count)| count as f64 * weight(at as f64)).sum::<f64>() / total
    };
    let asm = squares as f64 / (total * total);
    let mean = weighed(&by_level, |level| level);
    let variance = by_level.iter().enumerate().map(|(i, &n)| n as f64 * (i as f64 - mean).powi(2)).sum::<f64>() / total;
    let covariance = products as f64 / total - mean * mean;
    [
        weighed(&by_difference, |difference| difference * difference),
        weighed(&by_difference, |difference| difference),
        weighed(&by_difference, |difference| 1.0 / (1.0 + difference * difference)),
        asm.sqrt(),
        if variance < 1e-30 { 1.0 } else { covariance / variance },
        asm,
    ]
}
