//! Histograms of oriented gradients: where edges run, cell by cell.
//!
//! Gradients are differences of the next and the last pixel (0 at the border), in pictures with colours those of the
//! channel where they are largest. Each pixel adds its magnitude to one of the orientations (0 to 180 degrees) of its
//! cell; cells are divided by their pixels and put together to overlapping blocks of `block` by `block` cells, each of
//! which is normalised: `l2-hys` divides by `sqrt(sum x^2 + 1e-10)`, cuts at 0.2 and divides again. Numbers stand
//! block by block, within it cell by cell, within it orientation by orientation. Bytes run from 0 to 255.
//!
//! Source: Dalal, Triggs 2005. Equals skimage.feature.hog.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::planes::{Plane, channels, picture};
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// Histograms of oriented gradients.
pub(super) const KIND: FeatureKind =
    FeatureKind::of::<Hog>("hog", "cell", "shape: histograms of oriented gradients (Dalal 2005; as scikit-image)");

/// How blocks are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Norm {
    L1,
    L1Sqrt,
    L2,
    L2Hys,
}

/// Options.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Options")]
pub(super) struct Hog {
    options: Options,
    /// Cosine and sine of the angles between orientations.
    edges: Vec<[f32; 2]>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// How many orientations are told apart.
    orientations: usize,
    /// Pixels of a cell each way.
    cell: usize,
    /// Cells of a block each way.
    block: usize,
    /// How blocks are normalised.
    norm: Norm,
    /// Whether gradients are those of square roots, so that shadows matter less.
    sqrt: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { orientations: 9, cell: 8, block: 3, norm: Norm::L2Hys, sqrt: false }
    }
}

impl TryFrom<Options> for Hog {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        let orientations = options.orientations;
        if !(1..=180).contains(&orientations) || options.cell == 0 || options.block == 0 {
            return Err(format!(
                "{orientations} orientations, cells of {}, blocks of {}; wanted 1 to 180 orientations, and 1 or more",
                options.cell, options.block
            ));
        }
        let angle = |edge: usize| std::f64::consts::PI * edge as f64 / orientations as f64;
        let edges = (1..orientations).map(|edge| [angle(edge).cos() as f32, angle(edge).sin() as f32]).collect();
        Ok(Self { options, edges })
    }
}

/// Gradients of a picture, row by row.
struct Gradients {
    down: Vec<f32>,
    right: Vec<f32>,
}

impl Hog {
    /// `[rows of cells, columns of cells, orientations]`.
    fn histograms(&self, gradients: &Gradients, width: usize, cells: [usize; 2]) -> Vec<f32> {
        let (cell, orientations) = (self.options.cell, self.options.orientations);
        let mut histograms = vec![0.0; cells[0] * cells[1] * orientations];
        let seen = cells[1] * cell;
        let (mut bins, mut magnitudes) = (vec![0_i32; seen], vec![0.0_f32; seen]);
        for row in 0..cells[0] * cell {
            let down = &gradients.down[row * width..][..seen];
            let right = &gradients.right[row * width..][..seen];
            self.orient(down, right, &mut bins, &mut magnitudes);
            let line = &mut histograms[row / cell * cells[1] * orientations..][..cells[1] * orientations];
            for ((histogram, bins), magnitudes) in
                line.chunks_exact_mut(orientations).zip(bins.chunks_exact(cell)).zip(magnitudes.chunks_exact(cell))
            {
                for (&bin, &magnitude) in bins.iter().zip(magnitudes) {
                    histogram[bin as usize] += magnitude;
                }
            }
        }
        let pixels = (cell * cell) as f32;
        histograms.iter_mut().for_each(|sum| *sum /= pixels);
        histograms
    }

