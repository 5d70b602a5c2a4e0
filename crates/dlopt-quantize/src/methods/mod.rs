//! How scales and zero points are chosen for weights that share them.
//!
//! To add one: a file here with a `METHOD` static, and a line in [`METHODS`].
//!
//! Scales are stored in the weight's own dtype and codes follow from the stored scale, so what a method minimises is
//! the error a loader will see (before it rounds the product `(code - zero) * scale`).

mod absmax;
mod mse;
mod rtn;

use std::fmt;

use dlopt_kernels::{Float, group_extremes};

use crate::Plugin;
use crate::formats::{Format, Row, rounded};

/// Every method, in the order of help texts.
pub static METHODS: &[&dyn Method] = &[&rtn::METHOD, &absmax::METHOD, &mse::METHOD];

/// The method of this name.
pub fn method_named(name: &str) -> Option<&'static dyn Method> {
    METHODS.iter().copied().find(|m| m.plugin().name.eq_ignore_ascii_case(name))
}

/// A way to choose scales.
pub trait Method: Sync {
    /// Its row in the tables.
    fn plugin(&self) -> Plugin;

    /// Whether it looks for less error than the plain method makes, and so reports both.
    fn searches(&self) -> bool;

    /// Chooses the scale and zero point of each group of a tile.
    fn choose(&self, tile: &Tile<'_>, scales: &mut Scales);

    /// Pairs to try for a whole tensor with these extremes; the first one is the plain method's.
    fn candidates(&self, encoding: &Encoding, low: f32, high: f32) -> Vec<Pair>;
}

impl fmt::Debug for dyn Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plugin().name)
    }
}

/// A scale and its zero point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Positive, a value of the type it is stored in.
    pub scale: f32,
    /// A code; 0 when symmetric.
    pub zero: f32,
}

/// How weights become codes.
#[derive(Clone, Copy, Debug)]
pub struct Encoding {
    /// What codes are.
    pub format: &'static dyn Format,
    /// Bits of a code.
    pub bits: u32,
    /// Whether all zero points are 0.
    pub is_symmetric: bool,
    /// The type that scales are stored in.
    pub stored: Float,
}

impl Encoding {
    /// Scale and zero point for weights in `low..=high`, which holds 0; computed in f32 and rounded once, when stored.
    ///
    /// ```text
    /// symmetric    scale = max(-low, high) / ((qmax - qmin) / 2)
    /// asymmetric   scale = (high - low) / (qmax - qmin),  zero = round(clamp(qmin - low / scale, qmin, qmax))
    /// ```
    /// A scale of 0 becomes the machine epsilon of its type.
    pub fn pair(&self, low: f32, high: f32) -> Pair {
        let range = self.format.range(self.bits);
        let steps = range.qmax - range.qmin;
        if self.is_symmetric {
            let scale = rounded(self.stored, (-low).max(high) / (steps / 2.0));
            return Pair { scale: self.positive(scale), zero: 0.0 };
        }
        let span = high - low;
        // A span beyond f32 is divided end by end.
        let scale = if span.is_finite() { span / steps } else { high / steps - low / steps };
        let scale = rounded(self.stored, scale);
        let zero = (range.qmin - low / scale).clamp(range.qmin, range.qmax);
        Pair { scale: self.positive(scale), zero: whole(zero) }
    }

    /// Symmetric: the scale at which the largest magnitude is the largest code, `max(-low, high) / qmax`.
    fn unclipped_pair(&self, low: f32, high: f32) -> Pair {
        let scale = rounded(self.stored, (-low).max(high) / self.format.range(self.bits).qmax);
        Pair { scale: self.positive(scale), zero: 0.0 }
    }

    /// As [`Encoding::pair`] with every step rounded to the type of the weights, as compressed-tensors computes it. Differs from
    /// [`Encoding::pair`] for asymmetric 16-bit weights only; `None` where a step overflows.
    fn stepwise_pair(&self, low: f32, high: f32) -> Option<Pair> {
        if self.is_symmetric || matches!(self.stored, Float::F32 | Float::F64) {
            return None;
        }
        let round = |x| rounded(self.stored, x);
        let range = self.format.range(self.bits);
        let scale = round(round(high - low) / round(range.qmax - range.qmin));
        let zero = round(range.qmin - round(low / scale)).clamp(range.qmin, range.qmax);
        scale.is_finite().then(|| Pair { scale: self.positive(scale), zero: whole(zero) })
    }

    fn positive(&self, scale: f32) -> f32 {
        match (scale == 0.0, self.stored) {
            (false, _) => scale,
            (true, Float::BF16) => f32::powi(2.0, -7),
            (true, Float::F16) => f32::powi(2.0, -10),
            (true, Float::F32 | Float::F64) => f32::EPSILON,
        }
    }
}

/// The nearest integer, ties to even; 0 for the 0 / 0 of an empty range.
fn whole(zero: f32) -> f32 {
    if zero.is_nan() { 0.0 } else { zero.round_ties_even() }
}

/// Rows that share their scales: one row, or as many as a block of scales is high.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a> {
    /// Weights `[height, columns]`.
    pub x: &'a [f32],
    /// Weights of a row.
    pub columns: usize,
    /// Columns that share a scale; the last group may be short.
    pub group: usize,
    /// How they become codes.
    pub encoding: &'a Encoding,
}

