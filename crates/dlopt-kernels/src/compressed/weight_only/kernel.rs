//! Sums of a few rows with weights that are decoded in registers, and panels decoded for the tiles of dense layers.
//!
//! Every output is one sum in the order of inputs, begun at the bias, each step one fused multiply-add with the weight
//! that was rounded once: the bytes of [`crate::nn::Dense`] on decoded weights, whatever the tile.
#![allow(unsafe_op_in_unsafe_fn, reason = "the whole module is one contract: see `Panels`")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use std::marker::PhantomData;
use std::ops::Range;

use super::coding::{Coding, PANEL};
use super::registers::{Kernel, Register, run};

/// Most rows that are multiplied with weights in registers: from here on a decoded panel is cheaper.
pub(super) const MOST_ROWS: usize = 6;

/// Bytes of a line of the caches.
const LINE: usize = 64;

/// Bytes that are asked for ahead of those decoded.
const AHEAD: usize = 2048;

/// Scales, `[panels, groups, PANEL]`.
#[derive(Clone, Copy)]
pub(super) enum ScalePointer {
    Single(*const f32),
    Half(*const u16),
    Brain(*const u16),
}

/// A packed matrix.
///
/// # Safety
/// For the functions here: `codes` holds `[panels, units of all groups]`, `scale` and (unless null) `zero` hold
/// `[panels, groups, PANEL]`.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub(super) inputs: usize,
    pub(super) group: usize,
    pub(super) codes: *const u8,
    /// Bytes from one panel to the next.
    pub(super) panel: usize,
    pub(super) scale: ScalePointer,
    /// Null where all are 0.
    pub(super) zero: *const i8,
}

impl Panels {
    #[inline(always)]
    unsafe fn scale<T: Register>(&self, at: usize) -> T {
        match self.scale {
            ScalePointer::Single(scale) => T::load(scale.add(at)),
            ScalePointer::Half(scale) => T::load_half(scale.add(at)),
            ScalePointer::Brain(scale) => T::of_bits(T::shift_left(T::load_wide(scale.add(at)), 16)),
        }
    }

    /// What is to be taken from the fields, in the form that [`weight`] wants.
    #[inline(always)]
    unsafe fn offset<T: Register, C: Coding, const ZERO: u8>(&self, at: usize, scale: T) -> T {
        if ZERO == NO_ZERO {
            return T::splat(0.0);
        }
        let offset = if self.zero.is_null() {
            T::splat(C::MIDDLE)
        } else {
            T::of_integer(T::load_signed(self.zero.add(at).cast())).sub(T::splat(-C::MIDDLE))
        };
        if ZERO == SUBTRACTED { offset } else { T::splat(0.0).sub(offset.mul(scale)) }
    }
}

/// How fields become weights: `field * scale`.
pub(super) const NO_ZERO: u8 = 0;
/// `(field - offset) * scale`.
pub(super) const SUBTRACTED: u8 = 1;
/// `field * scale - offset * scale` in one step: the same where both products are exact.
pub(super) const SCALED: u8 = 2;

#[inline(always)]
unsafe fn weight<T: Register, C: Coding, const ZERO: u8>(value: T, offset: T, scale: T) -> T {
    match ZERO {
        SUBTRACTED => value.sub(offset).mul(scale),
        SCALED => offset.fma(value, scale),
        _ if C::HAS_SCALE => value.mul(scale),
        _ => value,
    }
}

/// The kernels of a coding.
pub(super) trait Kernels: Sync {
    /// Inputs of a unit, and bytes that an output has of it.
    fn unit(&self) -> (usize, usize);

    /// Whether groups have scales.
    fn has_scale(&self) -> bool;

    /// Whether panels are `[inputs, PANEL]` of `f32` as they are.
    fn is_plain(&self) -> bool;

    /// Multiplies a few rows.
    ///
    /// # Safety
    /// As [`Few`] says; the matrix is packed with this coding.
    unsafe fn multiply(&self, few: Few);

    /// Writes panels as a dense layer packs them, `[panels, inputs, PANEL]`.
    ///
    /// # Safety
    /// The matrix is packed with this coding, `out` is valid for the panels.
    unsafe fn decode(&self, matrix: Panels, panels: Range<usize>, out: *mut f32);
}

/// The kernels of `C`, with weights made by [`NO_ZERO`], [`SUBTRACTED`] or [`SCALED`].
pub(super) struct With<C, const ZERO: u8>(pub(super) C);

impl<C: Coding + Sync, const ZERO: u8> Kernels for With<C, ZERO> {
    fn unit(&self) -> (usize, usize) {
        (C::INPUTS, C::BYTES)
    }

