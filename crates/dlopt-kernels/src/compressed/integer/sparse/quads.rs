//! Many rows: four codes of an output at a time by the activations of up to 64 rows, in registers.
//!
//! Activations come as panels `[input][width]`. Codes lie in blocks of [`BLOCK`] inputs, whose part of a panel stays in the
//! first cache, and groups of outputs, whose sums stay in the second. A block's outputs are sorted by how many quads of codes
//! they have, the last filled up with zeros, and stored as runs of equal ones, so that loops end where the processor expects
//! it. Places are bytes.
#![allow(unsafe_op_in_unsafe_fn, reason = "kernels' pointers are valid for what was packed: see `multiply`")]

use super::columns::{Columns, Plain};
#[cfg(target_arch = "x86_64")]
use super::columns::{Half, Wide};
use super::set::Set;
use crate::compressed::sparse::rows::Rows;

/// Inputs of a block: places are bytes.
const BLOCK: usize = 256;

/// Outputs of a group, at most: numbers of members are bytes. Every group reads the whole panel.
const MOST_OUTPUTS: usize = 256;
/// Outputs of a group at least, and groups that make work for several threads.
const LEAST_OUTPUTS: usize = 32;
const GROUPS: usize = 4;

/// Outputs of one block with equally many quads.
#[derive(Clone, Copy, Debug)]
struct Run {
    quads: u16,
    outputs: u16,
}

/// Where the parts of a block of a group begin.
#[derive(Clone, Copy, Debug)]
struct Part {
    run: usize,
    output: usize,
    quad: usize,
}

/// Codes by groups of outputs and blocks of inputs.
#[derive(Debug)]
pub(super) struct Quads {
    inputs: usize,
    outputs: usize,
    /// Outputs of a group; the last may have fewer.
    group: usize,
    /// `[group][block]`, and one entry more.
    parts: Vec<Part>,
    runs: Vec<Run>,
    /// Numbers of outputs within their group.
    members: Vec<u8>,
    places: Vec<[u8; 4]>,
    codes: Vec<[i8; 4]>,
}

