//! How far one checkpoint is from another, tensor by tensor, decoded on both sides.

use std::collections::HashMap;

use dlopt_checkpoint::{
    Checkpoint, Dtype, Header, Resources, Result, TensorInfo, Tensors, dtype_name, relative_error, sqnr_db,
};
use dlopt_kernels::compare;
use serde::Serialize;

use crate::blocks::{Block, cut, read, run};
use crate::decode::{decoded, make_readable};
use crate::values::{Values, fits_single, is_float, value_count};

/// What to ask of a diff.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiffOptions {
    /// Largest relative error that each tensor may have.
    pub tolerance: Option<f64>,
}

/// How one checkpoint differs from another. The first is the reference.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// The reference.
    pub a: Side,
    /// What is compared with it.
    pub b: Side,
    /// Tensors on both sides with the same shape, the worst first: by relative error, then by name.
    pub tensors: Vec<TensorDiff>,
    /// Tensors that only the reference has.
    pub only_in_a: Vec<String>,
    /// Tensors that the reference lacks.
    pub only_in_b: Vec<String>,
    /// Tensors on both sides whose shapes differ.
    pub shape_mismatches: Vec<ShapeMismatch>,
    /// Figures over all floating-point tensors together.
    pub total: TotalDiff,
    /// Whether names, shapes and every value agree (0 equals -0, NaN equals NaN). Dtypes may differ.
    pub is_equal: bool,
    /// The tolerance that was asked for.
    pub tolerance: Option<f64>,
    /// Whether it is met by every tensor, and both sides have the same names and shapes. Absent without a tolerance.
    pub is_within: Option<bool>,
    /// Tensors that do not meet it, one-sided and misshapen ones included.
    pub outside: Vec<String>,
}

/// One side of a diff.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The file, folder or stream.
    pub name: String,
    /// Tensors as stored.
    pub tensors: usize,
    /// Bytes of all tensors as stored.
    pub bytes: u64,
}

/// A tensor whose shape differs.
#[derive(Clone, Debug, Serialize)]
pub struct ShapeMismatch {
    /// The tensor.
    pub name: String,
    /// Its shape in the reference.
    pub a: Vec<usize>,
    /// Its shape in the other.
    pub b: Vec<usize>,
}

/// How one tensor differs. Pairs with a NaN or an infinity are left out of the sums and counted.
#[derive(Clone, Debug, Serialize)]
pub struct TensorDiff {
    /// The tensor, decoded.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its dtype in the reference, decoded.
    pub dtype_a: &'static str,
    /// Its dtype in the other, decoded.
    pub dtype_b: &'static str,
    /// Values compared.
    pub values: u64,
    /// Values that differ: NaN equals NaN, 0 equals -0.
    pub differing: u64,
    /// Largest absolute difference; infinite when a NaN or an infinity stands on one side only.
    pub max_error: f64,
    /// Frobenius norm of the difference over that of the reference; infinite when a NaN or an infinity stands on one
    /// side only, or when the reference is zero and the other is not.
    pub relative_error: f64,
    /// Signal over noise in dB; absent when nothing differs.
    pub sqnr_db: Option<f64>,
    /// Cosine of the angle between the two; absent when either is zero.
    pub cosine: Option<f64>,
    /// Share of zeros in the reference, 0..=1.
    pub sparsity_a: f64,
    /// Share of zeros in the other, 0..=1.
    pub sparsity_b: f64,
    /// Pairs that are both NaN, or the same infinity; they count as equal.
    pub nonfinite_equal: u64,
    /// Pairs where a NaN or an infinity meets something else.
    pub nonfinite_differing: u64,
    #[serde(skip)]
    sums: Sums,
}

/// Figures over all floating-point tensors of both sides.
#[derive(Clone, Debug, Serialize)]
pub struct TotalDiff {
    /// Values compared.
    pub values: u64,
    /// Values that differ.
    pub differing: u64,
    /// Largest absolute difference.
    pub max_error: f64,
    /// Frobenius norm of all differences over that of the reference.
    pub relative_error: f64,
    /// Signal over noise in dB; absent when nothing differs.
    pub sqnr_db: Option<f64>,
    /// Cosine of the angle between both sides as one long vector.
    pub cosine: Option<f64>,
    /// Share of zeros in the reference, 0..=1.
    pub sparsity_a: f64,
    /// Share of zeros in the other, 0..=1.
    pub sparsity_b: f64,
}

