//! Weight sharing: every weight of a tensor becomes one of `2^bits` values, chosen by k-means.
//!
//! The tensor stays dense and keeps its dtype, so every runtime reads it, and the network computes with exactly these values.
//! `dlopt pack` stores such a tensor as a table and places in it. Zeros stay zeros, and are one of the values where there are
//! any. Han, Mao and Dally, 2015, Deep compression, arXiv:1510.00149, section 3.

mod histogram;
mod kmeans;

use std::collections::BTreeSet;
use std::sync::Arc;

use dlopt_checkpoint::{
    Block, Decision, Error, HISTORY_KEY, Header, LayerKind, Note, Output, Partial, Pass, Plan, Result, RowReport,
    Scope, Selection, Step, TensorInfo, Unit, dtype_name, extend_history, is_weight_float,
};
use dlopt_kernels::{Float, first_nonfinite, narrow, widen};
use serde_json::{Value, json};

use crate::encode::cast_unit;
use crate::formats::float;
use crate::layouts::{dlopt, stored_weights};
use histogram::Histogram;

/// Kinds whose weights are shared without being asked for.
const KINDS: [LayerKind; 3] = [LayerKind::Linear, LayerKind::Convolution, LayerKind::Recurrent];
/// Bits of a place in the table, unless others are asked for: what Han et al. need for dense layers.
pub const SHARED_BITS: u32 = 5;

/// The pass that makes weights share values.
#[derive(Clone, Debug)]
pub struct Share {
    bits: u32,
    /// Which tensors.
    pub selection: Selection,
}

/// The values of a tensor, ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Codebook {
    values: Vec<f32>,
    /// Between neighbouring values, where the nearest changes.
    between: Vec<f32>,
}

impl Codebook {
    /// The best values for some weights, which are finite; at most `2^bits` of them.
    pub fn of(weights: &[f32], bits: u32) -> Self {
        // What is shared already stays to the bit.
        let mut distinct = BTreeSet::new();
        for weight in weights {
            distinct.insert(if *weight == 0.0 { 0 } else { ordered(*weight) });
            if distinct.len() > 1 << bits {
                break;
            }
        }
        if distinct.len() <= 1 << bits {
            return Self::from_values(distinct.into_iter().map(unordered).collect());
        }
        let mut histogram = Histogram::new();
        histogram.add(weights);
        Self::from_histogram(&histogram, bits)
    }

    fn from_histogram(histogram: &Histogram, bits: u32) -> Self {
        let (zeros, points) = histogram.points();
        let mut values: Vec<f32> =
            kmeans::values(&points, 1 << bits, zeros > 0).into_iter().map(|value| value as f32).collect();
        values.dedup();
        Self::from_values(values)
    }

    fn from_values(values: Vec<f32>) -> Self {
        let between = values.windows(2).map(|two| two[0] + (two[1] - two[0]) / 2.0).collect();
        Self { values, between }
    }

    /// The values, ascending.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Which of the values a weight becomes: the nearest; zero where it is zero.
    pub fn place(&self, weight: f32) -> usize {
        let place = self.between.partition_point(|between| *between < weight);
        if weight == 0.0 && self.values[place] != 0.0 {
            // Zero is a value where there are zeros; it may not be the nearest to itself after rounding.
            self.values.iter().position(|value| *value == 0.0).unwrap_or(place)
        } else {
            place
        }
    }
}

/// A number whose order is that of the float, and back; 0 for zero.
fn ordered(x: f32) -> i32 {
    let bits = x.to_bits().cast_signed();
    if bits < 0 { i32::MIN - bits } else { bits }
}

fn unordered(order: i32) -> f32 {
    let bits = if order < 0 { i32::MIN - order } else { order };
    f32::from_bits(bits.cast_unsigned())
}

impl Share {
    /// At most `2^bits` values a tensor, 1 to 8 bits.
    ///
    /// # Errors
    /// When there are other bits.
    pub fn new(bits: u32) -> Result<Self> {
        if !(1..=8).contains(&bits) {
            return Err(Error::usage(format!("{bits} bits of a codebook are not in 1..=8")));
        }
        Ok(Self { bits, selection: Selection::default() })
    }

    fn skip(&self, tensor: &TensorInfo) -> Option<String> {
        if !is_weight_float(tensor.dtype) || float(tensor.dtype).is_none() {
            Some(format!("is {}", dtype_name(tensor.dtype)))
        } else if tensor.shape.len() < 2 {
            Some("has one dimension".to_owned())
        } else if tensor.elements() <= 1 << self.bits {
            Some("has no more weights than there would be values".to_owned())
        } else {
            None
        }
    }
}

/// Floats by the key of a unit.
const FROM: [Float; 4] = [Float::F32, Float::F16, Float::BF16, Float::F64];

