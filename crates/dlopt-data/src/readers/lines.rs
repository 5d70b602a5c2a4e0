//! Lines of text: UTF-8, or what somebody says it is written in.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Error, Result};
use encoding_rs::Encoding;
use encoding_rs_io::DecodeReaderBytesBuilder;

use super::raw_bytes::{broken, open_bytes};

/// Bytes after which a line is taken for something else.
const MOST_LINE_BYTES: u64 = 1 << 28;

const BUFFER_BYTES: usize = 1 << 16;

/// The bytes of a text, unpacked, and made UTF-8 when an encoding is named.
pub(super) fn open_text(path: &Path, encoding: Option<&str>) -> Result<Box<dyn BufRead + Send>> {
    let bytes = open_bytes(path)?;
    let Some(label) = encoding else { return Ok(bytes) };
    let encoding = Encoding::for_label(label.as_bytes()).ok_or_else(|| {
        Error::usage(format!("no encoding `{label}`"))
            .hint("such as latin1, windows-1252, utf-16le, shift_jis, gbk; the Encoding Standard names all")
    })?;
    let reader = DecodeReaderBytesBuilder::new().encoding(Some(encoding)).build(bytes);
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)))
}

/// Lines of a text as they come.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    line: u64,
    /// Where the line begins.
    byte: u64,
}

impl Lines {
    pub(super) fn open(path: &Path, encoding: Option<&str>) -> Result<Self> {
        let reader = open_text(path, encoding)?;
        Ok(Self { path: path.to_owned(), reader, buffer: Vec::new(), line: 0, byte: 0 })
    }

    /// The next line, without its end, and its number from 1 on.
    pub(super) fn next(&mut self) -> Result<Option<(u64, &str)>> {
        self.byte += self.buffer.len() as u64;
        self.buffer.clear();
        let mut limited = std::io::Read::take(&mut self.reader, MOST_LINE_BYTES);
        let count = limited.read_until(b'\n', &mut self.buffer).map_err(|e| broken(&self.path, &e))?;
        if count == 0 {
            return Ok(None);
        }
        self.line += 1;
        if count as u64 == MOST_LINE_BYTES {
            let place = format!("{}: line {}", self.path.display(), self.line);
            return Err(Error::input(format!("{place} has {MOST_LINE_BYTES} bytes or more: this is no text")));
        }
        let mut line = self.buffer.as_slice();
        if self.line == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(text) => Ok(Some((self.line, text))),
            Err(e) => {
                let at = self.byte + e.valid_up_to() as u64;
                Err(no_utf8(&format!("{}: line {}, byte {at}", self.path.display(), self.line)))
            }
        }
    }
}

/// The error about bytes that are no text.
pub(super) fn no_utf8(place: &str) -> Error {
    Error::input(format!("{place}: no UTF-8 there"))
        .hint("--encoding says what the text is written in, such as --encoding windows-1252")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], encoding: Option<&str>) -> Result<Vec<(u64, String)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, bytes).unwrap();
        let mut lines = Lines::open(&path, encoding)?;
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next()? {
            all.push((number, line.to_owned()));
        }
        Ok(all)
    }

    #[test]
    fn ends_and_marks_are_no_part_of_lines() {
        let all = lines("\u{feff}ab\r\n\nç".as_bytes(), None).unwrap();
        assert_eq!(all, [(1, "ab".to_owned()), (2, String::new()), (3, "ç".to_owned())]);
        assert!(lines(b"", None).unwrap().is_empty());
    }

    #[test]
    fn other_encodings_are_read_when_named() {
        let error = lines(b"ab\nc\xe9d\n", None).unwrap_err();
        assert!(error.message().contains("line 2, byte 4: no UTF-8 there"), "{error}");
        assert_eq!(lines(b"c\xe9d\n", Some("latin1")).unwrap(), [(1, "céd".to_owned())]);
        let wide: Vec<u8> = "aé\nb".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(lines(&wide, Some("utf-16le")).unwrap(), [(1, "aé".to_owned()), (2, "b".to_owned())]);
        assert!(lines(b"a", Some("klingon")).unwrap_err().message().contains("no encoding `klingon`"));
    }
}
