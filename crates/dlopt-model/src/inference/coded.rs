//! The codes of a matrix, which stay in their file until they are packed: one block of rows is in memory at a time.

use dlopt_checkpoint::{Result, Tensors};
use dlopt_quantize::{Coded, StoredWeight};

use super::fold::Factors;
use super::source::by_pixels;

/// A matrix `[outputs, inputs]` of codes.
pub(super) struct CodedMatrix<'a> {
    pub(super) weight: &'a StoredWeight,
    from: &'a dyn Tensors,
    /// `[outputs, groups]`.
    pub(super) scale: Vec<f32>,
    /// `[outputs, groups]`, or empty where all are 0.
    pub(super) zero: Vec<i8>,
    /// Whether the codes of a row change their sign; empty where none do.
    turned: Vec<bool>,
    /// Pixels and channels that change places in every row.
    order: Option<[usize; 2]>,
    /// Values that are 0.
    pub(super) zeros: usize,
}

impl<'a> CodedMatrix<'a> {
    /// Reads scales, and looks at every code once; a norm behind the layer goes into the scales.
    ///
    /// # Errors
    /// When codes or scales cannot be had or are out of range.
    pub(super) fn read(weight: &'a StoredWeight, from: &'a dyn Tensors, factors: Option<&Factors>) -> Result<Self> {
        let [outputs, inputs] = weight.extents();
        let groups = inputs.div_ceil(weight.group());
        let scale = Vec::with_capacity(outputs * groups);
        let (turned, order) = (Vec::new(), None);
        let mut this = Self { weight, from, scale, zero: Vec::new(), turned, order, zeros: 0 };
        let least = (-1_i32 << (weight.bits() - 1)) as i8;
        let mut turns = Vec::new();
        for rows in weight.blocks() {
            let Coded { codes, scale, zero } = weight.read_rows(from, rows)?;
            for (row, codes) in codes.chunks_exact(inputs).enumerate() {
                let zero = zero.get(row * groups..(row + 1) * groups).unwrap_or_default();
                this.zeros += this.zeros_of(codes, zero);
                if factors.is_some() {
                    // One code has no counterpart.
                    turns.push(!codes.contains(&least) && !zero.contains(&least));
                }
            }
            this.scale.extend(scale);
            this.zero.extend(zero);
        }
        if let Some(factors) = factors {
            factors.scale_rows(&mut this.scale);
            if weight.is_integer() {
                this.turned = make_positive(&mut this.scale, &mut this.zero, turns);
            }
        }
        Ok(this)
    }

    /// How many values of a row are 0.
    fn zeros_of(&self, codes: &[i8], zero: &[i8]) -> usize {
        let group = self.weight.group();
        let is_integer = self.weight.is_integer();
        let count = |zero: i8, codes: &[i8]| {
            // Of FP8 both zeros count.
            codes.iter().filter(|code| if is_integer { **code == zero } else { **code & 0x7f == 0 }).count()
        };
        let each = codes.chunks(group).enumerate();
        each.map(|(at, codes)| count(zero.get(at).copied().unwrap_or(0), codes)).sum()
    }

    /// Whether inputs share one scale, so that they may change places.
    pub(super) fn may_reorder(&self) -> bool {
        self.weight.group() >= self.weight.extents()[1]
    }

    /// Lets pixels and channels change places in every row.
    pub(super) fn reorder(&mut self, pixels: usize, channels: usize) {
        self.order = Some([pixels, channels]);
    }

    /// Calls `pack` with what writes the codes of a row, to be called once for each, in order.
    ///
    /// # Errors
    /// When codes cannot be had any more.
    pub(super) fn with_rows<R>(&self, pack: impl FnOnce(&mut dyn FnMut(usize, &mut [i8])) -> R) -> Result<R> {
        let inputs = self.weight.extents()[1];
        let (mut blocks, mut first, mut codes, mut fault) = (self.weight.blocks(), 0, Vec::new(), None);
        let mut write = |row: usize, to: &mut [i8]| {
            while fault.is_none() && (row - first) * inputs >= codes.len() {
                let Some(rows) = blocks.next() else { break };
                first = rows.start;
                match self.weight.read_rows(self.from, rows) {
                    Ok(coded) => codes = coded.codes,
                    Err(e) => fault = Some(e),
                }
            }
            let Some(own) = codes.get((row - first) * inputs..(row - first + 1) * inputs) else { return };
            to.copy_from_slice(own);
            if self.turned.get(row) == Some(&true) {
                to.iter_mut().for_each(|code| *code = -*code);
            }
            if let Some([pixels, channels]) = self.order {
                by_pixels(to, inputs, pixels, channels);
            }
        };
        let packed = pack(&mut write);
        fault.map_or(Ok(packed), Err)
    }
}

/// Turns the signs of rows whose scales became negative, as kernels want them positive, where `turns` says that their codes
/// can follow. Says of which rows they must.
fn make_positive(scale: &mut [f32], zero: &mut [i8], mut turns: Vec<bool>) -> Vec<bool> {
    let groups = scale.len() / turns.len().max(1);
    for (row, (turns, scale)) in turns.iter_mut().zip(scale.chunks_exact_mut(groups.max(1))).enumerate() {
        *turns &= scale.iter().any(|scale| *scale < 0.0);
        if *turns {
            let zero = zero.get_mut(row * groups..(row + 1) * groups).unwrap_or_default();
            scale.iter_mut().for_each(|scale| *scale = -*scale);
            zero.iter_mut().for_each(|zero| *zero = -*zero);
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_negative_scales_turn_their_signs_where_they_can() {
        let (mut scale, mut zero) = (vec![-0.5, -0.25, 2.0], vec![2, 1, -3]);
        assert_eq!(make_positive(&mut scale, &mut zero, vec![true, false, true]), [true, false, false]);
        assert_eq!((scale, zero), (vec![0.5, -0.25, 2.0], vec![-2, 1, -3]));
    }
}
