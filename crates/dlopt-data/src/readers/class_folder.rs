//! Files in folders by class: `ROOT/CLASS/file`, or `ROOT/train/CLASS/file`, `ROOT/test/CLASS/file`. The files are
//! pictures, or sounds, or texts, as their endings say.
//!
//! Classes are in the order of their names. Other files are passed over and counted, hidden ones are not seen. Texts beside
//! pictures or sounds are taken for notes on them, and a few pictures beside many sounds, or the other way round, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Context, Error, Result};

use super::groups::Groups;
use super::media::{Files, Medium};
use super::sources::split_of;
use super::{About, Labels, ReadOptions, Samples, Source};
use crate::dataset::quoted;

/// Where one kind of file is more than so many times as frequent as another, the other is passed over.
const FAR_MORE: usize = 10;

/// The folder of a class: its split, the name of the class, its files.
struct Class {
    split: Option<&'static str>,
    path: PathBuf,
    files: Vec<PathBuf>,
}

impl Class {
    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Whether a folder holds folders of pictures, sounds or texts.
pub(super) fn is_one(root: &Path) -> Result<bool> {
    let (folders, top) = entries(root)?;
    let mut has_texts = false;
    for folder in &folders {
        let (inner, files) = entries(folder)?;
        let mut found = files;
        for inner in &inner {
            found.extend(entries(inner)?.1);
        }
        let media = || found.iter().filter_map(|file| Medium::of(file));
        if media().any(|medium| medium != Medium::Text) {
            return Ok(true);
        }
        has_texts |= media().next().is_some();
    }
    // Notes in a folder beside raw data are no samples.
    let is_raw = |file: &PathBuf| {
        super::format_by_name(file).is_some() && (Medium::of(file) != Some(Medium::Text) || split_of(file).is_some())
    };
    Ok(has_texts && !top.iter().any(is_raw))
}

/// Lists the files of a folder.
pub(super) fn open(root: &Path, options: &ReadOptions) -> Result<Source> {
    let (mut found, mut others) = classes(root)?;
    let medium = medium(root, &found)?;
    for class in &mut found {
        let (own, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut class.files).into_iter().partition(|file| Medium::of(file) == Some(medium));
        others.extend(rest);
        if own.is_empty() {
            let (path, what) = (class.path.display(), medium.plural());
            return Err(Error::input(format!("{path}: there are no {what} of this class"))
                .hint(format!("remove the folder, or put {what} into it")));
        }
        class.files = own;
    }
    check_splits(root, &found)?;
    let mut classes: Vec<String> = found.iter().map(Class::name).collect();
    classes.sort();
    classes.dedup();
    let groups = options.group.as_deref().map(Groups::new).transpose()?;
    let has_splits = found.iter().any(|class| class.split.is_some());
    let (mut files, mut labels, mut of_sample, mut of_group) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for class in found {
        let name = class.name();
        let label = classes.iter().position(|known| *known == name).unwrap_or(0) as u32;
        labels.extend(std::iter::repeat_n(label, class.files.len()));
        of_sample.extend(std::iter::repeat_n(class.split.unwrap_or("train"), class.files.len()));
        if let Some(groups) = &groups {
            for file in &class.files {
                of_group.push(groups.of(file.strip_prefix(&class.path).unwrap_or(file), file)?);
            }
        }
        files.extend(class.files);
    }
    let about = About {
        name: root.display().to_string(),
        files: files.clone(),
        samples: files.len(),
        labels: Labels::Numbers(labels),
        classes: Some(classes),
        splits: has_splits.then_some(of_sample),
        groups: groups.map(|_| of_group),
        passed_over: others.first().map(|first| (others.len(), first.clone())),
        ..About::default()
    };
    Ok(Source { split: None, about, samples: Samples::Each(Box::new(Files { medium, paths: files })) })
}

/// The folders of classes, and the files beside them.
fn classes(root: &Path) -> Result<(Vec<Class>, Vec<PathBuf>)> {
    let (folders, mut others) = entries(root)?;
    let are_splits = folders.iter().all(|folder| split_of(folder).is_some());
    let mut found = Vec::new();
    for folder in folders {
        let split = split_of(&folder).filter(|_| are_splits);
        let classes = match are_splits {
            true => {
                let (classes, files) = entries(&folder)?;
                others.extend(files);
                classes
            }
            false => vec![folder],
        };
        for path in classes {
            let (_, files) = entries(&path)?;
            found.push(Class { split, path, files });
        }
    }
    Ok((found, others))
}

/// What the files are, for the most part.
fn medium(root: &Path, found: &[Class]) -> Result<Medium> {
    let count = |medium| found.iter().flat_map(|class| &class.files).filter(|f| Medium::of(f) == Some(medium)).count();
    let (pictures, sounds) = (count(Medium::Picture), count(Medium::Sound));
    match (pictures, sounds) {
        (0, 0) => Ok(Medium::Text),
        (pictures, sounds) if pictures > FAR_MORE * sounds => Ok(Medium::Picture),
        (pictures, sounds) if sounds > FAR_MORE * pictures => Ok(Medium::Sound),
        _ => Err(Error::input(format!(
            "{}: holds {pictures} pictures and {sounds} sounds; a dataset is made of one or the other",
            root.display()
        ))
        .hint("put them into folders of their own")),
    }
}

/// Refuses splits that have different classes.
fn check_splits(root: &Path, found: &[Class]) -> Result<()> {
    let mut classes: BTreeMap<Option<&str>, Vec<String>> = BTreeMap::new();
    found.iter().for_each(|class| classes.entry(class.split).or_default().push(class.name()));
    let Some(train) = classes.get(&Some("train")).cloned() else { return Ok(()) };
    for (split, own) in &classes {
        let lacks: Vec<&String> = train.iter().filter(|class| !own.contains(class)).collect();
        let more: Vec<&String> = own.iter().filter(|class| !train.contains(class)).collect();
        if !lacks.is_empty() || !more.is_empty() {
            let words = |what: &str, names: &[&String]| match names {
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
        let about = open(dir.path(), &ReadOptions::default()).unwrap().about;
        assert_eq!(about.classes, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(about.labels, Labels::Numbers(vec![0, 1, 0, 1]));
        assert_eq!(about.splits, Some(vec!["test", "test", "train", "train"]));
        assert_eq!(about.passed_over.map(|(count, _)| count), Some(1));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let message =
            |files: &[&str]| open(folder(files).path(), &ReadOptions::default()).err().unwrap().message().to_owned();
        assert!(message(&["a/1.png", "b/note.txt"]).contains("b: there are no pictures of this class"));
        let differ = message(&["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"]);
        assert!(differ.contains("`test` are not those of `train`; it lacks `b`; it has besides `c`"), "{differ}");
        assert!(!is_one(folder(&["a.csv", "b/c/d/e.png"]).path()).unwrap());
    }

    #[test]
    fn endings_say_what_the_files_are() {
        let opened = |files: &[&str]| open(folder(files).path(), &ReadOptions::default());
        let passed_over = |files: &[&str]| opened(files).unwrap().about.passed_over.map_or(0, |(count, _)| count);
        assert_eq!(passed_over(&["a/1.wav", "a/1.txt", "b/2.FLAC", "b/2.mp3"]), 1);
        assert_eq!(passed_over(&["a/1.txt", "b/2.txt", "note.txt"]), 1);
        let many: Vec<String> = (0..12).map(|i| format!("a/{i}.ogg")).collect();
        let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
        names.push("a/cover.jpg");
        assert_eq!(passed_over(&names), 1);
        let both = opened(&["a/1.wav", "b/2.png"]).err().unwrap();
        assert!(both.message().contains("holds 1 pictures and 1 sounds"), "{both}");
        let none = opened(&["a/1.wav", "b/note.txt"]).err().unwrap();
        assert!(none.message().contains("b: there are no sounds of this class"), "{none}");
        assert!(is_one(folder(&["a/1.txt", "b/1.txt"]).path()).unwrap());
        assert!(!is_one(folder(&["data.csv", "docs/1.txt"]).path()).unwrap());
    }

    #[test]
    fn names_say_what_belongs_together() {
        let dir = folder(&["a/ann_1.wav", "a/bob_1.wav", "b/ann_2.wav"]);
        let opened = |group: &str| {
            open(dir.path(), &ReadOptions { group: Some(group.to_owned()), ..Default::default() })
                .map(|s| s.about.groups)
        };
        let wanted = ["ann", "bob", "ann"].map(str::to_owned).to_vec();
        assert_eq!(opened("^([^_]+)_").unwrap(), Some(wanted));
        let other = opened("^(b[a-z]+)_").err().unwrap();
        assert!(other.message().contains("ann_1.wav: its name does not match --group"), "{other}");
    }
}