impl Pass for Share {
    fn verb(&self) -> &'static str {
        "quantize"
    }

    fn options(&self) -> Value {
        let globs =
            |globs: &[dlopt_checkpoint::NameGlob]| globs.iter().map(|g| g.text().to_owned()).collect::<Vec<_>>();
        json!({
            "scheme": "codebook",
            "bits": self.bits,
            "include": globs(&self.selection.include),
            "exclude": globs(&self.selection.exclude),
            "tied": if self.selection.change_tied { "both" } else { "skip" },
        })
    }

    fn plan(&self, input: &Header) -> Result<Plan> {
        let mut parts = dlopt::part_names(input)?;
        for stored in stored_weights(input)? {
            parts.extend(stored.parts.all().map(|at| input.tensors[at].name.clone()));
        }
        let choices = self.selection.choose(input, &KINDS)?;
        let mut plan = Plan { metadata: input.metadata.clone(), ..Plan::default() };
        for (at, (tensor, choice)) in input.tensors.iter().zip(choices).enumerate() {
            let of_a_part = || parts.contains(&tensor.name).then(|| "part of a compressed weight".to_owned());
            let skipped = choice.skipped.or_else(of_a_part).or_else(|| self.skip(tensor));
            let (action, reason) = match (skipped, float(tensor.dtype)) {
                (None, Some(from)) => {
                    let key = FROM.iter().position(|f| *f == from).unwrap_or(0);
                    plan.units.push(Unit { scope: Scope::Unit, ..cast_unit(at, tensor, tensor.dtype, key) });
                    (format!("{} values", 1 << self.bits), "selected".to_owned())
                }
                (reason, _) => {
                    plan.units.push(Unit::copy(at, tensor));
                    ("skipped".to_owned(), reason.unwrap_or_default())
                }
            };
            let kind = choice.layer.kind.label().to_owned();
            plan.notes.push(Note { tensor: tensor.name.clone(), kind, action, reason });
        }
        plan.metadata.insert(HISTORY_KEY.to_owned(), extend_history(input, self.verb(), self.options())?);
        Ok(plan)
    }

    fn begin(&self, _so_far: Option<&Decision>) -> Partial {
        Box::new(Histogram::new())
    }

    fn survey(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        _so_far: Option<&Decision>,
        partial: &mut Partial,
    ) -> Result<()> {
        let from = FROM[unit.key % FROM.len()];
        let bytes = block.inputs[0];
        if let Some(at) = first_nonfinite(from, bytes) {
            let in_rows = bytes.len() / block.rows.len().max(1) / from.bytes();
            let index = block.rows.start * in_rows + at;
            return Err(Error::input(format!("tensor `{}` holds NaN or infinity at index {index}", unit.name))
                .hint("no codebook has a place for it: `dlopt inspect --stats` shows where it comes from"));
        }
        let mut x = vec![0.0; bytes.len() / from.bytes()];
        widen(from, bytes, &mut x);
        if let Some(seen) = partial.downcast_mut::<Histogram>() {
            seen.add(&x);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Partial, from: Partial) {
        if let (Some(into), Ok(from)) = (into.downcast_mut::<Histogram>(), from.downcast::<Histogram>()) {
            into.merge(&from);
        }
    }

    fn decide(&self, _units: &[(usize, &Unit)], _so_far: Option<&Decision>, all: Partial) -> Result<Step> {
        let seen = all.downcast::<Histogram>();
        let seen = seen.map_err(|_| Error::input("a survey came back without what it saw"))?;
        Ok(Step::Done(Arc::new(Codebook::from_histogram(&seen, self.bits))))
    }

    fn apply(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        decision: Option<&Decision>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let codebook = decision.and_then(|decision| decision.downcast_ref::<Codebook>());
        let codebook = codebook.ok_or_else(|| Error::input("a codebook was not decided"))?;
        let from = FROM[unit.key % FROM.len()];
        let row_bytes = crate::encode::CAST_ROW * from.bytes();
        let rows = block.inputs[0].chunks(row_bytes).zip(output.parts[0].chunks_mut(row_bytes));
        let (mut x, mut shared) = (Vec::new(), Vec::new());
        for (bytes, out) in rows {
            x.resize(bytes.len() / from.bytes(), 0.0);
            widen(from, bytes, &mut x);
            shared.clear();
            shared.extend(x.iter().map(|x| codebook.values[codebook.place(*x)]));
            narrow(from, &shared, out);
            widen(from, out, &mut shared);
            output.report.push(report(&x, &shared));
        }
        Ok(())
    }
}

/// What became of some weights.
fn report(before: &[f32], after: &[f32]) -> RowReport {
    let mut report = RowReport { weights: before.len() as u64, ..RowReport::default() };
    for (&before, &after) in before.iter().zip(after) {
        let change = after - before;
        report.zeros_before += u64::from(before == 0.0);
        report.zeros_after += u64::from(after == 0.0);
        report.signal += f64::from(before) * f64::from(before);
        report.noise += f64::from(change) * f64::from(change);
        report.max_error = report.max_error.max(change.abs());
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(len: usize, zero_every: usize) -> Vec<f32> {
        let value = |i: usize| if i.is_multiple_of(zero_every) { 0.0 } else { (i as f32 * 12.9898).sin() * 0.3 };
        (0..len).map(value).collect()
    }

    #[test]
    fn zeros_stay_and_every_weight_takes_the_nearest_value() {
        let x = weights(5000, 3);
        let codebook = Codebook::of(&x, 4);
        assert_eq!(codebook.values().len(), 16);
        for &x in &x {
            let value = codebook.values()[codebook.place(x)];
            let nearest = codebook.values().iter().fold(f32::INFINITY, |best, v| best.min((x - v).abs()));
            assert!((value - x).abs() <= nearest * 1.0001, "{x} {value}");
            assert!(x != 0.0 || value == 0.0);
        }
    }

    #[test]
    fn what_is_shared_already_stays_as_it_is() {
        let x: Vec<f32> = (0..900).map(|i| [0.0, -0.5, 0.125, 0.3, 0.300_000_1, 7.0][i % 6]).collect();
        let codebook = Codebook::of(&x, 3);
        assert_eq!(codebook.values(), [-0.5, 0.0, 0.125, 0.3, 0.300_000_1, 7.0]);
        assert!(x.iter().all(|&x| codebook.values()[codebook.place(x)] == x));
    }

    #[test]
    fn other_bits_are_refused() {
        assert!(Share::new(0).is_err() && Share::new(9).is_err());
    }
}
