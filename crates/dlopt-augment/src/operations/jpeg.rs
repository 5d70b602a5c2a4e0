//! JPEG artefacts: what is lost when a picture is saved as a JPEG of a quality, and nothing else of it. Of three channels,
//! and of the first three of four, `Y = 0.299 R + 0.587 G + 0.114 B`, `Cb = 128 + 0.564 (B - Y)`, `Cr = 128 + 0.713 (R - Y)`
//! (JFIF 1.02); each plane in blocks of 8 x 8, the last ones completed with the edge; of each block the cosine transform,
//! divided by the tables of ITU-T T.81 (annex K) for the quality, rounded, and back. Colours keep their full resolution
//! (4:4:4). Values are rounded where libjpeg rounds them. Floats go through bytes. Opacity and the label stay.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::sin_cos;
use crate::range::Range;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<Jpeg>(
    "jpeg",
    "quality",
    Kinds::IMAGES,
    "what a JPEG of a quality (20..80, of 1 to 100) loses, colours at full resolution",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Jpeg {
    /// Quality, 1..=100, rounded to a whole number.
    quality: Range,
}

impl Default for Jpeg {
    fn default() -> Self {
        Self { quality: Range::new(20.0, 80.0) }
    }
}

impl Operation for Jpeg {
    fn validate(&self) -> Result<(), String> {
        self.quality.within("quality", "", 1.0, 100.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let Form::Image { height, width, channels, white } = sample.form else { return };
        let quality = (draws.of(self.quality) + 0.5) as u32;
        scratch.note(|| format!("jpeg {quality}"));
        let shape = [height, width, channels];
        match &mut sample.data {
            Data::U8(pixels) => compress(pixels, shape, quality),
            Data::F32(pixels) => {
                let bytes = &mut scratch.bytes;
                bytes.clear();
                bytes.extend(pixels.iter().map(|x| u8::of(x / white * 255.0)));
                compress(bytes, shape, quality);
                pixels.iter_mut().zip(bytes).for_each(|(to, from)| *to = f32::from(*from) / 255.0 * white);
            }
            Data::Tokens(_) => {}
        }
    }
}

/// How coarse the frequencies of brightness are at quality 50, row by row.
const LUMA: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// Those of colour; all others are 99.
const CHROMA: [[u16; 4]; 4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]];

/// The table for a quality, as libjpeg scales it.
fn steps(quality: u32, is_colour: bool) -> [f32; 64] {
    let scale = if quality < 50 { 5000 / quality.max(1) } else { 200 - 2 * quality.min(100) };
    std::array::from_fn(|at| {
        let (row, column) = (at / 8, at % 8);
        let base = match is_colour {
            false => LUMA[at],
            true if row < 4 && column < 4 => CHROMA[row][column],
            true => 99,
        };
        ((u32::from(base) * scale + 50) / 100).clamp(1, 255) as f32
    })
}

/// Rows of the cosine transform: `c(k) / 2 cos((2 n + 1) k pi / 16)`, orthonormal.
fn cosines() -> [[f32; 8]; 8] {
    std::array::from_fn(|k| {
        let size = if k == 0 { 0.125_f64.sqrt() } else { 0.5 };
        std::array::from_fn(|n| (size * sin_cos(((2 * n + 1) * k) as f64 * 11.25).1) as f32)
    })
}

fn compress(pixels: &mut [u8], [height, width, channels]: [usize; 3], quality: u32) {
    let is_colour = channels == 3 || channels == 4;
    let planes = if is_colour { 3 } else { channels };
    let cosines = cosines();
    let tables = [steps(quality, false), steps(quality, true)];
    let mut blocks = [[0.0_f32; 64]; 4];
    for top in (0..height).step_by(8) {
        for left in (0..width).step_by(8) {
            for first in (0..planes).step_by(4) {
                let count = (planes - first).min(4);
                // Numbered row by row within the block.
                for at in 0..64 {
                    let (y, x) = ((top + at / 8).min(height - 1), (left + at % 8).min(width - 1));
                    let pixel = &pixels[(y * width + x) * channels + first..][..count];
                    let own = if is_colour { to_luma([pixel[0], pixel[1], pixel[2]]) } else { plain(pixel) };
                    blocks.iter_mut().zip(own).for_each(|(block, value)| block[at] = value - 128.0);
                }
                for (plane, block) in blocks[..count].iter_mut().enumerate() {
                    lose(block, &tables[usize::from(is_colour && plane > 0)], &cosines);
                }
                for (y, x) in (top..height.min(top + 8)).flat_map(|y| (left..width.min(left + 8)).map(move |x| (y, x)))
                {
                    let at = (y - top) * 8 + x - left;
                    let own = [0, 1, 2, 3].map(|plane: usize| f32::from(u8::of(blocks[plane][at] + 128.0)));
                    let own = if is_colour { from_luma(own) } else { own.map(u8::of) };
                    pixels[(y * width + x) * channels + first..][..count].copy_from_slice(&own[..count]);
                }
            }
        }
    }
}

fn plain(pixel: &[u8]) -> [f32; 4] {
    std::array::from_fn(|plane| pixel.get(plane).map_or(0.0, |&x| f32::from(x)))
}

/// In the whole numbers of libjpeg.
fn to_luma(rgb: [u8; 3]) -> [f32; 4] {
    let [r, g, b] = rgb.map(i32::from);
    let half = (128 << 16) + 32767;
    let all = [
        19595 * r + 38470 * g + 7471 * b + 32768,
        -11059 * r - 21709 * g + 32768 * b + half,
        32768 * r - 27439 * g - 5329 * b + half,
    ];
    let [y, cb, cr] = all.map(|x| (x >> 16) as f32);
    [y, cb, cr, 0.0]
}

fn from_luma(planes: [f32; 4]) -> [u8; 4] {
    let [y, cb, cr, _] = planes.map(|x| x as i32);
    let (cb, cr) = (cb - 128, cr - 128);
    let rgb = [91881 * cr + 32768, -22554 * cb - 46802 * cr + 32768, 116_130 * cb + 32768];
    let [r, g, b] = rgb.map(|x| (y + (x >> 16)).clamp(0, 255) as u8);
    [r, g, b, 0]
}

/// Rounds the frequencies of a block to their steps.
fn lose(block: &mut [f32; 64], steps: &[f32; 64], cosines: &[[f32; 8]; 8]) {
    // F = C X C^T and X = C^T F C.
    let product = |left: &dyn Fn(usize, usize) -> f32, right: &dyn Fn(usize, usize) -> f32| -> [f32; 64] {
        std::array::from_fn(|at| (0..8).map(|k| left(at / 8, k) * right(k, at % 8)).sum())
    };
    let own = *block;
    let half = product(&|i, k| cosines[i][k], &|k, j| own[k * 8 + j]);
    let mut all = product(&|i, k| half[i * 8 + k], &|k, j| cosines[j][k]);
    // Halves, which whole-numbered pixels give often, go outwards whatever the last bits of the sums are.
    all.iter_mut().zip(steps).for_each(|(x, step)| *x = x.signum() * (x.abs() / step + 0.5001).floor() * step);
    let half = product(&|i, k| cosines[k][i], &|k, j| all[k * 8 + j]);
    *block = product(&|i, k| half[i * 8 + k], &|k, j| cosines[k][j]);
}
