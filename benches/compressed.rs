//! Time of matrices that stay compressed, against their decompressed twin, a plain read of the same bytes, and the peak.
//!
//! `cargo bench -p dlopt-kernels --bench compressed` takes about ten minutes and 1 GiB; a filter such as `4096x4096/1 row`
//! takes less. Figures are fastest passes. At one row the copies of a large matrix take turns, so that it comes from
//! memory. GB/s are of the bytes the matrix holds; Gflop/s count the products of the decompressed twin,
//! zeros too. LEVEL=avx2 (portable, avx512, amx) keeps to an instruction set.

#[path = "compressed/limits.rs"]
mod limits;

use std::cell::{LazyCell, RefCell};
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use dlopt_kernels::compressed::sparse::{SparseMatrix, Use};
use dlopt_kernels::compressed::{
    Codes, DenseMatrix, Float8Codes, Int2Matrix, Int4Matrix, Int8Matrix, Product, SparseInt8Matrix, WeightOnly,
};
use dlopt_kernels::nn::Team;
use dlopt_kernels::{Float, Level, encode_fp8, limit_level, narrow};

/// Outputs and inputs: a large layer, those of MiniLM, and the dense one of a small CNN.
const SHAPES: [[usize; 2]; 5] = [[4096, 4096], [384, 384], [1536, 384], [384, 1536], [128, 3136]];

const ROWS: [usize; 3] = [1, 64, 512];

/// The copies of a matrix together are larger than any cache.
const LARGER_THAN_CACHES: usize = 128 << 20;

/// A matrix of so many weights stays in a cache, as in use.
const CACHED: usize = 4 << 20;

type Packed = Box<dyn Product>;
type Pack = fn(&Matrix, Use) -> Packed;

/// What is measured, and how it is made for so many rows.
const CONTENDERS: [(&str, Pack); 22] = [
    ("f32", |matrix, _| Box::new(DenseMatrix::pack(matrix.outputs, matrix.inputs, &matrix.weights))),
    ("f16 weights", |matrix, _| matrix.halves(Float::F16)),
    ("bf16 weights", |matrix, _| matrix.halves(Float::BF16)),
    ("fp8 weights", |matrix, _| matrix.float8()),
    ("int8 weights, one scale a row", |matrix, _| matrix.integers(8, matrix.inputs, false, weight_only)),
    ("int8 weights, groups of 128", |matrix, _| matrix.integers(8, 128, false, weight_only)),
    ("int4 weights, groups of 128", |matrix, _| matrix.integers(4, 128, false, weight_only)),
    ("int4 weights, groups of 32, zero points", |matrix, _| matrix.integers(4, 32, true, weight_only)),
    ("int2 weights, groups of 32", |matrix, _| matrix.integers(2, 32, false, weight_only)),
    ("int8, inputs too", |matrix, _| {
        matrix.integers(8, matrix.inputs, false, |mut codes| of(Int8Matrix::pack(&mut codes)))
    }),
    ("int4 in groups of 128, inputs int8", |matrix, _| {
        matrix.integers(4, 128, false, |mut codes| of(Int4Matrix::pack(&mut codes)))
    }),
    ("int4 in groups of 32, inputs int8", |matrix, _| {
        matrix.integers(4, 32, false, |mut codes| of(Int4Matrix::pack(&mut codes)))
    }),
    ("int2 in groups of 32, inputs int8", |matrix, _| {
        matrix.integers(2, 32, false, |mut codes| of(Int2Matrix::pack(&mut codes)))
    }),
    ("f32, 70 % zeros", |matrix, purpose| matrix.pruned(1.0364).sparse(purpose)),
    ("f32, 80 % zeros", |matrix, purpose| matrix.pruned(1.2816).sparse(purpose)),
    ("f32, 90 % zeros", |matrix, purpose| matrix.pruned(1.6449).sparse(purpose)),
    ("int8, 90 % zeros", |matrix, purpose| {
        let pack = |codes: Codes<'_>| -> Packed { Box::new(SparseMatrix::pack_codes(codes, purpose)) };
        matrix.pruned(1.6449).integers(8, matrix.inputs, false, pack)
    }),
    ("int8, 70 % zeros, inputs too", |matrix, purpose| matrix.pruned(1.0364).sparse_integers(purpose)),
    ("int8, 80 % zeros, inputs too", |matrix, purpose| matrix.pruned(1.2816).sparse_integers(purpose)),
    ("int8, 90 % zeros, inputs too", |matrix, purpose| matrix.pruned(1.6449).sparse_integers(purpose)),
    ("int8, 95 % zeros, inputs too", |matrix, purpose| matrix.pruned(1.96).sparse_integers(purpose)),
    ("int8, 2:4, inputs too", |matrix, purpose| matrix.halved().sparse_integers(purpose)),
];

