//! Edge density: the share of pixels whose gradient is steeper than a threshold, over cells of the picture.
//!
//! The gradient is Sobel's, `sqrt((x^2 + y^2) / 2)` of the differences between the next and the last pixel, over three
//! rows or columns weighed 1/4, 1/2, 1/4, with the border repeated; in units of white. Grey is luma (BT.601).
//!
//! Source: Sobel, Feldman 1968. The gradient equals skimage.filters.sobel.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::planes::{Plane, cells, check_grid, grey, picture, white};
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// Edge density.
pub(super) const KIND: FeatureKind = FeatureKind::of::<Edges>(
    "edges",
    "threshold",
    "shape: share of pixels on edges, by Sobel's gradient (1968; as scikit-image)",
);

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Edges {
    /// The gradient beyond which a pixel is on an edge, in units of white.
    threshold: f32,
    /// Cells each way that are counted by themselves.
    grid: usize,
    /// The value of white; 255 for bytes and 1 for floats when nobody says.
    white: Option<f32>,
}

impl Default for Edges {
    fn default() -> Self {
        Self { threshold: 0.1, grid: 1, white: None }
    }
}

impl Feature for Edges {
    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let image = picture(raw, KIND.name)?;
        check_grid(KIND.name, image.height, image.width, self.grid)?;
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(Error::usage(format!("`edges`: a threshold of {}; wanted 0 to 1", self.threshold)));
        }
        let plane = grey(image);
        // In the units of `squares`: weights of 4 in all, and the mean of both directions.
        let threshold = f64::from(self.threshold) * f64::from(white(image, self.white)) * 4.0;
        let threshold = (2.0 * threshold * threshold) as f32;
        let squares = squares(&plane);
        for (rows, columns) in cells(plane.height, plane.width, self.grid) {
            let pixels = (rows.len() * columns.len()) as f32;
            let steep: usize = rows
                .map(|row| &squares[row * plane.width..][columns.clone()])
                .map(|line| line.iter().filter(|square| **square > threshold).count())
                .sum();
            out.push(steep as f32 / pixels);
        }
        Ok(())
    }
}

/// `x^2 + y^2` of the gradient of every pixel, with weights of 4 in all.
fn squares(plane: &Plane) -> Vec<f32> {
    let Plane { height, width, ref values } = *plane;
    let line = |row: usize| &values[row * width..][..width];
    let mut squares = Vec::with_capacity(values.len());
    let (mut smooth, mut steep) = (vec![0.0; width + 2], vec![0.0; width + 2]);
    for row in 0..height {
        let (above, own, below) = (line(row.saturating_sub(1)), line(row), line((row + 1).min(height - 1)));
        for column in 0..width {
            smooth[column + 1] = above[column] + 2.0 * own[column] + below[column];
            steep[column + 1] = below[column] - above[column];
        }
        for sides in [&mut smooth, &mut steep] {
            sides[0] = sides[1];
            sides[width + 1] = sides[width];
        }
        squares.extend((0..width).map(|column| {
            let right = smooth[column + 2] - smooth[column];
            let down = steep[column] + 2.0 * steep[column + 1] + steep[column + 2];
            right * right + down * down
        }));
    }
    squares
}
