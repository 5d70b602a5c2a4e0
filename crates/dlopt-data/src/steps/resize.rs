//! Scales pictures.
//!
//! Filters but nearest are those of Pillow, whose kernels are as wide as the wider of both pixels: they interpolate when pictures grow,
//! and average when they shrink. Nearest takes the pixel that the place `(i + 1/2) * in / out` lies in. Colours are weighted
//! by their alpha. Pictures of whole numbers stay so.

use std::cell::RefCell;

use dlopt_checkpoint::{Error, Result};
use fast_image_resize::images::{Image as Scaled, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
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
    /// A cubic of Catmull and Rom.
    Bicubic,
    /// Lanczos' kernel of three lobes: the sharpest.
    Lanczos,
    /// The mean of the pixels that fall into the new one.
    Box,
}

/// What becomes of the ratio of height to width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Aspect {
    /// It changes.
    #[default]
    Stretch,
    /// It stays: what is too much on two sides is cut off.
    Crop,
    /// It stays: what lacks on two sides is filled.
    Pad,
}

/// Options of `resize`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resize {
    /// `HxW`.
    size: String,
    #[serde(default)]
    filter: Filter,
    #[serde(default, skip_serializing_if = "is_stretched")]
    aspect: Aspect,
    /// What fills the sides with `aspect=pad`.
    #[serde(default, skip_serializing_if = "is_zero")]
    fill: f32,
}

fn is_stretched(aspect: &Aspect) -> bool {
    *aspect == Aspect::Stretch
}

fn is_zero(fill: &f32) -> bool {
    *fill == 0.0
}

thread_local! {
    /// Keeps the buffers of the last picture.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
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
        if self.aspect != Aspect::Pad {
            return Ok(Raw::Image(self.scaled(&image, height, width)?));
        }
        let (tall, wide) = (image.height * width, image.width * height);
        let inner = |extent: usize, by: usize, of: usize| ((extent * by) as f64 / of as f64).round().max(1.0) as usize;
        let [own_height, own_width] = match tall >= wide {
            true => [height, inner(image.width, height, image.height).min(width)],
            false => [inner(image.height, width, image.width).min(height), width],
        };
        let inner = self.scaled(&image, own_height, own_width)?;
        let place = Place { height, width, top: (height - own_height) / 2, left: (width - own_width) / 2 };
        let pixels = match &inner.pixels {
            Values::U8(pixels) => Values::U8(place.filled(pixels, &inner, self.fill.round().clamp(0.0, 255.0) as u8)),
            Values::F32(pixels) => Values::F32(place.filled(pixels, &inner, self.fill)),
        };
        Ok(Raw::Image(Image { height, width, channels: inner.channels, pixels }))
    }
}

/// Where a picture lies in a larger one.
struct Place {
    height: usize,
    width: usize,
    top: usize,
    left: usize,
}

