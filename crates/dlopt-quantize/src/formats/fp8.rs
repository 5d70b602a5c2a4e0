//! FP8 E4M3: `float-quantized`, and `naive-quantized` where activations stay as they are.
//!
//! `q = fp8(clamp(x / scale, -448, 448))`, to nearest, ties to even. Codes are F8_E4M3 `[out, in]`.
//! Source: Micikevicius et al. 2022, arXiv 2209.05433; layout of compressed-tensors 0.20.

use dlopt_checkpoint::{Dtype, TensorInfo};
use dlopt_kernels::{Grid, Stats, decode_fp8, encode_fp8, error_fp8};

use super::{Decode, Format, Row, Steps};
use crate::Plugin;

pub(super) static FORMAT: Fp8 = Fp8(Plugin {
    name: "float-quantized",
    summary: "8-bit floats E4M3, for 8-bit float activations",
    source: "arXiv 2209.05433; compressed-tensors 0.20",
});

pub(super) static WEIGHT_ONLY_FORMAT: Fp8 = Fp8(Plugin {
    name: "naive-quantized",
    summary: "8-bit floats E4M3, weights only",
    source: "arXiv 2209.05433; compressed-tensors 0.20",
});

/// Largest value of E4M3.
const MAX: f32 = 448.0;

/// FP8 E4M3 under one of its names.
pub(super) struct Fp8(Plugin);

/// Whether a code stands for NaN.
fn is_nan(code: u8) -> bool {
    code & 0x7f == 0x7f
}

impl Decode for Fp8 {
    fn row_bytes(&self, columns: usize, _bits: u32) -> usize {
        columns
    }

    fn decode(&self, bytes: &[u8], steps: &Steps<'_>, _scratch: &mut Vec<i8>, out: &mut [f32]) {
        decode_fp8(bytes, steps.group, steps.scale, out);
    }

    fn fault(&self, bytes: &[u8], _columns: usize, _bits: u32, _scratch: &mut Vec<i8>) -> Option<String> {
        bytes.iter().any(|b| is_nan(*b)).then(|| "has a code that stands for NaN".to_owned())
    }
}

impl Format for Fp8 {
    fn plugin(&self) -> Plugin {
        self.0
    }

    fn range(&self, _bits: u32) -> Grid {
        Grid { qmin: -MAX, qmax: MAX }
    }

    fn codes(&self, tensor: &str, rows: usize, columns: usize, _bits: u32) -> TensorInfo {
        TensorInfo::new(tensor, Dtype::F8_E4M3, [rows, columns])
    }

    fn packs(&self) -> bool {
        false
    }

    fn encode(&self, row: &Row<'_>, _scratch: &mut Vec<i8>, out: &mut [u8]) -> (Stats, u64) {
        let stats = encode_fp8(row.x, row.group, row.scale, out);
        let of_chunk = |c: &[u8]| u64::from(c.iter().fold(0u8, |n, c| n + u8::from(c & 0x7f == 0)));
        (stats, out.chunks(128).map(of_chunk).sum())
    }

    fn error(&self, row: &Row<'_>, error: &mut [f32]) {
        error_fp8(row.x, row.group, row.scale, error);
    }
}
