//! Figures about the weights of every tensor, decoded.

use dlopt_checkpoint::{Checkpoint, Model, Resources, Result, TensorInfo, Tensors, dtype_name};
use dlopt_kernels::holds_n_of_m;
use serde::Serialize;

use crate::blocks::{Block, cut, has_rows, read, row_values, run};
use crate::decode::{decoded, make_readable};
use crate::moments::Spread;
use crate::values::{Values, value_count};

/// `n` of `m` patterns that are looked for; each implies those after it.
const PATTERNS: [(usize, usize); 3] = [(1, 4), (2, 4), (4, 8)];

/// Longest group of a pattern that is looked for; keeps the pieces of a row small.
const MAX_PATTERN: usize = 4096;

/// What the weights of one tensor are like. NaN and infinities are counted and left out of the other figures.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct TensorStats {
    /// Its name, decoded (`fc1.weight` also when it is stored as `fc1.weight_packed`).
    pub name: String,
    /// Its dtype, decoded.
    pub dtype: &'static str,
    /// Its shape, decoded.
    pub shape: Vec<usize>,
    /// What it is to its model.
    pub kind: &'static str,
    /// Values looked at: its elements; a complex number is two.
    pub values: u64,
    /// Smallest finite value; absent when there is none.
    pub min: Option<f64>,
    /// Largest finite value; absent when there is none.
    pub max: Option<f64>,
    /// Mean of the finite values.
    pub mean: Option<f64>,
    /// Standard deviation of the finite values, over all of them.
    pub standard_deviation: Option<f64>,
    /// Values that are zero, of either sign.
    pub zeros: u64,
    /// Share of zeros, 0..=1.
    pub sparsity: f64,
    /// `n:m` patterns that hold along the columns; those that a narrower one implies are left out, and so are all of
    /// them when nothing but zeros is there.
    pub patterns: Vec<String>,
    /// NaN values.
    pub nans: u64,
    /// Infinite values.
    pub infinities: u64,
    /// Index of the first NaN, counted through the whole tensor.
    pub first_nan: Option<u64>,
    /// Index of the first infinity, counted through the whole tensor.
    pub first_infinity: Option<u64>,
}

/// Looks at all weights of a checkpoint, decoding what is compressed.
///
/// # Errors
/// When it cannot be decoded or read; the message names file and tensor.
pub fn stats(checkpoint: &Checkpoint, resources: &Resources<'_>) -> Result<Vec<TensorStats>> {
    make_readable(checkpoint, resources)?;
    decoded(checkpoint, |view| {
        let model = Model::of(view.header()).unwrap_or_default();
        let scans = scan(view, resources, |_| PATTERNS.to_vec())?;
        Ok(view.header().tensors.iter().zip(scans).map(|(info, scan)| tensor_stats(info, &model, &scan)).collect())
    })
}

fn tensor_stats(info: &TensorInfo, model: &Model, scan: &Scan) -> TensorStats {
    let spread = &scan.spread;
    let values = value_count(info) as u64;
    let finite = |x: f64| (spread.count > 0).then_some(x);
    let has_pattern = spread.zeros < values;
    let patterns = scan.patterns.iter().find(|(_, holds)| has_pattern && *holds);
    TensorStats {
        name: info.name.clone(),
        dtype: dtype_name(info.dtype),
        shape: info.shape.clone(),
        kind: model.layer(info).kind.label(),
        values,
        min: finite(spread.min),
        max: finite(spread.max),
        mean: finite(spread.mean),
        standard_deviation: finite(spread.standard_deviation()),
        zeros: spread.zeros,
        sparsity: spread.zeros as f64 / values.max(1) as f64,
        patterns: patterns.map(|((n, m), _)| format!("{n}:{m}")).into_iter().collect(),
        nans: spread.nans,
        infinities: spread.infinities,
        first_nan: scan.first_nan,
        first_infinity: scan.first_infinity,
    }
}

