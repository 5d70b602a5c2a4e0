//! N of M: of each M consecutive weights along the inputs, the N of largest key stay.
//!
//! The inputs are the columns of each row, flattened (convolutions: `[out, in * kh * kw]`), except where a matrix is
//! stored `[in, out]`: there groups run down the rows. A tail of `r < M` weights keeps `ceil(r * N / M)`. Of equal keys
//! the earlier goes. Source: Mishra et al. 2021, arXiv 2104.08378 (2 of 4).

use dlopt_checkpoint::{Error, Output, Result};
use dlopt_kernels::{Float, keep_n_of_m};

use crate::Plugin;
use crate::criteria::Rank;
use crate::keys::{Keys, copy_kept, report};
use crate::patterns::Pattern;
use crate::stores::bitmask;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "N:M",
    summary: "of each M weights along the inputs N are kept (2:4, 4:8, 1:4...)",
    source: "Mishra et al. 2021, arXiv 2104.08378",
};

/// Largest M: a group is compared as a whole.
const LARGEST_M: usize = 1024;

/// Groups up to which every pair is compared; larger ones are sorted.
const PAIRS: usize = 32;

/// Reads `N:M`; `None` when the text has no colon.
pub(super) fn parse(text: &str) -> Result<Option<Pattern>> {
    let Some((n, m)) = text.split_once(':') else { return Ok(None) };
    let (Ok(n), Ok(m)) = (n.parse::<usize>(), m.parse::<usize>()) else {
        return Err(Error::usage(format!("`{text}` is no pattern")).hint("N:M takes two whole numbers, as in 2:4"));
    };
    if n == 0 || n >= m || m > LARGEST_M {
        return Err(Error::usage(format!("`{text}` is no pattern: N of M needs 0 < N < M, and M up to {LARGEST_M}")));
    }
    Ok(Some(Pattern::NOfM { n, m }))
}

/// Weights that a group of `length` weights keeps, or several groups and a tail: `n` of `m`, of a tail its share rounded up.
pub fn kept_of(length: usize, n: usize, m: usize) -> usize {
    length / m * n + (length % m * n).div_ceil(m)
}

/// Which way groups run in a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Along {
    /// Along the columns of each row.
    Columns,
    /// Down the rows of matrices `[inputs, out]`; a row of the unit is one of theirs.
    Rows {
        /// Rows of each matrix.
        inputs: usize,
    },
    /// Down the rows of matrices `[inputs, out]`; a row of the unit is a whole matrix.
    Matrix {
        /// Rows of each matrix.
        inputs: usize,
    },
}

impl Along {
    /// As a unit's key.
    pub(crate) fn key(self) -> usize {
        match self {
            Self::Columns => 0,
            Self::Rows { inputs } => inputs * 2,
            Self::Matrix { inputs } => inputs * 2 + 1,
        }
    }

    /// From a unit's key.
    pub(crate) fn of(key: usize) -> Self {
        match (key, key % 2) {
            (0, _) => Self::Columns,
            (_, 0) => Self::Rows { inputs: key / 2 },
            _ => Self::Matrix { inputs: key / 2 },
        }
    }
}

/// One block of rows.
pub(crate) struct Rows<'a> {
    pub(crate) name: &'a str,
    pub(crate) keys: Keys,
    pub(crate) along: Along,
    /// Weights of a row of the unit.
    pub(crate) columns: usize,
    /// The first row.
    pub(crate) first: usize,
    pub(crate) bytes: &'a [u8],
}

/// Prunes a block. `offset`: weights kept in the rows before, for bitmasks.
pub(crate) fn apply(rows: &Rows<'_>, n: usize, m: usize, offset: u64, output: &mut Output<'_>) -> Result<()> {
    let Rows { name, keys, along, columns, bytes, .. } = *rows;
    let row_bytes = columns * keys.kind.bytes();
    let is_dense = output.parts.len() == 1;
    let is_magnitude = matches!(keys.rank, Rank::Magnitude);
    if is_dense && is_magnitude && along == Along::Columns && keys.kind != Float::F64 {
        let outs = output.parts[0].chunks_exact_mut(row_bytes);
        for (row, out) in bytes.chunks_exact(row_bytes).zip(outs) {
            output.report.push(report(columns, &keep_n_of_m(keys.kind, row, n, m, out)));
        }
        return Ok(());
    }
    let is_kept = keep(rows, n, m);
    if is_dense {
        let outs = output.parts[0].chunks_exact_mut(row_bytes);
        for ((row, out), kept) in bytes.chunks_exact(row_bytes).zip(outs).zip(is_kept.chunks_exact(columns)) {
            output.report.push(copy_kept(keys.kind, row, kept, out));
        }
        return Ok(());
    }
    let block = bitmask::Rows { kind: keys.kind, columns, bytes, is_kept: &is_kept };
    bitmask::write(name, &block, offset, false, output)
}

