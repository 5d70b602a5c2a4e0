//! What the kernels of training need of a register beyond [`V`]: integers, comparisons, and sums in `f64`.
//!
//! [`Kernel`] is a loop that is compiled once for each instruction set; [`run`] picks one.
//!
//! # Safety
//! As in [`crate::nn::simd`]: methods may be called only where the instruction set was detected, and pointers must be
//! valid for the lanes that are read or written.
#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract, stated above")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::simd::{A, V};
#[cfg(target_arch = "x86_64")]
use super::simd::{Y, Z};

/// A register whose lanes are also seen as 32-bit integers (`int_...`) and can be widened to `f64`.
pub(crate) trait Bits: V {
    /// As many `f64` lanes as the register has `f32` lanes.
    type Wide: Copy;
    /// Every lane the bits `x`.
    unsafe fn int_splat(x: u32) -> Self;
    /// `first`, `first + 1`, and so on, wrapping.
    unsafe fn int_count(first: u32) -> Self;
    /// Wrapping integer sum.
    unsafe fn int_add(self, o: Self) -> Self;
    /// The low 32 bits of the product of integers.
    unsafe fn int_mul(self, o: Self) -> Self;
    /// Shifts zeros in from above, by `k < 32`.
    unsafe fn int_shift_right(self, k: u32) -> Self;
    /// The signed integers as floats.
    unsafe fn int_to_float(self) -> Self;
    /// Bitwise and.
    unsafe fn and(self, o: Self) -> Self;
    /// Bitwise or.
    unsafe fn or(self, o: Self) -> Self;
    /// Bitwise exclusive or.
    unsafe fn xor(self, o: Self) -> Self;
    /// `yes` where `a > b`, else (NaN included) `no`.
    unsafe fn where_greater(a: Self, b: Self, yes: Self, no: Self) -> Self;
    /// `yes` where `a > b` as signed integers, else `no`.
    unsafe fn where_int_greater(a: Self, b: Self, yes: Self, no: Self) -> Self;
    /// The first `n <= N` lanes, 0 in the others.
    unsafe fn first(self, n: usize) -> Self;
    /// Lanes as `f64`, exactly.
    unsafe fn widen(self) -> Self::Wide;
    /// Reads `N` doubles.
    unsafe fn wide_load(p: *const f64) -> Self::Wide;
    /// Writes `N` doubles.
    unsafe fn wide_store(a: Self::Wide, p: *mut f64);
    /// `a + b`.
    unsafe fn wide_add(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// `sum + a * b` of two widened floats, whose product is exact.
    unsafe fn wide_add_product(sum: Self::Wide, a: Self::Wide, b: Self::Wide) -> Self::Wide;

    /// `|self|`.
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        self.and(Self::int_splat(0x7fff_ffff))
    }
    /// `|self|` with the sign of `o`.
    #[inline(always)]
    unsafe fn with_sign_of(self, o: Self) -> Self {
        self.abs().or(o.and(Self::int_splat(0x8000_0000)))
    }
    /// The first `n <= N` lanes and 0 for the rest; all lanes without a mask where there are enough.
    #[inline(always)]
    unsafe fn load_up_to(p: *const f32, n: usize) -> Self {
        if n >= Self::N { Self::load(p) } else { Self::load_part(p, n) }
    }
    /// Writes the first `n` lanes, all where there is room.
    #[inline(always)]
    unsafe fn store_up_to(self, p: *mut f32, n: usize) {
        if n >= Self::N { self.store(p) } else { self.store_part(p, n) }
    }
}

/// A loop over the registers of one instruction set.
pub(crate) trait Kernel {
    /// What it gives.
    type Out;
    /// Does the work; `inline(always)` all the way down.
    ///
    /// # Safety
    /// The instruction set of `T` is there, and the kernel's pointers are valid for its lengths.
    unsafe fn run<T: Bits>(self) -> Self::Out;
}

/// Runs `kernel` with the widest registers of this machine.
///
/// # Safety
/// The kernel's pointers are valid for its lengths.
pub(crate) unsafe fn run<K: Kernel>(kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn wide<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<Z>()
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn narrow<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<Y>()
        }
        match crate::level::level() {
            crate::level::Level::Avx512 | crate::level::Level::Amx => return wide(kernel),
            crate::level::Level::Avx2 => return narrow(kernel),
            crate::level::Level::Portable => {}
        }
    }
    kernel.run::<A>()
}