    fn has_scale(&self) -> bool {
        C::HAS_SCALE
    }

    fn is_plain(&self) -> bool {
        C::IS_PLAIN
    }

    unsafe fn multiply(&self, few: Few) {
        run(Multiply::<C, ZERO> { few, coding: PhantomData })
    }

    unsafe fn decode(&self, matrix: Panels, panels: Range<usize>, out: *mut f32) {
        run(Decode::<C, ZERO> { matrix, panels, out, coding: PhantomData })
    }
}

/// The panels `panels` of a few rows.
///
/// # Safety
/// `x` is valid for `rows` rows of inputs, 1 to [`MOST_ROWS`], `bias` for a value of every output of all panels, and `out`
/// for `rows` rows of `outputs` values.
pub(super) struct Few {
    pub(super) matrix: Panels,
    pub(super) panels: Range<usize>,
    pub(super) rows: usize,
    pub(super) x: *const f32,
    pub(super) bias: *const f32,
    pub(super) relu: bool,
    pub(super) outputs: usize,
    pub(super) out: *mut f32,
}

struct Multiply<C, const ZERO: u8> {
    few: Few,
    coding: PhantomData<C>,
}

impl<C: Coding, const ZERO: u8> Kernel for Multiply<C, ZERO> {
    #[inline(always)]
    unsafe fn run<T: Register>(self) {
        if T::IS_COMPACT {
            for row in 0..self.few.rows {
                self.panels::<T, 1, 1>(row);
            }
            return;
        }
        match self.few.rows {
            1 => self.panels::<T, 1, 4>(0),
            2 => self.panels::<T, 2, 4>(0),
            3 | 4 if T::LANES == PANEL => self.panels::<T, 4, 4>(0),
            3 | 4 => self.panels::<T, 4, 2>(0),
            _ => self.panels::<T, 6, 2>(0),
        }
    }
}

impl<C: Coding, const ZERO: u8> Multiply<C, ZERO> {
    /// All panels for up to `ROWS` rows, `REGISTERS` at a time while there are so many.
    #[inline(always)]
    unsafe fn panels<T: Register, const ROWS: usize, const REGISTERS: usize>(&self, row: usize) {
        let step = REGISTERS * T::LANES / PANEL;
        let mut panel = self.few.panels.start;
        while panel + step <= self.few.panels.end {
            self.tile::<T, ROWS, REGISTERS>(row, panel);
            panel += step;
        }
        while panel < self.few.panels.end {
            if T::LANES == PANEL {
                self.tile::<T, ROWS, 1>(row, panel);
            } else {
                self.tile::<T, ROWS, 2>(row, panel);
            }
            panel += 1;
        }
    }

    #[inline(always)]
    unsafe fn tile<T: Register, const ROWS: usize, const REGISTERS: usize>(&self, row: usize, panel: usize) {
        let first = panel * PANEL;
        let mut sums = [[T::splat(0.0); REGISTERS]; ROWS];
        for n in 0..REGISTERS {
            let bias = T::load(self.few.bias.add(first + n * T::LANES));
            for m in 0..ROWS {
                sums[m][n] = bias;
            }
        }
        let mut x = [self.few.x; ROWS];
        for m in 0..ROWS {
            // A tile of more rows than there are takes the last one again.
            x[m] = self.few.x.add((row + m).min(self.few.rows - 1) * self.few.matrix.inputs);
        }
        self.sums(panel, x, &mut sums);
        for m in 0..ROWS {
            if row + m < self.few.rows {
                for n in 0..REGISTERS {
                    let sum = if self.few.relu { sums[m][n].relu() } else { sums[m][n] };
                    self.store(sum, row + m, first + n * T::LANES);
                }
            }
        }
    }

