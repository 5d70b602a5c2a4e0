//! One row, outputs in the lanes, inputs picked from a window that slides over the row.
//!
//! A step loads neighbouring inputs (eight for eight lanes, 32 or 64 for sixteen) and gives each lane the one that its output
//! needs next, by permutations of registers: no gathers, no loop over blocks with counts that no processor predicts. The
//! window stands where the output that is furthest behind has its next weight; outputs whose next weight lies outside pass
//! over the step with a 0. Of eight lanes 86 % work at a sparsity of 50 %, 74 % at 70, 64 % at 80, 49 % at 90; of sixteen
//! over 32 inputs 94, 89, 83 and 71 %, over 64 97, 93, 90 and 81 %.
//!
//! A matrix that comes from memory is the faster the smaller it is, so it has wide windows; in a cache loads count.
//!
//! [`TILE`] outputs share a loop, so that sums do not wait for each other. Every sum takes its weights in ascending order of
//! inputs. Steps are `[tile][step][slice]`, a slice being a register of outputs. Outputs of about the same count are
//! neighbours, or keep their order where that takes few steps more: results then leave as registers.
#![allow(unsafe_op_in_unsafe_fn, reason = "kernels' pointers are valid for what was packed: see `multiply`")]
#![allow(clippy::needless_range_loop, reason = "slices of a tile are numbers to the registers")]

use super::lanes::{Kernel, Lanes, MOST_ADVANCE, Weight, put_words, run_with};
use super::rows::Rows;
use super::stream::Stream;
use super::target::Target;
use crate::level::{Level, level};

/// Bytes that stay in a cache from one product to the next.
const CACHED: usize = 4 << 20;
/// Outputs that share a loop.
const TILE: usize = 32;
/// The widest window: that of matrices which come from memory.
const MOST_WINDOW: usize = 64;
/// Steps that take about as long as putting the results of a tile where they belong, one by one.
const STEPS_OF_A_TILE: usize = 6;

/// Weights of outputs in the order they are multiplied in.
#[derive(Debug)]
pub(super) struct Windowed<W> {
    lanes: usize,
    /// Inputs that a step picks from.
    window: usize,
    inputs: usize,
    outputs: usize,
    /// Which output a lane is, each once; no output from the end of the list on.
    order: Vec<u32>,
    /// Lanes are the outputs one after the other.
    is_in_order: bool,
    /// The first step of each tile, and one entry more.
    start: Vec<usize>,
    words: Stream<u32>,
    values: Stream<W>,
}

/// Steps of all tiles.
fn steps<W>(slices: &[Slice<W>], lanes: usize) -> usize {
    slices.chunks(TILE / lanes).filter_map(|tile| tile.iter().map(|slice| slice.steps).max()).sum()
}

/// One slice: words and weights of its steps.
struct Slice<W> {
    outputs: Vec<u32>,
    words: Vec<u32>,
    values: Vec<W>,
    steps: usize,
}

impl<W: Weight> Windowed<W> {
    /// Packs for the level in use.
    pub(super) fn pack(rows: &Rows<W>) -> Self {
        match level() {
            Level::Avx512 | Level::Amx => {
                let least = rows.nonzeros() * (size_of::<W>() + 1);
                Self::pack_lanes::<16>(rows, if least > CACHED { MOST_WINDOW } else { 32 })
            }
            Level::Avx2 | Level::Portable => Self::pack_lanes::<8>(rows, 8),
        }
    }

