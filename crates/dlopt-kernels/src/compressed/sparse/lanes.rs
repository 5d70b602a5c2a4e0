//! Registers of the sparse kernels: what they ask of an instruction set, and nothing else.
//!
//! [`Kernel`] is a loop that is compiled once for each instruction set; [`run`] and [`run_eight`] pick one.
//!
//! # Safety
//! Methods may be called only where the instruction set of their type was detected, and pointers must be valid for the
//! values that are read or written.
#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract, stated above")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A register of `N` f32 lanes.
pub(super) trait Lanes: Copy {
    const N: usize;
    /// Words of 32 bits that say which values of a window go to the lanes, and how far the window moves first.
    const WORDS: usize = Self::N / if Self::N == 8 { 8 } else { 4 };
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    /// The integers as floats.
    unsafe fn load_codes(p: *const i8) -> Self;
    unsafe fn store(self, p: *mut f32);
    /// `a * b + self`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// The larger of each lane and 0; NaN becomes 0.
    unsafe fn positive(self) -> Self;
    /// The larger of two lanes that are no NaN.
    unsafe fn larger(self, o: Self) -> Self;
    /// How far the window of the step `words` lies behind the one before it.
    unsafe fn advance(words: *const u32) -> usize;
    /// Picks for each lane one of the values at `window`: `N` of them for eight lanes, `32 * PAIRS` for sixteen.
    unsafe fn pick<const PAIRS: usize>(window: *const f32, words: *const u32) -> Self;
}

/// Eight lanes that are filled from anywhere.
pub(super) trait Eight: Lanes {
    /// `x[places[lane]]` in each lane.
    unsafe fn look_up(x: *const f32, places: *const u16) -> Self;
}

/// Appends the words of a step whose window moves by `advance` and whose lanes pick `places`; see [`Lanes::pick`].
///
/// Eight lanes have three bits each and the advance above them. Sixteen have a byte each, of which the upper two bits in the
/// first four are the advance.
pub(super) fn put_words<const N: usize>(words: &mut Vec<u32>, advance: usize, places: [u8; N]) {
    debug_assert!(advance <= MOST_ADVANCE && places.iter().all(|&place| place < if N == 8 { 8 } else { 64 }));
    if N == 8 {
        words.push(places.iter().rev().fold(advance as u32, |word, &place| word << 3 | u32::from(place)));
        return;
    }
    for (index, four) in places.as_chunks().0.iter().enumerate() {
        let spread = |lane: usize| (advance as u32 >> (2 * lane) & 3) << (8 * lane + 6);
        let above = if index == 0 { (0..4).map(spread).sum() } else { 0 };
        words.push(u32::from_le_bytes(*four) | above);
    }
}

/// The furthest a window moves in a step.
pub(super) const MOST_ADVANCE: usize = 255;

/// Sixteen lanes, AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Wide(__m512);