    /// Writes a register to a row, from an output on, as far as there are outputs.
    #[inline(always)]
    unsafe fn store<T: Register>(&self, sum: T, row: usize, output: usize) {
        let outputs = self.few.outputs;
        let to = self.few.out.wrapping_add(row * outputs + output);
        if output + T::LANES <= outputs {
            sum.store(to);
        } else if output < outputs {
            let mut lanes = [0.0; PANEL];
            sum.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, outputs - output);
        }
    }

    #[inline(always)]
    unsafe fn sums<T: Register, const ROWS: usize, const REGISTERS: usize>(
        &self,
        panel: usize,
        mut x: [*const f32; ROWS],
        sums: &mut [[T; REGISTERS]; ROWS],
    ) {
        let matrix = &self.few.matrix;
        let groups = matrix.inputs.div_ceil(matrix.group);
        let mut codes = matrix.codes.add(panel * matrix.panel);
        for group in 0..groups {
            let len = matrix.group.min(matrix.inputs - group * matrix.group);
            let mut scale = [T::splat(1.0); REGISTERS];
            let mut offset = [T::splat(0.0); REGISTERS];
            for n in 0..REGISTERS {
                let lane = n * T::LANES;
                let at = ((panel + lane / PANEL) * groups + group) * PANEL + lane % PANEL;
                if C::HAS_SCALE {
                    scale[n] = matrix.scale::<T>(at);
                    offset[n] = matrix.offset::<T, C, ZERO>(at, scale[n]);
                }
            }
            let units = len / C::INPUTS;
            // A line of each panel at a time where that is all the work.
            let line = if ROWS == 1 { LINE / (C::BYTES * PANEL) } else { 1 };
            for _ in 0..units / line {
                for n in (0..REGISTERS).step_by(PANEL / T::LANES) {
                    prefetch(codes.wrapping_add(n * T::LANES / PANEL * matrix.panel + AHEAD));
                }
                for _ in 0..line {
                    self.unit::<T, ROWS, REGISTERS>(codes, C::INPUTS, &scale, &offset, &mut x, sums);
                    codes = codes.add(C::BYTES * PANEL);
                }
            }
            for first in (units / line * line * C::INPUTS..len).step_by(C::INPUTS) {
                let inputs = C::INPUTS.min(len - first);
                self.unit::<T, ROWS, REGISTERS>(codes, inputs, &scale, &offset, &mut x, sums);
                codes = codes.add(C::BYTES * PANEL);
            }
        }
    }

    /// The first `inputs` of a unit.
    #[inline(always)]
    unsafe fn unit<T: Register, const ROWS: usize, const REGISTERS: usize>(
        &self,
        codes: *const u8,
        inputs: usize,
        scale: &[T; REGISTERS],
        offset: &[T; REGISTERS],
        x: &mut [*const f32; ROWS],
        sums: &mut [[T; REGISTERS]; ROWS],
    ) {
        for n in 0..REGISTERS {
            let lane = n * T::LANES;
            let unit = codes.add(lane / PANEL * self.few.matrix.panel + lane % PANEL * C::BYTES);
            let values = C::values::<T>(unit);
            for i in 0..C::INPUTS {
                if i < inputs {
                    let weight = weight::<T, C, ZERO>(values[i], offset[n], scale[n]);
                    for m in 0..ROWS {
                        sums[m][n] = sums[m][n].fma(T::splat(*x[m].add(i)), weight);
                    }
                }
            }
        }
        for m in 0..ROWS {
            x[m] = x[m].add(inputs);
        }
    }
}

struct Decode<C, const ZERO: u8> {
    matrix: Panels,
    panels: Range<usize>,
    out: *mut f32,
    coding: PhantomData<C>,
}

impl<C: Coding, const ZERO: u8> Kernel for Decode<C, ZERO> {
    #[inline(always)]
    unsafe fn run<T: Register>(self) {
        let matrix = &self.matrix;
        let groups = matrix.inputs.div_ceil(matrix.group);
        let mut out = self.out;
        for panel in self.panels.clone() {
            let mut codes = matrix.codes.add(panel * matrix.panel);
            for group in 0..groups {
                let len = matrix.group.min(matrix.inputs - group * matrix.group);
                for lane in (0..PANEL).step_by(T::LANES) {
                    let at = (panel * groups + group) * PANEL + lane;
                    let (mut scale, mut offset) = (T::splat(1.0), T::splat(0.0));
                    if C::HAS_SCALE {
                        scale = matrix.scale::<T>(at);
                        offset = matrix.offset::<T, C, ZERO>(at, scale);
                    }
                    let mut unit = codes.add(lane * C::BYTES);
                    let mut to = out.add(lane);
                    for first in (0..len).step_by(C::INPUTS) {
                        let values = C::values::<T>(unit);
                        for i in 0..C::INPUTS {
                            if first + i < len {
                                weight::<T, C, ZERO>(values[i], offset, scale).store(to);
                                to = to.add(PANEL);
                            }
                        }
                        unit = unit.add(C::BYTES * PANEL);
                    }
                }
                codes = codes.add(len.div_ceil(C::INPUTS) * C::BYTES * PANEL);
                out = out.add(len * PANEL);
            }
        }
    }
}

/// Asks for a line of memory, there or not.
#[inline(always)]
fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}
