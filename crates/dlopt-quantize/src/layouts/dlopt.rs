//! `dlopt.layout`: weights that no runtime's layout can describe, such as quantized convolutions.
//!
//! The metadata hold, by the weight's name, its dtype and shape, its parts by role, and the same arguments as
//! `quantization_config` has. Codes are those of the weight as a matrix, trailing extents flattened.

use std::collections::{BTreeMap, HashSet};

use dlopt_checkpoint::{
    Error, Header, Result, StoredTensor, TensorInfo, dtype_name, dtype_named, is_weight_float, read_layout,
};

use super::{Known, Parts, Stored, args_json, read_args, resolve};
use crate::formats::{Format, format_named};
use crate::{Plugin, Scheme};

pub(super) const PLUGIN: Plugin = Plugin {
    name: "dlopt.layout",
    summary: "what the runtimes cannot describe: convolutions, recurrent weights, embeddings",
    source: "dlopt",
};

/// The entry of a weight that a scheme stores.
pub(crate) fn entry(
    tensor: &TensorInfo,
    scheme: &Scheme,
    format: &dyn Format,
    parts: BTreeMap<String, String>,
) -> StoredTensor {
    StoredTensor {
        format: format.plugin().name.to_owned(),
        dtype: dtype_name(tensor.dtype).to_owned(),
        shape: tensor.shape.clone(),
        parts,
        options: args_json(scheme),
    }
}

/// Formats that a layout may name and that other passes undo.
const OF_OTHER_PASSES: [&str; 2] = ["sparse-bitmask", "sparse-24-bitmask"];

/// Whether an entry is one of quantized weights; others belong to other passes.
pub(crate) fn is_quantized(entry: &StoredTensor) -> bool {
    format_named(&entry.format).is_some()
}

/// The tensors that some entry names as a part.
pub(crate) fn part_names(header: &Header) -> Result<HashSet<String>> {
    Ok(read_layout(header)?.into_values().flat_map(|s| s.parts.into_values()).collect())
}

/// The quantized weights of `dlopt.layout`.
pub(super) fn read(header: &Header) -> Result<Vec<Stored>> {
    let by_name = header.by_name();
    let mut weights = Vec::new();
    for (name, entry) in read_layout(header)?.into_iter().filter(|(_, e)| !OF_OTHER_PASSES.contains(&e.format.as_str()))
    {
        let place = format!("tensor `{name}` in `dlopt.layout`");
        if !is_quantized(&entry) {
            return Err(Error::input(format!(
                "{place} is stored as `{}`, which this dlopt does not read",
                entry.format
            ))
            .hint("use the version of dlopt that wrote it, or a newer one"));
        }
        let format = format_named(&entry.format).expect("it is one of quantized weights");
        let has_tables = format.entries(1).is_some();
        let dtype = dtype_named(&entry.dtype)
            .filter(|d| is_weight_float(*d))
            .ok_or_else(|| Error::input(format!("{place} has dtype `{}`, which weights do not have", entry.dtype)))?;
        let part = |role: &str| -> Result<Option<usize>> {
            let Some(part) = entry.parts.get(role) else { return Ok(None) };
            let at = by_name.get(part.as_str()).copied();
            at.map(Some).ok_or_else(|| Error::input(format!("{place} names `{part}`, which is not there")))
        };
        let needed = |role: &str| part(role)?.ok_or_else(|| Error::input(format!("{place} has no part `{role}`")));
        let codes = needed(if format.packs() { "packed" } else { "codes" })?;
        let scale = needed(if has_tables { "codebook" } else { "scale" })?;
        let parts = Parts { codes, scale, zero: part("zero_point")?, ..Parts::default() };
        let is_symmetric = entry.options.get("symmetric").and_then(serde_json::Value::as_bool).unwrap_or(true);
        if is_symmetric == parts.zero.is_some() {
            return Err(Error::input(format!("{place} is symmetric or not, and its zero points say the opposite")));
        }
        let args = read_args(&entry.options, &place)?;
        let known = Known { name, args: Some(args), shape: Some(entry.shape.clone()), dtype: Some(dtype), has_tables };
        weights.push(resolve(header, &known, parts)?);
    }
    Ok(weights)
}
