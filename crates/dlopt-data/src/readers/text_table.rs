//! Tables with a column of texts, and one of classes, numbers to predict, or texts to put out.

use std::path::{Path, PathBuf};

use csv::ByteRecord;
use dlopt_checkpoint::{Error, Result};

use super::columns::Columns;
use super::csv::{Rows, delimiter_of};
use super::lines::no_utf8;
use super::records::{Record, Records, source};
use super::{ReadOptions, Source};

/// How a table of texts is read.
struct TextTable {
    path: PathBuf,
    delimiter: u8,
    has_quotes: bool,
    encoding: Option<String>,
    has_header: bool,
    columns: Columns,
    text: usize,
    answer: Option<usize>,
    label: Option<usize>,
    targets: Vec<usize>,
    group: Option<usize>,
}

/// Opens a table whose options name a column of texts, or of answers.
pub(super) fn open(path: &Path, options: &ReadOptions) -> Result<Vec<Source>> {
    let table = TextTable::new(path, options).map_err(|e| e.within(path.display()))?;
    source(&[path.to_owned()], Box::new(table), Default::default())
}

impl TextTable {
    fn new(path: &Path, options: &ReadOptions) -> Result<Self> {
        let delimiter = match options.delimiter {
            Some(delimiter) => delimiter,
            None => delimiter_of(path)?,
        };
        let has_quotes = options.quotes.unwrap_or(delimiter != b'\t');
        let mut rows = Rows::open(path, delimiter, has_quotes, options.encoding.as_deref())?;
        let mut first = ByteRecord::new();
        if rows.next(&mut first)?.is_none() {
            return Err(Error::input("is empty; wanted one row for every text"));
        }
        let names: Vec<String> = first.iter().map(|f| String::from_utf8_lossy(f.trim_ascii()).into_owned()).collect();
        let asked = [&options.text, &options.answer, &options.label, &options.group];
        let asked: Vec<&String> = asked.into_iter().flatten().chain(&options.targets).collect();
        // Texts look like names of columns: the first line holds them when somebody calls a column by one.
        let is_named = |name: &&String| name.parse::<usize>().is_err() && names.contains(name);
        let has_header = options.header.unwrap_or_else(|| asked.iter().any(is_named));
        let columns = Columns { count: names.len(), names: if has_header { names } else { Vec::new() } };
        let find = |name: &Option<String>| name.as_ref().map(|name| columns.find(name)).transpose();
        let (text, answer, group) = (find(&options.text)?, find(&options.answer)?, find(&options.group)?);
        let targets: Vec<usize> = options.targets.iter().map(|name| columns.find(name)).collect::<Result<_>>()?;
        let mut label = find(&options.label)?;
        if answer.is_some() && (label.is_some() || !targets.is_empty()) {
            return Err(Error::usage("texts to put out, and classes or targets: wanted one of them"));
        }
        let text = text.ok_or_else(|| {
            Error::usage("--answer names the texts to put out, and nothing those to read").hint("--text COLUMN")
        })?;
        if answer.is_none() && label.is_none() && targets.is_empty() {
            let mut others = (0..columns.count).filter(|&column| column != text && Some(column) != group);
            label = match (others.next(), others.next()) {
                (Some(only), None) => Some(only),
                _ => {
                    return Err(Error::usage(format!("which of {} columns holds the class?", columns.count))
                        .hint("--label COLUMN; or --targets, or --answer for texts to put out"));
                }
            };
        }
        if Some(text) == answer || Some(text) == label || targets.contains(&text) {
            return Err(Error::usage(format!("{} is to be read, and to be learned", columns.name(text))));
        }
        Ok(Self {
            path: path.to_owned(),
            delimiter,
            has_quotes,
            encoding: options.encoding.clone(),
            has_header,
            columns,
            text,
            answer,
            label,
            targets,
            group,
        })
    }

    fn record(&self, row: &ByteRecord, line: u64) -> Result<Record> {
        let place = |column: usize| format!("{}: line {line}, {}", self.path.display(), self.columns.name(column));
        let text = |column: usize| match std::str::from_utf8(&row[column]) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(no_utf8(&place(column))),
        };
        let name = |column: usize| {
            let name = text(column)?.trim().to_owned();
            if name.is_empty() {
                return Err(Error::input(format!("{}: nothing there", place(column))));
            }
            Ok(name)
        };
        let number = |column: usize| {
            let own = text(column)?;
            let number = own.trim().parse::<f32>().ok().filter(|x| x.is_finite());
            number.ok_or_else(|| Error::input(format!("{}: is no number", place(column))))
        };
        Ok(Record {
            line,
            text: text(self.text)?,
            answers: self.answer.map(text).transpose()?.into_iter().collect(),
            label: self.label.map(name).transpose()?,
            targets: self.targets.iter().map(|&column| number(column)).collect::<Result<_>>()?,
            group: self.group.map(name).transpose()?,
        })
    }
}

