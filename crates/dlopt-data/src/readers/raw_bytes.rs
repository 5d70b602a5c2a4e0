//! Bytes of a raw file, unpacked when it is gzipped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use dlopt_checkpoint::{Context, Error, Result};
use flate2::bufread::MultiGzDecoder;

const BUFFER_BYTES: usize = 1 << 17;

/// The bytes of a file, unpacked when they begin like gzip.
pub(crate) fn open_bytes(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let file = File::open(path).at(path.display())?;
    let mut plain = BufReader::with_capacity(BUFFER_BYTES, file);
    let is_gzip = plain.fill_buf().at(path.display())?.starts_with(&[0x1f, 0x8b]);
    if is_gzip {
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(plain))));
    }
    Ok(Box::new(plain))
}

/// Whether the file is gzipped.
pub(super) fn is_gzip(path: &Path) -> Result<bool> {
    let mut first = [0; 2];
    let mut file = File::open(path).at(path.display())?;
    Ok(fill(&mut file, &mut first).at(path.display())? == 2 && first == [0x1f, 0x8b])
}

/// The first bytes, unpacked, as many as there are up to `most`.
pub(super) fn first_bytes(path: &Path, most: usize) -> Result<Vec<u8>> {
    let mut first = vec![0; most];
    let mut reader = open_bytes(path)?;
    // What does not unpack is of no format; reading it as one says more.
    let length = fill(&mut reader, &mut first).unwrap_or(0);
    first.truncate(length);
    Ok(first)
}

/// Fills as much of `into` as there is.
pub(super) fn fill(reader: &mut impl Read, into: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match reader.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Names the file of an error while its bytes are read; what does not unpack is damaged.
pub(super) fn broken(path: &Path, e: &std::io::Error) -> Error {
    let read: Error =
        Err::<(), _>(std::io::Error::new(e.kind(), e.to_string())).at(path.display()).expect_err("made from an error");
    if is_gzip(path).unwrap_or(false) {
        return Error::input(format!("{}: does not unpack: {e}", path.display()))
            .hint("the file was cut short or is damaged: fetch it again");
    }
    read
}
