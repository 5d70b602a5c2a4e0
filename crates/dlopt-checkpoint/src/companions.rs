//! The small files beside the weights: tokenizer, generation config, licence…
//!
//! In a folder they are files. In one file or a pipe they travel as text (else base64) in the metadata key
//! `dlopt.files`, so that a stream is the whole model.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// The metadata key.
pub const FILES_KEY: &str = "dlopt.files";

/// Most that small files may take in one file or pipe, in bytes.
pub const MAX_EMBEDDED_BYTES: u64 = 32 << 20;

const SCHEMA: u32 = 1;

/// The small files of a model, where they are.
#[derive(Clone, Debug)]
pub enum Companions {
    /// Files below a folder, by relative path.
    Folder {
        /// The folder.
        dir: PathBuf,
        /// Relative paths, sorted.
        files: Vec<PathBuf>,
    },
    /// Text or bytes that came with the metadata, by relative path.
    Embedded(BTreeMap<String, Content>),
}

/// One small file as metadata holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// UTF-8 text.
    Text(String),
    /// Anything else.
    Base64(String),
}

#[derive(Serialize, Deserialize)]
struct Files {
    schema: u32,
    files: BTreeMap<String, Content>,
}

impl Default for Companions {
    fn default() -> Self {
        Self::Embedded(BTreeMap::new())
    }
}

impl Companions {
    /// The small files of a folder: everything that is neither weights nor hidden, two levels deep.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn of_folder(dir: &Path) -> Result<Self> {
        let mut files = Vec::new();
        list(dir, Path::new(""), 0, &mut files)?;
        files.sort();
        Ok(Self::Folder { dir: dir.to_owned(), files })
    }

    /// Takes them from metadata text.
    ///
    /// # Errors
    /// When the text is unreadable or a name leads out of the folder.
    pub fn from_metadata(text: &str) -> Result<Self> {
        let files: Files = serde_json::from_str(text)
            .map_err(|e| Error::input(format!("metadata `{FILES_KEY}` is unreadable: {e}")))?;
        if files.schema != SCHEMA {
            return Err(Error::input(format!(
                "metadata `{FILES_KEY}` has schema {}, this dlopt reads {SCHEMA}",
                files.schema
            )));
        }
        for (name, content) in &files.files {
            check_relative(name)?;
            let file = name.rsplit('/').next().unwrap_or(name);
            if !is_companion(file) || name == "config.json" {
                return Err(Error::input(format!(
                    "metadata `{FILES_KEY}` holds `{name}`, which is no small file of a model"
                ))
                .hint("--no-files leaves the small files out"));
            }
            if let Content::Base64(text) = content {
                STANDARD
                    .decode(text)
                    .map_err(|e| Error::input(format!("metadata `{FILES_KEY}`: `{name}` is no base64: {e}")))?;
            }
        }
        Ok(Self::Embedded(files.files))
    }

    /// The names, as relative paths.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Folder { files, .. } => files.iter().map(|f| f.to_string_lossy().into_owned()).collect(),
            Self::Embedded(files) => files.keys().cloned().collect(),
        }
    }

    /// The metadata text, `None` when there are no files.
    ///
    /// # Errors
    /// When a file cannot be read, or all together exceed [`MAX_EMBEDDED_BYTES`].
    pub fn to_metadata(&self) -> Result<Option<String>> {
        let files = match self {
            Self::Embedded(files) => files.clone(),
            Self::Folder { dir, files } => {
                let mut total = 0;
                let mut contents = BTreeMap::new();
                for file in files {
                    let path = dir.join(file);
                    total += path.metadata().at(path.display())?.len();
                    if total > MAX_EMBEDDED_BYTES {
                        return Err(Error::input(format!(
                            "{}: the small files exceed {} MiB",
                            dir.display(),
                            MAX_EMBEDDED_BYTES >> 20
                        ))
                        .hint("write a folder with -o DIR/, or leave them out with --no-files"));
                    }
                    let bytes = std::fs::read(&path).at(path.display())?;
                    let content = match String::from_utf8(bytes) {
                        Ok(text) => Content::Text(text),
                        Err(e) => Content::Base64(STANDARD.encode(e.as_bytes())),
                    };
                    contents.insert(file.to_string_lossy().into_owned(), content);
                }
                contents
            }
        };
        if files.is_empty() {
            return Ok(None);
        }
        let files = Files { schema: SCHEMA, files };
        Ok(Some(serde_json::to_string(&files).expect("maps of strings always serialise")))
    }

    /// Writes them below `to`.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write_to(&self, to: &Path) -> Result<()> {
        let place = |name: &Path| -> Result<PathBuf> {
            let path = to.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).at(parent.display())?;
            }
            Ok(path)
        };
        match self {
            Self::Folder { dir, files } => {
                for file in files {
                    let target = place(file)?;
                    let from = dir.join(file);
                    std::fs::copy(&from, &target).at(from.display())?;
                }
            }
            Self::Embedded(files) => {
                for (name, content) in files {
                    let target = place(Path::new(name))?;
                    let bytes = match content {
                        Content::Text(text) => text.clone().into_bytes(),
                        Content::Base64(text) => {
                            STANDARD.decode(text).map_err(|e| Error::input(format!("`{name}` is no base64: {e}")))?
                        }
                    };
                    std::fs::write(&target, bytes).at(target.display())?;
                }
            }
        }
        Ok(())
    }
}

