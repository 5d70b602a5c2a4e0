//! Tensors that another pass stored in parts (bitmasks): they stay as they are, beside what is quantized.

use std::borrow::Cow;
use std::collections::HashMap;

use dlopt_checkpoint::{Header, Result, TensorInfo, dtype_named, read_layout};

use crate::layouts::dlopt;

/// The tensors of a header that are parts of others.
#[derive(Default)]
pub(crate) struct Held {
    /// By the part's position, the tensor's in `wholes`.
    parts: HashMap<usize, usize>,
    /// Each with the position of its first part.
    wholes: Vec<(usize, TensorInfo)>,
}

impl Held {
    /// Those of a header whose layout says so.
    ///
    /// # Errors
    /// When the layout is unreadable.
    pub(crate) fn of(header: &Header) -> Result<Self> {
        let layout = read_layout(header)?;
        let mut held = Self::default();
        let by_name = header.by_name();
        let foreign = layout.iter().filter(|(_, stored)| !dlopt::is_quantized(stored));
        for (name, stored) in foreign {
            let mut own: Vec<usize> =
                stored.parts.values().filter_map(|part| by_name.get(part.as_str()).copied()).collect();
            own.sort_unstable();
            let (Some(first), Some(dtype)) = (own.first(), dtype_named(&stored.dtype)) else { continue };
            held.parts.extend(own.iter().map(|at| (*at, held.wholes.len())));
            held.wholes.push((*first, TensorInfo::new(name, dtype, stored.shape.clone())));
        }
        Ok(held)
    }

    /// Whether nothing is.
    pub(crate) fn is_empty(&self) -> bool {
        self.wholes.is_empty()
    }

    /// The name of one of them.
    pub(crate) fn first(&self) -> Option<&str> {
        self.wholes.first().map(|(_, whole)| whole.name.as_str())
    }

    /// The tensor that one is a part of.
    pub(crate) fn whole(&self, at: usize) -> Option<&TensorInfo> {
        Some(&self.wholes[*self.parts.get(&at)?].1)
    }

    /// The same where it is the first part.
    pub(crate) fn begun(&self, at: usize) -> Option<&TensorInfo> {
        let (first, whole) = &self.wholes[*self.parts.get(&at)?];
        (*first == at).then_some(whole)
    }

    /// The header with each tensor in place of its first part, so that globs and roles are those of the tensor.
    pub(crate) fn in_place<'a>(&self, header: &'a Header) -> Cow<'a, Header> {
        if self.is_empty() {
            return Cow::Borrowed(header);
        }
        let mut header = header.clone();
        self.wholes.iter().for_each(|(first, whole)| header.tensors[*first] = whole.clone());
        Cow::Owned(header)
    }
}
