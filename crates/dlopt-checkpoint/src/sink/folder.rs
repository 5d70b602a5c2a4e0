//! An output folder: written as `OUT.dlopt-partial/` with a journal, renamed when it is whole.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Sink, check_folder, parent, put_in_place, start_writeback, sync_dir};
use crate::cleanup::Temporary;
use crate::companions::Companions;
use crate::error::{Context, Error, Result};
use crate::place::Placement;
use crate::report::TensorReport;

const JOURNAL: &str = "dlopt-journal.json";
const SCHEMA: u32 = 1;

/// What a job has finished, so that the next run can go on.
#[derive(Serialize, Deserialize)]
struct Journal {
    schema: u32,
    /// Of the plan, the options and the input files.
    fingerprint: String,
    finished: BTreeMap<String, FinishedShard>,
}

/// A shard that is on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FinishedShard {
    bytes: u64,
    crc32: u32,
    /// What each pass did to the tensors of this shard.
    pub(crate) reports: Vec<Vec<TensorReport>>,
}

/// A folder that gets its name when it is whole.
pub(crate) struct FolderSink {
    /// Open and locked for as long as this run writes.
    _lock: File,
    dir: PathBuf,
    target: PathBuf,
    temporary: Temporary,
    files: Vec<Option<File>>,
    journal: Journal,
    /// Checksums cost a second look at every shard, so a single shard goes without: it is never resumed.
    has_checksums: bool,
}

/// What [`FolderSink::create`] needs to know.
pub(crate) struct FolderRequest<'a> {
    pub(crate) target: &'a Path,
    pub(crate) placement: &'a Placement,
    pub(crate) fingerprint: String,
    pub(crate) force: bool,
    pub(crate) resume: bool,
}

