//! Where the bytes of imported tensors lie, and how they are fetched.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Context, Error, Result};
use crate::header::TensorInfo;

/// Elements gathered at once from a strided tensor; each takes 16 bytes while it is sorted.
const GATHER_ELEMENTS: usize = 1 << 17;
/// Longest run of bytes read at once while gathering.
const RUN_BYTES: u64 = 1 << 20;
/// Bytes worth reading and throwing away rather than asking the file system again.
const GAP_BYTES: u64 = 4096;

/// An open file and its length when it was opened.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) bytes: u64,
}

impl Source {
    /// Opens a regular file; messages do not name it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|e| Error::input(super::io_text(&e)))?;
        let about = file.metadata().map_err(|e| Error::input(super::io_text(&e)))?;
        if !about.is_file() {
            return Err(
                Error::input("is not a regular file").hint("save it to a file first: import reads here and there")
            );
        }
        Ok(Self { path: path.to_owned(), file, bytes: about.len() })
    }

    /// Fills as much of `into` as the file has from `offset` on.
    pub(super) fn read_some(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            match self.file.read_at(&mut into[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    /// A reader of `bytes` bytes from `start` on, with a position of its own.
    pub(super) fn section(&self, start: u64, bytes: u64) -> Section<'_> {
        Section { file: &self.file, position: start, end: start.saturating_add(bytes) }
    }
}

/// A range of a file as a stream.
pub(super) struct Section<'a> {
    file: &'a File,
    position: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        let count = self.file.read_at(&mut into[..wanted], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// The beginning of a run of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bytes {
    /// At `offset` of a file.
    Plain { source: usize, offset: u64 },
    /// At `offset` of what a compressed member unpacks to.
    Deflated { member: usize, offset: u64 },
}

impl Bytes {
    /// The same run, begun `by` bytes later.
    pub(super) fn advanced(self, by: u64) -> Self {
        match self {
            Self::Plain { source, offset } => Self::Plain { source, offset: offset + by },
            Self::Deflated { member, offset } => Self::Deflated { member, offset: offset + by },
        }
    }
}

/// A member of an archive that is stored behind DEFLATE.
#[derive(Debug)]
pub(super) struct Deflated {
    pub(super) source: usize,
    pub(super) name: String,
    pub(super) start: u64,
    pub(super) packed_bytes: u64,
    pub(super) unpacked_bytes: u64,
    pub(super) crc: u32,
    pub(super) unpacked: Mutex<Option<Arc<File>>>,
}

/// How the bytes of one tensor become C order, little-endian.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Steps between neighbours along each axis, in elements; `None` when they already stand in C order.
    pub(super) strides: Option<Vec<u64>>,
    /// Size of the numbers whose bytes stand the other way round; 1 when none do.
    pub(super) swap_bytes: usize,
}

impl Piece {
    /// A tensor that needs no rearranging.
    pub(super) fn plain(bytes: Bytes) -> Self {
        Self { bytes, strides: None, swap_bytes: 1 }
    }
}

/// Whether these strides are those of C order; axes of extent 1 do not matter.
pub(super) fn is_c_order(shape: &[usize], strides: &[u64]) -> bool {
    let mut expected = 1_u64;
    for (&dim, &stride) in shape.iter().zip(strides).rev() {
        if dim > 1 && stride != expected {
            return false;
        }
        expected = expected.saturating_mul(dim as u64);
    }
    true
}

/// The files of a checkpoint and what was unpacked from them.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) sources: Vec<Source>,
    pub(super) members: Vec<Deflated>,
    pub(super) tmp_dir: PathBuf,
}

impl Default for Store {
    fn default() -> Self {
        Self { sources: Vec::new(), members: Vec::new(), tmp_dir: std::env::temp_dir() }
    }
}

