//! Registers of `f32` and of 32-bit words: what it takes to decode weights, one type for each instruction set.
//!
//! The portable type has the sixteen lanes of AVX-512, so the shape of those loops is tested where there is none.
//!
//! # Safety
//! Methods may be called only where the instruction set of their type was detected, and pointers must be valid for the
//! lanes that are read or written. Functions that are generic over [`Register`] pass both duties on to their callers.
#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract, stated above")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::element::from_f16;

/// A register of `LANES` floats. Every method is `inline(always)`, so that it ends in a function that has the feature.
pub(super) trait Register: Copy {
    const LANES: usize;
    /// Compile few shapes of tiles: speed does not matter. Tiles do not decide bytes.
    const IS_COMPACT: bool = false;
    /// As many 32-bit words.
    type Words: Copy;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    /// `a * b + self`
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    unsafe fn sub(self, o: Self) -> Self;
    unsafe fn mul(self, o: Self) -> Self;
    /// At least 0; NaN becomes 0.
    unsafe fn relu(self) -> Self;
    /// IEEE 754 binary16, exactly.
    unsafe fn load_half(p: *const u16) -> Self;
    /// Bytes with their sign.
    unsafe fn load_signed(p: *const u8) -> Self::Words;
    /// Bytes without.
    unsafe fn load_unsigned(p: *const u8) -> Self::Words;
    /// 16-bit words without sign.
    unsafe fn load_wide(p: *const u16) -> Self::Words;
    unsafe fn shift_left(w: Self::Words, by: u32) -> Self::Words;
    /// Shifts zeros in.
    unsafe fn shift_right(w: Self::Words, by: u32) -> Self::Words;
    unsafe fn and(w: Self::Words, mask: u32) -> Self::Words;
    /// The value of a signed integer, within 24 bits.
    unsafe fn of_integer(w: Self::Words) -> Self;
    /// The float of these bits.
    unsafe fn of_bits(w: Self::Words) -> Self;
}

/// Sixteen lanes, AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Z(__m512);

