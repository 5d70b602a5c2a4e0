//! Writing a container.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use dlopt_checkpoint::{Context, Dtype, Error, Header, Progress, Result, TensorInfo, header_text_bytes};
use dlopt_quantize::packed_codes;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::block::{Coded, encode_numbers, encode_text};
use crate::container::{
    BLOCK_BYTES, END, FILE, FOLDER, MAGIC, MOST_NAME_BYTES, PLAIN, TENSORS, VERSION, blocks, put_number, put_split,
};
use crate::report::{Kind, PackReport, Tally};
use crate::split::Split;

/// Blocks that are coded at a time, for each thread.
const BLOCKS_PER_THREAD: usize = 4;

/// What is packed.
pub enum Source<'a> {
    /// Bytes of a file: its length where it is known, and its name for messages. Without a length it must be a safetensors
    /// file, which says how long it is.
    Stream(Box<dyn Read + 'a>, Option<u64>, String),
    /// All files of a folder and of those in it. A folder without files is not kept.
    Folder(PathBuf),
}

/// Packs on some threads.
pub struct Packer<'a> {
    pool: ThreadPool,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
}

impl<'a> Packer<'a> {
    /// Memory is bounded by some MiB a thread.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(threads: usize, progress: &'a dyn Progress, stop: &'a AtomicBool) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::input(format!("{threads} threads cannot be started: {e}")))?;
        Ok(Self { pool, progress, stop })
    }

    /// Writes `source` as a container; the same bytes on any number of threads.
    ///
    /// # Errors
    /// When something cannot be read or written, the work is stopped, or a stream without a length is no safetensors file.
    pub fn pack(&self, source: Source<'_>, out: &mut dyn Write, place: &str) -> Result<PackReport> {
        let mut writer = Writer {
            packer: self,
            out,
            place,
            waiting: Vec::new(),
            between: [&MAGIC[..], &[VERSION]].concat(),
            tally: Tally::default(),
            report: PackReport {
                files: 0,
                tensors: 0,
                bytes_before: 0,
                bytes_after: 0,
                ratio: 0.0,
                planes: Vec::new(),
            },
        };
        match source {
            Source::Stream(mut reader, bytes, name) => {
                self.progress.phase("packing", bytes.unwrap_or(0));
                writer.between.push(0);
                writer.file(&mut reader, bytes, &name)?;
            }
            Source::Folder(dir) => {
                let files = files_of(&dir)?;
                self.progress.phase("packing", files.iter().map(|file| file.bytes).sum());
                writer.between.push(FOLDER);
                for file in files {
                    let name = file.path.display().to_string();
                    writer.between.push(FILE);
                    put_number(&mut writer.between, file.name.len() as u64);
                    writer.between.extend_from_slice(file.name.as_bytes());
                    writer.between.extend_from_slice(&crc32fast::hash(file.name.as_bytes()).to_le_bytes());
                    let mut reader = File::open(&file.path).at(&name)?;
                    writer.file(&mut reader, Some(file.bytes), &name)?;
                }
            }
        }
        writer.finish()
    }
}

/// A file of a folder.
struct Listed {
    /// Below the folder, with `/`.
    name: String,
    path: PathBuf,
    bytes: u64,
}

/// The files below a folder, by name.
fn files_of(dir: &Path) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    list(dir, "", &mut found)?;
    if found.is_empty() {
        return Err(Error::input(format!("{}: holds no files", dir.display())));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn list(dir: &Path, before: &str, found: &mut Vec<Listed>) -> Result<()> {
    for entry in std::fs::read_dir(dir).at(dir.display())? {
        let path = entry.at(dir.display())?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::input(format!("{}: the name is not UTF-8", path.display())))?;
        let name = format!("{before}{name}");
        // Links to files are followed, as the caches of model hubs are made of them.
        let about = path.metadata().at(path.display())?;
        if about.is_dir() && !path.is_symlink() {
            list(&path, &format!("{name}/"), found)?;
        } else if about.is_file() && name.len() as u64 <= MOST_NAME_BYTES {
            found.push(Listed { name, bytes: about.len(), path });
        } else {
            let what = "is neither a file nor a folder, or its name is too long";
            return Err(Error::input(format!("{}: {what}", path.display())).hint("take it out of the folder"));
        }
    }
    Ok(())
}

/// How a block is coded.
#[derive(Clone, Copy)]
enum How {
    Text(Kind),
    Numbers(Split),
}

/// A block that waits for its batch, and what stands before it.
struct Waiting {
    before: Vec<u8>,
    raw: Vec<u8>,
    how: How,
}

struct Writer<'a> {
    packer: &'a Packer<'a>,
    out: &'a mut dyn Write,
    place: &'a str,
    waiting: Vec<Waiting>,
    /// What stands before the next block.
    between: Vec<u8>,
    tally: Tally,
    report: PackReport,
}

