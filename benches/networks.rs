//! Time of convolutions, dense layers and pools an image, forward and backward, against the multipliers' peak, on one thread.
//!
//! `cargo bench -p dlopt-kernels --bench networks` takes about three minutes. Figures are fastest passes: on a shared machine
//! the others say more about the neighbours. Operations are the useful ones: products with padding and outputs that a
//! pool drops are not counted. A depthwise layer is limited by memory, so the time of copying its input stands beside it.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use dlopt_kernels::nn::{ConvShape, Convolution, Dense, PoolShape, Team, max_pool, max_pool_gradient};
use dlopt_kernels::{Level, limit_level};

/// What follows the sums of a convolution.
#[derive(Clone, Copy, PartialEq)]
enum After {
    Nothing,
    Relu,
    ReluPool,
}

/// Extent, inputs, outputs, kernel, stride, padding, groups.
const CONVOLUTIONS: [(&str, [usize; 7], After); 17] = [
    ("first of the small CNN", [28, 1, 32, 3, 1, 0, 1], After::ReluPool),
    ("second of the small CNN", [13, 32, 64, 3, 1, 0, 1], After::ReluPool),
    ("the same, no pool", [13, 32, 64, 3, 1, 0, 1], After::Relu),
    ("stem, 3 channels", [32, 3, 16, 3, 1, 1, 1], After::Nothing),
    ("residual, 16", [28, 16, 16, 3, 1, 1, 1], After::Nothing),
    ("residual, 32", [14, 32, 32, 3, 1, 1, 1], After::Nothing),
    ("residual, 64", [7, 64, 64, 3, 1, 1, 1], After::Nothing),
    ("residual, 16 to 32", [28, 16, 32, 3, 2, 1, 1], After::Nothing),
    ("shortcut, 16 to 32", [28, 16, 32, 1, 2, 0, 1], After::Nothing),
    ("wide, 128", [14, 128, 128, 3, 1, 1, 1], After::Nothing),
    ("uneven, 27 to 45", [14, 27, 45, 3, 1, 1, 1], After::Nothing),
    ("depthwise, 32", [28, 32, 32, 3, 1, 1, 32], After::Nothing),
    ("depthwise, 128", [14, 128, 128, 3, 1, 1, 128], After::Nothing),
    ("depthwise, 128, stride 2", [14, 128, 128, 3, 2, 1, 128], After::Nothing),
    ("pointwise, 32 to 64", [28, 32, 64, 1, 1, 0, 1], After::Nothing),
    ("pointwise, 128", [14, 128, 128, 1, 1, 0, 1], After::Nothing),
    ("grouped, 4 of 16", [14, 64, 64, 3, 1, 1, 4], After::Nothing),
];

/// Rows, inputs, outputs.
const DENSE: [(usize, usize, usize); 3] = [(32, 1600, 64), (32, 64, 10), (128, 784, 256)];

struct Layer {
    plan: Convolution,
    images: usize,
    x: Vec<f32>,
    bias: Vec<f32>,
    forward: Vec<f32>,
    backward: Vec<f32>,
    out: Vec<f32>,
    won: Vec<u8>,
    gradient: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
    dx: Vec<f32>,
}

impl Layer {
    fn new(shape: ConvShape, after: After) -> Self {
        let plan = Convolution::new(shape, after != After::Nothing, after == After::ReluPool);
        let team = Team::new(1);
        let weight = values(shape.weight_len());
        let (mut forward, mut backward) = (vec![], vec![]);
        plan.pack_forward(&team, &weight, &mut forward);
        plan.pack_backward(&team, &weight, &mut backward);
        // A pass is kept well below the time a busy machine gives at a stretch.
        let images = (40_000_000 / shape.multiply_adds()).clamp(1, 8);
        let out = vec![0.0; images * plan.output_len()];
        Self {
            images,
            x: values(images * shape.input_len()),
            bias: values(shape.outputs),
            forward,
            backward,
            won: if after == After::ReluPool { vec![0; out.len()] } else { vec![] },
            gradient: values(out.len()),
            out,
            dw: vec![0.0; weight.len()],
            db: vec![0.0; shape.outputs],
            dx: vec![0.0; images * shape.input_len()],
            plan,
        }
    }

    fn forward(&mut self) {
        let won = (!self.won.is_empty()).then_some(&mut self.won[..]);
        self.plan.forward(self.images, &self.x, &self.forward, Some(&self.bias), &mut self.out, won);
    }

    fn backward(&mut self, with_inputs: bool) {
        let (x, out, won, gradient) = (&self.x, &self.out, &self.won, &self.gradient);
        let packed = with_inputs.then_some(&self.backward[..]);
        let dx = with_inputs.then_some(&mut self.dx[..]);
        self.plan.backward(self.images, x, out, won, gradient, packed, &mut self.dw, Some(&mut self.db), dx);
    }

    fn copy(&mut self) {
        self.dx.copy_from_slice(&self.x);
        black_box(&mut self.dx);
    }

    /// Floating-point operations of one image's sums.
    fn operations(&self) -> f64 {
        let s = self.plan.shape();
        let even = |n: usize| if self.won.is_empty() { n } else { n - n % 2 };
        let axis = |axis: usize, outputs: usize, len: usize| -> usize {
            let place = |output: usize, k: usize| (output * s.stride[axis] + k).wrapping_sub(s.padding[2 * axis]);
            (0..outputs).map(|output| (0..s.kernel[axis]).filter(|&k| place(output, k) < len).count()).sum()
        };
        let taps = axis(0, even(s.out_height()), s.height) * axis(1, even(s.out_width()), s.width);
        (2 * taps * s.inputs / s.groups * s.outputs) as f64
    }
}

