//! From an unpickled value to named tensors.
//!
//! A dict that keeps the weights under `state_dict`, `model_state_dict`, `model` or `module`, and none beside them,
//! gives those; any other is flattened with `.` between the keys.

use std::collections::{HashMap, HashSet};

use super::pickle::{Heap, Value};
use super::pieces::{Bytes, Piece, is_c_order};
use super::torch::Storage;
use super::{Imported, checked_shape, shown};
use crate::error::{Error, Result};

/// The usual names of the weights in a training checkpoint, the likeliest first.
const WEIGHTS: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];
/// The name of a tensor that was saved alone.
const UNNAMED: &str = "tensor";
/// How deep dicts and lists may nest.
const MAX_DEPTH: usize = 64;
/// Most tensors and containers looked at; shared ones count each time they are met.
const MAX_VISITS: u32 = 2_000_000;
/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 4096;
/// Longest all names together, in bytes.
const MAX_NAMES_BYTES: usize = 64 << 20;
/// How many times larger than the file's own bytes tensors may be because they share or repeat them…
const MAX_GROWTH: u64 = 16;
/// …beyond this many bytes, which any file may grow by.
const FREE_GROWTH_BYTES: u64 = 1 << 30;
/// Most lines that say what was left out.
const MAX_SKIPPED: usize = 1000;

/// Adds every tensor that `value` holds; `locate` says where a storage's first byte lies and how many follow.
///
/// `stored_bytes` is what all storages take: tensors may share them, but not grow out of all proportion to them.
pub(super) fn add(
    imported: &mut Imported,
    value: &Value,
    heap: &Heap,
    stored_bytes: u64,
    mut locate: impl FnMut(&mut Imported, &Storage) -> Result<(Bytes, u64)>,
) -> Result<()> {
    let mut walk = Walk { heap, found: Vec::new(), names_bytes: 0, skipped: Vec::new(), more_skipped: 0, visits: 0 };
    walk.state_dict(value)?;
    let mut names = HashSet::new();
    let most = stored_bytes.saturating_mul(MAX_GROWTH).saturating_add(FREE_GROWTH_BYTES);
    let before = imported.data_bytes;
    for (name, tensor) in &walk.found {
        let within = |e: Error| e.within(format!("tensor `{}`", shown(name)));
        if name == "__metadata__" {
            return Err(within(Error::input("safetensors keeps this name for itself")));
        }
        if !names.insert(name.as_str()) {
            return Err(within(Error::input("two entries get this name when nested dicts are flattened")));
        }
        let tensor = &heap.tensors[*tensor as usize];
        let storage = &heap.storages[tensor.storage as usize];
        let shape = checked_shape(tensor.dtype, &tensor.shape).map_err(within)?;
        let size = (tensor.dtype.bitsize() / 8) as u64;
        let end = if shape.contains(&0) { Some(0) } else { end_of(&tensor.shape, &tensor.strides, tensor.offset) };
        let (bytes, storage_bytes) = locate(imported, storage).map_err(within)?;
        let elements = if storage.dtype.is_some() { storage.view_elements } else { storage.view_elements / size };
        if end.is_none_or(|end| end > elements || end > storage_bytes / size) {
            return Err(within(Error::input(format!(
                "shape {shape:?} with strides {:?} from element {} on leaves its storage `{}` of {elements} elements",
                tensor.strides,
                tensor.offset,
                shown(&storage.key)
            ))));
        }
        // An empty tensor may claim to begin anywhere.
        let begin = if shape.contains(&0) { 0 } else { tensor.offset * size };
        let strides = (!is_c_order(&shape, &tensor.strides)).then(|| tensor.strides.clone());
        let piece = Piece { strides, ..Piece::plain(bytes.advanced(begin)) };
        imported.push(name.clone(), tensor.dtype, shape, piece).map_err(within)?;
        if imported.data_bytes - before > most {
            return Err(within(Error::input(format!(
                "the {stored_bytes} bytes stored would grow to more than {most}, since tensors share or repeat them"
            )))
            .hint("save tensor.clone() of what is worth keeping"));
        }
    }
    imported.skipped.append(&mut walk.skipped);
    if walk.more_skipped > 0 {
        imported.skipped.push(format!("and {} more", walk.more_skipped));
    }
    Ok(())
}

/// One past the last element a tensor touches.
fn end_of(shape: &[u64], strides: &[u64], offset: u64) -> Option<u64> {
    let mut last = offset;
    for (&dim, &stride) in shape.iter().zip(strides) {
        last = last.checked_add((dim - 1).checked_mul(stride)?)?;
    }
    last.checked_add(1)
}

struct Walk<'a> {
    heap: &'a Heap,
    found: Vec<(String, u32)>,
    names_bytes: usize,
    skipped: Vec<String>,
    more_skipped: usize,
    visits: u32,
}

