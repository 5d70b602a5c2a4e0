//! What a dataset says of the files it was made from.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_checkpoint::{Context, Result, hex};
use sha2::{Digest, Sha256};

use crate::info::SourceFile;
use crate::readers::{Samples, Source};

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// How a dataset names the files of a source: one by one, or, when each sample is one, all together.
pub(super) fn source_names(source: &Source) -> Vec<String> {
    let files = &source.about.files;
    match (&source.samples, files.as_slice()) {
        (Samples::Each(_), [_, _, ..]) => {
            vec![format!("{} ({} files)", file_name(Path::new(&source.about.name)), files.len())]
        }
        _ => files.iter().map(|path| file_name(path)).collect(),
    }
}

/// The files of a source with their digests; many files have one together: that of their names and digests.
pub(super) fn hashed(source: &Source, is_stopped: &AtomicBool) -> Result<Vec<SourceFile>> {
    let files = source.about.files.iter().map(|path| hash(path, is_stopped)).collect::<Result<Vec<_>>>()?;
    let names = source_names(source);
    if names.len() == files.len() {
        return Ok(files);
    }
    let mut digest = Sha256::new();
    files.iter().for_each(|file| digest.update(format!("{} {}\n", file.name, file.sha256)));
    let bytes = files.iter().map(|file| file.bytes).sum();
    Ok(vec![SourceFile { name: names.concat(), bytes, sha256: hex(&digest.finalize()) }])
}

/// Size and digest of a file.
fn hash(path: &Path, is_stopped: &AtomicBool) -> Result<SourceFile> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).at(path.display())?;
    let (mut digest, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 17], 0);
    loop {
        let count = match file.read(&mut buffer) {
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e).at(path.display()),
        };
        if count == 0 || is_stopped.load(Ordering::Relaxed) {
            break;
        }
        digest.update(&buffer[..count]);
        bytes += count as u64;
    }
    Ok(SourceFile { name: file_name(path), bytes, sha256: hex(&digest.finalize()) })
}
