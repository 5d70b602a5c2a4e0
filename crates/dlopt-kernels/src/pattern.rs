//! N of M: in each run of `m` consecutive elements at most `n` are not zero.
//!
//! A tail of `r < m` elements may keep `ceil(r * n / m)`. Source: Mishra et al.
//! 2021, arXiv 2104.08378 (2 of 4).

use crate::element::{Brain, Float, Half, Single, Stored};
use crate::lanes::BLOCK;
use crate::prune::PruneStats;
use crate::vector::Vector;

/// Keeps the `n` of largest magnitude in each run of `m` elements of a row.
///
/// Of equal magnitudes the earlier is pruned first: what goes is the `m - n`
/// smallest by (magnitude, index), and becomes +0. `kind`: any but `F64`.
/// `out`: as long as `bytes`.
pub fn keep_n_of_m(kind: Float, bytes: &[u8], n: usize, m: usize, out: &mut [u8]) -> PruneStats {
    assert_eq!(bytes.len(), out.len());
    assert!(m > 0 && n <= m && kind != Float::F64);
    dispatch!(<V> keep_body(
        kind: Float, bytes: &[u8], n: usize, m: usize, out: &mut [u8],
    ) -> PruneStats)
}

#[inline(always)]
fn keep_body<V: Vector>(kind: Float, bytes: &[u8], n: usize, m: usize, out: &mut [u8]) -> PruneStats {
    match kind {
        Float::F32 | Float::F64 => keep::<V, Single, 4>(bytes, n, m, out),
        Float::F16 => keep::<V, Half, 2>(bytes, n, m, out),
        Float::BF16 => keep::<V, Brain, 2>(bytes, n, m, out),
    }
}

#[inline(always)]
fn keep<V: Vector, E: Stored<N>, const N: usize>(bytes: &[u8], n: usize, m: usize, out: &mut [u8]) -> PruneStats {
    let mut stats = PruneStats::default();
    // Whole runs.
    let block = if m > BLOCK { m } else { BLOCK / m * m };
    let before = bytes.as_chunks::<N>().0.chunks(block);
    let after = out.as_chunks_mut::<N>().0.chunks_mut(block);
    for (before, after) in before.zip(after) {
        if m == 4 {
            let (runs, tail) = before.as_chunks::<4>();
            let (runs_after, tail_after) = after.as_chunks_mut::<4>();
            for (before, after) in runs.iter().zip(runs_after) {
                *after = keep_of_four::<E, N>(*before, n);
            }
            keep_runs::<E, N>(tail, n, m, tail_after);
        } else {
            keep_runs::<E, N>(before, n, m, after);
        }
        for (before, after) in before.chunks(BLOCK).zip(after.chunks(BLOCK)) {
            stats.add::<V, E, N>(before, after);
        }
    }
    stats
}

/// Each element is kept where fewer than `n` of the three others beat it.
#[inline(always)]
fn keep_of_four<E: Stored<N>, const N: usize>(run: [[u8; N]; 4], n: usize) -> [[u8; N]; 4] {
    let [a, b, c, d] = run.map(|x| E::key(x) as i32);
    // A later equal wins too.
    let later_wins = |earlier: i32, later: i32| i32::from(later >= earlier);
    let (ab, ac, ad) = (later_wins(a, b), later_wins(a, c), later_wins(a, d));
    let (bc, bd, cd) = (later_wins(b, c), later_wins(b, d), later_wins(c, d));
    let n = n as i32;
    let keep = |beaten: i32, x: [u8; N]| if beaten < n { x } else { [0; N] };
    [
        keep(ab + ac + ad, run[0]),
        keep(1 - ab + bc + bd, run[1]),
        keep(2 - ac - bc + cd, run[2]),
        keep(3 - ad - bd - cd, run[3]),
    ]
}

fn keep_runs<E: Stored<N>, const N: usize>(before: &[[u8; N]], n: usize, m: usize, after: &mut [[u8; N]]) {
    for (before, after) in before.chunks(m).zip(after.chunks_mut(m)) {
        let kept = (before.len() * n).div_ceil(m);
        for (i, x) in before.iter().enumerate() {
            let key = E::key(*x);
            let earlier = before[..i].iter().filter(|y| E::key(**y) > key).count();
            let later = before[i + 1..].iter().filter(|y| E::key(**y) >= key).count();
            after[i] = if earlier + later < kept { *x } else { [0; N] };
        }
    }
}

