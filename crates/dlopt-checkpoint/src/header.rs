//! The header of a checkpoint: names, dtypes, shapes and metadata, in one order.
//!
//! Layout of a file (safetensors format): 8 bytes length of the header text, little-endian; the text, a JSON object;
//! then the tensors back to back in the order of their offsets. There are no holes, so a [`Header`] keeps its tensors
//! in data order and offsets are running sums.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};

use crate::dtype::{Dtype, alignment_bytes, dtype_name, dtype_named, tensor_bytes};
use crate::error::{Error, Result};

/// Longest header text that readers accept, in bytes.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// One tensor as the header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, any string.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its extents, outermost first.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// A tensor of this name, dtype and shape.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), dtype, shape: shape.into() }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Size of its data in bytes. Headers are checked when they are made, so it cannot overflow.
    pub fn bytes(&self) -> u64 {
        (self.elements() as u128 * self.dtype.bitsize() as u128 / 8) as u64
    }
}

/// A checkpoint without its weights. Tensors stand in the order of their data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The tensors, in data order.
    pub tensors: Vec<TensorInfo>,
    /// `__metadata__`: text by key.
    pub metadata: BTreeMap<String, String>,
}

impl Header {
    /// Bytes of all tensors together.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(TensorInfo::bytes).sum()
    }

    /// The index of each tensor by name.
    pub fn by_name(&self) -> HashMap<&str, usize> {
        self.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect()
    }

    /// Where each tensor begins, counted from the end of the header text.
    pub fn offsets(&self) -> Vec<u64> {
        let mut next = 0;
        self.tensors
            .iter()
            .map(|t| {
                let begin = next;
                next += t.bytes();
                begin
            })
            .collect()
    }

    /// The model's `config.json`, when the metadata carries it.
    ///
    /// # Errors
    /// When the text is no JSON object.
    pub fn config(&self) -> Result<Option<serde_json::Map<String, serde_json::Value>>> {
        match self.metadata.get("config") {
            None => Ok(None),
            Some(text) => serde_json::from_str(text)
                .map(Some)
                .map_err(|e| Error::input(format!("the model's config is no JSON object: {e}"))),
        }
    }

    /// The first eight bytes and the header text, padded so that data begin at a multiple of 8.
    ///
    /// # Errors
    /// When the text would be longer than readers accept.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut text = Vec::with_capacity(64 + 96 * self.tensors.len());
        text.push(b'{');
        if !self.metadata.is_empty() {
            text.extend_from_slice(b"\"__metadata__\":");
            push_json(&mut text, &self.metadata);
        }
        let mut begin = 0;
        for tensor in &self.tensors {
            if text.len() > 1 {
                text.push(b',');
            }
            let end = begin + tensor.bytes();
            push_json(&mut text, &tensor.name);
            text.extend_from_slice(b":{\"dtype\":\"");
            text.extend_from_slice(dtype_name(tensor.dtype).as_bytes());
            text.extend_from_slice(b"\",\"shape\":");
            push_json(&mut text, &tensor.shape);
            text.extend_from_slice(format!(",\"data_offsets\":[{begin},{end}]}}").as_bytes());
            begin = end;
        }
        text.push(b'}');
        text.resize(text.len().next_multiple_of(8), b' ');
        if text.len() as u64 > MAX_HEADER_BYTES {
            return Err(Error::input(format!(
                "the header would be {} bytes; readers accept {MAX_HEADER_BYTES}",
                text.len()
            ))
            .hint("write a folder with --max-shard-size, or leave the small files out with --no-files"));
        }
        let mut bytes = Vec::with_capacity(8 + text.len());
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.append(&mut text);
        Ok(bytes)
    }

    /// Whether every tensor would begin at a multiple of its element size.
    pub fn is_aligned(&self) -> bool {
        self.tensors.iter().zip(self.offsets()).all(|(t, begin)| begin % alignment_bytes(t.dtype) as u64 == 0)
    }

    /// Reads the header text of a file whose tensors take `data_bytes` bytes (`None` for a stream of unknown length).
    ///
    /// # Errors
    /// When the text is no header, or when the file and its header disagree. The message names tensor and byte.
    pub fn from_text(text: &[u8], data_bytes: Option<u64>) -> Result<Self> {
        let text = std::str::from_utf8(text)
            .map_err(|e| Error::input(format!("the header is not UTF-8 at byte {}", 8 + e.valid_up_to())))?;
        let raw = parse(text)?;
        let header = check(raw, data_bytes)?;
        cross_check(text, &header)?;
        Ok(header)
    }
}

