//! A contact sheet: small pictures in a grid, each with what it is and what it was taken for.

use std::io::Cursor;

use dlopt_checkpoint::{Error, Result};
use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, UnicodeFonts};
use image::{ImageFormat, Rgb, RgbImage};

/// Elements of a picture `[height, width, channels]`.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// 0 is black, 255 white.
    U8(&'a [u8]),
    /// 0 is black, 1 white. Where a value is outside 0..=1 (standardised pictures), the smallest is black and the
    /// largest white; NaN is black.
    F32(&'a [f32]),
}

/// A picture with its caption.
#[derive(Clone, Debug)]
pub struct Picture<'a> {
    /// Elements `[height, width, channels]`.
    pub pixels: Pixels<'a>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 (grey), 3 (red, green, blue) or 4 (with opacity, which is left out).
    pub channels: usize,
    /// The name of the class it is of.
    pub label: String,
    /// The name of the class it was taken for, or other words; lines are kept.
    pub predicted: String,
    /// The probability of that class, in 0..=1; NaN for none.
    pub confidence: f64,
}

/// Characters of the font are 8×8 pixels, drawn twice as large.
const FONT: u32 = 16;
/// Pixels from one line of text to the next.
const LINE: u32 = 20;
/// Pictures are scaled to about so many pixels; 14 characters fit beneath.
const THUMB: u32 = 224;
const GAP: u32 = 16;
const HEAD: u32 = 48;
const INK: Rgb<u8> = Rgb([34, 34, 34]);
const WRONG: Rgb<u8> = Rgb([176, 64, 0]);
const FRAME: Rgb<u8> = Rgb([200, 200, 200]);

/// Draws the pictures in a grid, in the order given, row by row, as PNG: small ones enlarged without smoothing, large
/// ones reduced. Beneath each stands its class, and what it was taken for with the confidence. Characters that the
/// bitmap font lacks are drawn as `?`.
///
/// # Errors
/// When there are no pictures, or one's shape does not go with its elements or has other than 1, 3 or 4 channels.
pub fn contact_sheet_png(title: &str, pictures: &[Picture<'_>]) -> Result<Vec<u8>> {
    let columns = ((pictures.len() as f64 * 1.4).sqrt().ceil() as u32).min(pictures.len() as u32);
    picture_table_png(title, columns, pictures)
}

/// The same with so many pictures in a row.
///
/// # Errors
/// As [`contact_sheet_png`].
pub fn picture_table_png(title: &str, columns: u32, pictures: &[Picture<'_>]) -> Result<Vec<u8>> {
    if pictures.is_empty() {
        return Err(Error::input("there are no pictures for a contact sheet"));
    }
    let thumbs = pictures
        .iter()
        .enumerate()
        .map(|(i, picture)| thumbnail(picture).map_err(|e| e.within(format_args!("picture {i}"))))
        .collect::<Result<Vec<_>>>()?;
    let cell_width = THUMB.max(thumbs.iter().map(RgbImage::width).max().unwrap_or(0));
    let lines = pictures.iter().map(|picture| picture.predicted.lines().count().max(1)).max().unwrap_or(1) as u32;
    let cell_height = thumbs.iter().map(RgbImage::height).max().unwrap_or(0) + 8 + (1 + lines) * LINE;
    let columns = columns.max(1);
    let rows = (pictures.len() as u32).div_ceil(columns);
    let width = (GAP + columns * (cell_width + GAP)).max(GAP * 2 + title.chars().count() as u32 * FONT);
    let mut sheet = RgbImage::from_pixel(width, HEAD + rows * (cell_height + GAP), Rgb([255, 255, 255]));
    write(&mut sheet, GAP, GAP, title, INK);
    for (i, (picture, thumb)) in pictures.iter().zip(&thumbs).enumerate() {
        let x = GAP + (i as u32 % columns) * (cell_width + GAP);
        let y = HEAD + (i as u32 / columns) * (cell_height + GAP);
        image::imageops::replace(&mut sheet, thumb, i64::from(x), i64::from(y));
        frame(&mut sheet, x, y, thumb);
        let caption = y + thumb.height() + 8;
        let characters = (cell_width / FONT) as usize;
        write(&mut sheet, x, caption, &super::short(&picture.label, characters), INK);
        let percent = match picture.confidence.is_nan() {
            true => String::new(),
            false => format!(" {:.0}%", 100.0 * picture.confidence),
        };
        let mut below = caption;
        for line in picture.predicted.lines() {
            below += LINE;
            let line = super::short(line, characters.saturating_sub(percent.len()));
            write(&mut sheet, x, below, &(line + &percent), WRONG);
        }
    }
    let mut bytes = Cursor::new(Vec::new());
    sheet
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::input(format!("the contact sheet cannot be written as PNG: {e}")))?;
    Ok(bytes.into_inner())
}

/// The picture in colour, near [`THUMB`] pixels large.
fn thumbnail(picture: &Picture<'_>) -> Result<RgbImage> {
    let (height, width, channels) = (picture.height, picture.width, picture.channels);
    let found = match picture.pixels {
        Pixels::U8(values) => values.len(),
        Pixels::F32(values) => values.len(),
    };
    let wanted = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
    if wanted != Some(found) || found == 0 || height.max(width) > 1 << 16 {
        return Err(Error::input(format!(
            "{found} elements do not make a picture of shape [{height}, {width}, {channels}]"
        )));
    }
    if !matches!(channels, 1 | 3 | 4) {
        return Err(Error::input(format!(
            "a picture has {channels} channels; wanted 1 (grey), 3 (colour) or 4 (with opacity)"
        )));
    }
    let (low, span) = match picture.pixels {
        Pixels::U8(_) => (0.0, 255.0),
        Pixels::F32(values) => range(values),
    };
    let value = |at: usize| match picture.pixels {
        Pixels::U8(values) => values[at],
        Pixels::F32(values) => ((values[at] - low) / span * 255.0).round() as u8,
    };
    let image = RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = (y as usize * width + x as usize) * channels;
        if channels == 1 { Rgb([value(at); 3]) } else { Rgb([value(at), value(at + 1), value(at + 2)]) }
    });
    let side = height.max(width) as u32;
    if side > THUMB {
        let scaled = |extent: usize| (extent as u32 * THUMB / side).max(1);
        return Ok(image::imageops::thumbnail(&image, scaled(width), scaled(height)));
    }
    let times = THUMB / side;
    Ok(RgbImage::from_fn(width as u32 * times, height as u32 * times, |x, y| *image.get_pixel(x / times, y / times)))
}