/// Sums over pairs of values, in the order of the values.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    values: u64,
    a2: f64,
    b2: f64,
    ab: f64,
    noise: f64,
    max_error: f64,
    zeros_a: u64,
    zeros_b: u64,
    differing: u64,
    nonfinite_equal: u64,
    nonfinite_differing: u64,
}

/// Compares two checkpoints.
///
/// # Errors
/// When either cannot be decoded or read; the message names file and tensor.
pub fn diff(a: &Checkpoint, b: &Checkpoint, options: DiffOptions, resources: &Resources<'_>) -> Result<Diff> {
    make_readable(a, resources)?;
    make_readable(b, resources)?;
    let side =
        |c: &Checkpoint| Side { name: c.name.clone(), tensors: c.header.tensors.len(), bytes: c.header.data_bytes() };
    decoded(a, |left| {
        decoded(b, |right| {
            let mut found = Diff::of_headers(side(a), side(b), left.header(), right.header());
            let pairs = pairs(left.header(), right.header());
            found.tensors = diff_pairs(left, right, &pairs, resources)?;
            found.finish(&pairs, options.tolerance);
            Ok(found)
        })
    })
}

/// A tensor of both sides with the same shape.
struct Pair<'h> {
    a: usize,
    b: usize,
    left: &'h TensorInfo,
    right: &'h TensorInfo,
}

impl Pair<'_> {
    /// Whether the values are compared as `f64`.
    fn is_double(&self) -> bool {
        !(fits_single(self.left.dtype) && fits_single(self.right.dtype))
    }

    /// Whether equal means equal bytes: `f64` does not hold every 64-bit integer.
    fn is_wide_integer(&self) -> bool {
        self.left.dtype == self.right.dtype && matches!(self.left.dtype, Dtype::I64 | Dtype::U64)
    }

    fn is_comparable(&self) -> bool {
        self.left.shape == self.right.shape && value_count(self.left) == value_count(self.right)
    }
}

fn pairs<'h>(left: &'h Header, right: &'h Header) -> Vec<Pair<'h>> {
    let by_name = right.by_name();
    let pair = |(a, info): (usize, &'h TensorInfo)| {
        let b = *by_name.get(info.name.as_str())?;
        let pair = Pair { a, b, left: info, right: &right.tensors[b] };
        pair.is_comparable().then_some(pair)
    };
    left.tensors.iter().enumerate().filter_map(pair).collect()
}

impl Diff {
    /// What the headers alone tell.
    fn of_headers(a: Side, b: Side, left: &Header, right: &Header) -> Self {
        let (in_a, in_b) = (left.by_name(), right.by_name());
        let only = |header: &Header, other: &HashMap<&str, usize>| {
            let mut names: Vec<_> = header
                .tensors
                .iter()
                .filter(|t| !other.contains_key(t.name.as_str()))
                .map(|t| t.name.clone())
                .collect();
            names.sort();
            names
        };
        let mut shape_mismatches: Vec<_> = left
            .tensors
            .iter()
            .filter_map(|t| {
                let other = &right.tensors[*in_b.get(t.name.as_str())?];
                let is_same = t.shape == other.shape && value_count(t) == value_count(other);
                (!is_same).then(|| ShapeMismatch { name: t.name.clone(), a: t.shape.clone(), b: other.shape.clone() })
            })
            .collect();
        shape_mismatches.sort_by(|x, y| x.name.cmp(&y.name));
        Self {
            a,
            b,
            tensors: Vec::new(),
            only_in_a: only(left, &in_b),
            only_in_b: only(right, &in_a),
            shape_mismatches,
            total: TotalDiff::of(&Sums::default()),
            is_equal: false,
            tolerance: None,
            is_within: None,
            outside: Vec::new(),
        }
    }