/// What was seen of one tensor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    pub(crate) spread: Spread,
    /// Each pattern that was asked for, and whether it holds along the columns.
    pub(crate) patterns: Vec<((usize, usize), bool)>,
    pub(crate) first_nan: Option<u64>,
    pub(crate) first_infinity: Option<u64>,
}

/// Looks at every tensor. `patterns` says what `n` of `m` to look for in each; vectors and tensors with fewer columns
/// than `m` have none.
pub(crate) fn scan(
    tensors: &dyn Tensors,
    resources: &Resources<'_>,
    patterns: impl Fn(usize) -> Vec<(usize, usize)>,
) -> Result<Vec<Scan>> {
    let infos = &tensors.header().tensors;
    let mut scans = Vec::with_capacity(infos.len());
    let mut blocks = Vec::new();
    for (tensor, info) in infos.iter().enumerate() {
        let mut wanted = patterns(tensor);
        wanted.retain(|&(_, m)| (1..=MAX_PATTERN).contains(&m) && has_rows(info) && row_values(info) >= m);
        let quantum = wanted.iter().fold(1, |all, &(_, m)| least_common_multiple(all, m));
        blocks.extend(cut(tensor, info, quantum));
        let patterns = wanted.into_iter().map(|p| (p, true)).collect();
        scans.push(Scan { patterns, ..Scan::default() });
    }
    resources.progress.phase("looking", tensors.header().data_bytes());
    let wanted: Vec<Vec<(usize, usize)>> =
        scans.iter().map(|s| s.patterns.iter().map(|(pattern, _)| *pattern).collect()).collect();
    let look = |scratch: &mut (Vec<u8>, Values), block: &Block| {
        let (bytes, values) = scratch;
        read(tensors, block.tensor, block, bytes)?;
        let info = &infos[block.tensor];
        values.read(info.dtype, bytes, false);
        let seen = look_at(info, block, values, &wanted[block.tensor]);
        resources.progress.advance(bytes.len() as u64);
        Ok(seen)
    };
    run(&blocks, 1, resources, look, |block, seen| {
        let scan = &mut scans[block.tensor];
        scan.spread.merge(&seen.spread);
        scan.first_nan = scan.first_nan.or(seen.first_nan);
        scan.first_infinity = scan.first_infinity.or(seen.first_infinity);
        for (all, own) in scan.patterns.iter_mut().zip(&seen.patterns) {
            all.1 &= own.1;
        }
    })?;
    Ok(scans)
}

fn look_at(info: &TensorInfo, block: &Block, values: &Values, patterns: &[(usize, usize)]) -> Scan {
    let is_single = !values.single.is_empty();
    let spread = if is_single { Spread::of_single(&values.single) } else { Spread::of_double(&values.double) };
    let first = |claim: fn(f64) -> bool| {
        let found = if is_single {
            values.single.iter().position(|&x| claim(f64::from(x)))
        } else {
            values.double.iter().position(|&x| claim(x))
        };
        found.map(|i| (block.values.start + i) as u64)
    };
    let first_nan = if spread.nans > 0 { first(f64::is_nan) } else { None };
    let first_infinity = if spread.infinities > 0 { first(f64::is_infinite) } else { None };
    let row = row_values(info);
    // Rows of whole groups can be looked at as one run; others have a tail each.
    let run = |m: usize| if row.is_multiple_of(m) { usize::MAX } else { row.max(1) };
    let holds = |n: usize, m: usize| {
        values.single.chunks(run(m)).all(|x| holds_n_of_m(x, n, m))
            && values.double.chunks(run(m)).all(|x| holds_in_doubles(x, n, m))
    };
    let patterns = patterns.iter().map(|&(n, m)| ((n, m), holds(n, m))).collect();
    Scan { spread, patterns, first_nan, first_infinity }
}

/// As `holds_n_of_m`, for doubles.
fn holds_in_doubles(values: &[f64], n: usize, m: usize) -> bool {
    values.chunks(m).all(|run| run.iter().filter(|x| **x != 0.0).count() <= (run.len() * n).div_ceil(m))
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b)
}
