//! Files and folders that are made here and not by a pass: they appear under their name whole or not at all.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::cleanup::Temporary;
use crate::error::{Context, Error, Result};
use crate::header::Header;
use crate::sink::{FileSink, Sink, check_folder, check_space, parent, put_in_place, sync_dir};

/// A file that gets its name when it is finished; dropped before, it leaves nothing behind.
pub struct NewFile {
    sink: FileSink,
    /// Where [`std::io::Write`] goes on.
    end: u64,
}

impl NewFile {
    /// Opens a temporary neighbour of `path`, when the disk has room for `bytes`.
    ///
    /// # Errors
    /// When `path` exists and `force` is not set, another dlopt writes it, or the disk has no room.
    pub fn create(path: &Path, bytes: u64, force: bool) -> Result<Self> {
        check_space(&parent(path), bytes)?;
        let (sink, _left_by_a_killed_run) = FileSink::create(path, force)?;
        Ok(Self { sink, end: 0 })
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

/// Appends, for those who write in order.
impl std::io::Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_at(self.end, bytes).map_err(std::io::Error::other)?;
        self.end += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A folder that gets its name when all its files are in it; dropped before, it leaves nothing behind.
pub struct NewFolder {
    dir: PathBuf,
    target: PathBuf,
    temporary: Temporary,
    /// Folders in it.
    folders: Vec<PathBuf>,
}

impl NewFolder {
    /// Makes a temporary neighbour of `path`.
    ///
    /// # Errors
    /// When `path` is a file, or a folder with something in it and `force` is not set, or it cannot be made.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        check_folder(path, force)?;
        let name = path.file_name();
        let name = name.ok_or_else(|| Error::usage(format!("{}: no folder name to write to", path.display())))?;
        let dir = parent(path).join(format!(".{}.dlopt-tmp", name.to_string_lossy()));
        if dir.exists() {
            // What a killed run left behind.
            std::fs::remove_dir_all(&dir).at(dir.display())?;
        }
        std::fs::create_dir_all(&dir).at(dir.display())?;
        let temporary = Temporary::new(dir.clone());
        Ok(Self { folders: vec![dir.clone()], dir, target: path.to_owned(), temporary })
    }

    /// Writes a file into it, whose name may have folders in front; `write` puts its `bytes` there.
    ///
    /// # Errors
    /// When the name leads out of the folder or was written before, the disk has no room, or `write` fails.
    pub fn file(&mut self, name: &str, bytes: u64, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
        crate::companions::check_relative(name)?;
        check_space(&self.dir, bytes)?;
        let path = self.dir.join(name);
        let above = path.ancestors().skip(1).take_while(|above| *above != self.dir);
        let missing: Vec<PathBuf> = above.filter(|above| !above.exists()).map(Path::to_owned).collect();
        for folder in missing.into_iter().rev() {
            std::fs::create_dir(&folder).at(folder.display())?;
            self.folders.push(folder);
        }
        let mut file = File::create_new(&path).at(path.display())?;
        write(&mut file)?;
        file.sync_all().at(path.display())
    }

    /// Makes the folder durable and gives it its name.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(self) -> Result<()> {
        self.folders.iter().try_for_each(|folder| sync_dir(folder))?;
        put_in_place(&self.dir, &self.target)?;
        self.temporary.keep();
        Ok(())
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
    fn a_folder_appears_with_all_its_files_or_not_at_all() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let mut folder = NewFolder::create(&path, false).unwrap();
        folder.file("a/b/c.txt", 2, |file| file.write_all(b"hi").at("c")).unwrap();
        assert!(folder.file("../c.txt", 0, |_| Ok(())).is_err());
        assert!(folder.file("a/b/c.txt", 0, |_| Ok(())).is_err());
        assert!(!path.exists());
        folder.finish().unwrap();
        assert_eq!(std::fs::read(path.join("a/b/c.txt")).unwrap(), b"hi");
        assert!(NewFolder::create(&path, false).is_err());
        drop(NewFolder::create(&path, true).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        NewFolder::create(&path, true).unwrap().finish().unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
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
