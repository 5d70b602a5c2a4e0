//! One picture from a file: PNG, JPEG, WebP, BMP, TIFF, GIF (its first frame), PNM, told apart by content.
//!
//! `[height, width, channels]` of bytes: grey, grey and alpha, RGB or RGBA as the file has it; palettes are looked up,
//! 16 bits are rounded to 8, and the picture is turned as its EXIF says. What a header claims is checked before anything
//! is allocated: at most 2^26 pixels, and no more than the best compression could have put into the file.

use std::io::Cursor;
use std::path::Path;

use dlopt_checkpoint::{Context, Error, Result};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::raw::{Image, Values};

/// Endings of file names of pictures, in lower case.
pub(super) const EXTENSIONS: &[&str] =
    &["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "tif", "tiff", "gif", "pnm", "pbm", "pgm", "ppm"];

/// Most pixels of a picture.
const MOST_PIXELS: u64 = 1 << 26;

/// Largest file that is read.
const MOST_BYTES: u64 = 1 << 29;

/// Memory that a decoder may take: the largest picture in 16 bits, and as much again.
const DECODER_BYTES: u64 = 1 << 30;

/// Pixels that a byte of a file can stand for: deflate packs 1,032 bytes into one, of eight black or white pixels each.
const PIXELS_PER_BYTE: u64 = 8 * 1032;

/// Below this a picture is cheap whatever its file claims.
const CHEAP_PIXELS: u64 = 1 << 20;

/// Reads a picture file.
///
/// # Errors
/// When it cannot be read, is no picture, is damaged or too large; the error names it.
pub fn read(path: &Path) -> Result<Image> {
    let bytes = path.metadata().at(path.display())?.len();
    if bytes > MOST_BYTES {
        return Err(Error::input(format!("{}: has {bytes} bytes; a picture has at most {MOST_BYTES}", path.display())));
    }
    let bytes = std::fs::read(path).at(path.display())?;
    decode(&bytes).map_err(|e| e.within(path.display()))
}

/// Decodes the bytes of a picture file.
///
/// # Errors
/// When they are no picture, damaged, or claim too many pixels.
pub(crate) fn decode(bytes: &[u8]) -> Result<Image> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| damaged(&e))?;
    let format = reader.format().filter(ImageFormat::reading_enabled).ok_or_else(unknown)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| broken(format, &e))?;
    check_size(decoder.dimensions(), bytes.len() as u64)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| broken(format, &e))?;
    picture.apply_orientation(orientation);
    Ok(of_bytes(picture))
}

fn check_size((width, height): (u32, u32), bytes: u64) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Error::input(format!("a picture of {width}x{height} pixels")));
    }
    if pixels > MOST_PIXELS {
        return Err(Error::input(format!(
            "claims {width}x{height} pixels, {pixels} in all; a picture has at most {MOST_PIXELS}"
        ))
        .hint("make it smaller, or leave it out"));
    }
    if pixels > CHEAP_PIXELS && pixels / PIXELS_PER_BYTE > bytes {
        return Err(Error::input(format!("claims {width}x{height} pixels in {bytes} bytes, more than they can hold"))
            .hint("the header is damaged, or made to fill memory"));
    }
    Ok(())
}

/// Its pixels as bytes, with the channels that it has.
fn of_bytes(picture: DynamicImage) -> Image {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (channels, pixels) = match picture.color() {
        ColorType::L8 | ColorType::L16 => (1, picture.into_luma8().into_raw()),
        ColorType::La8 | ColorType::La16 => (2, picture.into_luma_alpha8().into_raw()),
        ColorType::Rgba8 | ColorType::Rgba16 | ColorType::Rgba32F => (4, picture.into_rgba8().into_raw()),
        _ => (3, picture.into_rgb8().into_raw()),
    };
    Image { height, width, channels, pixels: Values::U8(pixels) }
}

fn unknown() -> Error {
    Error::input("is no picture that dlopt reads").hint("it reads PNG, JPEG, WebP, BMP, TIFF, GIF and PNM")
}

fn broken(format: ImageFormat, e: &ImageError) -> Error {
    match e {
        ImageError::Limits(_) => Error::input("takes more memory than a picture may").hint("make it smaller"),
        ImageError::IoError(e) => damaged(e),
        ImageError::Unsupported(e) => Error::input(format!("a {format:?} picture that dlopt does not read: {e}")),
        _ => damaged(e),
    }
}

