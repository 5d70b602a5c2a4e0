//! How the units of each pattern and store are cut.

use std::ops::Range;

use dlopt_checkpoint::{Choice, Header, Read, Scope, Span, TensorInfo, Unit};
use dlopt_kernels::Float;

use super::{Prune, inputs_down};
use crate::criteria::Rank;
use crate::keys::{Width, float_of};
use crate::patterns::Pattern;
use crate::patterns::n_of_m::{Along, kept_of};
use crate::search::zeros_at;
use crate::stores::{Store, bitmask, dense};
use crate::view::{Place, ROW};

/// Elements that a slot of a bitmask has at least, and at most where rows allow.
const SLOT_ELEMENTS: Range<usize> = 1 << 14..1 << 20;
/// Slots of a bitmask that all units together should have at most.
const SLOTS: usize = 1 << 16;

/// What planning one tensor needs to know of the others.
struct Frame {
    width: Width,
    is_sampled: bool,
    /// Slots of all units that are searched together, and of those before.
    slots: usize,
    first_slot: usize,
    slot_elements: usize,
}

impl Prune {
    fn width(&self, kinds: impl Iterator<Item = Float>) -> Width {
        if matches!(self.criterion.rank, Rank::Drawn(_)) {
            return Width::Single;
        }
        let mut kinds = kinds;
        let Some(first) = kinds.next() else { return Width::Single };
        let width = |kind| match kind {
            Float::F16 | Float::BF16 => Width::Half,
            Float::F32 => Width::Single,
            Float::F64 => Width::Double,
        };
        kinds.fold(width(first), |common, kind| match (common, width(kind)) {
            (Width::Double, _) | (_, Width::Double) => Width::Double,
            (Width::Half, Width::Half) if kind == first => Width::Half,
            _ => Width::Single,
        })
    }

