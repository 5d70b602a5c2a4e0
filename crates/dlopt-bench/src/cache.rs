//! What variants are made of and what was found of them, kept by digest: shared steps are done once, and a sweep that was
//! killed goes on.
//!
//! A step's result is known by what went in (the digest of the model or of the step before) and the words of the command;
//! figures by what was measured and how. Files appear whole or not at all, so what is there is right.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Context, Result, hex, make_folder, write_bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// A folder of what is known.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            make_folder(folder)?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where the checkpoint of a digest is or will be.
    pub fn checkpoint(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.safetensors"))
    }

    /// Where a report of a digest is or will be.
    pub fn report(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.json"))
    }

    /// A report that is there and can be read.
    pub fn read<T: DeserializeOwned>(&self, digest: &str) -> Option<T> {
        let text = std::fs::read(self.report(digest)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps a report.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep<T: Serialize>(&self, digest: &str, report: &T) -> Result<()> {
        let text = serde_json::to_vec(report).expect("reports hold only strings, numbers and lists of them");
        write_bytes(&self.report(digest), &text, true)
    }
}

/// The digest of words: version of dlopt included, order and boundaries kept.
pub(crate) fn digest(words: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    for word in words {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word);
    }
    hex(&hash.finalize())[..16].to_owned()
}

/// The digest of a file's bytes, or of those of all files of a folder.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn digest_of_files(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files(path)? {
        hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        let mut reader = File::open(&file).at(file.display())?;
        let mut bytes = vec![0; 1 << 20];
        loop {
            match reader.read(&mut bytes).at(file.display())? {
                0 => break,
                count => hash.update(&bytes[..count]),
            }
        }
    }
    Ok(hex(&hash.finalize())[..16].to_owned())
}

/// A file, or the files of a folder in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).at(path.display())? {
        let own = entry.at(path.display())?.path();
        if own.is_file() {
            files.push(own);
        }
    }
    files.sort();
    Ok(files)
}

/// What the files of a path take.
///
/// # Errors
/// When one cannot be looked at.
pub(crate) fn bytes_of_files(path: &Path) -> Result<u64> {
    files(path)?.iter().map(|file| file.metadata().at(file.display()).map(|about| about.len())).sum()
}

/// What the files of a path take under zstd at level 19.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn bytes_under_zstd(path: &Path) -> Result<u64> {
    let mut all = 0;
    for file in files(path)? {
        let mut counted = Counted(0);
        let reader = File::open(&file).at(file.display())?;
        zstd::stream::copy_encode(reader, &mut counted, 19).at(file.display())?;
        all += counted.0;
    }
    Ok(all)
}

/// Counts what is written.
struct Counted(u64);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_boundaries_count() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["a"]), digest(&["a"]));
    }

    #[test]
    fn reports_are_kept_and_broken_ones_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(&dir.path().join("kept")).unwrap();
        cache.keep("a", &vec![1, 2]).unwrap();
        assert_eq!(cache.read::<Vec<i32>>("a"), Some(vec![1, 2]));
        std::fs::write(cache.report("b"), "[1,").unwrap();
        assert_eq!(cache.read::<Vec<i32>>("b"), None);
    }

    #[test]
    fn zeros_shrink_and_a_folder_is_all_its_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), vec![0; 100_000]).unwrap();
        let one = bytes_under_zstd(dir.path()).unwrap();
        assert!(one < 1000);
        let before = digest_of_files(dir.path()).unwrap();
        std::fs::write(dir.path().join("b"), vec![1; 10]).unwrap();
        assert!(bytes_under_zstd(dir.path()).unwrap() > one);
        assert_ne!(digest_of_files(dir.path()).unwrap(), before);
    }
}
