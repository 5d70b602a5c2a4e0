//! Many rows: a weight times the activations of up to 64 rows at once, in registers.
//!
//! Activations come as panels `[input][width]` of 64, 32 or 16 rows. Weights lie in blocks of [`BLOCK`] inputs, whose
//! part of a panel stays in the first cache, and groups of outputs, whose sums stay in the second; a block's outputs are
//! sorted by their count and stored as runs of equal ones, so that loops end where the processor expects it. Places are
//! bytes. Every sum takes its weights in ascending order of inputs, block after block.
#![allow(unsafe_op_in_unsafe_fn, reason = "kernels' pointers are valid for what was packed: see `multiply`")]
#![allow(clippy::needless_range_loop, reason = "registers of a row and outputs of a loop read best by their numbers")]

use super::lanes::{Kernel, Lanes, Weight, run};
use super::rows::Rows;
use super::stream::Stream;
use super::target::Target;
use super::transpose::transpose;
use crate::compressed::lines::with_lines;

/// Inputs of a block.
const BLOCK: usize = 128;

/// Outputs of a group; the last may have fewer. Every group reads the whole panel.
const GROUP: usize = 256;

/// The widest panel.
pub(super) const MOST_ROWS: usize = 64;

/// Outputs of one block with equally many weights.
#[derive(Clone, Copy, Debug)]
struct Run {
    weights: u16,
    outputs: u16,
}

/// Where the parts of a block of a group begin.
#[derive(Clone, Copy, Debug)]
struct Part {
    run: usize,
    output: usize,
    weight: usize,
}

/// Weights by groups of outputs and blocks of inputs.
#[derive(Debug)]
pub(super) struct Blocked<W> {
    inputs: usize,
    outputs: usize,
    /// `[group][block]`, and one entry more.
    parts: Vec<Part>,
    runs: Vec<Run>,
    /// Numbers of outputs within their group.
    members: Vec<u8>,
    places: Stream<u8>,
    values: Stream<W>,
}

impl<W: Weight> Blocked<W> {
    pub(super) fn pack(rows: &Rows<W>) -> Self {
        let outputs = rows.outputs();
        let (mut parts, mut runs, mut members, mut places, mut values) = (vec![], vec![], vec![], vec![], vec![]);
        for first in (0..outputs).step_by(GROUP) {
            let mut left: Vec<_> = (first..outputs.min(first + GROUP)).map(|output| rows.of(output)).collect();
            for block in (0..rows.inputs).step_by(BLOCK) {
                parts.push(Part { run: runs.len(), output: members.len(), weight: values.len() });
                let mut taken: Vec<_> = left
                    .iter_mut()
                    .map(|(place, value)| {
                        let count = place.partition_point(|&place| (place as usize) < block + BLOCK);
                        let (these, rest) = (place.split_at(count), value.split_at(count));
                        (*place, *value) = (these.1, rest.1);
                        (these.0, rest.0)
                    })
                    .enumerate()
                    .filter(|(_, (place, _))| !place.is_empty())
                    .collect();
                taken.sort_by_key(|(_, (place, _))| place.len());
                for equal in taken.chunk_by(|(_, (a, _)), (_, (b, _))| a.len() == b.len()) {
                    runs.push(Run { weights: equal[0].1.0.len() as u16, outputs: equal.len() as u16 });
                    for (member, (place, value)) in equal {
                        members.push(*member as u8);
                        places.extend(place.iter().map(|&place| (place as usize - block) as u8));
                        values.extend(*value);
                    }
                }
            }
        }
        parts.push(Part { run: runs.len(), output: members.len(), weight: values.len() });
        let (places, values) = (Stream::new(&places), Stream::new(&values));
        Self { inputs: rows.inputs, outputs, parts, runs, members, places, values }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.parts)
            + size_of_val(&*self.runs)
            + self.members.len()
            + self.places.bytes()
            + self.values.bytes()
    }

    pub(super) fn groups(&self) -> usize {
        self.outputs.div_ceil(GROUP)
    }

    /// Computes the outputs of a group for the first `rows` rows of a panel, `[input][width]`.
    ///
    /// `target` begins with the first of these rows.
    pub(super) fn multiply(&self, group: usize, rows: usize, width: usize, panel: &[f32], target: Target) {
        assert_eq!(panel.len(), self.inputs * width, "values of a panel");
        assert!(rows <= width && [16, 32, 64].contains(&width), "{rows} rows in a panel of {width}");
        assert!(group < self.groups(), "group {group} of {}", self.groups());
        let first = group * GROUP;
        let outputs = GROUP.min(self.outputs - first);
        with_lines(outputs * width, |sums| {
            let product = Group { matrix: self, group, outputs, width, panel: panel.as_ptr(), sums, target };
            // SAFETY: the panel has all inputs; members and places were checked when they were packed.
            unsafe { run(product) };
            // SAFETY: the sums are `[outputs][width]`; the results of other groups lie elsewhere.
            unsafe {
                let to = target.place(rows, first, outputs, self.outputs);
                transpose(sums.as_ptr(), width, outputs, rows, to, self.outputs);
            }
        });
    }
}

