//! Which tensors a pass works on: the default kinds, narrowed or widened by globs.

use globset::{Glob, GlobMatcher};

use crate::dtype::is_weight_float;
use crate::error::{Error, Result};
use crate::header::Header;
use crate::layers::{Layer, LayerKind, Model};

/// A glob over tensor names; `*` crosses dots.
#[derive(Clone, Debug)]
pub struct NameGlob {
    text: String,
    matcher: GlobMatcher,
}

impl NameGlob {
    /// Compiles a glob.
    ///
    /// # Errors
    /// When the text is no glob.
    pub fn new(text: &str) -> Result<Self> {
        let glob = Glob::new(text).map_err(|e| Error::usage(format!("`{text}` is no glob: {}", e.kind())))?;
        Ok(Self { text: text.to_owned(), matcher: glob.compile_matcher() })
    }

    /// The glob as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches a name; a glob equal to the name always does.
    pub fn matches(&self, name: &str) -> bool {
        self.text == name || self.matcher.is_match(name)
    }

    /// Whether it names one tensor in full.
    pub fn is_exact(&self, name: &str) -> bool {
        self.text == name
    }
}

/// The globs of `--include` and `--exclude`, and what to do with tied tensors.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only tensors that match one of these; all when empty.
    pub include: Vec<NameGlob>,
    /// No tensor that matches one of these.
    pub exclude: Vec<NameGlob>,
    /// Whether tensors that the model uses under two names are changed (`--tied both`).
    pub change_tied: bool,
}

/// Whether a pass works on a tensor.
#[derive(Clone, Debug)]
pub struct Choice {
    /// What the tensor is.
    pub layer: Layer,
    /// `None` when it is selected, else why not.
    pub skipped: Option<String>,
    /// The user named it in full, so what cannot be done to it is an error.
    pub is_named: bool,
}

impl Selection {
    /// Chooses among the tensors of a header, in its order. `default_kinds` are selected without being asked for.
    ///
    /// # Errors
    /// When a glob matches no tensor, or the config is broken.
    pub fn choose(&self, header: &Header, default_kinds: &[LayerKind]) -> Result<Vec<Choice>> {
        for glob in self.include.iter().chain(&self.exclude) {
            must_match(glob, header)?;
        }
        let model = Model::of(header)?;
        Ok(header
            .tensors
            .iter()
            .map(|tensor| {
                let layer = model.layer(tensor);
                let name = tensor.name.as_str();
                let included = self.include.iter().find(|g| g.matches(name));
                let is_named = self.include.iter().any(|g| g.is_exact(name));
                let is_excluded = self.exclude.iter().any(|g| g.matches(name));
                let skipped = if is_excluded {
                    Some("excluded".to_owned())
                } else if !self.include.is_empty() && included.is_none() {
                    Some("not included".to_owned())
                } else if !is_weight_float(tensor.dtype) {
                    Some(LayerKind::Buffer.reason_to_skip().to_owned())
                } else if !(is_named
                    || default_kinds.contains(&layer.kind)
                    || included.is_some() && is_matrix(layer.kind))
                {
                    Some(layer.kind.reason_to_skip().to_owned())
                } else if model.is_tied(name) && !self.change_tied {
                    Some("tied: the model uses it under two names; --tied both changes both".to_owned())
                } else {
                    None
                };
                Choice { layer, skipped, is_named }
            })
            .collect())
    }
}

/// Kinds that a glob with wildcards may select although they are not selected by default.
fn is_matrix(kind: LayerKind) -> bool {
    !matches!(kind, LayerKind::Norm | LayerKind::Bias | LayerKind::FixedTransform | LayerKind::Buffer)
}

/// Refuses a glob that matches nothing, naming tensors that are there.
///
/// # Errors
/// When no tensor matches.
pub fn must_match(glob: &NameGlob, header: &Header) -> Result<()> {
    if header.tensors.iter().any(|t| glob.matches(&t.name)) {
        return Ok(());
    }
    let some: Vec<_> = header.tensors.iter().take(3).map(|t| format!("`{}`", t.name)).collect();
    Err(Error::input(format!("`{}` matches no tensor", glob.text()))
        .hint(format!("names are matched whole, as in {}", some.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, TensorInfo};

    fn header() -> Header {
        Header {
            tensors: vec![
                TensorInfo::new("embed.weight", Dtype::F32, [9, 4]),
                TensorInfo::new("a.weight", Dtype::F32, [4, 4]),
                TensorInfo::new("a.bias", Dtype::F32, [4]),
                TensorInfo::new("n", Dtype::I64, [4]),
            ],
            ..Header::default()
        }
    }

    fn selected(selection: &Selection) -> Vec<bool> {
        let choices = selection.choose(&header(), &[LayerKind::Linear]).unwrap();
        choices.iter().map(|c| c.skipped.is_none()).collect()
    }

    #[test]
    fn only_default_kinds_are_selected_unasked() {
        assert_eq!(selected(&Selection::default()), [false, true, false, false]);
    }

    #[test]
    fn a_glob_takes_matrices_and_a_full_name_takes_anything_real() {
        let include = |text: &str| Selection { include: vec![NameGlob::new(text).unwrap()], ..Selection::default() };
        assert_eq!(selected(&include("*")), [true, true, false, false]);
        assert_eq!(selected(&include("a.bias")), [false, false, true, false]);
        assert_eq!(selected(&include("n")), [false; 4]);
    }

    #[test]
    fn a_glob_that_matches_nothing_is_refused() {
        let selection = Selection { exclude: vec![NameGlob::new("zz*").unwrap()], ..Selection::default() };
        assert!(selection.choose(&header(), &[]).unwrap_err().message().contains("`zz*` matches no tensor"));
    }
}
