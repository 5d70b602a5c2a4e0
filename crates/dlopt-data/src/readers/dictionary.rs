//! Dictionaries such as CMUdict: a word, and the symbols of its pronunciation, `word PH1 PH2 …`.
//!
//! A word that comes again, with or without a number in brackets, has one more pronunciation that is right. Text after `#`,
//! and lines that begin with `;;;`, are comments.

use std::path::PathBuf;

use dlopt_checkpoint::{Error, Result};

use super::lines::Lines;
use super::records::{Record, Records, source};
use super::{Format, ReadOptions, Source};
use crate::pipeline::Pipeline;

pub(super) const FORMAT: Format = Format {
    name: "dictionary",
    summary: "words and their pronunciations, as CMUdict has them",
    extensions: &[".dict"],
    sniff: |_| false,
    group: |files| Ok(files.into_iter().map(|file| vec![file]).collect()),
    open,
};

/// Letters in, phonemes out, when nobody asks for other steps.
const STEPS: [&str; 2] = ["tokenise=chars", "tokenise=symbols,bounds=true"];

struct Dictionary {
    path: PathBuf,
    encoding: Option<String>,
}

fn open(files: &[PathBuf], options: &ReadOptions) -> Result<Vec<Source>> {
    let [path] = files else { return Err(Error::usage("a dictionary is one file")) };
    let own = Dictionary { path: path.clone(), encoding: options.encoding.clone() };
    let [inputs, answers] = STEPS.map(Pipeline::spec);
    source(files, Box::new(own), [vec![inputs?], vec![answers?]])
}

impl Records for Dictionary {
    fn read(&self, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        let mut lines = Lines::open(&self.path, self.encoding.as_deref())?;
        let mut last: Option<Record> = None;
        while let Some((line, text)) = lines.next()? {
            let text = text.split('#').next().unwrap_or_default();
            if text.starts_with(";;;") || text.trim().is_empty() {
                continue;
            }
            let mut parts = text.split_whitespace();
            let word = plain(parts.next().unwrap_or_default());
            let symbols = parts.collect::<Vec<_>>().join(" ");
            if symbols.is_empty() {
                return Err(Error::input(format!("{}: line {line}: `{word}` has no symbols", self.path.display()))
                    .hint("wanted a word and its symbols with spaces between: abbey AE1 B IY0"));
            }
            match &mut last {
                Some(last) if last.text == word => last.answers.push(symbols),
                _ => {
                    let next = Record { line, text: word.to_owned(), answers: vec![symbols], ..Record::default() };
                    if let Some(done) = last.replace(next) {
                        each(done)?;
                    }
                }
            }
        }
        last.map_or(Ok(()), each)
    }
}

/// A word without the number of its variant: `live(2)`.
fn plain(word: &str) -> &str {
    let number = word.strip_suffix(')').and_then(|rest| rest.rsplit_once('('));
    match number {
        Some((own, number)) if !own.is_empty() && number.parse::<u32>().is_ok() => own,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;

    fn opened(text: &str) -> Result<(Source, Vec<crate::spool::Item>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.dict");
        std::fs::write(&path, text).unwrap();
        let source = open(&[path], &ReadOptions::default())?.remove(0);
        let items = source.samples.items();
        Ok((source, items))
    }

    #[test]
    fn variants_are_answers_of_one_word() {
        let text = ";;; old\nlive L AY1 V # verb\nlive(2) L IH1 V\n\n:) S M AY1 L\nlived L\n";
        let (source, items) = opened(text).unwrap();
        assert_eq!(source.about.samples, 3);
        let words: Vec<&Raw> = items.iter().map(|item| &item.raw).collect();
        assert_eq!(words, [&Raw::Text("live".into()), &Raw::Text(":)".into()), &Raw::Text("lived".into())]);
        assert_eq!(items[0].targets, [Raw::Text("L AY1 V".into()), Raw::Text("L IH1 V".into())]);
        assert_eq!(source.about.steps[1][0].options["bounds"], true);
    }

    #[test]
    fn a_word_without_symbols_is_named() {
        let error = opened("a AH0\nb\n").err().unwrap();
        assert!(error.message().contains("line 2: `b` has no symbols"), "{error}");
        assert!(opened("# nothing\n").err().unwrap().message().contains("there are no texts"));
    }
}