impl Records for TextTable {
    fn read(&self, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        let rows = Rows::open(&self.path, self.delimiter, self.has_quotes, self.encoding.as_deref())?;
        rows.each(self.has_header, self.columns.count, &mut |row, line| each(self.record(row, line)?))
    }

    fn target_names(&self) -> Vec<String> {
        self.targets.iter().filter_map(|&column| self.columns.names.get(column).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{About, Item, Labels};
    use super::*;
    use crate::raw::Raw;

    fn opened(text: &[u8], options: &ReadOptions) -> Result<(About, Vec<Item>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tsv");
        std::fs::write(&path, text).unwrap();
        let source = open(&path, options)?.remove(0);
        let items = source.samples.items();
        Ok((source.about, items))
    }

    fn options(text: &str) -> ReadOptions {
        ReadOptions { text: Some(text.to_owned()), ..Default::default() }
    }

    fn message(text: &[u8], options: &ReadOptions) -> String {
        opened(text, options).expect_err("must be refused").to_string()
    }

    #[test]
    fn texts_have_classes_in_the_other_column() {
        let (about, items) = opened(b"ham\tsee \"you\", there, and, here\nspam\tbuy\nham\ta\n", &options("2")).unwrap();
        let Labels::Names { distinct, of_sample } = &about.labels else { panic!() };
        assert_eq!((distinct[1].0.as_str(), &of_sample[..]), ("spam", &[0, 1, 0][..]));
        assert_eq!(items[0], Item::new(Raw::Text("see \"you\", there, and, here".to_owned())));
    }

    #[test]
    fn a_column_that_is_called_by_its_name_has_one() {
        let text = b"who,what,kind\nann,\"a, b\",x\nbob,c,y\n";
        let mut own = options("what");
        (own.label, own.group) = (Some("kind".to_owned()), Some("who".to_owned()));
        own.delimiter = Some(b',');
        let (about, items) = opened(text, &own).unwrap();
        assert_eq!(about.groups, Some(vec!["ann".to_owned(), "bob".to_owned()]));
        assert_eq!(items[0].raw, Raw::Text("a, b".to_owned()));
        own.label = Some("kin".to_owned());
        assert!(message(text, &own).contains("no column `kin`; there are `who`, `what`, `kind`"));
        own.label = None;
        assert_eq!(opened(text, &own).unwrap().0.samples, 2);
        own.group = None;
        assert!(message(text, &own).contains("which of 3 columns holds the class?"));
    }

    #[test]
    fn pairs_and_numbers_are_learned_too() {
        let mut pairs = options("1");
        pairs.answer = Some("2".to_owned());
        let (about, items) = opened(b"a b\tc d\n", &pairs).unwrap();
        assert_eq!(about.labels, Labels::Sequences);
        assert_eq!(items[0].targets, [Raw::Text("c d".to_owned())]);
        let mut scores = options("1");
        scores.targets = vec!["2".to_owned()];
        let (about, _) = opened(b"good\t1.5\nbad\t-2\n", &scores).unwrap();
        let Labels::Targets { values, outputs, .. } = about.labels else { panic!() };
        assert_eq!((values, outputs), (vec![1.5, -2.0], 1));
        assert!(message(b"good\tx\n", &scores).contains("line 1, column 2: is no number"));
    }

    #[test]
    fn bad_lines_are_named() {
        assert!(message(b"a\tb\nc\n", &options("1")).contains("line 2 has 1 columns; the first row has 2"));
        assert!(message(b"a\tb\nc\xff\td\n", &options("1")).contains("line 2, column 1: no UTF-8 there"));
        assert!(message(b"a\tb\nc\t \n", &options("1")).contains("line 2, column 2: nothing there"));
        assert!(message(b"a\tb\n", &options("7")).contains("numbered 1 to 2"));
        assert!(message(b"", &options("1")).contains("is empty"));
        let mut own = options("1");
        own.label = Some("1".to_owned());
        assert!(message(b"a\tb\n", &own).contains("is to be read, and to be learned"));
    }
}
