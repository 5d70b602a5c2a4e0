//! The portable twin of the AVX-512 registers: the same lanes, the same steps, plain Rust.
//!
//! It walks the layouts and tiles of sixteen lanes on every machine, so that their logic is tested where AVX-512 is not.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`")]

use super::registers::{BLOCK, Floats, Integers};
use super::unit::Plain;
use crate::element::from_f16;

/// Sixteen 32-bit integers, beside tiles or without them.
#[derive(Clone, Copy)]
pub(super) struct Soft<const HAS_TILES: bool>([i32; 16]);

impl<const HAS_TILES: bool> Soft<HAS_TILES> {
    #[inline]
    fn with(self, o: Self, f: impl Fn(i32, i32) -> i32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], o.0[i])))
    }
}

/// Sixteen floats.
#[derive(Clone, Copy)]
pub(super) struct SoftFloats([f32; 16]);

impl Floats for SoftFloats {
    #[inline]
    unsafe fn splat(x: f32) -> Self {
        SoftFloats([x; 16])
    }
    #[inline]
    unsafe fn load(p: *const f32) -> Self {
        SoftFloats((p as *const [f32; 16]).read_unaligned())
    }
    #[inline]
    unsafe fn load_part(p: *const f32, lanes: usize) -> Self {
        SoftFloats(std::array::from_fn(|i| if i < lanes { *p.add(i) } else { 0.0 }))
    }
    #[inline]
    unsafe fn store(self, p: *mut f32) {
        (p as *mut [f32; 16]).write_unaligned(self.0)
    }
    #[inline]
    unsafe fn store_part(self, p: *mut f32, lanes: usize) {
        std::ptr::copy_nonoverlapping(self.0.as_ptr(), p, lanes)
    }
    #[inline]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        SoftFloats(std::array::from_fn(|i| a.0[i].mul_add(b.0[i], self.0[i])))
    }
    #[inline]
    unsafe fn relu(self) -> Self {
        SoftFloats(self.0.map(|x| if 0.0 > x { 0.0 } else { x }))
    }
}

impl<const HAS_TILES: bool> Integers for Soft<HAS_TILES> {
    type Floats = SoftFloats;
    type Partial = Self;
    type Unit = Plain;
    const N: usize = 16;
    const IS_WIDE: bool = false;
    const HAS_TILES: bool = HAS_TILES;
    const PANELS: usize = 2;
    const ROWS: usize = 1;
    const SMALL_ROWS: usize = 1;

    #[inline]
    unsafe fn splat(x: i32) -> Self {
        Self([x; 16])
    }
    #[inline]
    unsafe fn load(p: *const u8) -> Self {
        let bytes = (p as *const [[u8; 4]; 16]).read_unaligned();
        Self(bytes.map(i32::from_le_bytes))
    }
    #[inline]
    unsafe fn store(self, p: *mut u8) {
        (p as *mut [[u8; 4]; 16]).write_unaligned(self.0.map(i32::to_le_bytes))
    }
    #[inline]
    unsafe fn add(self, o: Self) -> Self {
        self.with(o, i32::wrapping_add)
    }
    #[inline]
    unsafe fn sub(self, o: Self) -> Self {
        self.with(o, i32::wrapping_sub)
    }
    #[inline]
    unsafe fn sub_8(self, o: Self) -> Self {
        self.with(o, |a, b| {
            let (a, b) = (a.to_ne_bytes(), b.to_ne_bytes());
            i32::from_ne_bytes(std::array::from_fn(|i| a[i].wrapping_sub(b[i])))
        })
    }
    #[inline]
    unsafe fn sub_16(self, o: Self) -> Self {
        self.with(o, |a, b| ((a >> 16) - (b >> 16)) << 16 | i32::from((a as i16).wrapping_sub(b as i16) as u16))
    }
    #[inline]
    unsafe fn mul(self, o: Self) -> Self {
        self.with(o, i32::wrapping_mul)
    }
    #[inline]
    unsafe fn max(self, o: Self) -> Self {
        self.with(o, i32::max)
    }
    #[inline]
    unsafe fn and(self, o: Self) -> Self {
        self.with(o, |a, b| a & b)
    }
    #[inline]
    unsafe fn shift_right_16<const K: u32>(self) -> Self {
        let kept = (0xffff_u32 >> K) * 0x0001_0001;
        Self(self.0.map(|x| ((x.cast_unsigned() >> K) & kept).cast_signed()))
    }
    #[inline]
    unsafe fn to_floats(self) -> SoftFloats {
        SoftFloats(self.0.map(|x| x as f32))
    }
    #[inline]
    unsafe fn load_bytes(p: *const i8) -> Self {
        Self((p as *const [i8; 16]).read_unaligned().map(i32::from))
    }
    #[inline]
    unsafe fn load_halves(p: *const u16) -> SoftFloats {
        SoftFloats((p as *const [u16; 16]).read_unaligned().map(from_f16))
    }
    #[inline]
    unsafe fn dot(self, weights: Self, x: *const u8) -> Self {
        let x = (x as *const [i8; 4]).read_unaligned().map(i32::from);
        self.with(weights, |sum, w| {
            let w = w.to_le_bytes().map(i32::from);
            sum.wrapping_add(w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3])
        })
    }
    #[inline]
    unsafe fn dot_pairs(self, weights: Self, x: *const u8) -> Self {
        let x = (x as *const [i16; 2]).read_unaligned().map(i32::from);
        self.with(weights, |sum, w| sum.wrapping_add(i32::from(w as i16) * x[0] + (w >> 16) * x[1]))
    }
    #[inline]
    unsafe fn begin(self) -> Self {
        self
    }
    #[inline]
    unsafe fn step(sum: Self, weights: Self, x: *const u8) -> Self {
        sum.dot(weights, x)
    }
    #[inline]
    unsafe fn settle(self, sum: Self) -> Self {
        sum
    }
    #[inline]
    unsafe fn quantize(x: *const f32, factor: f32, codes: *mut i8) {
        for i in 0..BLOCK {
            *codes.add(i) = (*x.add(i) * factor).clamp(-127.0, 127.0).round_ties_even() as i8;
        }
    }
    #[inline]
    unsafe fn sum(codes: *const i8, blocks: usize) -> i32 {
        (0..blocks * BLOCK).map(|at| i32::from(*codes.add(at))).sum()
    }
    #[inline]
    unsafe fn widen(codes: *const i8, to: *mut u8) {
        for (at, code) in (codes as *const [i8; BLOCK]).read_unaligned().iter().enumerate() {
            let place = at & !3 | [0, 2, 1, 3][at & 3];
            (to as *mut i16).add(place).write_unaligned(i16::from(*code));
        }
    }
    #[inline]
    unsafe fn prefetch(_: *const u8) {}
}
