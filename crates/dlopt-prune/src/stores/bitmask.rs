//! Bitmask: one bit for each weight, and the weights that are kept.
//!
//! The layout `sparse-bitmask` of compressed-tensors up to 0.12, for a tensor `[rows, columns]` (all extents but the
//! first flattened): `NAME.compressed` (the kept weights in row order, 1-D), `NAME.bitmask` (U8
//! `[rows, ceil(columns / 8)]`, bit `i % 8` of byte `i / 8` is weight `i` of the row), `NAME.row_offsets` (I64 `[rows]`,
//! where each row begins in `compressed`), `NAME.shape` (I64 `[rank]`). Exactly the weights that the pattern keeps are
//! stored, even where they are zero, so that sizes follow from the header.

use std::collections::BTreeMap;

use dlopt_checkpoint::{Dtype, Error, Output, Result, Span, StoredTensor, TensorInfo, Write, dtype_name};
use dlopt_kernels::Float;

use crate::Plugin;
use crate::keys::report_kept;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "bitmask",
    summary: "one bit for each weight and the kept weights; dlopt reads it, runtimes no longer do",
    source: "compressed-tensors 0.12, sparse-bitmask",
};

/// The name of the layout.
pub(crate) const FORMAT: &str = "sparse-bitmask";

/// The roles of the parts, in the order of [`writes`]; each is the tensor's name, a dot and the role.
pub(crate) const ROLES: [&str; 4] = ["compressed", "bitmask", "row_offsets", "shape"];

/// The parts of a tensor of `rows` rows and `columns` columns that keeps `kept` weights.
pub(crate) fn writes(tensor: &TensorInfo, rows: usize, columns: usize, kept: usize, span: Span) -> Vec<Write> {
    let mask_bytes = columns.div_ceil(8);
    let part = |role: &str, dtype, shape: Vec<usize>, span| Write {
        info: TensorInfo::new(format!("{}.{role}", tensor.name), dtype, shape),
        span,
    };
    vec![
        part(ROLES[0], tensor.dtype, vec![kept], span),
        part(ROLES[1], Dtype::U8, vec![rows, mask_bytes], Span::row(mask_bytes)),
        part(ROLES[2], Dtype::I64, vec![rows], Span::row(8)),
        part(ROLES[3], Dtype::I64, vec![tensor.shape.len()], Span::Whole),
    ]
}

/// What `dlopt.layout` says of a tensor.
pub(crate) fn stored(tensor: &TensorInfo) -> StoredTensor {
    StoredTensor {
        format: FORMAT.to_owned(),
        dtype: dtype_name(tensor.dtype).to_owned(),
        shape: tensor.shape.clone(),
        parts: ROLES
            .iter()
            .map(|role| ((*role).to_owned(), format!("{}.{role}", tensor.name)))
            .collect::<BTreeMap<_, _>>(),
        options: serde_json::Value::Null,
    }
}

/// One block of rows, and which of its weights are kept.
pub(crate) struct Rows<'a> {
    pub(crate) kind: Float,
    pub(crate) columns: usize,
    pub(crate) bytes: &'a [u8],
    pub(crate) is_kept: &'a [bool],
}

/// Fills the parts, all but `shape`. `offset`: weights kept in the rows before. `plain_zeros`: -0 becomes +0.
///
/// # Errors
/// When more or fewer weights are kept than were counted: the input changed between two reads.
pub(crate) fn write(
    name: &str,
    rows: &Rows<'_>,
    mut offset: u64,
    plain_zeros: bool,
    output: &mut Output<'_>,
) -> Result<()> {
    let size = rows.kind.bytes();
    let changed = || Error::input(format!("tensor `{name}` changed while it was read"));
    let [compressed, bitmask, offsets, ..] = &mut output.parts[..] else {
        unreachable!("a bitmask unit has four parts");
    };
    let mut kept = compressed.chunks_exact_mut(size);
    let lines = rows.bytes.chunks_exact(rows.columns * size).zip(rows.is_kept.chunks_exact(rows.columns));
    let parts = bitmask.chunks_exact_mut(rows.columns.div_ceil(8)).zip(offsets.as_chunks_mut::<8>().0);
    for ((bytes, is_kept), (bits, row_offset)) in lines.zip(parts) {
        *row_offset = (offset as i64).to_le_bytes();
        for (byte, is_kept) in bits.iter_mut().zip(is_kept.chunks(8)) {
            *byte = is_kept.iter().enumerate().fold(0, |byte, (i, kept)| byte | (u8::from(*kept) << i));
        }
        for (element, _) in bytes.chunks_exact(size).zip(is_kept).filter(|(_, kept)| **kept) {
            let place = kept.next().ok_or_else(changed)?;
            if plain_zeros && is_zero(element) {
                place.fill(0)
            } else {
                place.copy_from_slice(element)
            }
            offset += 1;
        }
        output.report.push(report_kept(rows.kind, bytes, is_kept));
    }
    if kept.next().is_some() { Err(changed()) } else { Ok(()) }
}

/// Whether a float is zero of either sign.
fn is_zero(element: &[u8]) -> bool {
    element.split_last().is_some_and(|(high, low)| high & 0x7f == 0 && low.iter().all(|b| *b == 0))
}

/// Fills `shape`, where this block holds it.
pub(crate) fn write_shape(shape: &[usize], part: &mut [u8]) {
    for (place, dim) in part.as_chunks_mut::<8>().0.iter_mut().zip(shape) {
        *place = (*dim as i64).to_le_bytes();
    }
}
