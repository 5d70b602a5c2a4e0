//! Reading a container, as a stream.

use std::collections::VecDeque;
use std::io::Read;

use dlopt_checkpoint::{Context, Error, Header, MAX_HEADER_BYTES, Result, check_relative};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::block::{Form, decode_block, most_payload};
use crate::container::{
    Blocks, END, FILE, FOLDER, MOST_NAME_BYTES, PLAIN, TENSORS, VERSION, blocks, is_packed, number, split_of,
};

/// Blocks that are decoded at a time, for each thread.
const BLOCKS_PER_THREAD: usize = 4;
const DAMAGED: &str = "the container is damaged: fetch or pack it again";

/// A file in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedFile {
    /// Its name below the folder, with `/`; nothing where the container is of one file.
    pub name: Option<String>,
    /// Its bytes.
    pub bytes: u64,
}

/// Reads a container file by file.
pub struct Unpacker<R> {
    reader: R,
    name: String,
    pool: ThreadPool,
    is_folder: bool,
    /// Bytes read so far.
    at: u64,
    /// What comes next of the file that was begun.
    file: Option<Left>,
    is_first: bool,
}

/// What is left of a file.
struct Left {
    /// Of the current tensor, or of all of the file.
    blocks: Blocks,
    form: Form,
    /// What messages call it, and its next block.
    what: String,
    block: usize,
    /// Tensors behind it: names and bytes.
    tensors: VecDeque<(String, u64)>,
    /// Decoded already.
    start: Option<Vec<u8>>,
}

/// A block as it lies there.
struct Block {
    payload: Vec<u8>,
    crc: u32,
    len: usize,
    form: Form,
    place: String,
}

