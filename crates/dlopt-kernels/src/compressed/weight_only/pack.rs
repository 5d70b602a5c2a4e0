//! Weights in the units that the kernels read, and their scales in as few bytes as hold them exactly.

use super::coding::PANEL;
use super::kernel::ScalePointer;
use crate::compressed::lines::Lines;
use crate::element::{from_f16, to_bf16, to_f16};

/// How rows are cut into units.
#[derive(Clone, Copy)]
pub(super) struct Units {
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    pub(super) group: usize,
    /// Inputs of a unit.
    pub(super) each: usize,
    /// Bytes of an output in a unit.
    pub(super) bytes: usize,
}

impl Units {
    /// Bytes of a panel: groups begin with a unit of their own.
    pub(super) fn panel(&self) -> usize {
        let (whole, rest) = (self.inputs / self.group, self.inputs % self.group);
        (whole * self.group.div_ceil(self.each) + rest.div_ceil(self.each)) * self.bytes * PANEL
    }

    /// Lays rows out; `row` writes a row's values, `field` writes what an output has of a unit.
    pub(super) fn pack<T: Copy + Default>(
        &self,
        row: &mut dyn FnMut(usize, &mut [T]),
        field: impl Fn(&[T], &mut [u8]),
    ) -> Lines {
        let panel = self.panel();
        let mut codes = Lines::new(self.outputs.div_ceil(PANEL) * panel);
        let mut values = vec![T::default(); self.inputs];
        for output in 0..self.outputs {
            row(output, &mut values);
            let first = output / PANEL * panel + output % PANEL * self.bytes;
            let units = values.chunks(self.group).flat_map(|group| group.chunks(self.each));
            for (to, unit) in codes.bytes_mut()[first..].chunks_mut(self.bytes * PANEL).zip(units) {
                field(unit, &mut to[..self.bytes]);
            }
        }
        codes
    }
}

/// Fields of `bits` bits, the first lowest, as `code + 2^(bits - 1)`.
pub(super) fn fields(codes: &[i8], bits: u32) -> u8 {
    let mask = (1_u8 << bits) - 1;
    let field = |code: &i8| code.cast_unsigned().wrapping_add(1 << (bits - 1)) & mask;
    codes.iter().rev().fold(0, |byte, code| byte << bits | field(code))
}

/// Values a group in panels, `[panels, groups, PANEL]`, from `[outputs, groups]`; those of missing outputs are 0.
pub(super) fn in_panels<T: Copy + Default>(outputs: usize, groups: usize, values: impl Iterator<Item = T>) -> Vec<T> {
    let mut panels = vec![T::default(); outputs.next_multiple_of(PANEL) * groups];
    for (at, value) in values.enumerate() {
        let (output, group) = (at / groups, at % groups);
        panels[(output / PANEL * groups + group) * PANEL + output % PANEL] = value;
    }
    panels
}

/// Scales in panels, of two bytes where that loses nothing.
#[derive(Clone)]
pub(super) enum Scales {
    Single(Vec<f32>),
    Half(Vec<u16>),
    Brain(Vec<u16>),
}

/// To 16 bits and back.
type Short = (fn(f32) -> u16, fn(u16) -> f32);

const BRAIN: Short = (to_bf16, |bits| f32::from_bits(u32::from(bits) << 16));
const HALF: Short = (to_f16, from_f16);

fn is_kept(scale: &[f32], (to, from): Short) -> bool {
    scale.iter().all(|scale| from(to(*scale)).to_bits() == scale.to_bits())
}

impl Scales {
    pub(super) fn new(outputs: usize, groups: usize, scale: &[f32]) -> Self {
        let narrow = |(to, _): Short| in_panels(outputs, groups, scale.iter().copied().map(to));
        if is_kept(scale, BRAIN) {
            Self::Brain(narrow(BRAIN))
        } else if is_kept(scale, HALF) {
            Self::Half(narrow(HALF))
        } else {
            Self::Single(in_panels(outputs, groups, scale.iter().copied()))
        }
    }

    /// Whether 16 bits hold each of them exactly.
    pub(super) fn are_short(scale: &[f32]) -> bool {
        is_kept(scale, BRAIN) || is_kept(scale, HALF)
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Single(scale) => size_of_val(&scale[..]),
            Self::Half(scale) | Self::Brain(scale) => size_of_val(&scale[..]),
        }
    }

    pub(super) fn pointer(&self) -> ScalePointer {
        match self {
            Self::Single(scale) => ScalePointer::Single(scale.as_ptr()),
            Self::Half(scale) => ScalePointer::Half(scale.as_ptr()),
            Self::Brain(scale) => ScalePointer::Brain(scale.as_ptr()),
        }
    }
}
