//! Sparse matrices of codes: which layouts one holds, and how work on them is spread.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`")]

use std::ops::Range;

use super::super::activations::{is_scale, quantize_row};
use super::super::registers::{BLOCK, Integers, PANEL};
use super::super::scales::{Scales, by_panels};
use super::super::{MOST_INPUTS, Target, Work};
use super::few_rows::FewRows;
use super::finish::Finish;
use super::halved::{Halved, PANELS};
use super::masked::{Masked, WORD};
use super::panel::{TURNED, fill};
use super::pays::least_sparsity;
use super::picked::{MOST_WINDOW, Picked};
use super::quads::Quads;
use super::set::Set;
use crate::compressed::lines::with_bytes;
use crate::compressed::sparse::Use;
use crate::compressed::sparse::rows::Rows;
use crate::compressed::sparse::transpose::transpose;
use crate::compressed::{Codes, Product};
use crate::nn::Team;

/// A matrix of codes of which only those that are not 0 are in memory, multiplied by activations that are quantized to 8 bits.
///
/// Codes have up to 8 bits and one scale for each output. Results are those of [`crate::compressed::Int8Matrix`] on the same
/// codes, bit for bit: activations become the same bytes, sums are exact, and `out = (sum * scale[output]) * scale[row] + bias`.
#[derive(Debug)]
pub struct SparseInt8Matrix {
    outputs: usize,
    inputs: usize,
    scales: Scales,
    /// What sums are too large by where activations are bytes that are 128 above their codes; a whole number of panels.
    above: Vec<i32>,
    given: Option<f32>,
    one: Option<One>,
    many: Option<Many>,
}

/// How one row is multiplied.
#[derive(Debug)]
pub(super) enum One {
    Picked(Picked),
    Masked(Masked),
}

/// How many rows are multiplied.
#[derive(Debug)]
enum Many {
    Quads(Quads),
    Halved(Halved),
}

/// Rows that are taken a few at a time where both layouts are there.
const FEW_ROWS: usize = 8;
/// Rows that are quantized at a time.
const ROWS: usize = 256;
/// Inputs that a task turns to columns.
const TURNED_BY_A_TASK: usize = 512;
/// Floats to quantize, bytes of codes and products that take a thread some microseconds.
const FLOATS_WORTH_A_TEAM: usize = 32 << 10;
const BYTES_WORTH_A_TEAM: usize = 200 << 10;
const PRODUCTS_WORTH_A_TEAM: usize = 1 << 19;
/// Bytes that may stay in the last cache from one product to the next.
///
/// What comes from memory is the faster the smaller it is: 4096 x 4096 codes, 70 % of them 0, are 11 MB to pick from, which take
/// 340 to 510 us, and 7 MB behind masks, which take 280 to 350 us; out of the last cache 130 and 250 (Zen 4, dense codes 600 and 230).
const CACHED: usize = 32 << 20;