#[cfg(target_arch = "x86_64")]
impl Lanes for Wide {
    const N: usize = 16;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Wide(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Wide(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const i8) -> Self {
        Wide(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        _mm512_storeu_ps(p, self.0)
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Wide(_mm512_fmadd_ps(a.0, b.0, self.0))
    }
    #[inline(always)]
    unsafe fn positive(self) -> Self {
        Wide(_mm512_max_ps(self.0, _mm512_setzero_ps()))
    }
    #[inline(always)]
    unsafe fn larger(self, o: Self) -> Self {
        Wide(_mm512_max_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn advance(words: *const u32) -> usize {
        _pext_u32(*words, 0xc0c0_c0c0) as usize
    }
    #[inline(always)]
    unsafe fn pick<const PAIRS: usize>(window: *const f32, words: *const u32) -> Self {
        let places = _mm512_cvtepu8_epi32(_mm_loadu_si128(words.cast()));
        // A pair of registers heeds the low five bits of a place, the sixth says which pair.
        let pair =
            |first: *const f32| _mm512_permutex2var_ps(_mm512_loadu_ps(first), places, _mm512_loadu_ps(first.add(16)));
        if PAIRS == 1 {
            return Wide(pair(window));
        }
        let is_high = _mm512_test_epi32_mask(places, _mm512_set1_epi32(32));
        Wide(_mm512_mask_blend_ps(is_high, pair(window), pair(window.add(32))))
    }
}

/// Eight lanes, AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Narrow(__m256);

#[cfg(target_arch = "x86_64")]
impl Lanes for Narrow {
    const N: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Narrow(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Narrow(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const i8) -> Self {
        Narrow(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        _mm256_storeu_ps(p, self.0)
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Narrow(_mm256_fmadd_ps(a.0, b.0, self.0))
    }
    #[inline(always)]
    unsafe fn positive(self) -> Self {
        Narrow(_mm256_max_ps(self.0, _mm256_setzero_ps()))
    }
    #[inline(always)]
    unsafe fn larger(self, o: Self) -> Self {
        Narrow(_mm256_max_ps(self.0, o.0))
    }
    #[inline(always)]
    unsafe fn advance(words: *const u32) -> usize {
        (*words >> 24) as usize
    }
    #[inline(always)]
    unsafe fn pick<const PAIRS: usize>(window: *const f32, words: *const u32) -> Self {
        // Only the low three bits of a lane count. The broadcast is one of floats because that needs no shuffle.
        let word = _mm256_castps_si256(_mm256_broadcast_ss(&*words.cast()));
        let places = _mm256_srlv_epi32(word, _mm256_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21));
        Narrow(_mm256_permutevar8x32_ps(_mm256_loadu_ps(window), places))
    }
}

#[cfg(target_arch = "x86_64")]
impl Eight for Narrow {
    /// Eight loads and inserts take about half as long as the gather instruction does on Zen 3.
    #[inline(always)]
    unsafe fn look_up(x: *const f32, places: *const u16) -> Self {
        macro_rules! at {
            ($four:expr, $shift:literal) => {
                _mm_load_ss(x.add(($four >> $shift & 0xffff) as usize))
            };
        }
        macro_rules! four {
            ($four:expr) => {{
                let lanes = at!($four, 0);
                let lanes = _mm_insert_ps::<0x10>(lanes, at!($four, 16));
                let lanes = _mm_insert_ps::<0x20>(lanes, at!($four, 32));
                _mm_insert_ps::<0x30>(lanes, at!($four, 48))
            }};
        }
        let (low, high) = (places.cast::<u64>().read_unaligned(), places.add(4).cast::<u64>().read_unaligned());
        Narrow(_mm256_insertf128_ps::<1>(_mm256_castps128_ps256(four!(low)), four!(high)))
    }
}

/// The portable twin, of eight lanes or sixteen.
#[derive(Clone, Copy)]
pub(super) struct Plain<const N: usize>([f32; N]);

impl<const N: usize> Lanes for Plain<N> {
    const N: usize = N;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Plain([x; N])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Plain(p.cast::<[f32; N]>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const i8) -> Self {
        Plain(p.cast::<[i8; N]>().read_unaligned().map(f32::from))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        p.cast::<[f32; N]>().write_unaligned(self.0)
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Plain(std::array::from_fn(|lane| a.0[lane].mul_add(b.0[lane], self.0[lane])))
    }
    #[inline(always)]
    unsafe fn positive(self) -> Self {
        Plain(self.0.map(|x| if x > 0.0 { x } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn larger(self, o: Self) -> Self {
        Plain(std::array::from_fn(|lane| if self.0[lane] > o.0[lane] { self.0[lane] } else { o.0[lane] }))
    }
    #[inline(always)]
    unsafe fn advance(words: *const u32) -> usize {
        if N == 8 {
            return (*words >> 24) as usize;
        }
        (0..4).map(|lane| (*words >> (8 * lane + 6) & 3) << (2 * lane)).sum::<u32>() as usize
    }
    #[inline(always)]
    unsafe fn pick<const PAIRS: usize>(window: *const f32, words: *const u32) -> Self {
        Plain(std::array::from_fn(|lane| {
            let place = if N == 8 { *words >> (3 * lane) & 7 } else { *words.add(lane / 4) >> (lane % 4 * 8) & 63 };
            *window.add(place as usize)
        }))
    }
}

impl Eight for Plain<8> {
    #[inline(always)]
    unsafe fn look_up(x: *const f32, places: *const u16) -> Self {
        Plain(std::array::from_fn(|lane| *x.add(usize::from(*places.add(lane)))))
    }
}

/// A weight as it lies in memory.
pub(super) trait Weight: Copy + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// A register of neighbours.
    unsafe fn load<T: Lanes>(p: *const Self) -> T;
    /// One of them in every lane.
    unsafe fn splat<T: Lanes>(self) -> T;
}

impl Weight for f32 {
    #[inline(always)]
    unsafe fn load<T: Lanes>(p: *const Self) -> T {
        T::load(p)
    }
    #[inline(always)]
    unsafe fn splat<T: Lanes>(self) -> T {
        T::splat(self)
    }
}

impl Weight for i8 {
    #[inline(always)]
    unsafe fn load<T: Lanes>(p: *const Self) -> T {
        T::load_codes(p)
    }
    #[inline(always)]
    unsafe fn splat<T: Lanes>(self) -> T {
        T::splat(f32::from(self))
    }
}

/// A loop over registers; `inline(always)` all the way down.
pub(super) trait Kernel {
    /// # Safety
    /// The instruction set of `T` is there, and the kernel's pointers are valid.
    unsafe fn run<T: Lanes>(self);
}

/// As [`Kernel`], for eight lanes at every level.
pub(super) trait EightKernel {
    /// # Safety
    /// As for [`Kernel::run`].
    unsafe fn run<T: Eight>(self);
}

/// Runs `kernel` with the widest registers in use.
///
/// # Safety
/// The kernel's pointers are valid.
pub(super) unsafe fn run<K: Kernel>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
        unsafe fn wide<K: Kernel>(kernel: K) {
            kernel.run::<Wide>()
        }
        #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
        unsafe fn narrow<K: Kernel>(kernel: K) {
            kernel.run::<Narrow>()
        }
        match crate::level::level() {
            crate::level::Level::Avx512 | crate::level::Level::Amx => return wide(kernel),
            crate::level::Level::Avx2 => return narrow(kernel),
            crate::level::Level::Portable => {}
        }
    }
    kernel.run::<Plain<8>>()
}

/// Runs `kernel` with registers of `lanes` lanes, plain ones where the level in use has none such.
///
/// # Safety
/// As for [`run`].
pub(super) unsafe fn run_with<K: Kernel>(lanes: usize, kernel: K) {
    let level = crate::level::level();
    match lanes {
        16 if level < crate::level::Level::Avx512 => kernel.run::<Plain<16>>(),
        8 if level >= crate::level::Level::Avx512 => kernel.run::<Plain<8>>(),
        _ => run(kernel),
    }
}

/// Runs `kernel` with eight lanes.
///
/// # Safety
/// As for [`run`].
pub(super) unsafe fn run_eight<K: EightKernel>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
        unsafe fn narrow<K: EightKernel>(kernel: K) {
            kernel.run::<Narrow>()
        }
        if crate::level::level() > crate::level::Level::Portable {
            return narrow(kernel);
        }
    }
    kernel.run::<Plain<8>>()
}
