//! The directory of a zip archive, which `.npz` and today's `.pth` are.

use std::io::{BufReader, Read};
use std::sync::Mutex;

use zip::CompressionMethod;
use zip::read::{ArchiveOffset, Config, ZipArchive};

use super::pieces::{Bytes, Deflated, Source, Store};
use crate::error::{Error, Result};

/// DEFLATE cannot shrink bytes further than this.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// One member of an archive.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bytes: u64,
    start: u64,
    packed_bytes: u64,
    crc: u32,
    method: CompressionMethod,
}

/// The members of the archive, in the directory's order, without folders.
pub(super) fn entries(source: &Source) -> Result<Vec<Entry>> {
    let damaged = |e: zip::result::ZipError| {
        Error::input(format!("is a damaged zip archive: {e}")).hint("the file was cut short or changed: fetch it again")
    };
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let reader = BufReader::with_capacity(1024, &source.file);
    let mut archive = ZipArchive::with_config(config, reader).map_err(damaged)?;
    if archive.has_duplicate_names() {
        return Err(Error::input("is a zip archive in which a name stands twice"));
    }
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(damaged)?;
        if member.is_dir() {
            continue;
        }
        let name = member.name().map_err(damaged)?.into_owned();
        let wrong = |what: String| Err(Error::input(format!("member `{}` {what}", super::shown(&name))));
        if member.encrypted() {
            return wrong("is encrypted".to_owned());
        }
        let Some(start) = member.data_start() else {
            return wrong("has no data".to_owned());
        };
        let (packed_bytes, bytes) = (member.compressed_size(), member.size());
        if start.checked_add(packed_bytes).is_none_or(|end| end > source.bytes) {
            return wrong(format!("should take {packed_bytes} bytes from byte {start} on; the file ends before"));
        }
        let method = member.compression();
        let is_possible = match method {
            CompressionMethod::Stored => bytes == packed_bytes,
            CompressionMethod::Deflated => bytes / MAX_DEFLATE_RATIO <= packed_bytes,
            _ => true,
        };
        if !is_possible {
            return wrong(format!("says {packed_bytes} bytes unpack to {bytes}, which cannot be"));
        }
        let crc = member.crc32();
        entries.push(Entry { name, bytes, start, packed_bytes, crc, method });
    }
    Ok(entries)
}

impl Entry {
    /// Its unpacked bytes as a stream.
    pub(super) fn open<'a>(&self, source: &'a Source) -> Result<Box<dyn Read + 'a>> {
        let section = source.section(self.start, self.packed_bytes);
        match self.method {
            CompressionMethod::Stored => Ok(Box::new(section)),
            CompressionMethod::Deflated => Ok(Box::new(flate2::read::DeflateDecoder::new(section).take(self.bytes))),
            _ => Err(self.unknown_method()),
        }
    }

    /// Where its unpacked bytes begin, once `source` has its place in the store.
    pub(super) fn place(&self, store: &mut Store, source: usize) -> Result<Bytes> {
        match self.method {
            CompressionMethod::Stored => Ok(Bytes::Plain { source, offset: self.start }),
            CompressionMethod::Deflated => {
                store.members.push(Deflated {
                    source,
                    name: self.name.clone(),
                    start: self.start,
                    packed_bytes: self.packed_bytes,
                    unpacked_bytes: self.bytes,
                    crc: self.crc,
                    unpacked: Mutex::new(None),
                });
                Ok(Bytes::Deflated { member: store.members.len() - 1, offset: 0 })
            }
            _ => Err(self.unknown_method()),
        }
    }

    fn unknown_method(&self) -> Error {
        Error::input(format!("member `{}` is packed with {:?}", super::shown(&self.name), self.method))
            .hint("dlopt reads stored and deflated members: pack it again with one of them")
    }
}
