//! Matrices whose weights stay compressed in memory while activations stay `f32`.
//!
//! A weight is what the checkpoint says it is, `(code - zero) * scale` rounded once, decoded in a register. Layout:
//! panels of sixteen outputs, each `[groups][units of a group][16 outputs]`, a unit being the inputs that share a byte; so
//! lanes are outputs, and sums run in the order of inputs as in [`crate::nn::Dense`], whose bytes they give. Rows that
//! are many take panels decoded into scratch, and the tile of dense layers.

mod coding;
mod kernel;
mod pack;
mod registers;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use super::lines::Lines;
use super::{Codes, Product};
use crate::element::Float;
use crate::level::{Level, level};
use crate::nn::Team;
use crate::nn::conv::correlate::{Grid, Weights, correlate};
use crate::nn::conv::plan::Run;
use crate::nn::scratch::with_scratch;

use self::coding::{Brain, Float8, Half, Int2, Int4, Int8, PANEL, Single};
use self::kernel::{Few, Kernels, MOST_ROWS, NO_ZERO, Panels, SCALED, SUBTRACTED, With};
use self::pack::{Scales, Units, fields, in_panels};

/// Fewer products than this are not worth waking a team.
const WORTH_A_TEAM: usize = 128 << 10;

/// Weights of a task of few rows.
const TASK: usize = 256 << 10;

/// A matrix of integers, 8-bit floats or 16-bit floats that are widened as they are multiplied, or of plain `f32`.
#[derive(Clone)]
pub struct WeightOnly {
    kernels: &'static dyn Kernels,
    inputs: usize,
    outputs: usize,
    group: usize,
    codes: Lines,
    scale: Scales,
    /// In panels as scales, or empty.
    zero: Vec<i8>,
}

/// Codes of a matrix of FP8 E4M3, `weight[o, i] = value(code[o, i]) * scale[o, g]` with `g = i / group`.
pub struct Float8Codes<'a> {
    /// Rows of codes.
    pub outputs: usize,
    /// Codes of a row.
    pub inputs: usize,
    /// Neighbouring inputs that share a scale; the last group of a row may be short. `inputs` for one scale a row.
    pub group: usize,
    /// `[outputs, groups]`, finite.
    pub scale: &'a [f32],
    /// Writes the codes of a row; called once for each, in order.
    pub row: &'a mut dyn FnMut(usize, &mut [u8]),
}

impl WeightOnly {
    /// Packs integers, in 2, 4 or 8 bits each.
    ///
    /// # Panics
    /// When an extent is 0, `bits` is not in 1..=8, or scales or zero points are not one a group.
    pub fn integers(codes: Codes<'_>) -> Self {
        let Codes { outputs, inputs, bits, group, scale, zero, row } = codes;
        assert!((1..=8).contains(&bits), "codes of 1 to 8 bits, found {bits}");
        assert!(zero.is_empty() || zero.len() == scale.len(), "one zero point a group, or none");
        let is_symmetric = zero.iter().all(|zero| *zero == 0);
        // Then products with codes and zero points need less bits than `f32` has.
        let is_exact = Scales::are_short(scale) && scale.iter().all(|scale| *scale > 0.0 && *scale < 1e30);
        let (width, kernels): (u32, &'static dyn Kernels) = match (bits, is_exact) {
            (1 | 2, true) => (2, &With::<_, SCALED>(Int2)),
            (1 | 2, false) => (2, &With::<_, SUBTRACTED>(Int2)),
            (3 | 4, true) => (4, &With::<_, SCALED>(Int4)),
            (3 | 4, false) => (4, &With::<_, SUBTRACTED>(Int4)),
            _ if is_symmetric => (8, &With::<_, NO_ZERO>(Int8)),
            _ => (8, &With::<_, SUBTRACTED>(Int8)),
        };
        let mut matrix = Self::new(kernels, [outputs, inputs], group, scale);
        let units = matrix.units();
        matrix.codes = match width {
            8 => units.pack(row, |codes: &[i8], to| to[0] = codes[0].cast_unsigned()),
            _ => units.pack(row, |codes: &[i8], to| to[0] = fields(codes, width)),
        };
        if !is_symmetric {
            matrix.zero = in_panels(outputs, matrix.groups(), zero.iter().copied());
        }
        matrix
    }