/// Reads the length of the header text from the first eight bytes of a file of `file_bytes` bytes.
///
/// # Errors
/// When the length exceeds what readers accept, or the file.
pub fn header_text_bytes(first: [u8; 8], file_bytes: Option<u64>) -> Result<usize> {
    let length = u64::from_le_bytes(first);
    if length > MAX_HEADER_BYTES {
        return Err(Error::input(format!(
            "the first 8 bytes give a header of {length} bytes; the format allows {MAX_HEADER_BYTES}"
        ))
        .hint("this is probably no safetensors file"));
    }
    if let Some(file) = file_bytes
        && length > file.saturating_sub(8)
    {
        return Err(Error::input(format!(
            "the header should take {length} bytes from byte 8 on, but the file ends at byte {file}"
        ))
        .hint("the file was cut short: fetch it again"));
    }
    Ok(length as usize)
}

fn push_json(text: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(text, value).expect("strings, numbers and maps of strings always serialise");
}

/// What the text says, in the order it says it.
#[derive(Default)]
struct Raw {
    metadata: Option<BTreeMap<String, String>>,
    tensors: Vec<(String, RawInfo)>,
}

#[derive(serde::Deserialize)]
struct RawInfo {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

fn parse(text: &str) -> Result<Raw> {
    let mut json = serde_json::Deserializer::from_str(text);
    let raw = json.deserialize_map(HeaderVisitor).and_then(|raw| json.end().map(|()| raw));
    raw.map_err(|e| Error::input(format!("the header is broken: {e}")).hint("the file is damaged: fetch it again"))
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        use serde::de::Error as _;
        let mut raw = Raw::default();
        let mut seen_metadata = false;
        let mut seen = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if seen_metadata {
                    return Err(A::Error::custom("`__metadata__` stands twice"));
                }
                seen_metadata = true;
                raw.metadata = map
                    .next_value::<Option<BTreeMap<String, String>>>()
                    .map_err(|e| A::Error::custom(format!("`__metadata__`: {e}")))?;
                continue;
            }
            let info = map.next_value_seed(InfoSeed).map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?;
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("tensor `{name}` stands twice")));
            }
            raw.tensors.push((name, info));
        }
        Ok(raw)
    }
}

/// Takes a tensor's entry as an object only; serde alone would also take an array.
struct InfoSeed;

