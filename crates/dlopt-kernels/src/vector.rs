//! The few operations of sixteen-lane sums, in registers of each width.
//!
//! Compilers turn loops over elements into vectors, but not loops that carry
//! sixteen lanes along; those are written with these. Each operation is exact or
//! correctly rounded, so that all three give the same bits.

use crate::lanes::{LANES, Lanes, larger, smaller};

/// Sixteen `f32`.
pub(crate) trait Vector: Copy {
    fn splat(x: f32) -> Self;
    fn load(x: &Lanes) -> Self;
    fn store(self) -> Lanes;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// The larger, `other` where they do not compare.
    fn larger(self, other: Self) -> Self;
    /// The smaller, `other` where they do not compare.
    fn smaller(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// Bit `i` says whether lane `i` is less than that of `other`.
    fn less(self, other: Self) -> u16;
}

/// Asks for a row of lanes ahead of its use; `at` may be any address.
#[inline(always)]
pub(crate) fn prefetch(at: *const Lanes) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing, faults on no address and is part of SSE.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[inline(always)]
fn each(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl Vector for Lanes {
    #[inline(always)]
    fn splat(x: f32) -> Lanes {
        [x; LANES]
    }

    #[inline(always)]
    fn load(x: &Lanes) -> Lanes {
        *x
    }

    #[inline(always)]
    fn store(self) -> Lanes {
        self
    }

    #[inline(always)]
    fn add(self, other: Lanes) -> Lanes {
        each(self, other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Lanes) -> Lanes {
        each(self, other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Lanes) -> Lanes {
        each(self, other, |a, b| a * b)
    }

    #[inline(always)]
    fn larger(self, other: Lanes) -> Lanes {
        each(self, other, larger)
    }

    #[inline(always)]
    fn smaller(self, other: Lanes) -> Lanes {
        each(self, other, smaller)
    }

    #[inline(always)]
    fn abs(self) -> Lanes {
        self.map(f32::abs)
    }

    #[inline(always)]
    fn less(self, other: Lanes) -> u16 {
        (0..LANES).fold(0, |mask, i| mask | u16::from(self[i] < other[i]) << i)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Four128, One512, Two256};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lanes, Vector};
    use std::arch::x86_64::*;

    #[inline]
    #[target_feature(enable = "sse2")]
    fn less_128(a: __m128, b: __m128) -> u16 {
        _mm_movemask_ps(_mm_cmplt_ps(a, b)) as u16
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn less_256(a: __m256, b: __m256) -> u16 {
        _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) as u16
    }

    /// Implements [`Vector`] for a tuple struct of registers.
    macro_rules! registers {
        (
            $(#[$doc:meta])* $name:ident, $register:ty, $width:literal, [$($i:tt),+];
            $splat:ident $load:ident $store:ident $add:ident $sub:ident $mul:ident
            $max:ident $min:ident $and:ident $less:path
        ) => {
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub(crate) struct $name([$register; 16 / $width]);

            impl Vector for $name {
                #[inline(always)]
                fn splat(x: f32) -> $name {
                    // SAFETY: `dispatch!` names this type only where its registers exist.
                    $name(unsafe { [$splat(x); 16 / $width] })
                }

                #[inline(always)]
                fn load(x: &Lanes) -> $name {
                    let at = x.as_ptr();
                    // SAFETY: as in `splat`; `x` has 16 elements and no alignment is needed.
                    $name(unsafe { [$($load(at.add($i * $width))),+] })
                }

                #[inline(always)]
                fn store(self) -> Lanes {
                    let mut out = [0.0; 16];
                    let at = out.as_mut_ptr();
                    // SAFETY: as in `load`.
                    unsafe { $($store(at.add($i * $width), self.0[$i]);)+ }
                    out
                }

                #[inline(always)]
                fn add(self, other: $name) -> $name {
                    // SAFETY: as in `splat`.
                    $name(unsafe { [$($add(self.0[$i], other.0[$i])),+] })
                }

                #[inline(always)]
                fn sub(self, other: $name) -> $name {
                    // SAFETY: as in `splat`.
                    $name(unsafe { [$($sub(self.0[$i], other.0[$i])),+] })
                }

                #[inline(always)]
                fn mul(self, other: $name) -> $name {
                    // SAFETY: as in `splat`.
                    $name(unsafe { [$($mul(self.0[$i], other.0[$i])),+] })
                }

                #[inline(always)]
                fn larger(self, other: $name) -> $name {
                    // SAFETY: as in `splat`.
                    $name(unsafe { [$($max(self.0[$i], other.0[$i])),+] })
                }

                #[inline(always)]
                fn smaller(self, other: $name) -> $name {
                    // SAFETY: as in `splat`.
                    $name(unsafe { [$($min(self.0[$i], other.0[$i])),+] })
                }

                #[inline(always)]
                fn abs(self) -> $name {
                    // SAFETY: as in `splat`.
                    $name(unsafe {
                        let magnitude = $splat(f32::from_bits(0x7fff_ffff));
                        [$($and(self.0[$i], magnitude)),+]
                    })
                }

                #[inline(always)]
                fn less(self, other: $name) -> u16 {
                    // SAFETY: as in `splat`.
                    unsafe { 0 $(| $less(self.0[$i], other.0[$i]) << ($i * $width))+ }
                }
            }
        };
    }

    registers!(
        /// Four registers of SSE2, which every x86-64 has.
        Four128, __m128, 4, [0, 1, 2, 3];
        _mm_set1_ps _mm_loadu_ps _mm_storeu_ps _mm_add_ps _mm_sub_ps _mm_mul_ps
        _mm_max_ps _mm_min_ps _mm_and_ps less_128
    );
    registers!(
        /// Two registers of AVX.
        Two256, __m256, 8, [0, 1];
        _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_sub_ps
        _mm256_mul_ps _mm256_max_ps _mm256_min_ps _mm256_and_ps less_256
    );
    registers!(
        /// One register of AVX-512 F and DQ.
        One512, __m512, 16, [0];
        _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_sub_ps
        _mm512_mul_ps _mm512_max_ps _mm512_min_ps _mm512_and_ps _mm512_cmp_ps_mask::<_CMP_LT_OQ>
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All results of one type on a pair of rows.
    fn results<V: Vector>(a: &Lanes, b: &Lanes) -> Vec<Vec<u32>> {
        let (a, b) = (V::load(a), V::load(b));
        [V::splat(-1.5), a.add(b), a.sub(b), a.mul(b), a.larger(b), a.smaller(b), b.larger(a), b.smaller(a), a.abs()]
            .iter()
            .map(|v| v.store().iter().map(|x| if x.is_nan() { 1 } else { x.to_bits() }).collect())
            .collect()
    }

    fn bodies<V: Vector>() -> Vec<Vec<Vec<u32>>> {
        let special = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1e-42,
            -1e-42,
            f32::MAX,
            f32::MIN,
            0.1,
            3.3e10,
            -7.7e-12,
            2.5,
            -3.5,
        ];
        (0..16)
            .map(|turn| {
                let mut turned = special;
                turned.rotate_left(turn);
                results::<V>(&special, &turned)
            })
            .collect()
    }

    fn run() -> Vec<Vec<Vec<u32>>> {
        dispatch!(<V> bodies() -> Vec<Vec<Vec<u32>>>)
    }

    #[test]
    fn registers_of_every_width_agree_with_plain_arrays() {
        let plain = bodies::<Lanes>();
        assert_eq!(crate::level::at_every_level(run), plain);
    }
}