    /// Packs FP8 E4M3. A row with a code that stands for NaN gives NaN.
    ///
    /// # Panics
    /// When an extent is 0, or scales are not one a group.
    pub fn float8(codes: Float8Codes<'_>) -> Self {
        let Float8Codes { outputs, inputs, group, scale, row } = codes;
        let mut matrix = Self::new(&With::<_, NO_ZERO>(Float8), [outputs, inputs], group, scale);
        let groups = matrix.groups();
        let mut nan = vec![];
        let mut watched = |output: usize, codes: &mut [u8]| {
            row(output, codes);
            nan.extend(codes.iter().any(|code| code & 0x7f == 0x7f).then_some(output));
        };
        matrix.codes = matrix.units().pack(&mut watched, |codes, to| to[0] = codes[0]);
        if !nan.is_empty() {
            // The kernels know no NaN among codes; one among the scales has the same effect on a sum.
            let mut scale = scale.to_vec();
            nan.iter().for_each(|output| scale[output * groups] = f32::NAN);
            matrix.scale = Scales::new(outputs, groups, &scale);
        }
        matrix
    }

    /// Packs floats of 16 bits; `row` writes the bits of a row's values and is called once for each, in order.
    ///
    /// # Panics
    /// When an extent is 0, or `float` has not 16 bits.
    pub fn halves(outputs: usize, inputs: usize, float: Float, row: &mut dyn FnMut(usize, &mut [u16])) -> Self {
        assert!(float.bytes() == 2, "floats of 16 bits, found {float:?}");
        let kernels: &'static dyn Kernels =
            if float == Float::F16 { &With::<_, NO_ZERO>(Half) } else { &With::<_, NO_ZERO>(Brain) };
        let mut matrix = Self::new(kernels, [outputs, inputs], inputs, &[]);
        matrix.codes = matrix.units().pack(row, |values: &[u16], to| to.copy_from_slice(&values[0].to_ne_bytes()));
        matrix
    }

    /// Packs plain `f32`: the twin that the others are measured against.
    ///
    /// # Panics
    /// When an extent is 0.
    pub fn floats(outputs: usize, inputs: usize, row: &mut dyn FnMut(usize, &mut [f32])) -> Self {
        let mut matrix = Self::new(&With::<_, NO_ZERO>(Single), [outputs, inputs], inputs, &[]);
        matrix.codes = matrix.units().pack(row, |values: &[f32], to| to.copy_from_slice(&values[0].to_ne_bytes()));
        matrix
    }

    /// A matrix without its codes.
    fn new(kernels: &'static dyn Kernels, [outputs, inputs]: [usize; 2], group: usize, scale: &[f32]) -> Self {
        assert!(outputs > 0 && inputs > 0, "a matrix has outputs and inputs, found {outputs} and {inputs}");
        assert!(group > 0, "a group has inputs");
        let group = group.min(inputs);
        let groups = inputs.div_ceil(group);
        assert!(!kernels.has_scale() || scale.len() == outputs * groups, "one scale a group");
        let scale = if kernels.has_scale() { Scales::new(outputs, groups, scale) } else { Scales::Single(vec![]) };
        Self { kernels, inputs, outputs, group, codes: Lines::new(0), scale, zero: vec![] }
    }

    fn groups(&self) -> usize {
        self.inputs.div_ceil(self.group)
    }

    fn units(&self) -> Units {
        let (each, bytes) = self.kernels.unit();
        Units { outputs: self.outputs, inputs: self.inputs, group: self.group, each, bytes }
    }

    fn panels(&self) -> Panels {
        Panels {
            inputs: self.inputs,
            group: self.group,
            codes: self.codes.bytes().as_ptr(),
            panel: self.units().panel(),
            scale: self.scale.pointer(),
            zero: if self.zero.is_empty() { std::ptr::null() } else { self.zero.as_ptr() },
        }
    }

    /// Multiplies up to [`MOST_ROWS`] rows with weights that are decoded in registers.
    fn multiply_few(&self, team: &Team, rows: usize, x: &[f32], bias: &[f32], relu: bool, out: Shared) {
        let each = (TASK / (self.inputs * PANEL)).max(1).next_multiple_of(4);
        self.spread(team, rows, each, |panels| {
            let few = Few {
                matrix: self.panels(),
                panels,
                rows,
                x: x.as_ptr(),
                bias: bias.as_ptr(),
                relu,
                outputs: self.outputs,
                out: out.get(),
            };
            // SAFETY: the matrix was packed for these kernels, `multiply` checked the lengths, and a task writes its panels.
            unsafe { self.kernels.multiply(few) }
        });
    }