fn damaged(e: &dyn std::fmt::Display) -> Error {
    Error::input(format!("a damaged picture: {}", e.to_string().trim_end_matches(['.', '\n'])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayAlphaImage, ImageBuffer, Luma, RgbImage};

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn rgb() -> DynamicImage {
        RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8 * 50, y as u8 * 100, 7])).into()
    }

    #[test]
    fn formats_are_told_by_content() {
        let wanted = rgb().into_bytes();
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Pnm] {
            let image = decode(&encoded(&rgb(), format)).unwrap();
            assert_eq!([image.height, image.width, image.channels], [3, 5, 3], "{format:?}");
            assert_eq!(image.pixels, Values::U8(wanted.clone()), "{format:?}");
        }
        let lossy = decode(&encoded(&rgb(), ImageFormat::Jpeg)).unwrap();
        assert_eq!([lossy.height, lossy.width, lossy.channels], [3, 5, 3]);
        let gif = decode(&encoded(&DynamicImage::from(rgb().into_rgba8()), ImageFormat::Gif)).unwrap();
        assert_eq!([gif.height, gif.width], [3, 5]);
    }

    #[test]
    fn channels_stay_and_16_bits_are_rounded_to_8() {
        let deep = ImageBuffer::<Luma<u16>, _>::from_raw(3, 1, vec![0, 257 * 7 + 129, 65535]).unwrap();
        let grey = decode(&encoded(&deep.into(), ImageFormat::Png)).unwrap();
        assert_eq!((grey.channels, grey.pixels), (1, Values::U8(vec![0, 8, 255])));
        let alpha = GrayAlphaImage::from_raw(1, 1, vec![9, 128]).unwrap();
        let alpha = decode(&encoded(&alpha.into(), ImageFormat::Png)).unwrap();
        assert_eq!((alpha.channels, alpha.pixels), (2, Values::U8(vec![9, 128])));
    }

    #[test]
    fn pictures_are_turned_as_exif_says() {
        // The EXIF block with orientation 6, a quarter turn clockwise, behind the JPEG's first marker.
        let mut jpeg = encoded(&DynamicImage::from(RgbImage::from_pixel(16, 8, image::Rgb([9; 3]))), ImageFormat::Jpeg);
        let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        jpeg.splice(2..2, exif.iter().copied());
        let image = decode(&jpeg).unwrap();
        assert_eq!([image.height, image.width], [16, 8]);
    }

    #[test]
    fn claims_are_checked_before_memory_is_taken() {
        // A PNG header of 2^15 x 2^15 pixels, and one of 8,000 x 8,000 in a hundred bytes.
        for (extent, message) in [(1_u32 << 15, "at most 67108864"), (8000, "more than they can hold")] {
            let mut png = encoded(&rgb(), ImageFormat::Png);
            png[16..20].copy_from_slice(&extent.to_be_bytes());
            png[20..24].copy_from_slice(&extent.to_be_bytes());
            let crc = crc32(&png[12..29]);
            png[29..33].copy_from_slice(&crc.to_be_bytes());
            let error = decode(&png).unwrap_err();
            assert!(error.message().contains(message), "{error}");
        }
        // 10^9 pixels in a BMP.
        let mut bmp = encoded(&rgb(), ImageFormat::Bmp);
        bmp[18..22].copy_from_slice(&31_623_u32.to_le_bytes());
        bmp[22..26].copy_from_slice(&31_623_u32.to_le_bytes());
        assert!(decode(&bmp).unwrap_err().message().contains("claims 31623x31623 pixels"));
    }

    #[test]
    fn damaged_files_are_named() {
        let png = encoded(&rgb(), ImageFormat::Png);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.png");
        std::fs::write(&path, &png[..png.len() / 2]).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.message().contains("cut.png: a damaged picture: "), "{error}");
        for bytes in [&b""[..], b"hello, this is text", b"\x89PNG"] {
            let error = decode(bytes).unwrap_err();
            assert!(error.message().contains("no picture") || error.message().contains("damaged"), "{error}");
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
        })
    }
}
