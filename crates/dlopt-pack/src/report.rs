//! What packing gained, and how near it came to the entropy of the planes.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a plane holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Exponents of floating-point numbers.
    Exponents,
    /// Their signs and mantissas.
    Mantissas,
    /// Codes of quantized weights, and places in palettes.
    Codes,
    /// Where zeros are.
    Zeros,
    /// Bytes of other numbers.
    Bytes,
    /// Headers of checkpoints.
    Headers,
    /// Other files.
    Files,
}

impl Kind {
    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Exponents => "exponents",
            Self::Mantissas => "signs and mantissas",
            Self::Codes => "codes",
            Self::Zeros => "places of zeros",
            Self::Bytes => "other bytes",
            Self::Headers => "headers",
            Self::Files => "other files",
        }
    }
}

/// All planes of a kind.
#[derive(Clone, Debug, Serialize)]
pub struct PlaneReport {
    /// What they hold.
    pub kind: Kind,
    /// Symbols in them, one a byte (several codes may share a byte of the checkpoint).
    pub symbols: u64,
    /// Bytes that the entropy of the blocks' histograms allows at least.
    pub entropy_bytes: f64,
    /// Bytes they take.
    pub packed_bytes: u64,
}

/// What was packed.
#[derive(Clone, Debug, Serialize)]
pub struct PackReport {
    /// Files in the container.
    pub files: u64,
    /// Tensors in them.
    pub tensors: u64,
    /// Bytes of the files.
    pub bytes_before: u64,
    /// Bytes of the container, to the last.
    pub bytes_after: u64,
    /// The first over the second.
    pub ratio: f64,
    /// Planes by kind.
    pub planes: Vec<PlaneReport>,
}

/// Sums over planes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<Kind, (u64, f64, u64)>);

impl Tally {
    pub(crate) fn add(&mut self, kind: Kind, symbols: usize, entropy_bytes: f64, packed: usize) {
        let sums = self.0.entry(kind).or_default();
        sums.0 += symbols as u64;
        sums.1 += entropy_bytes;
        sums.2 += packed as u64;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (kind, (symbols, entropy, packed)) in &other.0 {
            let sums = self.0.entry(*kind).or_default();
            sums.0 += symbols;
            sums.1 += entropy;
            sums.2 += packed;
        }
    }

    pub(crate) fn planes(&self) -> Vec<PlaneReport> {
        let report = |(kind, sums): (&Kind, &(u64, f64, u64))| PlaneReport {
            kind: *kind,
            symbols: sums.0,
            entropy_bytes: sums.1,
            packed_bytes: sums.2,
        };
        self.0.iter().map(report).collect()
    }
}
