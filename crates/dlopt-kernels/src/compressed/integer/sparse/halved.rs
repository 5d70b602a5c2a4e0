//! Many rows by codes of which at most two of each four neighbours are not 0: half the products, and none with a zero.
//!
//! An output keeps four codes of eight inputs, and where each of them stood in three bits. Eight bytes of a row go to every
//! lane, each output picks its four by a shuffle, and a step multiplies them. Panels are [`PANEL`] outputs,
//! `[panel][two eights][codes of the first, of the second, places]`, a line each.
#![allow(unsafe_op_in_unsafe_fn, reason = "rows and sums are those of the caller: see `Halved::multiply`")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use super::super::registers::PANEL;
use super::few_rows::FewRows;
use super::set::Set;
use crate::compressed::lines::{LINE, Lines};
use crate::compressed::sparse::rows::Rows;

/// Inputs of which an output keeps four codes.
const EIGHT: usize = 8;
/// Bytes of two eights of a panel.
const TWO: usize = 3 * LINE;
/// Panels that are multiplied at a time, and rows of a tile.
pub(super) const PANELS: usize = 2;
const ROWS: usize = 8;

/// Codes, two of each four.
#[derive(Debug)]
pub(super) struct Halved {
    outputs: usize,
    /// Pairs of eights of a row.
    twos: usize,
    lines: Lines,
}

impl Halved {
    /// Packs codes, unless three of four neighbours are not 0 somewhere.
    pub(super) fn pack(rows: &Rows<i8>) -> Option<Self> {
        let (outputs, twos) = (rows.outputs(), rows.inputs.div_ceil(2 * EIGHT));
        let is_halved = |output| rows.of(output).0.windows(3).all(|three| three[0] / 4 != three[2] / 4);
        if !(0..outputs).all(is_halved) {
            return None;
        }
        // A tile has all its panels, those of no output too.
        let mut lines = Lines::new(outputs.div_ceil(PANELS * PANEL) * PANELS * twos * TWO);
        for output in 0..outputs {
            let panel = &mut lines.bytes_mut()[output / PANEL * twos * TWO..][..twos * TWO];
            let lane = output % PANEL * 4;
            let (places, codes) = rows.of(output);
            let mut kept = [usize::MAX, 0];
            for (&place, &code) in places.iter().zip(codes) {
                let place = place as usize;
                // Those of an eight one behind the other: there are at most four.
                kept = [place / EIGHT, if kept[0] == place / EIGHT { kept[1] + 1 } else { 0 }];
                let (eight, at) = (kept[0], lane + kept[1]);
                let two = &mut panel[eight / 2 * TWO..][..TWO];
                two[eight % 2 * LINE + at] = code.cast_unsigned();
                two[2 * LINE + at] |= ((place % EIGHT) as u8) << (4 * (eight % 2));
            }
        }
        Some(Self { outputs, twos, lines })
    }

    pub(super) fn bytes(&self) -> usize {
        self.lines.bytes().len()
    }

    /// Tiles of [`PANELS`] panels.
    pub(super) fn tiles(&self) -> usize {
        self.outputs.div_ceil(PANELS * PANEL)
    }

    /// Writes the sums of a tile of outputs, `[rows][PANELS * PANEL]`; bytes of rows are 128 above their codes.
    ///
    /// # Safety
    /// `rows` are valid for the inputs, padded to a multiple of sixteen, and their sums for those of the tile.
    pub(super) unsafe fn multiply(&self, set: Set, tile: usize, rows: FewRows) {
        let bytes = PANELS * self.twos * TWO;
        let lines = &self.lines.bytes()[tile * bytes..][..bytes];
        #[cfg(target_arch = "x86_64")]
        if set >= Set::Vnni {
            return self::x86::tile(lines.as_ptr(), self.twos, rows);
        }
        let _ = set;
        plain(lines, self.twos, rows);
    }
}

/// The portable twin.
unsafe fn plain(lines: &[u8], twos: usize, rows: FewRows) {
    for row in 0..rows.count {
        let FewRows { x, sums, .. } = rows.from(row);
        for (panel, lines) in lines.chunks_exact(twos * TWO).enumerate() {
            for lane in 0..PANEL {
                let mut sum = 0;
                for (two, lines) in lines.chunks_exact(TWO).enumerate() {
                    for kept in 4 * lane..4 * lane + 4 {
                        for (half, place) in
                            [lines[2 * LINE + kept] & 7, lines[2 * LINE + kept] >> 4].into_iter().enumerate()
                        {
                            let x = *x.add((2 * two + half) * EIGHT + usize::from(place));
                            sum += i32::from(x) * i32::from(lines[half * LINE + kept].cast_signed());
                        }
                    }
                }
                sums.add(panel * PANEL + lane).write(sum);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::sync::atomic::{Ordering, compiler_fence};

    use super::super::few_rows::FewRows;
    use super::{EIGHT, LINE, PANEL, PANELS, ROWS, TWO};

    /// # Safety
    /// AVX-512 with VNNI is there; else as [`super::Halved::multiply`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn tile(lines: *const u8, twos: usize, rows: FewRows) {
        let mut row = 0;
        while row < rows.count {
            let left = rows.count - row;
            match left {
                1 => sums::<1>(lines, twos, rows.from(row)),
                2 | 3 => sums::<2>(lines, twos, rows.from(row)),
                4..ROWS => sums::<4>(lines, twos, rows.from(row)),
                _ => sums::<ROWS>(lines, twos, rows.from(row)),
            }
            row += match left {
                1 => 1,
                2 | 3 => 2,
                4..ROWS => 4,
                _ => ROWS,
            };
        }
    }

    #[inline(always)]
    unsafe fn sums<const MR: usize>(lines: *const u8, twos: usize, rows: FewRows) {
        let mut sums = [[_mm512_setzero_si512(); PANELS]; MR];
        for two in 0..twos {
            let mut codes = [[_mm512_setzero_si512(); 2]; PANELS];
            let mut places = [_mm512_setzero_si512(); PANELS];
            for n in 0..PANELS {
                let from = lines.add((n * twos + two) * TWO);
                codes[n] = [_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(LINE).cast())];
                places[n] = _mm512_loadu_si512(from.add(2 * LINE).cast());
            }
            for half in 0..2 {
                for m in 0..MR {
                    let x = rows.x.add(m * rows.step + (2 * two + half) * EIGHT);
                    let x = _mm512_set1_epi64(x.cast::<i64>().read_unaligned());
                    for n in 0..PANELS {
                        // A shuffle heeds the low four bits, and the highest, which no place has.
                        let kept = _mm512_shuffle_epi8(x, places[n]);
                        sums[m][n] = _mm512_dpbusd_epi32(sums[m][n], kept, codes[n][half]);
                    }
                }
                for n in 0..PANELS {
                    places[n] = _mm512_srli_epi16::<4>(places[n]);
                }
            }
            // Loads that the compiler moves ahead of it would push sums out of their registers.
            compiler_fence(Ordering::SeqCst);
        }
        for m in 0..MR {
            for n in 0..PANELS {
                _mm512_storeu_si512(rows.sums.add(m * rows.sums_step + n * PANEL).cast(), sums[m][n]);
            }
        }
    }
}
