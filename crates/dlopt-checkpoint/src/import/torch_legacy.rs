//! PyTorch's form before the zip: a magic number, a protocol version, facts about the machine, the object and the list of
//! storage keys, each a pickle of its own; then the storages in the list's order, each its length in elements
//! (8 bytes) and its bytes.

use std::collections::HashMap;
use std::io::BufReader;
use std::rc::Rc;

use super::pickle::{self, Value};
use super::pickle_input::Input;
use super::pieces::{Bytes, Source};
use super::{Imported, state_dict};
use crate::error::{Error, Result};

/// The only version of the form there ever was.
const PROTOCOL: i64 = 1001;

/// Adds every tensor of such a file.
pub(super) fn add(imported: &mut Imported, source: Source) -> Result<()> {
    let mut input = Input::new(BufReader::new(source.section(0, source.bytes)), source.bytes);
    let not_torch = |_| {
        Error::input("is a Python pickle, but none that torch.save wrote")
            .hint("load it in Python and save its arrays with torch.save or numpy.savez")
    };
    let (magic, _) = pickle::load(&mut input, "the pickle").map_err(|e| {
        // A pickle of something else may ask for anything; a broken one should say where.
        if e.message().contains("asks to call") { not_torch(e) } else { e }
    })?;
    if !matches!(magic, Value::Magic) {
        return Err(not_torch(Error::input("")));
    }
    let (version, _) = pickle::load(&mut input, "the version")?;
    if !matches!(version, Value::Int(PROTOCOL)) {
        return Err(Error::input(format!("was saved with another protocol of PyTorch than {PROTOCOL}")));
    }
    let (machine, facts) = pickle::load(&mut input, "the machine's description")?;
    let is_big = facts.entries(&machine).unwrap_or_default().iter().any(
        |(key, value)| matches!((key, value), (Value::Text(key), Value::Bool(false)) if &**key == "little_endian"),
    );
    if is_big {
        return Err(Error::input("was saved on a big-endian machine").hint("save it again on a little-endian machine"));
    }
    let (value, heap) = pickle::load(&mut input, "the object's pickle")?;
    let (keys, lists) = pickle::load(&mut input, "the list of storages")?;
    let keys = lists.items(&keys).ok_or_else(|| Error::input("its list of storages is none"))?;

    let mut described = HashMap::new();
    for storage in &heap.storages {
        let facts = (storage.dtype, storage.elements);
        if described.insert(Rc::clone(&storage.key), facts).is_some_and(|before| before != facts) {
            return Err(Error::input(format!("storage `{}` is described in two ways", super::shown(&storage.key))));
        }
    }
    let mut next = input.position;
    drop(input);
    let mut places = HashMap::new();
    for key in keys {
        let Value::Text(key) = key else {
            return Err(Error::input("its list of storages holds something that is no key"));
        };
        let within = |e: Error| e.within(format!("storage `{}`", super::shown(key)));
        let Some(&(dtype, elements)) = described.get(key) else {
            return Err(within(Error::input("is in the file, but no tensor says what it holds")));
        };
        let size = dtype.map_or(1, |dtype| dtype.bitsize() as u64 / 8);
        let (begin, bytes) = place(&source, next, elements, size).map_err(within)?;
        if places.insert(Rc::clone(key), (begin, bytes)).is_some() {
            return Err(within(Error::input("is in the file twice")));
        }
        next = begin + bytes;
    }
    let index = imported.store.sources.len();
    state_dict::add(imported, &value, &heap, source.bytes, |_, storage| {
        let &(begin, bytes) = places
            .get(&storage.key)
            .ok_or_else(|| Error::input(format!("its storage `{}` is not in the file", super::shown(&storage.key))))?;
        let skip = storage.begin.saturating_mul(storage.dtype.map_or(1, |dtype| dtype.bitsize() as u64 / 8)).min(bytes);
        Ok((Bytes::Plain { source: index, offset: begin + skip }, bytes - skip))
    })?;
    imported.store.sources.push(source);
    Ok(())
}

/// Where the bytes of the storage at `next` begin and how many they are.
fn place(source: &Source, next: u64, elements: u64, size: u64) -> Result<(u64, u64)> {
    let cut = |wanted: String| {
        Error::input(format!("should take {wanted} from byte {next} on, but the file ends at byte {}", source.bytes))
            .hint("the file was cut short: fetch it again")
    };
    let mut length = [0; 8];
    let read = source.read_some(next, &mut length).map_err(|e| Error::input(super::io_text(&e)))?;
    if read < length.len() {
        return Err(cut("its length".to_owned()));
    }
    let found = u64::from_le_bytes(length);
    if found != elements {
        return Err(Error::input(format!("has {found} elements at byte {next}, but its tensors say {elements}")));
    }
    let begin = next + 8;
    match elements.checked_mul(size).filter(|bytes| begin.checked_add(*bytes).is_some_and(|end| end <= source.bytes)) {
        Some(bytes) => Ok((begin, bytes)),
        None => Err(cut(format!("{elements} elements"))),
    }
}
