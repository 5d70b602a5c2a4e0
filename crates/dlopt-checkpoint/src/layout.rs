//! `dlopt.layout`: how tensors are stored that the runtimes' layouts cannot describe.
//!
//! Quantized convolutions and recurrent weights, and bitmask storage: logical name → format, dtype, shape, parts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::header::Header;

/// The metadata key.
pub const LAYOUT_KEY: &str = "dlopt.layout";

/// The schema that this version writes.
const SCHEMA: u32 = 1;

/// How one logical tensor is stored.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct StoredTensor {
    /// The format's name (`pack-quantized`, `sparse-bitmask`…).
    pub format: String,
    /// The dtype that the tensor had, as the format of the container names it.
    pub dtype: String,
    /// The shape that the tensor had.
    pub shape: Vec<usize>,
    /// Role of each part (`packed`, `scale`, `bitmask`…) and the tensor that holds it.
    pub parts: BTreeMap<String, String>,
    /// What else the format needs (bits, group size, symmetry…).
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub options: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct Layout {
    schema: u32,
    tensors: BTreeMap<String, StoredTensor>,
}

/// The tensors that are stored in parts, by logical name.
///
/// # Errors
/// When the layout is there and unreadable.
pub fn read_layout(header: &Header) -> Result<BTreeMap<String, StoredTensor>> {
    let Some(text) = header.metadata.get(LAYOUT_KEY) else { return Ok(BTreeMap::new()) };
    let layout: Layout =
        serde_json::from_str(text).map_err(|e| Error::input(format!("metadata `{LAYOUT_KEY}` is unreadable: {e}")))?;
    if layout.schema != SCHEMA {
        return Err(Error::input(format!(
            "metadata `{LAYOUT_KEY}` has schema {}, this dlopt reads {SCHEMA}",
            layout.schema
        ))
        .hint("use the version of dlopt that wrote it, or a newer one"));
    }
    Ok(layout.tensors)
}

/// The metadata text of a layout.
pub fn layout_text(tensors: BTreeMap<String, StoredTensor>) -> String {
    serde_json::to_string(&Layout { schema: SCHEMA, tensors }).expect("strings and numbers always serialise")
}
