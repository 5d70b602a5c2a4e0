//! Tables: comma- or otherwise separated text, plain or gzipped, one sample a line.
//!
//! The first line may name the columns, or be scikit-learn's `rows,features,class names…`. One column holds the class
//! (its number or its name; the last, when nobody says), or some hold numbers to predict; all others are features. With
//! a shape the features are the pixels of a picture, row by row.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};
use dlopt_checkpoint::{Dtype, Error, Result};

use super::columns::Columns;
use super::labels::{LabelNames, MOST_CLASSES};
use super::lines::open_text;
use super::raw_bytes::{broken, open_bytes};
use super::{
    About, Fixed, Format, Inputs, Labels, ReadOptions, Samples, Source, Values, channels_of, list, reshaped,
    samples_per_chunk, text_table,
};
use crate::dataset::quoted;
use crate::info::Elements;

pub(super) const FORMAT: Format = Format {
    name: "csv",
    summary: "tables of numbers with a column of classes or targets; also .tsv",
    extensions: &[".csv", ".tsv", ".data"],
    sniff: |first| {
        // Text whose first line has several columns.
        let line = first.split(|&b| b == b'\n').next().unwrap_or_default();
        !first.contains(&0) && std::str::from_utf8(line).is_ok() && line.iter().any(|b| DELIMITERS.contains(b))
    },
    group: |files| Ok(files.into_iter().map(|file| vec![file]).collect()),
    open,
};

/// What may stand between columns, when nobody says; the most frequent in the first line.
const DELIMITERS: [u8; 3] = [b',', b'\t', b';'];

/// How the lines of a table are to be read.
#[derive(Clone, Debug)]
struct Table {
    path: PathBuf,
    delimiter: u8,
    encoding: Option<String>,
    columns: Columns,
    /// Class names and number of rows that scikit-learn's first line declares.
    declared: Option<(usize, Vec<String>)>,
    has_header: bool,
    label: Option<usize>,
    targets: Vec<usize>,
    group: Option<usize>,
    features: Vec<usize>,
}

fn open(files: &[PathBuf], options: &ReadOptions) -> Result<Vec<Source>> {
    let [path] = files else { return Err(Error::usage("a table is one file")) };
    if options.text.is_some() || options.answer.is_some() {
        return text_table::open(path, options);
    }
    if let Some(list) = list::open(path, options)? {
        return Ok(vec![list]);
    }
    let table = Table::new(path, options)?;
    let found = table.survey()?;
    if let Some((rows, _)) = &table.declared
        && *rows != found.rows
    {
        return Err(Error::input(format!(
            "{}: its first line promises {rows} rows, and there are {}",
            path.display(),
            found.rows
        ))
        .hint("the file was cut short or changed: fetch it again"));
    }
    let named = |&column: &usize| table.columns.names.get(column).cloned();
    let names = table.features.iter().filter_map(named).collect();
    let own = Elements::Vector { features: table.features.len(), names };
    let elements = reshaped(own, options).map_err(|e| e.within(path.display()))?;
    let is_bytes = found.is_bytes && matches!(elements, Elements::Image { .. });
    let classes = table.declared.as_ref().map(|(_, names)| names.clone());
    let labels = match classes.as_ref() {
        Some(classes) => numbered(path, found.labels, classes)?,
        None => found.labels,
    };
    let fixed = Fixed {
        channels: channels_of(&elements, &elements),
        elements,
        dtype: if is_bytes { Dtype::U8 } else { Dtype::F32 },
        lengths: None,
        largest: Some(found.largest),
    };
    let about = About {
        name: path.display().to_string(),
        files: files.to_vec(),
        samples: found.rows,
        labels,
        classes,
        groups: found.groups,
        fixed: Some(fixed),
        ..About::default()
    };
    Ok(vec![Source { split: None, about, samples: Samples::Stream(Box::new(table)) }])
}

