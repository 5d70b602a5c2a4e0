//! How a tile reads codes: sums of products over quads of inputs, from each layout that codes lie in.
//!
//! A panel is `[quads][PANEL][4]` bytes, or packs two or four such quads into each byte.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use std::sync::atomic::{Ordering, compiler_fence};

use super::registers::{Integers, PANEL};

/// Bytes of a quad of all outputs of a panel.
pub(super) const QUAD: usize = 4 * PANEL;
/// How far ahead of a stream memory is asked for.
const AHEAD: usize = 4096;
/// Parts that a sum is made of at most, so that steps need not wait for each other.
const CHAINS: usize = 4;

/// Weights and activations of a tile, at the first of some quads.
#[derive(Clone, Copy)]
pub(super) struct Place<const MR: usize> {
    /// Codes of the first panel, and bytes from one panel to the next.
    pub(super) codes: *const u8,
    pub(super) panel: usize,
    /// Activations of each row.
    pub(super) x: [*const u8; MR],
    /// Codes are read once: memory ahead is asked for.
    pub(super) is_streamed: bool,
}

impl<const MR: usize> Place<MR> {
    #[inline(always)]
    unsafe fn weights<T: Integers>(&self, at: usize, register: usize) -> T {
        let lane = register * T::N;
        T::load(self.codes.add(at + lane / PANEL * self.panel + lane % PANEL * 4))
    }

    /// Asks for a line ahead, for each panel of a tile of `registers`.
    #[inline(always)]
    unsafe fn prefetch<T: Integers>(&self, at: usize, registers: usize) {
        if self.is_streamed {
            for panel in 0..(registers * T::N).div_ceil(PANEL) {
                T::prefetch(self.codes.wrapping_add(at + panel * self.panel + AHEAD));
            }
        }
    }
}

/// A layout of codes.
pub(super) trait Source {
    /// Codes in a byte.
    const PER_BYTE: usize = 1;
    /// Rows of a tile.
    fn rows<T: Integers>() -> usize;
    /// Bytes of a quad of activations.
    fn x_quad<T: Integers>() -> usize;
    /// Bytes of a panel's quads.
    #[inline(always)]
    fn bytes(quads: usize) -> usize {
        quads * QUAD / Self::PER_BYTE
    }
    /// Adds products of stored codes and activations over `quads`, a multiple of 8 where codes are below 16.
    unsafe fn add<T: Integers, const MR: usize, const NR: usize>(
        sums: &mut [[T; NR]; MR],
        place: Place<MR>,
        quads: usize,
    );
}

/// Bytes, one a code.
pub(super) struct Bytes;

impl Source for Bytes {
    #[inline(always)]
    fn rows<T: Integers>() -> usize {
        T::ROWS
    }
    #[inline(always)]
    fn x_quad<T: Integers>() -> usize {
        if T::IS_WIDE { 8 } else { 4 }
    }
    #[inline(always)]
    unsafe fn add<T: Integers, const MR: usize, const NR: usize>(
        sums: &mut [[T; NR]; MR],
        place: Place<MR>,
        quads: usize,
    ) {
        let chains = chains::<T>(MR * NR);
        if chains == 1 {
            for quad in 0..quads {
                Self::quad(sums, &place, quad);
            }
            return;
        }
        let mut parts = [[[T::splat(0); NR]; MR]; CHAINS];
        let whole = quads / CHAINS * CHAINS;
        for first in (0..whole).step_by(CHAINS) {
            Self::quad::<T, MR, NR>(&mut parts[0], &place, first);
            Self::quad::<T, MR, NR>(&mut parts[1 % chains], &place, first + 1);
            Self::quad::<T, MR, NR>(&mut parts[2 % chains], &place, first + 2);
            Self::quad::<T, MR, NR>(&mut parts[3 % chains], &place, first + 3);
        }
        for quad in whole..quads {
            Self::quad(sums, &place, quad);
        }
        for part in &parts[..chains] {
            for m in 0..MR {
                for n in 0..NR {
                    sums[m][n] = sums[m][n].add(part[m][n]);
                }
            }
        }
    }
}

impl Bytes {
    #[inline(always)]
    unsafe fn quad<T: Integers, const MR: usize, const NR: usize>(
        sums: &mut [[T; NR]; MR],
        place: &Place<MR>,
        quad: usize,
    ) {
        place.prefetch::<T>(quad * QUAD, NR);
        let mut weights = [T::splat(0); NR];
        for n in 0..NR {
            weights[n] = place.weights(quad * QUAD, n);
        }
        for m in 0..MR {
            for n in 0..NR {
                sums[m][n] = sums[m][n].dot(weights[n], place.x[m].add(quad * Self::x_quad::<T>()));
            }
        }
    }
}

