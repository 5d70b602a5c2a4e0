//! Which files belong together, and to which split.

use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Context, Error, Result};

use super::{Format, ReadOptions, Source, class_folder, format_named, format_of};
use crate::dataset::quoted;

/// The words in a file's name that say which split it is.
const SPLIT_WORDS: [(&str, &str); 9] = [
    ("train", "train"),
    ("training", "train"),
    ("test", "test"),
    ("testing", "test"),
    ("t10k", "test"),
    ("val", "validation"),
    ("valid", "validation"),
    ("validation", "validation"),
    ("dev", "validation"),
];

/// Opens raw data: `files` with the split they are said to be, if any, and folders of files whose names say it.
pub(crate) fn open_sources(files: &[(Option<&'static str>, PathBuf)], options: &ReadOptions) -> Result<Vec<Source>> {
    let format = options.format.as_deref().map(format_named).transpose()?;
    let mut groups: Vec<Group> = Vec::new();
    let mut classed = Vec::new();
    for (split, path) in files {
        let meta = path.metadata().at(path.display())?;
        if meta.is_dir() {
            if let Some(split) = split {
                return Err(Error::usage(format!(
                    "{}: a folder, where the file of split `{split}` is wanted",
                    path.display()
                )));
            }
            if format.is_none() && class_folder::is_one(path)? {
                classed.push(class_folder::open(path, options)?);
                continue;
            }
            for (split, format, file) in folder(path, format)? {
                add(&mut groups, split, format, file);
            }
            continue;
        }
        let own = match format {
            Some(format) => format,
            None => format_of(path)?.ok_or_else(|| unknown(path))?,
        };
        // Several files are told apart by their names; a single one is all there is.
        let split = split.or_else(|| if files.len() > 1 { split_of(path) } else { None });
        add(&mut groups, split, own, path.clone());
    }
    let mut sources = classed;
    for group in groups {
        for files in (group.format.group)(group.files)? {
            for mut source in (group.format.open)(&files, options)? {
                if let (Some(said), Some(own)) = (group.split, source.split)
                    && said != own
                {
                    // An archive that holds all splits, named for one of them.
                    continue;
                }
                source.split = source.split.or(group.split);
                sources.push(source);
            }
        }
    }
    if sources.is_empty() {
        return Err(Error::input("no raw data in what was named"));
    }
    Ok(sources)
}

/// Files of one split and format.
struct Group {
    split: Option<&'static str>,
    format: &'static Format,
    files: Vec<PathBuf>,
}

fn add(groups: &mut Vec<Group>, split: Option<&'static str>, format: &'static Format, file: PathBuf) {
    match groups.iter_mut().find(|g| g.split == split && std::ptr::eq(g.format, format)) {
        Some(group) => group.files.push(file),
        None => groups.push(Group { split, format, files: vec![file] }),
    }
}

fn unknown(path: &Path) -> Error {
    let names: Vec<_> = super::FORMATS.iter().map(|f| f.name).collect();
    Error::input(format!("{}: neither its name nor its first bytes say what it is", path.display()))
        .hint(format!("--format says it: {}", names.join(", ")))
}

/// The split that a file's name says.
pub(super) fn split_of(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    name.split(|c: char| !c.is_alphanumeric())
        .find_map(|word| SPLIT_WORDS.iter().find(|(known, _)| *known == word).map(|(_, split)| *split))
}

/// What names of one data set have in common.
fn set_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let is_split = |word: &&str| SPLIT_WORDS.iter().any(|(known, _)| known == word);
    name.split(|c: char| !c.is_alphanumeric()).filter(|word| !is_split(word)).collect::<Vec<_>>().join(" ")
}

type Found = (Option<&'static str>, &'static Format, PathBuf);

/// The raw files of a folder; others lie there unread.
fn folder(dir: &Path, format: Option<&'static Format>) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).at(dir.display())? {
        paths.push(entry.at(dir.display())?.path());
    }
    paths.sort();
    for path in paths {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_hidden || !path.is_file() {
            continue;
        }
        if let Some(own) = format_of(&path)?
            && format.is_none_or(|wanted| std::ptr::eq(wanted, own))
        {
            found.push((split_of(&path), own, path));
        }
    }
    // Pages and lists of names lie beside the pictures of CIFAR.
    if found.iter().any(|(_, own, _)| own.name == "cifar") {
        found.retain(|(_, own, _)| own.name == "cifar");
    }
    let names = |found: &[Found]| quoted(&found.iter().map(|(.., p)| file_name(p)).take(6).collect::<Vec<_>>());
    let Some((_, first, _)) = found.first() else {
        return Err(Error::input(format!("{}: no raw data of a known format here", dir.display()))
            .hint("`dlopt list` says what is read; pictures, sounds and texts lie in a folder for each class"));
    };
    if found.iter().any(|(_, own, _)| !std::ptr::eq(*own, *first)) {
        return Err(Error::input(format!("{}: files of several formats: {}", dir.display(), names(&found)))
            .hint("--format says which, or name the files"));
    }
    // Pictures and labels differ in their names by more than the split, and are paired by their reader.
    let is_one_set =
        ["idx", "cifar"].contains(&first.name) || found.iter().all(|(.., p)| set_name(p) == set_name(&found[0].2));
    if !is_one_set {
        return Err(Error::input(format!("{}: several data sets: {}", dir.display(), names(&found)))
            .hint("name the files of one: --train FILE --test FILE"));
    }
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_split() {
        let split = |name: &str| split_of(Path::new(name));
        assert_eq!(split("train-images-idx3-ubyte.gz"), Some("train"));
        assert_eq!(split("t10k-labels-idx1-ubyte"), Some("test"));
        assert_eq!(split("JapaneseVowels_TEST.ts"), Some("test"));
        assert_eq!(split("my.val.csv"), Some("validation"));
        assert_eq!(split("/train/constraint.csv"), None);
        assert_eq!(set_name(Path::new("A_TRAIN.ts")), set_name(Path::new("A_TEST.ts")));
        assert_ne!(set_name(Path::new("A_TRAIN.ts")), set_name(Path::new("B_TEST.ts")));
    }

    #[test]
    fn folders_of_several_sets_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = || open_sources(&[(None, dir.path().to_owned())], &ReadOptions::default());
        let message = || open().err().unwrap().message().to_owned();
        std::fs::write(dir.path().join("README.md"), "text").unwrap();
        assert!(message().contains("no raw data of a known format here"));
        std::fs::write(dir.path().join("a_train.csv"), "1,x\n2,y\n").unwrap();
        std::fs::write(dir.path().join("a_test.csv"), "3,x\n").unwrap();
        let splits: Vec<_> = open().unwrap().iter().map(|s| (s.split, s.about.samples)).collect();
        assert_eq!(splits, [(Some("test"), 1), (Some("train"), 2)]);
        std::fs::write(dir.path().join("b.csv"), "3,x\n").unwrap();
        assert!(message().contains("several data sets: `a_test.csv`, `a_train.csv`, `b.csv`"));
        std::fs::write(dir.path().join("b.ts"), "@data\n").unwrap();
        assert!(message().contains("files of several formats"));
    }

    #[test]
    fn unknown_files_and_formats_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.bin");
        std::fs::write(&path, [9, 8, 7, 0, 6]).unwrap();
        let open = |format: Option<&str>| {
            let options = ReadOptions { format: format.map(str::to_owned), ..Default::default() };
            open_sources(&[(None, path.clone())], &options).err().unwrap()
        };
        assert!(open(None).message().contains("neither its name nor its first bytes"));
        assert!(
            open(Some("jpg")).message().contains("no format `jpg`; there are `idx`, `npz`, `cifar`, `ts`, `jsonl`")
        );
        assert!(open(Some("idx")).message().contains("begins with the bytes 09 08 07 00"));
        let absent = open_sources(&[(None, dir.path().join("none"))], &ReadOptions::default()).err().unwrap();
        assert!(absent.message().contains("none: no such file"), "{absent}");
    }
}