impl SparseInt8Matrix {
    /// Packs the codes of a matrix for a use.
    ///
    /// # Errors
    /// Says why where this kernel is not for such a matrix, so that the caller takes another one: other bits, more than 65,536
    /// inputs, more than one scale an output, zero points, scales that are not finite, codes out of range.
    ///
    /// # Panics
    /// When there are no outputs or inputs, or scales or zero points are not as many as groups.
    pub fn pack(codes: &mut Codes<'_>, purpose: Use) -> Result<Self, &'static str> {
        let Codes { outputs, inputs, bits, group, .. } = *codes;
        assert!(outputs > 0 && inputs > 0, "a matrix has outputs and inputs, found {outputs} and {inputs}");
        assert!(group > 0, "a group has inputs");
        assert_eq!(codes.scale.len(), outputs * inputs.div_ceil(group), "a scale for each group of each output");
        assert!(codes.zero.is_empty() || codes.zero.len() == codes.scale.len(), "a zero point for each scale");
        if !(1..=8).contains(&bits) {
            return Err("its codes have other bits");
        }
        if inputs > MOST_INPUTS {
            return Err("its sums could leave 32 bits");
        }
        if group < inputs {
            return Err("an output has several scales");
        }
        if codes.zero.iter().any(|&zero| zero != 0) {
            return Err("it has zero points");
        }
        if !codes.scale.iter().all(|scale| scale.is_finite()) {
            return Err("a scale is not finite");
        }
        let range = -(1_i32 << (bits - 1))..1 << (bits - 1);
        let mut is_in_range = true;
        let rows = Rows::read(outputs, inputs, &mut |output, row| {
            (codes.row)(output, row);
            is_in_range &= row.iter().all(|&code| range.contains(&i32::from(code)));
        });
        if !is_in_range {
            return Err("a code is out of range");
        }
        let sum = |output| rows.of(output).1.iter().map(|&code| i32::from(code)).sum::<i32>();
        let above: Vec<i32> = (0..outputs).map(|output| 128 * sum(output)).collect();
        Ok(Self {
            outputs,
            inputs,
            scales: Scales::new(codes.scale, 1),
            above: by_panels(&above, 1, 0),
            given: None,
            one: (purpose != Use::ManyRows).then(|| One::pack(&rows, Set::now())),
            many: (purpose != Use::OneRow).then(|| Many::pack(&rows, Set::now())),
        })
    }

    /// Whether this kernel is the faster one for a use, at the level in use, where the fraction `sparsity` of codes is 0.
    pub fn pays(purpose: Use, sparsity: f64) -> bool {
        sparsity >= least_sparsity(Set::now(), purpose)
    }

    /// Quantizes all activations with this scale from now on.
    ///
    /// # Panics
    /// When `scale` is not a number from 2^-120.
    #[must_use]
    pub fn with_input_scale(mut self, scale: f32) -> Self {
        assert!(is_scale(scale), "a scale of activations is a number from 2^-120, found {scale}");
        self.given = Some(scale);
        self
    }

    /// Up to [`ROWS`] rows: quantizes them and multiplies them by the layout for as many.
    fn multiply_some(&self, team: &Team, x: &[f32], bias: Option<&[f32]>, relu: bool, out: &mut [f32]) {
        let (set, rows) = (Set::now(), x.len() / self.inputs);
        let few = self.one.as_ref().filter(|_| self.many.is_none() || rows <= FEW_ROWS);
        let is_raised = match (few, &self.many) {
            (Some(_), _) => One::is_raised(set),
            (None, many) => many.as_ref().is_some_and(|many| many.is_raised(set)),
        };
        // Windows and words reach behind the inputs; an odd number of lines, so that rows do not meet in the sets of a cache.
        let row_bytes = (self.inputs.next_multiple_of(WORD) + MOST_WINDOW) | WORD;
        with_bytes(rows * (row_bytes + 4), |scratch| {
            let batch = Batch {
                team,
                set,
                rows,
                x: scratch,
                row_bytes,
                scales: scratch.wrapping_add(rows * row_bytes).cast(),
                above: is_raised.then_some(&self.above),
                bias,
                relu,
                out: out.as_mut_ptr(),
            };
            let tasks = if x.len() > FLOATS_WORTH_A_TEAM { 4 * team.threads() } else { 1 };
            let per_task = rows.div_ceil(tasks);
            team.run(rows.div_ceil(per_task), |task| {
                let first = task * per_task;
                let Batch { x: to, scales, .. } = batch.from(first, self.outputs);
                let x = &x[first * self.inputs..][..per_task.min(rows - first) * self.inputs];
                let Self { inputs, given, .. } = *self;
                Target::now().run(&Quantize { x, inputs, given, is_raised, to, row_bytes, scales });
            });
            match (few, &self.many) {
                (Some(one), _) => self.multiply_few(one, &batch),
                (None, Some(Many::Quads(many))) => self.multiply_columns(many, &batch),
                (None, Some(Many::Halved(many))) => self.multiply_halved(many, &batch),
                (None, None) => {}
            }
        });
    }

    fn multiply_few(&self, one: &One, batch: &Batch<'_>) {
        let sums_step = self.outputs.next_multiple_of(PANEL);
        let tasks = if one.bytes() * batch.rows > BYTES_WORTH_A_TEAM { 4 * batch.team.threads() } else { 1 };
        with_bytes(4 * batch.rows * sums_step, |sums| {
            let rows = FewRows { count: batch.rows, x: batch.x, step: batch.row_bytes, sums: sums.cast(), sums_step };
            batch.team.run(tasks, |task| {
                // SAFETY: rows are padded for windows and words, and no two tasks have the same outputs.
                unsafe { one.multiply(batch.set, |all| all * task / tasks..all * (task + 1) / tasks, rows) }
            });
            // SAFETY: all sums are there.
            unsafe { self.finish(0..self.outputs.div_ceil(PANEL), rows.sums, sums_step, batch) }
        });
    }

    fn multiply_halved(&self, many: &Halved, batch: &Batch<'_>) {
        let (panels, sums_step) = (self.outputs.div_ceil(PANEL), PANELS * PANEL);
        let task = |tile: usize| {
            with_bytes(4 * batch.rows * sums_step, |sums| {
                let rows =
                    FewRows { count: batch.rows, x: batch.x, step: batch.row_bytes, sums: sums.cast(), sums_step };
                let of_tile = tile * PANELS..panels.min((tile + 1) * PANELS);
                // SAFETY: rows are padded for windows, which are longer than sixteen; no two tasks have the same outputs.
                unsafe {
                    many.multiply(batch.set, tile, rows);
                    self.finish(of_tile, rows.sums, sums_step, batch);
                }
            });
        };
        if self.outputs * self.inputs / 2 * batch.rows > PRODUCTS_WORTH_A_TEAM {
            batch.team.run(many.tiles(), task);
        } else {
            (0..many.tiles()).for_each(task);
        }
    }

    fn multiply_columns(&self, many: &Quads, batch: &Batch<'_>) {
        let width = Quads::width(batch.set, batch.rows);
        let (panels, padded) = (batch.rows.div_ceil(width), self.inputs.next_multiple_of(TURNED));
        let is_worth_a_team = many.slots() * batch.rows > PRODUCTS_WORTH_A_TEAM;
        let spread = |tasks: usize, task: &(dyn Fn(usize) + Sync)| {
            if is_worth_a_team { batch.team.run(tasks, task) } else { (0..tasks).for_each(task) }
        };
        let panel_rows = |panel: usize| batch.from(panel * width, self.outputs).up_to(width);
        with_bytes(panels * width * padded, |columns| {
            let columns = Columns(columns);
            let pieces = self.inputs.div_ceil(TURNED_BY_A_TASK);
            spread(panels * pieces, &|task| {
                let (panel, piece) = (task / pieces, task % pieces * TURNED_BY_A_TASK);
                let (rows, inputs) = (panel_rows(panel), piece..self.inputs.min(piece + TURNED_BY_A_TASK));
                let to = columns.at(panel * width * padded);
                // SAFETY: every task writes its own inputs of its own panel, which has room for all that are turned at a time.
                unsafe { fill(rows.rows, rows.x, rows.row_bytes, inputs, to, width) }
            });
            let (groups, group_outputs) = (many.groups(), many.group());
            spread(panels * groups, &|task| {
                let (panel, group) = (task / groups, task % groups);
                let rows = panel_rows(panel);
                let outputs = group * group_outputs..self.outputs.min((group + 1) * group_outputs);
                with_bytes(8 * group_outputs * width, |sums| {
                    let turned = sums.wrapping_add(4 * group_outputs * width).cast::<f32>();
                    // SAFETY: the panel has all inputs; bits of integers are moved as those of floats; no two tasks have the
                    // same outputs of the same rows.
                    unsafe {
                        many.multiply(rows.set, group, width, columns.at(panel * width * padded), sums.cast());
                        transpose(sums.cast(), width, outputs.len(), rows.rows, turned, group_outputs);
                        let of_outputs = outputs.start / PANEL..outputs.end.div_ceil(PANEL);
                        self.finish(of_outputs, turned.cast(), group_outputs, &rows);
                    }
                });
            });
        });
    }

    /// Writes the results that follow from the sums of some panels.
    ///
    /// # Safety
    /// The sums of the batch's rows are `step` apart and begin with those of the first panel.
    unsafe fn finish(&self, panels: Range<usize>, sums: *const i32, step: usize, batch: &Batch<'_>) {
        Target::now().run(&Finish {
            outputs: self.outputs,
            panels,
            scales: &self.scales,
            above: batch.above,
            rows: batch.rows,
            sums,
            step,
            row_scales: batch.scales,
            bias: batch.bias,
            relu: batch.relu,
            out: batch.out,
        });
    }
}

impl Product for SparseInt8Matrix {
    fn extents(&self) -> [usize; 2] {
        [self.outputs, self.inputs]
    }

