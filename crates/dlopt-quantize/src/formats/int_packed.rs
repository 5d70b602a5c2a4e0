//! Integers of 2 to 8 bits in a dense little-endian bit stream: `pack-quantized`.
//!
//! `q = round(clamp(x / scale + zero, -2^(b-1), 2^(b-1) - 1))`, stored as `q + 2^(b-1)` at bit `i * b` of the row.
//! Codes are I32 `[out, ceil(in * b / 32)]`. Source: compressed-tensors 0.20, `pack_to_int32`.

use dlopt_checkpoint::{Dtype, TensorInfo};
use dlopt_kernels::{Grid, Stats, decode_int, encode_int, error_int, pack, packed_bytes, unpack};

use super::{Decode, Format, Row, Steps, zeros_of};
use crate::Plugin;

pub(super) static FORMAT: IntPacked = IntPacked;

const PLUGIN: Plugin = Plugin {
    name: "pack-quantized",
    summary: "integers of 2 to 8 bits, packed into 32-bit words",
    source: "compressed-tensors 0.20",
};

/// Packed integers.
pub(super) struct IntPacked;

/// The codes of an integer of `bits` bits.
pub(super) fn grid(bits: u32) -> Grid {
    let half = (1i32 << (bits - 1)) as f32;
    Grid { qmin: -half, qmax: half - 1.0 }
}

impl Decode for IntPacked {
    fn row_bytes(&self, columns: usize, bits: u32) -> usize {
        packed_bytes(columns, bits)
    }

    fn decode(&self, bytes: &[u8], steps: &Steps<'_>, scratch: &mut Vec<i8>, out: &mut [f32]) {
        scratch.resize(out.len(), 0);
        unpack(bytes, steps.bits, scratch);
        decode_int(scratch, steps.group, steps.scale, steps.zero, out);
    }

    fn fault(&self, bytes: &[u8], columns: usize, bits: u32, _scratch: &mut Vec<i8>) -> Option<String> {
        let end = columns * bits as usize;
        let is_set = |bit: usize| bytes.get(bit / 8).is_some_and(|b| b >> (bit % 8) & 1 == 1);
        (end..bytes.len() * 8).any(is_set).then(|| "has bits set in the padding of a row".to_owned())
    }
}

impl Format for IntPacked {
    fn plugin(&self) -> Plugin {
        PLUGIN
    }

    fn range(&self, bits: u32) -> Grid {
        grid(bits)
    }

    fn codes(&self, tensor: &str, rows: usize, columns: usize, bits: u32) -> TensorInfo {
        TensorInfo::new(format!("{tensor}_packed"), Dtype::I32, [rows, packed_bytes(columns, bits) / 4])
    }

    fn packs(&self) -> bool {
        true
    }

    fn encode(&self, row: &Row<'_>, scratch: &mut Vec<i8>, out: &mut [u8]) -> (Stats, u64) {
        scratch.resize(row.x.len(), 0);
        let stats = encode_int(row.x, row.group, row.scale, row.zero, &grid(row.bits), scratch);
        pack(scratch, row.bits, out);
        (stats, zeros_of(scratch, row.group, row.zero))
    }

    fn error(&self, row: &Row<'_>, error: &mut [f32]) {
        error_int(row.x, row.group, row.scale, row.zero, &grid(row.bits), error);
    }
}
