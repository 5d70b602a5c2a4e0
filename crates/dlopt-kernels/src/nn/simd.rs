//! Registers of `f32`: one vector type for each instruction set behind one trait.
//!
//! The kernels of [`crate::nn`] are generic over [`V`] and `inline(always)`; their entry points carry `target_feature`,
//! so that a body is compiled once for each instruction set. Unlike the rest of the crate these loops use fused
//! multiply-adds, explicitly and in a fixed order: every lane of every type rounds the same way, so all of them give the
//! same bytes.
//!
//! # Safety
//! Every method may be called only where the instruction set of its type was detected, and pointers must be valid for
//! the lanes that are read or written. The functions that are generic over `V` pass both duties on to their callers; the
//! public functions of [`crate::nn`] check lengths, and [`per_isa!`] the instruction set.
#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract, stated above")]
#![allow(clippy::needless_range_loop, reason = "lanes, taps and places are numbers to the intrinsics")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A register of `N` f32 lanes. Every method is `inline(always)` so that it
/// ends in a function that has the feature enabled.
pub(crate) trait V: Copy {
    const N: usize;
    /// Compile few shapes of tiles: speed does not matter. Tiles do not decide bytes.
    const IS_COMPACT: bool = false;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    /// The first `n <= N` lanes from memory, the others 0.
    unsafe fn load_part(p: *const f32, n: usize) -> Self;
    /// Only the first `n <= N` lanes to memory.
    unsafe fn store_part(self, p: *mut f32, n: usize);
    /// `a * b + self`
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, o: Self) -> Self;
    unsafe fn sub(self, o: Self) -> Self;
    unsafe fn mul(self, o: Self) -> Self;
    unsafe fn div(self, o: Self) -> Self;
    unsafe fn sqrt(self) -> Self;
    unsafe fn max(self, o: Self) -> Self;
    unsafe fn min(self, o: Self) -> Self;
    /// `2^n` for an integral n held as float (n in -126..=127).
    unsafe fn exp2i(n: Self) -> Self;
    unsafe fn round(self) -> Self;
    /// `self` where `y > 0`, else 0.
    unsafe fn where_pos(self, y: Self) -> Self;
    /// max of four, ReLU, and which of the four it was (4: none is positive).
    unsafe fn pool4(a: [Self; 4], out: *mut f32, idx: *mut u8);
    /// writes `self` where `idx == p`, else 0, to `out[p]` for p in 0..4; returns self where idx<4.
    unsafe fn unpool4(self, idx: *const u8, out: [*mut f32; 4]) -> Self;
}

/// Sixteen lanes, AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Z(pub(crate) __m512);
/// Eight lanes, AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Y(pub(crate) __m256);