    fn bytes(&self) -> usize {
        self.scales.bytes()
            + size_of_val(&*self.above)
            + self.one.as_ref().map_or(0, One::bytes)
            + self.many.as_ref().map_or(0, Many::bytes)
    }

    fn multiply(&self, team: &Team, rows: usize, x: &[f32], bias: Option<&[f32]>, relu: bool, out: &mut [f32]) {
        assert_eq!(Some(x.len()), rows.checked_mul(self.inputs), "values of the inputs");
        assert!(bias.is_none_or(|bias| bias.len() == self.outputs), "one bias for each output");
        assert_eq!(Some(out.len()), rows.checked_mul(self.outputs), "values of the outputs");
        for (x, out) in x.chunks(ROWS * self.inputs).zip(out.chunks_mut(ROWS * self.outputs)) {
            self.multiply_some(team, x, bias, relu, out);
        }
    }
}

impl One {
    fn pack(rows: &Rows<i8>, set: Set) -> Self {
        let picked = Picked::pack(rows, set);
        let is_from_memory = set == Set::Vbmi && picked.bytes() > CACHED;
        if is_from_memory && 10 * Masked::bytes_of(rows) < 7 * picked.bytes() {
            return One::Masked(Masked::pack(rows));
        }
        One::Picked(picked)
    }

