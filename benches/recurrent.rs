//! Time of recurrent layers a sample, forward and backward, against the multipliers' peak, on one thread.
//!
//! `cargo bench -p dlopt-kernels --bench recurrent` takes about a minute. Figures are fastest passes: on a shared machine
//! the others say more about the neighbours.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use dlopt_kernels::nn::{Cell, Recurrent, RecurrentSaved, RecurrentShape, Team};
use dlopt_kernels::{Level, limit_level};

/// Cell, time, inputs, hidden, rows of a chunk.
const LAYERS: [(Cell, usize, usize, usize, usize); 7] = [
    (Cell::Lstm, 28, 28, 128, 32),
    (Cell::Gru, 28, 28, 128, 32),
    (Cell::Rnn, 28, 28, 128, 32),
    (Cell::Lstm, 50, 128, 128, 32),
    (Cell::Lstm, 60, 6, 50, 32),
    (Cell::Lstm, 28, 28, 128, 1),
    (Cell::Gru, 28, 28, 128, 1),
];

struct Layer {
    layer: Recurrent,
    rows: usize,
    x: Vec<f32>,
    bias: Vec<f32>,
    forward: Vec<f32>,
    backward: Vec<f32>,
    out: Vec<f32>,
    saved: RecurrentSaved,
    dw: Vec<f32>,
    db: Vec<f32>,
    dx: Vec<f32>,
}

impl Layer {
    fn new(shape: RecurrentShape, rows: usize) -> Self {
        let layer = Recurrent::new(shape, false, false);
        let weight = values(layer.weight_len(), 0.1);
        let team = Team::new(1);
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        layer.pack_forward(&team, &weight, &mut forward);
        layer.pack_backward(&team, &weight, &mut backward);
        let x = values(rows * shape.time * shape.inputs, 1.0);
        Self {
            layer,
            rows,
            bias: values(layer.bias_len(), 0.1),
            forward,
            backward,
            out: values(rows * shape.hidden, 1.0),
            saved: RecurrentSaved::default(),
            dw: vec![0.0; weight.len()],
            db: vec![0.0; layer.bias_len()],
            dx: vec![0.0; x.len()],
            x,
        }
    }

    fn infer(&mut self) {
        self.layer.forward(self.rows, &self.x, None, &self.forward, &self.bias, None, &mut self.out);
    }

    fn forward(&mut self) {
        let saved = Some(&mut self.saved);
        self.layer.forward(self.rows, &self.x, None, &self.forward, &self.bias, saved, &mut self.out);
    }

    /// Takes the output for its own gradient.
    fn backward(&mut self, with_inputs: bool) {
        let dx = with_inputs.then_some(&mut self.dx[..]);
        self.layer.backward(
            self.rows,
            &self.x,
            None,
            &mut self.saved,
            &self.out,
            &self.backward,
            &mut self.dw,
            &mut self.db,
            dx,
        );
    }
}

/// Uniform in `-scale..scale`.
fn values(len: usize, scale: f32) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
        })
        .collect()
}

/// Floating-point operations of the products forward, of both gradients of backward, and of the inputs' gradient. The
/// state is zero before the first step.
fn operations(shape: RecurrentShape) -> [f64; 3] {
    let columns = (2 * shape.cell.gates() * shape.hidden) as f64;
    let inputs = columns * (shape.time * shape.inputs) as f64;
    let state = columns * ((shape.time - 1) * shape.hidden) as f64;
    [inputs + state, inputs + 2.0 * state, inputs]
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Vec::new();
    for level in [Level::Avx2, Level::Avx512] {
        limit_level(Some(level));
        if dlopt_kernels::level() != level {
            continue;
        }
        let peak = peak(level);
        for (cell, time, inputs, hidden, rows) in LAYERS {
            let shape = RecurrentShape { cell, time, inputs, hidden };
            let mut layer = Layer::new(shape, rows);
            let [forward, backward, input_gradient] = operations(shape);
            let name = format!("{cell:?} {time}x{inputs} to {hidden}");
            let mut measure = |kernel: &str, operations: f64, pass: fn(&mut Layer) -> Duration| {
                let case = format!("{}/{name}/{rows}/{kernel}", level.name());
                let Some(best) = best(&mut criterion, &case, || pass(&mut layer)) else { return };
                let rate = operations * rows as f64 / best;
                let sample = best / rows as f64 * 1e6;
                let (level, rate, share) = (level.name(), rate / 1e9, rate / peak);
                table.push(format!("| {level} | {name} | {rows} | {kernel} | {sample:.1} | {rate:.1} | {share:.2} |"));
            };
            measure("inference", forward, |layer| timed(|| layer.infer()));
            measure("forward", forward, |layer| timed(|| layer.forward()));
            measure("backward", backward, |layer| {
                layer.forward();
                timed(|| layer.backward(false))
            });
            measure("backward with inputs", backward + input_gradient, |layer| {
                layer.forward();
                timed(|| layer.backward(true))
            });
        }
    }
    criterion.final_summary();
    println!("| level | layer | rows | kernel | us a sample | Gflop/s | of peak |");
    println!("|---|---|---|---|---|---|---|");
    table.iter().for_each(|row| println!("{row}"));
}

fn timed(pass: impl FnOnce()) -> Duration {
    let start = Instant::now();
    pass();
    start.elapsed()
}

/// Runs one case under criterion; seconds of its fastest pass, or `None` when it is filtered out.
fn best(criterion: &mut Criterion, name: &str, mut pass: impl FnMut() -> Duration) -> Option<f64> {
    let best = RefCell::new(None::<Duration>);
    let mut group = criterion.benchmark_group("recurrent");
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(700));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|passes| {
            let mut total = Duration::ZERO;
            for _ in 0..passes {
                let took = pass();
                total += took;
                let mut best = best.borrow_mut();
                *best = Some(best.map_or(took, |best| best.min(took)));
            }
            total
        });
    });
    group.finish();
    best.into_inner().map(|best| best.as_secs_f64())
}

/// Floating-point operations a second of twelve independent chains of fused multiply-adds.
fn peak(level: Level) -> f64 {
    const ROUNDS: usize = 20_000;
    let lanes = if level >= Level::Avx512 { 16 } else { 8 };
    let seconds = (0..200).map(|_| timed(|| multiply_add(level, ROUNDS)).as_secs_f64()).fold(f64::MAX, f64::min);
    (ROUNDS * 12 * lanes * 2) as f64 / seconds
}

#[cfg(target_arch = "x86_64")]
fn multiply_add(level: Level, rounds: usize) {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};

    macro_rules! chains {
        ($name:ident, $features:literal, $set:ident, $fma:ident) => {
            #[target_feature(enable = $features)]
            fn $name(rounds: usize) {
                let (mut sums, factor, term) = ([$set(0.5); 12], $set(0.3), $set(0.9));
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = $fma(*sum, factor, term);
                    }
                }
                black_box(sums);
            }
        };
    }
    chains!(wide, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps);
    chains!(narrow, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps);
    match level {
        // SAFETY: the caller measures a level only where `dlopt_kernels::level` found it.
        Level::Avx512 | Level::Amx => unsafe { wide(rounds) },
        // SAFETY: as above.
        Level::Avx2 => unsafe { narrow(rounds) },
        Level::Portable => {}
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_add(_: Level, rounds: usize) {
    black_box(rounds);
}
