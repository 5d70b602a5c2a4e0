//! Local binary patterns: which neighbours of a pixel are at least as bright as it, counted over cells of the picture.
//!
//! `code = sum_k [g_k >= g] 2^k`, `g_k` the value at `(row - r sin(2 pi k / p), column + r cos(2 pi k / p))` between
//! the nearest pixels, black outside the picture. Methods: `default` counts all `2^p` codes; `uniform` counts codes of
//! at most two changes along the neighbours by their number of ones, all others together (`p + 2`, the same when the
//! picture turns); `nri-uniform` keeps uniform codes apart by where their ones begin (`p (p - 1) + 3`); `ror` takes
//! the least code of all rotations. Numbers are shares of the cell's pixels, cell by cell.
//!
//! Source: Ojala, Pietikäinen, Mäenpää 2002. The codes equal those of skimage.feature.local_binary_pattern bit for bit
//! (so places are rounded to five decimals, and the change from the last neighbour to the first is not counted).

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::planes::{Plane, cells, check_grid, grey, picture};
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// Local binary patterns.
pub(super) const KIND: FeatureKind =
    FeatureKind::of::<Lbp>("lbp", "grid", "texture: local binary patterns (Ojala 2002; as scikit-image)");

/// Most neighbours: the table of codes has two to the power of it.
const MOST_POINTS: usize = 16;

/// How patterns are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Method {
    Default,
    Ror,
    Uniform,
    NriUniform,
}

/// Options.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Options")]
pub(super) struct Lbp {
    options: Options,
    /// The place in the histogram of every code.
    places: Vec<u16>,
    bins: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// How many neighbours are looked at.
    points: usize,
    /// How far away, in pixels.
    radius: f64,
    /// How patterns are told apart.
    method: Method,
    /// Cells each way that are counted by themselves.
    grid: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { points: 8, radius: 1.0, method: Method::Uniform, grid: 1 }
    }
}

impl TryFrom<Options> for Lbp {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        if !(1..=MOST_POINTS).contains(&options.points) {
            return Err(format!("{} points; wanted 1 to {MOST_POINTS}", options.points));
        }
        if !(options.radius >= 0.5 && options.radius <= 64.0) {
            return Err(format!("a radius of {}; wanted 0.5 to 64 pixels", options.radius));
        }
        Ok(Self::new(options))
    }
}

impl Lbp {
    fn new(options: Options) -> Self {
        let places = (0..1_u32 << options.points).map(|code| place(code, options.points, options.method)).collect();
        let points = options.points;
        let bins = match options.method {
            Method::Default | Method::Ror => 1 << points,
            Method::Uniform => points + 2,
            Method::NriUniform => points * (points - 1) + 3,
        };
        Self { options, places, bins }
    }

    /// The code of every pixel, row by row.
    fn codes(&self, plane: &Plane) -> Vec<u16> {
        let (height, width) = (plane.height, plane.width);
        let margin = self.options.radius.ceil() as usize + 1;
        let stride = width + 2 * margin;
        let mut padded = vec![0.0_f64; stride * (height + 2 * margin)];
        for (row, values) in plane.values.chunks_exact(width).enumerate() {
            let to = &mut padded[(row + margin) * stride + margin..][..width];
            to.iter_mut().zip(values).for_each(|(to, &value)| *to = f64::from(value));
        }
        let mut codes = vec![0_u16; height * width];
        for point in 0..self.options.points {
            let angle = 2.0 * std::f64::consts::PI * point as f64 / self.options.points as f64;
            let down = five_decimals(-self.options.radius * angle.sin());
            let right = five_decimals(self.options.radius * angle.cos());
            let across: Vec<f64> = (0..width).map(|c| fraction(c as f64 + right)).collect();
            let first = (margin as isize + right.floor() as isize) as usize;
            for row in 0..height {
                let share = fraction(row as f64 + down);
                let top = ((row + margin) as isize + down.floor() as isize) as usize;
                let top = &padded[top * stride + first..][..stride + width + 1];
                let (top, bottom) = (&top[..=width], &top[stride..]);
                let own = &padded[(row + margin) * stride + margin..][..width];
                let codes = &mut codes[row * width..][..width];
                for c in 0..width {
                    let above = (1.0 - across[c]) * top[c] + across[c] * top[c + 1];
                    let below = (1.0 - across[c]) * bottom[c] + across[c] * bottom[c + 1];
                    let value = (1.0 - share) * above + share * below;
                    codes[c] |= u16::from(value - own[c] >= 0.0) << point;
                }
            }
        }
        codes
    }
}

impl Feature for Lbp {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let image = picture(raw, KIND.name)?;
        check_grid(KIND.name, image.height, image.width, self.options.grid)?;
        let codes = self.codes(&grey(image));
        let mut counts = vec![0_u32; self.bins];
        for (rows, columns) in cells(image.height, image.width, self.options.grid) {
            counts.fill(0);
            let pixels = (rows.len() * columns.len()) as f32;
            for row in rows {
                for &code in &codes[row * image.width..][columns.clone()] {
                    counts[usize::from(self.places[usize::from(code)])] += 1;
                }
            }
            out.extend(counts.iter().map(|&count| count as f32 / pixels));
        }
        Ok(())
    }
}

/// Where a code of so many bits is counted.
fn place(code: u32, points: usize, method: Method) -> u16 {
    let all = (1_u32 << points) - 1;
    let turned = |by: usize| ((code >> by) | (code << (points - by))) & all;
    let changes = ((code ^ (code >> 1)) & (all >> 1)).count_ones();
    let ones = code.count_ones() as usize;
    let place = match method {
        Method::Default => code as usize,
        Method::Ror => (0..points).map(turned).min().unwrap_or(code) as usize,
        Method::Uniform if changes <= 2 => ones,
        Method::Uniform => points + 1,
        Method::NriUniform if changes > 2 => points * (points - 1) + 2,
        Method::NriUniform if ones == 0 => 0,
        Method::NriUniform if ones == points => points * (points - 1) + 1,
        Method::NriUniform => {
            let first_one = code.trailing_zeros() as usize;
            let first_zero = code.trailing_ones() as usize;
            // Where the ones begin when they run over the last neighbour to the first.
            let turn = if first_one == 0 { ones - first_zero } else { points - first_one };
            1 + (ones - 1) * points + turn
        }
    };
    place as u16
}

/// Rounded to five decimals as numpy does it.
fn five_decimals(x: f64) -> f64 {
    (x * 1e5).round_ties_even() / 1e5
}

fn fraction(x: f64) -> f64 {
    x - x.floor()
}
