//! Cuts pictures: to a size, to a box, or to their content.
//!
//! `size=HxW` about an anchor; `box=Y+X+H+W` from the upper left corner; `content=T` to the smallest box of all pixels
//! of which a channel is more than `T` away from the border's colour (the median of the outermost pixels, channel by
//! channel), with `margin` pixels around; a picture without content stays. `[height, width, channels]` to
//! `[height', width', channels]`.

use std::ops::Range;

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Image, Raw, Values};
use crate::step::Step;

/// Where a size is cut out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Anchor {
    #[default]
    Centre,
    Top,
    Bottom,
    Left,
    Right,
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}

/// Options of `crop`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Options")]
pub(crate) struct Crop {
    options: Options,
    what: What,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// `HxW`.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<String>,
    /// Where a size is cut out.
    anchor: Anchor,
    /// `Y+X+H+W`.
    #[serde(rename = "box", skip_serializing_if = "Option::is_none")]
    area: Option<String>,
    /// How far the content's colour is from the border's at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<f32>,
    /// Pixels that are kept around the content.
    margin: usize,
}

#[derive(Clone, Debug)]
enum What {
    Size([usize; 2]),
    Box([usize; 4]),
    Content(f32),
}

impl TryFrom<Options> for Crop {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        let what = match (&options.size, &options.area, options.content) {
            (Some(size), None, None) => numbers(size, 'x').filter(|size| !size.contains(&0)).map(What::Size),
            (None, Some(area), None) => {
                numbers(area, '+').filter(|area: &[usize; 4]| !area[2..].contains(&0)).map(What::Box)
            }
            (None, None, Some(threshold)) if threshold >= 0.0 => Some(What::Content(threshold)),
            _ => None,
        };
        match what {
            Some(what) => Ok(Self { options, what }),
            None => Err("wanted one of size=HxW, box=Y+X+H+W and content=THRESHOLD".to_owned()),
        }
    }
}

fn numbers<const N: usize>(text: &str, between: char) -> Option<[usize; N]> {
    let numbers: Option<Vec<usize>> = text.split(between).map(|number| number.trim().parse().ok()).collect();
    numbers?.try_into().ok()
}

impl Step for Crop {
    fn name(&self) -> &'static str {
        "crop"
    }

    fn options(&self) -> Map<String, Value> {
        options::written(&self.options)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let image = raw.image("crop")?;
        let (rows, columns) = match self.what {
            What::Size([height, width]) => {
                let [down, right] = self.options.anchor.shares();
                let top = image.height.saturating_sub(height) * down / 2;
                let left = image.width.saturating_sub(width) * right / 2;
                (top..top + height, left..left + width)
            }
            What::Box([y, x, height, width]) => (y..y.saturating_add(height), x..x.saturating_add(width)),
            What::Content(threshold) => content(&image, threshold, self.options.margin),
        };
        if rows.end > image.height || columns.end > image.width {
            return Err(Error::input(format!(
                "a picture of {}x{} pixels, of which `crop` cannot keep rows {} to {} and columns {} to {}",
                image.height,
                image.width,
                rows.start,
                rows.end - 1,
                columns.start,
                columns.end - 1
            ))
            .hint("--resize HxW first, or --clean to drop pictures that are too small"));
        }
        Ok(Raw::Image(cut(image, rows, columns)))
    }
}

impl Anchor {
    /// Halves of what is cut off that go above and to the left.
    fn shares(self) -> [usize; 2] {
        match self {
            Self::Centre => [1, 1],
            Self::Top => [0, 1],
            Self::Bottom => [2, 1],
            Self::Left => [1, 0],
            Self::Right => [1, 2],
            Self::TopLeft => [0, 0],
            Self::TopRight => [0, 2],
            Self::BottomLeft => [2, 0],
            Self::BottomRight => [2, 2],
        }
    }
}

/// The picture of these rows and columns.
pub(super) fn cut(image: Image, rows: Range<usize>, columns: Range<usize>) -> Image {
    if rows == (0..image.height) && columns == (0..image.width) {
        return image;
    }
    let (line, from, length) = (image.width * image.channels, columns.start * image.channels, columns.len());
    let length = length * image.channels;
    let begins = rows.clone().map(|row| row * line + from);
    let pixels = match &image.pixels {
        Values::U8(pixels) => Values::U8(begins.flat_map(|begin| &pixels[begin..begin + length]).copied().collect()),
        Values::F32(pixels) => Values::F32(begins.flat_map(|begin| &pixels[begin..begin + length]).copied().collect()),
    };
    Image { height: rows.len(), width: columns.len(), channels: image.channels, pixels }
}

