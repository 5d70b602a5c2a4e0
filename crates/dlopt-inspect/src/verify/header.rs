//! Headers: what reading them does not refuse, but some loader stumbles over.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use dlopt_checkpoint::{Checkpoint, alignment_bytes};

use super::Found;

/// Longest name that is no surprise, in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// Values of the metadata key `format` that loaders know.
const FORMATS: [&str; 6] = ["pt", "tf", "flax", "np", "mlx", "paddle"];

/// Offsets, dtypes and shapes were checked on opening; here come alignment, names and `format`.
pub(super) fn check(checkpoint: &Checkpoint, found: &mut Found) {
    found.check(
        "header",
        format!("offsets, dtypes, alignment and names of {} tensors", checkpoint.header.tensors.len()),
    );
    check_alignment(checkpoint, found);
    for tensor in &checkpoint.header.tensors {
        let name = &tensor.name;
        if name.is_empty() {
            found.warn(name, "its name is empty");
        }
        if name.chars().any(char::is_control) {
            found.warn(name, "its name holds control characters");
        }
        if name.trim() != name {
            found.warn(name, "its name begins or ends with blanks");
        }
        if name.len() > MAX_NAME_BYTES {
            found.warn(name, format!("its name has {} bytes", name.len()));
        }
    }
    let is_safetensors = checkpoint.shards.iter().all(|s| s.ends_with(".safetensors"));
    match checkpoint.header.metadata.get("format").map(String::as_str) {
        Some(format) if FORMATS.contains(&format) => {}
        Some(format) => {
            found.model_warning(format!("metadata `format` is `{format}`; loaders know {}", FORMATS.join(", ")))
        }
        // Only the loader of transformers asks for it.
        None if is_safetensors && checkpoint.header.metadata.contains_key("config") => {
            found.model_warning("metadata `format` is missing; older versions of transformers refuse such a file");
        }
        None => {}
    }
}

fn check_alignment(checkpoint: &Checkpoint, found: &mut Found) {
    let begins: Vec<u64> = checkpoint.shards.iter().map(|shard| data_begin(checkpoint, shard)).collect();
    let mut next = begins.clone();
    for (shard, begin) in checkpoint.shards.iter().zip(begins) {
        if begin % 8 != 0 {
            found.file_warning(shard, format!("its data begin at byte {begin}, no multiple of 8"));
        }
    }
    for (tensor, &shard) in checkpoint.header.tensors.iter().zip(&checkpoint.shard_of) {
        let Some(at) = next.get_mut(shard) else { continue };
        let alignment = alignment_bytes(tensor.dtype) as u64;
        if *at % alignment != 0 {
            found.warn(&tensor.name, format!("begins at byte {at} of its file, no multiple of {alignment}"));
        }
        *at += tensor.bytes();
    }
}

/// Where the data of a shard begin; 8 where no file says.
fn data_begin(checkpoint: &Checkpoint, shard: &str) -> u64 {
    let is_shard = |path: &&std::path::PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy() == shard);
    let file = checkpoint.files.iter().find(is_shard);
    file.and_then(|path| header_bytes(path)).unwrap_or(8)
}

fn header_bytes(path: &Path) -> Option<u64> {
    let mut first = [0; 8];
    File::open(path).ok()?.read_exact(&mut first).ok()?;
    u64::from_le_bytes(first).checked_add(8).filter(|_| first[4..] == [0; 4])
}