/// Whether every run of `m` elements has at most `n` that are not zero.
///
/// A tail of `r` elements may have `ceil(r * n / m)`. NaN is not zero.
pub fn holds_n_of_m(x: &[f32], n: usize, m: usize) -> bool {
    assert!(m > 0);
    dispatch!(holds_body(x: &[f32], n: usize, m: usize) -> bool)
}

#[inline(always)]
fn holds_body(x: &[f32], n: usize, m: usize) -> bool {
    match m {
        4 => holds_runs_of::<4>(x, n),
        8 => holds_runs_of::<8>(x, n),
        _ => x.chunks(m).all(|run| fits(run, n, m)),
    }
}

#[inline(always)]
fn holds_runs_of<const M: usize>(x: &[f32], n: usize) -> bool {
    let (runs, tail) = x.as_chunks::<M>();
    for runs in runs.chunks(BLOCK / M) {
        let holds = runs
            .iter()
            .fold(true, |holds, run| holds & (run.iter().map(|x| u32::from(*x != 0.0)).sum::<u32>() <= n as u32));
        if !holds {
            return false;
        }
    }
    fits(tail, n, M)
}

fn fits(run: &[f32], n: usize, m: usize) -> bool {
    run.iter().filter(|x| **x != 0.0).count() <= (run.len() * n).div_ceil(m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{narrow, widen};
    use crate::level::at_every_level;
    use proptest::prelude::*;

    fn kept(kind: Float, x: &[f32], n: usize, m: usize) -> (Vec<f32>, PruneStats) {
        let mut bytes = vec![0; x.len() * kind.bytes()];
        narrow(kind, x, &mut bytes);
        let mut out = vec![1; bytes.len()];
        let stats = keep_n_of_m(kind, &bytes, n, m, &mut out);
        let mut kept = vec![0.0; x.len()];
        widen(kind, &out, &mut kept);
        (kept, stats)
    }

    #[test]
    fn keeps_exactly_two_of_four_and_prunes_the_earlier_of_equals() {
        let x = [1.0, -3.0, 2.0, 1.0, 1.0, 1.0, -1.0, 1.0, 0.5, 4.0, 0.25];
        let (out, stats) = kept(Float::BF16, &x, 2, 4);
        assert_eq!(out, [0.0, -3.0, 2.0, 0.0, 0.0, 0.0, -1.0, 1.0, 0.5, 4.0, 0.0]);
        assert_eq!((stats.zeros_before, stats.zeros_after), (0, 5));
        assert_eq!(stats.noise, 4.0625);
    }

    #[test]
    fn a_run_with_one_too_many_does_not_hold() {
        let mut x = [0.0f32; 39];
        x[36] = 1.0;
        x[38] = 1.0;
        assert!(at_every_level(|| holds_n_of_m(&x, 2, 4)));
        x[37] = f32::NAN;
        assert!(!at_every_level(|| holds_n_of_m(&x, 2, 4)));
        assert!(holds_n_of_m(&[], 2, 4));
    }

    proptest! {
        #[test]
        fn prunes_the_smallest_by_magnitude_and_index(
            x in prop::collection::vec(-4i8..=4, 0..200),
            n in 0usize..6,
            m in 1usize..20,
        ) {
            let x: Vec<f32> = x.iter().map(|x| f32::from(*x)).collect();
            for (n, m) in [(n.min(m), m), (n.min(4), 4)] {
                let mut expected = x.clone();
                for run in expected.chunks_mut(m) {
                    let mut order: Vec<usize> = (0..run.len()).collect();
                    order.sort_by(|a, b| run[*a].abs().total_cmp(&run[*b].abs()).then(a.cmp(b)));
                    for i in &order[..run.len() - (run.len() * n).div_ceil(m)] {
                        run[*i] = 0.0;
                    }
                }
                for kind in [Float::F32, Float::F16, Float::BF16] {
                    let (out, stats) = at_every_level(|| kept(kind, &x, n, m));
                    prop_assert_eq!(&out, &expected);
                    let zeros = expected.iter().filter(|x| **x == 0.0).count() as u64;
                    prop_assert_eq!(stats.zeros_after, zeros);
                }
                prop_assert!(at_every_level(|| holds_n_of_m(&expected, n, m)));
                let holds = x.chunks(m).all(|run| fits(run, n, m));
                prop_assert_eq!(at_every_level(|| holds_n_of_m(&x, n, m)), holds);
            }
        }
    }
}
