//! Colour histogram: the share of pixels in each range of each channel, or in each box of all channels.
//!
//! `bins` equal ranges of 0 to 256, for hue of 0 to 180. Numbers stand channel by channel; with `joint`, as
//! `[first, second, third channel]`. Spaces: `rgb`, `hsv`, `grey` (luma, BT.601).
//!
//! Source: Swain, Ballard 1991. Equals OpenCV's cvtColor and calcHist, divided by the number of pixels.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::colours::Space;
use super::planes::picture;
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// Colour histogram.
pub(super) const KIND: FeatureKind = FeatureKind::of::<ColourHistogram>(
    "colour-histogram",
    "space",
    "colour: share of pixels by range of RGB, HSV or grey (Swain 1991; as OpenCV)",
);

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ColourHistogram {
    /// `rgb`, `hsv` or `grey`.
    space: Space,
    /// Ranges of each channel.
    bins: usize,
    /// Whether ranges of all channels are counted together.
    joint: bool,
    /// The value of white; 255 for bytes and 1 for floats when nobody says.
    white: Option<f32>,
}

impl Default for ColourHistogram {
    fn default() -> Self {
        Self { space: Space::Rgb, bins: 8, joint: false, white: None }
    }
}

impl Feature for ColourHistogram {
    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let image = picture(raw, KIND.name)?;
        let most = if self.joint { 32 } else { 256 };
        if !(1..=most).contains(&self.bins) {
            return Err(Error::usage(format!("`colour-histogram`: {} bins; wanted 1 to {most}", self.bins)));
        }
        let planes = self.space.planes(image, self.white, KIND.name)?;
        let pixels = (image.height * image.width) as f32;
        let ends = self.space.ends();
        let bin = |channel: usize, pixel: usize| -> usize {
            let place = f64::from(planes[channel].values[pixel]) * (self.bins as f64 / ends[channel]);
            (place as usize).min(self.bins - 1)
        };
        let histograms = if self.joint { 1 } else { planes.len() };
        let each = if self.joint { self.bins.pow(planes.len() as u32) } else { self.bins };
        let mut counts = vec![0_u32; histograms * each];
        for pixel in 0..image.height * image.width {
            if self.joint {
                counts[(0..planes.len()).fold(0, |place, channel| place * self.bins + bin(channel, pixel))] += 1;
                continue;
            }
            for channel in 0..planes.len() {
                counts[channel * each + bin(channel, pixel)] += 1;
            }
        }
        out.extend(counts.iter().map(|&count| count as f32 / pixels));
        Ok(())
    }

    fn names(&self, name: &str, count: usize) -> Vec<String> {
        if self.joint {
            return (0..count).map(|place| format!("{name}_{place}")).collect();
        }
        let of_channel =
            |channel: &&str| (0..self.bins).map(|bin| format!("{name}_{channel}_{bin}")).collect::<Vec<_>>();
        self.space.channels().iter().flat_map(of_channel).collect()
    }
}