impl Walk<'_> {
    fn state_dict(&mut self, value: &Value) -> Result<()> {
        if let Value::Tensor(tensor) = value {
            self.found.push((UNNAMED.to_owned(), *tensor));
            return Ok(());
        }
        if !is_branch(value) {
            return Err(Error::input(format!("holds no dict of tensors but {}", kind(value))));
        }
        let children = self.children(value);
        let has_own = children.iter().any(|(_, child)| matches!(child, Value::Tensor(_)));
        for wanted in WEIGHTS.iter().filter(|_| !has_own) {
            let Some(at) = children.iter().position(|(name, _)| name.as_deref() == Some(*wanted)) else { continue };
            if self.heap.entries(&children[at].1).is_none() {
                continue;
            }
            self.visit("", &children[at].1, 0)?;
            if self.found.is_empty() {
                continue;
            }
            for (i, (name, child)) in children.iter().enumerate().filter(|(i, _)| i != &at) {
                self.skip(name.clone().unwrap_or_else(|| format!("entry {i}")), kind(child));
            }
            return Ok(());
        }
        (self.skipped, self.more_skipped) = (Vec::new(), 0);
        self.visit("", value, 0)
    }

    /// Finds the tensors below `value`, which is called `name`.
    fn visit(&mut self, name: &str, value: &Value, depth: usize) -> Result<()> {
        self.visits += u32::from(is_branch(value));
        if self.visits > MAX_VISITS {
            return Err(Error::input(format!("holds more than {MAX_VISITS} values; so large a one is no state dict")));
        }
        if depth > MAX_DEPTH {
            return Err(Error::input(format!("nests dicts deeper than {MAX_DEPTH}")));
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(Error::input(format!("a tensor's name is longer than {MAX_NAME_BYTES} bytes")));
        }
        if let Value::Tensor(tensor) = value {
            self.names_bytes += name.len();
            if self.names_bytes > MAX_NAMES_BYTES {
                return Err(Error::input(format!("the names of all tensors take more than {MAX_NAMES_BYTES} bytes")));
            }
            self.found.push((name.to_owned(), *tensor));
            return Ok(());
        }
        if !is_branch(value) {
            self.skip(name.to_owned(), kind(value));
            return Ok(());
        }
        let before = (self.found.len(), self.skipped.len(), self.more_skipped);
        for (i, (key, child)) in self.children(value).into_iter().enumerate() {
            let key = key.unwrap_or_else(|| format!("entry {i}"));
            let full = if name.is_empty() { key } else { format!("{name}.{key}") };
            self.visit(&full, &child, depth + 1)?;
        }
        if self.found.len() == before.0 && !name.is_empty() {
            self.skipped.truncate(before.1);
            self.more_skipped = before.2;
            self.skip(name.to_owned(), kind(value));
        }
        Ok(())
    }

    /// The children of a dict or list with their names; of a key that stands twice, the last value counts.
    fn children(&self, value: &Value) -> Vec<(Option<String>, Value)> {
        if let Some(items) = self.heap.items(value) {
            // A long list of numbers is one thing that is left out, not many.
            if !items.iter().any(is_branch) {
                return Vec::new();
            }
            return items.iter().enumerate().map(|(i, item)| (Some(i.to_string()), item.clone())).collect();
        }
        let mut children: Vec<(Option<String>, Value)> = Vec::new();
        let mut places = HashMap::new();
        for (key, child) in self.heap.entries(value).unwrap_or_default() {
            let name = match key {
                Value::Text(text) => text.to_string(),
                Value::Int(number) => number.to_string(),
                _ => {
                    children.push((None, child.clone()));
                    continue;
                }
            };
            let place = *places.entry(name.clone()).or_insert(children.len());
            if place == children.len() {
                children.push((Some(name), child.clone()));
            } else {
                children[place].1 = child.clone();
            }
        }
        children
    }

    fn skip(&mut self, name: String, kind: &str) {
        if self.skipped.len() == MAX_SKIPPED {
            self.more_skipped += 1;
            return;
        }
        self.skipped.push(format!("`{}` ({kind})", shown(&name)));
    }
}

/// Whether a value is a tensor or may hold one.
fn is_branch(value: &Value) -> bool {
    matches!(value, Value::Tensor(_) | Value::Tuple(_) | Value::List(_) | Value::Map(_))
}

/// What a value is, in a word.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::None => "None",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Magic => "int",
        Value::Text(_) => "text",
        Value::Tuple(_) => "tuple",
        Value::List(_) => "list",
        Value::Map(_) => "dict",
        Value::Callable(_) => "class",
        Value::Storage(_) => "storage",
        Value::Tensor(_) => "tensor",
        Value::Other(kind) => kind,
    }
}