    pub(super) fn pack_lanes<const N: usize>(rows: &Rows<W>, window: usize) -> Self {
        let lay_out = |outputs: &[u32]| slice::<W, N>(rows, outputs, window);
        let mut slices: Vec<_> = rows.by_count().chunks(N).map(lay_out).collect();
        // A tile has as many steps as its longest slice. The slice that is not full comes last, whatever its length.
        let full = slices.len() - usize::from(!rows.outputs().is_multiple_of(N));
        slices[..full].sort_by_key(|slice| slice.steps);
        let mut is_in_order = false;
        if window < MOST_WINDOW {
            let outputs: Vec<u32> = (0..rows.outputs() as u32).collect();
            let in_order: Vec<_> = outputs.chunks(N).map(lay_out).collect();
            let tiles = outputs.len().div_ceil(TILE);
            is_in_order = steps(&in_order, N) <= steps(&slices, N) + STEPS_OF_A_TILE * tiles;
            if is_in_order {
                slices = in_order;
            }
        }
        let (mut order, mut start, mut words, mut values) = (vec![], vec![0], vec![], vec![]);
        for tile in slices.chunks(TILE / N) {
            let steps = steps(tile, N);
            tile.iter().for_each(|slice| order.extend(&slice.outputs));
            let size = if N == 8 { 1 } else { 4 };
            for step in 0..steps {
                for slice in tile {
                    if step < slice.steps {
                        words.extend(&slice.words[step * size..][..size]);
                        values.extend(&slice.values[step * N..][..N]);
                    } else {
                        words.extend(std::iter::repeat_n(0, size));
                        values.extend([W::default(); N]);
                    }
                }
            }
            start.push(values.len() / N);
        }
        let (words, values) = (Stream::new(&words), Stream::new(&values));
        Self {
            lanes: N,
            window,
            inputs: rows.inputs,
            outputs: rows.outputs(),
            order,
            is_in_order,
            start,
            words,
            values,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.order) + size_of_val(&*self.start) + self.words.bytes() + self.values.bytes()
    }

    /// Weights in memory, those that only fill lanes included.
    pub(super) fn slots(&self) -> usize {
        self.values.as_slice().len()
    }

    pub(super) fn tiles(&self) -> usize {
        self.start.len() - 1
    }

    /// Whether inputs that begin on a line of the cache are read faster.
    pub(super) fn prefers_lines(&self) -> bool {
        self.lanes == 16
    }

    /// Computes the outputs of some tiles from a row of inputs.
    pub(super) fn multiply(&self, tiles: std::ops::Range<usize>, x: &[f32], target: Target) {
        assert_eq!(x.len(), self.inputs, "values of a row");
        let mut short = [0.0; MOST_WINDOW];
        let x = if x.len() < self.window {
            short[..x.len()].copy_from_slice(x);
            &short
        } else {
            x
        };
        // SAFETY: windows were placed within the inputs, or within `short`; every tile has all its steps.
        unsafe { run_with(self.lanes, Tiles { matrix: self, tiles, x: x.as_ptr(), target }) }
    }
}

/// Lays out the steps of at most `N` outputs.
fn slice<W: Weight, const N: usize>(rows: &Rows<W>, outputs: &[u32], window: usize) -> Slice<W> {
    let mut left: Vec<_> = outputs.iter().map(|&output| rows.of(output as usize)).collect();
    let mut slice = Slice { outputs: outputs.to_vec(), words: vec![], values: vec![], steps: 0 };
    let last = rows.inputs.saturating_sub(window);
    let mut start = 0;
    while let Some(next) = left.iter().filter_map(|(places, _)| places.first()).min() {
        // Wide windows begin where a line of the cache does, but the last of all.
        let wanted = if N == 8 { *next as usize } else { *next as usize / N * N };
        let advance = wanted.min(last).saturating_sub(start).min(MOST_ADVANCE);
        start += advance;
        let (mut picks, mut values) = ([0; N], [W::default(); N]);
        for (lane, (places, weights)) in left.iter_mut().enumerate() {
            if let Some(&place) = places.first()
                && (place as usize) < start + window
            {
                (picks[lane], values[lane]) = ((place as usize - start) as u8, weights[0]);
                (*places, *weights) = (&places[1..], &weights[1..]);
            }
        }
        put_words(&mut slice.words, advance, picks);
        slice.values.extend(values);
        slice.steps += 1;
    }
    slice
}

