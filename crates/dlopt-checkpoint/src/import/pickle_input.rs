//! The bytes of a pickle as a counted stream, never trusted to be as long as they say.

use std::io::{BufRead, Read};

use crate::error::{Error, Result};

/// Longest pickle that is read, in bytes: the descriptions of a million tensors.
const MAX_PICKLE_BYTES: u64 = 256 << 20;
/// Longest line of a text opcode, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 16;

/// Pickled bytes from a stream, counted.
pub(super) struct Input<R> {
    reader: R,
    /// Bytes taken so far.
    pub(super) position: u64,
    end: u64,
    is_limited: bool,
}

impl<R: BufRead> Input<R> {
    /// A stream that holds `bytes` bytes.
    pub(super) fn new(reader: R, bytes: u64) -> Self {
        Self { reader, position: 0, end: bytes.min(MAX_PICKLE_BYTES), is_limited: bytes > MAX_PICKLE_BYTES }
    }

    fn cut(&self) -> Error {
        if self.is_limited {
            return Error::input(format!(
                "the pickle is longer than {MAX_PICKLE_BYTES} bytes; so long a one is no state dict"
            ));
        }
        Error::input(format!("the pickle ends in its middle, before byte {}", self.end))
            .hint("the file was cut short: fetch it again")
    }

    pub(super) fn bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        if length > self.end - self.position {
            return Err(self.cut());
        }
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(length).read_to_end(&mut bytes);
        read.map_err(|e| Error::input(super::io_text(&e)))?;
        if (bytes.len() as u64) < length {
            return Err(self.cut());
        }
        self.position += length;
        Ok(bytes)
    }

    pub(super) fn skip(&mut self, length: u64) -> Result<()> {
        if length > self.end - self.position {
            return Err(self.cut());
        }
        let skipped = std::io::copy(&mut (&mut self.reader).take(length), &mut std::io::sink())
            .map_err(|e| Error::input(super::io_text(&e)))?;
        if skipped < length {
            return Err(self.cut());
        }
        self.position += length;
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        if N as u64 > self.end - self.position {
            return Err(self.cut());
        }
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|_| self.cut())?;
        self.position += N as u64;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A line without its end.
    pub(super) fn line(&mut self) -> Result<String> {
        let most = MAX_LINE_BYTES.min(self.end - self.position);
        let mut line = Vec::new();
        let read = (&mut self.reader).take(most).read_until(b'\n', &mut line);
        read.map_err(|e| Error::input(super::io_text(&e)))?;
        self.position += line.len() as u64;
        if line.pop() != Some(b'\n') {
            return Err(self.cut());
        }
        String::from_utf8(line).map_err(|_| broken("a line that is not UTF-8"))
    }
}

/// A pickle that no pickler wrote.
pub(super) fn broken(what: &str) -> Error {
    Error::input(format!("the pickle is broken: {what}")).hint("the file is damaged: fetch it again")
}
