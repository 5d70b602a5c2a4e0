//! What may be done to a tensor: a scheme, or a share of zeros.

use dlopt_checkpoint::{Error, Result};
use dlopt_quantize::Scheme;

/// What may be done to a tensor.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is stored by a scheme.
    Scheme(Scheme),
    /// This share of its weights, 0..1, becomes zero, the smallest first, and is stored as a bitmask.
    Sparsity(f64),
}

impl Change {
    /// Reads a scheme as [`Scheme::parse`] does, `w4a16:32`, or a share of zeros, `0.5`.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse(text: &str) -> Result<Self> {
        match text.parse::<f64>() {
            Ok(share) if share > 0.0 && share < 1.0 => Ok(Self::Sparsity(share)),
            Ok(share) => Err(Error::usage(format!("a share of zeros of {share} is not between 0 and 1"))),
            Err(_) => Scheme::parse(text).map(Self::Scheme),
        }
    }

    /// As [`Change::parse`] reads it.
    pub fn text(&self) -> String {
        match self {
            Self::Scheme(scheme) => scheme.text(),
            Self::Sparsity(share) => share.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_scheme_or_a_share() {
        for text in ["w4a16:32", "w2a16_asym:channel", "f16", "0.5"] {
            assert_eq!(Change::parse(text).unwrap().text(), text);
        }
        assert!(Change::parse("1.5").unwrap_err().message().contains("not between 0 and 1"));
        assert!(Change::parse("w9a16").is_err());
    }
}
