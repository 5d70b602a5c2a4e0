//! Pictures to one channel by luma, and to three channels.
//!
//! Grey: `L = 0.299 R + 0.587 G + 0.114 B` (ITU-R BT.601), for bytes as PIL's `L` rounds it,
//! `(19595 R + 38470 G + 7471 B + 32768) >> 16`; pictures of one channel stay as they are. RGB: grey is repeated.
//! Where pictures have an alpha channel it lays them over a background: `a x + (1 - a) background`.
//! `[height, width, channels]` to `[height, width, 1]` or `[height, width, 3]`.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Image, Raw, Values};
use crate::step::{Step, StepKind};

/// The step that makes pictures grey.
pub(crate) const GREY: StepKind = StepKind::of::<Grey>("grey", "", "pictures to one channel, by luma (BT.601)");

/// The step that makes pictures coloured.
pub(crate) const RGB: StepKind =
    StepKind::of::<Rgb>("rgb", "", "pictures to three channels: grey is repeated, alpha laid over a background");

/// Makes pictures grey.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Grey {
    /// What lies behind pixels that let it through.
    background: f32,
}

/// Makes pictures coloured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rgb {
    /// What lies behind pixels that let it through, in all three channels.
    background: f32,
}

impl Step for Grey {
    fn name(&self) -> &'static str {
        GREY.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let image = opaque(raw.image(GREY.name)?, self.background);
        let pixels = match (&image.pixels, image.channels) {
            (_, 1) => return Ok(Raw::Image(image)),
            (Values::U8(pixels), _) => Values::U8(pixels.chunks_exact(3).map(luma_of_bytes).collect()),
            (Values::F32(pixels), _) => Values::F32(pixels.chunks_exact(3).map(luma).collect()),
        };
        Ok(Raw::Image(Image { channels: 1, pixels, ..image }))
    }
}

impl Step for Rgb {
    fn name(&self) -> &'static str {
        RGB.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let image = opaque(raw.image(RGB.name)?, self.background);
        let pixels = match (&image.pixels, image.channels) {
            (_, 3) => return Ok(Raw::Image(image)),
            (Values::U8(pixels), _) => Values::U8(pixels.iter().flat_map(|&x| [x; 3]).collect()),
            (Values::F32(pixels), _) => Values::F32(pixels.iter().flat_map(|&x| [x; 3]).collect()),
        };
        Ok(Raw::Image(Image { channels: 3, pixels, ..image }))
    }
}

/// The luma of a pixel of bytes.
pub(crate) fn luma_of_bytes(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16) as u8
}

/// The luma of a pixel of floats.
pub(crate) fn luma(rgb: &[f32]) -> f32 {
    0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
}

/// The picture over a background, without its alpha channel; others as they are.
fn opaque(image: Image, background: f32) -> Image {
    let colours = match image.channels {
        2 => 1,
        4 => 3,
        _ => return image,
    };
    let pixels = match &image.pixels {
        Values::U8(pixels) => {
            let background = background.clamp(0.0, 255.0) as u32;
            let over = |x: u8, a: u32| ((u32::from(x) * a + background * (255 - a) + 127) / 255) as u8;
            Values::U8(
                pixels
                    .chunks_exact(colours + 1)
                    .flat_map(|pixel| pixel[..colours].iter().map(|&x| over(x, u32::from(pixel[colours]))))
                    .collect(),
            )
        }
        Values::F32(pixels) => Values::F32(
            pixels
                .chunks_exact(colours + 1)
                .flat_map(|pixel| pixel[..colours].iter().map(|&x| background + pixel[colours] * (x - background)))
                .collect(),
        ),
    };
    Image { channels: colours, pixels, ..image }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(channels: usize, pixels: Vec<u8>) -> Raw {
        let width = pixels.len() / channels;
        Raw::Image(Image { height: 1, width, channels, pixels: Values::U8(pixels) })
    }

    #[test]
    fn luma_rounds_as_pil_does() {
        // PIL 11: Image.new("RGB", (1, 1), c).convert("L") for c = white, red, green, blue and (1, 2, 3).
        let rgb = vec![255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 1, 2, 3];
        let grey = Grey::default().apply(picture(3, rgb)).unwrap();
        assert_eq!(grey, picture(1, vec![255, 76, 150, 29, 2]));
    }

    #[test]
    fn grey_is_repeated_and_alpha_laid_over_the_background() {
        let rgb = Rgb { background: 200.0 };
        assert_eq!(rgb.apply(picture(1, vec![3, 9])).unwrap(), picture(3, vec![3, 3, 3, 9, 9, 9]));
        assert_eq!(
            rgb.apply(picture(4, vec![9, 8, 7, 255, 9, 8, 7, 0])).unwrap(),
            picture(3, vec![9, 8, 7, 200, 200, 200])
        );
        assert_eq!(rgb.apply(picture(2, vec![100, 51])).unwrap(), picture(3, vec![180, 180, 180]));
        assert_eq!(Grey { background: 200.0 }.apply(picture(2, vec![100, 51])).unwrap(), picture(1, vec![180]));
        let floats = Image { height: 1, width: 1, channels: 2, pixels: Values::F32(vec![0.5, 0.5]) };
        let over = Grey { background: 1.0 }.apply(Raw::Image(floats)).unwrap().image("").unwrap();
        assert_eq!(over.pixels, Values::F32(vec![0.75]));
    }

    #[test]
    fn other_samples_are_refused() {
        let error = Grey::default().apply(Raw::Text("a".into())).unwrap_err();
        assert_eq!(error.message(), "`grey` is for pictures, and the samples are texts");
    }
}