/// Labels as numbers into the classes that the first line declares.
fn numbered(path: &Path, labels: Labels, classes: &[String]) -> Result<Labels> {
    let Labels::Names { distinct, of_sample } = labels else { return Ok(labels) };
    let numbers = distinct
        .iter()
        .map(|(name, place)| match name.parse::<u32>() {
            Ok(number) if (number as usize) < classes.len() => Ok(number),
            _ => Err(Error::input(format!(
                "{}: {place}: label `{name}` is outside the classes; the first line declares {}, 0 to {}",
                path.display(),
                quoted(classes),
                classes.len() - 1
            ))),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Labels::Numbers(of_sample.iter().map(|&place| numbers[place as usize]).collect()))
}

/// What the first look at all rows gives.
struct Survey {
    rows: usize,
    labels: Labels,
    groups: Option<Vec<String>>,
    /// Whether every feature is a whole number from 0 to 255.
    is_bytes: bool,
    largest: f32,
}

impl Table {
    fn new(path: &Path, options: &ReadOptions) -> Result<Self> {
        let within = |e: Error| e.within(path.display());
        let delimiter = match options.delimiter {
            Some(delimiter) => delimiter,
            None => delimiter_of(path)?,
        };
        let mut rows = Rows::open(path, delimiter, true, options.encoding.as_deref())?;
        let (mut first, mut second) = (ByteRecord::new(), ByteRecord::new());
        if rows.next(&mut first)?.is_none() {
            return Err(within(Error::input("is empty; wanted one row for every sample")));
        }
        rows.next(&mut second)?;
        let header = match options.header {
            Some(false) => Header::None,
            Some(true) => Header::Names,
            None => header_of(&first, &second),
        };
        let text = |field: &[u8]| String::from_utf8_lossy(field.trim_ascii()).into_owned();
        let names: Vec<String> = match header {
            Header::Names => first.iter().map(text).collect(),
            _ => Vec::new(),
        };
        let declared = match header {
            Header::Declaration { rows } => Some((rows, first.iter().skip(2).map(text).collect())),
            _ => None,
        };
        let has_header = !matches!(header, Header::None);
        let row = if has_header { &second } else { &first };
        if row.is_empty() {
            return Err(within(
                Error::input("has no rows after its first line; wanted one for every sample")
                    .hint("--header no, if the first line is a row"),
            ));
        }
        let mut table = Self {
            path: path.to_owned(),
            delimiter,
            encoding: options.encoding.clone(),
            columns: Columns { names, count: row.len() },
            declared,
            has_header,
            label: None,
            targets: Vec::new(),
            group: None,
            features: Vec::new(),
        };
        let Columns { names, count } = &table.columns;
        if !names.is_empty() && names.len() != *count {
            let named = names.len();
            return Err(within(Error::input(format!("the first line names {named} columns, the second has {count}"))));
        }
        table.choose_columns(options).map_err(within)?;
        Ok(table)
    }

    fn choose_columns(&mut self, options: &ReadOptions) -> Result<()> {
        self.targets = options.targets.iter().map(|name| self.columns.find(name)).collect::<Result<_>>()?;
        self.label = match &options.label {
            Some(name) => Some(self.columns.find(name)?),
            None if self.targets.is_empty() => Some(self.columns.count - 1),
            None => None,
        };
        if self.label.is_some() && !self.targets.is_empty() {
            return Err(Error::usage(
                "a column of classes and columns of targets are asked for; wanted one or the other",
            ));
        }
        self.group = options.group.as_ref().map(|name| self.columns.find(name)).transpose()?;
        let dropped: Vec<usize> = options.drop.iter().map(|name| self.columns.find(name)).collect::<Result<_>>()?;
        if let Some(at) = dropped.iter().find(|c| Some(**c) == self.label || self.targets.contains(c)) {
            return Err(Error::usage(format!("{} is to be learned, and to be left out", self.columns.name(*at)))
                .hint("--label or --targets names another column"));
        }
        self.features = (0..self.columns.count)
            .filter(|c| {
                Some(*c) != self.label && Some(*c) != self.group && !self.targets.contains(c) && !dropped.contains(c)
            })
            .collect();
        if self.features.is_empty() {
            return Err(Error::input(format!("has {} columns, and none is left for the inputs", self.columns.count))
                .hint("--delimiter says what stands between columns, such as --delimiter ';'"));
        }
        Ok(())
    }

    /// Gives every row with the place it stands.
    fn rows(&self, mut each: impl FnMut(&ByteRecord, u64) -> Result<()>) -> Result<()> {
        let rows = Rows::open(&self.path, self.delimiter, true, self.encoding.as_deref())?;
        rows.each(self.has_header, self.columns.count, &mut each)
    }

    /// The number in a column of a row.
    fn number(&self, row: &ByteRecord, column: usize, line: u64) -> Result<f32> {
        let field = row[column].trim_ascii();
        let number = std::str::from_utf8(field).ok().and_then(|text| text.parse::<f32>().ok());
        match number.filter(|x| x.is_finite()) {
            Some(number) => Ok(number),
            None => Err(self.no_number(field, number, column, line)),
        }
    }

    fn no_number(&self, field: &[u8], number: Option<f32>, column: usize, line: u64) -> Error {
        let place = format!("{}: line {line}, {}", self.path.display(), self.columns.name(column));
        if field.is_empty() {
            return Error::input(format!("{place}: nothing there; wanted a number"))
                .hint("fill or remove rows with missing values, or leave the column out with --drop");
        }
        let shown: String = String::from_utf8_lossy(field).chars().take(40).collect();
        let error = Error::input(match number {
            Some(_) => format!("{place}: `{shown}` is not a finite number"),
            None => format!("{place}: `{shown}` is not a number"),
        });
        if line == 1 && number.is_none() {
            return error.hint("--header yes, if the first line holds the names of the columns");
        }
        error.hint("leave the column out with --drop, or name the column of classes with --label")
    }

    fn survey(&self) -> Result<Survey> {
        let (mut labels, mut values, mut groups) = (LabelNames::default(), Vec::new(), Vec::new());
        let (mut rows, mut is_bytes, mut largest) = (0, true, f32::NEG_INFINITY);
        self.rows(|row, line| {
            rows += 1;
            for &column in &self.features {
                let x = self.number(row, column, line)?;
                is_bytes &= (0.0..=255.0).contains(&x) && x.fract() == 0.0;
                largest = largest.max(x);
            }
            for &column in &self.targets {
                values.push(self.number(row, column, line)?);
            }
            if let Some(group) = self.group {
                groups.push(String::from_utf8_lossy(row[group].trim_ascii()).into_owned());
            }
            let Some(label) = self.label else { return Ok(()) };
            let name = row[label].trim_ascii();
            let text = match std::str::from_utf8(name) {
                Ok(text) if !text.is_empty() => text,
                _ => {
                    return Err(Error::input(format!(
                        "{}: line {line}, {}: wanted the class, found {}",
                        self.path.display(),
                        self.columns.name(label),
                        if name.is_empty() { "nothing" } else { "bytes that are no UTF-8" }
                    )));
                }
            };
            if labels.see(text, line) {
                return Ok(());
            }
            Err(Error::input(format!(
                "{}: line {line}: {} holds more than {MOST_CLASSES} different classes",
                self.path.display(),
                self.columns.name(label)
            ))
            .hint("--targets, if it holds numbers to predict; --label names another column"))
        })?;
        let labels = if self.targets.is_empty() {
            labels.into_labels()
        } else {
            let names = self.targets.iter().filter_map(|&column| self.columns.names.get(column).cloned()).collect();
            Labels::Targets { values, names, outputs: self.targets.len() }
        };
        let groups = self.group.is_some().then_some(groups);
        Ok(Survey { rows, labels, groups, is_bytes, largest })
    }
}

impl Inputs for Table {
    fn read(&self, each: &mut dyn FnMut(Values) -> Result<()>) -> Result<()> {
        let chunk = samples_per_chunk(self.features.len(), 4) * self.features.len();
        let mut values = Vec::with_capacity(chunk);
        self.rows(|row, line| {
            for &column in &self.features {
                values.push(self.number(row, column, line)?);
            }
            if values.len() < chunk {
                return Ok(());
            }
            each(Values::F32(std::mem::replace(&mut values, Vec::with_capacity(chunk))))
        })?;
        if values.is_empty() { Ok(()) } else { each(Values::F32(values)) }
    }
}

/// What the first line is.
enum Header {
    None,
    Names,
    /// scikit-learn's: how many rows and features, then the names of the classes.
    Declaration {
        rows: usize,
    },
}

fn header_of(first: &ByteRecord, second: &ByteRecord) -> Header {
    fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
        std::str::from_utf8(field.trim_ascii()).ok()?.parse().ok()
    }
    let is_name = |field: &[u8]| !field.trim_ascii().is_empty() && number::<f32>(field).is_none();
    if let (Some(rows), Some(features)) =
        (first.get(0).and_then(number::<usize>), first.get(1).and_then(number::<usize>))
        && features + 1 == second.len()
        && first.len() > 2
        && first.iter().skip(2).all(is_name)
        // Its classes are numbers; in a table without a first line `1,2,x` is a row like the next.
        && second.iter().next_back().and_then(number::<usize>).is_some()
    {
        return Header::Declaration { rows };
    }
    // A line of names has no number in it, and rows have.
    let has_numbers = second.iter().any(|field| number::<f32>(field).is_some());
    if has_numbers && first.iter().all(|field| number::<f32>(field).is_none()) { Header::Names } else { Header::None }
}

