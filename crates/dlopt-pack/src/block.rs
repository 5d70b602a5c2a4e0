//! A block: what is coded, checked and decoded by itself.

use dlopt_checkpoint::{Error, Result};

use crate::coder::{bound, decode, encode, histogram};
use crate::container::{put_number, take_number};
use crate::report::{Kind, Tally};
use crate::split::{Plane, Split};

/// Level of zstd for what is text and not numbers.
const TEXT_LEVEL: i32 = 19;
/// Cut as said, or as bytes because the padding of codes is not empty.
const AS_SAID: u8 = 0;
const AS_BYTES: u8 = 1;
/// Text as it is, or compressed.
const STORED: u8 = 0;
const COMPRESSED: u8 = 1;
/// Bytes that a block may take beyond what it decodes to: methods, lengths, tables.
const MOST_OVERHEAD: usize = 1024;

/// A block as it lies in the container, and what became of its planes.
pub(crate) struct Coded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) tally: Tally,
}

/// Codes whole units of numbers.
pub(crate) fn encode_numbers(raw: &[u8], split: Split) -> Result<Coded> {
    let mut payload = Vec::with_capacity(raw.len() / 2);
    let planes = match split {
        Split::Codes { .. } => {
            let planes = split.cut(raw);
            payload.push(if planes.is_some() { AS_SAID } else { AS_BYTES });
            planes
        }
        _ => split.cut(raw),
    };
    let planes = planes.unwrap_or_else(|| vec![Plane { symbols: raw.to_vec(), kind: Kind::Bytes }]);
    let mut tally = Tally::default();
    let last = planes.len() - 1;
    for (i, plane) in planes.iter().enumerate() {
        let histogram = histogram(&plane.symbols);
        let coded = encode(&plane.symbols, &histogram)?;
        if i < last {
            put_number(&mut payload, coded.len() as u64);
        }
        tally.add(plane.kind, plane.symbols.len(), bound(&histogram), coded.len());
        payload.extend_from_slice(&coded);
    }
    Ok(Coded { bytes: framed(raw, &payload), tally })
}

/// Compresses text.
pub(crate) fn encode_text(raw: &[u8], kind: Kind) -> Result<Coded> {
    let compressed = zstd::bulk::compress(raw, TEXT_LEVEL).map_err(|e| Error::input(format!("zstd failed: {e}")))?;
    let (method, body) = if compressed.len() < raw.len() { (COMPRESSED, &compressed[..]) } else { (STORED, raw) };
    let payload = [&[method], body].concat();
    let mut tally = Tally::default();
    tally.add(kind, raw.len(), bound(&histogram(raw)), payload.len());
    Ok(Coded { bytes: framed(raw, &payload), tally })
}

fn framed(raw: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    put_number(&mut bytes, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(raw).to_le_bytes());
    bytes
}

/// The most bytes that the payload of a block can have that decodes to `len`.
pub(crate) fn most_payload(len: usize) -> u64 {
    (8 * len + MOST_OVERHEAD) as u64
}

/// What a block is decoded as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Text,
    Numbers(Split),
}

/// The `len` bytes that a payload was made of.
pub(crate) fn decode_block(payload: &[u8], crc: u32, len: usize, form: Form) -> Result<Vec<u8>> {
    let raw = match form {
        Form::Text => decode_text(payload, len)?,
        Form::Numbers(split) => decode_numbers(payload, len, split)?,
    };
    let found = crc32fast::hash(&raw);
    if found != crc {
        return Err(Error::input(format!("its checksum is {found:08x} and should be {crc:08x}")));
    }
    Ok(raw)
}

fn decode_text(payload: &[u8], len: usize) -> Result<Vec<u8>> {
    let raw = match payload.split_first() {
        Some((&STORED, body)) => body.to_vec(),
        Some((&COMPRESSED, body)) => {
            zstd::bulk::decompress(body, len).map_err(|e| Error::input(format!("zstd cannot read it: {e}")))?
        }
        _ => return Err(Error::input("it is stored in an unknown way")),
    };
    if raw.len() == len { Ok(raw) } else { Err(Error::input(format!("it has {} bytes, expected {len}", raw.len()))) }
}

fn decode_numbers(payload: &[u8], len: usize, split: Split) -> Result<Vec<u8>> {
    let cut_short = || Error::input("it is cut short");
    let mut rest = payload;
    let mut split = split;
    if matches!(split, Split::Codes { .. }) {
        let (&form, behind) = rest.split_first().ok_or_else(cut_short)?;
        rest = behind;
        match form {
            AS_SAID => {}
            AS_BYTES => split = Split::Bytes(1),
            _ => return Err(Error::input("its codes are stored in an unknown way")),
        }
    }
    let lens = split.lens(len);
    let mut planes = Vec::with_capacity(lens.len());
    for (i, &symbols) in lens.iter().enumerate() {
        let bytes = if i + 1 < lens.len() {
            let length = take_number(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or_else(cut_short)?;
            let (plane, behind) = rest.split_at_checked(length).ok_or_else(cut_short)?;
            rest = behind;
            plane
        } else {
            rest
        };
        planes.push(decode(bytes, symbols)?);
    }
    let mut raw = vec![0; len];
    split.join(&planes, &mut raw);
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opened(coded: &Coded) -> (&[u8], u32) {
        let mut rest = &coded.bytes[..];
        let length = take_number(&mut rest).unwrap() as usize;
        let crc = u32::from_le_bytes(rest[length..].try_into().unwrap());
        (&rest[..length], crc)
    }

    #[test]
    fn a_wrong_byte_is_found_by_the_checksum() {
        let raw: Vec<u8> = (0..4000_u32).flat_map(|i| (i as f32).sin().to_le_bytes()).collect();
        let coded = encode_numbers(&raw, Split::F32).unwrap();
        let (payload, crc) = opened(&coded);
        assert_eq!(decode_block(payload, crc, raw.len(), Form::Numbers(Split::F32)).unwrap(), raw);
        let mut wrong = payload.to_vec();
        wrong[900] ^= 4;
        let error = decode_block(&wrong, crc, raw.len(), Form::Numbers(Split::F32)).unwrap_err();
        assert!(error.message().contains("its checksum is"), "{error}");
    }

    #[test]
    fn codes_with_something_in_their_padding_are_kept_too() {
        let split = Split::Codes { bits: 3, columns: 9 };
        let raw = [0xff_u8; 4 * 50];
        let coded = encode_numbers(&raw, split).unwrap();
        let (payload, crc) = opened(&coded);
        assert_eq!(payload[0], AS_BYTES);
        assert_eq!(decode_block(payload, crc, raw.len(), Form::Numbers(split)).unwrap(), raw);
    }

    #[test]
    fn text_that_cannot_be_compressed_costs_a_byte() {
        let coded = encode_text(b"abc", Kind::Files).unwrap();
        assert_eq!(opened(&coded).0, b"\0abc");
    }

    proptest! {
        #[test]
        fn a_payload_of_any_bytes_is_an_error_or_has_the_length(
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            units in 0_usize..60,
        ) {
            for split in [Split::Bytes(2), Split::Bf16, Split::F32, Split::Codes { bits: 5, columns: 3 }] {
                let len = units * split.unit();
                prop_assert!(decode_numbers(&payload, len, split).is_ok_and(|raw| raw.len() == len)
                    || decode_numbers(&payload, len, split).is_err());
            }
            prop_assert!(decode_text(&payload, units).is_err() || decode_text(&payload, units).unwrap().len() == units);
        }
    }
}
