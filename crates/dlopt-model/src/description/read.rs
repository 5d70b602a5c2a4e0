//! Tables to options, with errors that name what stands there and what is nearest to it.

use dlopt_checkpoint::{Error, Result};
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde_json::{Map, Value};

use super::Layer;

/// The layers of a list; `place` stands before the number of each in errors.
pub(super) fn layers(value: Value, place: &str) -> Result<Vec<Layer>> {
    let Value::Array(layers) = value else {
        return Err(Error::input(format!("{place}`layers` is a list of tables, found {}", kind(&value))));
    };
    layers.into_iter().enumerate().map(|(i, layer)| Layer::read(layer, &format!("{place}layer {}", i + 1))).collect()
}

/// The options of a layer from its table.
pub(super) fn options<T: DeserializeOwned>(table: Map<String, Value>) -> Result<T> {
    refuse_unknown(&table, fields::<T>(), "option")?;
    serde_json::from_value(Value::Object(table.clone())).map_err(|error| {
        let text = error.to_string();
        if let Some(field) = text.strip_prefix("missing field ") {
            return Error::input(format!("option {field} is missing"));
        }
        // Serde does not say where a value stood: it is the one without which nothing, or only itself, is missed.
        let culprit = table.keys().find(|key| {
            let mut without = table.clone();
            without.remove(*key);
            match serde_json::from_value::<T>(Value::Object(without)) {
                Ok(_) => true,
                Err(other) => other.to_string() == format!("missing field `{key}`"),
            }
        });
        match culprit {
            Some(key) => Error::input(format!("option `{key}`: {text}")),
            None => Error::input(text),
        }
    })
}

/// An error for the first key that is none of `known`.
pub(super) fn refuse_unknown(table: &Map<String, Value>, known: &[&str], what: &str) -> Result<()> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(unknown(what, key, known)),
        None => Ok(()),
    }
}

/// What to say of a word that is not known.
pub(super) fn unknown(what: &str, found: &str, known: &[&str]) -> Error {
    let error = Error::input(format!("unknown {what} `{found}`"));
    match nearest(found, known) {
        Some(near) => error.hint(format!("did you mean `{near}`? known: {}", known.join(", "))),
        None if known.is_empty() => error.hint(format!("there is no {what}")),
        None => error.hint(format!("known: {}", known.join(", "))),
    }
}

/// The known word that a misspelt one most likely means.
pub(crate) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Other libraries' words for the same things.
    const ALSO: [(&str, &str); 15] = [
        ("linear", "dense"),
        ("fc", "dense"),
        ("kernel_size", "kernel"),
        ("kernel_size", "size"),
        ("kernel", "size"),
        ("pool_size", "size"),
        ("out_channels", "filters"),
        ("out_features", "units"),
        ("hidden_size", "hidden"),
        ("num_layers", "layers"),
        ("depth_multiplier", "multiplier"),
        ("input_dim", "vocabulary"),
        ("output_dim", "size"),
        ("eps", "epsilon"),
        ("p", "rate"),
    ];
    let found = found.to_lowercase();
    let other = ALSO.iter().find(|(word, ours)| *word == found && known.contains(ours)).map(|(_, ours)| *ours);
    if let Some(ours) = other {
        return known.iter().copied().find(|word| *word == ours);
    }
    let scored = known.iter().map(|word| (strsim::jaro_winkler(&found, word), *word));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

/// What a value is, for errors.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// The names of a struct's fields, as its `Deserialize` asks for them.
fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Ask<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = serde::de::value::Error;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("only asked for its fields"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut names: &'static [&'static str] = &[];
    // It always fails; the names are what was wanted.
    let _ = T::deserialize(Ask(&mut names));
    names
}