impl<'de> DeserializeSeed<'de> for InfoSeed {
    type Value = RawInfo;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<RawInfo, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for InfoSeed {
    type Value = RawInfo;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawInfo, A::Error> {
        use serde::de::Error as _;
        let (mut dtype, mut shape, mut data_offsets) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.as_str() {
                "dtype" => dtype.replace(map.next_value()?).is_some(),
                "shape" => shape.replace(map.next_value()?).is_some(),
                "data_offsets" => data_offsets.replace(map.next_value()?).is_some(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if twice {
                return Err(A::Error::custom(format!("`{key}` stands twice")));
            }
        }
        Ok(RawInfo {
            dtype: dtype.ok_or_else(|| A::Error::missing_field("dtype"))?,
            shape: shape.ok_or_else(|| A::Error::missing_field("shape"))?,
            data_offsets: data_offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?,
        })
    }
}

/// Puts the tensors into data order and checks each against the next and against the file.
fn check(raw: Raw, data_bytes: Option<u64>) -> Result<Header> {
    let mut tensors = raw.tensors;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut header = Header { tensors: Vec::with_capacity(tensors.len()), metadata: raw.metadata.unwrap_or_default() };
    let mut expected = 0;
    for (name, info) in tensors {
        let at = |message: String| Error::input(format!("tensor `{name}`: {message}"));
        let dtype = dtype_named(&info.dtype).ok_or_else(|| {
            at(format!("unknown dtype `{}`", info.dtype)).hint("dtypes are written like F32, BF16, F8_E4M3")
        })?;
        let shape = info
            .shape
            .iter()
            .map(|&dim| usize::try_from(dim).map_err(|_| at(format!("dimension {dim} does not fit this machine"))))
            .collect::<Result<Vec<_>>>()?;
        let bytes = tensor_bytes(dtype, &shape).map_err(|e| at(e.message().to_owned()))?;
        let (begin, end) = info.data_offsets;
        if end < begin {
            return Err(at(format!("offsets end at {end}, before they begin at {begin}")));
        }
        if end - begin != bytes {
            return Err(at(format!(
                "shape {shape:?} of {} takes {bytes} bytes, its offsets {begin}..{end} hold {}",
                info.dtype,
                end - begin
            )));
        }
        if begin < expected {
            return Err(at(format!(
                "begins at byte {begin} of the data, inside the tensor before it (ends at {expected})"
            )));
        }
        if begin > expected {
            return Err(at(format!("begins at byte {begin} of the data, leaving a hole from byte {expected}")));
        }
        expected = end;
        header.tensors.push(TensorInfo { name, dtype, shape });
    }
    if let Some(found) = data_bytes
        && found != expected
    {
        let error = Error::input(format!("the tensors take {expected} bytes, the file holds {found} after its header"));
        return Err(if found < expected {
            error.hint("the file was cut short: fetch it again")
        } else {
            error.hint("the file has bytes no tensor owns: fetch it again")
        });
    }
    Ok(header)
}

/// The reference reader must agree with ours on every tensor.
fn cross_check(text: &str, header: &Header) -> Result<()> {
    let disagree = |what: String| Error::input(format!("the safetensors reference refuses this header: {what}"));
    let reference: safetensors::tensor::Metadata = serde_json::from_str(text).map_err(|e| disagree(e.to_string()))?;
    for tensor in &header.tensors {
        let info =
            reference.info(&tensor.name).ok_or_else(|| disagree(format!("tensor `{}` is not there", tensor.name)))?;
        if info.dtype != tensor.dtype || info.shape != tensor.shape {
            return Err(disagree(format!("tensor `{}` differs", tensor.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Header> {
        let first = bytes.get(..8).ok_or_else(|| Error::input("short"))?.try_into().unwrap();
        let length = header_text_bytes(first, Some(bytes.len() as u64))?;
        Header::from_text(&bytes[8..8 + length], Some((bytes.len() - 8 - length) as u64))
    }

    #[test]
    fn an_empty_header_is_sixteen_bytes() {
        let bytes = Header::default().to_bytes().unwrap();
        assert_eq!(bytes, b"\x08\0\0\0\0\0\0\0{}      ");
        assert_eq!(read(&bytes).unwrap(), Header::default());
    }

    #[test]
    fn tensors_are_kept_in_data_order() {
        let text = br#"{"b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
        let header = Header::from_text(text, Some(5)).unwrap();
        let names: Vec<_> = header.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        let text = br#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
        let error = Header::from_text(text, Some(2)).unwrap_err();
        assert!(error.message().contains("tensor `a` stands twice"), "{error}");
    }

    fn any_info() -> impl Strategy<Value = (String, Dtype, Vec<usize>)> {
        let dtype = (0..DTYPES_LEN).prop_map(|i| crate::dtype::DTYPES[i].0);
        ("\\PC{0,12}", dtype, prop::collection::vec(0usize..5, 0..4)).prop_map(|(name, dtype, mut shape)| {
            // Sub-byte dtypes must fill whole bytes.
            if dtype.bitsize() < 8 {
                shape.push(4);
            }
            (name, dtype, shape)
        })
    }

    const DTYPES_LEN: usize = crate::dtype::DTYPES.len();

    proptest! {
        #[test]
        fn any_header_survives_write_and_read(
            infos in prop::collection::vec(any_info(), 0..12),
            metadata in prop::collection::btree_map("\\PC{0,8}", "\\PC{0,8}", 0..4),
        ) {
            let mut header = Header { tensors: Vec::new(), metadata };
            for (name, dtype, shape) in infos {
                if name != "__metadata__" && header.tensors.iter().all(|t| t.name != name) {
                    header.tensors.push(TensorInfo { name, dtype, shape });
                }
            }
            let mut bytes = header.to_bytes().unwrap();
            prop_assert_eq!(bytes.len() % 8, 0);
            bytes.resize(bytes.len() + header.data_bytes() as usize, 0);
            let mut back = read(&bytes).unwrap();
            // Empty tensors share a begin with the tensor after them: compare as sets, then the sizes.
            back.tensors.sort_by(|a, b| a.name.cmp(&b.name));
            header.tensors.sort_by(|a, b| a.name.cmp(&b.name));
            prop_assert_eq!(back, header);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::from_text(&text, Some(3));
        }
    }
}