/// Refuses names that lead out of the folder they are joined to.
///
/// # Errors
/// When the name is empty, absolute, or has `..` in it.
pub fn check_relative(name: &str) -> Result<()> {
    let is_plain = !name.is_empty()
        && !name.contains('\0')
        && !name.contains('\\')
        && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
    if is_plain { Ok(()) } else { Err(Error::input(format!("`{name}` leads out of the folder"))) }
}

fn list(dir: &Path, below: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let here = dir.join(below);
    for entry in std::fs::read_dir(&here).at(here.display())? {
        let entry = entry.at(here.display())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = below.join(&name);
        let kind = path_kind(&dir.join(&path));
        match kind {
            Kind::Folder if depth < 2 && !name.starts_with('.') && name != "original" && name != "onnx" => {
                list(dir, &path, depth + 1, files)?;
            }
            Kind::File if is_companion(&name) && !(depth == 0 && name == "config.json") => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

enum Kind {
    File,
    Folder,
    Other,
}

fn path_kind(path: &Path) -> Kind {
    // Follows links: the hub's cache is made of them.
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Kind::Folder,
        Ok(meta) if meta.is_file() => Kind::File,
        _ => Kind::Other,
    }
}

/// Weights of this or another framework stay out, and so does what this tool writes anew.
fn is_companion(name: &str) -> bool {
    const WEIGHTS: [&str; 12] =
        [".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".npz", ".ot", ".tflite"];
    let lower = name.to_ascii_lowercase();
    !(WEIGHTS.iter().any(|w| lower.ends_with(w))
        || lower.contains(".index.") && lower.ends_with(".json")
        || lower.ends_with(".index.json")
        || name.starts_with('.')
        || name == "dlopt-journal.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["", "/etc/passwd", "../x", "a/../../x", "a\\b"] {
            assert!(check_relative(name).is_err(), "{name}");
        }
        assert!(check_relative("1_Pooling/config.json").is_ok());
    }

    #[test]
    fn files_survive_the_way_through_metadata() {
        let from = tempfile::tempdir().unwrap();
        std::fs::create_dir(from.path().join("1_Pooling")).unwrap();
        std::fs::write(from.path().join("1_Pooling/config.json"), "{}\n").unwrap();
        std::fs::write(from.path().join("vocab.txt"), "ä\n").unwrap();
        std::fs::write(from.path().join("spiece.model"), [0xff, 0, 1]).unwrap();
        std::fs::write(from.path().join("model.safetensors"), "no").unwrap();
        std::fs::write(from.path().join("config.json"), "no").unwrap();
        let text = Companions::of_folder(from.path()).unwrap().to_metadata().unwrap().unwrap();
        let to = tempfile::tempdir().unwrap();
        let back = Companions::from_metadata(&text).unwrap();
        back.write_to(to.path()).unwrap();
        assert_eq!(back.names(), ["1_Pooling/config.json", "spiece.model", "vocab.txt"]);
        assert_eq!(std::fs::read(to.path().join("spiece.model")).unwrap(), [0xff, 0, 1]);
        assert_eq!(std::fs::read_to_string(to.path().join("vocab.txt")).unwrap(), "ä\n");
    }
}
