//! Foreign checkpoints: PyTorch's `.pth`/`.bin` and NumPy's `.npz`/`.npy`, read without loading them.
//!
//! Opening one reads its directory and its pickle or array headers only; [`Imported::read`] then fetches bytes of single
//! tensors where they lie. Pickles are interpreted by a small machine that knows the few callables of a state dict and
//! runs no code (`pickle`).

mod archive;
mod folder;
mod npy;
mod npz;
mod pickle;
mod pickle_input;
mod pieces;
mod state_dict;
mod torch;
mod torch_legacy;
mod torch_zip;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::dtype::{Dtype, tensor_bytes};
use crate::error::{Error, Result};
use crate::header::{Header, TensorInfo};

pub use folder::open_import_folder;

use pieces::{Piece, Source, Store};

/// Most dimensions a tensor may have; PyTorch and NumPy stop here too.
const MAX_DIMENSIONS: usize = 64;

/// A foreign checkpoint: what it holds, and where each tensor's bytes lie.
#[derive(Debug)]
pub struct Imported {
    /// The tensors in the file's order; the metadata is `{"format": "pt"}`.
    pub header: Header,
    /// What was left out because it is no tensor, one line an entry.
    pub skipped: Vec<String>,
    /// Bytes of all tensors together.
    data_bytes: u64,
    pieces: Vec<Piece>,
    store: Store,
}

impl Imported {
    fn new() -> Self {
        let mut header = Header::default();
        header.metadata.insert("format".to_owned(), "pt".to_owned());
        Self { header, skipped: Vec::new(), data_bytes: 0, pieces: Vec::new(), store: Store::default() }
    }

    /// Puts the temporary files of compressed members into `dir` instead of the system's place for them.
    #[must_use]
    pub fn spool_in(mut self, dir: impl Into<PathBuf>) -> Self {
        self.store.tmp_dir = dir.into();
        self
    }

    /// Reads `into.len()` bytes of tensor `tensor` from byte `offset` on, in C order and little-endian.
    ///
    /// Any thread may call it at any time. A compressed member is unpacked into an unnamed temporary file when one of
    /// its bytes is first asked for.
    ///
    /// # Errors
    /// When the tensor has no such bytes, or the file has changed since it was opened.
    pub fn read(&self, tensor: usize, offset: u64, into: &mut [u8]) -> Result<()> {
        let (Some(info), Some(piece)) = (self.header.tensors.get(tensor), self.pieces.get(tensor)) else {
            return Err(Error::input(format!("there is no tensor {tensor}; the file holds {}", self.pieces.len())));
        };
        self.store.read(info, piece, offset, into)
    }

    /// Adds a tensor whose own size was checked.
    fn push(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, piece: Piece) -> Result<()> {
        let info = TensorInfo { name, dtype, shape };
        self.data_bytes = self
            .data_bytes
            .checked_add(info.bytes())
            .filter(|&bytes| bytes <= i64::MAX as u64)
            .ok_or_else(|| Error::input("the sizes of all tensors together overflow"))?;
        self.header.tensors.push(info);
        self.pieces.push(piece);
        Ok(())
    }
}

/// Opens a PyTorch or NumPy file; which one it is, its first bytes say.
///
/// # Errors
/// When it is neither, when it is damaged, when it would need code to run, or when a tensor has no safetensors dtype.
pub fn open_import(path: &Path) -> Result<Imported> {
    let mut imported = Imported::new();
    add_file(&mut imported, path).map_err(|e| e.within(path.display()))?;
    Ok(imported)
}

/// Adds the tensors of one file; messages do not name it.
fn add_file(imported: &mut Imported, path: &Path) -> Result<()> {
    let (tensors, skipped) = (imported.header.tensors.len(), imported.skipped.len());
    add_content(imported, path)?;
    match imported.skipped.get(skipped) {
        Some(first) if imported.header.tensors.len() == tensors => {
            Err(Error::input(format!("holds no tensor, only things like {first}")))
        }
        _ => Ok(()),
    }
}

fn add_content(imported: &mut Imported, path: &Path) -> Result<()> {
    let source = Source::open(path)?;
    let mut first = [0; 8];
    let length = source.read_some(0, &mut first).map_err(|e| Error::input(io_text(&e)))?;
    let first = &first[..length];
    if first.starts_with(b"PK\x03\x04") || first.starts_with(b"PK\x05\x06") {
        let entries = archive::entries(&source)?;
        if torch_zip::is_torch(&entries) {
            return torch_zip::add(imported, source, &entries);
        }
        return npz::add_archive(imported, source, &entries);
    }
    if first.starts_with(npy::MAGIC) {
        return npz::add_array(imported, source);
    }
    if first.first() == Some(&0x80) {
        return torch_legacy::add(imported, source);
    }
    if length == 0 {
        return Err(Error::input("is empty"));
    }
    Err(Error::input("is neither a PyTorch nor a NumPy file").hint("import reads .pth, .pt, .bin, .npz and .npy"))
}

/// The shape as this machine counts, when a tensor of it can exist.
fn checked_shape(dtype: Dtype, shape: &[u64]) -> Result<Vec<usize>> {
    if shape.len() > MAX_DIMENSIONS {
        return Err(Error::input(format!("has {} dimensions; {MAX_DIMENSIONS} are the most", shape.len())));
    }
    let fits = shape
        .iter()
        .map(|&dim| {
            usize::try_from(dim).map_err(|_| Error::input(format!("dimension {dim} does not fit this machine")))
        })
        .collect::<Result<Vec<_>>>()?;
    tensor_bytes(dtype, &fits)?;
    Ok(fits)
}

/// Text from a file, fit to be printed in a message.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}

/// The text of an I/O error without the number the standard library adds.
fn io_text(e: &std::io::Error) -> String {
    let text = e.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}