struct Group<'a, 'b, W> {
    matrix: &'a Blocked<W>,
    group: usize,
    outputs: usize,
    width: usize,
    panel: *const f32,
    sums: &'b mut [f32],
    target: Target<'a>,
}

impl<W: Weight> Kernel for Group<'_, '_, W> {
    #[inline(always)]
    unsafe fn run<T: Lanes>(mut self) {
        self.start();
        match self.width / T::N {
            8 => self.blocks::<T, 8, 1>(),
            4 => self.blocks::<T, 4, 2>(),
            2 => self.blocks::<T, 2, 4>(),
            _ => self.blocks::<T, 1, 4>(),
        }
        self.finish::<T>();
    }
}

impl<W: Weight> Group<'_, '_, W> {
    #[inline(always)]
    fn start(&mut self) {
        let first = self.group * GROUP;
        for (output, sums) in self.sums.chunks_exact_mut(self.width).enumerate() {
            sums.fill(self.target.start(first + output));
        }
    }

    #[inline(always)]
    unsafe fn blocks<T: Lanes, const REGISTERS: usize, const TOGETHER: usize>(&mut self) {
        let matrix = self.matrix;
        let blocks = matrix.inputs.div_ceil(BLOCK);
        let sums = self.sums.as_mut_ptr();
        for block in 0..blocks {
            let at = self.group * blocks + block;
            let (part, end) = (matrix.parts[at], matrix.parts[at + 1]);
            let x = self.panel.add(block * BLOCK * self.width);
            let mut members = matrix.members.as_ptr().add(part.output);
            let mut places = matrix.places.as_slice().as_ptr().add(part.weight);
            let mut values = matrix.values.as_slice().as_ptr().add(part.weight);
            for run in &matrix.runs[part.run..end.run] {
                let (count, mut outputs) = (usize::from(run.weights), usize::from(run.outputs));
                while outputs >= TOGETHER {
                    add::<T, W, REGISTERS, TOGETHER>(x, count, members, places, values, sums);
                    members = members.add(TOGETHER);
                    places = places.add(TOGETHER * count);
                    values = values.add(TOGETHER * count);
                    outputs -= TOGETHER;
                }
                for _ in 0..outputs {
                    add::<T, W, REGISTERS, 1>(x, count, members, places, values, sums);
                    members = members.add(1);
                    places = places.add(count);
                    values = values.add(count);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<T: Lanes>(&mut self) {
        let first = self.group * GROUP;
        let Target { bias, scale, relu, .. } = self.target;
        if scale.is_none() && !relu {
            return;
        }
        for output in 0..self.outputs {
            let sums = self.sums[output * self.width..][..self.width].as_mut_ptr();
            for at in (0..self.width).step_by(T::N) {
                let mut value = T::load(sums.add(at));
                if let Some(scale) = scale {
                    let bias = bias.map_or(0.0, |bias| bias[first + output]);
                    value = T::splat(bias).fma(value, T::splat(scale[first + output]));
                }
                let value = if relu { value.positive() } else { value };
                value.store(sums.add(at));
            }
        }
    }
}

/// Adds the products of a block to the sums of `TOGETHER` outputs with `count` weights each.
#[inline(always)]
unsafe fn add<T: Lanes, W: Weight, const REGISTERS: usize, const TOGETHER: usize>(
    x: *const f32,
    count: usize,
    members: *const u8,
    places: *const u8,
    values: *const W,
    sums: *mut f32,
) {
    let width = REGISTERS * T::N;
    let mut to = [sums; TOGETHER];
    let mut held = [[T::splat(0.0); REGISTERS]; TOGETHER];
    for output in 0..TOGETHER {
        to[output] = sums.add(usize::from(*members.add(output)) * width);
        for register in 0..REGISTERS {
            held[output][register] = T::load(to[output].add(register * T::N));
        }
    }
    for at in 0..count {
        for output in 0..TOGETHER {
            let from = x.add(usize::from(*places.add(output * count + at)) * width);
            let weight = (*values.add(output * count + at)).splat::<T>();
            for register in 0..REGISTERS {
                held[output][register] = held[output][register].fma(weight, T::load(from.add(register * T::N)));
            }
        }
    }
    for output in 0..TOGETHER {
        for register in 0..REGISTERS {
            held[output][register].store(to[output].add(register * T::N));
        }
    }
}