impl Writer<'_> {
    fn file(&mut self, reader: &mut dyn Read, bytes: Option<u64>, name: &str) -> Result<()> {
        self.report.files += 1;
        let mut start = Vec::new();
        match head(reader, bytes, name, &mut start) {
            Ok(header) => self.tensors(reader, start, &header, name),
            // What has a length may be anything.
            Err(error) => match bytes {
                Some(bytes) => self.plain(&mut start.chain(reader), bytes, name),
                None => Err(error),
            },
        }
    }

    fn plain(&mut self, reader: &mut dyn Read, bytes: u64, name: &str) -> Result<()> {
        self.between.push(PLAIN);
        put_number(&mut self.between, bytes);
        let mut at = 0;
        for len in blocks(bytes, 1) {
            let raw = read(reader, len, name, at, "it")?;
            self.block(raw, How::Text(Kind::Files))?;
            at += len as u64;
        }
        self.ends(reader, name)
    }

    fn tensors(&mut self, reader: &mut dyn Read, start: Vec<u8>, header: &Header, name: &str) -> Result<()> {
        self.between.push(TENSORS);
        put_number(&mut self.between, start.len() as u64);
        let mut at = start.len() as u64;
        self.block(start, How::Text(Kind::Headers))?;
        // A config that cannot be read hides codes, and costs nothing else.
        let codes = packed_codes(header).unwrap_or_default();
        for tensor in &header.tensors {
            let split = split(tensor, &codes);
            put_split(&mut self.between, split);
            for len in blocks(tensor.bytes(), split.unit()) {
                let raw = read(reader, len, name, at, &tensor.name)?;
                self.block(raw, How::Numbers(split))?;
                at += len as u64;
            }
        }
        self.report.tensors += header.tensors.len() as u64;
        self.ends(reader, name)
    }

    /// Refuses bytes behind the end: they would be lost.
    fn ends(&mut self, reader: &mut dyn Read, name: &str) -> Result<()> {
        match reader.read(&mut [0]).at(name)? {
            0 => Ok(()),
            _ => {
                Err(Error::input(format!("{name}: has more bytes than it should"))
                    .hint("is something still writing it?"))
            }
        }
    }

    fn block(&mut self, raw: Vec<u8>, how: How) -> Result<()> {
        self.waiting.push(Waiting { before: std::mem::take(&mut self.between), raw, how });
        if self.waiting.len() >= BLOCKS_PER_THREAD * self.packer.pool.current_num_threads() {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.packer.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted("stopped"));
        }
        let waiting = std::mem::take(&mut self.waiting);
        let code = |block: &Waiting| match block.how {
            How::Text(kind) => encode_text(&block.raw, kind),
            How::Numbers(split) => encode_numbers(&block.raw, split),
        };
        let coded: Result<Vec<Coded>> = self.packer.pool.install(|| waiting.par_iter().map(code).collect());
        for (block, coded) in waiting.iter().zip(coded?) {
            self.write(&block.before)?;
            self.write(&coded.bytes)?;
            self.tally.merge(&coded.tally);
            self.report.bytes_before += block.raw.len() as u64;
            self.packer.progress.advance(block.raw.len() as u64);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.report.bytes_after += bytes.len() as u64;
        self.out.write_all(bytes).at(self.place)
    }

    fn finish(mut self) -> Result<PackReport> {
        self.flush()?;
        let end = [&self.between[..], &[END]].concat();
        self.write(&end)?;
        self.out.flush().at(self.place)?;
        self.report.ratio = self.report.bytes_before as f64 / self.report.bytes_after as f64;
        self.report.planes = self.tally.planes();
        Ok(self.report)
    }
}

/// Reads what a safetensors file begins with into `start`, which holds what was read also where this fails.
fn head(reader: &mut dyn Read, bytes: Option<u64>, name: &str, start: &mut Vec<u8>) -> Result<Header> {
    let read = |reader: &mut dyn Read, len: usize, start: &mut Vec<u8>| {
        let have = start.len();
        reader.take(len as u64).read_to_end(start).at(name)?;
        match start.len() - have {
            found if found < len => Err(Error::input(format!("{name}: ends at byte {} of its header", start.len()))),
            _ => Ok(()),
        }
    };
    read(reader, 8, start)?;
    let first: [u8; 8] = std::array::from_fn(|i| start[i]);
    let text = header_text_bytes(first, bytes).map_err(|e| e.within(name))?;
    read(reader, text, start)?;
    let data = bytes.map(|bytes| bytes - 8 - text as u64);
    Header::from_text(&start[8..], data).map_err(|e| e.within(name))
}

fn read(reader: &mut dyn Read, len: usize, name: &str, at: u64, what: &str) -> Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(len);
    reader.take(len as u64).read_to_end(&mut raw).at(name)?;
    if raw.len() < len {
        let end = at + raw.len() as u64;
        return Err(Error::input(format!("{name}: ends at byte {end}, within `{what}`"))
            .hint("the file was cut short: fetch it again"));
    }
    Ok(raw)
}

/// How a tensor is cut.
fn split(tensor: &TensorInfo, codes: &HashMap<String, (u32, usize)>) -> Split {
    if let Some(&(bits, columns)) = codes.get(&tensor.name) {
        let split = Split::Codes { bits, columns };
        let is_whole = |unit: usize| (1..=BLOCK_BYTES).contains(&unit) && tensor.bytes().is_multiple_of(unit as u64);
        if (1..8).contains(&bits) && columns > 0 && is_whole(split.unit()) {
            return split;
        }
    }
    match tensor.dtype {
        Dtype::BF16 => Split::Bf16,
        Dtype::F32 => Split::F32,
        Dtype::F16 | Dtype::I16 | Dtype::U16 => Split::Bytes(2),
        Dtype::I32 | Dtype::U32 => Split::Bytes(4),
        Dtype::F64 | Dtype::I64 | Dtype::U64 => Split::Bytes(8),
        _ => Split::Bytes(1),
    }
}
