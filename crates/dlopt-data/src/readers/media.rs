//! Files that are one sample each: pictures, sounds and texts, told apart by the endings of their names.

use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Context, Error, Result};

use super::{Item, Load, pictures, sounds};
use crate::raw::Raw;

/// Endings of file names of texts, in lower case.
const TEXTS: &[&str] = &["txt"];

/// Largest text that is read.
const MOST_TEXT_BYTES: u64 = 1 << 28;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    Picture,
    Sound,
    Text,
}

impl Medium {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Picture, Self::Sound, Self::Text];

    /// What a file holds by its name.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let own = path.extension()?.to_string_lossy().to_lowercase();
        Self::ALL.into_iter().find(|medium| medium.extensions().contains(&own.as_str()))
    }

    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Picture => pictures::EXTENSIONS,
            Self::Sound => sounds::EXTENSIONS,
            Self::Text => TEXTS,
        }
    }

    /// For messages.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Picture => "pictures",
            Self::Sound => "sounds",
            Self::Text => "texts",
        }
    }

    /// Reads a file.
    pub(crate) fn read(self, path: &Path) -> Result<Raw> {
        Ok(match self {
            Self::Picture => Raw::Image(pictures::read(path)?),
            Self::Sound => Raw::Series(sounds::read(path)?),
            Self::Text => Raw::Text(read_text(path)?),
        })
    }
}

/// Files that are loaded one by one.
pub(super) struct Files {
    pub(super) medium: Medium,
    pub(super) paths: Vec<PathBuf>,
}

impl Load for Files {
    fn load(&self, index: usize) -> Result<Item> {
        Ok(Item::new(self.medium.read(&self.paths[index])?))
    }

    fn name(&self, index: usize) -> String {
        self.paths[index].display().to_string()
    }
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = path.metadata().at(path.display())?.len();
    if bytes > MOST_TEXT_BYTES {
        let why = format!("{}: has {bytes} bytes; a text has at most {MOST_TEXT_BYTES}", path.display());
        return Err(Error::input(why).hint("cut it into parts"));
    }
    String::from_utf8(std::fs::read(path).at(path.display())?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::input(format!("{}: byte {at} is no UTF-8", path.display())).hint("convert it: iconv -f LATIN1 -t UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_utf8_or_say_where_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, "häß\n").unwrap();
        let files = Files { medium: Medium::Text, paths: vec![path.clone()] };
        assert_eq!(files.load(0).unwrap().raw, Raw::Text("häß\n".to_owned()));
        std::fs::write(&path, b"abc\xff").unwrap();
        assert!(files.load(0).unwrap_err().message().ends_with("a.txt: byte 3 is no UTF-8"));
    }

    #[test]
    fn names_say_what_files_hold() {
        let of = |name: &str| Medium::of(Path::new(name));
        assert_eq!(of("a/B.JPG"), Some(Medium::Picture));
        assert_eq!(of("a.Wav"), Some(Medium::Sound));
        assert_eq!(of("a.txt"), Some(Medium::Text));
        assert_eq!((of("wav"), of("a.json")), (None, None));
    }
}
