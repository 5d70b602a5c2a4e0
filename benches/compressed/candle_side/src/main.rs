//! candle's products of one shape: OUTPUTS INPUTS. Prints one JSON object a line.
//!
//! A matrix larger than the caches is made several times, and the copies take turns at one row. A figure is the fastest of
//! its passes. Threads are those of RAYON_NUM_THREADS.

use std::time::Instant;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Result, Tensor};

const CACHED: usize = 4 << 20;
const LARGER_THAN_CACHES: usize = 128 << 20;

fn main() -> Result<()> {
    let extents: Vec<usize> = std::env::args().skip(1).take(2).filter_map(|word| word.parse().ok()).collect();
    let [outputs, inputs] = extents[..] else { panic!("two extents") };
    let weight = Tensor::randn(0_f32, 1.0, (outputs, inputs), &Device::Cpu)?;
    measure("f32", 4 * outputs * inputs, inputs, || {
        let turned = weight.copy()?.t()?;
        Ok(Box::new(move |x: &Tensor| x.matmul(&turned)))
    })?;
    for (name, kind) in [("q8_0", GgmlDType::Q8_0), ("q4_0", GgmlDType::Q4_0), ("q4_K", GgmlDType::Q4K)] {
        if !inputs.is_multiple_of(kind.block_size()) {
            continue;
        }
        let bytes = outputs * inputs / kind.block_size() * kind.type_size();
        measure(name, bytes, inputs, || {
            let matrix = QMatMul::from_qtensor(QTensor::quantize(&weight, kind)?)?;
            Ok(Box::new(move |x: &Tensor| matrix.forward(x)))
        })?;
    }
    Ok(())
}

type Layer = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

fn measure(name: &str, bytes: usize, inputs: usize, make: impl Fn() -> Result<Layer>) -> Result<()> {
    for rows in [1, 64, 512] {
        let copies = if rows == 1 && bytes > CACHED { LARGER_THAN_CACHES.div_ceil(bytes) } else { 1 };
        let layers = (0..copies).map(|_| make()).collect::<Result<Vec<_>>>()?;
        let x = Tensor::randn(0_f32, 1.0, (rows, inputs), &Device::Cpu)?;
        let (mut best, mut total, mut turn) = (f64::MAX, 0.0, 0);
        while turn < 8 || total < 0.5 && turn < 2000 {
            let start = Instant::now();
            layers[turn % copies](&x)?;
            let took = start.elapsed().as_secs_f64();
            (best, total, turn) = (best.min(took), total + took, turn + 1);
        }
        println!(r#"{{"name": "{name}", "rows": {rows}, "bytes": {bytes}, "seconds": {best:.9}}}"#);
    }
    Ok(())
}
