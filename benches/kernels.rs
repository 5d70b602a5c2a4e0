//! Throughput of the kernels over 64 Mi weights, against the memory's read bandwidth.
//!
//! `cargo bench -p dlopt-kernels` takes about two minutes and 1 GiB. Bytes are those
//! of the uncompressed tensor: read by an encoder, produced by a decoder.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use dlopt_kernels::{
    Float, Grid, Level, bracket, count_below_16, count_below_32, decode_fp8, decode_int, encode_fp8, encode_int,
    group_extremes, keys_within_32, limit_level, narrow, pack, sample_keys_32, tally_magnitude_16,
    tally_magnitude_32_high, tally_magnitude_32_low, unpack, view_f32, widen,
};
use rayon::prelude::*;

const WEIGHTS: usize = 64 << 20;
const COLUMNS: usize = 4096;
const GROUP: usize = 128;
const GROUPS: usize = COLUMNS / GROUP;
/// Rows a thread takes at a time.
const ROWS: usize = 64;
const INT4: Grid = Grid { qmin: -8.0, qmax: 7.0 };

/// Best seconds for one pass, by kernel, element, level and threads.
struct Row {
    kernel: &'static str,
    kind: &'static str,
    level: &'static str,
    threads: usize,
    gigabytes_per_second: f64,
}

/// A tensor in a file's bytes and in both compressed forms.
struct Tensor {
    kind: Float,
    bytes: Vec<u8>,
    packed: Vec<u8>,
    codes: Vec<u8>,
    scales: Vec<f32>,
    out: Vec<u8>,
}

impl Tensor {
    fn normal(kind: Float) -> Tensor {
        let mut bytes = vec![0; WEIGHTS * kind.bytes()];
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut row = vec![0.0f32; COLUMNS];
        for bytes in bytes.chunks_mut(COLUMNS * kind.bytes()) {
            for x in &mut row {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Six uniform bytes and some low bits: near enough to normal.
                let sum: u64 = state.to_le_bytes()[2..].iter().copied().map(u64::from).sum();
                *x = (sum as f32 - 765.0 + (state >> 40) as u16 as f32 / 65536.0) * 1e-4;
            }
            narrow(kind, &row, bytes);
        }
        let out = vec![0; bytes.len()];
        let scales = vec![0.0; WEIGHTS / GROUP];
        Tensor { kind, bytes, packed: vec![0; WEIGHTS / 2], codes: vec![0; WEIGHTS], scales, out }
    }

    /// One part a thread, so that each has one histogram.
    fn part_bytes(&self) -> usize {
        self.bytes.len() / rayon::current_num_threads()
    }

    fn row_bytes(&self) -> usize {
        COLUMNS * self.kind.bytes()
    }

    fn encode_w4(&mut self) {
        let (kind, row_bytes) = (self.kind, self.row_bytes());
        self.bytes
            .par_chunks(row_bytes * ROWS)
            .zip(self.packed.par_chunks_mut(COLUMNS / 2 * ROWS))
            .zip(self.scales.par_chunks_mut(GROUPS * ROWS))
            .for_each(|((bytes, packed), scales)| {
                let mut x = [0.0; COLUMNS];
                let mut codes = [0; COLUMNS];
                let (mut lo, mut hi) = ([0.0; GROUPS], [0.0; GROUPS]);
                let rows = bytes.chunks(row_bytes).zip(packed.chunks_mut(COLUMNS / 2));
                for ((bytes, packed), scale) in rows.zip(scales.chunks_mut(GROUPS)) {
                    let x = read(kind, bytes, &mut x);
                    group_extremes(x, GROUP, &mut lo, &mut hi);
                    for ((scale, lo), hi) in scale.iter_mut().zip(&lo).zip(&hi) {
                        *scale = hi.max(-lo) / 7.5;
                    }
                    black_box(encode_int(x, GROUP, scale, &[], &INT4, &mut codes));
                    pack(&codes, 4, packed);
                }
            });
    }

