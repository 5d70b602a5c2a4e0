//! Among which weights the smallest are sought while training, and what leaves as a whole.

use std::fmt;

use dlopt_checkpoint::{Error, Result};
use dlopt_prune::{Maker, Pattern, Structure};
use serde::{Deserialize, Serialize};

/// Longest side of a block.
const LONGEST_SIDE: usize = 1024;

/// What leaves a network as a whole while it is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Leaving {
    /// Single weights.
    #[default]
    Weights,
    /// Weights of each group of `m` along the inputs until `n` are left: first one of each group, then the next, as Kao et
    /// al., 2022, arXiv:2209.07617, let the mask decay.
    NOfM {
        /// Weights that stay of a group.
        n: usize,
        /// Weights of a group.
        m: usize,
    },
    /// Blocks of a weight seen as `[out, in * taps]`; the last of a row and a column may be smaller. A block counts by the
    /// mean of its squares (Narang et al., 2017, arXiv:1711.02782, take the largest magnitude).
    Block {
        /// Outputs of a block.
        rows: usize,
        /// Inputs of a block.
        columns: usize,
    },
    /// Channels that layers of these kinds make: all that writes and reads them becomes 0.
    Channels(Vec<Maker>),
}

impl Leaving {
    /// Reads `unstructured`, `2:4`, `4x1`, or `channels`, `neurons`, `hidden` with commas between them; nothing where the text
    /// is none of them.
    ///
    /// # Errors
    /// When the numbers of a pattern make no sense, or whole layers are asked for.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if text.contains(':') || text == "unstructured" {
            return Ok(Some(match Pattern::parse(text)? {
                Pattern::Unstructured => Self::Weights,
                Pattern::NOfM { n, m } => Self::NOfM { n, m },
            }));
        }
        if let Some((rows, columns)) = text.split_once('x')
            && let (Ok(rows), Ok(columns)) = (rows.parse::<usize>(), columns.parse::<usize>())
        {
            let sides = 1..=LONGEST_SIDE;
            if !sides.contains(&rows) || !sides.contains(&columns) || rows * columns < 2 {
                return Err(Error::usage(format!(
                    "blocks of {text} weights: sides are 1 to {LONGEST_SIDE}, and a block has two weights or more"
                ))
                .hint("4x1, four outputs of one input; or unstructured"));
            }
            return Ok(Some(Self::Block { rows, columns }));
        }
        match Structure::parse(text)? {
            Some(Structure::Channels(makers)) => Ok(Some(Self::Channels(makers))),
            Some(Structure::Layers) => Err(Error::usage("whole layers do not leave while training")
                .hint("dlopt prune --pattern layers takes them out, and training goes on from there")),
            None => Ok(None),
        }
    }

    /// The share of zeros that the pattern itself is, if it is one.
    pub fn share(&self) -> Option<f64> {
        match self {
            Self::NOfM { n, m } => Some(1.0 - *n as f64 / *m as f64),
            _ => None,
        }
    }

    /// What a sparsity is a share of, in words.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Channels(_) => "channels",
            _ => "weights",
        }
    }

    /// Whether it is what is pruned when nothing is said.
    pub(crate) fn is_weights(&self) -> bool {
        *self == Self::Weights
    }
}

impl fmt::Display for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weights => f.write_str("unstructured"),
            Self::NOfM { n, m } => write!(f, "{n}:{m}"),
            Self::Block { rows, columns } => write!(f, "{rows}x{columns}"),
            Self::Channels(makers) => Structure::Channels(makers.clone()).fmt(f),
        }
    }
}

impl TryFrom<String> for Leaving {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match Self::parse(&text) {
            Ok(Some(own)) => Ok(own),
            Ok(None) => Err(format!("no pattern is named `{text}`")),
            Err(error) => Err(error.message().to_owned()),
        }
    }
}

impl From<Leaving> for String {
    fn from(own: Leaving) -> Self {
        own.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_they_are_written() {
        for text in ["unstructured", "2:4", "1:16", "4x1", "16x16", "channels", "channels,neurons", "hidden"] {
            assert_eq!(Leaving::parse(text).unwrap().unwrap().to_string(), text);
        }
        for text in ["cubic", "0.5", "x", "4x", "ax1", "every=4"] {
            assert_eq!(Leaving::parse(text).unwrap(), None, "{text}");
        }
        for text in ["4:4", "0:2", "1x1", "0x4", "4x9999", "layers", "channels,layers"] {
            assert!(Leaving::parse(text).is_err(), "{text}");
        }
        assert_eq!(Leaving::NOfM { n: 1, m: 4 }.share(), Some(0.75));
    }
}
