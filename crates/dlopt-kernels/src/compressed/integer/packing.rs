//! How many bits a code takes in memory, and what tiles of many rows read instead of it.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`")]

use std::fmt::Debug;

use super::registers::Integers;
use super::source::{Bytes, Crumbs, Nibbles, Pairs, QUAD, Small, Source};

/// A way to keep codes in memory.
pub(super) trait Packing: Debug + Send + Sync {
    /// As it lies in memory.
    type Packed: Source;
    /// As tiles of many rows read it, and what is then stored above each code.
    type Unpacked: Source;
    const UNPACKED_OFFSET: i32;
    /// Bits of the codes that it is for, the fewest and the most.
    const BITS: [u32; 2];
    /// What is stored of a code is this much above it.
    const OFFSET: i32;
    /// Tiles of many rows read [`Self::Unpacked`], and not what is packed.
    fn unpacks<T: Integers>() -> bool;
    /// A byte of padding, of which tiles of the machine's own read zeros.
    const PADDING: u8;
    /// Unpacks `quads`, a multiple of 8, of a panel, each byte `above` its code.
    unsafe fn unpack<T: Integers>(codes: *const u8, quads: usize, above: i32, to: *mut u8);
}

/// A code a byte.
#[derive(Debug)]
pub(super) struct InBytes;
/// Two codes a byte.
#[derive(Debug)]
pub(super) struct InNibbles;
/// Four codes a byte.
#[derive(Debug)]
pub(super) struct InCrumbs;

impl Packing for InBytes {
    type Packed = Bytes;
    type Unpacked = Pairs;
    const BITS: [u32; 2] = [5, 8];
    const OFFSET: i32 = 128;
    const UNPACKED_OFFSET: i32 = 0;
    const PADDING: u8 = 0;
    #[inline(always)]
    fn unpacks<T: Integers>() -> bool {
        T::IS_WIDE
    }
    #[inline(always)]
    unsafe fn unpack<T: Integers>(codes: *const u8, quads: usize, above: i32, to: *mut u8) {
        let (low, less) = (T::splat(0x00ff_00ff), T::splat((Self::OFFSET - above) * 0x0001_0001));
        for quad in 0..quads {
            for at in (0..QUAD).step_by(4 * T::N) {
                let bytes = T::load(codes.add(quad * QUAD + at));
                bytes.and(low).sub_16(less).store(to.add(2 * quad * QUAD + at));
                bytes.shift_right_16::<8>().sub_16(less).store(to.add((2 * quad + 1) * QUAD + at));
            }
        }
    }
}

impl Packing for InNibbles {
    type Packed = Nibbles;
    type Unpacked = Small;
    const BITS: [u32; 2] = [3, 4];
    const OFFSET: i32 = 8;
    const UNPACKED_OFFSET: i32 = 8;
    const PADDING: u8 = 0x88;
    #[inline(always)]
    fn unpacks<T: Integers>() -> bool {
        true
    }
    #[inline(always)]
    unsafe fn unpack<T: Integers>(codes: *const u8, quads: usize, above: i32, to: *mut u8) {
        let (low, less) = (T::splat(0x0f0f_0f0f), T::splat((Self::OFFSET - above) * 0x0101_0101));
        for two in 0..quads / 2 {
            for at in (0..QUAD).step_by(4 * T::N) {
                let bytes = T::load(codes.add(two * QUAD + at));
                bytes.and(low).sub_8(less).store(to.add(2 * two * QUAD + at));
                bytes.shift_right_16::<4>().and(low).sub_8(less).store(to.add((2 * two + 1) * QUAD + at));
            }
        }
    }
}

impl Packing for InCrumbs {
    type Packed = Crumbs;
    type Unpacked = Small;
    const BITS: [u32; 2] = [2, 2];
    const OFFSET: i32 = 2;
    const UNPACKED_OFFSET: i32 = 2;
    const PADDING: u8 = 0xaa;
    #[inline(always)]
    fn unpacks<T: Integers>() -> bool {
        true
    }
    #[inline(always)]
    unsafe fn unpack<T: Integers>(codes: *const u8, quads: usize, above: i32, to: *mut u8) {
        let (low, less) = (T::splat(0x0303_0303), T::splat((Self::OFFSET - above) * 0x0101_0101));
        for four in 0..quads / 4 {
            for at in (0..QUAD).step_by(4 * T::N) {
                let mut bytes = T::load(codes.add(four * QUAD + at));
                for quad in 4 * four..4 * four + 4 {
                    bytes.and(low).sub_8(less).store(to.add(quad * QUAD + at));
                    bytes = bytes.shift_right_16::<2>();
                }
            }
        }
    }
}
