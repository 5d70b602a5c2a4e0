//! Pictures in folders by class: `ROOT/CLASS/picture`, or `ROOT/train/CLASS/picture`, `ROOT/test/CLASS/picture`.
//!
//! Classes are in the order of their names. Files that are no pictures by their names are passed over and counted, hidden
//! ones are not seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Context, Error, Result};

use super::sources::split_of;
use super::{About, Item, Labels, Load, Samples, Source, pictures};
use crate::dataset::quoted;
use crate::raw::Raw;

/// Pictures that are loaded one by one.
struct Pictures(Vec<PathBuf>);

impl Load for Pictures {
    fn load(&self, index: usize) -> Result<Item> {
        Ok(Item::new(Raw::Image(pictures::read(&self.0[index])?)))
    }

    fn name(&self, index: usize) -> String {
        self.0[index].display().to_string()
    }
}

/// Whether a folder holds folders of pictures.
pub(super) fn is_one(root: &Path) -> Result<bool> {
    let (folders, _) = entries(root)?;
    for folder in &folders {
        let (inner, files) = entries(folder)?;
        if files.iter().any(|file| pictures::has_picture_name(file)) {
            return Ok(true);
        }
        for inner in &inner {
            if entries(inner)?.1.iter().any(|file| pictures::has_picture_name(file)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Lists the pictures of a folder.
pub(super) fn open(root: &Path) -> Result<Source> {
    let (folders, mut others) = entries(root)?;
    let splits: Vec<Option<&'static str>> = folders.iter().map(|folder| split_of(folder)).collect();
    let are_splits = splits.iter().all(Option::is_some);
    let mut found: Vec<(Option<&'static str>, String, Vec<PathBuf>)> = Vec::new();
    for (folder, split) in folders.iter().zip(splits) {
        let classes = match are_splits {
            true => {
                let (classes, files) = entries(folder)?;
                others.extend(files);
                classes
            }
            false => vec![folder.clone()],
        };
        for class in classes {
            let (_, files) = entries(&class)?;
            let (own, rest): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| pictures::has_picture_name(file));
            others.extend(rest);
            if own.is_empty() {
                return Err(Error::input(format!("{}: there are no pictures of this class", class.display()))
                    .hint("remove the folder, or put pictures into it"));
            }
            let name = class.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((split.filter(|_| are_splits), name, own));
        }
    }
    check_splits(root, &found)?;
    let mut classes: Vec<String> = found.iter().map(|(_, class, _)| class.clone()).collect();
    classes.sort();
    classes.dedup();
    let (mut files, mut labels, mut of_sample) = (Vec::new(), Vec::new(), Vec::new());
    for (split, class, own) in found {
        let label = classes.iter().position(|known| *known == class).unwrap_or(0) as u32;
        labels.extend(std::iter::repeat_n(label, own.len()));
        of_sample.extend(std::iter::repeat_n(split.unwrap_or("train"), own.len()));
        files.extend(own);
    }
    let about = About {
        name: root.display().to_string(),
        files: files.clone(),
        samples: files.len(),
        labels: Labels::Numbers(labels),
        classes: Some(classes),
        splits: are_splits.then_some(of_sample),
        passed_over: others.first().map(|first| (others.len(), first.clone())),
        ..About::default()
    };
    Ok(Source { split: None, about, samples: Samples::Each(Box::new(Pictures(files))) })
}

/// Refuses splits that have different classes.
fn check_splits(root: &Path, found: &[(Option<&'static str>, String, Vec<PathBuf>)]) -> Result<()> {
    let mut classes: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    found.iter().for_each(|(split, class, _)| classes.entry(*split).or_default().push(class));
    let Some(train) = classes.get(&Some("train")).cloned() else { return Ok(()) };
    for (split, own) in &classes {
        let lacks: Vec<&str> = train.iter().filter(|class| !own.contains(class)).copied().collect();
        let more: Vec<&str> = own.iter().filter(|class| !train.contains(class)).copied().collect();
        if !lacks.is_empty() || !more.is_empty() {
            let words = |what: &str, names: &[&str]| match names {
                [] => String::new(),
                names => format!("; {what} {}", quoted(names)),
            };
            return Err(Error::input(format!(
                "{}: the folders of `{}` are not those of `train`{}{}",
                root.display(),
                split.unwrap_or_default(),
                words("it lacks", &lacks),
                words("it has besides", &more)
            ))
            .hint("every split must have a folder for each class"));
        }
    }
    Ok(())
}

/// The folders and files in a folder, sorted, without hidden ones.
fn entries(dir: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).at(dir.display())? {
        let path = entry.at(dir.display())?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            all.push(path);
        }
    }
    all.sort();
    Ok(all.into_iter().partition(|path| path.is_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if !file.ends_with('/') {
                std::fs::write(path, b"").unwrap();
            }
        }
        dir
    }

    #[test]
    fn folders_are_classes_and_splits() {
        let dir = folder(&[
            "train/b/1.png",
            "train/a/2.JPG",
            "test/a/3.png",
            "test/b/.x.png",
            "test/b/4.png",
            "train/a/note",
        ]);
        assert!(is_one(dir.path()).unwrap());
        let about = open(dir.path()).unwrap().about;
        assert_eq!(about.classes, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(about.labels, Labels::Numbers(vec![0, 1, 0, 1]));
        assert_eq!(about.splits, Some(vec!["test", "test", "train", "train"]));
        assert_eq!(about.passed_over.map(|(count, _)| count), Some(1));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let message = |files: &[&str]| open(folder(files).path()).err().unwrap().message().to_owned();
        assert!(message(&["a/1.png", "b/note.txt"]).contains("b: there are no pictures of this class"));
        let differ = message(&["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"]);
        assert!(differ.contains("`test` are not those of `train`; it lacks `b`; it has besides `c`"), "{differ}");
        assert!(!is_one(folder(&["a.csv", "b/c/d/e.png"]).path()).unwrap());
    }
}