impl<R: Read> Unpacker<R> {
    /// Begins to read; `name` is for messages.
    ///
    /// # Errors
    /// When it is no container, or one of a later version.
    pub fn open(reader: R, name: impl Into<String>, threads: usize) -> Result<Self> {
        let name = name.into();
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::input(format!("{threads} threads cannot be started: {e}")))?;
        let mut this = Self { reader, name, pool, is_folder: false, at: 0, file: None, is_first: true };
        let first = this.bytes(4, "its first bytes")?;
        if !is_packed(&first) {
            return Err(Error::input(format!("{}: is no container of `dlopt pack`", this.name)));
        }
        let [version, shape] = [this.byte("its version")?, this.byte("its shape")?];
        if version != VERSION {
            let what = format!("{}: is a container of version {version}, and this dlopt reads {VERSION}", this.name);
            return Err(Error::input(what).hint("take a later dlopt"));
        }
        this.is_folder = shape == FOLDER;
        if shape > FOLDER {
            return Err(this.damaged(format!("byte 5 is {shape}")));
        }
        Ok(this)
    }

    /// Whether it holds a folder.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// Begins the next file; nothing where there is none. What was left of the file before is passed over.
    ///
    /// # Errors
    /// When the container is damaged or cut short: the message names the byte.
    pub fn next_file(&mut self) -> Result<Option<PackedFile>> {
        while self.next_bytes()?.is_some() {}
        let name = if self.is_folder {
            match self.byte("the mark of a file")? {
                END => return self.end(),
                FILE => {}
                other => return Err(self.damaged(format!("byte {} is {other}", self.at - 1))),
            }
            let len = self.number("the length of a name")?;
            if len > MOST_NAME_BYTES {
                return Err(self.damaged(format!("a name of {len} bytes")));
            }
            let at = self.at;
            let name = self.bytes(len as usize, "a name")?;
            let crc = self.crc("a name")?;
            let found = crc32fast::hash(&name);
            if found != crc {
                return Err(
                    self.damaged(format!("the name at byte {at}: its checksum is {found:08x} and should be {crc:08x}"))
                );
            }
            let name = String::from_utf8(name).map_err(|_| self.damaged("a name that is not UTF-8"))?;
            check_relative(&name).map_err(|e| e.within(&self.name))?;
            Some(name)
        } else if self.is_first {
            None
        } else {
            return match self.byte("the end")? {
                END => self.end(),
                other => Err(self.damaged(format!("byte {} is {other}", self.at - 1))),
            };
        };
        self.is_first = false;
        let kind = self.byte("the kind of a file")?;
        let bytes = self.number("the bytes of a file")?;
        let what = name.clone().map_or_else(|| "the file".to_owned(), |name| format!("`{name}`"));
        let bytes = match kind {
            PLAIN => {
                let (blocks, tensors) = (blocks(bytes, 1), VecDeque::new());
                self.file = Some(Left { blocks, form: Form::Text, what, block: 0, tensors, start: None });
                bytes
            }
            TENSORS => self.header(bytes, what)?,
            other => return Err(self.damaged(format!("a file of kind {other}"))),
        };
        Ok(Some(PackedFile { name, bytes }))
    }

    /// The next bytes of the file, in pieces; nothing at its end.
    ///
    /// # Errors
    /// As [`Self::next_file`]; when a block's checksum does not hold.
    pub fn next_bytes(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(mut left) = self.file.take() else { return Ok(None) };
        if let Some(start) = left.start.take() {
            self.file = Some(left);
            return Ok(Some(vec![start]));
        }
        let mut batch = Vec::new();
        while batch.len() < BLOCKS_PER_THREAD * self.pool.current_num_threads() {
            if let Some(len) = left.blocks.next() {
                let place = format!("block {} of {}, at byte {}", left.block, left.what, self.at);
                batch.push(self.block(len, left.form, place)?);
                left.block += 1;
            } else if let Some((name, bytes)) = left.tensors.pop_front() {
                let tag = self.byte("how a tensor is cut")?;
                let split = split_of(tag, || self.number("columns of codes")).map_err(|e| e.within(&self.name))?;
                if !bytes.is_multiple_of(split.unit() as u64) {
                    return Err(self.damaged(format!("tensor `{name}` is cut into what it is no multiple of")));
                }
                left.blocks = blocks(bytes, split.unit());
                (left.form, left.what, left.block) = (Form::Numbers(split), format!("tensor `{name}`"), 0);
            } else {
                break;
            }
        }
        if batch.is_empty() {
            return Ok(None);
        }
        let decode = |block: &Block| {
            decode_block(&block.payload, block.crc, block.len, block.form)
                .map_err(|e| e.within(&block.place).within(&self.name).hint(DAMAGED))
        };
        // The first damaged block is told, whichever thread found one first.
        let decoded: Vec<Result<Vec<u8>>> = self.pool.install(|| batch.par_iter().map(decode).collect());
        self.file = Some(left);
        decoded.into_iter().collect::<Result<Vec<_>>>().map(Some)
    }

    /// Reads the header of a safetensors file, and returns the bytes of all of it.
    fn header(&mut self, len: u64, what: String) -> Result<u64> {
        if !(8..=MAX_HEADER_BYTES + 8).contains(&len) {
            return Err(self.damaged(format!("a header of {len} bytes")));
        }
        let place = format!("the header of {what}, at byte {}", self.at);
        let block = self.block(len as usize, Form::Text, place)?;
        let start = decode_block(&block.payload, block.crc, block.len, block.form)
            .map_err(|e| e.within(&block.place).within(&self.name).hint(DAMAGED))?;
        let header = Header::from_text(&start[8..], None).map_err(|e| e.within(&block.place).within(&self.name))?;
        let tensors = header.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.bytes())).collect();
        let (blocks, start) = (blocks(0, 1), Some(start));
        self.file = Some(Left { blocks, form: Form::Text, what, block: 0, tensors, start });
        Ok(len + header.data_bytes())
    }

    fn block(&mut self, len: usize, form: Form, place: String) -> Result<Block> {
        let length = self.number(&place)?;
        if length > most_payload(len) {
            return Err(self.damaged(format!("{place}: {length} bytes would make {len}")));
        }
        let payload = self.bytes(length as usize, &place)?;
        let crc = self.crc(&place)?;
        Ok(Block { payload, crc, len, form, place })
    }

    fn end(&mut self) -> Result<Option<PackedFile>> {
        match self.reader.read(&mut [0]).at(&self.name)? {
            0 => Ok(None),
            _ => Err(self.damaged(format!("something follows its end at byte {}", self.at))),
        }
    }

    fn damaged(&self, what: impl std::fmt::Display) -> Error {
        Error::input(format!("{}: {what}", self.name)).hint(DAMAGED)
    }

    fn bytes(&mut self, len: usize, what: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.reader).take(len as u64).read_to_end(&mut bytes).at(&self.name)?;
        self.at += bytes.len() as u64;
        if bytes.len() < len {
            return Err(self.damaged(format!("ends at byte {}, within {what}", self.at)));
        }
        Ok(bytes)
    }

    fn crc(&mut self, what: &str) -> Result<u32> {
        let crc = self.bytes(4, what)?;
        Ok(u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]))
    }

    fn byte(&mut self, what: &str) -> Result<u8> {
        self.bytes(1, what).map(|bytes| bytes[0])
    }

    fn number(&mut self, what: &str) -> Result<u64> {
        let number = number(|| self.byte(what))?;
        number.ok_or_else(|| self.damaged(format!("a number that is too long at byte {}, within {what}", self.at)))
    }
}

/// The one file of a container, as a stream of its bytes.
pub struct Whole<R> {
    unpacker: Unpacker<R>,
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that were read.
    read: usize,
    is_done: bool,
}

impl<R: Read> Whole<R> {
    /// Begins to read the file.
    ///
    /// # Errors
    /// When the container holds a folder, or is damaged.
    pub fn new(mut unpacker: Unpacker<R>) -> Result<Self> {
        if unpacker.is_folder() {
            return Err(Error::input(format!("{}: holds a folder", unpacker.name))
                .hint("`dlopt unpack` it to a folder, and take that"));
        }
        unpacker.next_file()?;
        Ok(Self { unpacker, pieces: VecDeque::new(), read: 0, is_done: false })
    }
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(piece) = self.pieces.front() {
                let count = (piece.len() - self.read).min(to.len());
                to[..count].copy_from_slice(&piece[self.read..][..count]);
                self.read += count;
                if self.read == piece.len() {
                    self.pieces.pop_front();
                    self.read = 0;
                }
                if count > 0 || to.is_empty() {
                    return Ok(count);
                }
            } else if self.is_done {
                return Ok(0);
            } else {
                match self.unpacker.next_bytes().map_err(std::io::Error::other)? {
                    Some(pieces) => self.pieces.extend(pieces),
                    None => {
                        self.unpacker.next_file().map_err(std::io::Error::other)?;
                        self.is_done = true;
                    }
                }
            }
        }
    }
}
