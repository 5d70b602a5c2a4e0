//! How a tile reads codes: sums of products over quads of inputs, from each layout that codes lie in.
//!
//! A panel is `[quads][PANEL][4]` bytes, or packs two or four such quads into each byte.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use super::registers::{Integers, PANEL};

/// Bytes of a quad of all outputs of a panel.
pub(super) const QUAD: usize = 4 * PANEL;
/// How far ahead of a stream memory is asked for.
const AHEAD: usize = 2048;

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
        for quad in 0..quads {
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
            let mut parts = begin(sums);
            for quad in first..first + 8 {
                let mut weights = [T::splat(0); NR];
                for n in 0..NR {
                    weights[n] = place.weights(quad * QUAD, n);
                }
                step::<T, MR, NR>(&mut parts, weights, &place.x, quad);
            }
            settle(sums, parts);
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
        let low = T::splat(0x0f0f_0f0f);
        for first in (0..quads).step_by(8) {
            let mut parts = begin(sums);
            for quad in (first..first + 8).step_by(2) {
                let at = quad / 2 * QUAD;
                place.prefetch::<T>(at, NR);
                let mut weights = [T::splat(0); NR];
                let mut lows = weights;
                for n in 0..NR {
                    weights[n] = place.weights(at, n);
                    lows[n] = weights[n].and(low);
                    weights[n] = weights[n].shift_right_16::<4>().and(low);
                }
                step::<T, MR, NR>(&mut parts, lows, &place.x, quad);
                step::<T, MR, NR>(&mut parts, weights, &place.x, quad + 1);
            }
            settle(sums, parts);
        }
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
        let low = T::splat(0x0303_0303);
        for first in (0..quads).step_by(8) {
            let mut parts = begin(sums);
            for quad in (first..first + 8).step_by(4) {
                let at = quad / 4 * QUAD;
                place.prefetch::<T>(at, NR);
                let mut weights = [T::splat(0); NR];
                for n in 0..NR {
                    weights[n] = place.weights(at, n);
                }
                for place_of_bits in 0..4 {
                    let mut lows = weights;
                    for n in 0..NR {
                        lows[n] = weights[n].and(low);
                        weights[n] = weights[n].shift_right_16::<2>();
                    }
                    step::<T, MR, NR>(&mut parts, lows, &place.x, quad + place_of_bits);
                }
            }
            settle(sums, parts);
        }
    }
}

#[inline(always)]
unsafe fn begin<T: Integers, const MR: usize, const NR: usize>(sums: &[[T; NR]; MR]) -> [[T::Partial; NR]; MR] {
    let mut parts = [[sums[0][0].begin(); NR]; MR];
    for m in 0..MR {
        for n in 0..NR {
            parts[m][n] = sums[m][n].begin();
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
    parts: [[T::Partial; NR]; MR],
) {
    for m in 0..MR {
        for n in 0..NR {
            sums[m][n] = sums[m][n].settle(parts[m][n]);
        }
    }
}