    /// Multiplies any number of rows: panels are decoded once for all of them.
    fn multiply_many(&self, team: &Team, rows: usize, x: &[f32], bias: &[f32], relu: bool, out: Shared) {
        // A tile has two registers of outputs or more.
        let each = if level() >= Level::Avx512 { 2 } else { 1 };
        let is_plain = self.kernels.is_plain();
        self.spread(team, rows, each, |panels| {
            let decoded_len = if is_plain { 0 } else { panels.len() * self.inputs * PANEL };
            with_scratch(decoded_len, |decoded| {
                let (first, matrix) = (panels.start * PANEL, self.panels());
                // SAFETY: the scratch holds the panels; those of a plain matrix are its codes.
                let packed = unsafe {
                    if is_plain {
                        matrix.codes.add(panels.start * matrix.panel).cast()
                    } else {
                        let decoded = decoded.as_mut_ptr();
                        self.kernels.decode(matrix, panels.clone(), decoded);
                        decoded.cast_const()
                    }
                };
                let weights = Weights {
                    packed,
                    panel: self.inputs * PANEL,
                    bias: Some(bias[first..].as_ptr()),
                    channels: (self.outputs - first).min(panels.len() * PANEL),
                    relu,
                };
                let runs = [Run { at: 0, weight: 0 }];
                let grid = Grid {
                    rows: 1,
                    columns: rows,
                    pixel: self.inputs,
                    row: 0,
                    runs: &runs,
                    len: self.inputs,
                    out_pixel: self.outputs,
                    out_row: 0,
                };
                // SAFETY: the panels are whole, `multiply` checked the lengths, and a task writes its panels.
                unsafe { correlate(x.as_ptr(), grid, weights, out.get().add(first)) }
            });
        });
    }

    /// Calls `task` with ranges of `each` panels, which together are all.
    fn spread(&self, team: &Team, rows: usize, each: usize, task: impl Fn(Range<usize>) + Sync) {
        let panels = self.outputs.div_ceil(PANEL);
        let range = |index: usize| index * each..panels.min((index + 1) * each);
        let tasks = panels.div_ceil(each);
        if rows * self.inputs * self.outputs < WORTH_A_TEAM {
            (0..tasks).for_each(|index| task(range(index)));
        } else {
            team.run(tasks, |index| task(range(index)));
        }
    }
}

/// A place for results, of which every task writes its own part.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: tasks write disjoint columns of what the caller of `multiply` lent.
unsafe impl Sync for Shared {}

impl Shared {
    /// A method, so that closures take the whole and not the pointer in it.
    fn get(self) -> *mut f32 {
        self.0
    }
}

impl Product for WeightOnly {
    fn extents(&self) -> [usize; 2] {
        [self.outputs, self.inputs]
    }

    fn bytes(&self) -> usize {
        self.codes.bytes().len() + self.scale.bytes() + self.zero.len()
    }

    fn multiply(&self, team: &Team, rows: usize, x: &[f32], bias: Option<&[f32]>, relu: bool, out: &mut [f32]) {
        assert_eq!(Some(x.len()), rows.checked_mul(self.inputs), "values of the inputs");
        assert_eq!(Some(out.len()), rows.checked_mul(self.outputs), "values of the outputs");
        assert!(bias.is_none_or(|bias| bias.len() == self.outputs), "one bias for each output");
        if rows == 0 {
            return;
        }
        with_scratch(self.outputs.next_multiple_of(PANEL), |padded| {
            padded.fill(0.0);
            if let Some(bias) = bias {
                padded[..bias.len()].copy_from_slice(bias);
            }
            let out = Shared(out.as_mut_ptr());
            if rows <= MOST_ROWS {
                self.multiply_few(team, rows, x, padded, relu, out);
            } else {
                self.multiply_many(team, rows, x, padded, relu, out);
            }
        });
    }
}

impl fmt::Debug for WeightOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeightOnly")
            .field("extents", &self.extents())
            .field("group", &self.group)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
