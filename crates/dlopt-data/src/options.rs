//! Options of steps and features: written `NAME=VALUE,key=value` on a command line, as tables in recipes, and kept in
//! full in datasets and checkpoints.

use dlopt_checkpoint::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Reads `NAME`, `NAME=VALUE` or `NAME=VALUE,key=value…`: the name and the options; a value without a key goes to the
/// option that is called `main`, which the caller looks up by the name.
pub(crate) fn parse(text: &str, main: impl Fn(&str) -> Result<&'static str>) -> Result<(String, Map<String, Value>)> {
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) => (name, rest),
        None => (text, ""),
    };
    let main = main(name)?;
    let mut options = Map::new();
    for (place, part) in rest.split(',').enumerate().filter(|(_, part)| !part.is_empty()) {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None if place == 0 && !main.is_empty() => (main, part.trim()),
            None => {
                return Err(Error::usage(format!("`{text}`: `{part}` is no option; wanted key=value")));
            }
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        if options.insert(key.to_owned(), value).is_some() {
            return Err(Error::usage(format!("`{text}` says `{key}` twice")));
        }
    }
    Ok((name.to_owned(), options))
}

/// Options of `name` as a type.
pub(crate) fn read<T: DeserializeOwned>(name: &str, options: Map<String, Value>) -> Result<T> {
    serde_json::from_value(Value::Object(options)).map_err(|e| Error::usage(format!("`{name}`: {e}")))
}

/// All options of a type, as a dataset and a checkpoint keep them.
pub(crate) fn written<T: Serialize>(options: &T) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(options)) => options,
        _ => unreachable!("options are structs of numbers, texts and lists"),
    }
}
