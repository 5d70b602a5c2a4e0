//! NumPy files: `.npz`, a zip archive of arrays, and `.npy`, one array.

use super::archive::Entry;
use super::npy::{self, NpyHeader, Stored};
use super::pieces::{Bytes, Piece, Source};
use super::{Imported, checked_shape};
use crate::dtype::tensor_bytes;
use crate::error::{Error, Result};

/// The name of the only array of a `.npy`, as `numpy.savez` would give it.
const UNNAMED: &str = "arr_0";

/// Adds every array of an archive under its member's name without `.npy`.
pub(super) fn add_archive(imported: &mut Imported, source: Source, entries: &[Entry]) -> Result<()> {
    if !entries.is_empty() && entries.iter().all(|entry| !entry.name.ends_with(".npy")) {
        return Err(Error::input("is a zip archive without a `data.pkl` or any `.npy` in it")
            .hint("import reads PyTorch's and NumPy's archives"));
    }
    let index = imported.store.sources.len();
    for entry in entries {
        let Some(name) = entry.name.strip_suffix(".npy") else {
            imported.skipped.push(format!("`{}` (no array)", super::shown(&entry.name)));
            continue;
        };
        let within = |e: Error| e.within(format!("array `{}`", super::shown(name)));
        if name == "__metadata__" {
            return Err(within(Error::input("safetensors keeps this name for itself")));
        }
        let header = npy::read_header(entry.open(&source)?).map_err(within)?;
        let bytes = entry.place(&mut imported.store, index)?;
        add(imported, name, &header, bytes, entry.bytes).map_err(within)?;
    }
    imported.store.sources.push(source);
    Ok(())
}

/// Adds the array of a `.npy`.
pub(super) fn add_array(imported: &mut Imported, source: Source) -> Result<()> {
    let header = npy::read_header(std::io::BufReader::new(source.section(0, source.bytes)))?;
    let bytes = Bytes::Plain { source: imported.store.sources.len(), offset: 0 };
    add(imported, UNNAMED, &header, bytes, source.bytes)?;
    imported.store.sources.push(source);
    Ok(())
}

/// Adds one array that begins, header first, at `bytes` and takes `file_bytes`.
fn add(imported: &mut Imported, name: &str, header: &NpyHeader, bytes: Bytes, file_bytes: u64) -> Result<()> {
    let (dtype, swap_bytes) = match npy::stored_as(&header.descr)? {
        Stored::Numbers { dtype, swap_bytes } => (dtype, swap_bytes),
        Stored::Text => {
            imported.skipped.push(format!("`{}` (text)", super::shown(name)));
            return Ok(());
        }
    };
    let shape = checked_shape(dtype, &header.shape)?;
    let expected = tensor_bytes(dtype, &shape)?;
    let found = file_bytes.saturating_sub(header.bytes);
    if found != expected {
        return Err(Error::input(format!(
            "shape {shape:?} of `{}` takes {expected} bytes, but {found} follow the header",
            super::shown(&header.descr)
        ))
        .hint("the file was cut short or changed: fetch it again"));
    }
    let strides = if header.is_fortran { fortran_strides(&shape) } else { None };
    imported.push(name.to_owned(), dtype, shape, Piece { bytes: bytes.advanced(header.bytes), strides, swap_bytes })
}

/// Steps along each axis when the first one varies fastest; `None` when C order is the same.
fn fortran_strides(shape: &[usize]) -> Option<Vec<u64>> {
    let mut step = 1_u64;
    let strides: Vec<u64> = shape
        .iter()
        .map(|&dim| {
            let stride = step;
            step = step.saturating_mul(dim as u64);
            stride
        })
        .collect();
    (!super::pieces::is_c_order(shape, &strides)).then_some(strides)
}
