//! Eight lanes: AVX2, FMA and F16C.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`")]

use std::arch::x86_64::*;

use super::registers::{BLOCK, Integers};
use super::unit::Plain;
use crate::nn::simd::Y;

/// Eight 32-bit integers.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256i);

#[inline(always)]
unsafe fn spread(x: *const u8) -> __m256i {
    _mm256_set1_epi32((x as *const i32).read_unaligned())
}

impl Integers for Avx2 {
    type Floats = Y;
    /// Pairs of products, in 16 bits: at most `8 * 2 * 15 * 127` in magnitude.
    type Partial = __m256i;
    type Unit = Plain;
    const N: usize = 8;
    const IS_WIDE: bool = true;
    const PANELS: usize = 1;
    const ROWS: usize = 6;
    const SMALL_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        Avx2(_mm256_set1_epi32(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        Avx2(_mm256_loadu_si256(p as *const __m256i))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        _mm256_storeu_si256(p as *mut __m256i, self.0)
    }
    #[inline(always)]
    unsafe fn add(self, o: Self) -> Self {
        Avx2(_mm256_add_epi32(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn sub(self, o: Self) -> Self {
        Avx2(_mm256_sub_epi32(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn sub_8(self, o: Self) -> Self {
        Avx2(_mm256_sub_epi8(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn sub_16(self, o: Self) -> Self {
        Avx2(_mm256_sub_epi16(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn mul(self, o: Self) -> Self {
        Avx2(_mm256_mullo_epi32(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn max(self, o: Self) -> Self {
        Avx2(_mm256_max_epi32(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn and(self, o: Self) -> Self {
        Avx2(_mm256_and_si256(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn shift_right_16<const K: u32>(self) -> Self {
        Avx2(_mm256_srl_epi16(self.0, _mm_cvtsi32_si128(K as i32)))
    }
    #[inline(always)]
    unsafe fn to_floats(self) -> Y {
        Y(_mm256_cvtepi32_ps(self.0))
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const i8) -> Self {
        Avx2(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p as *const __m128i)))
    }
    #[inline(always)]
    unsafe fn load_halves(p: *const u16) -> Y {
        Y(_mm256_cvtph_ps(_mm_loadu_si128(p as *const __m128i)))
    }
    #[inline(always)]
    unsafe fn dot(self, weights: Self, x: *const u8) -> Self {
        let even = _mm256_and_si256(weights.0, _mm256_set1_epi16(0xff));
        let odd = _mm256_srli_epi16::<8>(weights.0);
        let sum = _mm256_add_epi32(self.0, _mm256_madd_epi16(even, spread(x)));
        Avx2(_mm256_add_epi32(sum, _mm256_madd_epi16(odd, spread(x.add(4)))))
    }
    #[inline(always)]
    unsafe fn dot_pairs(self, weights: Self, x: *const u8) -> Self {
        Avx2(_mm256_add_epi32(self.0, _mm256_madd_epi16(weights.0, spread(x))))
    }
    #[inline(always)]
    unsafe fn begin(self) -> __m256i {
        _mm256_setzero_si256()
    }
    #[inline(always)]
    unsafe fn step(sum: __m256i, weights: Self, x: *const u8) -> __m256i {
        _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights.0, spread(x)))
    }
    #[inline(always)]
    unsafe fn settle(self, sum: __m256i) -> Self {
        Avx2(_mm256_add_epi32(self.0, _mm256_madd_epi16(sum, _mm256_set1_epi16(1))))
    }
    #[inline(always)]
    unsafe fn quantize(x: *const f32, factor: f32, codes: *mut i8) {
        let (factor, limit) = (_mm256_set1_ps(factor), _mm256_set1_ps(127.0));
        let mut rounded = [_mm256_setzero_si256(); 4];
        for (i, rounded) in rounded.iter_mut().enumerate() {
            let scaled = _mm256_mul_ps(_mm256_loadu_ps(x.add(8 * i)), factor);
            let kept = _mm256_max_ps(_mm256_min_ps(scaled, limit), _mm256_sub_ps(_mm256_setzero_ps(), limit));
            *rounded = _mm256_cvtps_epi32(kept);
        }
        let (low, high) = (_mm256_packs_epi32(rounded[0], rounded[1]), _mm256_packs_epi32(rounded[2], rounded[3]));
        // Packing works on halves of 128 bits: their quads lie in the order 0 2 4 6, 1 3 5 7.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let packed = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
        _mm256_storeu_si256(codes as *mut __m256i, packed);
    }
    #[inline(always)]
    unsafe fn sum(codes: *const i8, blocks: usize) -> i32 {
        let mut quads = _mm256_setzero_si256();
        for block in 0..blocks {
            let codes = _mm256_loadu_si256(codes.add(block * BLOCK) as *const __m256i);
            let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
            quads = _mm256_add_epi32(quads, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
        let four = _mm_add_epi32(_mm256_castsi256_si128(quads), _mm256_extracti128_si256::<1>(quads));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
    }
    #[inline(always)]
    unsafe fn widen(codes: *const i8, to: *mut u8) {
        let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
        for half in 0..2 {
            let wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(codes.add(16 * half) as *const __m128i));
            _mm256_storeu_si256(to.add(32 * half) as *mut __m256i, _mm256_shuffle_epi8(wide, order));
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(p as *const i8)
    }
}
