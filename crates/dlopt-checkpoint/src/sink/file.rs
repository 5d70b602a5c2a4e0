//! One output file: written beside its final name, synced, renamed.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Sink, parent, start_writeback, sync_dir};
use crate::cleanup::Temporary;
use crate::error::{Context, Error, Result};

/// A file that gets its name when it is whole.
pub(crate) struct FileSink {
    file: File,
    temporary: Temporary,
    at: PathBuf,
    target: PathBuf,
}

impl FileSink {
    /// Opens the temporary neighbour `.NAME.dlopt-tmp`. Returns a line to tell when one was left by a killed run.
    pub(crate) fn create(target: &Path, force: bool) -> Result<(Self, Option<String>)> {
        if target.exists() && !force {
            return Err(Error::input(format!("{}: exists", target.display())).hint("--force replaces it"));
        }
        let name = target.file_name().ok_or_else(|| {
            Error::usage(format!("{}: no file name to write to", target.display())).hint("end a folder's name with /")
        })?;
        let at = parent(target).join(format!(".{}.dlopt-tmp", name.to_string_lossy()));
        let left = at.exists();
        let file = loop {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&at).at(at.display())?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::input(format!("{}: another dlopt is writing it", target.display())));
                }
                // Some network disks have no locks; the name alone must do there.
                Err(TryLockError::Error(_)) => {}
            }
            // Another run may have given this very file its final name between our opening and our locking it.
            let own = file.metadata().at(at.display())?;
            if at.metadata().is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())) {
                break file;
            }
        };
        let temporary = Temporary::new(at.clone());
        file.set_len(0).at(at.display())?;
        let note = left.then(|| format!("{}: left by a run that was killed; replaced", at.display()));
        Ok((Self { file, temporary, at, target: target.to_owned() }, note))
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn finish(self) -> Result<()> {
        self.file.sync_all().at(self.at.display())?;
        std::fs::rename(&self.at, &self.target).at(self.target.display())?;
        self.temporary.keep();
        sync_dir(&parent(&self.target))
    }
}

impl Sink for FileSink {
    fn write(&self, _shard: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).at(self.target.display())?;
        start_writeback(&self.file, offset, bytes.len() as u64);
        Ok(())
    }
}
