//! Measures how fast one thread quantizes and decodes: `cargo run --release -p dlopt-quantize --example throughput`.

use std::time::Instant;

use dlopt_checkpoint::{Block, Dtype, Header, Output, Pass, Result, TensorInfo, Unit};
use dlopt_quantize::{Dequantize, Quantize, Scheme, methods};

const SHAPE: [usize; 2] = [4096, 4096];

/// Rows of a block, as the executor would cut them.
const ROWS: usize = 128;

fn weights(dtype: Dtype) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..SHAPE[0] * SHAPE[1])
        .flat_map(|_| {
            let x = (next() + next() + next() + next()) * 0.04;
            let bf16 = (x.to_bits() >> 16) as u16;
            if dtype == Dtype::F32 { x.to_le_bytes().to_vec() } else { bf16.to_le_bytes().to_vec() }
        })
        .collect()
}

/// Seconds of the fastest of a few runs over the unit.
fn seconds(pass: &dyn Pass, unit: &Unit, inputs: &[Vec<u8>], parts: &mut [Vec<u8>]) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for begin in (0..unit.rows).step_by(ROWS) {
            let rows = begin..(begin + ROWS).min(unit.rows);
            let read = |span: &dlopt_checkpoint::Span, total: usize| {
                span.range(&rows, total as u64).map_or(0..0, |r| r.start as usize..r.end as usize)
            };
            let cut = unit.reads.iter().zip(inputs).map(|(r, bytes)| &bytes[read(&r.span, bytes.len())]);
            let block = Block { rows: rows.clone(), inputs: cut.collect() };
            let cut = unit.writes.iter().zip(parts.iter_mut()).map(|(w, bytes)| {
                let is_elsewhere = w.span == dlopt_checkpoint::Span::Whole && rows.start > 0;
                let range = if is_elsewhere { 0..0 } else { read(&w.span, bytes.len()) };
                &mut bytes[range]
            });
            let mut output = Output { parts: cut.collect(), report: Vec::new() };
            pass.apply(unit, 0, &block, None, &mut output)?;
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn main() -> Result<()> {
    for dtype in [Dtype::BF16, Dtype::F32] {
        let data = weights(dtype);
        for (scheme, method) in [
            ("w4a16", "rtn"),
            ("w4a16", "mse"),
            ("w4a16_asym", "rtn"),
            ("w4a16_asym", "mse"),
            ("w8a16", "rtn"),
            ("w8a8", "rtn"),
            ("fp8", "rtn"),
            ("fp8", "mse"),
            ("fp8_block", "rtn"),
        ] {
            let mut pass = Quantize::new(Scheme::parse(scheme)?);
            pass.method = methods::method_named(method).expect("the table holds both methods");
            let mut header = Header { tensors: vec![TensorInfo::new("m.weight", dtype, SHAPE)], ..Header::default() };
            header.metadata.insert("config".into(), "{}".into());
            let plan = pass.plan(&header)?;
            let unit = &plan.units[0];
            let mut parts: Vec<Vec<u8>> = unit.writes.iter().map(|w| vec![0; w.info.bytes() as usize]).collect();
            let bytes = data.len() as f64;
            let quantize = bytes / seconds(&pass, unit, std::slice::from_ref(&data), &mut parts)? / 1e9;

            let stored =
                Header { tensors: unit.writes.iter().map(|w| w.info.clone()).collect(), metadata: plan.metadata };
            let back = Dequantize.plan(&stored)?;
            let unit = &back.units[0];
            let inputs: Vec<Vec<u8>> = unit.reads.iter().map(|r| parts[r.tensor].clone()).collect();
            let mut dense = vec![vec![0; data.len()]];
            let decode = bytes / seconds(&Dequantize, unit, &inputs, &mut dense)? / 1e9;
            println!(
                "{dtype:?} {scheme:10} {method}: {quantize:6.2} GB/s of dense input; decoded {decode:6.2} GB/s of output"
            );
        }
    }
    Ok(())
}
