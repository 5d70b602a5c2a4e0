//! The header of a NumPy array file (NEP 1, versions 1 to 3).
//!
//! `\x93NUMPY`, major and minor version, the length of the text (2 bytes in version 1, else 4, little-endian), then a
//! Python dict: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }`, padded with spaces to a newline.

use std::io::Read;

use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// The first bytes of every `.npy`.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header text accepted; NumPy itself stops at 10,000 bytes.
const MAX_TEXT_BYTES: usize = 1 << 16;

/// What an array file says about its array.
#[derive(Debug, PartialEq)]
pub(super) struct NpyHeader {
    pub(super) descr: String,
    pub(super) is_fortran: bool,
    pub(super) shape: Vec<u64>,
    /// Where the numbers begin.
    pub(super) bytes: u64,
}

/// How a `descr` is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stored {
    /// As this dtype, with numbers of `swap_bytes` bytes the other way round (1: none).
    Numbers { dtype: Dtype, swap_bytes: usize },
    /// As text of fixed length, which is no tensor.
    Text,
}

/// Reads the header from the beginning of an array file.
pub(super) fn read_header(mut reader: impl Read) -> Result<NpyHeader> {
    let mut first = [0; 8];
    fill(&mut reader, &mut first)?;
    if !first.starts_with(MAGIC) {
        return Err(Error::input("does not begin like a NumPy array"));
    }
    let (major, minor) = (first[6], first[7]);
    let (length, before) = match major {
        1 => {
            let mut length = [0; 2];
            fill(&mut reader, &mut length)?;
            (usize::from(u16::from_le_bytes(length)), 10)
        }
        2 | 3 => {
            let mut length = [0; 4];
            fill(&mut reader, &mut length)?;
            (u32::from_le_bytes(length) as usize, 12)
        }
        _ => return Err(Error::input(format!("is a NumPy array of version {major}.{minor}; dlopt knows 1 to 3"))),
    };
    if length > MAX_TEXT_BYTES {
        return Err(Error::input(format!("has an array header of {length} bytes; {MAX_TEXT_BYTES} are the most")));
    }
    let mut text = vec![0; length];
    fill(&mut reader, &mut text)?;
    let mut literal = Literal { text: &text, at: 0 };
    let (descr, is_fortran, shape) = literal.dict().map_err(|what| {
        Error::input(format!("has a broken array header: {what} at byte {}", before + literal.at))
            .hint("the file is damaged: fetch it again")
    })?;
    Ok(NpyHeader { descr, is_fortran, shape, bytes: (before + length) as u64 })
}

fn fill(reader: &mut impl Read, into: &mut [u8]) -> Result<()> {
    reader.read_exact(into).map_err(|e| {
        Error::input(format!("ends inside the array header: {}", super::io_text(&e)))
            .hint("the file was cut short: fetch it again")
    })
}

/// What a `descr` such as `<f4` means.
pub(super) fn stored_as(descr: &str) -> Result<Stored> {
    // ml_dtypes writes bfloat16 as `<V2`; NumPy's own raw bytes are `|V2`.
    if matches!(descr, "bfloat16" | "<V2") {
        return Ok(Stored::Numbers { dtype: Dtype::BF16, swap_bytes: 1 });
    }
    let refuse = |why: &str| Err(Error::input(format!("holds `{}`: {why}", super::shown(descr))));
    let (is_big, kind) = match descr.as_bytes() {
        [b'>', kind @ ..] => (true, kind),
        [b'<' | b'|' | b'=', kind @ ..] => (false, kind),
        kind => (false, kind),
    };
    let (dtype, number_bytes) = match kind {
        b"f2" => (Dtype::F16, 2),
        b"f4" => (Dtype::F32, 4),
        b"f8" => (Dtype::F64, 8),
        b"i1" => (Dtype::I8, 1),
        b"i2" => (Dtype::I16, 2),
        b"i4" => (Dtype::I32, 4),
        b"i8" => (Dtype::I64, 8),
        b"u1" => (Dtype::U8, 1),
        b"u2" => (Dtype::U16, 2),
        b"u4" => (Dtype::U32, 4),
        b"u8" => (Dtype::U64, 8),
        b"b1" => (Dtype::BOOL, 1),
        b"c8" => (Dtype::C64, 4),
        [b'O', ..] => {
            return refuse("Python objects, which only running code could read")
                .map_err(|e: Error| e.hint("save it again without object arrays"));
        }
        [b'U' | b'S' | b'a', ..] => return Ok(Stored::Text),
        [b'V', ..] => {
            return refuse("raw bytes, whose meaning the file does not say")
                .map_err(|e: Error| e.hint("view them as numbers before saving: array.view('uint8')"));
        }
        _ => {
            return refuse("no safetensors dtype is like it")
                .map_err(|e: Error| e.hint("convert it before saving: array.astype('float32')"));
        }
    };
    Ok(Stored::Numbers { dtype, swap_bytes: if is_big { number_bytes } else { 1 } })
}