struct Tiles<'a, W> {
    matrix: &'a Windowed<W>,
    tiles: std::ops::Range<usize>,
    x: *const f32,
    target: Target<'a>,
}

impl<W: Weight> Kernel for Tiles<'_, W> {
    #[inline(always)]
    unsafe fn run<T: Lanes>(self) {
        let order = &self.matrix.order;
        for tile in self.tiles.clone() {
            match (order.len() - tile * TILE).div_ceil(T::N) {
                1 if self.matrix.window > 32 => self.tile::<T, 1, 2>(tile),
                _ if self.matrix.window > 32 => self.tile::<T, 2, 2>(tile),
                1 => self.tile::<T, 1, 1>(tile),
                2 => self.tile::<T, 2, 1>(tile),
                3 if T::N == 8 => self.tile::<T, 3, 1>(tile),
                _ if T::N == 8 => self.tile::<T, 4, 1>(tile),
                _ => self.tile::<T, 2, 1>(tile),
            }
        }
    }
}

impl<W: Weight> Tiles<'_, W> {
    #[inline(always)]
    unsafe fn tile<T: Lanes, const SLICES: usize, const PAIRS: usize>(&self, tile: usize) {
        let matrix = self.matrix;
        let order = &matrix.order[tile * TILE..];
        // Tiles before this one are full.
        let first = matrix.start[tile];
        let mut words = matrix.words.as_slice().as_ptr().add(first * T::WORDS);
        let mut values = matrix.values.as_slice().as_ptr().add(first * T::N);
        let steps = (matrix.start[tile + 1] - first) / SLICES;
        let mut sums = [T::splat(0.0); SLICES];
        let mut lanes = [0.0; 16];
        if !self.target.starts_at_zero() {
            for slice in 0..SLICES {
                for (lane, &output) in lanes[..T::N].iter_mut().zip(&order[slice * T::N..]) {
                    *lane = self.target.start(output as usize);
                }
                sums[slice] = T::load(lanes.as_ptr());
            }
        }
        let mut x = [self.x; SLICES];
        for _ in 0..steps {
            if T::N == 8 {
                prefetch(values, AHEAD);
            } else if PAIRS > 1 {
                // A step of wide registers takes two lines of weights.
                prefetch(values, 4 * AHEAD);
                prefetch(values, 4 * AHEAD + 64);
                prefetch(words, AHEAD);
            }
            for slice in 0..SLICES {
                let word = words.add(slice * T::WORDS);
                x[slice] = x[slice].add(T::advance(word));
                let picked = T::pick::<PAIRS>(x[slice], word);
                sums[slice] = sums[slice].fma(picked, W::load(values.add(slice * T::N)));
            }
            words = words.add(SLICES * T::WORDS);
            values = values.add(SLICES * T::N);
        }
        let out = self.target.sums(matrix.outputs);
        if let Some(out) = out.filter(|_| matrix.is_in_order && order.len() >= SLICES * T::N) {
            for slice in 0..SLICES {
                sums[slice].store(out.add(tile * TILE + slice * T::N));
            }
            return;
        }
        for slice in 0..SLICES {
            sums[slice].store(lanes.as_mut_ptr());
            let results = lanes[..T::N].iter().zip(&order[slice * T::N..]);
            match out {
                // Outputs of the order are those of the matrix, and there is room for them.
                Some(out) => results.for_each(|(&sum, &output)| *out.add(output as usize) = sum),
                None => results.for_each(|(&sum, &output)| {
                    self.target.set(output as usize, self.target.finish(output as usize, sum));
                }),
            }
        }
    }
}

/// Bytes that a kernel asks memory for ahead of its place.
pub(super) const AHEAD: usize = 1024;

/// Asks for the line `bytes` behind `place`, which need not exist.
#[inline(always)]
pub(super) fn prefetch<T>(place: *const T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing, wherever it points; every x86-64 has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast::<i8>().wrapping_add(bytes));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (place, bytes);
}