impl Place {
    fn filled<T: Copy>(&self, pixels: &[T], inner: &Image, fill: T) -> Vec<T> {
        let mut out = vec![fill; self.height * self.width * inner.channels];
        let row = inner.width * inner.channels;
        for (line, pixels) in pixels.chunks_exact(row).enumerate() {
            let begin = ((self.top + line) * self.width + self.left) * inner.channels;
            out[begin..begin + row].copy_from_slice(pixels);
        }
        out
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

    /// A picture of this height and width.
    fn scaled(&self, image: &Image, height: usize, width: usize) -> Result<Image> {
        let channels = image.channels;
        let size = [image.height, image.width, height, width];
        let pixels = match (&image.pixels, channels) {
            (Values::U8(pixels), 1..=4) => {
                let kind = [PixelType::U8, PixelType::U8x2, PixelType::U8x3, PixelType::U8x4][channels - 1];
                Values::U8(self.bytes(pixels, size, kind)?)
            }
            (Values::F32(pixels), 1..=4) => {
                let kind = [PixelType::F32, PixelType::F32x2, PixelType::F32x3, PixelType::F32x4][channels - 1];
                Values::F32(bytemuck::pod_collect_to_vec(&self.bytes(bytemuck::cast_slice(pixels), size, kind)?))
            }
            // More channels than a pixel of the library has: one by one.
            (Values::U8(pixels), _) => {
                let one = |plane: Vec<u8>| self.bytes(&plane, size, PixelType::U8);
                Values::U8(by_channel(pixels, channels, one)?)
            }
            (Values::F32(pixels), _) => {
                let one = |plane: Vec<f32>| {
                    let bytes = self.bytes(bytemuck::cast_slice(&plane), size, PixelType::F32)?;
                    Ok(bytemuck::pod_collect_to_vec(&bytes))
                };
                Values::F32(by_channel(pixels, channels, one)?)
            }
        };
        Ok(Image { height, width, channels, pixels })
    }

    /// The same for the bytes of a picture, `size` being the height and width before and after.
    fn bytes(&self, pixels: &[u8], size: [usize; 4], kind: PixelType) -> Result<Vec<u8>> {
        let refused = |e: &dyn std::fmt::Display| Error::input(format!("`resize`: {e}"));
        let [from_height, from_width, height, width] = size.map(|extent| u32::try_from(extent).unwrap_or(u32::MAX));
        let from = ImageRef::new(from_width, from_height, pixels, kind).map_err(|e| refused(&e))?;
        let mut to = Scaled::new(width, height, kind);
        let algorithm = match self.filter {
            Filter::Nearest => ResizeAlg::Nearest,
            Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
            Filter::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
            Filter::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
            Filter::Box => ResizeAlg::Convolution(FilterType::Box),
        };
        // Floats of two or four channels need not be colours with alpha.
        let has_alpha = matches!(kind, PixelType::U8x2 | PixelType::U8x4);
        let mut options = ResizeOptions::new().resize_alg(algorithm).use_alpha(has_alpha);
        if self.aspect == Aspect::Crop {
            options = options.fit_into_destination(Some((0.5, 0.5)));
        }
        RESIZER.with_borrow_mut(|resizer| resizer.resize(&from, &mut to, &options)).map_err(|e| refused(&e))?;
        Ok(to.into_vec())
    }
}

/// Applies `one` to each channel of a picture.
fn by_channel<T: Copy + Default>(
    pixels: &[T],
    channels: usize,
    one: impl Fn(Vec<T>) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    let mut out = Vec::new();
    for channel in 0..channels {
        let plane = one(pixels.iter().skip(channel).step_by(channels).copied().collect())?;
        out.resize(plane.len() * channels, T::default());
        out.iter_mut().skip(channel).step_by(channels).zip(plane).for_each(|(to, from)| *to = from);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(size: &str, filter: Filter) -> Resize {
        Resize { size: size.to_owned(), filter, aspect: Aspect::Stretch, fill: 0.0 }
    }

    fn scaled(shape: [usize; 3], values: &[f32], size: &str, filter: Filter) -> Vec<f32> {
        let [height, width, channels] = shape;
        let image = Image { height, width, channels, pixels: Values::F32(values.to_vec()) };
        match step(size, filter).apply(Raw::Image(image)).unwrap() {
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
    fn the_ratio_of_height_and_width_can_stay() {
        let image = |values: Vec<u8>| Image { height: 1, width: 4, channels: 1, pixels: Values::U8(values) };
        let out = |aspect: Aspect, size: &str| {
            let step = Resize { aspect, fill: 7.0, ..step(size, Filter::Box) };
            match step.apply(Raw::Image(image(vec![0, 10, 20, 30]))).unwrap() {
                Raw::Image(Image { pixels: Values::U8(values), .. }) => values,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(out(Aspect::Pad, "3x4"), [7, 7, 7, 7, 0, 10, 20, 30, 7, 7, 7, 7]);
        assert_eq!(out(Aspect::Pad, "1x2"), [5, 25]);
        assert_eq!(out(Aspect::Crop, "1x2"), [10, 20]);
        assert_eq!(out(Aspect::Stretch, "1x1"), [15]);
    }

    #[test]
    fn any_number_of_channels_is_scaled_alike() {
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos, Filter::Box, Filter::Nearest] {
            let grey: Vec<f32> = (0..35).map(|i| (i * 37 % 50) as f32).collect();
            let wanted = scaled([5, 7, 1], &grey, "3x4", filter);
            for channels in [2, 3, 4, 5, 6] {
                let many: Vec<f32> = grey.iter().flat_map(|x| std::iter::repeat_n(*x, channels)).collect();
                let found = scaled([5, 7, channels], &many, "3x4", filter);
                for (found, wanted) in found.chunks_exact(channels).zip(&wanted) {
                    assert!(found.iter().all(|x| (x - wanted).abs() < 1e-4), "{filter:?} {channels}");
                }
            }
        }
    }

    #[derive(serde::Deserialize)]
    struct Case {
        picture: String,
        filter: Filter,
        size: String,
        pixels: Vec<u8>,
    }

    #[derive(serde::Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[test]
    fn pictures_are_scaled_as_by_pillow() {
        let golden: Golden = serde_json::from_str(include_str!("../../../../fixtures/scaled/golden.json")).unwrap();
        assert!(golden.cases.len() >= 20);
        for case in golden.cases {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/features/images");
            let own = image::open(format!("{folder}/{}.png", case.picture)).unwrap();
            let (height, width) = (own.height() as usize, own.width() as usize);
            let channels = usize::from(own.color().channel_count());
            let image = Image { height, width, channels, pixels: Values::U8(own.into_bytes()) };
            let Raw::Image(out) = step(&case.size, case.filter).apply(Raw::Image(image)).unwrap() else { panic!() };
            let Values::U8(found) = out.pixels else { panic!() };
            assert_eq!(found.len(), case.pixels.len());
            let off: Vec<u8> = found.iter().zip(&case.pixels).map(|(a, b)| a.abs_diff(*b)).collect();
            let most = off.iter().copied().max().unwrap();
            let mean = off.iter().map(|x| f64::from(*x)).sum::<f64>() / off.len() as f64;
            // Between the axes the sharper filters are cut to 0..=255, and the axes come in another order.
            let allowed = if matches!(case.filter, Filter::Bicubic | Filter::Lanczos) { (40, 1.0) } else { (1, 0.5) };
            let place = format!("{} {:?} {}", case.picture, case.filter, case.size);
            assert!(most <= allowed.0 && mean < allowed.1, "{place}: at most {most}, {mean} in the mean");
        }
    }

    #[test]
    fn only_pictures_can_be_scaled() {
        let error = step("2x2", Filter::Nearest).apply(Raw::Text(String::new())).unwrap_err();
        assert!(error.message().contains("`resize` is for pictures"), "{error}");
        let image = Image { height: 1, width: 2, channels: 1, pixels: Values::U8(vec![1, 2]) };
        assert!(step("0x3", Filter::Nearest).apply(Raw::Image(image)).unwrap_err().message().contains("wanted HxW"));
    }
}