/// A reader of the few Python literals such a header holds.
struct Literal<'a> {
    text: &'a [u8],
    at: usize,
}

type Parsed<T> = std::result::Result<T, &'static str>;

impl Literal<'_> {
    fn dict(&mut self) -> Parsed<(String, bool, Vec<u64>)> {
        let (mut descr, mut is_fortran, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while self.peek() != Some(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            let is_twice = match key.as_str() {
                "descr" if self.peek() == Some(b'[') => return Err("a record of several fields is no tensor"),
                "descr" => descr.replace(self.string()?).is_some(),
                "fortran_order" => is_fortran.replace(self.boolean()?).is_some(),
                "shape" => shape.replace(self.tuple()?).is_some(),
                _ => return Err("an unknown key"),
            };
            if is_twice {
                return Err("a key that stands twice");
            }
            if self.peek() == Some(b',') {
                self.at += 1;
            } else if self.peek() != Some(b'}') {
                return Err("neither `,` nor `}`");
            }
        }
        self.at += 1;
        if self.peek().is_some() {
            return Err("text after the dict");
        }
        match (descr, is_fortran, shape) {
            (Some(descr), Some(is_fortran), Some(shape)) => Ok((descr, is_fortran, shape)),
            _ => Err("one of descr, fortran_order and shape is missing"),
        }
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn expect(&mut self, wanted: u8) -> Parsed<()> {
        if self.peek() != Some(wanted) {
            return Err("an unexpected character");
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Parsed<String> {
        let quote = self.peek().filter(|&c| c == b'\'' || c == b'"').ok_or("no string")?;
        self.at += 1;
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|&c| c == quote).ok_or("a string without an end")?;
        let content = &rest[..length];
        if content.contains(&b'\\') {
            return Err("an escaped character");
        }
        self.at += length + 1;
        String::from_utf8(content.to_vec()).map_err(|_| "a string that is not UTF-8")
    }

    fn boolean(&mut self) -> Parsed<bool> {
        self.peek();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err("neither True nor False")
    }

    fn tuple(&mut self) -> Parsed<Vec<u64>> {
        self.expect(b'(')?;
        let mut extents = Vec::new();
        while self.peek() != Some(b')') {
            if extents.len() == super::MAX_DIMENSIONS {
                return Err("more than 64 dimensions");
            }
            extents.push(self.extent()?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b')') => {}
                _ => return Err("neither `,` nor `)`"),
            }
        }
        self.at += 1;
        Ok(extents)
    }

    fn extent(&mut self) -> Parsed<u64> {
        self.peek();
        let rest = &self.text[self.at..];
        let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
        let value = std::str::from_utf8(&rest[..digits]).ok().and_then(|d| d.parse().ok()).ok_or("no extent")?;
        // Python 2 wrote long integers as `3L`.
        self.at += digits + usize::from(rest.get(digits) == Some(&b'L'));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<NpyHeader> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        read_header(&bytes[..])
    }

    #[test]
    fn reads_what_numpy_and_python_2_write() {
        let read = header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }   \n").unwrap();
        assert_eq!(read, NpyHeader { descr: "<f4".into(), is_fortran: false, shape: vec![3, 5], bytes: 73 });
        assert_eq!(header("{'shape':(7L,),'fortran_order':True,\"descr\":'|u1'}").unwrap().shape, [7]);
        assert_eq!(header("{'descr': '<i8', 'fortran_order': False, 'shape': ()}").unwrap().shape, [0_u64; 0]);
    }

    #[test]
    fn says_what_is_wrong_with_a_header() {
        for (text, what) in [
            ("{'descr': '<f4', 'fortran_order': False}", "missing"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}", "several fields"),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", "neither True nor False"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "no extent"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "no extent"),
            ("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", "twice"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': ()} __import__('os')", "text after"),
            ("", "unexpected"),
        ] {
            let error = header(text).unwrap_err();
            assert!(error.message().contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn swaps_the_parts_of_a_big_endian_complex_number() {
        assert_eq!(stored_as(">c8").unwrap(), Stored::Numbers { dtype: Dtype::C64, swap_bytes: 4 });
        assert_eq!(stored_as(">u1").unwrap(), Stored::Numbers { dtype: Dtype::U8, swap_bytes: 1 });
        assert_eq!(stored_as("<U7").unwrap(), Stored::Text);
        for refused in ["|O", "|V2", "<c16", "<f16", "<M8[ns]", "", ">"] {
            assert!(stored_as(refused).is_err(), "{refused}");
        }
    }
}
