//! Patterns: among which weights the keys are compared.

pub(crate) mod n_of_m;
mod structure;
pub(crate) mod unstructured;

use std::fmt;

use dlopt_checkpoint::{Error, Result};

use crate::Plugin;

pub use n_of_m::kept_of;
pub use structure::Structure;

/// One line for each pattern.
static TABLE: [Plugin; 6] = [
    unstructured::PLUGIN,
    n_of_m::PLUGIN,
    structure::PLUGINS[0],
    structure::PLUGINS[1],
    structure::PLUGINS[2],
    structure::PLUGINS[3],
];

/// The patterns there are.
pub fn patterns() -> &'static [Plugin] {
    &TABLE
}

/// Where zeros may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Anywhere.
    Unstructured,
    /// `n` weights are kept of each `m` along the inputs.
    NOfM {
        /// Weights kept.
        n: usize,
        /// Weights in a group.
        m: usize,
    },
}

impl Pattern {
    /// Reads `unstructured` or `N:M`.
    ///
    /// # Errors
    /// When it is neither, or N is not in 1..M.
    pub fn parse(text: &str) -> Result<Self> {
        if text == unstructured::PLUGIN.name {
            return Ok(Self::Unstructured);
        }
        n_of_m::parse(text)?.ok_or_else(|| {
            Error::usage(format!("no pattern is named `{text}`"))
                .hint("`unstructured`, N:M as in 2:4, or channels, neurons, hidden, layers")
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstructured => f.write_str("unstructured"),
            Self::NOfM { n, m } => write!(f, "{n}:{m}"),
        }
    }
}