#[cfg(target_arch = "x86_64")]
impl Bits for Z {
    type Wide = [__m512d; 2];
    #[inline(always)]
    unsafe fn int_splat(x: u32) -> Self {
        Z(_mm512_castsi512_ps(_mm512_set1_epi32(x as i32)))
    }
    #[inline(always)]
    unsafe fn int_count(first: u32) -> Self {
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        Z(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_set1_epi32(first as i32), lanes)))
    }
    #[inline(always)]
    unsafe fn int_add(self, o: Self) -> Self {
        Z(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), _mm512_castps_si512(o.0))))
    }
    #[inline(always)]
    unsafe fn int_mul(self, o: Self) -> Self {
        Z(_mm512_castsi512_ps(_mm512_mullo_epi32(_mm512_castps_si512(self.0), _mm512_castps_si512(o.0))))
    }
    #[inline(always)]
    unsafe fn int_shift_right(self, k: u32) -> Self {
        Z(_mm512_castsi512_ps(_mm512_srlv_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32(k as i32))))
    }
    #[inline(always)]
    unsafe fn int_to_float(self) -> Self {
        Z(_mm512_cvtepi32_ps(_mm512_castps_si512(self.0)))
    }
    #[inline(always)]
    unsafe fn and(self, o: Self) -> Self {
        Z(_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(self.0), _mm512_castps_si512(o.0))))
    }
    #[inline(always)]
    unsafe fn or(self, o: Self) -> Self {
        Z(_mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(self.0), _mm512_castps_si512(o.0))))
    }
    #[inline(always)]
    unsafe fn xor(self, o: Self) -> Self {
        Z(_mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(self.0), _mm512_castps_si512(o.0))))
    }
    #[inline(always)]
    unsafe fn where_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
        let k = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a.0, b.0);
        Z(_mm512_mask_mov_ps(no.0, k, yes.0))
    }
    #[inline(always)]
    unsafe fn where_int_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
        let k = _mm512_cmpgt_epi32_mask(_mm512_castps_si512(a.0), _mm512_castps_si512(b.0));
        Z(_mm512_mask_mov_ps(no.0, k, yes.0))
    }
    #[inline(always)]
    unsafe fn first(self, n: usize) -> Self {
        Z(_mm512_maskz_mov_ps(((1_u32 << n) - 1) as u16, self.0))
    }
    #[inline(always)]
    unsafe fn widen(self) -> [__m512d; 2] {
        [_mm512_cvtps_pd(_mm512_castps512_ps256(self.0)), _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(self.0))]
    }
    #[inline(always)]
    unsafe fn wide_load(p: *const f64) -> [__m512d; 2] {
        [_mm512_loadu_pd(p), _mm512_loadu_pd(p.add(8))]
    }
    #[inline(always)]
    unsafe fn wide_store(a: [__m512d; 2], p: *mut f64) {
        _mm512_storeu_pd(p, a[0]);
        _mm512_storeu_pd(p.add(8), a[1]);
    }
    #[inline(always)]
    unsafe fn wide_add(a: [__m512d; 2], b: [__m512d; 2]) -> [__m512d; 2] {
        [_mm512_add_pd(a[0], b[0]), _mm512_add_pd(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn wide_add_product(sum: [__m512d; 2], a: [__m512d; 2], b: [__m512d; 2]) -> [__m512d; 2] {
        [_mm512_fmadd_pd(a[0], b[0], sum[0]), _mm512_fmadd_pd(a[1], b[1], sum[1])]
    }
}

#[cfg(target_arch = "x86_64")]
impl Bits for Y {
    type Wide = [__m256d; 2];
    #[inline(always)]
    unsafe fn int_splat(x: u32) -> Self {
        Y(_mm256_castsi256_ps(_mm256_set1_epi32(x as i32)))
    }
    #[inline(always)]
    unsafe fn int_count(first: u32) -> Self {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        Y(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_set1_epi32(first as i32), lanes)))
    }
    #[inline(always)]
    unsafe fn int_add(self, o: Self) -> Self {
        Y(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self.0), _mm256_castps_si256(o.0))))
    }
    #[inline(always)]
    unsafe fn int_mul(self, o: Self) -> Self {
        Y(_mm256_castsi256_ps(_mm256_mullo_epi32(_mm256_castps_si256(self.0), _mm256_castps_si256(o.0))))
    }
    #[inline(always)]
    unsafe fn int_shift_right(self, k: u32) -> Self {
        Y(_mm256_castsi256_ps(_mm256_srlv_epi32(_mm256_castps_si256(self.0), _mm256_set1_epi32(k as i32))))
    }
    #[inline(always)]
    unsafe fn int_to_float(self) -> Self {
        Y(_mm256_cvtepi32_ps(_mm256_castps_si256(self.0)))
    }
    #[inline(always)]
    unsafe fn and(self, o: Self) -> Self {
        Y(_mm256_and_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn or(self, o: Self) -> Self {
        Y(_mm256_or_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn xor(self, o: Self) -> Self {
        Y(_mm256_xor_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn where_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
        Y(_mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_GT_OQ>(a.0, b.0)))
    }
    #[inline(always)]
    unsafe fn where_int_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
        let k = _mm256_cmpgt_epi32(_mm256_castps_si256(a.0), _mm256_castps_si256(b.0));
        Y(_mm256_blendv_ps(no.0, yes.0, _mm256_castsi256_ps(k)))
    }
    #[inline(always)]
    unsafe fn first(self, n: usize) -> Self {
        let k = _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        Y(_mm256_and_ps(self.0, _mm256_castsi256_ps(k)))
    }
    #[inline(always)]
    unsafe fn widen(self) -> [__m256d; 2] {
        [_mm256_cvtps_pd(_mm256_castps256_ps128(self.0)), _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(self.0))]
    }
    #[inline(always)]
    unsafe fn wide_load(p: *const f64) -> [__m256d; 2] {
        [_mm256_loadu_pd(p), _mm256_loadu_pd(p.add(4))]
    }
    #[inline(always)]
    unsafe fn wide_store(a: [__m256d; 2], p: *mut f64) {
        _mm256_storeu_pd(p, a[0]);
        _mm256_storeu_pd(p.add(4), a[1]);
    }
    #[inline(always)]
    unsafe fn wide_add(a: [__m256d; 2], b: [__m256d; 2]) -> [__m256d; 2] {
        [_mm256_add_pd(a[0], b[0]), _mm256_add_pd(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn wide_add_product(sum: [__m256d; 2], a: [__m256d; 2], b: [__m256d; 2]) -> [__m256d; 2] {
        [_mm256_fmadd_pd(a[0], b[0], sum[0]), _mm256_fmadd_pd(a[1], b[1], sum[1])]
    }
}

impl Bits for A {
    type Wide = [f64; 8];
    #[inline(always)]
    unsafe fn int_splat(x: u32) -> Self {
        A(std::array::from_fn(|_| f32::from_bits(x)))
    }
    #[inline(always)]
    unsafe fn int_count(first: u32) -> Self {
        A(std::array::from_fn(|i| f32::from_bits(first.wrapping_add(i as u32))))
    }
    #[inline(always)]
    unsafe fn int_add(self, o: Self) -> Self {
        A(std::array::from_fn(|i| f32::from_bits(self.0[i].to_bits().wrapping_add(o.0[i].to_bits()))))
    }
    #[inline(always)]
    unsafe fn int_mul(self, o: Self) -> Self {
        A(std::array::from_fn(|i| f32::from_bits(self.0[i].to_bits().wrapping_mul(o.0[i].to_bits()))))
    }
    #[inline(always)]
    unsafe fn int_shift_right(self, k: u32) -> Self {
        A(std::array::from_fn(|i| f32::from_bits(self.0[i].to_bits() >> k)))
    }
    #[inline(always)]
    unsafe fn int_to_float(self) -> Self {
        A(std::array::from_fn(|i| self.0[i].to_bits() as i32 as f32))
    }
    #[inline(always)]
    unsafe fn and(self, o: Self) -> Self {
        A(std::array::from_fn(|i| f32::from_bits(self.0[i].to_bits() & o.0[i].to_bits())))
    }
    #[inline(always)]
    unsafe fn or(self, o: Self) -> Self {
        A(std::array::from_fn(|i| f32::from_bits(self.0[i].to_bits() | o.0[i].to_bits())))
    }
    #[inline(always)]
    unsafe fn xor(self, o: Self) -> Self {
        A(std::array::from_fn(|i| f32::from_bits(self.0[i].to_bits() ^ o.0[i].to_bits())))
    }
    #[inline(always)]
    unsafe fn where_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
        A(std::array::from_fn(|i| if a.0[i] > b.0[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    unsafe fn where_int_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
        A(std::array::from_fn(|i| if a.0[i].to_bits() as i32 > b.0[i].to_bits() as i32 { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    unsafe fn first(self, n: usize) -> Self {
        A(std::array::from_fn(|i| if i < n { self.0[i] } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn widen(self) -> [f64; 8] {
        self.0.map(f64::from)
    }
    #[inline(always)]
    unsafe fn wide_load(p: *const f64) -> [f64; 8] {
        std::ptr::read_unaligned(p as *const [f64; 8])
    }
    #[inline(always)]
    unsafe fn wide_store(a: [f64; 8], p: *mut f64) {
        std::ptr::write_unaligned(p as *mut [f64; 8], a)
    }
    #[inline(always)]
    unsafe fn wide_add(a: [f64; 8], b: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn wide_add_product(sum: [f64; 8], a: [f64; 8], b: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| sum[i] + a[i] * b[i])
    }
}
