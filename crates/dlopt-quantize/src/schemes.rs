//! Schemes: named combinations of number format, granularity and activations.
//!
//! Names follow compressed-tensors: `W4A16` is 4-bit weights and 16-bit activations.

use std::fmt;

use dlopt_checkpoint::{Dtype, Error, Result};
use serde_json::{Value, json};

use crate::formats::{Format, format_named};

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// All of a tensor.
    Tensor,
    /// Those of an output.
    Channel,
    /// This many consecutive ones of an output.
    Group(usize),
    /// Those of a rectangle.
    Block {
        /// Its height, in outputs.
        rows: usize,
        /// Its width, in inputs.
        columns: usize,
    },
}

impl Granularity {
    /// Reads `tensor`, `channel` or a group size.
    ///
    /// # Errors
    /// When the text is none of them.
    pub fn parse(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tensor" => Ok(Self::Tensor),
            "channel" => Ok(Self::Channel),
            number => match number.parse() {
                Ok(size) if size > 0 => Ok(Self::Group(size)),
                _ => Err(Error::usage(format!("`{text}` is no granularity"))
                    .hint("take `tensor`, `channel` or a group size such as 128")),
            },
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor => write!(f, "tensor"),
            Self::Channel => write!(f, "channel"),
            Self::Group(size) => write!(f, "group {size}"),
            Self::Block { rows, columns } => write!(f, "block {rows}x{columns}"),
        }
    }
}

/// What a runtime does with activations. Only the config says it; nothing is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// They stay as they are.
    Dense,
    /// Int8, a scale for each token.
    Int8Token,
    /// FP8, a scale for each token.
    Fp8Token,
    /// FP8, a scale for 128 inputs of each token.
    Fp8Group128,
}

impl Activations {
    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Dense => "as they are",
            Self::Int8Token => "int8, dynamic, a scale per token",
            Self::Fp8Token => "fp8, dynamic, a scale per token",
            Self::Fp8Group128 => "fp8, dynamic, a scale per 128 inputs",
        }
    }
}

/// What weights become.
#[derive(Clone, Copy, Debug)]
pub enum Storage {
    /// Codes with scales.
    Codes(&'static dyn Format),
    /// Floats of this type.
    Dense(Dtype),
}

impl Storage {
    /// The format's name in files; a dtype's for dense storage.
    pub fn name(self) -> &'static str {
        match self {
            Self::Codes(format) => format.plugin().name,
            Self::Dense(dtype) => dlopt_checkpoint::dtype_name(dtype),
        }
    }
}

/// A row of the table of schemes.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name; case does not matter.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// Bits of a code.
    pub bits: u32,
    /// `int` or `float`.
    pub numbers: &'static str,
    /// Whether zero points are left out.
    pub is_symmetric: bool,
    /// Which weights share a scale, unless asked otherwise; `None` where there are no scales.
    pub granularity: Option<Granularity>,
    /// What a runtime does with activations.
    pub activations: Activations,
    /// The stored format's name; a dtype's for dense storage.
    pub format: &'static str,
}

impl Preset {
    /// Whether a weight of exactly 0 stays exactly 0. Every scheme here does, pruned models rely on it.
    pub fn holds_zero(&self) -> bool {
        true
    }
}

const COMPRESSED_TENSORS: &str = "compressed-tensors preset";
const GROUP_128: Option<Granularity> = Some(Granularity::Group(128));
const CHANNEL: Option<Granularity> = Some(Granularity::Channel);
const TENSOR: Option<Granularity> = Some(Granularity::Tensor);
const BLOCK_128: Option<Granularity> = Some(Granularity::Block { rows: 128, columns: 128 });

/// Weight-only integers; the other rows say how they differ.
const W4A16: Preset = Preset {
    name: "W4A16",
    aliases: &["int4"],
    summary: "4-bit integers, weights only: the usual choice for language models",
    source: COMPRESSED_TENSORS,
    bits: 4,
    numbers: "int",
    is_symmetric: true,
    granularity: GROUP_128,
    activations: Activations::Dense,
    format: "pack-quantized",
};

