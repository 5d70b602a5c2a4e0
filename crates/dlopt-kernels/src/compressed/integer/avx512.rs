//! Sixteen lanes: AVX-512 with VNNI, beside tiles or without them.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`")]

use std::arch::x86_64::*;

use super::amx::Tiles;
use super::registers::{BLOCK, Integers};
use crate::nn::simd::Z;

/// Sixteen 32-bit integers.
#[derive(Clone, Copy)]
pub(super) struct Vnni<const HAS_TILES: bool>(__m512i);

impl<const HAS_TILES: bool> Integers for Vnni<HAS_TILES> {
    type Floats = Z;
    type Partial = __m512i;
    type Unit = Tiles;
    const N: usize = 16;
    const IS_WIDE: bool = false;
    const HAS_TILES: bool = HAS_TILES;
    const PANELS: usize = 4;
    const ROWS: usize = 6;
    const SMALL_ROWS: usize = 3;

    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        Self(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        Self(_mm512_loadu_si512(p as *const __m512i))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        _mm512_storeu_si512(p as *mut __m512i, self.0)
    }
    #[inline(always)]
    unsafe fn add(self, o: Self) -> Self {
        Self(_mm512_add_epi32(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn sub(self, o: Self) -> Self {
        Self(_mm512_sub_epi32(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn sub_8(self, o: Self) -> Self {
        Self(_mm512_sub_epi8(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn sub_16(self, o: Self) -> Self {
        Self(_mm512_sub_epi16(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn mul(self, o: Self) -> Self {
        Self(_mm512_mullo_epi32(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn max(self, o: Self) -> Self {
        Self(_mm512_max_epi32(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn and(self, o: Self) -> Self {
        Self(_mm512_and_si512(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn shift_right_16<const K: u32>(self) -> Self {
        Self(_mm512_srli_epi16::<K>(self.0))
    }
    #[inline(always)]
    unsafe fn to_floats(self) -> Z {
        Z(_mm512_cvtepi32_ps(self.0))
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const i8) -> Self {
        Self(_mm512_cvtepi8_epi32(_mm_loadu_si128(p as *const __m128i)))
    }
    #[inline(always)]
    unsafe fn load_halves(p: *const u16) -> Z {
        Z(_mm512_cvtph_ps(_mm256_loadu_si256(p as *const __m256i)))
    }
    #[inline(always)]
    unsafe fn dot(self, weights: Self, x: *const u8) -> Self {
        Self(_mm512_dpbusd_epi32(self.0, weights.0, _mm512_set1_epi32((x as *const i32).read_unaligned())))
    }
    #[inline(always)]
    unsafe fn dot_pairs(self, weights: Self, x: *const u8) -> Self {
        let products = _mm512_madd_epi16(weights.0, _mm512_set1_epi32((x as *const i32).read_unaligned()));
        Self(_mm512_add_epi32(self.0, products))
    }
    #[inline(always)]
    unsafe fn begin(self) -> __m512i {
        self.0
    }
    #[inline(always)]
    unsafe fn step(sum: __m512i, weights: Self, x: *const u8) -> __m512i {
        Self(sum).dot(weights, x).0
    }
    #[inline(always)]
    unsafe fn settle(self, sum: __m512i) -> Self {
        Self(sum)
    }
    #[inline(always)]
    unsafe fn quantize(x: *const f32, factor: f32, codes: *mut i8) {
        let (factor, most, least) = (_mm512_set1_ps(factor), _mm512_set1_ps(127.0), _mm512_set1_ps(-127.0));
        for at in [0, 16] {
            let scaled = _mm512_mul_ps(_mm512_loadu_ps(x.add(at)), factor);
            let code = _mm512_cvtps_epi32(_mm512_max_ps(_mm512_min_ps(scaled, most), least));
            _mm_storeu_si128(codes.add(at) as *mut __m128i, _mm512_cvtepi32_epi8(code));
        }
    }
    #[inline(always)]
    unsafe fn sum(codes: *const i8, blocks: usize) -> i32 {
        let ones = _mm256_set1_epi8(1);
        let mut sum = _mm256_setzero_si256();
        for block in 0..blocks {
            let codes = _mm256_loadu_si256(codes.add(block * BLOCK) as *const __m256i);
            sum = _mm256_dpbusd_epi32(sum, ones, codes);
        }
        _mm512_reduce_add_epi32(_mm512_zextsi256_si512(sum))
    }
    #[inline(always)]
    unsafe fn widen(codes: *const i8, to: *mut u8) {
        let order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
        let wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256(codes as *const __m256i));
        _mm512_storeu_si512(to as *mut __m512i, _mm512_shuffle_epi8(wide, order));
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(p as *const i8)
    }
}