impl FolderSink {
    /// Opens the partial folder. Also returns the shards that are done already, and lines to tell.
    pub(crate) fn create(request: &FolderRequest<'_>) -> Result<(Self, Vec<Option<FinishedShard>>, Vec<String>)> {
        let target = request.target;
        check_folder(target, request.force)?;
        let name = target
            .file_name()
            .ok_or_else(|| Error::usage(format!("{}: no folder name to write to", target.display())))?;
        let dir = parent(target).join(format!("{}.dlopt-partial", name.to_string_lossy()));
        let mut notes = Vec::new();
        let mut journal =
            Journal { schema: SCHEMA, fingerprint: request.fingerprint.clone(), finished: BTreeMap::new() };
        let is_left = dir.exists();
        std::fs::create_dir_all(&dir).at(dir.display())?;
        let lock = File::open(&dir).at(dir.display())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::input(format!("{}: another dlopt is writing it", target.display())));
            }
            // Some network disks have no locks; the name alone must do there.
            Err(TryLockError::Error(_)) => {}
        }
        if is_left {
            let old = read_journal(&dir);
            let done = old.as_ref().map_or(0, |j| j.finished.len());
            let all = request.placement.shards.len();
            if request.resume {
                match old {
                    Some(old) if old.fingerprint == request.fingerprint => journal.finished = old.finished,
                    Some(_) => {
                        return Err(Error::input(format!(
                            "{}: left by a run with another input, other options or another version",
                            dir.display()
                        ))
                        .hint("--force without --resume starts over"));
                    }
                    None => notes.push(format!("{}: has no journal; starting over", dir.display())),
                }
            } else if request.force {
                notes.push(format!("{}: left by a run that was killed; removed", dir.display()));
                clear(&dir)?;
            } else {
                return Err(Error::input(format!(
                    "{}: left by a run that was killed, {done} of {all} shards done",
                    dir.display()
                ))
                .hint("--resume goes on, --force starts over"));
            }
        }
        let temporary = Temporary::new(dir.clone());
        let mut finished = Vec::new();
        let mut files = Vec::new();
        for shard in &request.placement.shards {
            let path = dir.join(&shard.file);
            let entry = journal.finished.get(&shard.file).filter(|f| f.bytes == shard.bytes).cloned();
            let whole = entry.filter(|f| checksum(&path).is_ok_and(|sum| sum == (f.bytes, f.crc32)));
            if whole.is_none() {
                journal.finished.remove(&shard.file);
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&path)
                    .at(path.display())?;
                files.push(Some(file));
            } else {
                files.push(None);
            }
            finished.push(whole);
        }
        let kept = finished.iter().flatten().count();
        if request.resume {
            notes.push(format!("{kept} of {} shards are done already", finished.len()));
        }
        let has_checksums = request.placement.shards.len() > 1;
        let sink = Self { _lock: lock, dir, target: target.to_owned(), temporary, files, journal, has_checksums };
        sink.write_journal()?;
        Ok((sink, finished, notes))
    }

    /// Makes a shard durable and notes it in the journal.
    pub(crate) fn finish_shard(
        &mut self,
        shard: usize,
        placement: &Placement,
        reports: Vec<Vec<TensorReport>>,
    ) -> Result<()> {
        let path = self.dir.join(&placement.shards[shard].file);
        let Some(file) = self.files[shard].take() else { return Ok(()) };
        file.sync_all().at(path.display())?;
        drop(file);
        if self.has_checksums {
            let (bytes, crc32) = checksum(&path)?;
            let entry = FinishedShard { bytes, crc32, reports };
            self.journal.finished.insert(placement.shards[shard].file.clone(), entry);
            self.write_journal()?;
        }
        Ok(())
    }

    fn write_journal(&self) -> Result<()> {
        let at = self.dir.join(format!("{JOURNAL}.new"));
        let text = serde_json::to_vec(&self.journal).expect("strings and numbers always serialise");
        std::fs::write(&at, text).at(at.display())?;
        std::fs::rename(&at, self.dir.join(JOURNAL)).at(self.dir.display())
    }

    /// Adds the files that are no weights, and gives the folder its name.
    pub(crate) fn finish(self, placement: &Placement, config: Option<&str>, companions: &Companions) -> Result<()> {
        companions.write_to(&self.dir)?;
        let put = |name: &str, text: &str| {
            let path = self.dir.join(name);
            std::fs::write(&path, text).at(path.display())
        };
        if let Some(config) = config {
            put("config.json", config)?;
        }
        if let Some(index) = placement.index() {
            put("model.safetensors.index.json", &index)?;
        }
        for name in companions.names().iter().map(String::as_str).chain(["config.json", "model.safetensors.index.json"])
        {
            let path = self.dir.join(name);
            if path.is_file() {
                File::open(&path).and_then(|f| f.sync_all()).at(path.display())?;
            }
        }
        // Shards of an earlier run with other sharding would be picked up by loaders that glob.
        for entry in std::fs::read_dir(&self.dir).at(self.dir.display())? {
            let name = entry.at(self.dir.display())?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".safetensors") && placement.shards.iter().all(|s| s.file != name) {
                std::fs::remove_file(self.dir.join(&name)).at(self.dir.display())?;
            }
        }
        std::fs::remove_file(self.dir.join(JOURNAL)).at(self.dir.display())?;
        sync_dir(&self.dir)?;
        put_in_place(&self.dir, &self.target)?;
        self.temporary.keep();
        Ok(())
    }
}

impl Sink for FolderSink {
    fn write(&self, shard: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        match &self.files[shard] {
            Some(file) => {
                file.write_all_at(bytes, offset).at(self.target.display())?;
                start_writeback(file, offset, bytes.len() as u64);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Empties a folder that stays locked.
fn clear(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).at(dir.display())? {
        let path = entry.at(dir.display())?.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.at(path.display())?;
    }
    Ok(())
}

fn read_journal(dir: &Path) -> Option<Journal> {
    let text = std::fs::read(dir.join(JOURNAL)).ok()?;
    serde_json::from_slice::<Journal>(&text).ok().filter(|j| j.schema == SCHEMA)
}

/// Size and CRC-32 of a file.
fn checksum(path: &Path) -> Result<(u64, u32)> {
    use std::io::Read;
    let mut file = File::open(path).at(path.display())?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).at(path.display())? {
            0 => return Ok((bytes, hasher.finalize())),
            got => {
                hasher.update(&buffer[..got]);
                bytes += got as u64;
            }
        }
    }
}