/// Uniform in -1..1.
fn values(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    println!("| level | layer | kernel | us an image or batch | Gflop/s | of peak |");
    println!("|---|---|---|---|---|---|");
    for level in [Level::Avx512, Level::Avx2] {
        limit_level(Some(level));
        if dlopt_kernels::level() != level {
            continue;
        }
        let mut table = Table { criterion: &mut criterion, level, peak: peak(level) };
        for (name, [extent, inputs, outputs, kernel, stride, padding, groups], after) in CONVOLUTIONS {
            let shape = ConvShape {
                height: extent,
                width: extent,
                inputs,
                outputs,
                kernel: [kernel; 2],
                stride: [stride; 2],
                dilation: [1; 2],
                padding: [padding; 4],
                groups,
            };
            let mut layer = Layer::new(shape, after);
            let (images, operations) = (layer.images as f64, layer.operations());
            if groups == inputs && groups > 1 {
                table.row(name, "copy", images, 0.0, || layer.copy());
            }
            table.row(name, "forward", images, operations, || layer.forward());
            let weights = table.row(name, "weight gradient", images, operations, || layer.backward(false));
            let both = table.row(name, "both gradients", images, 2.0 * operations, || layer.backward(true));
            if let Some((weights, both)) = weights.zip(both) {
                table.print(name, "input gradient, by difference", images, operations, both - weights);
            }
        }
        for (rows, inputs, outputs) in DENSE {
            dense(&mut table, rows, inputs, outputs);
        }
        pool(&mut table);
    }
    criterion.final_summary();
}

fn dense(table: &mut Table, rows: usize, inputs: usize, outputs: usize) {
    let name = format!("dense, {rows} rows, {inputs} to {outputs}");
    let layer = Dense::new(inputs, outputs, true);
    let (x, weight, bias) = (values(rows * inputs), values(inputs * outputs), values(outputs));
    let gradient = values(rows * outputs);
    let team = Team::new(1);
    let (mut forward, mut backward) = (vec![], vec![]);
    layer.pack_forward(&team, &weight, &mut forward);
    layer.pack_backward(&team, &weight, &mut backward);
    let (mut out, mut dx) = (vec![0.0; rows * outputs], vec![0.0; rows * inputs]);
    let mut dw = vec![0.0; weight.len()];
    let operations = (2 * rows * inputs * outputs) as f64;
    table.row(&name, "forward", 1.0, operations, || layer.forward(rows, &x, &forward, Some(&bias), &mut out));
    let all = 0..inputs;
    let weights = || layer.weight_gradient(rows, &x, &gradient, all.clone(), &mut dw);
    table.row(&name, "weight gradient", 1.0, operations, weights);
    table.row(&name, "input gradient", 1.0, operations, || layer.input_gradient(rows, &gradient, &backward, &mut dx));
    let mut packed = vec![];
    table.row(&name, "packing, forward", 1.0, 0.0, || layer.pack_forward(&team, &weight, &mut packed));
    table.row(&name, "packing, backward", 1.0, 0.0, || layer.pack_backward(&team, &weight, &mut packed));
}

fn pool(table: &mut Table) {
    let name = "max pool, 3x3 of 28x28x64";
    let shape =
        PoolShape { height: 28, width: 28, channels: 64, kernel: [3; 2], stride: [2; 2], padding: [1, 1, 1, 1] };
    let (x, gradient) = (values(8 * shape.input_len()), values(8 * shape.output_len()));
    let (mut out, mut won, mut dx) = (gradient.clone(), vec![0; gradient.len()], x.clone());
    table.row(name, "forward", 8.0, 0.0, || max_pool(&shape, 8, &x, &mut out, Some(&mut won)));
    table.row(name, "gradient", 8.0, 0.0, || max_pool_gradient(&shape, 8, &won, &gradient, &mut dx));
}

struct Table<'a> {
    criterion: &'a mut Criterion,
    level: Level,
    peak: f64,
}

impl Table<'_> {
    /// Measures a case and prints its row; seconds of its fastest pass, or `None` when it is filtered out.
    fn row(&mut self, layer: &str, kernel: &str, images: f64, operations: f64, pass: impl FnMut()) -> Option<f64> {
        let best = best(self.criterion, &format!("{}/{layer}/{kernel}", self.level.name()), pass)?;
        self.print(layer, kernel, images, operations, best);
        Some(best)
    }

    fn print(&self, layer: &str, kernel: &str, images: f64, operations: f64, seconds: f64) {
        let (level, image, rate) = (self.level.name(), seconds / images * 1e6, operations * images / seconds);
        let (billions, share) = (rate / 1e9, rate / self.peak);
        println!("| {level} | {layer} | {kernel} | {image:.2} | {billions:.1} | {share:.2} |");
    }
}

/// Runs one case under criterion; seconds of its fastest pass, or `None` when it is filtered out.
fn best(criterion: &mut Criterion, name: &str, mut pass: impl FnMut()) -> Option<f64> {
    let best = RefCell::new(None::<Duration>);
    let mut group = criterion.benchmark_group("networks");
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(500));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|passes| {
            let mut total = Duration::ZERO;
            for _ in 0..passes {
                let start = Instant::now();
                pass();
                let took = start.elapsed();
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
    let timed = || {
        let start = Instant::now();
        multiply_add(level, ROUNDS);
        start.elapsed().as_secs_f64()
    };
    let seconds = (0..2000).map(|_| timed()).fold(f64::MAX, f64::min);
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
