//! A block: what is coded, checked and decoded by itself.

use dlopt_checkpoint::{Error, Result};
use zstd::zstd_safe::CParameter;

use crate::coder::{bound, decode, encode, histogram};
use crate::container::{put_number, take_number};
use crate::few::{Palette, without_zeros};
use crate::report::{Kind, Tally};
use crate::split::{Plane, Split};

/// Level of zstd for what is text and not numbers.
const TEXT_LEVEL: i32 = 19;
/// How a block of numbers is stored: cut as its tensor is; as bytes, because the padding of codes is not empty; as places in
/// a palette, because it has few values; or zeros apart, because it has many.
const AS_SAID: u8 = 0;
const AS_BYTES: u8 = 1;
const AS_PALETTE: u8 = 2;
const ZEROS_APART: u8 = 3;
/// Text as it is, compressed, or compressed by what headers have in common.
const STORED: u8 = 0;
const COMPRESSED: u8 = 1;
const KNOWN: u8 = 2;
/// What headers have in common: configs, histories, layouts and names of tensors, as zstd takes a dictionary without tables.
/// A header of a few kB takes half as much by it. It stays as it is for good, or containers could no longer be read;
/// another one would be another method.
const HEADERS: &[u8] = include_bytes!("known.txt");
/// Bytes that a block may take beyond what it decodes to: methods, lengths, tables.
const MOST_OVERHEAD: usize = 4096;

/// A block as it lies in the container, and what became of its planes.
pub(crate) struct Coded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) tally: Tally,
}

/// Codes whole units of numbers.
pub(crate) fn encode_numbers(raw: &[u8], split: Split) -> Result<Coded> {
    let mut coded = Planes { payload: Vec::with_capacity(raw.len() / 2), tally: Tally::default() };
    if let Some(palette) = Palette::of(raw, split) {
        coded.payload.extend_from_slice(&[AS_PALETTE, (palette.values.len() / palette.width - 1) as u8]);
        coded.payload.extend_from_slice(&palette.values);
        coded.add(&Plane { symbols: palette.places, kind: Kind::Codes }, true)?;
    } else if let Some((flags, others)) = without_zeros(raw, split) {
        coded.payload.push(ZEROS_APART);
        put_number(&mut coded.payload, others.len() as u64);
        coded.add(&Plane { symbols: flags, kind: Kind::Zeros }, false)?;
        coded.add_all(&split.cut(&others).unwrap_or_default())?;
    } else if let Some(planes) = split.cut(raw) {
        coded.payload.push(AS_SAID);
        coded.add_all(&planes)?;
    } else {
        coded.payload.push(AS_BYTES);
        coded.add(&Plane { symbols: raw.to_vec(), kind: Kind::Bytes }, true)?;
    }
    Ok(Coded { bytes: framed(raw, &coded.payload), tally: coded.tally })
}

/// A payload that grows plane by plane.
struct Planes {
    payload: Vec<u8>,
    tally: Tally,
}

impl Planes {
    fn add_all(&mut self, planes: &[Plane]) -> Result<()> {
        let last = planes.len().saturating_sub(1);
        planes.iter().enumerate().try_for_each(|(i, plane)| self.add(plane, i == last))
    }

    /// The last plane takes what is left, so its length is not said.
    fn add(&mut self, plane: &Plane, is_last: bool) -> Result<()> {
        let histogram = histogram(&plane.symbols);
        let coded = encode(&plane.symbols, &histogram)?;
        if !is_last {
            put_number(&mut self.payload, coded.len() as u64);
        }
        self.tally.add(plane.kind, plane.symbols.len(), bound(&histogram), coded.len());
        self.payload.extend_from_slice(&coded);
        Ok(())
    }
}

/// Compresses text.
pub(crate) fn encode_text(raw: &[u8], kind: Kind) -> Result<Coded> {
    let (own, known) = match kind {
        Kind::Headers => (KNOWN, HEADERS),
        _ => (COMPRESSED, &[][..]),
    };
    let failed = |e: std::io::Error| Error::input(format!("zstd failed: {e}"));
    let mut coder = zstd::bulk::Compressor::with_dictionary(TEXT_LEVEL, known).map_err(failed)?;
    // The length and the checksum stand in the block already.
    coder.set_parameter(CParameter::ContentSizeFlag(false)).map_err(failed)?;
    let compressed = coder.compress(raw).map_err(failed)?;
    let (method, body) = if compressed.len() < raw.len() { (own, &compressed[..]) } else { (STORED, raw) };
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
    let unreadable = |e: std::io::Error| Error::input(format!("zstd cannot read it: {e}"));
    let (known, body) = match payload.split_first() {
        Some((&STORED, body)) => (None, body),
        Some((&COMPRESSED, body)) => (Some(&[][..]), body),
        Some((&KNOWN, body)) => (Some(HEADERS), body),
        _ => return Err(Error::input("it is stored in an unknown way")),
    };
    let raw = match known {
        None => body.to_vec(),
        Some(known) => {
            let mut decoder = zstd::bulk::Decompressor::with_dictionary(known).map_err(unreadable)?;
            decoder.decompress(body, len).map_err(unreadable)?
        }
    };
    if raw.len() == len { Ok(raw) } else { Err(Error::input(format!("it has {} bytes, expected {len}", raw.len()))) }
}