/// What is black, and how far above it white is.
fn range(values: &[f32]) -> (f32, f32) {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if (0.0..=1.0).contains(&low) && high <= 1.0 {
        return (0.0, 1.0);
    }
    let span = high - low;
    if span.is_finite() && span > 0.0 { (low, span) } else { (low, 1.0) }
}

fn frame(sheet: &mut RgbImage, x: u32, y: u32, thumb: &RgbImage) {
    let (right, bottom) = (x + thumb.width(), y + thumb.height());
    for column in x - 1..=right {
        sheet.put_pixel(column, y - 1, FRAME);
        sheet.put_pixel(column, bottom, FRAME);
    }
    for row in y - 1..=bottom {
        sheet.put_pixel(x - 1, row, FRAME);
        sheet.put_pixel(right, row, FRAME);
    }
}

/// Writes text with its upper left corner at (x, y).
fn write(sheet: &mut RgbImage, x: u32, y: u32, text: &str, ink: Rgb<u8>) {
    for (i, character) in text.chars().enumerate() {
        let left = x + i as u32 * FONT;
        for (row, bits) in glyph(character).into_iter().enumerate() {
            for column in (0..8).filter(|c| bits >> c & 1 == 1) {
                for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let (px, py) = (left + 2 * column + dx, y + 2 * row as u32 + dy);
                    if px < sheet.width() && py < sheet.height() {
                        sheet.put_pixel(px, py, ink);
                    }
                }
            }
        }
    }
}

/// Eight rows from the top; the lowest bit is the leftmost pixel.
fn glyph(character: char) -> [u8; 8] {
    const ELLIPSIS: [u8; 8] = [0, 0, 0, 0, 0, 0, 0b0101_0101, 0];
    if character == '…' {
        return ELLIPSIS;
    }
    let known =
        BASIC_FONTS.get(character).or_else(|| LATIN_FONTS.get(character)).or_else(|| GREEK_FONTS.get(character));
    known.or_else(|| BASIC_FONTS.get('?')).unwrap_or([0; 8])
}