#[cfg(target_arch = "x86_64")]
impl Register for Z {
    const LANES: usize = 16;
    type Words = __m512i;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Z(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Z(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        _mm512_storeu_ps(p, self.0)
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Z(_mm512_fmadd_ps(a.0, b.0, self.0))
    }
    #[inline(always)]
    unsafe fn sub(self, o: Self) -> Self {
        Z(_mm512_sub_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn mul(self, o: Self) -> Self {
        Z(_mm512_mul_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Z(_mm512_max_ps(self.0, _mm512_setzero_ps()))
    }
    #[inline(always)]
    unsafe fn load_half(p: *const u16) -> Self {
        Z(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast())))
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const u8) -> __m512i {
        _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_unsigned(p: *const u8) -> __m512i {
        _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const u16) -> __m512i {
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()))
    }
    #[inline(always)]
    unsafe fn shift_left(w: __m512i, by: u32) -> __m512i {
        _mm512_sll_epi32(w, _mm_cvtsi32_si128(by.cast_signed()))
    }
    #[inline(always)]
    unsafe fn shift_right(w: __m512i, by: u32) -> __m512i {
        _mm512_srl_epi32(w, _mm_cvtsi32_si128(by.cast_signed()))
    }
    #[inline(always)]
    unsafe fn and(w: __m512i, mask: u32) -> __m512i {
        _mm512_and_si512(w, _mm512_set1_epi32(mask.cast_signed()))
    }
    #[inline(always)]
    unsafe fn of_integer(w: __m512i) -> Self {
        Z(_mm512_cvtepi32_ps(w))
    }
    #[inline(always)]
    unsafe fn of_bits(w: __m512i) -> Self {
        Z(_mm512_castsi512_ps(w))
    }
}

/// Eight lanes, AVX2 with FMA and F16C.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Y(__m256);

#[cfg(target_arch = "x86_64")]
impl Register for Y {
    const LANES: usize = 8;
    type Words = __m256i;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Y(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Y(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        _mm256_storeu_ps(p, self.0)
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Y(_mm256_fmadd_ps(a.0, b.0, self.0))
    }
    #[inline(always)]
    unsafe fn sub(self, o: Self) -> Self {
        Y(_mm256_sub_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn mul(self, o: Self) -> Self {
        Y(_mm256_mul_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Y(_mm256_max_ps(self.0, _mm256_setzero_ps()))
    }
    #[inline(always)]
    unsafe fn load_half(p: *const u16) -> Self {
        Y(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())))
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const u8) -> __m256i {
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_unsigned(p: *const u8) -> __m256i {
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const u16) -> __m256i {
        _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))
    }
    #[inline(always)]
    unsafe fn shift_left(w: __m256i, by: u32) -> __m256i {
        _mm256_sll_epi32(w, _mm_cvtsi32_si128(by.cast_signed()))
    }
    #[inline(always)]
    unsafe fn shift_right(w: __m256i, by: u32) -> __m256i {
        _mm256_srl_epi32(w, _mm_cvtsi32_si128(by.cast_signed()))
    }
    #[inline(always)]
    unsafe fn and(w: __m256i, mask: u32) -> __m256i {
        _mm256_and_si256(w, _mm256_set1_epi32(mask.cast_signed()))
    }
    #[inline(always)]
    unsafe fn of_integer(w: __m256i) -> Self {
        Y(_mm256_cvtepi32_ps(w))
    }
    #[inline(always)]
    unsafe fn of_bits(w: __m256i) -> Self {
        Y(_mm256_castsi256_ps(w))
    }
}

/// Sixteen lanes of plain Rust. `mul_add` rounds once, as the vector units do.
#[derive(Clone, Copy)]
pub(super) struct Soft([f32; 16]);

impl Soft {
    #[inline(always)]
    fn zip(self, o: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Soft(std::array::from_fn(|i| f(self.0[i], o.0[i])))
    }
}

impl Register for Soft {
    const LANES: usize = 16;
    const IS_COMPACT: bool = true;
    type Words = [u32; 16];
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Soft([x; 16])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Soft(p.cast::<[f32; 16]>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        p.cast::<[f32; 16]>().write_unaligned(self.0)
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Soft(std::array::from_fn(|i| a.0[i].mul_add(b.0[i], self.0[i])))
    }
    #[inline(always)]
    unsafe fn sub(self, o: Self) -> Self {
        self.zip(o, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, o: Self) -> Self {
        self.zip(o, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Soft(self.0.map(|x| if x > 0.0 { x } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn load_half(p: *const u16) -> Self {
        Soft(p.cast::<[u16; 16]>().read_unaligned().map(from_f16))
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const u8) -> [u32; 16] {
        p.cast::<[i8; 16]>().read_unaligned().map(|b| i32::from(b).cast_unsigned())
    }
    #[inline(always)]
    unsafe fn load_unsigned(p: *const u8) -> [u32; 16] {
        p.cast::<[u8; 16]>().read_unaligned().map(u32::from)
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const u16) -> [u32; 16] {
        p.cast::<[u16; 16]>().read_unaligned().map(u32::from)
    }
    #[inline(always)]
    unsafe fn shift_left(w: [u32; 16], by: u32) -> [u32; 16] {
        w.map(|w| w << by)
    }
    #[inline(always)]
    unsafe fn shift_right(w: [u32; 16], by: u32) -> [u32; 16] {
        w.map(|w| w >> by)
    }
    #[inline(always)]
    unsafe fn and(w: [u32; 16], mask: u32) -> [u32; 16] {
        w.map(|w| w & mask)
    }
    #[inline(always)]
    unsafe fn of_integer(w: [u32; 16]) -> Self {
        Soft(w.map(|w| w.cast_signed() as f32))
    }
    #[inline(always)]
    unsafe fn of_bits(w: [u32; 16]) -> Self {
        Soft(w.map(f32::from_bits))
    }
}

/// A loop over the registers of one instruction set.
pub(super) trait Kernel {
    /// Does the work; `inline(always)` all the way down.
    ///
    /// # Safety
    /// The instruction set of `T` is there, and the kernel's pointers are valid for its lengths.
    unsafe fn run<T: Register>(self);
}

/// Runs `kernel` with the widest registers of this machine.
///
/// # Safety
/// The kernel's pointers are valid for its lengths.
pub(super) unsafe fn run<K: Kernel>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        unsafe fn wide<K: Kernel>(kernel: K) {
            kernel.run::<Z>()
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn narrow<K: Kernel>(kernel: K) {
            kernel.run::<Y>()
        }
        match crate::level::level() {
            crate::level::Level::Avx512 | crate::level::Level::Amx => return wide(kernel),
            crate::level::Level::Avx2 => return narrow(kernel),
            crate::level::Level::Portable => {}
        }
    }
    kernel.run::<Soft>()
}