/// FP8 weights; the other rows say how they differ.
const FP8_DYNAMIC: Preset = Preset {
    name: "FP8_DYNAMIC",
    aliases: &["fp8"],
    summary: "8-bit floats, activations too: for GPUs with FP8 units",
    source: COMPRESSED_TENSORS,
    bits: 8,
    numbers: "float",
    is_symmetric: true,
    granularity: CHANNEL,
    activations: Activations::Fp8Token,
    format: "float-quantized",
};

/// Shared values; behind the name may stand the bits of a code.
const CODEBOOK: &str = "CODEBOOK";

/// Every scheme, in the order of help texts.
pub static SCHEMES: &[Preset] = &[
    W4A16,
    Preset {
        name: "W4A16_ASYM",
        aliases: &["int4-asym"],
        summary: "the same with zero points: smaller error, fewer runtimes",
        is_symmetric: false,
        ..W4A16
    },
    Preset { name: "W8A16", aliases: &["int8"], summary: "8-bit integers, weights only", bits: 8, ..W4A16 },
    Preset {
        name: "W3A16",
        aliases: &["int3"],
        summary: "3-bit integers, weights only; w5a16, w6a16 and w7a16 are alike",
        bits: 3,
        ..W4A16
    },
    Preset {
        name: "W2A16",
        aliases: &["int2"],
        summary: "2-bit integers, weights only: a large error",
        bits: 2,
        ..W4A16
    },
    Preset {
        name: "W8A8",
        aliases: &[],
        summary: "8-bit integers, activations too: for integer matrix units",
        bits: 8,
        granularity: CHANNEL,
        activations: Activations::Int8Token,
        format: "int-quantized",
        ..W4A16
    },
    FP8_DYNAMIC,
    Preset {
        name: "FP8_BLOCK",
        aliases: &["fp8-block"],
        summary: "8-bit floats in blocks of 128x128, activations too",
        granularity: BLOCK_128,
        activations: Activations::Fp8Group128,
        ..FP8_DYNAMIC
    },
    Preset {
        name: "FP8A16",
        aliases: &["fp8-weight-only"],
        summary: "8-bit floats, weights only",
        source: "arXiv 2209.05433",
        activations: Activations::Dense,
        format: "naive-quantized",
        ..FP8_DYNAMIC
    },
    Preset {
        name: CODEBOOK,
        aliases: &["shared"],
        summary: "32 values that weights share, the best there are; codebook1 to codebook8 for 2 to 256",
        source: "arXiv 1510.00149",
        bits: 5,
        granularity: TENSOR,
        format: "codebook",
        ..W4A16
    },
    Preset {
        name: "BF16",
        aliases: &["bfloat16"],
        summary: "16-bit floats with the range of 32-bit ones",
        source: "IEEE 754 binary32, upper half",
        bits: 16,
        granularity: None,
        activations: Activations::Dense,
        format: "BF16",
        ..FP8_DYNAMIC
    },
    Preset {
        name: "F16",
        aliases: &["fp16", "float16"],
        summary: "16-bit floats with more precision and less range",
        source: "IEEE 754 binary16",
        bits: 16,
        granularity: None,
        activations: Activations::Dense,
        format: "F16",
        ..FP8_DYNAMIC
    },
];

/// What `--bits`, `--asymmetric` and `--group` change of a preset.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// Bits of a code: 2 to 8; of a codebook 1 to 8.
    pub bits: Option<u32>,
    /// Whether zero points are left out.
    pub is_symmetric: Option<bool>,
    /// Which weights share a scale.
    pub granularity: Option<Granularity>,
}

/// A preset with its overrides: how weights are stored.
#[derive(Clone, Debug)]
pub struct Scheme {
    /// The name it goes by.
    pub name: String,
    /// What weights become.
    pub storage: Storage,
    /// Bits of a code.
    pub bits: u32,
    /// `int` or `float`.
    pub numbers: &'static str,
    /// Whether zero points are left out.
    pub is_symmetric: bool,
    /// Which weights share a scale.
    pub granularity: Granularity,
    /// What a runtime does with activations.
    pub activations: Activations,
}

