//! PyTorch's zip form, since version 1.6: `PREFIX/data.pkl` describes, `PREFIX/data/KEY` hold the storages.

use std::collections::HashMap;
use std::io::{BufReader, Read};

use super::archive::Entry;
use super::pickle_input::Input;
use super::pieces::Source;
use super::{Imported, pickle, state_dict};
use crate::error::{Error, Result};

/// Whether an archive is PyTorch's.
pub(super) fn is_torch(entries: &[Entry]) -> bool {
    pickles(entries).next().is_some()
}

/// The members that describe, each with its prefix.
fn pickles(entries: &[Entry]) -> impl Iterator<Item = (&Entry, &str)> {
    entries.iter().filter_map(|entry| {
        let prefix = entry.name.strip_suffix("data.pkl")?;
        let is_top = prefix.is_empty() || prefix.find('/') == Some(prefix.len() - 1);
        is_top.then_some((entry, prefix))
    })
}

/// Adds every tensor of an archive.
pub(super) fn add(imported: &mut Imported, source: Source, entries: &[Entry]) -> Result<()> {
    let mut described = pickles(entries);
    let (Some((pickle, prefix)), None) = (described.next(), described.next()) else {
        return Err(Error::input("holds more than one `data.pkl`"));
    };
    let by_name: HashMap<&str, &Entry> = entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    if by_name.contains_key(format!("{prefix}constants.pkl").as_str()) {
        return Err(Error::input("is a TorchScript archive, which holds code beside its weights")
            .hint("in Python: torch.save(torch.jit.load(path).state_dict(), …)"));
    }
    if let Some(entry) = by_name.get(format!("{prefix}byteorder").as_str()) {
        let mut order = String::new();
        let read = entry.open(&source)?.take(16).read_to_string(&mut order);
        read.map_err(|e| Error::input(format!("member `byteorder`: {}", super::io_text(&e))))?;
        if order.trim() != "little" {
            return Err(Error::input(format!("was saved on a machine of byte order `{}`", super::shown(order.trim())))
                .hint("save it again on a little-endian machine"));
        }
    }
    let mut input = Input::new(BufReader::new(pickle.open(&source)?), pickle.bytes);
    let (value, heap) = pickle::load(&mut input, "data.pkl")?;
    drop(input);
    let index = imported.store.sources.len();
    let stored_bytes = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.bytes));
    let mut places = HashMap::new();
    state_dict::add(imported, &value, &heap, stored_bytes, |imported, storage| {
        let name = format!("{prefix}data/{}", storage.key);
        let Some(entry) = by_name.get(name.as_str()) else {
            return Err(Error::input(format!("its storage `{}` is not in the archive", super::shown(&name)))
                .hint("the file was cut short or changed: fetch it again"));
        };
        let bytes = match places.get(&name) {
            Some(bytes) => *bytes,
            None => {
                let bytes = entry.place(&mut imported.store, index)?;
                places.insert(name, bytes);
                bytes
            }
        };
        let begin = storage.begin.saturating_mul(storage.dtype.map_or(1, |dtype| dtype.bitsize() as u64 / 8));
        Ok((bytes.advanced(begin.min(entry.bytes)), entry.bytes.saturating_sub(begin)))
    })?;
    imported.store.sources.push(source);
    Ok(())
}