impl Tile<'_> {
    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.columns.div_ceil(self.group)
    }

    /// Smallest and largest weight of each group, 0 included.
    fn extremes(&self, low: &mut Vec<f32>, high: &mut Vec<f32>, spare: &mut Spare) {
        let groups = self.groups();
        low.clear();
        low.resize(groups, 0.0);
        high.clear();
        high.resize(groups, 0.0);
        if self.x.len() == self.columns {
            return group_extremes(self.x, self.group, low, high);
        }
        spare.a.resize(groups, 0.0);
        spare.b.resize(groups, 0.0);
        for x in self.x.chunks(self.columns) {
            group_extremes(x, self.group, &mut spare.a, &mut spare.b);
            low.iter_mut().zip(&spare.a).for_each(|(low, x)| *low = low.min(*x));
            high.iter_mut().zip(&spare.b).for_each(|(high, x)| *high = high.max(*x));
        }
    }

    /// Squared error of each group under these scales.
    fn errors(&self, scale: &[f32], zero: &[f32], errors: &mut Vec<f32>, spare: &mut Spare) {
        let Encoding { format, bits, .. } = *self.encoding;
        let group = self.group;
        errors.resize(scale.len(), 0.0);
        if self.x.len() == self.columns {
            return format.error(&Row { x: self.x, group, scale, zero, bits }, errors);
        }
        spare.a.resize(scale.len(), 0.0);
        spare.sums.clear();
        spare.sums.resize(scale.len(), 0.0);
        for x in self.x.chunks(self.columns) {
            format.error(&Row { x, group, scale, zero, bits }, &mut spare.a);
            spare.sums.iter_mut().zip(&spare.a).for_each(|(sum, error)| *sum += f64::from(*error));
        }
        errors.iter_mut().zip(&spare.sums).for_each(|(error, sum)| *error = *sum as f32);
    }
}

#[derive(Debug, Default)]
struct Spare {
    a: Vec<f32>,
    b: Vec<f32>,
    sums: Vec<f64>,
}

/// The scales of a tile, and room that is kept between tiles.
#[derive(Debug, Default)]
pub struct Scales {
    /// One for each group.
    pub scale: Vec<f32>,
    /// One for each group; empty when symmetric.
    pub zero: Vec<f32>,
    /// Squared error of each group, where the method measures it; else empty.
    pub error: Vec<f32>,
    /// The same under the plain method.
    pub plain_error: Vec<f32>,
    low: Vec<f32>,
    high: Vec<f32>,
    ratio: Vec<f32>,
    center: Vec<f32>,
    trial: Trial,
    spare: Spare,
}

/// Scales that may turn out better.
#[derive(Debug, Default)]
struct Trial {
    scale: Vec<f32>,
    zero: Vec<f32>,
    error: Vec<f32>,
}

impl Trial {
    fn clear(&mut self) {
        self.scale.clear();
        self.zero.clear();
    }

    fn push(&mut self, pair: Pair, is_symmetric: bool) {
        self.scale.push(pair.scale);
        if !is_symmetric {
            self.zero.push(pair.zero);
        }
    }
}

impl Scales {
    /// Keeps the trial's pair wherever its error is smaller. Errors of both must be known.
    fn keep_better(&mut self, mut kept: impl FnMut(usize)) {
        for g in 0..self.scale.len() {
            if self.trial.error[g] < self.error[g] {
                self.error[g] = self.trial.error[g];
                self.scale[g] = self.trial.scale[g];
                if let Some(zero) = self.zero.get_mut(g) {
                    *zero = self.trial.zero[g];
                }
                kept(g);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::format_named;

    fn encoding(format: &str, bits: u32, is_symmetric: bool, stored: Float) -> Encoding {
        Encoding { format: format_named(format).unwrap(), bits, is_symmetric, stored }
    }

    #[test]
    fn pairs_worked_by_hand() {
        let int4 = encoding("pack-quantized", 4, true, Float::F32);
        assert_eq!(int4.pair(-1.5, 0.75), Pair { scale: 0.2, zero: 0.0 });
        let asymmetric = Encoding { is_symmetric: false, ..int4 };
        // (4 - -1) / 15; -8 + 1 / (1/3) = -5.
        assert_eq!(asymmetric.pair(-1.0, 4.0), Pair { scale: 5.0 / 15.0, zero: -5.0 });
        assert_eq!(asymmetric.pair(0.0, 0.0), Pair { scale: f32::EPSILON, zero: 0.0 });
        let fp8 = encoding("float-quantized", 8, true, Float::BF16);
        assert_eq!(fp8.pair(0.0, 896.0).scale, 2.0);
        assert_eq!(fp8.pair(0.0, 0.0).scale, 2f32.powi(-7));
    }

    #[test]
    fn a_span_beyond_the_type_still_has_a_finite_scale() {
        let f32s = encoding("pack-quantized", 4, false, Float::F32);
        assert!(f32s.pair(f32::MIN, f32::MAX).scale.is_finite());
        let f16s = encoding("pack-quantized", 4, false, Float::F16);
        assert!(f16s.pair(-65504.0, 65504.0).scale.is_finite());
        assert_eq!(f16s.stepwise_pair(-65504.0, 65504.0), None);
    }
}
