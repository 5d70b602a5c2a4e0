//! The container, byte by byte.
//!
//! ```text
//! "DLPK" version shape            version 1; shape 0: one file, 1: a folder
//! per file:
//!   1                             in a folder: number(length of the name) name crc32 of it, little-endian
//!   0 number(bytes) blocks        any file, in blocks of BLOCK_BYTES
//!   1 number(bytes) block         a safetensors file: its first bytes and header text as one block,
//!     per tensor: split blocks    then the tensors in the order of their data
//! 0                               nothing follows
//! block: number(length) payload crc32 of what it decodes to, little-endian
//! payload of numbers: form planes; form 0: cut as said, 1: bytes, 2: number of values less 1, values, places in them,
//!                     3: number(bytes of the others), flags, the others cut as said
//! payload of text: method; 0: as it is, 1: a zstd frame, 2: one whose dictionary is `known.txt`
//! plane: number(length), left out for the last; method; what the method needs
//! ```
//! A number is seven bits a byte, the lowest first, the top bit set in all but the last. How many blocks a tensor has follows
//! from its bytes and its split. Nothing is written that a reader would need before it comes, so a container is written and
//! read as a stream.

use dlopt_checkpoint::{Error, Result};

use crate::split::Split;

/// How a container begins.
pub(crate) const MAGIC: [u8; 4] = *b"DLPK";
/// The version that this code writes and reads.
pub(crate) const VERSION: u8 = 1;
/// Bytes of a block, about: whole units of its split.
pub(crate) const BLOCK_BYTES: usize = 1 << 18;
/// Longest name of a file, in bytes.
pub(crate) const MOST_NAME_BYTES: u64 = 4096;

/// What a file is, to the container.
pub(crate) const PLAIN: u8 = 0;
pub(crate) const TENSORS: u8 = 1;
/// A folder, where the shape is said.
pub(crate) const FOLDER: u8 = 1;
/// Another file follows; 0 ends the container.
pub(crate) const FILE: u8 = 1;
pub(crate) const END: u8 = 0;

const BF16: u8 = 16;
const F32: u8 = 17;
/// Above it are the bits of codes.
const CODES: u8 = 32;

/// Whether a file that begins with these bytes is a container.
pub fn is_packed(first: &[u8]) -> bool {
    first.starts_with(&MAGIC)
}

/// Appends a number.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number whose bytes come one by one; nothing where it is beyond 64 bits.
pub(crate) fn number<E>(mut next: impl FnMut() -> Result<u8, E>) -> Result<Option<u64>, E> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = next()?;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return Ok(None);
        }
        number |= part << shift;
        if byte < 0x80 {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Takes a number from the front; nothing where it is cut short or beyond 64 bits.
pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let next = || {
        let (&byte, rest) = bytes.split_first().ok_or(())?;
        *bytes = rest;
        Ok::<u8, ()>(byte)
    };
    number(next).unwrap_or(None)
}

/// Appends a split.
pub(crate) fn put_split(out: &mut Vec<u8>, split: Split) {
    match split {
        Split::Bytes(width) => out.push(width as u8),
        Split::Bf16 => out.push(BF16),
        Split::F32 => out.push(F32),
        Split::Codes { bits, columns } => {
            out.push(CODES + bits as u8);
            put_number(out, columns as u64);
        }
    }
}

/// The split of a tensor that begins with this byte; codes have their columns behind it.
pub(crate) fn split_of(tag: u8, columns: impl FnOnce() -> Result<u64>) -> Result<Split> {
    Ok(match tag {
        1 | 2 | 4 | 8 => Split::Bytes(usize::from(tag)),
        BF16 => Split::Bf16,
        F32 => Split::F32,
        _ if (CODES + 1..CODES + 8).contains(&tag) => {
            let columns = columns()?;
            let columns = usize::try_from(columns).ok().filter(|columns| (1..=8 * BLOCK_BYTES).contains(columns));
            let split = columns.map(|columns| Split::Codes { bits: u32::from(tag - CODES), columns });
            let split = split.filter(|split| split.unit() <= BLOCK_BYTES);
            split.ok_or_else(|| Error::input("a row of codes is empty or longer than a block"))?
        }
        other => return Err(Error::input(format!("a tensor is cut in way {other}, which this dlopt does not know"))),
    })
}

/// The lengths of the blocks of so many bytes, which are whole units of at most a block.
pub(crate) fn blocks(bytes: u64, unit: usize) -> Blocks {
    Blocks { left: bytes, of_block: BLOCK_BYTES / unit * unit }
}

/// Lengths of blocks, counted and never listed: a damaged container may claim any number of bytes.
pub(crate) struct Blocks {
    left: u64,
    of_block: usize,
}

impl Iterator for Blocks {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let len = self.left.min(self.of_block as u64);
        self.left -= len;
        (len > 0).then_some(len as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_broken_ones_do_not() {
        for number in [0, 1, 127, 128, 300, 1 << 35, u64::MAX] {
            let mut bytes = vec![];
            put_number(&mut bytes, number);
            let mut rest = &bytes[..];
            assert_eq!(take_number(&mut rest), Some(number));
            assert!(rest.is_empty());
            assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take_number(&mut &[0xff; 11][..]), None);
    }

    #[test]
    fn splits_come_back() {
        for split in [Split::Bytes(4), Split::Bf16, Split::F32, Split::Codes { bits: 5, columns: 784 }] {
            let mut bytes = vec![];
            put_split(&mut bytes, split);
            let mut rest = &bytes[1..];
            assert_eq!(split_of(bytes[0], || Ok(take_number(&mut rest).unwrap())).unwrap(), split);
        }
        assert!(split_of(3, || Ok(0)).is_err() && split_of(CODES + 3, || Ok(0)).is_err());
    }

    #[test]
    fn blocks_are_whole_units() {
        assert_eq!(blocks(10, 4).collect::<Vec<_>>(), [10]);
        assert_eq!(blocks((BLOCK_BYTES + 2) as u64, 2).collect::<Vec<_>>(), [BLOCK_BYTES, 2]);
        assert_eq!(blocks(30, 15).collect::<Vec<_>>(), [30]);
        assert_eq!(blocks(0, 8).count(), 0);
    }
}