/// Rows and columns of what differs from the border; all of them when nothing does.
fn content(image: &Image, threshold: f32, margin: usize) -> (Range<usize>, Range<usize>) {
    let Image { height, width, channels, ref pixels } = *image;
    let pixels = pixels.floats();
    let colour = border_colour(&pixels, [height, width, channels]);
    let (mut rows, mut columns) = (height..0, width..0);
    for (at, pixel) in pixels.chunks_exact(channels).enumerate() {
        if pixel.iter().zip(&colour).any(|(x, border)| (x - border).abs() > threshold) {
            let (row, column) = (at / width, at % width);
            rows = rows.start.min(row)..row + 1;
            columns = columns.start.min(column)..columns.end.max(column + 1);
        }
    }
    if rows.is_empty() {
        return (0..height, 0..width);
    }
    let wider = |range: Range<usize>, extent: usize| {
        range.start.saturating_sub(margin)..range.end.saturating_add(margin).min(extent)
    };
    (wider(rows, height), wider(columns, width))
}

/// The median of the outermost pixels, channel by channel.
fn border_colour(pixels: &[f32], [height, width, channels]: [usize; 3]) -> Vec<f32> {
    let is_outermost = |at: &usize| {
        let (row, column) = (at / width, at % width);
        row == 0 || row + 1 == height || column == 0 || column + 1 == width
    };
    let places: Vec<usize> = (0..height * width).filter(is_outermost).collect();
    (0..channels)
        .map(|channel| {
            let mut values: Vec<f32> = places.iter().map(|at| pixels[at * channels + channel]).collect();
            values.sort_unstable_by(f32::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::StepKind;

    const KIND: StepKind = StepKind::of::<Crop>("crop", "size", "");

    fn crop(options: &str) -> Result<Box<dyn Step>> {
        (KIND.make)(KIND.name, serde_json::from_str(options).unwrap())
    }

    /// 4 x 5, the pixel of row r and column c being `10 r + c`.
    fn picture() -> Raw {
        let pixels = Values::U8((0..20).map(|at| (at / 5 * 10 + at % 5) as u8).collect());
        Raw::Image(Image { height: 4, width: 5, channels: 1, pixels })
    }

    fn cropped(options: &str) -> (usize, usize, Vec<u8>) {
        match crop(options).unwrap().apply(picture()).unwrap() {
            Raw::Image(Image { height, width, pixels: Values::U8(pixels), .. }) => (height, width, pixels),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sizes_are_cut_about_their_anchor() {
        assert_eq!(cropped(r#"{"size": "2x3"}"#), (2, 3, vec![11, 12, 13, 21, 22, 23]));
        assert_eq!(cropped(r#"{"size": "1x2", "anchor": "bottom-right"}"#), (1, 2, vec![33, 34]));
        assert_eq!(cropped(r#"{"size": "1x1", "anchor": "top"}"#), (1, 1, vec![2]));
        assert_eq!(cropped(r#"{"size": "4x5"}"#).2.len(), 20);
    }

    #[test]
    fn boxes_are_cut_from_the_corner() {
        assert_eq!(cropped(r#"{"box": "1+0+2+1"}"#), (2, 1, vec![10, 20]));
    }

    #[test]
    fn content_is_what_differs_from_the_border() {
        let mut pixels = vec![7_u8; 2 * 48];
        // Noise in a corner of the border, content at rows 2 to 3 and column 3 of 6 x 8.
        pixels[0] = 9;
        pixels[2 * (2 * 8 + 3)] = 50;
        pixels[2 * (3 * 8 + 3) + 1] = 50;
        let image = Image { height: 6, width: 8, channels: 2, pixels: Values::U8(pixels) };
        let size = |options: &str, image: &Image| {
            let image = crop(options).unwrap().apply(Raw::Image(image.clone())).unwrap().image("").unwrap();
            [image.height, image.width]
        };
        assert_eq!(size(r#"{"content": 5}"#, &image), [2, 1]);
        assert_eq!(size(r#"{"content": 5, "margin": 1}"#, &image), [4, 3]);
        assert_eq!(size(r#"{"content": 5, "margin": 99}"#, &image), [6, 8]);
        assert_eq!(size(r#"{"content": 1}"#, &image), [4, 4]);
        let blank = Image { pixels: Values::U8(vec![7; 96]), ..image };
        assert_eq!(size(r#"{"content": 0}"#, &blank), [6, 8]);
    }

    #[test]
    fn options_come_back_and_wrong_ones_are_refused() {
        let kept = crop(r#"{"size": "2x3"}"#).unwrap().options();
        assert_eq!(serde_json::to_string(&kept).unwrap(), r#"{"size":"2x3","anchor":"centre","margin":0}"#);
        for wrong in
            [r#"{}"#, r#"{"size": "0x3"}"#, r#"{"size": "3"}"#, r#"{"size": "3x3", "content": 1}"#, r#"{"box": "1+1"}"#]
        {
            assert!(crop(wrong).unwrap_err().message().contains("wanted one of size=HxW"), "{wrong}");
        }
        let error = crop(r#"{"size": "5x5"}"#).unwrap().apply(picture()).unwrap_err();
        assert!(error.message().contains("a picture of 4x5 pixels"), "{error}");
        assert!(crop(r#"{"box": "0+3+1+3"}"#).unwrap().apply(picture()).is_err());
    }
}
