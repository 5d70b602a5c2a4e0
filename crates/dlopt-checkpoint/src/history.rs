//! `dlopt.history`: what was done to a checkpoint, one entry a pass.
//!
//! An entry holds version, verb, resolved options and the SHA-256 of the input header's canonical form: never a time, a
//! path or a thread count, so that equal inputs and options give equal bytes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dtype::dtype_name;
use crate::error::{Error, Result};
use crate::header::Header;

/// The metadata key.
pub const HISTORY_KEY: &str = "dlopt.history";

/// The schema that this version writes.
const SCHEMA: u32 = 1;

/// One pass that was run.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct HistoryEntry {
    /// The version of dlopt that ran it.
    pub version: String,
    /// Its verb.
    pub verb: String,
    /// Its resolved options.
    pub options: serde_json::Value,
    /// SHA-256 of the canonical form of the header it read.
    pub input: String,
}

#[derive(Serialize, Deserialize)]
struct History {
    schema: u32,
    passes: Vec<HistoryEntry>,
}

/// The passes that made a checkpoint, oldest first.
///
/// # Errors
/// When the history is there and unreadable.
pub fn read_history(header: &Header) -> Result<Vec<HistoryEntry>> {
    let Some(text) = header.metadata.get(HISTORY_KEY) else { return Ok(Vec::new()) };
    let history: History =
        serde_json::from_str(text).map_err(|e| Error::input(format!("metadata `{HISTORY_KEY}` is unreadable: {e}")))?;
    if history.schema != SCHEMA {
        return Err(Error::input(format!(
            "metadata `{HISTORY_KEY}` has schema {}, this dlopt reads {SCHEMA}",
            history.schema
        ))
        .hint("use the version of dlopt that wrote it, or a newer one"));
    }
    Ok(history.passes)
}

/// The history of `input` with one more pass, as metadata text.
///
/// # Errors
/// When the history of `input` is unreadable.
pub fn extend_history(input: &Header, verb: &str, options: serde_json::Value) -> Result<String> {
    let mut passes = read_history(input)?;
    passes.push(HistoryEntry {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        verb: verb.to_owned(),
        options,
        input: header_digest(input),
    });
    Ok(serde_json::to_string(&History { schema: SCHEMA, passes }).expect("strings and numbers always serialise"))
}

/// SHA-256 of a header's canonical form: names, dtypes, shapes, config and earlier history, never raw bytes.
pub fn header_digest(header: &Header) -> String {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let mut tensors: Vec<_> = header.tensors.iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    for tensor in tensors {
        field(tensor.name.as_bytes());
        field(dtype_name(tensor.dtype).as_bytes());
        field(format!("{:?}", tensor.shape).as_bytes());
    }
    for key in ["config", HISTORY_KEY] {
        field(header.metadata.get(key).map_or("", String::as_str).as_bytes());
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
