//! A few rows of a matrix that comes from memory: a bit says of each input whether it has a code, and the codes stand behind
//! each other in order.
//!
//! That is the least memory up to a sparsity of 85 %. A word of 64 bits spreads the codes of 64 inputs over a register, whatever
//! their number: where memory does not decide, [`super::picked`] is faster.
#![allow(unsafe_op_in_unsafe_fn, reason = "kernels' pointers are valid for what was packed: see `multiply`")]
#![allow(clippy::needless_range_loop, reason = "rows are numbers to the registers")]

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::few_rows::FewRows;
use super::set::Set;
use crate::compressed::lines::Lines;
use crate::compressed::sparse::rows::Rows;

/// Inputs of a word.
pub(super) const WORD: usize = 64;

/// Codes of outputs, and where they stand.
#[derive(Debug)]
pub(super) struct Masked {
    /// Words of an output.
    words: usize,
    /// `[outputs][words]`, the first input in the lowest bit.
    masks: Vec<u64>,
    /// The first code of each output.
    start: Vec<usize>,
    /// A line longer than the codes.
    codes: Lines,
}

impl Masked {
    pub(super) fn pack(rows: &Rows<i8>) -> Self {
        let (outputs, words) = (rows.outputs(), rows.inputs.div_ceil(WORD));
        let mut masks = vec![0; outputs * words];
        let (mut start, mut lines, mut at) = (Vec::with_capacity(outputs), Lines::new(rows.nonzeros() + WORD), 0);
        for output in 0..outputs {
            let (places, codes) = rows.of(output);
            start.push(at);
            for &place in places {
                masks[output * words + place as usize / WORD] |= 1_u64 << (place as usize % WORD);
            }
            for (to, code) in lines.bytes_mut()[at..].iter_mut().zip(codes) {
                *to = code.cast_unsigned();
            }
            at += codes.len();
        }
        Self { words, masks, start, codes: lines }
    }

    /// The bytes it takes for so many outputs, inputs and codes.
    pub(super) fn bytes_of(rows: &Rows<i8>) -> usize {
        rows.outputs() * 8 * (rows.inputs.div_ceil(WORD) + 1) + rows.nonzeros()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.masks) + size_of_val(&*self.start) + self.codes.bytes().len()
    }

    pub(super) fn outputs(&self) -> usize {
        self.start.len()
    }

    /// Writes the sums of some outputs. Bytes of rows are 128 above their codes with [`Set::Vbmi`].
    ///
    /// # Safety
    /// Rows are readable for whole words, and sums have room for all outputs of each row, of which nobody else uses these.
    pub(super) unsafe fn multiply(&self, set: Set, outputs: Range<usize>, rows: FewRows) {
        for output in outputs {
            let masks = &self.masks[output * self.words..][..self.words];
            let codes = self.codes.bytes()[self.start[output]..].as_ptr();
            let mut row = 0;
            while row < rows.count {
                let rows = rows.from(row);
                row += match set {
                    #[cfg(target_arch = "x86_64")]
                    Set::Vbmi if rows.count >= 4 => output_vbmi::<4>(masks, codes, output, rows),
                    #[cfg(target_arch = "x86_64")]
                    Set::Vbmi if rows.count >= 2 => output_vbmi::<2>(masks, codes, output, rows),
                    #[cfg(target_arch = "x86_64")]
                    Set::Vbmi => output_vbmi::<1>(masks, codes, output, rows),
                    _ => output_plainly(masks, codes, output, rows),
                };
            }
        }
    }
}

/// The sum of an output for one row, whose bytes are signed codes.
unsafe fn output_plainly(masks: &[u64], codes: *const u8, output: usize, rows: FewRows) -> usize {
    let (mut sum, mut codes) = (0_i32, codes);
    for (word, &mask) in masks.iter().enumerate() {
        let mut left = mask;
        while left != 0 {
            let x = *rows.x.add(word * WORD + left.trailing_zeros() as usize);
            sum = sum.wrapping_add(i32::from(x.cast_signed()) * i32::from((*codes).cast_signed()));
            codes = codes.add(1);
            left &= left - 1;
        }
    }
    *rows.sums.add(output) = sum;
    1
}

/// The sums of an output for `R` rows, whose bytes are 128 above their codes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx512vnni,popcnt,bmi1,bmi2")]
unsafe fn output_vbmi<const R: usize>(masks: &[u64], codes: *const u8, output: usize, rows: FewRows) -> usize {
    // Four sums of each row, so that none waits for the one before it.
    let mut sums = [[_mm512_setzero_si512(); 4]; R];
    let (mut codes, mut x) = (codes, rows.x);
    let (fours, rest) = masks.as_chunks::<4>();
    for masks in fours {
        for at in 0..4 {
            let spread = _mm512_maskz_expand_epi8(masks[at], in_register(_mm512_loadu_si512(codes.cast())));
            codes = codes.add(masks[at].count_ones() as usize);
            for row in 0..R {
                let x = _mm512_loadu_si512(x.add(row * rows.step + at * WORD).cast());
                sums[row][at] = _mm512_dpbusd_epi32(sums[row][at], x, spread);
            }
        }
        x = x.add(4 * WORD);
    }
    for &mask in rest {
        let spread = _mm512_maskz_expand_epi8(mask, in_register(_mm512_loadu_si512(codes.cast())));
        codes = codes.add(mask.count_ones() as usize);
        for row in 0..R {
            let x = _mm512_loadu_si512(x.add(row * rows.step).cast());
            sums[row][0] = _mm512_dpbusd_epi32(sums[row][0], x, spread);
        }
        x = x.add(WORD);
    }
    for row in 0..R {
        let [a, b, c, d] = sums[row];
        let sum = _mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d));
        *rows.sums.add(row * rows.sums_step + output) = _mm512_reduce_add_epi32(sum);
    }
    R
}

/// Keeps a load apart from the instruction that needs it: spread from memory, bytes take several times as long on Zen 5.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn in_register(mut bytes: __m512i) -> __m512i {
    std::arch::asm!("/* {0} */", inout(zmm_reg) bytes, options(pure, nomem, nostack, preserves_flags));
    bytes
}
