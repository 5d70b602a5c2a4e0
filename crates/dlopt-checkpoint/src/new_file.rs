//! Files that are made here and not by a pass: they appear under their name whole or not at all.

use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::header::Header;
use crate::sink::{FileSink, Sink, check_space, parent};

/// A file that gets its name when it is finished; dropped before, it leaves nothing behind.
pub struct NewFile {
    sink: FileSink,
}

impl NewFile {
    /// Opens a temporary neighbour of `path`, when the disk has room for `bytes`.
    ///
    /// # Errors
    /// When `path` exists and `force` is not set, another dlopt writes it, or the disk has no room.
    pub fn create(path: &Path, bytes: u64, force: bool) -> Result<Self> {
        check_space(&parent(path), bytes)?;
        let (sink, _left_by_a_killed_run) = FileSink::create(path, force)?;
        Ok(Self { sink })
    }

    /// Puts `bytes` at `offset`; may be called from many threads.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.sink.write(0, offset, bytes)
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn finish(self) -> Result<()> {
        self.sink.finish()
    }
}

/// Writes tensors that are in memory as a safetensors file, in the header's order.
///
/// # Errors
/// When `path` exists and `force` is not set, a tensor's bytes are not as many as its header says, or the disk is full
/// or fails.
pub fn write_file(path: &Path, header: &Header, tensors: &[impl AsRef<[u8]>], force: bool) -> Result<()> {
    let head = header.to_bytes()?;
    let file = NewFile::create(path, head.len() as u64 + header.data_bytes(), force)?;
    file.write_at(0, &head)?;
    for ((info, bytes), offset) in header.tensors.iter().zip(tensors).zip(header.offsets()) {
        let bytes = bytes.as_ref();
        if bytes.len() as u64 != info.bytes() {
            return Err(Error::input(format!(
                "tensor `{}` holds {} bytes, and its header says {}",
                info.name,
                bytes.len(),
                info.bytes()
            ))
            .within(path.display()));
        }
        file.write_at(head.len() as u64 + offset, bytes)?;
    }
    file.finish()
}

/// Writes a small file of any kind, whole or not at all.
///
/// # Errors
/// As [`NewFile::create`] and [`NewFile::finish`].
pub fn write_bytes(path: &Path, bytes: &[u8], force: bool) -> Result<()> {
    let file = NewFile::create(path, bytes.len() as u64, force)?;
    file.write_at(0, bytes)?;
    file.finish()
}

/// Makes a folder and the folders above it, if they are not there.
///
/// # Errors
/// When one of them cannot be made.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).at(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::header::TensorInfo;
    use crate::source::Checkpoint;
    use crate::tensors::Tensors;

    fn header() -> Header {
        let tensors = vec![TensorInfo::new("a", Dtype::F32, [3]), TensorInfo::new("b", Dtype::U8, [5])];
        Header { tensors, ..Header::default() }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        write_file(&path, &header(), &[vec![7_u8; 12], vec![1, 2, 3, 4, 5]], false).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let mut bytes = [0; 3];
        checkpoint.read(1, 2, &mut bytes).unwrap();
        assert_eq!(bytes, [3, 4, 5]);
        assert!(write_file(&path, &header(), &[vec![7_u8; 12], vec![0; 5]], false).is_err());
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let error = write_file(&path, &header(), &[vec![7_u8; 12], vec![0; 4]], false).unwrap_err();
        assert!(error.message().contains("`b` holds 4 bytes"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