    /// Whether the search among all weights of these tensors begins with a sample.
    fn is_sampled<'a>(&self, tensors: impl Iterator<Item = &'a TensorInfo> + Clone) -> bool {
        matches!(self.criterion.rank, Rank::Magnitude)
            && tensors.clone().all(|t| float_of(t.dtype) == Some(Float::F32))
            && self.sampled.contains(&tensors.map(TensorInfo::elements).sum())
    }

    fn unstructured_unit(&self, index: usize, tensor: &TensorInfo, choice: &Choice, frame: &Frame) -> Unit {
        let size = tensor.dtype.bitsize() / 8;
        let (rows, columns, row_quantum) = self.rows(tensor, choice, frame.slot_elements);
        let kept = if self.is_global() {
            tensor.elements()
        } else {
            tensor.elements() - zeros_at(self.share(&tensor.name), tensor.elements() as u64) as usize
        };
        let writes = match self.store {
            Store::Dense => dense::writes(tensor, columns * size),
            Store::Bitmask => bitmask::writes(tensor, rows, columns, kept, Span::Ragged { offsets: 0 }),
        };
        Unit {
            name: tensor.name.clone(),
            reads: vec![Read { tensor: index, span: Span::row(columns * size) }],
            writes,
            rows,
            row_quantum,
            scope: if self.is_global() { Scope::Model } else { Scope::Unit },
            key: Place::new(frame.first_slot, frame.slots, frame.width, frame.is_sampled).key(),
            is_copy: false,
        }
    }

    /// Rows, columns and rows of a slot of an unstructured unit.
    fn rows(&self, tensor: &TensorInfo, choice: &Choice, slot_elements: usize) -> (usize, usize, usize) {
        match self.store {
            Store::Dense => (tensor.elements().div_ceil(ROW), ROW, 1),
            Store::Bitmask => {
                let (rows, columns) = (choice.layer.rows, choice.layer.columns);
                (rows, columns, slot_elements.div_ceil(columns).clamp(1, rows))
            }
        }
    }

    fn n_of_m_unit(&self, index: usize, tensor: &TensorInfo, choice: &Choice, n: usize, m: usize) -> Unit {
        let size = tensor.dtype.bitsize() / 8;
        let (rows, columns) = (choice.layer.rows, choice.layer.columns);
        let down = inputs_down(choice.layer.kind, &tensor.shape);
        let (along, rows, columns, row_quantum) = match (down, self.store) {
            (None, _) => (Along::Columns, rows, columns, 1),
            (Some(inputs), _) if inputs == rows && tensor.shape.len() == 2 => {
                (Along::Rows { inputs }, rows, columns, m.min(rows))
            }
            (Some(inputs), Store::Bitmask) => (Along::Matrix { inputs }, rows, columns, 1),
            (Some(inputs), Store::Dense) => {
                let quantum = if inputs % m == 0 { m } else { inputs };
                (Along::Rows { inputs }, rows * inputs, columns / inputs, quantum)
            }
        };
        let writes = match (self.store, along) {
            (Store::Dense, _) => dense::writes(tensor, columns * size),
            (Store::Bitmask, Along::Columns) => {
                let kept = kept_of(columns, n, m);
                bitmask::writes(tensor, rows, columns, rows * kept, Span::row(kept * size))
            }
            (Store::Bitmask, Along::Rows { .. }) => {
                let span = Span::Every { rows: m, bytes: n * columns * size };
                bitmask::writes(tensor, rows, columns, kept_of(rows, n, m) * columns, span)
            }
            (Store::Bitmask, Along::Matrix { inputs }) => {
                let kept = kept_of(inputs, n, m) * (columns / inputs);
                bitmask::writes(tensor, rows, columns, rows * kept, Span::row(kept * size))
            }
        };
        Unit {
            name: tensor.name.clone(),
            reads: vec![Read { tensor: index, span: Span::row(columns * size) }],
            writes,
            rows,
            row_quantum,
            scope: Scope::Block,
            key: along.key(),
            is_copy: false,
        }
    }

    /// The units of all tensors, in the order of the input.
    pub(super) fn units(&self, input: &Header, choices: &[Choice]) -> Vec<Unit> {
        let tensors = || input.tensors.iter().zip(choices).filter(|(_, c)| c.skipped.is_none());
        let total: usize = tensors().map(|(t, _)| t.elements()).sum();
        let slot_elements = |elements: usize| (elements / SLOTS).clamp(SLOT_ELEMENTS.start, SLOT_ELEMENTS.end);
        let slots_of = |tensor: &TensorInfo, choice: &Choice, elements: usize| {
            let (rows, _, quantum) = self.rows(tensor, choice, slot_elements(elements));
            rows.div_ceil(quantum)
        };
        let common = Frame {
            width: self.width(tensors().filter_map(|(t, _)| float_of(t.dtype))),
            is_sampled: self.is_sampled(tensors().map(|(t, _)| t)),
            slots: tensors().map(|(t, c)| slots_of(t, c, total)).sum(),
            first_slot: 0,
            slot_elements: slot_elements(total),
        };
        let mut next_slot = 0;
        let unit = |(index, (tensor, choice)): (usize, (&TensorInfo, &Choice))| {
            if choice.skipped.is_some() {
                return Unit::copy(index, tensor);
            }
            if let Pattern::NOfM { n, m } = self.pattern {
                return self.n_of_m_unit(index, tensor, choice, n, m);
            }
            let frame = if self.is_global() {
                let first_slot = next_slot;
                next_slot += slots_of(tensor, choice, total);
                Frame { first_slot, ..common }
            } else {
                let elements = tensor.elements();
                Frame {
                    width: self.width(float_of(tensor.dtype).into_iter()),
                    is_sampled: self.is_sampled(std::iter::once(tensor)),
                    slots: slots_of(tensor, choice, elements),
                    first_slot: 0,
                    slot_elements: slot_elements(elements),
                }
            };
            self.unstructured_unit(index, tensor, choice, &frame)
        };
        input.tensors.iter().zip(choices).enumerate().map(unit).collect()
    }
}