fn decode_numbers(payload: &[u8], len: usize, split: Split) -> Result<Vec<u8>> {
    let (&form, mut rest) = payload.split_first().ok_or_else(cut_short)?;
    match form {
        AS_SAID => joined(rest, len, split),
        AS_BYTES => joined(rest, len, Split::Bytes(1)),
        AS_PALETTE => {
            let width = split.width().ok_or_else(|| Error::input("its codes have a palette"))?;
            let (&last, behind) = rest.split_first().ok_or_else(cut_short)?;
            let count = usize::from(last) + 1;
            let (values, behind) = behind.split_at_checked(count * width).ok_or_else(cut_short)?;
            let places = decode(behind, len / width)?;
            let mut raw = Vec::with_capacity(len);
            for place in places {
                let value = values.get(usize::from(place) * width..).and_then(|from| from.get(..width));
                raw.extend_from_slice(value.ok_or_else(|| Error::input("it has a place beyond its palette"))?);
            }
            Ok(raw)
        }
        ZEROS_APART => {
            let width = split.width().ok_or_else(|| Error::input("its codes have zeros apart"))?;
            let others = take_number(&mut rest).and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= len);
            let others = others.ok_or_else(cut_short)?;
            let flags = decode(take_plane(&mut rest)?, len / width)?;
            if flags.iter().filter(|flag| **flag != 0).count() * width != others {
                return Err(Error::input("its zeros are not as many as it says"));
            }
            let others = joined(rest, others, split)?;
            let (mut raw, mut next) = (vec![0; len], others.chunks_exact(width));
            for (to, _) in raw.chunks_exact_mut(width).zip(&flags).filter(|(_, flag)| **flag != 0) {
                to.copy_from_slice(next.next().ok_or_else(cut_short)?);
            }
            Ok(raw)
        }
        _ => Err(Error::input("its numbers are stored in an unknown way")),
    }
}

fn cut_short() -> Error {
    Error::input("it is cut short")
}

/// Takes a plane with its length from the front.
fn take_plane<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take_number(rest).and_then(|n| usize::try_from(n).ok()).ok_or_else(cut_short)?;
    let (plane, behind) = rest.split_at_checked(length).ok_or_else(cut_short)?;
    *rest = behind;
    Ok(plane)
}

/// All planes of a cut, joined.
fn joined(mut rest: &[u8], len: usize, split: Split) -> Result<Vec<u8>> {
    let lens = split.lens(len);
    let mut planes = Vec::with_capacity(lens.len());
    for (i, &symbols) in lens.iter().enumerate() {
        let bytes = if i + 1 < lens.len() { take_plane(&mut rest)? } else { rest };
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
    fn few_values_are_a_palette_and_many_zeros_stand_apart() {
        let back = |raw: &[u8], split: Split, form: u8| {
            let coded = encode_numbers(raw, split).unwrap();
            let (payload, crc) = opened(&coded);
            assert_eq!(payload[0], form);
            assert_eq!(decode_block(payload, crc, raw.len(), Form::Numbers(split)).unwrap(), raw);
            payload.len()
        };
        let bytes = |value: &dyn Fn(u32) -> f32| (0..30_000).flat_map(|i| value(i).to_le_bytes()).collect::<Vec<u8>>();
        // Sixteen values take half a byte each.
        let shared = bytes(&|i| (i.wrapping_mul(2_654_435_761) >> 28) as f32 * 0.37);
        assert!(back(&shared, Split::F32, AS_PALETTE) < 15_500);
        // One in ten is not zero: half a bit for its place, and some 25 bits for its value.
        let pruned = bytes(&|i| if i % 10 == i / 10 % 10 { (i as f32).sin() } else { 0.0 });
        assert!(back(&pruned, Split::F32, ZEROS_APART) < 3000 * 4 + 2200);
        back(&bytes(&|i| (i as f32).sin()), Split::F32, AS_SAID);
        // Negative zero is no zero.
        back(&bytes(&|i| if i % 3 == 0 { -0.0 } else { (i as f32).sin() }), Split::F32, AS_SAID);
    }

    #[test]
    fn headers_are_compressed_by_what_they_have_in_common() {
        let header = br#"{"model.layers.1.mlp.up_proj.weight":{"dtype":"BF16","shape":[11008,4096],"data_offsets":[0,90177536]}}"#;
        let [plain, known] = [Kind::Files, Kind::Headers].map(|kind| encode_text(header, kind).unwrap());
        for coded in [&plain, &known] {
            let (payload, crc) = opened(coded);
            assert_eq!(decode_block(payload, crc, header.len(), Form::Text).unwrap(), header);
        }
        assert!(2 * known.bytes.len() < plain.bytes.len());
    }

    #[test]
    fn what_headers_have_in_common_never_changes() {
        // Another checksum here means that containers of before cannot be read: leave the file as it is, add a method.
        assert_eq!(crc32fast::hash(HEADERS), 0x371a_570b);
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