    fn decode_w4(&mut self) {
        let (kind, row_bytes) = (self.kind, self.row_bytes());
        self.out
            .par_chunks_mut(row_bytes * ROWS)
            .zip(self.packed.par_chunks(COLUMNS / 2 * ROWS))
            .zip(self.scales.par_chunks(GROUPS * ROWS))
            .for_each(|((out, packed), scales)| {
                let mut x = [0.0; COLUMNS];
                let mut codes = [0; COLUMNS];
                let rows = out.chunks_mut(row_bytes).zip(packed.chunks(COLUMNS / 2));
                for ((out, packed), scale) in rows.zip(scales.chunks(GROUPS)) {
                    unpack(packed, 4, &mut codes);
                    decode_int(&codes, GROUP, scale, &[], &mut x);
                    narrow(kind, &x, out);
                }
            });
    }

    fn encode_fp8(&mut self) {
        let (kind, row_bytes) = (self.kind, self.row_bytes());
        self.bytes
            .par_chunks(row_bytes * ROWS)
            .zip(self.codes.par_chunks_mut(COLUMNS * ROWS))
            .zip(self.scales.par_chunks_mut(GROUPS * ROWS))
            .for_each(|((bytes, codes), scales)| {
                let mut x = [0.0; COLUMNS];
                let (mut lo, mut hi) = ([0.0; GROUPS], [0.0; GROUPS]);
                let rows = bytes.chunks(row_bytes).zip(codes.chunks_mut(COLUMNS));
                for ((bytes, codes), scale) in rows.zip(scales.chunks_mut(GROUPS)) {
                    let x = read(kind, bytes, &mut x);
                    group_extremes(x, GROUP, &mut lo, &mut hi);
                    for ((scale, lo), hi) in scale.iter_mut().zip(&lo).zip(&hi) {
                        *scale = hi.max(-lo) / 448.0;
                    }
                    black_box(encode_fp8(x, GROUP, scale, codes));
                }
            });
    }

    fn decode_fp8(&mut self) {
        let (kind, row_bytes) = (self.kind, self.row_bytes());
        self.out
            .par_chunks_mut(row_bytes * ROWS)
            .zip(self.codes.par_chunks(COLUMNS * ROWS))
            .zip(self.scales.par_chunks(GROUPS * ROWS))
            .for_each(|((out, codes), scales)| {
                let mut x = [0.0; COLUMNS];
                let rows = out.chunks_mut(row_bytes).zip(codes.chunks(COLUMNS));
                for ((out, codes), scale) in rows.zip(scales.chunks(GROUPS)) {
                    decode_fp8(codes, GROUP, scale, &mut x);
                    narrow(kind, &x, out);
                }
            });
    }

    /// The key of the median magnitude by histograms: one round or two.
    fn histogram_select(&mut self) {
        let key = if self.kind == Float::F32 {
            let high = self.tally(32768, tally_magnitude_32_high);
            let (bin, rank) = find(&high, WEIGHTS as u64 / 2);
            let low = self.tally(65536, |bytes, counts| {
                tally_magnitude_32_low(bytes, bin as u32, counts);
            });
            (bin as u32) << 16 | find(&low, rank).0 as u32
        } else {
            find(&self.tally(32768, tally_magnitude_16), WEIGHTS as u64 / 2).0 as u32
        };
        black_box(key);
    }

    /// The key of the median magnitude by a sample and one pass; of 32-bit floats.
    fn window_select(&mut self) {
        let mut sample = Vec::new();
        sample_keys_32(&self.bytes, 255, &mut sample);
        let window = bracket(&mut sample, 0.5);
        let (below, mut keys) = self
            .bytes
            .par_chunks(1 << 20)
            .fold(
                || (0, Vec::new()),
                |(below, mut keys), bytes| (below + keys_within_32(bytes, window.clone(), &mut keys), keys),
            )
            .reduce(
                || (0, Vec::new()),
                |(below_a, mut a), (below_b, b)| {
                    a.extend(b);
                    (below_a + below_b, a)
                },
            );
        black_box(keys.select_nth_unstable(WEIGHTS / 2 - below as usize).1);
    }

    fn tally(&self, bins: usize, f: impl Fn(&[u8], &mut [u32]) + Sync) -> Vec<u64> {
        let part = self.part_bytes();
        self.bytes
            .par_chunks(part)
            .fold(
                || vec![0u32; bins],
                |mut counts, bytes| {
                    f(bytes, &mut counts);
                    counts
                },
            )
            .map(|counts| counts.into_iter().map(u64::from).collect::<Vec<_>>())
            .reduce(
                || vec![0; bins],
                |mut a, b| {
                    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                    a
                },
            )
    }

