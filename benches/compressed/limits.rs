//! What a machine can do at most: read bytes, and multiply and add floats.

use std::hint::black_box;
use std::time::Instant;

use dlopt_kernels::nn::Team;
use dlopt_kernels::{Level, level};

/// Reads all bytes once on all threads of the team.
pub(crate) fn read(team: &Team, bytes: &[u8]) {
    let piece = bytes.len().div_ceil(8 * team.threads()).next_multiple_of(128);
    let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
    team.run(pieces.len(), |index| {
        let mut sums = [0_u64; 16];
        for words in pieces[index].as_chunks::<8>().0.as_chunks::<16>().0 {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum ^= u64::from_ne_bytes(*word);
            }
        }
        black_box(sums);
    });
}

/// Floating-point operations a second of twelve independent chains of fused multiply-adds on each thread.
pub(crate) fn peak(team: &Team) -> f64 {
    const ROUNDS: usize = 20_000;
    let lanes = if level() >= Level::Avx512 { 16 } else { 8 };
    let timed = || {
        let start = Instant::now();
        team.run(team.threads(), |_| multiply_add(level(), ROUNDS));
        start.elapsed().as_secs_f64()
    };
    let seconds = (0..1000).map(|_| timed()).fold(f64::MAX, f64::min);
    (team.threads() * ROUNDS * 12 * lanes * 2) as f64 / seconds
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
        // SAFETY: the level is what `dlopt_kernels::level` found.
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
