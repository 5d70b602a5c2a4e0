//! What belongs together, read out of the names of files by a regular expression.

use std::path::Path;

use dlopt_checkpoint::{Error, Result};
use regex::Regex;

/// Reads groups out of names.
pub(super) struct Groups(Regex);

impl Groups {
    /// A regular expression whose first pair of brackets is around the group.
    ///
    /// # Errors
    /// When it is none, or has no brackets.
    pub(super) fn new(pattern: &str) -> Result<Self> {
        let hint = "such as --group '^([^_]+)_' for what stands before the first `_` of a name";
        let regex = Regex::new(pattern).map_err(|e| {
            let why = e.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Error::usage(format!("--group {pattern}: no regular expression: {why}")).hint(hint)
        })?;
        if regex.captures_len() < 2 {
            let why = format!("--group {pattern}: has no brackets around what must stay together");
            return Err(Error::usage(why).hint(hint));
        }
        Ok(Self(regex))
    }

    /// The group of a file: what the brackets hold in its name below the folder of its class.
    ///
    /// # Errors
    /// When the expression does not match.
    pub(super) fn of(&self, name: &Path, file: &Path) -> Result<String> {
        let name = name.to_string_lossy();
        let found = self.0.captures(&name).and_then(|all| all.get(1)).filter(|group| !group.is_empty());
        found.map(|group| group.as_str().to_owned()).ok_or_else(|| {
            Error::input(format!("{}: its name does not match --group {}", file.display(), self.0))
                .hint("every file must say what it belongs to")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_brackets_hold_the_group() {
        let groups = Groups::new(r"^(\w+)-(\d+)").unwrap();
        assert_eq!(groups.of(Path::new("ann-3.wav"), Path::new("a/ann-3.wav")).unwrap(), "ann");
        assert!(groups.of(Path::new("ann.wav"), Path::new("a/ann.wav")).is_err());
        assert!(Groups::new("(").err().unwrap().message().contains("no regular expression: unclosed group"));
        assert!(Groups::new("abc").err().unwrap().message().contains("has no brackets"));
    }
}
