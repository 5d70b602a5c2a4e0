//! What fuzz targets share: a limit on memory, files made of bytes, and reading all that a checkpoint says it holds.

use std::alloc::System;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use cap::Cap;
use dlopt_checkpoint::{Checkpoint, Header, NoProgress, Resources, Tensors, tensor_bytes};

/// More than any input of a few kilobytes may ask for; beyond it an allocation aborts, and the target has failed.
const MOST_BYTES: usize = 1 << 30;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MOST_BYTES);

/// Most bytes that are read of a tensor at a time.
const MOST_READ: u64 = 1 << 20;

/// Most bytes of tensors that a target puts behind a header.
const MOST_DATA: u64 = 1 << 20;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder for the files of a target")
});

/// A folder that is there while the target runs.
pub fn folder() -> &'static Path {
    FOLDER.path()
}

/// A file of these bytes; one of this name is replaced.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("room for the files of a target");
    path
}

/// Resources of one thread.
pub fn resources(stop: &AtomicBool) -> Resources<'_> {
    Resources { threads: 1, memory_bytes: 8 << 20, tmp_dir: folder().to_owned(), progress: &NoProgress, stop }
}

/// A safetensors file from `TEXT \0 DATA`: what a header's text says decides how many bytes of data follow, so that changes
/// of the text are not refused for the length of the file alone. Nothing where the text is no header.
pub fn safetensors_of(input: &[u8]) -> Option<Vec<u8>> {
    let end = input.iter().position(|byte| *byte == 0)?;
    let header = Header::from_text(&input[..end], None).ok()?;
    let len = header.data_bytes();
    if len > MOST_DATA {
        return None;
    }
    let mut bytes = (end as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&input[..end]);
    let data = &input[end + 1..];
    bytes.extend(data.iter().copied().chain(std::iter::repeat(0)).take(len as usize));
    Some(bytes)
}

/// Reads what tensors there are, at both ends and in the middle.
pub fn read_all(tensors: &dyn Tensors) {
    for (at, info) in tensors.header().tensors.iter().enumerate() {
        let bytes = tensor_bytes(info.dtype, &info.shape).expect("a tensor of an open checkpoint has a size");
        let read = |offset: u64, len: u64| tensors.read(at, offset, &mut vec![0; len as usize]);
        if read(0, bytes.min(MOST_READ)).is_ok() && bytes > 3 {
            let _ = read(bytes / 2 + 1, (bytes - bytes / 2 - 1).min(100));
            let _ = read(bytes - 1, 1);
        }
    }
}

/// A checkpoint in memory, as it comes through a pipe.
pub fn piped(bytes: &[u8]) -> dlopt_checkpoint::Result<Checkpoint> {
    Checkpoint::from_stream(Box::new(std::io::Cursor::new(bytes.to_vec())), "pipe".to_owned())
}
