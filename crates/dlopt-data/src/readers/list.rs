//! Lists of files: a table with a column of paths of pictures or sounds, relative to the table, and one of classes or some
//! of numbers to predict.
//!
//! A table is one when a field of its first row ends as the names of pictures or sounds do. The class is in the column that
//! somebody names, or in the last of the others. Which files are missing shows when they are read.

use std::path::{Path, PathBuf};

use csv::ByteRecord;
use dlopt_checkpoint::{Error, Result};

use super::columns::Columns;
use super::csv::{Rows, delimiter_of};
use super::labels::{LabelNames, MOST_CLASSES};
use super::media::Medium;
use super::{About, Item, Labels, Load, ReadOptions, Samples, Source};

/// Opens a table that is a list; `None` when it is none.
pub(super) fn open(path: &Path, options: &ReadOptions) -> Result<Option<Source>> {
    let Some(list) = List::new(path, options).map_err(|e| e.within(path.display()))? else { return Ok(None) };
    list.source(options).map(Some)
}

/// How the lines of a list are read.
struct List {
    path: PathBuf,
    delimiter: u8,
    has_header: bool,
    columns: Columns,
    medium: Medium,
    file: usize,
    label: Option<usize>,
    targets: Vec<usize>,
    group: Option<usize>,
}

impl List {
    fn new(path: &Path, options: &ReadOptions) -> Result<Option<Self>> {
        let delimiter = options.delimiter.map_or_else(|| delimiter_of(path), Ok)?;
        let mut rows = Rows::open(path, delimiter, true, options.encoding.as_deref())?;
        let (mut first, mut second) = (ByteRecord::new(), ByteRecord::new());
        rows.next(&mut first)?;
        rows.next(&mut second)?;
        let has_header = options.header.unwrap_or(file_in(&first).is_none());
        let Some((file, medium)) = file_in(if has_header { &second } else { &first }) else { return Ok(None) };
        let text = |field: &[u8]| String::from_utf8_lossy(field.trim_ascii()).into_owned();
        let names = if has_header { first.iter().map(text).collect() } else { Vec::new() };
        let columns = Columns { names, count: first.len() };
        let find = |name: &String| columns.find(name);
        let group = options.group.as_ref().map(find).transpose()?;
        let targets = options.targets.iter().map(find).collect::<Result<Vec<_>>>()?;
        let dropped = options.drop.iter().map(find).collect::<Result<Vec<_>>>()?;
        let others = |column: &usize| *column != file && Some(*column) != group && !dropped.contains(column);
        let label = match &options.label {
            Some(name) => Some(columns.find(name)?),
            None if !targets.is_empty() => None,
            None => (0..columns.count).rev().find(others),
        };
        if label.is_none() && targets.is_empty() {
            return Err(Error::input("lists files, and no column says what they are")
                .hint("a column of classes, or --targets with columns of numbers"));
        }
        if label == Some(file) || targets.contains(&file) {
            return Err(Error::usage(format!("{} holds the files, and is to be learned", columns.name(file))));
        }
        Ok(Some(Self { path: path.to_owned(), delimiter, has_header, columns, medium, file, label, targets, group }))
    }

    /// Reads all lines.
    fn source(self, options: &ReadOptions) -> Result<Source> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let (mut labels, mut values, mut groups) = (LabelNames::default(), Vec::new(), Vec::new());
        let mut files: Vec<(u64, PathBuf)> = Vec::new();
        let rows = Rows::open(&self.path, self.delimiter, true, options.encoding.as_deref())?;
        rows.each(self.has_header, self.columns.count, &mut |row, line| {
            let within = |e: Error| e.within(format!("{}: line {line}", self.path.display()));
            let file = self.field(row, self.file).map_err(within)?;
            if Medium::of(Path::new(file)) != Some(self.medium) {
                let wanted = self.medium.plural();
                return Err(within(
                    Error::input(format!("`{file}` does not end as names of {wanted} do"))
                        .hint("a list has one kind of file"),
                ));
            }
            files.push((line, folder.join(file)));
            if let Some(column) = self.group {
                groups.push(self.field(row, column).map_err(within)?.to_owned());
            }
            for &column in &self.targets {
                values.push(self.number(row, column).map_err(within)?);
            }
            if let Some(column) = self.label
                && !labels.see(self.field(row, column).map_err(within)?, line)
            {
                return Err(within(Error::input(format!("more than {MOST_CLASSES} different classes")))
                    .hint("--targets, if the column holds numbers to predict"));
            }
            Ok(())
        })?;
        let named = |&column: &usize| self.columns.names.get(column).cloned();
        let outputs = self.targets.len();
        let labels = match self.label {
            Some(_) => labels.into_labels(),
            None => Labels::Targets { values, names: self.targets.iter().filter_map(named).collect(), outputs },
        };
        // What is missing has no digest; that it is missing is said when it is read.
        let there = files.iter().map(|(_, file)| file.clone()).filter(|file| file.is_file());
        let about = About {
            name: self.path.display().to_string(),
            files: std::iter::once(self.path.clone()).chain(there).collect(),
            samples: files.len(),
            labels,
            groups: options.group.is_some().then_some(groups),
            ..About::default()
        };
        let listed = Listed { name: self.path.display().to_string(), medium: self.medium, files };
        Ok(Source { split: None, about, samples: Samples::Each(Box::new(listed)) })
    }

    /// The text in a column.
    fn field<'a>(&self, row: &'a ByteRecord, column: usize) -> Result<&'a str> {
        match std::str::from_utf8(row[column].trim_ascii()) {
            Ok("") => Err(Error::input(format!("nothing in {}", self.columns.name(column)))),
            Ok(text) => Ok(text),
            Err(_) => Err(Error::input(format!("{} holds bytes that are no UTF-8", self.columns.name(column)))),
        }
    }

    fn number(&self, row: &ByteRecord, column: usize) -> Result<f32> {
        let text = self.field(row, column)?;
        let number = text.parse::<f32>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| Error::input(format!("{}: `{text}` is no finite number", self.columns.name(column))))
    }
}