impl Quads {
    pub(super) fn pack(rows: &Rows<i8>) -> Self {
        let outputs = rows.outputs();
        let group = outputs.div_ceil(GROUPS).next_multiple_of(LEAST_OUTPUTS).min(MOST_OUTPUTS);
        let (mut parts, mut runs, mut members, mut places, mut codes) = (vec![], vec![], vec![], vec![], vec![]);
        for first in (0..outputs).step_by(group) {
            let mut left: Vec<_> = (first..outputs.min(first + group)).map(|output| rows.of(output)).collect();
            for block in (0..rows.inputs).step_by(BLOCK) {
                parts.push(Part { run: runs.len(), output: members.len(), quad: codes.len() });
                let mut taken: Vec<_> = left
                    .iter_mut()
                    .map(|(place, code)| {
                        let count = place.partition_point(|&place| (place as usize) < block + BLOCK);
                        let (these, rest) = (place.split_at(count), code.split_at(count));
                        (*place, *code) = (these.1, rest.1);
                        (these.0, rest.0)
                    })
                    .enumerate()
                    .filter(|(_, (place, _))| !place.is_empty())
                    .collect();
                let quads = |place: &[u32]| place.len().div_ceil(4);
                taken.sort_by_key(|(_, (place, _))| quads(place));
                for equal in taken.chunk_by(|(_, (a, _)), (_, (b, _))| quads(a) == quads(b)) {
                    runs.push(Run { quads: quads(equal[0].1.0) as u16, outputs: equal.len() as u16 });
                    for (member, (place, code)) in equal {
                        members.push(*member as u8);
                        let place_of = |at: &u32| (*at as usize - block) as u8;
                        places.extend(place.chunks(4).map(|four| filled(four.iter().map(place_of))));
                        codes.extend(code.chunks(4).map(|four| filled(four.iter().copied())));
                    }
                }
            }
        }
        parts.push(Part { run: runs.len(), output: members.len(), quad: codes.len() });
        Self { inputs: rows.inputs, outputs, group, parts, runs, members, places, codes }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.parts)
            + size_of_val(&*self.runs)
            + self.members.len()
            + size_of_val(&*self.places)
            + size_of_val(&*self.codes)
    }

    /// Codes that are multiplied, zeros that fill quads included.
    pub(super) fn slots(&self) -> usize {
        4 * self.codes.len()
    }

    /// Outputs of a group, a multiple of a panel's.
    pub(super) fn group(&self) -> usize {
        self.group
    }

    pub(super) fn groups(&self) -> usize {
        self.outputs.div_ceil(self.group)
    }

    /// The width of a panel of so many rows.
    pub(super) fn width(set: Set, rows: usize) -> usize {
        if set >= Set::Vnni && rows > 32 { 64 } else { 32 }
    }

    /// Writes the sums of a group, `[outputs of the group][width]`, for a panel of [`Self::width`].
    ///
    /// # Safety
    /// The panel has all inputs, and `sums` room for the group.
    pub(super) unsafe fn multiply(&self, set: Set, group: usize, width: usize, panel: *const u8, sums: *mut i32) {
        assert!(group < self.groups(), "group {group} of {}", self.groups());
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
            unsafe fn vnni<T: Columns>(matrix: &Quads, group: usize, panel: *const u8, sums: *mut i32) {
                matrix.blocks::<T>(group, panel, sums);
            }
            #[target_feature(enable = "avx2")]
            unsafe fn avx2<T: Columns>(matrix: &Quads, group: usize, panel: *const u8, sums: *mut i32) {
                matrix.blocks::<T>(group, panel, sums);
            }
            match set {
                Set::Vnni | Set::Vbmi if width == Wide::WIDTH => return vnni::<Wide>(self, group, panel, sums),
                Set::Vnni | Set::Vbmi => return vnni::<Half<true>>(self, group, panel, sums),
                Set::Avx2 => return avx2::<Half<false>>(self, group, panel, sums),
                Set::Portable => {}
            }
        }
        debug_assert!(set == Set::Portable && width == Plain::WIDTH, "{set:?}, {width}");
        self.blocks::<Plain>(group, panel, sums);
    }

    #[inline(always)]
    unsafe fn blocks<T: Columns>(&self, group: usize, panel: *const u8, sums: *mut i32) {
        let outputs = self.group.min(self.outputs - group * self.group);
        sums.write_bytes(0, outputs * T::WIDTH);
        let blocks = self.inputs.div_ceil(BLOCK);
        for block in 0..blocks {
            let at = group * blocks + block;
            let (part, end) = (self.parts[at], self.parts[at + 1]);
            let x = panel.add(block * BLOCK * T::WIDTH);
            let mut members = self.members.as_ptr().add(part.output);
            let mut places = self.places.as_ptr().add(part.quad);
            let mut codes = self.codes.as_ptr().add(part.quad);
            for run in &self.runs[part.run..end.run] {
                let quads = usize::from(run.quads);
                for _ in 0..run.outputs {
                    let to = sums.add(usize::from(*members) * T::WIDTH);
                    let mut held = T::load(to);
                    for quad in 0..quads {
                        let inputs = (*places.add(quad)).map(|place| x.add(usize::from(place) * T::WIDTH));
                        held = held.add(*codes.add(quad), inputs);
                    }
                    held.store(to);
                    members = members.add(1);
                    places = places.add(quads);
                    codes = codes.add(quads);
                }
            }
        }
    }
}

/// Up to four values, and zeros.
fn filled<T: Copy + Default>(values: impl Iterator<Item = T>) -> [T; 4] {
    let mut four = [T::default(); 4];
    four.iter_mut().zip(values).for_each(|(to, value)| *to = value);
    four
}