/// Bytes made 16-bit integers: the even ones of each quad of a panel, then the odd ones.
pub(super) struct Pairs;

impl Source for Pairs {
    #[inline(always)]
    fn rows<T: Integers>() -> usize {
        T::ROWS
    }
    #[inline(always)]
    fn x_quad<T: Integers>() -> usize {
        8
    }
    #[inline(always)]
    fn bytes(quads: usize) -> usize {
        2 * quads * QUAD
    }
    #[inline(always)]
    unsafe fn add<T: Integers, const MR: usize, const NR: usize>(
        sums: &mut [[T; NR]; MR],
        place: Place<MR>,
        quads: usize,
    ) {
        for pair in 0..2 * quads {
            let mut weights = [T::splat(0); NR];
            for n in 0..NR {
                weights[n] = place.weights(pair * QUAD, n);
            }
            for m in 0..MR {
                for n in 0..NR {
                    sums[m][n] = sums[m][n].dot_pairs(weights[n], place.x[m].add(4 * pair));
                }
            }
        }
    }
}

/// Bytes below 16, one a code.
pub(super) struct Small;

impl Source for Small {
    #[inline(always)]
    fn rows<T: Integers>() -> usize {
        T::SMALL_ROWS
    }
    #[inline(always)]
    fn x_quad<T: Integers>() -> usize {
        4
    }
    #[inline(always)]
    unsafe fn add<T: Integers, const MR: usize, const NR: usize>(
        sums: &mut [[T; NR]; MR],
        place: Place<MR>,
        quads: usize,
    ) {
        for first in (0..quads).step_by(8) {
            let mut parts = begin::<T, MR, NR>(sums);
            for quad in first..first + 8 {
                let mut weights = [T::splat(0); NR];
                for n in 0..NR {
                    weights[n] = place.weights(quad * QUAD, n);
                }
                step::<T, MR, NR>(&mut parts[0], weights, &place.x, quad);
                // Loads that the compiler moves ahead of it would push totals out of their registers.
                compiler_fence(Ordering::SeqCst);
            }
            settle::<T, MR, NR>(sums, parts, 1);
        }
    }
}

/// Two codes a byte: a quad in the low halves, the next one in the high halves.
pub(super) struct Nibbles;

impl Source for Nibbles {
    const PER_BYTE: usize = 2;
    #[inline(always)]
    fn rows<T: Integers>() -> usize {
        T::SMALL_ROWS
    }
    #[inline(always)]
    fn x_quad<T: Integers>() -> usize {
        4
    }
    #[inline(always)]
    unsafe fn add<T: Integers, const MR: usize, const NR: usize>(
        sums: &mut [[T; NR]; MR],
        place: Place<MR>,
        quads: usize,
    ) {
        let chains = chains::<T>(MR * NR);
        for first in (0..quads).step_by(8) {
            let mut parts = begin::<T, MR, NR>(sums);
            Self::two_quads::<T, MR, NR>(&mut parts, [0, 1 % chains], &place, first);
            Self::two_quads::<T, MR, NR>(&mut parts, [2 % chains, 3 % chains], &place, first + 2);
            Self::two_quads::<T, MR, NR>(&mut parts, [0, 1 % chains], &place, first + 4);
            Self::two_quads::<T, MR, NR>(&mut parts, [2 % chains, 3 % chains], &place, first + 6);
            settle::<T, MR, NR>(sums, parts, chains);
        }
    }
}

impl Nibbles {
    /// Adds two quads to a part of the sums each.
    #[inline(always)]
    unsafe fn two_quads<T: Integers, const MR: usize, const NR: usize>(
        parts: &mut Parts<T, MR, NR>,
        [low, high]: [usize; 2],
        place: &Place<MR>,
        quad: usize,
    ) {
        let (at, mask) = (quad / 2 * QUAD, T::splat(0x0f0f_0f0f));
        place.prefetch::<T>(at, NR);
        let mut weights = [T::splat(0); NR];
        let mut lows = weights;
        for n in 0..NR {
            weights[n] = place.weights(at, n);
            lows[n] = weights[n].and(mask);
            weights[n] = weights[n].shift_right_16::<4>().and(mask);
        }
        step::<T, MR, NR>(&mut parts[low], lows, &place.x, quad);
        step::<T, MR, NR>(&mut parts[high], weights, &place.x, quad + 1);
    }
}

