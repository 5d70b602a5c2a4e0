//! Files of new samples, told by what the network takes and by their names.

use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Context, Error, Result};

use super::{Each, Intake, arrays};
use crate::info::RawInput;
use crate::ordered::ordered;
use crate::prepare::cut;
use crate::raw::Raw;
use crate::readers::{Medium, ReadOptions, Samples, open_bytes, open_sources};

/// Endings of tables.
const TABLES: [&str; 5] = [".csv", ".tsv", ".data", ".csv.gz", ".tsv.gz"];

pub(super) fn read(intake: &Intake, path: &Path, threads: usize, each: &mut Each<'_>) -> Result<()> {
    match intake.raw() {
        RawInput::Image => all_below(path, Medium::Picture, threads, each),
        RawInput::Sound => all_below(path, Medium::Sound, threads, each),
        RawInput::Text => all_below(path, Medium::Text, threads, each),
        RawInput::Pixels { .. } if Medium::of(path) == Some(Medium::Picture) || path.is_dir() => {
            all_below(path, Medium::Picture, threads, each)
        }
        _ => {
            path.metadata().at(path.display())?;
            let name = path.to_string_lossy().to_lowercase();
            if TABLES.iter().any(|ending| name.ends_with(ending)) {
                return intake.read_rows(&path.display().to_string(), open_bytes(path)?, each);
            }
            if has_ending(path, &arrays::EXTENSIONS) {
                return arrays::read(intake, path, each);
            }
            raw_data(intake, path, each)
        }
    }
}

/// Reads a file of one sample, or all of them below a folder.
fn all_below(path: &Path, medium: Medium, threads: usize, each: &mut Each<'_>) -> Result<()> {
    if !path.is_dir() {
        return each(path.display().to_string(), medium.read(path));
    }
    let mut found = Vec::new();
    walk(path, &|path| Medium::of(path) == Some(medium), &mut found)?;
    if found.is_empty() {
        return Err(Error::input(format!("{}: no {} below it", path.display(), medium.plural())));
    }
    let feed = |give: &mut dyn FnMut(PathBuf) -> Result<()>| found.into_iter().try_for_each(give);
    let work = |path: PathBuf| Ok((path.display().to_string(), medium.read(&path)));
    ordered(threads, feed, work, |(name, raw)| each(name, raw))
}

/// All wanted files below a folder, in the order of their names; hidden ones are not seen.
fn walk(folder: &Path, is_wanted: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).at(folder.display())? {
        paths.push(entry.at(folder.display())?.path());
    }
    paths.sort();
    for path in paths {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            walk(&path, is_wanted, found)?;
        } else if is_wanted(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// Reads a file as `prepare` does, and leaves out what it says about classes.
fn raw_data(intake: &Intake, path: &Path, each: &mut Each<'_>) -> Result<()> {
    let shape = match *intake.raw() {
        RawInput::Pixels { height, width, channels } => vec![height, width, channels],
        _ => Vec::new(),
    };
    let options = ReadOptions { shape, tmp_dir: std::env::temp_dir(), ..ReadOptions::default() };
    let mut number = 0;
    let mut give = |raw: Result<Raw>| {
        number += 1;
        each(format!("{}:{number}", path.display()), raw)
    };
    for source in open_sources(&[(None, path.to_owned())], &options)? {
        match (&source.samples, &source.about.fixed) {
            (Samples::Each(load), _) => {
                (0..source.about.samples).try_for_each(|sample| give(load.load(sample).map(|item| item.raw)))?;
            }
            (Samples::Items(items), _) => items.read(&mut |item| give(Ok(item.raw)))?,
            (Samples::Stream(inputs), Some(fixed)) => {
                let (mut first, elements) = (0, fixed.elements.elements().max(1));
                inputs.read(&mut |values| {
                    let count = values.len() / elements;
                    first += count;
                    cut(fixed, first - count, values).into_iter().try_for_each(|raw| give(Ok(raw)))
                })?;
            }
            (Samples::Stream(_), None) => {
                return Err(Error::input(format!("{}: samples of no known shape", path.display())));
            }
        }
    }
    Ok(())
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|own| endings.iter().any(|known| own.eq_ignore_ascii_case(known)))
}
