//! Places in a table of values that weights share: `codebook`.
//!
//! `x = table[g, c]` with a table of `2^b` values for each group `g`, ascending, and codes `c` of `b` bits, stored at bit
//! `i * b` of the row. Codes are I32 `[out, ceil(in * b / 32)]`, as `pack-quantized` has them; tables have the weight's own
//! dtype, `[2^b]` for a whole tensor, else `[out, groups, 2^b]`. A weight gets the nearest value, of two as near the
//! smaller. Values that are left over repeat the largest one. Source: Han, Mao and Dally, 2015, arXiv:1510.00149.

use dlopt_checkpoint::{Dtype, TensorInfo};
use dlopt_kernels::{Grid, Stats, pack, packed_bytes, unpack};

use super::{Decode, Format, Row, Steps};
use crate::Plugin;

pub(super) static FORMAT: Codebook = Codebook;

const PLUGIN: Plugin = Plugin {
    name: "codebook",
    summary: "places of 1 to 8 bits in a table of shared values, packed into 32-bit words",
    source: "arXiv 1510.00149",
};

/// Shared values.
pub(super) struct Codebook;

/// Values in a table for codes of `bits` bits.
fn entries(bits: u32) -> usize {
    1 << bits
}

impl Decode for Codebook {
    fn row_bytes(&self, columns: usize, bits: u32) -> usize {
        packed_bytes(columns, bits)
    }

    fn decode(&self, bytes: &[u8], steps: &Steps<'_>, scratch: &mut Vec<i8>, out: &mut [f32]) {
        scratch.resize(out.len(), 0);
        unpack(bytes, steps.bits, scratch);
        let half = entries(steps.bits) as i32 / 2;
        let tables = steps.scale.chunks_exact(entries(steps.bits));
        let groups = out.chunks_mut(steps.group).zip(scratch.chunks(steps.group));
        for (table, (out, codes)) in tables.zip(groups) {
            for (x, code) in out.iter_mut().zip(codes) {
                *x = table[(i32::from(*code) + half) as usize];
            }
        }
    }

    fn fault(&self, bytes: &[u8], columns: usize, bits: u32, scratch: &mut Vec<i8>) -> Option<String> {
        super::int_packed::FORMAT.fault(bytes, columns, bits, scratch)
    }

    fn entries(&self, bits: u32) -> Option<usize> {
        Some(entries(bits))
    }
}

impl Format for Codebook {
    fn plugin(&self) -> Plugin {
        PLUGIN
    }

    fn range(&self, bits: u32) -> Grid {
        super::int_packed::FORMAT.range(bits)
    }

    fn codes(&self, tensor: &str, rows: usize, columns: usize, bits: u32) -> TensorInfo {
        TensorInfo::new(format!("{tensor}_packed"), Dtype::I32, [rows, packed_bytes(columns, bits) / 4])
    }

    fn packs(&self) -> bool {
        true
    }

    fn encode(&self, row: &Row<'_>, scratch: &mut Vec<i8>, out: &mut [u8]) -> (Stats, u64) {
        let half = entries(row.bits) as i32 / 2;
        let (mut stats, mut zeros) = (Stats::default(), 0);
        scratch.clear();
        for (table, x) in row.scale.chunks_exact(entries(row.bits)).zip(row.x.chunks(row.group)) {
            for x in x {
                let x = number(*x);
                let place = nearest(table, x);
                scratch.push((place as i32 - half) as i8);
                let difference = x - table[place];
                zeros += u64::from(table[place] == 0.0);
                if x.is_finite() {
                    stats.signal += f64::from(x) * f64::from(x);
                    stats.noise += f64::from(difference) * f64::from(difference);
                    stats.max_error = stats.max_error.max(difference.abs());
                }
            }
        }
        pack(scratch, row.bits, out);
        (stats, zeros)
    }

    fn error(&self, row: &Row<'_>, error: &mut [f32]) {
        let tables = row.scale.chunks_exact(entries(row.bits));
        for (error, (table, x)) in error.iter_mut().zip(tables.zip(row.x.chunks(row.group))) {
            let squares = x.iter().map(|x| number(*x)).filter(|x| x.is_finite()).map(|x| {
                let difference = f64::from(x) - f64::from(table[nearest(table, x)]);
                difference * difference
            });
            *error = squares.sum::<f64>() as f32;
        }
    }
}

/// A weight as tables are made for it: one that is no number counts as 0.
fn number(x: f32) -> f32 {
    if x.is_nan() { 0.0 } else { x }
}

/// The place of the nearest of ascending values, the first of those as near.
fn nearest(table: &[f32], x: f32) -> usize {
    let above = table.partition_point(|value| *value < x);
    if above == table.len() {
        return table.partition_point(|value| *value < table[above - 1]);
    }
    let is_nearer = |below: f32| f64::from(x) - f64::from(below) <= f64::from(table[above]) - f64::from(x);
    match above.checked_sub(1).map(|at| table[at]).filter(|below| is_nearer(*below)) {
        Some(below) => table.partition_point(|value| *value < below),
        None => above,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_gets_the_nearest_value_and_of_two_the_smaller() {
        let table = [-1.0, 0.0, 0.5, 2.0, 2.0];
        for (x, place) in
            [(-7.0, 0), (-0.5, 0), (-0.4, 1), (0.0, 1), (0.25, 1), (0.3, 2), (1.25, 2), (2.0, 3), (f32::INFINITY, 3)]
        {
            assert_eq!(nearest(&table, x), place, "{x}");
        }
        assert_eq!(nearest(&table, f32::NEG_INFINITY), 0);
    }

    #[test]
    fn codes_of_every_width_come_back() {
        for bits in 1..=8 {
            let table: Vec<f32> = (0..1 << bits).map(|i| i as f32 - 3.0).collect();
            let tables = [table.clone(), table.iter().map(|x| x * 0.5).collect()].concat();
            let x: Vec<f32> =
                (0..13).map(|i| tables[(i * 7 % table.len()) + if i < 9 { 0 } else { table.len() }]).collect();
            let row = Row { x: &x, group: 9, scale: &tables, zero: &[], bits };
            let (mut scratch, mut bytes) = (Vec::new(), vec![0; packed_bytes(13, bits)]);
            let (stats, zeros) = FORMAT.encode(&row, &mut scratch, &mut bytes);
            assert_eq!((stats.noise, stats.max_error), (0.0, 0.0));
            assert_eq!(zeros, x.iter().filter(|x| **x == 0.0).count() as u64);
            assert_eq!(FORMAT.fault(&bytes, 13, bits, &mut scratch), None);
            let mut back = vec![9.0; 13];
            FORMAT.decode(&bytes, &Steps { group: 9, scale: &tables, zero: &[], bits }, &mut scratch, &mut back);
            assert_eq!(back, x, "{bits}");
        }
    }

    #[test]
    fn errors_are_those_of_the_codes() {
        let row = Row { x: &[0.25, -2.0, f32::NAN, 5.0], group: 3, scale: &[-1.0, 0.0, 4.0, 4.0], zero: &[], bits: 1 };
        let mut error = [9.0; 2];
        FORMAT.error(&row, &mut error);
        assert_eq!(error, [1.0625, 1.0]);
    }
}
