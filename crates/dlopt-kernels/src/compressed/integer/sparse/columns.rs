//! Sums of many rows for one output, a row a column: four codes at a time by the bytes of four inputs.
//!
//! The bytes of the four inputs are interleaved, so that those of a row stand beside each other, and multiplied by the four
//! codes in one instruction where the machine has it.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Columns`")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::panel::row_of;

/// Registers of 32-bit sums, one for each row of a panel.
///
/// # Safety
/// Methods may be called only where the instruction set of their type was detected, and pointers must be valid for a panel's
/// width.
pub(super) trait Columns: Copy {
    /// Rows of a panel.
    const WIDTH: usize;

    unsafe fn load(p: *const i32) -> Self;
    unsafe fn store(self, p: *mut i32);
    /// Adds the products of four codes and four inputs of every row: signed bytes, or unsigned ones that are 128 above them
    /// where the set has VNNI.
    unsafe fn add(self, codes: [i8; 4], inputs: [*const u8; 4]) -> Self;
}

/// Plain Rust: sums stay in the order of the columns while they are held.
#[derive(Clone, Copy)]
pub(super) struct Plain([i32; 32]);

impl Columns for Plain {
    const WIDTH: usize = 32;

    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self {
        Self(std::array::from_fn(|column| *p.add(row_of(column, Self::WIDTH))))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32) {
        for (column, sum) in self.0.into_iter().enumerate() {
            *p.add(row_of(column, Self::WIDTH)) = sum;
        }
    }
    #[inline(always)]
    unsafe fn add(mut self, codes: [i8; 4], inputs: [*const u8; 4]) -> Self {
        for (code, input) in codes.into_iter().zip(inputs) {
            let x = (input as *const [i8; 32]).read_unaligned();
            for (sum, x) in self.0.iter_mut().zip(x) {
                *sum += i32::from(i16::from(x) * i16::from(code));
            }
        }
        self
    }
}

/// The quads of four inputs, in four registers.
#[cfg(target_arch = "x86_64")]
macro_rules! interleaved {
    ($rows:expr, $low_8:ident, $high_8:ident, $low_16:ident, $high_16:ident) => {{
        let [a, b, c, d] = $rows;
        let (low, high) = (($low_8(a, b), $low_8(c, d)), ($high_8(a, b), $high_8(c, d)));
        [$low_16(low.0, low.1), $high_16(low.0, low.1), $low_16(high.0, high.1), $high_16(high.0, high.1)]
    }};
}

/// Sixty-four rows: AVX-512 with VNNI.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Wide([__m512i; 4]);

#[cfg(target_arch = "x86_64")]
impl Columns for Wide {
    const WIDTH: usize = 64;

    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self {
        Self([0, 16, 32, 48].map(|at| _mm512_loadu_si512(p.add(at).cast())))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32) {
        for (at, sums) in self.0.into_iter().enumerate() {
            _mm512_storeu_si512(p.add(16 * at).cast(), sums);
        }
    }
    #[inline(always)]
    unsafe fn add(mut self, codes: [i8; 4], inputs: [*const u8; 4]) -> Self {
        let rows = inputs.map(|input| _mm512_loadu_si512(input.cast()));
        let codes = _mm512_set1_epi32(i32::from_le_bytes(codes.map(i8::cast_unsigned)));
        let quads = interleaved!(
            rows,
            _mm512_unpacklo_epi8,
            _mm512_unpackhi_epi8,
            _mm512_unpacklo_epi16,
            _mm512_unpackhi_epi16
        );
        for (sum, quad) in self.0.iter_mut().zip(quads) {
            *sum = _mm512_dpbusd_epi32(*sum, quad, codes);
        }
        self
    }
}

/// Thirty-two rows: AVX-512 with VNNI, or AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Half<const HAS_VNNI: bool>([__m256i; 4]);

#[cfg(target_arch = "x86_64")]
impl<const HAS_VNNI: bool> Columns for Half<HAS_VNNI> {
    const WIDTH: usize = 32;

    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self {
        Self([0, 8, 16, 24].map(|at| _mm256_loadu_si256(p.add(at).cast())))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32) {
        for (at, sums) in self.0.into_iter().enumerate() {
            _mm256_storeu_si256(p.add(8 * at).cast(), sums);
        }
    }
    #[inline(always)]
    unsafe fn add(mut self, codes: [i8; 4], inputs: [*const u8; 4]) -> Self {
        let rows = inputs.map(|input| _mm256_loadu_si256(input.cast()));
        let codes = _mm256_set1_epi32(i32::from_le_bytes(codes.map(i8::cast_unsigned)));
        let quads = interleaved!(
            rows,
            _mm256_unpacklo_epi8,
            _mm256_unpackhi_epi8,
            _mm256_unpacklo_epi16,
            _mm256_unpackhi_epi16
        );
        for (sum, quad) in self.0.iter_mut().zip(quads) {
            *sum = if HAS_VNNI { _mm256_dpbusd_epi32(*sum, quad, codes) } else { add_signed(*sum, quad, codes) };
        }
        self
    }
}

/// Adds the products of each lane's quads of signed bytes, of `x` within -127..=127: codes give their signs away, so that
/// two products, of at most 128 times 127, stay within 16 bits.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn add_signed(sum: __m256i, x: __m256i, codes: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}
