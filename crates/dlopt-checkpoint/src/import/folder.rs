//! Folders of PyTorch files: `pytorch_model.bin`, or several with `pytorch_model.bin.index.json`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::{Imported, add_file, shown};
use crate::error::{Context, Error, Result};

/// The only file of a model that was not split.
const SINGLE: &str = "pytorch_model.bin";
/// Which file each tensor of a split model is in.
const INDEX: &str = "pytorch_model.bin.index.json";
/// Longest index that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 100_000_000;

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens a folder that holds `pytorch_model.bin.index.json` and its files, or `pytorch_model.bin`.
///
/// # Errors
/// As [`super::open_import`]; and when a file of the index is missing, is named by a path, or holds other tensors than
/// the index says.
pub fn open_import_folder(path: &Path) -> Result<Imported> {
    let index = path.join(INDEX);
    if index.is_file() {
        return open_sharded(path, &index);
    }
    let single = path.join(SINGLE);
    if single.is_file() {
        return super::open_import(&single);
    }
    Err(Error::input(format!("{}: holds neither `{INDEX}` nor `{SINGLE}`", path.display())))
}

fn open_sharded(folder: &Path, index: &Path) -> Result<Imported> {
    let within = |e: Error| e.within(index.display());
    let length = std::fs::metadata(index).at(index.display())?.len();
    if length > MAX_INDEX_BYTES {
        return Err(within(Error::input(format!("is {length} bytes long; {MAX_INDEX_BYTES} are the most"))));
    }
    let text = std::fs::read(index).at(index.display())?;
    let Index { weight_map } =
        serde_json::from_slice(&text).map_err(|e| within(Error::input(format!("is no index of weights: {e}"))))?;
    let files: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    let mut imported = Imported::new();
    let mut owners = HashMap::new();
    for file in files {
        check_file_name(file).map_err(within)?;
        let path = folder.join(file);
        if !path.is_file() {
            return Err(within(
                Error::input(format!("names `{}`, which is not in the folder", shown(file)))
                    .hint("fetch the missing file"),
            ));
        }
        let (tensors, skipped) = (imported.header.tensors.len(), imported.skipped.len());
        add_file(&mut imported, &path).map_err(|e| e.within(path.display()))?;
        for line in &mut imported.skipped[skipped..] {
            *line = format!("{}: {line}", shown(file));
        }
        for tensor in &imported.header.tensors[tensors..] {
            let name = tensor.name.as_str();
            if let Some(before) = owners.insert(name.to_owned(), file) {
                return Err(within(Error::input(format!("tensor `{}` is in `{before}` and in `{file}`", shown(name)))));
            }
            match weight_map.get(name) {
                Some(expected) if expected == file => {}
                Some(expected) => {
                    return Err(within(Error::input(format!(
                        "tensor `{}` is in `{file}`; the index says `{}`",
                        shown(name),
                        shown(expected)
                    ))));
                }
                None => {
                    return Err(within(Error::input(format!(
                        "tensor `{}` of `{file}` is not in the index",
                        shown(name)
                    ))));
                }
            }
        }
    }
    match weight_map.iter().find(|(name, _)| !owners.contains_key(*name)) {
        None => Ok(imported),
        Some((name, file)) => {
            Err(within(Error::input(format!("tensor `{}` should be in `{}` and is not", shown(name), shown(file)))))
        }
    }
}

/// A name must stay in the folder.
fn check_file_name(name: &str) -> Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
        return Err(Error::input(format!("names the file `{}`; only names in its own folder are read", shown(name))));
    }
    Ok(())
}
