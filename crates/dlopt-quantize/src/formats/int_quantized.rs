//! Integers of at most 8 bits, one byte each: `int-quantized`.
//!
//! The same numbers as `pack-quantized`. Codes are I8 `[out, in]`. Source: compressed-tensors 0.20.

use dlopt_checkpoint::{Dtype, TensorInfo};
use dlopt_kernels::{Grid, Stats, decode_int, encode_int, error_int};

use super::int_packed::grid;
use super::{Decode, Format, Row, Steps, zeros_of};
use crate::Plugin;

pub(super) static FORMAT: IntQuantized = IntQuantized;

const PLUGIN: Plugin = Plugin {
    name: "int-quantized",
    summary: "8-bit integers, one byte each, for integer activations",
    source: "compressed-tensors 0.20",
};

/// Integers, one byte each.
pub(super) struct IntQuantized;

impl Decode for IntQuantized {
    fn row_bytes(&self, columns: usize, _bits: u32) -> usize {
        columns
    }

    fn decode(&self, bytes: &[u8], steps: &Steps<'_>, scratch: &mut Vec<i8>, out: &mut [f32]) {
        scratch.clear();
        scratch.extend(bytes.iter().map(|b| *b as i8));
        decode_int(scratch, steps.group, steps.scale, steps.zero, out);
    }

    fn fault(&self, bytes: &[u8], _columns: usize, bits: u32, _scratch: &mut Vec<i8>) -> Option<String> {
        let grid = grid(bits);
        let is_outside = |b: &u8| !(grid.qmin..=grid.qmax).contains(&f32::from(*b as i8));
        let outside = bytes.iter().find(|b| is_outside(b))?;
        Some(format!("has code {}, out of range for {bits} bits", *outside as i8))
    }
}

impl Format for IntQuantized {
    fn plugin(&self) -> Plugin {
        PLUGIN
    }

    fn range(&self, bits: u32) -> Grid {
        grid(bits)
    }

    fn codes(&self, tensor: &str, rows: usize, columns: usize, _bits: u32) -> TensorInfo {
        TensorInfo::new(tensor, Dtype::I8, [rows, columns])
    }

    fn packs(&self) -> bool {
        false
    }

    fn encode(&self, row: &Row<'_>, scratch: &mut Vec<i8>, out: &mut [u8]) -> (Stats, u64) {
        scratch.resize(row.x.len(), 0);
        let stats = encode_int(row.x, row.group, row.scale, row.zero, &grid(row.bits), scratch);
        for (out, code) in out.iter_mut().zip(&*scratch) {
            *out = *code as u8;
        }
        (stats, zeros_of(scratch, row.group, row.zero))
    }

    fn error(&self, row: &Row<'_>, error: &mut [f32]) {
        error_int(row.x, row.group, row.scale, row.zero, &grid(row.bits), error);
    }
}