/// What stands between columns: what the file's name says, else the most frequent in the first line.
pub(super) fn delimiter_of(path: &Path) -> Result<u8> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if name.trim_end_matches(".gz").ends_with(".tsv") {
        return Ok(b'\t');
    }
    let mut line = Vec::new();
    open_bytes(path)?.read_until(b'\n', &mut line).map_err(|e| broken(path, &e))?;
    let count = |delimiter: u8| line.iter().filter(|b| **b == delimiter).count();
    // The first of equals: `max_by_key` takes the last.
    Ok(DELIMITERS.into_iter().rev().max_by_key(|&delimiter| count(delimiter)).unwrap_or(b','))
}

/// Lines of a table as they come.
pub(super) struct Rows {
    path: PathBuf,
    reader: csv::Reader<Box<dyn BufRead + Send>>,
}

impl Rows {
    /// Opens a table; `has_quotes` when quotes hold a field together.
    pub(super) fn open(path: &Path, delimiter: u8, has_quotes: bool, encoding: Option<&str>) -> Result<Self> {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .quoting(has_quotes)
            .delimiter(delimiter)
            .buffer_capacity(1 << 16)
            .from_reader(open_text(path, encoding)?);
        Ok(Self { path: path.to_owned(), reader })
    }

    /// Gives all rows, each with the line it begins in, after the names of the columns when the first line holds them.
    ///
    /// # Errors
    /// When a row has another number of columns, or `each` fails.
    pub(super) fn each(
        mut self,
        has_header: bool,
        columns: usize,
        each: &mut dyn FnMut(&ByteRecord, u64) -> Result<()>,
    ) -> Result<()> {
        let mut row = ByteRecord::new();
        if has_header {
            self.next(&mut row)?;
        }
        while let Some(line) = self.next(&mut row)? {
            if row.len() != columns {
                return Err(Error::input(format!(
                    "{}: line {line} has {} columns; the first row has {columns}",
                    self.path.display(),
                    row.len()
                ))
                .hint(
                    "a value is missing or a delimiter is too many there; texts with delimiters in them need quotes \
                     (--quotes yes or no says whether quotes are some)",
                ));
            }
            each(&row, line)?;
        }
        Ok(())
    }

