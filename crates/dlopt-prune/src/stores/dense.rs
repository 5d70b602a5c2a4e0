//! Dense: the tensor as it was, with +0 where weights went. Every runtime loads it.

use dlopt_checkpoint::{Span, TensorInfo, Write};

use crate::Plugin;

pub(crate) const PLUGIN: Plugin =
    Plugin { name: "dense", summary: "zeros are written out; every runtime loads it", source: "" };

/// The part of a dense tensor.
pub(crate) fn writes(tensor: &TensorInfo, row_bytes: usize) -> Vec<Write> {
    vec![Write { info: tensor.clone(), span: Span::row(row_bytes) }]
}
