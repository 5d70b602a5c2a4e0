//! Scales, codes, zero points and recorded shapes of everything that is quantized.

use std::ops::Range;

use dlopt_checkpoint::{Block, Checkpoint, Pass, Resources, Result, Span, Tensors, Unit};
use dlopt_quantize::{Dequantize, Values};
use rayon::prelude::*;

use super::Found;
use crate::blocks::pool;
use crate::decode::densified;

/// Stored bytes that a block aims at.
const BLOCK_BYTES: usize = 1 << 20;

pub(super) fn check(checkpoint: &Checkpoint, resources: &Resources<'_>, found: &mut Found) -> Result<()> {
    densified(checkpoint, |source| {
        let plan = Dequantize.plan(source.header())?;
        let units: Vec<&Unit> = plan.units.iter().filter(|u| !u.is_copy).collect();
        if units.is_empty() {
            found.skip("values", "scales, codes and zero points", "nothing is quantized");
            return Ok(());
        }
        found.check("values", format!("scales, codes and zero points of {} tensors", units.len()));
        // The first fault of each tensor is told, in the order of the file.
        let faults: Vec<_> =
            pool(resources, 1)?.install(|| units.par_iter().with_max_len(1).map(|u| check_unit(source, u)).collect());
        for (unit, fault) in units.iter().zip(faults) {
            if let Err(error) = fault {
                found.error(&unit.name, error.message());
            }
        }
        Ok(())
    })
}

fn check_unit(source: &dyn Tensors, unit: &Unit) -> Result<()> {
    let infos = &source.header().tensors;
    let row_bytes = unit.reads.iter().map(|r| match r.span {
        Span::Every { rows, bytes } => bytes.div_ceil(rows.max(1)),
        _ => 0,
    });
    let quantum = unit.row_quantum.max(1);
    let step = (BLOCK_BYTES / row_bytes.sum::<usize>().max(1) / quantum).max(1) * quantum;
    let mut buffers: Vec<Vec<u8>> = vec![Vec::new(); unit.reads.len()];
    for begin in (0..unit.rows).step_by(step) {
        let rows = begin..begin.saturating_add(step).min(unit.rows);
        for (buffer, part) in buffers.iter_mut().zip(&unit.reads) {
            let bytes = part.span.range(&rows, infos[part.tensor].bytes()).unwrap_or(Range::default());
            buffer.resize((bytes.end - bytes.start) as usize, 0);
            source.read(part.tensor, bytes.start, buffer)?;
        }
        Values::check(unit, &Block { rows, inputs: buffers.iter().map(Vec::as_slice).collect() })?;
    }
    Ok(())
}