/// Which weights of a block are kept.
fn keep(rows: &Rows<'_>, n: usize, m: usize) -> Vec<bool> {
    let first = (rows.first * rows.columns) as u64;
    let mut keys = vec![0; rows.bytes.len() / rows.keys.kind.bytes()];
    rows.keys.each(rows.bytes, first, |i, key| keys[i] = key);
    let mut is_kept = vec![false; keys.len()];
    let mut group = Group::default();
    let (inputs, out) = match rows.along {
        Along::Columns => {
            let starts = (0..keys.len()).step_by(rows.columns);
            for row in starts {
                for begin in (row..row + rows.columns).step_by(m) {
                    let length = m.min(row + rows.columns - begin);
                    group.keep(&keys, begin, 1, length, kept_of(length, n, m), &mut is_kept);
                }
            }
            return is_kept;
        }
        Along::Rows { inputs } => (inputs, rows.columns),
        Along::Matrix { inputs } => (inputs, rows.columns / inputs),
    };
    // A block begins where a group does.
    let mut input = (first / out as u64) as usize % inputs;
    let mut begin = 0;
    while begin < keys.len() {
        let length = m.min(inputs - input);
        for column in 0..out {
            group.keep(&keys, begin + column, out, length, kept_of(length, n, m), &mut is_kept);
        }
        begin += length * out;
        input = (input + length) % inputs;
    }
    is_kept
}

/// Scratch for one group.
#[derive(Default)]
struct Group {
    order: Vec<(u64, usize)>,
}

impl Group {
    /// Keeps the `kept` largest by (key, index) of `length` weights that stand `stride` apart.
    fn keep(&mut self, keys: &[u64], begin: usize, stride: usize, length: usize, kept: usize, is_kept: &mut [bool]) {
        let at = |i: usize| begin + i * stride;
        if length <= PAIRS {
            for i in 0..length {
                let key = keys[at(i)];
                let above = (0..i).filter(|j| keys[at(*j)] > key).count()
                    + (i + 1..length).filter(|j| keys[at(*j)] >= key).count();
                is_kept[at(i)] = above < kept;
            }
            return;
        }
        self.order.clear();
        self.order.extend((0..length).map(|i| (keys[at(i)], i)));
        self.order.sort_unstable();
        for (_, i) in &self.order[length - kept..] {
            is_kept[at(*i)] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_its_share_rounded_up() {
        assert_eq!([4, 5, 6, 7, 8].map(|length| kept_of(length, 2, 4)), [2, 3, 3, 4, 4]);
        assert_eq!([0, 1, 2, 3].map(|length| kept_of(length, 1, 4)), [0, 1, 1, 1]);
    }

    #[test]
    fn large_groups_are_pruned_like_small_ones() {
        let keys: Vec<u64> = (0..PAIRS as u64 + 9).map(|i| i * i % 7).collect();
        let mut sorted = vec![false; keys.len()];
        Group::default().keep(&keys, 0, 1, keys.len(), 11, &mut sorted);
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|i| (keys[*i], *i));
        let expected: Vec<bool> = (0..keys.len()).map(|i| order[keys.len() - 11..].contains(&i)).collect();
        assert_eq!(sorted, expected);
    }

    #[test]
    fn only_sensible_patterns_are_read() {
        assert_eq!(Pattern::parse("2:4").unwrap(), Pattern::NOfM { n: 2, m: 4 });
        for bad in ["0:4", "4:4", "5:4", "2:", ":", "-1:4", "2:4:8", "2:9999", "blocks"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_direction_survives_its_key() {
        for along in [Along::Columns, Along::Rows { inputs: 5 }, Along::Matrix { inputs: 5 }] {
            assert_eq!(Along::of(along.key()), along);
        }
    }
}
