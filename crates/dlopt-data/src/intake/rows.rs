//! Rows of tables: columns told by the names that the network knows, or by their places.

use std::io::{BufRead, Cursor, Read};

use csv::{ByteRecord, ReaderBuilder};
use dlopt_checkpoint::{Context, Error, Result};

use super::{Each, Intake};
use crate::dataset::quoted;
use crate::info::RawInput;
use crate::raw::{Image, Raw, Series};

/// What may stand between columns; the most frequent in the first line.
const DELIMITERS: [u8; 3] = [b',', b'\t', b';'];

/// Where the numbers of a row stand.
enum Places {
    Named(Vec<usize>),
    /// All columns, of which there must be so many, or a multiple of so many.
    All {
        columns: usize,
        may_repeat: bool,
    },
}

pub(super) fn read(intake: &Intake, name: &str, mut table: Box<dyn BufRead>, each: &mut Each<'_>) -> Result<()> {
    let mut first_line = Vec::new();
    table.read_until(b'\n', &mut first_line).at(name)?;
    let count = |delimiter: u8| first_line.iter().filter(|b| **b == delimiter).count();
    // The first of equals: `max_by_key` takes the last.
    let delimiter = DELIMITERS.into_iter().rev().max_by_key(|&delimiter| count(delimiter)).unwrap_or(b',');
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(Cursor::new(first_line).chain(table));
    let mut row = ByteRecord::new();
    let mut next = |row: &mut ByteRecord| -> Result<Option<u64>> {
        match reader.read_byte_record(row) {
            Ok(true) => Ok(Some(row.position().map_or(0, csv::Position::line))),
            Ok(false) => Ok(None),
            Err(e) => Err(Error::input(format!("{name}: does not read on: {e}"))),
        }
    };
    let Some(mut line) = next(&mut row)? else {
        return Err(Error::input(format!("{name}: is empty; wanted a row for each sample")));
    };
    let (places, is_header) = places(intake.raw(), &row).map_err(|e| e.within(name))?;
    if is_header {
        match next(&mut row)? {
            Some(next) => line = next,
            None => return Err(Error::input(format!("{name}: has no rows after its first line"))),
        }
    }
    loop {
        let raw = numbers(&row, &places, intake.raw()).map(|values| raw_of(intake, values));
        each(format!("{name}:{line}"), raw.map_err(|e| e.within(format!("{name}: line {line}"))))?;
        match next(&mut row)? {
            Some(next) => line = next,
            None => return Ok(()),
        }
    }
}

/// Where the numbers stand, and whether the first line holds names.
fn places(raw: &RawInput, first: &ByteRecord) -> Result<(Places, bool)> {
    let own: Vec<String> = first.iter().map(|f| String::from_utf8_lossy(f.trim_ascii()).into_owned()).collect();
    let is_text = own.iter().all(|field| field.parse::<f32>().is_err());
    let all = |columns: usize, may_repeat: bool| (Places::All { columns, may_repeat }, is_text);
    let names = match raw {
        RawInput::Row { columns } => columns,
        RawInput::Pixels { height, width, channels } => return Ok(all(height * width * channels, false)),
        RawInput::Series { features } => return Ok(all(*features, true)),
        _ => {
            return Err(
                Error::usage("is a table, and the network takes none").hint("`dlopt inspect` says what it takes")
            );
        }
    };
    let have_names = names.iter().enumerate().any(|(place, name)| *name != place.to_string());
    let is_header = have_names && (is_text || names.iter().any(|name| own.contains(name)));
    if !is_header {
        return Ok(all(names.len(), false));
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match own.iter().position(|own| own == name) {
            Some(place) => found.push(place),
            None => missing.push(name),
        }
    }
    if missing.is_empty() {
        return Ok((Places::Named(found), true));
    }
    Err(Error::input(format!(
        "no column{} {} among {}",
        if missing.len() == 1 { "" } else { "s" },
        quoted(&missing),
        quoted(&own)
    ))
    .hint("the first line names the columns as the data did that the network learned from"))
}

fn numbers(row: &ByteRecord, places: &Places, raw: &RawInput) -> Result<Vec<f32>> {
    let number = |place: usize| {
        let field = row.get(place).unwrap_or_default().trim_ascii();
        let number = std::str::from_utf8(field).ok().and_then(|text| text.parse::<f32>().ok());
        number.filter(|x| x.is_finite()).ok_or_else(|| {
            let shown: String = String::from_utf8_lossy(field).chars().take(40).collect();
            let column = match (places, raw) {
                (Places::Named(all), RawInput::Row { columns }) => {
                    all.iter().position(|own| *own == place).map(|at| format!("column `{}`", columns[at]))
                }
                _ => None,
            };
            let column = column.unwrap_or_else(|| format!("column {}", place + 1));
            Error::input(format!("{column}: `{shown}` is not a finite number"))
        })
    };
    match places {
        Places::Named(places) => places.iter().map(|&place| number(place)).collect(),
        Places::All { columns, may_repeat } => {
            let fits = if *may_repeat { row.len().is_multiple_of(*columns) } else { row.len() == *columns };
            if !fits {
                let what = if *may_repeat { "a multiple of " } else { "" };
                let error = Error::input(format!("has {} columns; the network takes {what}{columns}", row.len()));
                return Err(match raw {
                    RawInput::Row { .. } => {
                        error.hint("a first line with the names of the columns lets others stand beside them")
                    }
                    _ => error,
                });
            }
            (0..row.len()).map(number).collect()
        }
    }
}

/// What a row of numbers stands for.
fn raw_of(intake: &Intake, values: Vec<f32>) -> Raw {
    match *intake.raw() {
        RawInput::Pixels { height, width, channels } => {
            Raw::Image(Image { height, width, channels, pixels: intake.as_stored(values) })
        }
        RawInput::Series { features } => Raw::Series(Series {
            time: values.len() / features.max(1),
            features,
            rate: None,
            values: intake.as_stored(values),
        }),
        _ => Raw::Row(intake.as_stored(values)),
    }
}
