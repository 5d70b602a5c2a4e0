//! Rules: which scheme a tensor gets by its name; the first that matches wins.

use dlopt_checkpoint::{Error, NameGlob, Result};

use crate::Scheme;

/// What a rule does to the tensors it matches.
#[derive(Clone, Debug)]
pub enum RuleTarget {
    /// They get this scheme, whatever their kind, if they are matrices.
    Scheme(Scheme),
    /// They stay as they are.
    Skip,
}

/// A glob over tensor names and what it does.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The tensors it is about.
    pub glob: NameGlob,
    /// What it does.
    pub target: RuleTarget,
}

impl Rule {
    /// Reads `GLOB=SCHEME` or `GLOB=skip`; the scheme as [`Scheme::parse`] reads it.
    ///
    /// # Errors
    /// When the text is no rule.
    pub fn parse(text: &str) -> Result<Self> {
        let (glob, target) = text.rsplit_once('=').ok_or_else(|| {
            Error::usage(format!("`{text}` is no rule"))
                .hint("write 'GLOB=SCHEME' or 'GLOB=skip', as in '*.o_proj.*=w8a16'")
        })?;
        let target = match target {
            skip if skip.eq_ignore_ascii_case("skip") => RuleTarget::Skip,
            scheme => RuleTarget::Scheme(Scheme::parse(scheme)?),
        };
        Ok(Self { glob: NameGlob::new(glob)?, target })
    }

    /// As it would be written.
    pub fn text(&self) -> String {
        match &self.target {
            RuleTarget::Skip => format!("{}=skip", self.glob.text()),
            RuleTarget::Scheme(scheme) => format!("{}={}", self.glob.text(), scheme.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_glob_and_a_scheme() {
        let rule = Rule::parse("a.*=w8a8:tensor").unwrap();
        assert_eq!(rule.text(), "a.*=w8a8:tensor");
        assert!(matches!(Rule::parse("*=skip").unwrap().target, RuleTarget::Skip));
        assert!(Rule::parse("a").is_err());
        assert!(Rule::parse("a=nothing").is_err());
    }
}