    /// Sums up, judges, and sorts by damage. The tensors stand in the order of the pairs.
    fn finish(&mut self, pairs: &[Pair<'_>], tolerance: Option<f64>) {
        let mut all = Sums::default();
        for (tensor, pair) in self.tensors.iter().zip(pairs) {
            if is_float(pair.left.dtype) || is_float(pair.right.dtype) {
                all.merge(&tensor.sums);
            }
        }
        self.total = TotalDiff::of(&all);
        self.tensors.sort_by(|x, y| y.relative_error.total_cmp(&x.relative_error).then_with(|| x.name.cmp(&y.name)));
        let unmatched = self.shape_mismatches.iter().map(|m| &m.name).chain(&self.only_in_a).chain(&self.only_in_b);
        let unmatched: Vec<String> = unmatched.cloned().collect();
        self.is_equal = unmatched.is_empty() && self.tensors.iter().all(|t| t.differing == 0);
        self.tolerance = tolerance;
        if let Some(tolerance) = tolerance {
            let exceeds = |t: &&TensorDiff| t.relative_error.is_nan() || t.relative_error > tolerance;
            self.outside = self.tensors.iter().filter(exceeds).map(|t| t.name.clone()).chain(unmatched).collect();
            self.is_within = Some(self.outside.is_empty());
        }
    }
}

fn diff_pairs(
    left: &dyn Tensors,
    right: &dyn Tensors,
    pairs: &[Pair<'_>],
    resources: &Resources<'_>,
) -> Result<Vec<TensorDiff>> {
    let mut blocks = Vec::new();
    let mut bytes = 0;
    for (i, pair) in pairs.iter().enumerate() {
        bytes += pair.left.bytes();
        // Below a byte, rows of the two sides may end at different bits: those are cut as one long row.
        let is_sub_byte = pair.left.dtype.bitsize().min(pair.right.dtype.bitsize()) < 8;
        let flat = TensorInfo::new("", pair.left.dtype, [pair.left.elements()]);
        blocks.extend(cut(i, if is_sub_byte { &flat } else { pair.left }, 1));
    }
    resources.progress.phase("comparing", bytes);
    let mut sums = vec![Sums::default(); pairs.len()];
    let work = |scratch: &mut Scratch, block: &Block| {
        let pair = &pairs[block.tensor];
        read(left, pair.a, block, &mut scratch.bytes_a)?;
        read(right, pair.b, block, &mut scratch.bytes_b)?;
        let is_double = pair.is_double();
        scratch.values_a.read(pair.left.dtype, &scratch.bytes_a, is_double);
        scratch.values_b.read(pair.right.dtype, &scratch.bytes_b, is_double);
        let mut sums = if is_double {
            Sums::of_double(&scratch.values_a.double, &scratch.values_b.double)
        } else {
            Sums::of_single(&scratch.values_a.single, &scratch.values_b.single)
        };
        if pair.is_wide_integer() {
            let (a, b) = (scratch.bytes_a.as_chunks::<8>().0, scratch.bytes_b.as_chunks::<8>().0);
            sums.differing = a.iter().zip(b).filter(|(a, b)| a != b).count() as u64;
        }
        resources.progress.advance(scratch.bytes_a.len() as u64);
        Ok(sums)
    };
    run(&blocks, 2, resources, work, |block, own| sums[block.tensor].merge(&own))?;
    Ok(pairs.iter().zip(sums).map(|(pair, sums)| TensorDiff::of(pair, sums)).collect())
}

#[derive(Default)]
struct Scratch {
    bytes_a: Vec<u8>,
    bytes_b: Vec<u8>,
    values_a: Values,
    values_b: Values,
}

impl TensorDiff {
    fn of(pair: &Pair<'_>, sums: Sums) -> Self {
        Self {
            name: pair.left.name.clone(),
            shape: pair.left.shape.clone(),
            dtype_a: dtype_name(pair.left.dtype),
            dtype_b: dtype_name(pair.right.dtype),
            values: sums.values,
            differing: sums.differing,
            max_error: sums.max_error(),
            relative_error: sums.relative_error(),
            sqnr_db: sums.sqnr_db(),
            cosine: sums.cosine(),
            sparsity_a: sums.share(sums.zeros_a),
            sparsity_b: sums.share(sums.zeros_b),
            nonfinite_equal: sums.nonfinite_equal,
            nonfinite_differing: sums.nonfinite_differing,
            sums,
        }
    }
}

impl TotalDiff {
    fn of(sums: &Sums) -> Self {
        Self {
            values: sums.values,
            differing: sums.differing,
            max_error: sums.max_error(),
            relative_error: sums.relative_error(),
            sqnr_db: sums.sqnr_db(),
            cosine: sums.cosine(),
            sparsity_a: sums.share(sums.zeros_a),
            sparsity_b: sums.share(sums.zeros_b),
        }
    }
}

impl Sums {
    fn merge(&mut self, other: &Self) {
        self.values += other.values;
        self.a2 += other.a2;
        self.b2 += other.b2;
        self.ab += other.ab;
        self.noise += other.noise;
        self.max_error = self.max_error.max(other.max_error);
        self.zeros_a += other.zeros_a;
        self.zeros_b += other.zeros_b;
        self.differing += other.differing;
        self.nonfinite_equal += other.nonfinite_equal;
        self.nonfinite_differing += other.nonfinite_differing;
    }

    fn of_single(a: &[f32], b: &[f32]) -> Self {
        let c = compare(a, b);
        let is_finite = [c.a2, c.b2, c.ab, c.err2, f64::from(c.max_error)].iter().all(|x| x.is_finite());
        // Squares beyond the range of f32, and below it where something differs, are summed in f64.
        let differing = a.iter().zip(b).fold(0u64, |n, (a, b)| n + u64::from(a != b));
        let is_lost = differing > c.nonfinite && c.err2 < f64::from(f32::MIN_POSITIVE);
        if !is_finite || is_lost || c.nonfinite > 0 {
            let widen = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            return Self::of_double(&widen(a), &widen(b));
        }
        Self {
            values: a.len() as u64,
            a2: c.a2,
            b2: c.b2,
            ab: c.ab,
            noise: c.err2,
            max_error: f64::from(c.max_error),
            zeros_a: c.zeros_a,
            zeros_b: c.zeros_b,
            differing,
            nonfinite_equal: 0,
            nonfinite_differing: 0,
        }
    }

    fn of_double(a: &[f64], b: &[f64]) -> Self {
        let mut sums = Self { values: a.len() as u64, ..Self::default() };
        for (&a, &b) in a.iter().zip(b) {
            sums.zeros_a += u64::from(a == 0.0);
            sums.zeros_b += u64::from(b == 0.0);
            if a.is_finite() && b.is_finite() {
                let error = a - b;
                sums.a2 += a * a;
                sums.b2 += b * b;
                sums.ab += a * b;
                sums.noise += error * error;
                sums.max_error = sums.max_error.max(error.abs());
                sums.differing += u64::from(a != b);
            } else if a == b || (a.is_nan() && b.is_nan()) {
                sums.nonfinite_equal += 1;
            } else {
                sums.nonfinite_differing += 1;
                sums.differing += 1;
            }
        }
        sums
    }

    fn max_error(&self) -> f64 {
        if self.nonfinite_differing > 0 { f64::INFINITY } else { self.max_error }
    }

    fn relative_error(&self) -> f64 {
        match self.nonfinite_differing {
            0 => relative_error(self.a2, self.noise),
            _ => f64::INFINITY,
        }
    }

    fn sqnr_db(&self) -> Option<f64> {
        match self.nonfinite_differing {
            0 => sqnr_db(self.a2, self.noise),
            _ => Some(f64::NEG_INFINITY),
        }
    }

    fn cosine(&self) -> Option<f64> {
        let length = self.a2.sqrt() * self.b2.sqrt();
        (length > 0.0).then(|| (self.ab / length).clamp(-1.0, 1.0))
    }

    fn share(&self, zeros: u64) -> f64 {
        zeros as f64 / self.values.max(1) as f64
    }
}
