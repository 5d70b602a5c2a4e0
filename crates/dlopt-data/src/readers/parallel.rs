//! Parallel text: two files of as many lines, each line of the second being what the same line of the first becomes.

use std::path::PathBuf;

use dlopt_checkpoint::{Error, Result};

use super::lines::Lines;
use super::records::{Record, Records, source};
use super::{Format, ReadOptions, Source};

pub(super) const FORMAT: Format = Format {
    name: "parallel",
    summary: "two text files, line by line what is read and what is put out; only when named",
    extensions: &[],
    sniff: |_| false,
    group,
    open,
};

struct Pairs {
    files: [PathBuf; 2],
    encoding: Option<String>,
}

fn group(files: Vec<PathBuf>) -> Result<Vec<Vec<PathBuf>>> {
    if files.len() != 2 {
        return Err(Error::usage(format!("{} files of parallel text; wanted two", files.len()))
            .hint("--format parallel --train train.en train.de --test test.en test.de"));
    }
    Ok(vec![files])
}

fn open(files: &[PathBuf], options: &ReadOptions) -> Result<Vec<Source>> {
    let [from, to] = files else { return Err(Error::usage("parallel text is two files")) };
    let own = Pairs { files: [from.clone(), to.clone()], encoding: options.encoding.clone() };
    source(files, Box::new(own), Default::default())
}

impl Records for Pairs {
    fn read(&self, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        let [from, to] = &self.files;
        let encoding = self.encoding.as_deref();
        let (mut left, mut right) = (Lines::open(from, encoding)?, Lines::open(to, encoding)?);
        let mut pairs = 0;
        loop {
            let pair = (left.next()?, right.next()?);
            let (shorter, longer) = match pair {
                (Some((line, text)), Some((_, answer))) => {
                    let answers = vec![answer.to_owned()];
                    each(Record { line, text: text.to_owned(), answers, ..Record::default() })?;
                    pairs += 1;
                    continue;
                }
                (None, None) => return Ok(()),
                (None, Some(_)) => (from, to),
                (Some(_), None) => (to, from),
            };
            return Err(Error::input(format!(
                "{} ends after {pairs} lines, and {} goes on",
                shorter.display(),
                longer.display()
            ))
            .hint("parallel text has the same number of lines on both sides"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;

    fn opened(a: &str, b: &str) -> Result<Source> {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("a.en"), dir.path().join("a.de")];
        std::fs::write(&files[0], a).unwrap();
        std::fs::write(&files[1], b).unwrap();
        let source = open(&files, &ReadOptions::default())?.remove(0);
        assert_eq!(source.samples.items()[1].targets, [Raw::Text("y".into())]);
        Ok(source)
    }

    #[test]
    fn lines_are_paired() {
        assert_eq!(opened("a\nb\n", "x\ny").unwrap().about.samples, 2);
    }

    #[test]
    fn unequal_numbers_of_lines_are_refused() {
        let message = |a: &str, b: &str| opened(a, b).err().unwrap().message().to_owned();
        assert!(message("a\n", "x\ny\n").contains("a.en ends after 1 lines, and"));
        assert!(message("a\nb\nc\n", "x\ny\n").contains("a.de ends after 2 lines, and"));
        assert!(group(vec![PathBuf::from("a")]).is_err());
    }
}
