//! The order of an output, decided from the plan alone, whatever the source and the sink.
//!
//! Tensors stand in the order of the input, the parts of a unit widest type first. Only if some tensor would then not
//! begin at a multiple of its element size (several loaders crash or slow down on that, and the format allows no holes)
//! the whole order is sorted stably by element size, widest first.

use std::cmp::Reverse;

use crate::dtype::alignment_bytes;
use crate::header::Header;
use crate::pass::Plan;

/// Where each part of a plan goes.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// The output header.
    pub header: Header,
    /// For each tensor of the header, its unit and its position in the unit's writes.
    pub parts: Vec<(usize, usize)>,
}

/// Derives the output header of a plan.
pub fn order_plan(plan: &Plan) -> Ordered {
    align(plan, parts_in_input_order(plan))
}

/// All parts in the order of the input, the parts of a unit widest type first.
pub(crate) fn parts_in_input_order(plan: &Plan) -> Vec<(usize, usize)> {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for (u, unit) in plan.units.iter().enumerate() {
        let mut own: Vec<_> = (0..unit.writes.len()).map(|w| (u, w)).collect();
        own.sort_by_key(|&(_, w)| Reverse(alignment_bytes(unit.writes[w].info.dtype)));
        parts.extend(own);
    }
    parts
}

/// The same for a share of the parts (one output shard), which keep their order unless they must be aligned.
pub fn align(plan: &Plan, mut parts: Vec<(usize, usize)>) -> Ordered {
    let header_of = |parts: &[(usize, usize)]| Header {
        tensors: parts.iter().map(|&(u, w)| plan.units[u].writes[w].info.clone()).collect(),
        metadata: plan.metadata.clone(),
    };
    let header = header_of(&parts);
    if header.is_aligned() {
        return Ordered { header, parts };
    }
    parts.sort_by_key(|&(u, w)| Reverse(alignment_bytes(plan.units[u].writes[w].info.dtype)));
    Ordered { header: header_of(&parts), parts }
}