/// The first field that names a picture or a sound.
fn file_in(row: &ByteRecord) -> Option<(usize, Medium)> {
    row.iter().enumerate().find_map(|(column, field)| {
        let name = std::str::from_utf8(field.trim_ascii()).ok()?;
        Medium::of(Path::new(name)).filter(|medium| *medium != Medium::Text).map(|medium| (column, medium))
    })
}

/// The files of a list, each with its line.
struct Listed {
    name: String,
    medium: Medium,
    files: Vec<(u64, PathBuf)>,
}

impl Load for Listed {
    fn load(&self, index: usize) -> Result<Item> {
        let raw = self.medium.read(&self.files[index].1);
        raw.map(Item::new).map_err(|e| e.within(format!("{}: line {}", self.name, self.files[index].0)))
    }

    fn name(&self, index: usize) -> String {
        self.files[index].1.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(text: &str, options: &ReadOptions) -> Result<Option<Source>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.csv");
        std::fs::write(&path, text).unwrap();
        open(&path, options)
    }

    fn about(text: &str, options: &ReadOptions) -> About {
        opened(text, options).unwrap().unwrap().about
    }

    fn message(text: &str, options: &ReadOptions) -> String {
        opened(text, options).err().unwrap().message().to_owned()
    }

    #[test]
    fn a_column_of_files_makes_a_list() {
        let options = ReadOptions::default();
        let own = about("file,who,kind\na.png,x,cat\nb/c.JPG,y,dog\n", &options);
        let Labels::Names { distinct, of_sample } = &own.labels else { panic!("{:?}", own.labels) };
        assert_eq!((distinct[1].0.as_str(), &of_sample[..], own.samples), ("dog", &[0, 1][..], 2));
        assert_eq!(about("cat,a.wav\ndog,b.wav\ncat,c.wav\n", &options).samples, 3);
        assert!(opened("a,b\n1,2\n", &options).unwrap().is_none());
        assert!(opened("", &options).unwrap().is_none());
    }

    #[test]
    fn columns_are_named() {
        let text = "who,file,kind,size\nann,a.png,cat,3\nbob,b.png,dog,4.5\n";
        let options =
            ReadOptions { targets: vec!["size".to_owned()], group: Some("who".to_owned()), ..ReadOptions::default() };
        let own = about(text, &options);
        let wanted = Labels::Targets { values: vec![3.0, 4.5], names: vec!["size".to_owned()], outputs: 1 };
        assert_eq!(own.labels, wanted);
        assert_eq!(own.groups, Some(vec!["ann".to_owned(), "bob".to_owned()]));
        let label = |name: &str| ReadOptions { label: Some(name.to_owned()), ..ReadOptions::default() };
        assert!(matches!(about(text, &label("kind")).labels, Labels::Names { .. }));
        assert!(message(text, &label("sort")).contains("no column `sort`; there are `who`, `file`, `kind`, `size`"));
        assert!(message(text, &label("file")).contains("column `file` holds the files, and is to be learned"));
    }

    #[test]
    fn lines_that_do_not_fit_are_named() {
        let options = ReadOptions::default();
        assert!(
            message("a.png,x\nb.wav,y\n", &options).contains("line 2: `b.wav` does not end as names of pictures do")
        );
        assert!(message("a.png,x\nb.png\n", &options).contains("line 2 has 1 columns"));
        assert!(message("a.png,x\nb.png,\n", &options).contains("line 2: nothing in column 2"));
        assert!(message("a.png\nb.png\n", &options).contains("no column says what they are"));
    }
}