    /// Reads the next row and says in which line it begins.
    pub(super) fn next(&mut self, row: &mut ByteRecord) -> Result<Option<u64>> {
        match self.reader.read_byte_record(row) {
            Ok(true) => Ok(Some(row.position().map_or(0, csv::Position::line))),
            Ok(false) => Ok(None),
            Err(e) => match e.into_kind() {
                csv::ErrorKind::Io(e) => Err(broken(&self.path, &e)),
                other => Err(Error::input(format!("{}: {other:?}", self.path.display()))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn opened(text: &[u8], options: &ReadOptions) -> Result<(About, Vec<f32>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.csv");
        std::fs::write(&path, text).unwrap();
        let source = open(&[path], options)?.remove(0);
        let mut all = Vec::new();
        source.samples.stream().read(&mut |chunk| {
            match chunk {
                Values::F32(values) => all.extend(values),
                Values::U8(_) => panic!("tables give floats"),
            }
            Ok(())
        })?;
        Ok((source.about, all))
    }

    fn message(text: &str, options: &ReadOptions) -> String {
        opened(text.as_bytes(), options).expect_err("must be refused").message().to_owned()
    }

    fn names(labels: &Labels) -> (Vec<&str>, &[u32]) {
        match labels {
            Labels::Names { distinct, of_sample } => (distinct.iter().map(|(n, _)| n.as_str()).collect(), of_sample),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_table_with_names_and_one_without_are_told_apart() {
        let options = ReadOptions::default();
        let (about, values) = opened(b"a, b ,kind\n1,2,x\n3,4,y\n5,6,x\n", &options).unwrap();
        assert_eq!(about.fixed().elements, Elements::Vector { features: 2, names: vec!["a".into(), "b".into()] });
        assert_eq!(names(&about.labels), (vec!["x", "y"], &[0, 1, 0][..]));
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let (about, values) = opened(b"1,2,7\r\n3,4,9\r\n", &options).unwrap();
        assert_eq!(about.fixed().elements, Elements::Vector { features: 2, names: vec![] });
        assert_eq!(names(&about.labels), (vec!["7", "9"], &[0, 1][..]));
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn the_first_line_of_scikit_learn_declares_rows_and_classes() {
        let options = ReadOptions::default();
        let (about, _) = opened(b"2,3,setosa,virginica\n1,2,3,1\n4,5,6,0\n", &options).unwrap();
        assert_eq!(about.classes, Some(vec!["setosa".to_owned(), "virginica".to_owned()]));
        assert_eq!(about.labels, Labels::Numbers(vec![1, 0]));
        assert!(message("3,3,a,b\n1,2,3,1\n4,5,6,0\n", &options).contains("promises 3 rows, and there are 2"));
        let outside = message("2,3,a,b\n1,2,3,1\n4,5,6,2\n", &options);
        assert!(outside.contains("line 3: label `2` is outside the classes"), "{outside}");
        let (about, values) = opened(b"1,2,x\n3,4,y\n", &options).unwrap();
        assert_eq!(names(&about.labels), (vec!["x", "y"], &[0, 1][..]));
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn columns_are_chosen_by_name_or_number() {
        let text = b"id,x,class,y\n9,1,u,2\n8,3,v,4\n";
        let options = ReadOptions { label: Some("class".into()), drop: vec!["1".into()], ..Default::default() };
        let (about, values) = opened(text, &options).unwrap();
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(names(&about.labels).0, ["u", "v"]);
        let targets =
            ReadOptions { targets: vec!["y".into(), "x".into()], drop: vec!["class".into()], ..Default::default() };
        let (about, values) = opened(text, &targets).unwrap();
        assert_eq!(values, [9.0, 8.0]);
        let wanted =
            Labels::Targets { values: vec![2.0, 1.0, 4.0, 3.0], names: vec!["y".into(), "x".into()], outputs: 2 };
        assert_eq!(about.labels, wanted);
        let unknown = ReadOptions { label: Some("clas".into()), ..Default::default() };
        let error = opened(text, &unknown).unwrap_err();
        assert!(error.message().contains("no column `clas`; there are `id`"), "{error}");
        assert_eq!(error.what_to_try(), Some("did you mean `class`?"));
        let both = ReadOptions { drop: vec!["y".into()], ..Default::default() };
        assert!(message("x,y\n1,2\n", &both).contains("column `y` is to be learned, and to be left out"));
    }

    #[test]
    fn rows_with_a_shape_are_pictures() {
        let options = ReadOptions { shape: vec![2, 2], ..Default::default() };
        let (about, _) = opened(b"0,1,2,16,a\n3,4,5,6,b\n", &options).unwrap();
        assert_eq!(about.fixed().elements, Elements::Image { height: 2, width: 2, channels: 1 });
        assert_eq!((about.fixed().dtype, about.fixed().largest), (Dtype::U8, Some(16.0)));
        let (about, _) = opened(b"0,1,2,16.5,a\n3,4,5,6,b\n", &options).unwrap();
        assert_eq!(about.fixed().dtype, Dtype::F32);
        let wrong = ReadOptions { shape: vec![2, 3], ..Default::default() };
        assert!(message("0,1,2,3,a\n", &wrong).contains("--shape 2x3 has 6"));
    }

    #[test]
    fn what_is_wrong_in_a_row_names_line_and_column() {
        let options = ReadOptions::default();
        assert!(message("a,b,c\n1,2,x\n3,x\n", &options).contains("line 3 has 2 columns; the first row has 3"));
        assert!(message("a,b,c\n1,2,x\n3,q,y\n", &options).contains("line 3, column `b`: `q` is not a number"));
        assert!(message("1,2,x\n3,,y\n", &options).contains("line 2, column 2: nothing there"));
        assert!(message("1,2,x\n3,nan,y\n", &options).contains("line 2, column 2: `nan` is not a finite number"));
        assert!(message("1,2,x\n3,1e99,y\n", &options).contains("`1e99` is not a finite number"));
        assert!(message("1,2,x\n3,4,\n", &options).contains("wanted the class, found nothing"));
        assert!(message("", &options).contains("is empty"));
        assert!(message("a,b\n", &ReadOptions { header: Some(true), ..Default::default() }).contains("has no rows"));
        assert!(message("7\n8\n", &options).contains("none is left for the inputs"));
        let quoted = "a,b\n\"1\",\"x\ny\"\n2,3,4\n";
        assert!(message(quoted, &options).contains("line 4 has 3 columns"), "a quoted line break counts");
    }

    #[test]
    fn other_delimiters_are_found() {
        for delimiter in ["\t", ";"] {
            let text = "1,5 2 x\n3,5 4 y\n".replace(',', ".").replace(' ', delimiter);
            assert_eq!(opened(text.as_bytes(), &ReadOptions::default()).unwrap().1, [1.5, 2.0, 3.5, 4.0]);
        }
        let options = ReadOptions { delimiter: Some(b'|'), ..Default::default() };
        assert_eq!(opened(b"1|x\n2|y\n", &options).unwrap().1, [1.0, 2.0]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9a-z,;.\"\n\r -]{0,120}") {
            let _ = opened(text.as_bytes(), &ReadOptions::default());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), header: Option<bool>) {
            let _ = opened(&bytes, &ReadOptions { header, ..Default::default() });
        }
    }
}