    fn bytes(&self) -> usize {
        match self {
            One::Picked(matrix) => matrix.bytes(),
            One::Masked(matrix) => matrix.bytes(),
        }
    }

    /// Whether activations are bytes that are 128 above their codes.
    fn is_raised(set: Set) -> bool {
        set == Set::Vbmi
    }

    /// Writes the sums of the share of the work that `share` gives of all.
    ///
    /// # Safety
    /// As for [`Picked::multiply`] and [`Masked::multiply`].
    pub(super) unsafe fn multiply(&self, set: Set, share: impl Fn(usize) -> Range<usize>, rows: FewRows) {
        match self {
            One::Picked(matrix) => matrix.multiply(set, share(matrix.tiles()), rows),
            One::Masked(matrix) => matrix.multiply(set, share(matrix.outputs()), rows),
        }
    }
}

/// The sparsity above which quads are faster than codes of which two of each four are multiplied.
const MOST_HALVED: f64 = 0.65;

impl Many {
    fn pack(rows: &Rows<i8>, set: Set) -> Self {
        let least = (1.0 - MOST_HALVED) * rows.outputs() as f64 * rows.inputs as f64;
        let halved = if set >= Set::Vnni && rows.nonzeros() as f64 >= least { Halved::pack(rows) } else { None };
        halved.map_or_else(|| Many::Quads(Quads::pack(rows)), Many::Halved)
    }

    fn bytes(&self) -> usize {
        match self {
            Many::Quads(matrix) => matrix.bytes(),
            Many::Halved(matrix) => matrix.bytes(),
        }
    }

    /// Whether activations are bytes that are 128 above their codes.
    fn is_raised(&self, set: Set) -> bool {
        match self {
            Many::Quads(_) => set >= Set::Vnni,
            Many::Halved(_) => true,
        }
    }
}

/// Rows that are multiplied together, quantized in scratch, and what their results are made of besides sums.
#[derive(Clone, Copy)]
struct Batch<'a> {
    team: &'a Team,
    set: Set,
    rows: usize,
    x: *mut u8,
    row_bytes: usize,
    scales: *mut f32,
    above: Option<&'a [i32]>,
    bias: Option<&'a [f32]>,
    relu: bool,
    out: *mut f32,
}

// SAFETY: threads write different rows, or different outputs of them, and read no row before all are written.
unsafe impl Sync for Batch<'_> {}

impl Batch<'_> {
    /// The rows from one on, of so many outputs.
    fn from(&self, row: usize, outputs: usize) -> Self {
        Self {
            rows: self.rows - row,
            x: self.x.wrapping_add(row * self.row_bytes),
            scales: self.scales.wrapping_add(row),
            out: self.out.wrapping_add(row * outputs),
            ..*self
        }
    }

    fn up_to(self, rows: usize) -> Self {
        Self { rows: self.rows.min(rows), ..self }
    }
}

/// Panels of columns.
struct Columns(*mut u8);

// SAFETY: threads write different places, and read none before all are written.
unsafe impl Sync for Columns {}

impl Columns {
    fn at(&self, place: usize) -> *mut u8 {
        self.0.wrapping_add(place)
    }
}

/// Rows to quantize.
struct Quantize<'a> {
    x: &'a [f32],
    inputs: usize,
    given: Option<f32>,
    /// Bytes become 128 more than their codes.
    is_raised: bool,
    to: *mut u8,
    row_bytes: usize,
    scales: *mut f32,
}

impl Work for Quantize<'_> {
    #[inline(always)]
    unsafe fn run<T: Integers>(&self) {
        for (row, x) in self.x.chunks_exact(self.inputs).enumerate() {
            let (to, mut sum) = (self.to.add(row * self.row_bytes), 0);
            let scale = quantize_row::<T>(x.as_ptr(), x.len(), self.given, x.len(), false, to, &mut sum);
            self.scales.add(row).write(scale);
            if self.is_raised {
                let codes = std::slice::from_raw_parts_mut(to, self.inputs.next_multiple_of(BLOCK));
                codes.iter_mut().for_each(|code| *code ^= 0x80);
            }
        }
    }
}
