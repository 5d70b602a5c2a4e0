//! Files of a folder: shards, index, and the small files beside them.

use std::path::Path;

use dlopt_checkpoint::{Checkpoint, Companions, Content};
use serde_json::Value;

use super::Found;

/// Largest small file that is parsed, in bytes.
const MAX_PARSED_BYTES: u64 = 64 << 20;

pub(super) fn check(checkpoint: &Checkpoint, is_quick: bool, found: &mut Found) {
    if checkpoint.is_folder {
        found.check("files", "the index, every shard it names, and no others");
        if let Some(dir) = checkpoint.files.first().and_then(|f| f.parent()) {
            check_shards(checkpoint, dir, found);
            check_index(checkpoint, dir, found);
        }
    }
    if checkpoint.companions.names().is_empty() {
        return;
    }
    if is_quick {
        return found.skip("companions", "the small files are readable", "only headers were asked for");
    }
    found.check("companions", "the small files are readable");
    for name in checkpoint.companions.names() {
        if let Err(what) = check_companion(&checkpoint.companions, &name) {
            found.file_error(&name, what);
        }
    }
}

fn check_shards(checkpoint: &Checkpoint, dir: &Path, found: &mut Found) {
    let Ok(entries) = dir.read_dir() else { return found.file_error(&dir.display().to_string(), "cannot be listed") };
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names.iter().filter(|n| n.ends_with(".safetensors") && !checkpoint.shards.contains(n)) {
        if shard_number(name).is_some() {
            found.file_error(name, "a shard that the index does not name: loaders that list the folder would read it");
        } else {
            found.file_warning(name, "weights that are no part of this checkpoint");
        }
    }
    if names.iter().any(|n| n == "dlopt-journal.json") {
        found.file_error("dlopt-journal.json", "the folder was never finished");
    }
    let count = checkpoint.shards.len();
    for (name, (number, of)) in checkpoint.shards.iter().filter_map(|s| Some((s, shard_number(s)?))) {
        if of != count || number == 0 || number > of {
            found.file_warning(name, format!("its name says shard {number} of {of}; there are {count}"));
        }
    }
}

/// `(3, 7)` of `model-00003-of-00007.safetensors`.
fn shard_number(name: &str) -> Option<(usize, usize)> {
    let stem = name.strip_suffix(".safetensors")?;
    let (rest, of) = stem.rsplit_once("-of-")?;
    let (_, number) = rest.rsplit_once('-')?;
    Some((number.parse().ok()?, of.parse().ok()?))
}

fn check_index(checkpoint: &Checkpoint, dir: &Path, found: &mut Found) {
    const NAME: &str = "model.safetensors.index.json";
    let path = dir.join(NAME);
    if !path.is_file() {
        return;
    }
    // Opening read it already, unless the folder also holds a single file.
    let Some(index) = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else {
        return found.file_error(NAME, "is no JSON");
    };
    let total = index.get("metadata").and_then(|m| m.get("total_size"));
    let bytes = checkpoint.header.data_bytes();
    match total {
        None => {}
        Some(total) if total.as_u64() == Some(bytes) => {}
        Some(total) if total.as_f64() == Some(bytes as f64) => {}
        Some(total) => found.file_warning(NAME, format!("`total_size` is {total}; the tensors take {bytes} bytes")),
    }
}

fn check_companion(companions: &Companions, name: &str) -> Result<(), String> {
    let is_json = name.ends_with(".json");
    let parse = |text: &[u8]| match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(e) => Err(format!("is no JSON: {e}")),
    };
    match companions {
        Companions::Embedded(files) => match files.get(name) {
            Some(Content::Text(text)) if is_json => parse(text.as_bytes()),
            // Names and base64 were checked on opening.
            _ => Ok(()),
        },
        Companions::Folder { dir, .. } => {
            let path = dir.join(name);
            let bytes = path.metadata().map_err(|e| format!("cannot be read: {e}"))?.len();
            if !is_json || bytes > MAX_PARSED_BYTES {
                return Ok(());
            }
            parse(&std::fs::read(&path).map_err(|e| format!("cannot be read: {e}"))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_names_are_told_from_others() {
        assert_eq!(shard_number("model-00003-of-00007.safetensors"), Some((3, 7)));
        assert_eq!(shard_number("model.safetensors"), None);
        assert_eq!(shard_number("adapter-of-x.safetensors"), None);
    }
}