    /// The orientation and the magnitude of every gradient of a row.
    fn orient(&self, down: &[f32], right: &[f32], bins: &mut [i32], magnitudes: &mut [f32]) {
        bins.fill(0);
        for (magnitude, (y, x)) in magnitudes.iter_mut().zip(down.iter().zip(right)) {
            *magnitude = (x * x + y * y).sqrt();
        }
        for &[cos, sin] in &self.edges {
            for ((bin, magnitude), (&y, &x)) in bins.iter_mut().zip(&*magnitudes).zip(down.iter().zip(right)) {
                // Half a turn changes nothing: the gradient is taken to point down, or right where it is level.
                let is_up = (y < 0.0) | ((y == 0.0) & (x < 0.0));
                let across = y * cos - x * sin;
                let across = if is_up { -across } else { across };
                // Gradients that point along an edge belong beyond it, and their products are not exact.
                *bin += i32::from(across >= -1e-6 * magnitude);
            }
        }
        for (bin, &magnitude) in bins.iter_mut().zip(&*magnitudes) {
            *bin = if magnitude > 0.0 { *bin } else { 0 };
        }
    }

    fn normalise(&self, block: &mut [f32]) {
        const LEAST: f32 = 1e-5;
        let by_squares = |block: &mut [f32]| {
            let length = (block.iter().map(|x| x * x).sum::<f32>() + LEAST * LEAST).sqrt();
            block.iter_mut().for_each(|x| *x /= length);
        };
        match self.options.norm {
            Norm::L1 | Norm::L1Sqrt => {
                let length = block.iter().sum::<f32>() + LEAST;
                block.iter_mut().for_each(|x| *x /= length);
                if self.options.norm == Norm::L1Sqrt {
                    block.iter_mut().for_each(|x| *x = x.sqrt());
                }
            }
            Norm::L2 => by_squares(block),
            Norm::L2Hys => {
                by_squares(block);
                block.iter_mut().for_each(|x| *x = x.min(0.2));
                by_squares(block);
            }
        }
    }
}

impl Feature for Hog {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let image = picture(raw, KIND.name)?;
        let Options { cell, block, orientations, sqrt, .. } = self.options;
        let cells = [image.height / cell, image.width / cell];
        if cells[0] < block || cells[1] < block {
            return Err(Error::usage(format!(
                "`hog`: pictures of {}x{} pixels have no block of {block}x{block} cells of {cell}x{cell} pixels",
                image.height, image.width
            ))
            .hint("hog=4,block=2 takes smaller ones"));
        }
        let mut planes = channels(image);
        if sqrt {
            planes.iter_mut().flat_map(|plane| &mut plane.values).for_each(|x| *x = x.max(0.0).sqrt());
        }
        let gradients = largest_gradients(&planes);
        let histograms = self.histograms(&gradients, image.width, cells);
        for top in 0..=cells[0] - block {
            for left in 0..=cells[1] - block {
                let begin = out.len();
                for row in top..top + block {
                    let from = (row * cells[1] + left) * orientations;
                    out.extend_from_slice(&histograms[from..from + block * orientations]);
                }
                self.normalise(&mut out[begin..]);
            }
        }
        Ok(())
    }
}

/// At every pixel the gradient of the channel where it is largest, the first of several.
fn largest_gradients(planes: &[Plane]) -> Gradients {
    let mut largest = gradients(&planes[0]);
    for plane in &planes[1..] {
        let other = gradients(plane);
        let own = largest.down.iter_mut().zip(&mut largest.right);
        for ((down, right), (&y, &x)) in own.zip(other.down.iter().zip(&other.right)) {
            if y * y + x * x > *down * *down + *right * *right {
                (*down, *right) = (y, x);
            }
        }
    }
    largest
}

fn gradients(plane: &Plane) -> Gradients {
    let Plane { height, width, ref values } = *plane;
    let (mut down, mut right) = (vec![0.0; values.len()], vec![0.0; values.len()]);
    for row in 1..height.saturating_sub(1) {
        let (above, below) = (&values[(row - 1) * width..][..width], &values[(row + 1) * width..][..width]);
        let to = &mut down[row * width..][..width];
        to.iter_mut().zip(below.iter().zip(above)).for_each(|(to, (below, above))| *to = below - above);
    }
    if width > 2 {
        for (to, line) in right.chunks_exact_mut(width).zip(values.chunks_exact(width)) {
            let sides = line[2..].iter().zip(&line[..width - 2]);
            to[1..width - 1].iter_mut().zip(sides).for_each(|(to, (next, last))| *to = next - last);
        }
    }
    Gradients { down, right }
}