impl Scheme {
    /// Reads a scheme, with the granularity behind a colon if it is not the usual one: `w4a16`, `w4a16:32`,
    /// `w8a8:tensor`.
    ///
    /// # Errors
    /// When the name is unknown or the combination does not exist.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, granularity) = match text.split_once(':') {
            Some((name, granularity)) => (name, Some(Granularity::parse(granularity)?)),
            None => (text, None),
        };
        Self::new(name, Overrides { granularity, ..Overrides::default() })
    }

    /// A preset, changed as asked.
    ///
    /// # Errors
    /// When the name is unknown or the combination does not exist.
    pub fn new(name: &str, overrides: Overrides) -> Result<Self> {
        let (stem, is_symmetric) = match asymmetric_of(name) {
            Some(stem) => (stem, overrides.is_symmetric.or(Some(false))),
            None => (name.to_owned(), overrides.is_symmetric),
        };
        let (preset, overrides) = match codebook_of(&stem).or(packed_of(&stem)) {
            Some((preset, bits)) => {
                (preset, Overrides { bits: overrides.bits.or(Some(bits)), is_symmetric, ..overrides })
            }
            None => (preset_named(&stem)?, Overrides { is_symmetric, ..overrides }),
        };
        let bits = overrides.bits.unwrap_or(preset.bits);
        let is_symmetric = overrides.is_symmetric.unwrap_or(preset.is_symmetric);
        let granularity = overrides.granularity.or(preset.granularity);
        check(preset, bits, is_symmetric, granularity, overrides.granularity.is_some())?;
        let storage = match format_named(preset.format) {
            Some(format) => Storage::Codes(format),
            None => Storage::Dense(dlopt_checkpoint::dtype_named(preset.format).expect("the table names a dtype")),
        };
        // `w4a16 --bits 2` is W2A16, and `w4a16 --asymmetric` W4A16_ASYM.
        let is_packed = preset.format == "pack-quantized";
        let name = match (is_packed, is_symmetric) {
            (_, true) if preset.name == CODEBOOK => format!("{CODEBOOK}{bits}"),
            (true, true) => format!("W{bits}A16"),
            (true, false) => format!("W{bits}A16_ASYM"),
            (false, true) => preset.name.to_owned(),
            (false, false) => format!("{}_ASYM", preset.name),
        };
        Ok(Self {
            name,
            storage,
            bits,
            numbers: preset.numbers,
            is_symmetric,
            granularity: granularity.unwrap_or(Granularity::Tensor),
            activations: preset.activations,
        })
    }

    /// The format of its codes; `None` when dense.
    pub fn format(&self) -> Option<&'static dyn Format> {
        match self.storage {
            Storage::Codes(format) => Some(format),
            Storage::Dense(_) => None,
        }
    }

    /// The same with another granularity, where a group size does not fit.
    #[must_use]
    pub fn with_granularity(&self, granularity: Granularity) -> Self {
        Self { granularity, ..self.clone() }
    }

    /// Whether both store weights alike and ask the same of a runtime.
    pub fn is_like(&self, other: &Self) -> bool {
        let facts = |s: &Self| (s.storage.name(), s.bits, s.is_symmetric, s.granularity, s.activations);
        facts(self) == facts(other)
    }

    /// In lower case, as notes say it: `w4a16 group 128`.
    pub fn label(&self) -> String {
        let name = self.name.to_ascii_lowercase();
        match self.storage {
            Storage::Codes(_) => format!("{name} {}", self.granularity),
            Storage::Dense(_) => name,
        }
    }

    /// As [`Scheme::parse`] reads it: `w4a16:32`.
    pub fn text(&self) -> String {
        let name = self.name.to_ascii_lowercase();
        match (self.storage, self.granularity) {
            (Storage::Dense(_), _) | (_, Granularity::Block { .. }) => name,
            (_, Granularity::Group(size)) => format!("{name}:{size}"),
            (_, granularity) => format!("{name}:{granularity}"),
        }
    }

    /// Its resolved facts, for history.
    pub fn facts(&self) -> Value {
        match self.storage {
            Storage::Dense(_) => json!({"scheme": self.name}),
            Storage::Codes(_) => json!({
                "scheme": self.name,
                "bits": self.bits,
                "symmetric": self.is_symmetric,
                "granularity": self.granularity.to_string(),
            }),
        }
    }
}

