//! Words of a text counted in bins that a hash chooses, so that nothing must be learned (Weinberger et al. 2009): as
//! scikit-learn's `HashingVectorizer` has it, by MurmurHash3 (32 bits, seed 0), the hash's sign being that of the count.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::terms::{Cut, normalise, text};
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// The feature.
pub(super) const KIND: FeatureKind =
    FeatureKind::of::<Hashed>("hashed", "bins", "texts: words counted in bins that a hash chooses (scikit-learn)");

/// Words in bins.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct Hashed(Options);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Bins.
    bins: u32,
    /// Whether half the words count negatively, so that words in one bin cancel out on average.
    sign: bool,
    /// Whether squares are made to sum to 1.
    norm: bool,
    /// Whether upper case stays.
    case: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { bins: 1024, sign: true, norm: true, case: false }
    }
}

impl TryFrom<Options> for Hashed {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        match (1..=1 << 24).contains(&options.bins) {
            true => Ok(Self(options)),
            false => Err(format!("{} bins; wanted 1 to {}", options.bins, 1 << 24)),
        }
    }
}

impl Feature for Hashed {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.0)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let mut values = vec![0.0; self.0.bins as usize];
        Cut::Words.each(text(raw, KIND.name)?, self.0.case, &mut |word| {
            let hash = murmur3(word.as_bytes()) as i32;
            let count = if self.0.sign && hash < 0 { -1.0 } else { 1.0 };
            values[(hash.unsigned_abs() % self.0.bins) as usize] += count;
        });
        if self.0.norm {
            normalise(&mut values);
        }
        out.extend(values.into_iter().map(|x| x as f32));
        Ok(())
    }
}

/// MurmurHash3 of 32 bits with seed 0 (Appleby, 2011).
fn murmur3(bytes: &[u8]) -> u32 {
    let mixed = |block: u32| block.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593);
    let (blocks, rest) = bytes.as_chunks::<4>();
    let mut hash = blocks.iter().fold(0_u32, |hash, &block| {
        (hash ^ mixed(u32::from_le_bytes(block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xE654_6B64)
    });
    if !rest.is_empty() {
        hash ^= mixed(rest.iter().rev().fold(0, |block, &byte| block << 8 | u32::from(byte)));
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ hash >> 13).wrapping_mul(0xC2B2_AE35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_reference() {
        // From MurmurHash3_x86_32 with seed 0.
        assert_eq!(murmur3(b""), 0);
        assert_eq!(murmur3(b"test"), 0xBA6B_D213);
        assert_eq!(murmur3(b"Hello, world!"), 0xC036_3E43);
    }
}
