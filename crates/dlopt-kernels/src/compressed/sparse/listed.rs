//! One row, outputs in the lanes, every input looked up by its number.
//!
//! Sixteen outputs of nearly the same count share a loop as two registers; a step has a 16-bit place and a weight for each,
//! `[tile][step][16]`. Six bytes a weight and almost no filling: the smallest layout from a sparsity of 70 % on, and the
//! faster one where windows find too few weights. Every sum takes its weights in ascending order of inputs.
#![allow(unsafe_op_in_unsafe_fn, reason = "kernels' pointers are valid for what was packed: see `multiply`")]

use super::lanes::{Eight, EightKernel, Weight, run_eight};
use super::rows::Rows;
use super::stream::Stream;
use super::target::Target;
use super::windowed::{AHEAD, prefetch};

/// Outputs that share a loop: two registers of eight.
const TILE: usize = 16;

/// The most inputs whose places 16 bits tell.
pub(super) const MOST_INPUTS: usize = 1 << 16;

/// Weights of outputs in the order they are multiplied in.
#[derive(Debug)]
pub(super) struct Listed<W> {
    inputs: usize,
    /// Which output a lane is, fewest weights first.
    order: Vec<u32>,
    /// The first step of each tile, and one entry more.
    start: Vec<usize>,
    places: Stream<u16>,
    values: Stream<W>,
}

impl<W: Weight> Listed<W> {
    /// # Panics
    /// When there are more than [`MOST_INPUTS`] inputs.
    pub(super) fn pack(rows: &Rows<W>) -> Self {
        assert!(rows.inputs <= MOST_INPUTS, "places of {} inputs do not fit 16 bits", rows.inputs);
        let order = rows.by_count();
        let (mut start, mut places, mut values) = (vec![0], vec![], vec![]);
        for outputs in order.chunks(TILE) {
            let steps = outputs.iter().map(|&output| rows.of(output as usize).0.len()).max().unwrap_or(0);
            let base = places.len();
            places.resize(base + steps * TILE, 0);
            values.resize(base + steps * TILE, W::default());
            for (lane, &output) in outputs.iter().enumerate() {
                let (from, weights) = rows.of(output as usize);
                for (step, (&place, &weight)) in from.iter().zip(weights).enumerate() {
                    places[base + step * TILE + lane] = place as u16;
                    values[base + step * TILE + lane] = weight;
                }
            }
            start.push(values.len() / TILE);
        }
        let (places, values) = (Stream::new(&places), Stream::new(&values));
        Self { inputs: rows.inputs, order, start, places, values }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.order) + size_of_val(&*self.start) + self.places.bytes() + self.values.bytes()
    }

    /// Weights in memory, those that only fill lanes included.
    pub(super) fn slots(&self) -> usize {
        self.values.as_slice().len()
    }

    pub(super) fn tiles(&self) -> usize {
        self.start.len() - 1
    }

    /// Computes the outputs of some tiles from a row of inputs.
    pub(super) fn multiply(&self, tiles: std::ops::Range<usize>, x: &[f32], target: Target) {
        assert_eq!(x.len(), self.inputs, "values of a row");
        // SAFETY: every place is below `inputs`; every tile has all its steps.
        unsafe { run_eight(Tiles { matrix: self, tiles, x: x.as_ptr(), target }) }
    }
}

struct Tiles<'a, W> {
    matrix: &'a Listed<W>,
    tiles: std::ops::Range<usize>,
    x: *const f32,
    target: Target<'a>,
}

impl<W: Weight> EightKernel for Tiles<'_, W> {
    #[inline(always)]
    unsafe fn run<T: Eight>(self) {
        let matrix = self.matrix;
        for tile in self.tiles {
            let order = &matrix.order[tile * TILE..];
            let order = &order[..order.len().min(TILE)];
            let (first, end) = (matrix.start[tile], matrix.start[tile + 1]);
            let mut places = matrix.places.as_slice().as_ptr().add(first * TILE);
            let mut values = matrix.values.as_slice().as_ptr().add(first * TILE);
            let mut lanes = [0.0; TILE];
            for (lane, &output) in lanes.iter_mut().zip(order) {
                *lane = self.target.start(output as usize);
            }
            let mut sums = [T::load(lanes.as_ptr()), T::load(lanes.as_ptr().add(8))];
            for _ in first..end {
                prefetch(values, AHEAD);
                for (half, sum) in sums.iter_mut().enumerate() {
                    let picked = T::look_up(self.x, places.add(half * 8));
                    *sum = sum.fma(picked, W::load(values.add(half * 8)));
                }
                places = places.add(TILE);
                values = values.add(TILE);
            }
            sums[0].store(lanes.as_mut_ptr());
            sums[1].store(lanes.as_mut_ptr().add(8));
            for (&sum, &output) in lanes.iter().zip(order) {
                self.target.set(output as usize, self.target.finish(output as usize, sum));
            }
        }
    }
}
