//! Rules: how many weights of a tensor go, by its name; the first that matches wins.

use dlopt_checkpoint::{Choice, Error, Header, LayerKind, NameGlob, Result, Selection, must_match};

use crate::prune::KINDS;

/// Kinds that a rule with wildcards may select beside those that are pruned by default.
const MATRIX_KINDS: [LayerKind; 3] = [LayerKind::Embedding, LayerKind::Head, LayerKind::Unknown];

/// Kinds that only a full name selects.
const OTHER_KINDS: [LayerKind; 3] = [LayerKind::Norm, LayerKind::Bias, LayerKind::FixedTransform];

/// A glob over tensor names and what it does.
#[derive(Clone, Debug)]
pub struct ShareRule {
    /// The tensors it is about.
    pub glob: NameGlob,
    /// The share of zeros that each of them gets, 0..=1, whatever its kind, if it is a matrix; `None` leaves them as they
    /// are.
    pub share: Option<f64>,
}

impl ShareRule {
    /// Reads `GLOB=SHARE` or `GLOB=skip`.
    ///
    /// # Errors
    /// When the text is no rule.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: String| Error::usage(what).hint("write 'GLOB=SHARE' or 'GLOB=skip', as in '*.o_proj.*=0.5'");
        let (glob, share) = text.rsplit_once('=').ok_or_else(|| wrong(format!("`{text}` is no rule")))?;
        let share = match share.parse::<f64>() {
            _ if share.eq_ignore_ascii_case("skip") => None,
            Ok(share) if (0.0..=1.0).contains(&share) => Some(share),
            _ => return Err(wrong(format!("`{text}` is no rule: `{share}` is no share of zeros in 0..=1"))),
        };
        Ok(Self { glob: NameGlob::new(glob)?, share })
    }

    /// As it would be written.
    pub fn text(&self) -> String {
        format!("{}={}", self.glob.text(), self.share.map_or("skip".to_owned(), |share| share.to_string()))
    }
}

/// The share of zeros of a tensor, if it is to have one: that of its rule, else that of all.
pub(crate) fn share_of(rules: &[ShareRule], of_all: Option<f64>, name: &str) -> Option<f64> {
    rules.iter().find(|rule| rule.glob.matches(name)).map_or(of_all, |rule| rule.share)
}

/// Selected tensors, and why others are not. Without a share of all, only those that a rule names are.
pub(crate) fn choose(
    header: &Header,
    selection: &Selection,
    rules: &[ShareRule],
    has_share: bool,
) -> Result<Vec<Choice>> {
    rules.iter().try_for_each(|rule| must_match(&rule.glob, header))?;
    let mut choices = selection.choose(header, &KINDS)?;
    if rules.is_empty() && has_share {
        return Ok(choices);
    }
    let asked = selection.choose(header, &[&KINDS[..], &MATRIX_KINDS, &OTHER_KINDS].concat())?;
    for ((choice, asked), tensor) in choices.iter_mut().zip(asked).zip(&header.tensors) {
        match rules.iter().find(|rule| rule.glob.matches(&tensor.name)) {
            None if has_share => {}
            None => {
                choice.skipped.get_or_insert("no rule names it".to_owned());
            }
            Some(rule) if rule.share.is_none() => {
                choice.skipped.get_or_insert("left out by a rule".to_owned());
            }
            Some(rule) => {
                let is_named = rule.glob.is_exact(&tensor.name);
                let kind = choice.layer.kind;
                if is_named || KINDS.contains(&kind) || MATRIX_KINDS.contains(&kind) {
                    *choice = Choice { is_named: is_named || choice.is_named, ..asked };
                }
                let is_excluded = selection.exclude.iter().any(|glob| glob.matches(&tensor.name));
                if let (Some(reason), true, false) = (&choice.skipped, is_named, is_excluded) {
                    let what = format!("tensor `{}` was named, but cannot be taken: {reason}", tensor.name);
                    return Err(Error::input(what));
                }
            }
        }
    }
    Ok(choices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_glob_and_a_share() {
        for text in ["a.*=0.5", "*=skip", "b=1", "b=0"] {
            assert_eq!(ShareRule::parse(text).unwrap().text(), text);
        }
        for text in ["a", "a=", "a=half", "a=1.5", "a=-0.1", "a=NaN"] {
            assert!(ShareRule::parse(text).unwrap_err().what_to_try().is_some(), "{text}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let rules = ["a.b=0.25", "a.*=skip", "*=0.75"].map(|text| ShareRule::parse(text).unwrap());
        let share = |name: &str| share_of(&rules, Some(0.5), name);
        assert_eq!([share("a.b"), share("a.c"), share("c")], [Some(0.25), None, Some(0.75)]);
        assert_eq!(share_of(&rules[..2], Some(0.5), "c"), Some(0.5));
        assert_eq!(share_of(&rules[..2], None, "c"), None);
    }
}