fn weight_only(codes: Codes<'_>) -> Packed {
    Box::new(WeightOnly::integers(codes))
}

fn of(matrix: Result<impl Product + 'static, &'static str>) -> Packed {
    Box::new(matrix.expect("the kernel is for such codes"))
}

/// Weights that are about normal, as trained ones are.
struct Matrix {
    outputs: usize,
    inputs: usize,
    weights: Vec<f32>,
}

impl Matrix {
    fn new([outputs, inputs]: [usize; 2]) -> Self {
        Self { outputs, inputs, weights: normal(outputs * inputs) }
    }

    fn row(&self, output: usize) -> &[f32] {
        &self.weights[output * self.inputs..][..self.inputs]
    }

    /// Without the weights below a magnitude.
    fn pruned(&self, least: f32) -> Self {
        let weights = self.weights.iter().map(|weight| if weight.abs() < least { 0.0 } else { *weight }).collect();
        Self { outputs: self.outputs, inputs: self.inputs, weights }
    }

    /// With the two larger of each four weights.
    fn halved(&self) -> Self {
        let mut weights = self.weights.clone();
        for four in weights.as_chunks_mut::<4>().0 {
            let mut order = [0, 1, 2, 3];
            order.sort_by(|a, b| four[*a].abs().total_cmp(&four[*b].abs()));
            (four[order[0]], four[order[1]]) = (0.0, 0.0);
        }
        Self { weights, ..*self }
    }

    fn sparse(&self, purpose: Use) -> Packed {
        let mut row = |output: usize, to: &mut [f32]| to.copy_from_slice(self.row(output));
        Box::new(SparseMatrix::pack(self.outputs, self.inputs, purpose, &mut row))
    }

    fn sparse_integers(&self, purpose: Use) -> Packed {
        self.integers(8, self.inputs, false, |mut codes| of(SparseInt8Matrix::pack(&mut codes, purpose)))
    }

    fn integers(&self, bits: u32, group: usize, has_zero: bool, pack: impl FnOnce(Codes<'_>) -> Packed) -> Packed {
        let groups = self.outputs * self.inputs.div_ceil(group);
        let most = ((1_i32 << (bits - 1)) - 1) as f32;
        let scale = 3.0 / most;
        let mut row = |output: usize, codes: &mut [i8]| {
            for (code, weight) in codes.iter_mut().zip(self.row(output)) {
                *code = (weight / scale).round().clamp(-most - 1.0, most) as i8;
            }
        };
        // Zero points that are not all 0.
        let zero: Vec<i8> = if has_zero { (0..groups).map(|group| (group % 2) as i8).collect() } else { vec![] };
        let (outputs, inputs, scale) = (self.outputs, self.inputs, vec![scale; groups]);
        pack(Codes { outputs, inputs, bits, group, scale: &scale, zero: &zero, row: &mut row })
    }

    fn float8(&self) -> Packed {
        let scale = vec![4.0 / 448.0; self.outputs];
        let mut row = |output: usize, codes: &mut [u8]| {
            encode_fp8(self.row(output), self.inputs, &scale[..1], codes);
        };
        let (outputs, inputs) = (self.outputs, self.inputs);
        Box::new(WeightOnly::float8(Float8Codes { outputs, inputs, group: inputs, scale: &scale, row: &mut row }))
    }

    fn halves(&self, float: Float) -> Packed {
        let mut bytes = vec![0; 2 * self.inputs];
        let mut row = |output: usize, bits: &mut [u16]| {
            narrow(float, self.row(output), &mut bytes);
            for (bits, pair) in bits.iter_mut().zip(bytes.as_chunks().0) {
                *bits = u16::from_le_bytes(*pair);
            }
        };
        Box::new(WeightOnly::halves(self.outputs, self.inputs, float, &mut row))
    }
}

/// Twelve uniform values less six: mean 0, deviation 1.
fn normal(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..len).map(|_| (0..12).map(|_| unit()).sum::<f32>() - 6.0).collect()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    if let Ok(name) = std::env::var("LEVEL") {
        limit_level(Some(Level::ALL.into_iter().find(|level| level.name() == name).expect("LEVEL names a level")));
    }
    println!("| matrix | rows | threads | weights | MB | us | GB/s | of a read | Gflop/s | of peak | times f32 |");
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let teams = [Team::new(1), Team::new(2)].map(|team| (limits::peak(&team), team));
    for extents in SHAPES {
        // What a filter leaves out is not made.
        let matrix = LazyCell::new(|| Matrix::new(extents));
        for rows in ROWS {
            let mut plain = [None; 2];
            for (name, pack) in CONTENDERS {
                let purpose = if rows == 1 { Use::OneRow } else { Use::ManyRows };
                let turns = rows == 1 && extents[0] * extents[1] > CACHED;
                let copies = LazyCell::new(|| copies(turns, || pack(&matrix, purpose)));
                for ((peak, team), plain) in teams.iter().zip(&mut plain) {
                    if let Some(row) = measure(&mut criterion, extents, rows, team, name, &copies) {
                        if name == CONTENDERS[0].0 {
                            *plain = Some(row.seconds);
                        }
                        print(&row, *peak, plain.unwrap_or(f64::NAN));
                    }
                }
            }
        }
    }
    criterion.final_summary();
}

