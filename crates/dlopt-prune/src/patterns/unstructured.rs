//! Unstructured: zeros may stand anywhere.
//!
//! Of `weights` weights the first `round(sparsity * weights)` (halves to even) in the order (key, tensor, index) go, in
//! each tensor or in all together. Zeros have the smallest key, so a tensor that has more of them keeps them.

use std::ops::Range;

use dlopt_checkpoint::{Decision, Output, Result};

use crate::Plugin;
use crate::keys::Keys;
use crate::search::State;
use crate::stores::bitmask;
use crate::view::View;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "unstructured",
    summary: "zeros anywhere; takes --sparsity, per tensor or over all (--scope)",
    source: "Han et al. 2015, arXiv 1506.02626",
};

/// Prunes the rows from `first` on.
pub(crate) fn apply(
    view: &View,
    keys: &Keys,
    name: &str,
    first: usize,
    bytes: &[u8],
    decision: &Decision,
    output: &mut Output<'_>,
) -> Result<()> {
    let cut = State::cut(decision);
    if !view.is_bitmask {
        let mut rest = &mut *output.parts[0];
        for (slot, index, bytes) in view.split(first, bytes) {
            let (out, later) = rest.split_at_mut(bytes.len());
            output.report.push(keys.zero(bytes, index, cut.key, cut.within(slot), out));
            rest = later;
        }
        return Ok(());
    }
    let mut is_kept = vec![false; bytes.len() / view.kind.bytes()];
    let mut begin = 0;
    for (slot, index, bytes) in view.split(first, bytes) {
        let ties_before = cut.within(slot);
        let slot_kept = &mut is_kept[begin..];
        keys.each(bytes, index, |i, key| slot_kept[i] = key > cut.key || (key == cut.key && i >= ties_before));
        begin += bytes.len() / view.kind.bytes();
    }
    let slots = view.slots_of(&(first..first));
    let offset = cut.kept[slots.start] - cut.kept[view.place.first_slot];
    let block = bitmask::Rows { kind: view.kind, columns: view.columns, bytes, is_kept: &is_kept };
    bitmask::write(name, &block, offset, true, output)
}

/// The bytes of `compressed` that `rows` own.
pub(crate) fn kept_bytes(view: &View, rows: &Range<usize>, decision: &Decision) -> Range<u64> {
    let kept = &State::cut(decision).kept;
    let slots = view.slots_of(rows);
    let at = |slot: usize| (kept[slot] - kept[view.place.first_slot]) * view.kind.bytes() as u64;
    at(slots.start)..at(slots.end)
}

/// The weights that a unit keeps.
pub(crate) fn kept_elements(view: &View, decision: &Decision) -> usize {
    let kept = &State::cut(decision).kept;
    (kept[view.place.first_slot + view.slots] - kept[view.place.first_slot]) as usize
}
