//! Number formats: what a code stands for, and how the codes of a row lie in bytes.
//!
//! To add one: a file here with a `FORMAT` static, and a line in [`FORMATS`].

mod codebook;
mod dense;
mod fp4;
mod fp8;
mod int_packed;
mod int_quantized;

use std::fmt;

use dlopt_checkpoint::TensorInfo;
use dlopt_kernels::{Float, Grid, Stats};

use crate::Plugin;

pub(crate) use dense::{Scratch as CastScratch, cast};
pub(crate) use fp4::{FP4_PACKED, FP6_PACKED, e8m0};

/// Every format that can be written, in the order of help texts.
pub static FORMATS: &[&dyn Format] =
    &[&int_packed::FORMAT, &int_quantized::FORMAT, &fp8::FORMAT, &fp8::WEIGHT_ONLY_FORMAT, &codebook::FORMAT];

/// Dense storage, for the same tables.
pub static DENSE: Plugin = dense::PLUGIN;

/// The format of this name, among those that can be written.
pub fn format_named(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|f| f.plugin().name == name)
}

/// A run of weights with the scales of its groups: `x = (code - zero) * scale`. Where codes are places in tables, the tables
/// stand in for the scales, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The weights, finite ones or not.
    pub x: &'a [f32],
    /// Weights that share a scale; the last group may be short.
    pub group: usize,
    /// One for each group, positive; or a table for each group.
    pub scale: &'a [f32],
    /// One code for each group, or empty for 0 everywhere.
    pub zero: &'a [f32],
    /// Bits of a code.
    pub bits: u32,
}

/// Scales by which a run of codes is decoded.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'a> {
    /// Weights that share a scale; the last group may be short.
    pub group: usize,
    /// One for each group, or a table for each.
    pub scale: &'a [f32],
    /// One code for each group, or empty for 0 everywhere.
    pub zero: &'a [f32],
    /// Bits of a code.
    pub bits: u32,
}

/// A number format that can be read.
pub trait Decode: Sync {
    /// Bytes of a row of codes.
    fn row_bytes(&self, columns: usize, bits: u32) -> usize;

    /// Decodes one row as exact products in f32. `scratch` is room the caller keeps between rows.
    fn decode(&self, bytes: &[u8], steps: &Steps<'_>, scratch: &mut Vec<i8>, out: &mut [f32]);

    /// The first thing wrong with a row of codes, if any: a code out of range, padding that is not zero.
    fn fault(&self, bytes: &[u8], columns: usize, bits: u32, scratch: &mut Vec<i8>) -> Option<String>;

    /// Values in the table of a group, where codes are places in one.
    fn entries(&self, _bits: u32) -> Option<usize> {
        None
    }
}

/// A number format that can be read and written.
pub trait Format: Decode {
    /// Its row in the tables; the name is the one in `quantization_config`.
    fn plugin(&self) -> Plugin;

    /// Smallest and largest value of a code.
    fn range(&self, bits: u32) -> Grid;

    /// What the header says of the codes of `[rows, columns]`.
    fn codes(&self, tensor: &str, rows: usize, columns: usize, bits: u32) -> TensorInfo;

    /// Whether zero points are stored like the codes, packed along the rows.
    fn packs(&self) -> bool;

    /// Encodes one row and says what it changed, and how many weights decode to zero. `out`: [`Decode::row_bytes`].
    fn encode(&self, row: &Row<'_>, scratch: &mut Vec<i8>, out: &mut [u8]) -> (Stats, u64);

    /// Squared error of each group, the codes left out.
    fn error(&self, row: &Row<'_>, error: &mut [f32]);
}

impl fmt::Debug for dyn Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plugin().name)
    }
}

/// The kernels' name of a dtype that holds weights.
pub fn float(dtype: dlopt_checkpoint::Dtype) -> Option<Float> {
    use dlopt_checkpoint::Dtype;
    match dtype {
        Dtype::F64 => Some(Float::F64),
        Dtype::F32 => Some(Float::F32),
        Dtype::F16 => Some(Float::F16),
        Dtype::BF16 => Some(Float::BF16),
        _ => None,
    }
}

/// The header's name of a kernel's type.
pub(crate) fn dtype(float: Float) -> dlopt_checkpoint::Dtype {
    use dlopt_checkpoint::Dtype;
    match float {
        Float::F64 => Dtype::F64,
        Float::F32 => Dtype::F32,
        Float::F16 => Dtype::F16,
        Float::BF16 => Dtype::BF16,
    }
}

/// The nearest value of a type, ties to even.
pub(crate) fn rounded(float: Float, x: f32) -> f32 {
    match float {
        Float::F64 | Float::F32 => x,
        Float::F16 => half::f16::from_f32(x).to_f32(),
        Float::BF16 => half::bf16::from_f32(x).to_f32(),
    }
}

/// How many codes of a row are the zero point of their group.
fn zeros_of(codes: &[i8], group: usize, zero: &[f32]) -> u64 {
    codes
        .chunks(group.max(1))
        .enumerate()
        .map(|(g, codes)| {
            let zero = zero.get(g).map_or(0, |z| *z as i8);
            // Sums of 128 bytes fit a byte, which keeps the loop in vectors of bytes.
            let of_chunk = |c: &[i8]| u64::from(c.iter().fold(0u8, |n, c| n + u8::from(*c == zero)));
            codes.chunks(128).map(of_chunk).sum::<u64>()
        })
        .sum()
}