/// As many as it takes for them to come from memory if they take turns, or one.
fn copies(turns: bool, make: impl Fn() -> Packed) -> Vec<Packed> {
    let mut copies = vec![make()];
    if turns {
        copies.resize_with(LARGER_THAN_CACHES.div_ceil(copies[0].bytes()), make);
    }
    copies
}

struct Row<'a> {
    name: &'a str,
    extents: [usize; 2],
    rows: usize,
    threads: usize,
    bytes: usize,
    seconds: f64,
    /// Seconds of a plain read of as many bytes.
    read: f64,
}

fn measure<'a>(
    criterion: &mut Criterion,
    extents: [usize; 2],
    rows: usize,
    team: &Team,
    name: &'a str,
    copies: &LazyCell<Vec<Packed>, impl FnOnce() -> Vec<Packed>>,
) -> Option<Row<'a>> {
    let ([outputs, inputs], threads) = (extents, team.threads());
    let (x, mut out) = (normal(rows * inputs), vec![0.0; rows * outputs]);
    let case = format!("{outputs}x{inputs}/{rows} rows/{threads} threads/{name}");
    let mut turn = 0;
    let seconds = best(criterion, &case, || {
        turn += 1;
        copies[turn % copies.len()].multiply(team, rows, &x, None, false, &mut out);
    })?;
    let bytes = copies[0].bytes();
    let plain = vec![1; bytes * copies.len()];
    let read = best(criterion, &format!("{case}/read"), || {
        turn += 1;
        limits::read(team, &plain[turn % copies.len() * bytes..][..bytes]);
    });
    Some(Row { name, extents, rows, threads, bytes, seconds, read: read.unwrap_or(f64::NAN) })
}

fn print(row: &Row<'_>, peak: f64, plain: f64) {
    let Row { name, extents: [outputs, inputs], rows, threads, bytes, seconds, read } = *row;
    let (micros, speed, share) = (seconds * 1e6, bytes as f64 / seconds / 1e9, read / seconds);
    let (size, rate, twins) = (bytes as f64 / 1e6, (2 * rows * outputs * inputs) as f64 / seconds, plain / seconds);
    println!(
        "| {outputs}x{inputs} | {rows} | {threads} | {name} | {size:.3} | {micros:.1} | {speed:.1} | {share:.2} | {:.1} | {:.2} | {twins:.2} |",
        rate / 1e9,
        rate / peak,
    );
}

/// Runs one case under criterion; seconds of its fastest pass, or `None` when it is filtered out.
fn best(criterion: &mut Criterion, name: &str, mut pass: impl FnMut()) -> Option<f64> {
    let best = RefCell::new(None::<Duration>);
    let mut group = criterion.benchmark_group("compressed");
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(300));
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