fn preset_named(name: &str) -> Result<&'static Preset> {
    let is = |other: &str| other.eq_ignore_ascii_case(name) || other.replace('_', "-").eq_ignore_ascii_case(name);
    SCHEMES.iter().find(|p| is(p.name) || p.aliases.iter().any(|a| is(a))).ok_or_else(|| {
        let names: Vec<_> = SCHEMES.iter().map(|p| p.name.to_ascii_lowercase()).collect();
        Error::usage(format!("`{name}` is no scheme")).hint(format!("take one of {}", names.join(", ")))
    })
}

/// The stem of a name such as `w8a16_asym` that has no row of its own.
fn asymmetric_of(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let stem = name.strip_suffix("_asym")?;
    let is_stem = preset_named(stem).is_ok() || packed_of(stem).is_some();
    (is_stem && preset_named(&name).is_err()).then(|| stem.to_owned())
}

/// The preset of a name such as `codebook6`, and its bits.
fn codebook_of(name: &str) -> Option<(&'static Preset, u32)> {
    let bits = name.to_ascii_lowercase().strip_prefix("codebook")?.parse().ok()?;
    Some((preset_named(CODEBOOK).ok()?, bits))
}

/// The preset of packed integers whose bits have no row of their own, such as `w6a16`, and its bits.
fn packed_of(name: &str) -> Option<(&'static Preset, u32)> {
    let bits = name.to_ascii_lowercase().strip_prefix('w')?.strip_suffix("a16")?.parse().ok()?;
    if (5..8).contains(&bits) { Some((preset_named(W4A16.name).ok()?, bits)) } else { None }
}