    fn count_below(&mut self) {
        let kind = self.kind;
        let below: u64 = self
            .bytes
            .par_chunks(4 << 20)
            .map(|bytes| match kind {
                Float::F32 => count_below_32(bytes, 0.01f32.to_bits()).0,
                _ => count_below_16(bytes, (0.01f32.to_bits() >> 16) as u16).0,
            })
            .sum();
        black_box(below);
    }

    fn read(&mut self) {
        let sum: u64 = self
            .bytes
            .par_chunks(4 << 20)
            .map(|bytes| {
                let words = bytes.as_chunks().0.iter();
                words.fold(0u64, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
            })
            .reduce(|| 0, u64::wrapping_add);
        black_box(sum);
    }
}

/// A row as `f32`: where it lies or widened into `scratch`.
fn read<'a>(kind: Float, bytes: &'a [u8], scratch: &'a mut [f32]) -> &'a [f32] {
    let view = if kind == Float::F32 { view_f32(bytes) } else { None };
    view.unwrap_or_else(|| {
        widen(kind, bytes, scratch);
        scratch
    })
}

/// The bin the element of this rank is in, and its rank within the bin.
fn find(counts: &[u64], mut rank: u64) -> (usize, u64) {
    for (bin, count) in counts.iter().enumerate() {
        if rank < *count {
            return (bin, rank);
        }
        rank -= count;
    }
    unreachable!("the rank is below the number of weights")
}

/// Runs on 32-bit floats only.
const WINDOW: &str = "select, window";

type Kernel = fn(&mut Tensor);

const KERNELS: [(&str, Kernel); 7] = [
    ("encode w4a16", Tensor::encode_w4),
    ("decode w4a16", Tensor::decode_w4),
    ("encode fp8", Tensor::encode_fp8),
    ("decode fp8", Tensor::decode_fp8),
    ("select, histograms", Tensor::histogram_select),
    (WINDOW, Tensor::window_select),
    ("count below", Tensor::count_below),
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let levels: Vec<Level> = [Level::Portable, Level::Avx2, Level::Avx512]
        .into_iter()
        .filter(|level| {
            limit_level(Some(*level));
            dlopt_kernels::level() == *level
        })
        .collect();
    limit_level(None);
    let mut rows = Vec::new();
    for (name, kind) in [("f32", Float::F32), ("bf16", Float::BF16)] {
        let mut tensor = Tensor::normal(kind);
        let bytes = tensor.bytes.len() as u64;
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.expect("threads can be started");
            let mut measure = |kernel, f: Kernel, level: &'static str| {
                let case = format!("{kernel}/{name}/{level}/{threads}");
                let rate = rate(&mut criterion, &case, bytes, || pool.install(|| f(&mut tensor)));
                if let Some(gigabytes_per_second) = rate {
                    rows.push(Row { kernel, kind: name, level, threads, gigabytes_per_second });
                }
            };
            measure("read", Tensor::read, "any");
            for level in &levels {
                limit_level(Some(*level));
                for (kernel, f) in KERNELS {
                    if kernel == WINDOW && kind != Float::F32 {
                        continue;
                    }
                    measure(kernel, f, level.name());
                }
            }
            limit_level(None);
        }
    }
    criterion.final_summary();
    print_table(&rows);
}

/// Runs one case under criterion; gigabytes (10^9) a second of its fastest pass.
fn rate(criterion: &mut Criterion, name: &str, bytes: u64, mut pass: impl FnMut()) -> Option<f64> {
    let best = RefCell::new(None::<Duration>);
    let mut group = criterion.benchmark_group("kernels");
    group
        .throughput(Throughput::Bytes(bytes))
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
    best.into_inner().map(|best| bytes as f64 / best.as_secs_f64() / 1e9)
}

fn print_table(rows: &[Row]) {
    println!("| kernel | element | level | threads | GB/s | of read |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        let read = rows.iter().find(|r| r.kernel == "read" && r.kind == row.kind && r.threads == row.threads);
        let share = read.map_or(f64::NAN, |r| row.gigabytes_per_second / r.gigabytes_per_second);
        println!(
            "| {} | {} | {} | {} | {:.1} | {share:.2} |",
            row.kernel, row.kind, row.level, row.threads, row.gigabytes_per_second
        );
    }
}
