//! From sums to results, as behind the dense kernels: by the functions that finish their tiles.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`, and of `Task`")]

use std::ops::Range;

use super::super::Work;
use super::super::registers::{Floats, Integers, PANEL};
use super::super::scales::Scales;
use super::super::tile::{Task, finish, fold};

/// Sums of rows by panels of outputs, to be finished.
pub(super) struct Finish<'a> {
    pub(super) outputs: usize,
    pub(super) panels: Range<usize>,
    pub(super) scales: &'a Scales,
    /// What each output's sum is above the true one, a whole number of panels, or nothing.
    pub(super) above: Option<&'a [i32]>,
    pub(super) rows: usize,
    /// The sums of the first panel, and how many there are from a row to the next.
    pub(super) sums: *const i32,
    pub(super) step: usize,
    /// The scales of the rows.
    pub(super) row_scales: *const f32,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) relu: bool,
    /// `[rows, outputs]`.
    pub(super) out: *mut f32,
}

impl Work for Finish<'_> {
    #[inline(always)]
    unsafe fn run<T: Integers>(&self) {
        for panel in self.panels.clone() {
            if T::N == PANEL { self.panel::<T, 1>(panel) } else { self.panel::<T, 2>(panel) }
        }
    }
}

impl Finish<'_> {
    #[inline(always)]
    unsafe fn panel<T: Integers, const NR: usize>(&self, panel: usize) {
        let first = panel * PANEL;
        let task = Task {
            offset: 0,
            scales: self.scales.panel(panel, 1),
            zeros: std::ptr::null(),
            groups: 1,
            x: std::ptr::null(),
            x_row: 0,
            sums: std::ptr::null(),
            row_scales: self.row_scales,
            rows: self.rows,
            carry: std::ptr::null_mut(),
            bias: self.bias.map(|bias| bias.as_ptr().add(first)),
            outputs: (self.outputs - first).min(PANEL),
            relu: self.relu,
            out: self.out.add(first),
            out_row: self.outputs,
        };
        let mut above = [T::splat(0); NR];
        if let Some(values) = self.above {
            for (n, above) in above.iter_mut().enumerate() {
                *above = T::load(values[first + n * T::N..][..T::N].as_ptr().cast());
            }
        }
        for row in 0..self.rows {
            let from = self.sums.add(row * self.step + (panel - self.panels.start) * PANEL);
            let mut sums = [[T::splat(0); NR]];
            for (n, sum) in sums[0].iter_mut().enumerate() {
                *sum = T::load(from.add(n * T::N).cast()).sub(above[n]);
            }
            let mut totals = [[T::Floats::splat(0.0); NR]];
            fold::<T, 1, NR>(&task, row, 0, sums, &mut totals);
            finish::<T, 1, NR>(&task, row, totals);
        }
    }
}
