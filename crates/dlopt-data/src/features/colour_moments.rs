//! Colour moments: mean, standard deviation and skewness of each channel.
//!
//! `m = mean(x)`, `s = sqrt(mean((x - m)^2))`, `mean((x - m)^3) / s^3`, 0 for a constant channel; channel by channel.
//! Spaces: `rgb`, `hsv` (as OpenCV's; the mean of hues does not know that they are angles), `grey` (luma, BT.601).
//! Bytes run from 0 to 255, and floats are scaled to it.
//!
//! Source: Stricker, Orengo 1995. Equals OpenCV's meanStdDev and scipy.stats.skew.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::colours::Space;
use super::planes::picture;
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// Colour moments.
pub(super) const KIND: FeatureKind = FeatureKind::of::<ColourMoments>(
    "colour-moments",
    "space",
    "colour: mean, deviation, skewness of channels of RGB, HSV or grey (Stricker 1995; as OpenCV, SciPy)",
);

/// What is taken of each channel.
const MOMENTS: [&str; 3] = ["mean", "deviation", "skewness"];

/// Options.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ColourMoments {
    /// `rgb`, `hsv` or `grey`.
    space: Space,
    /// The value of white; 255 for bytes and 1 for floats when nobody says.
    white: Option<f32>,
}

impl Feature for ColourMoments {
    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let image = picture(raw, KIND.name)?;
        for plane in self.space.planes(image, self.white, KIND.name)? {
            out.extend(moments(&plane.values).map(|moment| moment as f32));
        }
        Ok(())
    }

    fn names(&self, name: &str, _: usize) -> Vec<String> {
        let of_channel = |channel: &&str| MOMENTS.map(|moment| format!("{name}_{channel}_{moment}"));
        self.space.channels().iter().flat_map(of_channel).collect()
    }
}

fn moments(values: &[f32]) -> [f64; 3] {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let (mut squares, mut cubes) = (0.0, 0.0);
    for &x in values {
        let off = f64::from(x) - mean;
        squares += off * off;
        cubes += off * off * off;
    }
    let deviation = (squares / count).sqrt();
    // Less than what rounding of the mean leaves over.
    let is_constant = deviation <= 1e-12 * mean.abs();
    [mean, deviation, if is_constant { 0.0 } else { cubes / count / deviation.powi(3) }]
}
