//! Resampling and noise of pictures, on one core, at every instruction set: `cargo bench -p dlopt-kernels --bench pixels`.
//!
//! The limit is what must be moved: a picture read once and written once.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dlopt_kernels::pixels::{Fill, Filter, Map, Room, add_noise_u8, warp_f32, warp_u8};
use dlopt_kernels::{Level, limit_level};

fn levels() -> [Level; 3] {
    [Level::Portable, Level::Avx2, Level::Avx512]
}

/// Turned by 10 degrees and a little larger, about the middle.
fn map(extent: usize) -> Map<'static> {
    let (sine, cosine) = (10.0_f64.to_radians().sin() * 0.9, 10.0_f64.to_radians().cos() * 0.9);
    let middle = (extent as f64 - 1.0) / 2.0;
    let (x, y) = (middle - (cosine - sine) * middle, middle - (sine + cosine) * middle);
    Map::Affine([cosine, -sine, x, sine, cosine, y])
}

fn warps(c: &mut Criterion) {
    for (extent, channels) in [(28, 1), (224, 3)] {
        let elements = extent * extent * channels;
        let mut group = c.benchmark_group(format!("warp {extent}x{extent}x{channels}"));
        group.throughput(Throughput::Bytes(2 * elements as u64));
        let shape = [extent, extent, channels];
        for level in levels() {
            limit_level(Some(level));
            let mut bytes: Vec<u8> = (0..elements).map(|at| (at * 89 % 251) as u8).collect();
            let mut room = Room::default();
            group.bench_function(BenchmarkId::new("u8", level.name()), |b| {
                b.iter(|| {
                    let pixels = black_box(&mut bytes);
                    warp_u8(pixels, shape, map(extent), Filter::Bilinear, Fill::Constant(0), &mut room);
                });
            });
            let mut floats: Vec<f32> = (0..elements).map(|at| (at * 89 % 251) as f32).collect();
            let mut room = Room::default();
            group.bench_function(BenchmarkId::new("f32", level.name()), |b| {
                b.iter(|| {
                    let pixels = black_box(&mut floats);
                    warp_f32(pixels, shape, map(extent), Filter::Bilinear, Fill::Constant(0.0), &mut room);
                });
            });
        }
        group.finish();
    }
    limit_level(None);
}

fn noise(c: &mut Criterion) {
    let mut group = c.benchmark_group("add noise");
    let mut bytes: Vec<u8> = (0..640).map(|at| (at * 89 % 251) as u8).collect();
    let noise: Vec<f32> = (0..640).map(|at| (at as f32 * 0.7).sin()).collect();
    group.throughput(Throughput::Elements(bytes.len() as u64));
    for level in levels() {
        limit_level(Some(level));
        group.bench_function(BenchmarkId::new("u8", level.name()), |b| {
            b.iter(|| add_noise_u8(black_box(&mut bytes), 12.0, &noise));
        });
    }
    group.finish();
    limit_level(None);
}

criterion_group!(benches, warps, noise);
criterion_main!(benches);
