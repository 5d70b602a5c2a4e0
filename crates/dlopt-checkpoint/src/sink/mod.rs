//! Where an output goes: one file, a folder, or a stream. Files and folders appear whole or not at all.

mod file;
mod folder;
mod pipe;

use std::fs::File;
use std::path::{Path, PathBuf};

pub(crate) use file::FileSink;
pub(crate) use folder::{FolderRequest, FolderSink};
pub(crate) use pipe::PipeSink;

use crate::error::{Context, Error, Result};

/// Takes bytes of an output at their places, from many threads.
pub(crate) trait Sink: Sync {
    /// Puts `bytes` at `offset` of file `shard`.
    fn write(&self, shard: usize, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Whether bytes must leave in order, so that what comes early has to be held.
    fn is_ordered(&self) -> bool {
        false
    }
}

/// The folder a path lies in.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Refuses work that the disk has no room for.
pub(crate) fn check_space(dir: &Path, needed_bytes: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(dir).map_err(std::io::Error::from).at(dir.display())?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed_bytes {
        return Err(Error::input(format!(
            "{}: the output takes {needed_bytes} bytes, the disk has {free} free",
            dir.display()
        ))
        .hint("free some space, or write to another disk with -o"));
    }
    Ok(())
}

/// Makes the name of a new entry survive a crash.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).at(dir.display())
}

/// Gives a folder that is whole its name; one that has the name already goes.
pub(crate) fn put_in_place(dir: &Path, target: &Path) -> Result<()> {
    if target.exists() {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let exchange = rustix::fs::renameat_with(rustix::fs::CWD, dir, rustix::fs::CWD, target, flags);
        if exchange.is_err() {
            // A disk that cannot exchange names: the old folder steps aside first.
            let aside = dir.with_extension("dlopt-old");
            std::fs::rename(target, &aside).at(target.display())?;
            std::fs::rename(dir, target).at(target.display())?;
            std::fs::rename(&aside, dir).at(aside.display())?;
        }
        sync_dir(&parent(target))?;
        std::fs::remove_dir_all(dir).at(dir.display())?;
    } else {
        std::fs::rename(dir, target).at(target.display())?;
    }
    sync_dir(&parent(target))
}

/// Refuses to write a folder where something stands, unless it may be replaced.
pub(crate) fn check_folder(target: &Path, force: bool) -> Result<()> {
    if target.exists() && !force {
        let empty = target.is_dir() && std::fs::read_dir(target).at(target.display())?.next().is_none();
        if !empty {
            return Err(Error::input(format!("{}: exists", target.display())).hint("--force replaces it"));
        }
    }
    if target.exists() && !target.is_dir() {
        return Err(Error::input(format!("{}: is a file, and a folder is to be written", target.display())));
    }
    Ok(())
}

/// Asks the kernel to start writing a range out, so that the last fsync finds little to do. A hint: on Linux it starts
/// writing dirty pages and drops only clean ones; failures do not matter.
pub(crate) fn start_writeback(file: &File, offset: u64, length: u64) {
    if let Some(length) = std::num::NonZeroU64::new(length) {
        let _ = rustix::fs::fadvise(file, offset, Some(length), rustix::fs::Advice::DontNeed);
    }
}