/// Refuses combinations that no layout holds.
fn check(
    preset: &Preset,
    bits: u32,
    is_symmetric: bool,
    granularity: Option<Granularity>,
    is_asked: bool,
) -> Result<()> {
    let name = preset.name.to_ascii_lowercase();
    let refuse = |what: String, hint: &str| Err(Error::usage(format!("{name} {what}")).hint(hint));
    let Some(granularity) = granularity.filter(|_| preset.granularity.is_some()) else {
        if is_asked || bits != preset.bits || !is_symmetric {
            return refuse("has no scales, so nothing about them can be asked for".to_owned(), "leave the option out");
        }
        return Ok(());
    };
    if preset.format == "codebook" {
        if !(1..=8).contains(&bits) {
            return refuse(format!("has 1 to 8 bits, not {bits}"), "take --bits 5");
        }
        if !is_symmetric {
            return refuse(
                "has no zero points, its values lie where they are needed".to_owned(),
                "leave the option out",
            );
        }
    } else if preset.format == "pack-quantized" {
        if !(2..=8).contains(&bits) {
            return refuse(format!("has 2 to 8 bits, not {bits}"), "take --bits 4");
        }
    } else if bits != preset.bits {
        return refuse(format!("has {} bits, not {bits}", preset.bits), "take w4a16 or w2a16 for fewer bits");
    }
    let is_block = matches!(granularity, Granularity::Block { .. });
    if is_block && (preset.name != "FP8_BLOCK" || Some(granularity) != BLOCK_128) {
        return refuse(format!("has no scales by {granularity}"), "take fp8_block for blocks of 128x128");
    }
    if preset.name == "FP8_BLOCK" && !is_block {
        return refuse(
            format!("has scales by block 128x128, not by {granularity}"),
            "take fp8_dynamic for other granularities",
        );
    }
    if preset.numbers == "float" && !is_symmetric {
        return refuse("has no zero points, floats are symmetric".to_owned(), "take w4a16_asym or w8a16");
    }
    let is_group = matches!(granularity, Granularity::Group(_));
    if is_group && !["pack-quantized", "codebook"].contains(&preset.format) {
        return refuse(format!("has scales by channel or tensor, not by {granularity}"), "take --group channel");
    }
    if preset.format == "pack-quantized" && granularity == Granularity::Tensor && !is_symmetric {
        return refuse(
            "with zero points has scales by channel or group, not by tensor".to_owned(),
            "take --group channel",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, overrides: Overrides) -> Result<Scheme> {
        Scheme::new(name, overrides)
    }

    #[test]
    fn names_and_aliases_are_found_in_any_case() {
        for (text, name) in [("w4a16", "W4A16"), ("INT8", "W8A16"), ("fp8", "FP8_DYNAMIC"), ("fp8-block", "FP8_BLOCK")]
        {
            assert_eq!(Scheme::parse(text).unwrap().name, name);
        }
        let error = Scheme::parse("w5a5").unwrap_err();
        assert!(error.what_to_try().unwrap().contains("w4a16_asym"));
    }

    #[test]
    fn every_row_names_a_format_that_is_there() {
        for preset in SCHEMES {
            let scheme = Scheme::parse(preset.name).unwrap();
            assert!(scheme.name == preset.name || scheme.name == format!("{CODEBOOK}{}", preset.bits));
            assert_eq!(scheme.storage.name(), preset.format);
        }
    }

    #[test]
    fn overrides_lead_to_the_scheme_of_that_name() {
        let two = with("w4a16", Overrides { bits: Some(2), ..Overrides::default() }).unwrap();
        assert_eq!((two.name.as_str(), two.bits), ("W2A16", 2));
        let asymmetric = with("int4", Overrides { is_symmetric: Some(false), ..Overrides::default() }).unwrap();
        assert!(asymmetric.is_like(&Scheme::parse("w4a16_asym").unwrap()));
        assert_eq!(Scheme::parse("w4a16:32").unwrap().label(), "w4a16 group 32");
        for text in [
            "w8a16_asym:64",
            "w8a8_asym:channel",
            "fp8_block",
            "fp8_dynamic:tensor",
            "bf16",
            "w2a16:128",
            "w3a16:channel",
            "w5a16:32",
            "w6a16_asym:64",
            "w7a16:tensor",
            "codebook3:64",
        ] {
            assert_eq!(Scheme::parse(text).unwrap().text(), text);
        }
    }

    #[test]
    fn combinations_that_no_layout_holds_are_refused() {
        let asymmetric = Overrides { is_symmetric: Some(false), ..Overrides::default() };
        let tensor = Overrides { granularity: Some(Granularity::Tensor), ..asymmetric };
        let block = Some(Granularity::Block { rows: 128, columns: 128 });
        for (name, overrides) in [
            ("fp8", asymmetric),
            ("bf16", asymmetric),
            ("w4a16", tensor),
            ("w4a16", Overrides { bits: Some(9), ..Overrides::default() }),
            ("w4a16", Overrides { bits: Some(1), ..Overrides::default() }),
            ("w6a16", Overrides { bits: Some(1), ..Overrides::default() }),
            ("w4a16", Overrides { granularity: block, ..Overrides::default() }),
            ("w8a8", Overrides { granularity: Some(Granularity::Group(64)), ..Overrides::default() }),
            ("w8a8", Overrides { bits: Some(4), ..Overrides::default() }),
            ("fp8", Overrides { granularity: Some(Granularity::Group(64)), ..Overrides::default() }),
            ("fp8_block", Overrides { granularity: Some(Granularity::Channel), ..Overrides::default() }),
            ("codebook", asymmetric),
            ("codebook", Overrides { bits: Some(9), ..Overrides::default() }),
            ("codebook0", Overrides::default()),
            ("codebook", Overrides { granularity: block, ..Overrides::default() }),
            ("f16", Overrides { granularity: Some(Granularity::Channel), ..Overrides::default() }),
        ] {
            let error = with(name, overrides).unwrap_err();
            assert_eq!(error.fault(), dlopt_checkpoint::Fault::Usage, "{name}");
            assert!(error.what_to_try().is_some());
        }
        assert!(Scheme::parse("w4a16:0").is_err());
    }
}
