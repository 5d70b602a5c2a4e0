//! How this pass sees the rows of an unstructured unit: elements, slots and where they stand among all units.
//!
//! A **slot** is the run of rows that blocks are never cut within: one row of [`ROW`] elements when stored dense, one
//! row quantum of the matrix when stored as a bitmask. Slots are numbered through all units that are searched together,
//! and [`Unit::key`] carries the number of the first, so that a pass needs no state.

use std::ops::Range;

use dlopt_checkpoint::{Span, Unit};
use dlopt_kernels::Float;

use crate::keys::{Width, float_of};

/// Elements of a row when weights are stored dense and unstructured.
pub(crate) const ROW: usize = 4096;

/// Most segments that tie counts are kept for in the histogram of 15-bit keys.
const SEGMENTS: usize = 8;

/// What the last two bits of a key say of single keys that are sampled, where else the width stands.
const SAMPLED: usize = 3;

/// What [`Unit::key`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The unit's first slot.
    pub(crate) first_slot: usize,
    /// Slots share a segment when their numbers agree above these bits.
    pub(crate) segment_shift: u32,
    /// The keys of all units that are searched together.
    pub(crate) width: Width,
    /// Whether the search begins with a sample; keys are magnitudes of 32-bit floats then.
    pub(crate) is_sampled: bool,
}

impl Place {
    /// A unit whose first slot is this one of `slots`.
    pub(crate) fn new(first_slot: usize, slots: usize, width: Width, is_sampled: bool) -> Self {
        let mut segment_shift = 0;
        while slots.saturating_sub(1) >> segment_shift >= SEGMENTS {
            segment_shift += 1;
        }
        Self { first_slot, segment_shift, width, is_sampled }
    }

    /// As a unit's key.
    pub(crate) fn key(self) -> usize {
        let search = if self.is_sampled { SAMPLED } else { self.width as usize };
        (self.first_slot << 8) | ((self.segment_shift as usize) << 2) | search
    }

    fn of(key: usize) -> Self {
        let width = match key & 3 {
            0 => Width::Half,
            1 | SAMPLED => Width::Single,
            _ => Width::Double,
        };
        Self { first_slot: key >> 8, segment_shift: (key >> 2) as u32 & 63, width, is_sampled: key & 3 == SAMPLED }
    }
}

/// An unstructured unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) kind: Float,
    /// Elements of a row; the last may have fewer.
    pub(crate) columns: usize,
    /// Elements of the unit.
    pub(crate) elements: usize,
    /// Rows of a slot.
    pub(crate) slot_rows: usize,
    pub(crate) slots: usize,
    pub(crate) place: Place,
    pub(crate) is_bitmask: bool,
}

impl View {
    pub(crate) fn of(unit: &Unit) -> Self {
        let part = &unit.writes[0].info;
        let kind = float_of(part.dtype).expect("only weights that float are planned");
        let is_bitmask = unit.writes.len() > 1;
        let columns = match unit.reads[0].span {
            Span::Every { bytes, .. } => bytes / kind.bytes(),
            _ => unreachable!("weights are read row by row"),
        };
        Self {
            kind,
            columns,
            elements: if is_bitmask { unit.rows * columns } else { part.elements() },
            slot_rows: unit.row_quantum,
            slots: unit.rows.div_ceil(unit.row_quantum),
            place: Place::of(unit.key),
            is_bitmask,
        }
    }

    /// The numbers of the slots that `rows` touch.
    pub(crate) fn slots_of(&self, rows: &Range<usize>) -> Range<usize> {
        self.place.first_slot + rows.start / self.slot_rows..self.place.first_slot + rows.end.div_ceil(self.slot_rows)
    }

    /// The slots of a block that begins at row `first`: number, index of the first element in the unit, bytes.
    pub(crate) fn split<'a>(&self, first: usize, bytes: &'a [u8]) -> impl Iterator<Item = (usize, u64, &'a [u8])> {
        let elements = self.slot_rows * self.columns;
        let slot = first / self.slot_rows;
        let first_slot = self.place.first_slot;
        bytes
            .chunks((elements * self.kind.bytes()).max(1))
            .enumerate()
            .map(move |(i, bytes)| (first_slot + slot + i, ((slot + i) * elements) as u64, bytes))
    }

    /// Elements of the slot with this number.
    pub(crate) fn slot_elements(&self, slot: usize) -> usize {
        let full = self.slot_rows * self.columns;
        full.min(self.elements - (slot - self.place.first_slot) * full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_key() {
        for slots in [1, 8, 9, 1 << 20] {
            for (width, is_sampled) in
                [(Width::Half, false), (Width::Single, false), (Width::Single, true), (Width::Double, false)]
            {
                let place = Place::new(slots / 2, slots, width, is_sampled);
                assert_eq!(Place::of(place.key()), place);
                assert!((slots - 1) >> place.segment_shift < SEGMENTS);
            }
        }
    }
}
