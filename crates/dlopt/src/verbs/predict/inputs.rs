//! What the arguments of `predict` name, sample by sample.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use dlopt_checkpoint::{Context, Error, Result};
use dlopt_data::{Each, Intake, Raw, RawInput};

use super::PredictArgs;

/// Refuses what would read standard input twice.
pub(super) fn check(args: &PredictArgs) -> Result<()> {
    let stdin = Path::new("-");
    let times = args.inputs.iter().filter(|input| *input == "-").count()
        + usize::from(args.lines.as_deref() == Some(stdin))
        + usize::from(args.model == stdin);
    match times {
        0 | 1 => Ok(()),
        _ => Err(Error::usage("standard input can be read once, and - names it twice")),
    }
}

/// Reads all inputs in the order they are named, those of --lines last.
pub(super) fn read(args: &PredictArgs, intake: &Intake, threads: usize, each: &mut Each<'_>) -> Result<()> {
    let takes_texts = *intake.raw() == RawInput::Text;
    if args.lines.is_some() && !takes_texts {
        return Err(Error::usage(format!("--lines gives texts, and the network takes {}", in_words(intake.raw()))));
    }
    for input in &args.inputs {
        match (input.as_str(), intake.raw()) {
            ("-", RawInput::Text) => return Err(Error::usage("texts on standard input are lines").hint("--lines -")),
            ("-", RawInput::Image | RawInput::Sound) => {
                return Err(Error::usage(format!(
                    "standard input gives rows of numbers, and the network takes {}",
                    in_words(intake.raw())
                )));
            }
            ("-", _) => intake.read_rows("-", Box::new(BufReader::new(std::io::stdin())), each)?,
            (text, RawInput::Text) if !text.ends_with(".txt") && !Path::new(text).is_dir() => {
                each(text.to_owned(), Ok(Raw::Text(text.to_owned())))?;
            }
            (path, _) => intake.read(Path::new(path), threads, each)?,
        }
    }
    match &args.lines {
        Some(path) if path == Path::new("-") => lines("standard input", std::io::stdin().lock(), each),
        Some(path) => {
            let name = path.display().to_string();
            lines(&name, BufReader::new(File::open(path).at(&name)?), each)
        }
        None => Ok(()),
    }
}

/// What raw inputs are, for messages.
fn in_words(raw: &RawInput) -> &'static str {
    match raw {
        RawInput::Image => "pictures",
        RawInput::Sound => "sounds",
        RawInput::Text => "texts",
        RawInput::Series { .. } => "series",
        RawInput::Row { .. } => "rows of a table",
        RawInput::Pixels { .. } => "arrays of pixels",
    }
}

fn lines(name: &str, mut from: impl BufRead, each: &mut Each<'_>) -> Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if from.read_until(b'\n', &mut line).at(name)? == 0 {
            break;
        }
        let bytes = line.strip_suffix(b"\n").unwrap_or(&line);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => each(text.to_owned(), Ok(Raw::Text(text.to_owned())))?,
            Err(_) => {
                let place = format!("{name}: line {number}");
                each(place.clone(), Err(Error::input(format!("{place}: is no UTF-8 text"))))?;
            }
        }
    }
    Ok(())
}
