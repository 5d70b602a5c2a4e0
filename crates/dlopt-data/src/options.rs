//! Options of steps and features: written `NAME=VALUE,key=value` on a command line, as tables in recipes, and kept in
//! full in datasets and checkpoints.

use dlopt_checkpoint::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Reads `NAME`, `NAME=VALUE`, `NAME,key=value` or `NAME=VALUE,key=value…`: the name and the options; a value without a key goes to the
/// option that is called `main`, which the caller looks up by the name.
///
/// # Errors
/// When a part is no `key=value`, or a key comes twice.
pub fn parse(text: &str, main: impl Fn(&str) -> Result<&'static str>) -> Result<(String, Map<String, Value>)> {
    let (name, rest, first) = match text.find(['=', ',']) {
        Some(end) => (&text[..end], &text[end + 1..], usize::from(text[end..].starts_with(','))),
        None => (text, "", 0),
    };
    let main = main(name)?;
    let mut options = Map::new();
    for (place, part) in rest.split(',').enumerate().filter(|(_, part)| !part.is_empty()) {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None if place + first == 0 && !main.is_empty() => (main, part.trim()),
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
///
/// # Errors
/// When an option is unknown, missing or of another type.
pub fn read<T: DeserializeOwned>(name: &str, options: Map<String, Value>) -> Result<T> {
    serde_json::from_value(Value::Object(options)).map_err(|e| Error::usage(format!("`{name}`: {e}")))
}

/// All options of a type, as a dataset and a checkpoint keep them.
pub fn written<T: Serialize>(options: &T) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(options)) => options,
        _ => unreachable!("options are structs of numbers, texts and lists"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_behind_a_value_or_a_name() {
        let read = |text| parse(text, |_| Ok("size")).map(|(name, options)| (name, Value::Object(options).to_string()));
        assert_eq!(read("crop").unwrap(), ("crop".to_owned(), "{}".to_owned()));
        assert_eq!(read("crop=3,at=[1]").unwrap().1, r#"{"size":3,"at":[1]}"#);
        assert_eq!(read("crop,at=x").unwrap(), ("crop".to_owned(), r#"{"at":"x"}"#.to_owned()));
        assert!(read("crop,3").is_err() && read("crop=1,2").is_err() && read("crop=1,size=2").is_err());
    }
}