#[cfg(target_arch = "x86_64")]
impl V for Z {
    const N: usize = 16;
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
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        Z(_mm512_maskz_loadu_ps(((1_u32 << n) - 1) as u16, p))
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        _mm512_mask_storeu_ps(p, ((1_u32 << n) - 1) as u16, self.0)
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Z(_mm512_fmadd_ps(a.0, b.0, self.0))
    }
    #[inline(always)]
    unsafe fn add(self, o: Self) -> Self {
        Z(_mm512_add_ps(self.0, o.0))
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
    unsafe fn div(self, o: Self) -> Self {
        Z(_mm512_div_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Z(_mm512_sqrt_ps(self.0))
    }
    #[inline(always)]
    unsafe fn max(self, o: Self) -> Self {
        Z(_mm512_max_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn min(self, o: Self) -> Self {
        Z(_mm512_min_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn exp2i(n: Self) -> Self {
        let i = _mm512_cvtps_epi32(n.0);
        Z(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(i, _mm512_set1_epi32(127)))))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Z(_mm512_roundscale_ps::<0>(self.0))
    }
    #[inline(always)]
    unsafe fn where_pos(self, y: Self) -> Self {
        let k = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(y.0, _mm512_setzero_ps());
        Z(_mm512_maskz_mov_ps(k, self.0))
    }
    #[inline(always)]
    unsafe fn pool4(a: [Self; 4], out: *mut f32, idx: *mut u8) {
        let mut m = a[0].0;
        let mut i = _mm512_setzero_si512();
        for p in 1..4 {
            let k = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a[p].0, m);
            m = _mm512_mask_mov_ps(m, k, a[p].0);
            i = _mm512_mask_mov_epi32(i, k, _mm512_set1_epi32(p as i32));
        }
        let k = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(m, _mm512_setzero_ps());
        i = _mm512_mask_mov_epi32(_mm512_set1_epi32(4), k, i);
        _mm512_storeu_ps(out, _mm512_maskz_mov_ps(k, m));
        _mm_storeu_si128(idx as *mut __m128i, _mm512_cvtepi32_epi8(i));
    }
    #[inline(always)]
    unsafe fn unpool4(self, idx: *const u8, out: [*mut f32; 4]) -> Self {
        let i = _mm512_cvtepu8_epi32(_mm_loadu_si128(idx as *const __m128i));
        for p in 0..4 {
            let k = _mm512_cmpeq_epi32_mask(i, _mm512_set1_epi32(p as i32));
            _mm512_storeu_ps(out[p], _mm512_maskz_mov_ps(k, self.0));
        }
        let k = _mm512_cmplt_epi32_mask(i, _mm512_set1_epi32(4));
        Z(_mm512_maskz_mov_ps(k, self.0))
    }
}

/// All bits set in the first `n` of eight lanes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn first_lanes(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

#[cfg(target_arch = "x86_64")]
impl V for Y {
    const N: usize = 8;
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
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        Y(_mm256_maskload_ps(p, first_lanes(n)))
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        _mm256_maskstore_ps(p, first_lanes(n), self.0)
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Y(_mm256_fmadd_ps(a.0, b.0, self.0))
    }
    #[inline(always)]
    unsafe fn add(self, o: Self) -> Self {
        Y(_mm256_add_ps(self.0, o.0))
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
    unsafe fn div(self, o: Self) -> Self {
        Y(_mm256_div_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Y(_mm256_sqrt_ps(self.0))
    }
    #[inline(always)]
    unsafe fn max(self, o: Self) -> Self {
        Y(_mm256_max_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn min(self, o: Self) -> Self {
        Y(_mm256_min_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn exp2i(n: Self) -> Self {
        let i = _mm256_cvtps_epi32(n.0);
        Y(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(i, _mm256_set1_epi32(127)))))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Y(_mm256_round_ps::<0>(self.0))
    }
    #[inline(always)]
    unsafe fn where_pos(self, y: Self) -> Self {
        Y(_mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(y.0, _mm256_setzero_ps()), self.0))
    }
    #[inline(always)]
    unsafe fn pool4(a: [Self; 4], out: *mut f32, idx: *mut u8) {
        let mut m = a[0].0;
        let mut i = _mm256_setzero_ps();
        for p in 1..4 {
            let k = _mm256_cmp_ps::<_CMP_GT_OQ>(a[p].0, m);
            m = _mm256_blendv_ps(m, a[p].0, k);
            i = _mm256_blendv_ps(i, _mm256_castsi256_ps(_mm256_set1_epi32(p as i32)), k);
        }
        let k = _mm256_cmp_ps::<_CMP_GT_OQ>(m, _mm256_setzero_ps());
        i = _mm256_blendv_ps(_mm256_castsi256_ps(_mm256_set1_epi32(4)), i, k);
        _mm256_storeu_ps(out, _mm256_and_ps(m, k));
        let i = _mm256_castps_si256(i);
        let w = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256::<1>(i));
        _mm_storel_epi64(idx as *mut __m128i, _mm_packs_epi16(w, w));
    }
    #[inline(always)]
    unsafe fn unpool4(self, idx: *const u8, out: [*mut f32; 4]) -> Self {
        let i = _mm256_cvtepu8_epi32(_mm_loadl_epi64(idx as *const __m128i));
        for p in 0..4 {
            let k = _mm256_castsi256_ps(_mm256_cmpeq_epi32(i, _mm256_set1_epi32(p as i32)));
            _mm256_storeu_ps(out[p], _mm256_and_ps(k, self.0));
        }
        let k = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(4), i));
        Y(_mm256_and_ps(k, self.0))
    }
}

/// `x P(x^2) / Q(x^2)` with both polynomials of degree four, `Q` beginning at 1; NaN stays NaN, as in what calls it.
#[inline(always)]
unsafe fn odd_ratio<T: V>(x: T, p: [f32; 5], q: [f32; 4]) -> T {
    let y = x.mul(x);
    let numerator = T::splat(p[3]).fma(y, T::splat(p[4]));
    let numerator = T::splat(p[2]).fma(y, numerator);
    let numerator = T::splat(p[1]).fma(y, numerator);
    let numerator = T::splat(p[0]).fma(y, numerator);
    let denominator = T::splat(q[2]).fma(y, T::splat(q[3]));
    let denominator = T::splat(q[1]).fma(y, denominator);
    let denominator = T::splat(q[0]).fma(y, denominator);
    let denominator = T::splat(1.0).fma(y, denominator);
    x.mul(numerator).div(denominator)
}

/// `tanh(x)` within 3.2e-7 of its value, relatively; in -1..=1, and 0 at 0.
///
/// The ratio is the best of its degrees on -9..=9 for the relative error (2.1e-8 before rounding; fitted by repeated
/// weighted least squares), beyond which f32 has but 1. Cheaper than by way of an exponential.
#[inline(always)]
pub(crate) unsafe fn tanh<T: V>(x: T) -> T {
    const P: [f32; 5] = [1.0, 0.133_810_62, 3.495_630_4e-3, 2.060_972_7e-5, 1.335_546_2e-8];
    const Q: [f32; 4] = [0.467_143_78, 2.587_714_6e-2, 3.285_701_8e-4, 7.776_907_5e-7];
    let ratio = odd_ratio(T::splat(-9.0).max(T::splat(9.0).min(x)), P, Q);
    T::splat(-1.0).max(T::splat(1.0).min(ratio))
}

/// `1 / (1 + e^-x) = 1/2 + tanh(x / 2) / 2` within 1.8e-7; in 0..=1, and 1/2 at 0.
///
/// The ratio of [`tanh`], its halves folded into the coefficients.
#[inline(always)]
pub(crate) unsafe fn sigmoid<T: V>(x: T) -> T {
    const P: [f32; 5] = [0.25, 8.363_164e-3, 5.461_922_5e-5, 8.050_674_7e-8, 1.304_244_3e-11];
    const Q: [f32; 4] = [0.116_785_94, 1.617_321_7e-3, 5.133_909e-6, 3.037_853_7e-9];
    let ratio = odd_ratio(T::splat(-18.0).max(T::splat(18.0).min(x)), P, Q);
    T::splat(0.0).max(T::splat(1.0).min(T::splat(0.5).add(ratio)))
}

/// The portable twin: eight lanes of plain f32. `mul_add` rounds once, as the
/// vector units do, so it gives the same bytes (slowly on x86 without FMA,
/// fast where the target has a fused multiply-add, such as aarch64).
#[derive(Clone, Copy)]
pub(crate) struct A(pub(super) [f32; 8]);
impl A {
    #[inline(always)]
    fn map(self, o: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        A(std::array::from_fn(|i| f(self.0[i], o.0[i])))
    }
}
impl V for A {
    const N: usize = 8;
    // On x86-64 without FMA each lane of a fused multiply-add is a call.
    const IS_COMPACT: bool = cfg!(target_arch = "x86_64");
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        A([x; 8])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        A(std::ptr::read_unaligned(p as *const [f32; 8]))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        std::ptr::write_unaligned(p as *mut [f32; 8], self.0)
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        A(std::array::from_fn(|i| if i < n { *p.add(i) } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        for i in 0..n {
            *p.add(i) = self.0[i];
        }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        A(std::array::from_fn(|i| a.0[i].mul_add(b.0[i], self.0[i])))
    }
    #[inline(always)]
    unsafe fn add(self, o: Self) -> Self {
        self.map(o, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, o: Self) -> Self {
        self.map(o, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, o: Self) -> Self {
        self.map(o, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, o: Self) -> Self {
        self.map(o, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        self.map(self, |a, _| a.sqrt())
    }
    #[inline(always)]
    unsafe fn max(self, o: Self) -> Self {
        self.map(o, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, o: Self) -> Self {
        self.map(o, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn exp2i(n: Self) -> Self {
        n.map(n, |n, _| f32::from_bits(((n as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        self.map(self, |a, _| a.round_ties_even())
    }
    #[inline(always)]
    unsafe fn where_pos(self, y: Self) -> Self {
        self.map(y, |a, y| if y > 0.0 { a } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn pool4(a: [Self; 4], out: *mut f32, idx: *mut u8) {
        for l in 0..8 {
            let (mut m, mut k) = (a[0].0[l], 0u8);
            for p in 1..4 {
                if a[p].0[l] > m {
                    m = a[p].0[l];
                    k = p as u8;
                }
            }
            let on = m > 0.0;
            *out.add(l) = if on { m } else { 0.0 };
            *idx.add(l) = if on { k } else { 4 };
        }
    }
    #[inline(always)]
    unsafe fn unpool4(self, idx: *const u8, out: [*mut f32; 4]) -> Self {
        let mut s = self;
        for l in 0..8 {
            let k = *idx.add(l);
            for p in 0..4 {
                *out[p].add(l) = if k == p as u8 { self.0[l] } else { 0.0 };
            }
            if k > 3 {
                s.0[l] = 0.0;
            }
        }
        s
    }
}

/// Defines `unsafe fn NAME(ARGS)` whose body is compiled once for each instruction set and picked at run time.
///
/// `per_isa! { name(a: A, b: B) [T, NR = 4 / 2] body }`: in `body` the type `T` is the register and the constant `NR` is
/// 4 with the 32 registers of AVX-512 and 2 with sixteen. The body must be `inline(always)` all the way down: a closure or
/// function that is not inlined silently loses the features.
macro_rules! per_isa {
    ($(#[$meta:meta])* $name:ident ($($a:ident : $t:ty),* $(,)?) $(-> $r:ty)? [$T:ident, $NR:ident = $wide:literal / $narrow:literal] $body:expr) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
        pub(crate) unsafe fn $name($($a: $t),*) $(-> $r)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn wide($($a: $t),*) $(-> $r)? {
                #[allow(dead_code, reason = "not every body names both")]
                type $T = $crate::nn::simd::Z;
                #[allow(dead_code, reason = "not every body names both")]
                const $NR: usize = $wide;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn narrow($($a: $t),*) $(-> $r)? {
                #[allow(dead_code, reason = "not every body names both")]
                type $T = $crate::nn::simd::Y;
                #[allow(dead_code, reason = "not every body names both")]
                const $NR: usize = $narrow;
                $body
            }
            unsafe fn portable($($a: $t),*) $(-> $r)? {
                #[allow(dead_code, reason = "not every body names both")]
                type $T = $crate::nn::simd::A;
                #[allow(dead_code, reason = "not every body names both")]
                const $NR: usize = $narrow;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            match $crate::level::level() {
                $crate::level::Level::Avx512 | $crate::level::Level::Amx => return wide($($a),*),
                $crate::level::Level::Avx2 => return narrow($($a),*),
                $crate::level::Level::Portable => {}
            }
            portable($($a),*)
        }
    };
}
pub(crate) use per_isa;