/// Four codes a byte, of four neighbouring quads, the first in the lowest bits.
pub(super) struct Crumbs;

impl Source for Crumbs {
    const PER_BYTE: usize = 4;
    #[inline(always)]
    fn rows<T: Integers>() -> usize {
        T::SMALL_ROWS
    }
    #[inline(always)]
    fn x_quad<T: Integers>() -> usize {
        4
    }
    #[inline(always)]
    unsafe fn add<T: Integers, const MR: usize, const NR: usize>(
        sums: &mut [[T; NR]; MR],
        place: Place<MR>,
        quads: usize,
    ) {
        let chains = chains::<T>(MR * NR);
        for first in (0..quads).step_by(8) {
            let mut parts = begin::<T, MR, NR>(sums);
            Self::four_quads::<T, MR, NR>(&mut parts, chains, &place, first);
            Self::four_quads::<T, MR, NR>(&mut parts, chains, &place, first + 4);
            settle::<T, MR, NR>(sums, parts, chains);
        }
    }
}

impl Crumbs {
    /// Adds four quads to the parts of the sums.
    #[inline(always)]
    unsafe fn four_quads<T: Integers, const MR: usize, const NR: usize>(
        parts: &mut Parts<T, MR, NR>,
        chains: usize,
        place: &Place<MR>,
        quad: usize,
    ) {
        let at = quad / 4 * QUAD;
        place.prefetch::<T>(at, NR);
        let mut weights = [T::splat(0); NR];
        for n in 0..NR {
            weights[n] = place.weights(at, n);
        }
        Self::quad::<T, MR, NR>(&mut parts[0], &mut weights, place, quad);
        Self::quad::<T, MR, NR>(&mut parts[1 % chains], &mut weights, place, quad + 1);
        Self::quad::<T, MR, NR>(&mut parts[2 % chains], &mut weights, place, quad + 2);
        Self::quad::<T, MR, NR>(&mut parts[3 % chains], &mut weights, place, quad + 3);
    }

    /// Adds the quad that is in the lowest bits, and moves the next one there.
    #[inline(always)]
    unsafe fn quad<T: Integers, const MR: usize, const NR: usize>(
        sums: &mut [[T::Partial; NR]; MR],
        weights: &mut [T; NR],
        place: &Place<MR>,
        quad: usize,
    ) {
        let mut lows = *weights;
        for n in 0..NR {
            lows[n] = weights[n].and(T::splat(0x0303_0303));
            weights[n] = weights[n].shift_right_16::<2>();
        }
        step::<T, MR, NR>(sums, lows, &place.x, quad);
    }
}

/// The parts of a tile's sums.
type Parts<T, const MR: usize, const NR: usize> = [[[<T as Integers>::Partial; NR]; MR]; CHAINS];

/// Parts of the sums of a tile with so many registers: wide steps follow each other at once.
#[inline(always)]
fn chains<T: Integers>(registers: usize) -> usize {
    match registers {
        _ if T::IS_WIDE => 1,
        1 => CHAINS,
        2 | 3 => 2,
        _ => 1,
    }
}

/// The first part goes on from the sums.
#[inline(always)]
unsafe fn begin<T: Integers, const MR: usize, const NR: usize>(sums: &[[T; NR]; MR]) -> Parts<T, MR, NR> {
    let mut parts = [[[T::splat(0).begin(); NR]; MR]; CHAINS];
    for m in 0..MR {
        for n in 0..NR {
            parts[0][m][n] = sums[m][n].begin();
        }
    }
    parts
}

#[inline(always)]
unsafe fn step<T: Integers, const MR: usize, const NR: usize>(
    parts: &mut [[T::Partial; NR]; MR],
    weights: [T; NR],
    x: &[*const u8; MR],
    quad: usize,
) {
    for m in 0..MR {
        for n in 0..NR {
            parts[m][n] = T::step(parts[m][n], weights[n], x[m].add(4 * quad));
        }
    }
}

#[inline(always)]
unsafe fn settle<T: Integers, const MR: usize, const NR: usize>(
    sums: &mut [[T; NR]; MR],
    parts: Parts<T, MR, NR>,
    chains: usize,
) {
    for m in 0..MR {
        for n in 0..NR {
            sums[m][n] = sums[m][n].settle(parts[0][m][n]);
            for part in &parts[1..chains] {
                sums[m][n] = sums[m][n].add(T::splat(0).settle(part[m][n]));
            }
        }
    }
}
