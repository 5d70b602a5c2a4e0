//! The channels of a picture in a colour space, as features of colours see them.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

use super::planes::{Plane, channels, grey, white};
use crate::raw::{Image, Values};

/// A colour space. Channels run from 0 to 255, hue from 0 to 180 (half degrees); pictures of floats are scaled to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Space {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Hue, saturation, value; of bytes in whole numbers as OpenCV's 8-bit COLOR_RGB2HSV.
    Hsv,
    /// Luma (BT.601).
    Grey,
}

impl Space {
    /// The channels' names.
    pub(super) fn channels(self) -> &'static [&'static str] {
        match self {
            Self::Rgb => &["red", "green", "blue"],
            Self::Hsv => &["hue", "saturation", "value"],
            Self::Grey => &["grey"],
        }
    }

    /// The number after the largest of each channel.
    pub(super) fn ends(self) -> &'static [f64] {
        match self {
            Self::Rgb => &[256.0; 3],
            Self::Hsv => &[180.0, 256.0, 256.0],
            Self::Grey => &[256.0],
        }
    }

    /// The channels of a picture, for the feature `who`.
    pub(super) fn planes(self, image: &Image, said_white: Option<f32>, who: &str) -> Result<Vec<Plane>> {
        if self != Self::Grey && image.channels < 3 {
            return Err(Error::usage(format!("`{who}`: pictures of {} have no colours", of_channels(image.channels)))
                .hint(format!("{who}=grey, or --step rgb before")));
        }
        let mut planes = if self == Self::Grey { vec![grey(image)] } else { channels(image) };
        let is_float = matches!(image.pixels, Values::F32(_));
        if is_float || said_white.is_some() {
            let factor = 255.0 / white(image, said_white);
            planes.iter_mut().flat_map(|plane| &mut plane.values).for_each(|x| *x = (*x * factor).clamp(0.0, 255.0));
        }
        if self == Self::Hsv {
            let convert = if is_float { hsv_of_floats } else { hsv_of_bytes };
            if let [red, green, blue] = &mut planes[..] {
                for ((r, g), b) in red.values.iter_mut().zip(&mut green.values).zip(&mut blue.values) {
                    [*r, *g, *b] = convert([*r, *g, *b]);
                }
            }
        }
        Ok(planes)
    }
}

fn of_channels(channels: usize) -> String {
    if channels == 1 { "one channel".to_owned() } else { format!("{channels} channels") }
}

/// Hue (0 to 179), saturation and value of whole numbers from 0 to 255, rounded as OpenCV does it.
fn hsv_of_bytes(rgb: [f32; 3]) -> [f32; 3] {
    const SHIFT: i32 = 12;
    let rounded = |dividend: i32, divisor: f64| -> i32 {
        if divisor == 0.0 { 0 } else { (f64::from(dividend << SHIFT) / divisor).round_ties_even() as i32 }
    };
    let [r, g, b] = rgb.map(|x| x as i32);
    let value = r.max(g).max(b);
    let range = value - r.min(g).min(b);
    let saturation = (range * rounded(255, f64::from(value)) + (1 << (SHIFT - 1))) >> SHIFT;
    let sixths = if value == r {
        g - b
    } else if value == g {
        b - r + 2 * range
    } else {
        r - g + 4 * range
    };
    let hue = (sixths * rounded(180, 6.0 * f64::from(range)) + (1 << (SHIFT - 1))) >> SHIFT;
    let hue = if hue < 0 { hue + 180 } else { hue };
    [hue as f32, saturation as f32, value as f32]
}

/// Hue (0 to 180), saturation and value of numbers from 0 to 255.
fn hsv_of_floats([r, g, b]: [f32; 3]) -> [f32; 3] {
    let value = r.max(g).max(b);
    let range = value - r.min(g).min(b);
    if range <= 0.0 {
        return [0.0, 0.0, value];
    }
    let hue = if value == r {
        30.0 * (g - b) / range
    } else if value == g {
        60.0 + 30.0 * (b - r) / range
    } else {
        120.0 + 30.0 * (r - g) / range
    };
    [if hue < 0.0 { hue + 180.0 } else { hue }, 255.0 * range / value, value]
}