impl Store {
    pub(super) fn read(&self, info: &TensorInfo, piece: &Piece, offset: u64, into: &mut [u8]) -> Result<()> {
        let bytes = info.bytes();
        if offset.checked_add(into.len() as u64).is_none_or(|end| end > bytes) {
            return Err(Error::input(format!(
                "tensor `{}` has {bytes} bytes; {} from byte {offset} on were asked for",
                info.name,
                into.len()
            )));
        }
        if into.is_empty() {
            return Ok(());
        }
        if piece.strides.is_none() && piece.swap_bytes <= 1 {
            return self.fetch(&info.name, piece.bytes, offset, into);
        }
        let size = (info.dtype.bitsize() / 8).max(1);
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            let (element, lead) = (at / size as u64, (at % size as u64) as usize);
            let left = into.len() - done;
            if lead != 0 || left < size {
                let mut one = [0; 16];
                self.elements(info, piece, size, element, &mut one[..size])?;
                let count = left.min(size - lead);
                into[done..done + count].copy_from_slice(&one[lead..lead + count]);
                done += count;
            } else {
                let count = (left / size).min(GATHER_ELEMENTS) * size;
                self.elements(info, piece, size, element, &mut into[done..done + count])?;
                done += count;
            }
        }
        Ok(())
    }

    /// Fills `out` with whole elements from `first` on.
    fn elements(&self, info: &TensorInfo, piece: &Piece, size: usize, first: u64, out: &mut [u8]) -> Result<()> {
        match &piece.strides {
            None => self.fetch(&info.name, piece.bytes, first * size as u64, out)?,
            Some(strides) => self.gather(info, piece.bytes, strides, size, first, out)?,
        }
        if piece.swap_bytes > 1 {
            out.chunks_exact_mut(piece.swap_bytes).for_each(<[u8]>::reverse);
        }
        Ok(())
    }

    /// Collects strided elements, in the order they lie in the file so that neighbours are read together.
    fn gather(
        &self,
        info: &TensorInfo,
        bytes: Bytes,
        strides: &[u64],
        size: usize,
        first: u64,
        out: &mut [u8],
    ) -> Result<()> {
        let count = out.len() / size;
        let mut wanted: Vec<(u64, u32)> = Vec::with_capacity(count);
        let mut index = index_of(&info.shape, first);
        for place in 0..count {
            let stored: u64 = index.iter().zip(strides).map(|(&i, &stride)| i * stride).sum();
            wanted.push((stored, place as u32));
            advance(&info.shape, &mut index);
        }
        wanted.sort_unstable();
        let mut buffer = Vec::new();
        let mut begin = 0;
        while begin < count {
            let from = wanted[begin].0;
            let mut end = begin + 1;
            while end < count
                && (wanted[end].0 - wanted[end - 1].0) * size as u64 <= GAP_BYTES
                && (wanted[end].0 + 1 - from) * size as u64 <= RUN_BYTES
            {
                end += 1;
            }
            let span = (wanted[end - 1].0 + 1 - from) as usize * size;
            buffer.resize(span, 0);
            self.fetch(&info.name, bytes, from * size as u64, &mut buffer[..span])?;
            for &(stored, place) in &wanted[begin..end] {
                let (at, to) = ((stored - from) as usize * size, place as usize * size);
                out[to..to + size].copy_from_slice(&buffer[at..at + size]);
            }
            begin = end;
        }
        Ok(())
    }

    fn fetch(&self, tensor: &str, bytes: Bytes, skip: u64, into: &mut [u8]) -> Result<()> {
        match bytes.advanced(skip) {
            Bytes::Plain { source, offset } => {
                let source = &self.sources[source];
                source.file.read_exact_at(into, offset).map_err(|e| lost(&e, source, tensor))
            }
            Bytes::Deflated { member, offset } => {
                let member = &self.members[member];
                let file = self.unpacked(member)?;
                file.read_exact_at(into, offset).map_err(|e| lost(&e, &self.sources[member.source], tensor))
            }
        }
    }

    /// The unpacked member; the first to ask unpacks it, others wait.
    fn unpacked(&self, member: &Deflated) -> Result<Arc<File>> {
        let mut slot = member.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.unpack(member)?);
        *slot = Some(Arc::clone(&file));
        Ok(file)
    }

    fn unpack(&self, member: &Deflated) -> Result<File> {
        let source = &self.sources[member.source];
        let damaged = |what: String| {
            Error::input(format!("{}: member `{}` {what}", source.path.display(), super::shown(&member.name)))
                .hint("the file is damaged: fetch it again")
        };
        let mut file = tempfile::tempfile_in(&self.tmp_dir).at(self.tmp_dir.display())?;
        let packed = io::BufReader::with_capacity(1 << 16, source.section(member.start, member.packed_bytes));
        let mut unpacked = flate2::read::DeflateDecoder::new(packed);
        let mut crc = flate2::Crc::new();
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        loop {
            let count = match unpacked.read(&mut buffer) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(damaged(format!("does not unpack: {}", super::io_text(&e)))),
            };
            if count == 0 {
                break;
            }
            total += count as u64;
            if total > member.unpacked_bytes {
                return Err(damaged(format!("unpacks to more than its {} bytes", member.unpacked_bytes)));
            }
            crc.update(&buffer[..count]);
            file.write_all(&buffer[..count]).at(self.tmp_dir.display())?;
        }
        if total != member.unpacked_bytes {
            return Err(damaged(format!("unpacks to {total} bytes, not to its {}", member.unpacked_bytes)));
        }
        if crc.sum() != member.crc {
            return Err(damaged("does not match its checksum".to_owned()));
        }
        Ok(file)
    }
}

/// The index of the `element`-th element in C order.
fn index_of(shape: &[usize], element: u64) -> Vec<u64> {
    let mut index = vec![0; shape.len()];
    let mut rest = element;
    for (i, &dim) in index.iter_mut().zip(shape).rev() {
        *i = rest % dim as u64;
        rest /= dim as u64;
    }
    index
}

/// Moves to the next element in C order.
fn advance(shape: &[usize], index: &mut [u64]) {
    for (i, &dim) in index.iter_mut().zip(shape).rev() {
        *i += 1;
        if *i < dim as u64 {
            return;
        }
        *i = 0;
    }
}

/// A read that should have worked, since the file was long enough when it was opened.
fn lost(e: &io::Error, source: &Source, tensor: &str) -> Error {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        return Error::input(format!("{}: ends before tensor `{tensor}` does", source.path.display()))
            .hint("the file became shorter while it was read: fetch it again and leave it alone");
    }
    Error::input(format!("{}: tensor `{tensor}`: {}", source.path.display(), super::io_text(e)))
}
