//! The config of a checkpoint: which network its weights belong to, what it takes in and what comes out.
//!
//! JSON under `config` in a checkpoint's metadata (`config.json` in a folder):
//! `model_type`: `"sequential"`; `schema`; `init` and `layers` as in a [`Description`], every option and name spelled out;
//! `input`: the shape of a sample; `outputs`, and `per_step` where as many come out at every step; `classes`: their names, if
//! the outputs are classes; `stream`: how a signal is cut, if samples are windows of one that are read in turn ([`Stream`]);
//! `preprocessing`: what was done to the data, and `training`: facts of the run, both written and read by those who know
//! them. Other keys, such as the `quantization_config` of a pass, are kept as they are.

use dlopt_checkpoint::{Error, Header, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::description::Description;
use crate::plan::{Node, Shape};
use crate::resolve::resolve_for;

/// The `model_type` of all networks of this crate.
pub const MODEL_TYPE: &str = "sequential";

/// The schema that this version writes and reads.
const SCHEMA: u64 = 1;

/// Which network a checkpoint's weights belong to.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Its layers, all of them named.
    pub description: Description,
    /// A sample that goes in.
    pub input: Shape,
    /// Values that come out for a sample: one for each class or target.
    pub outputs: usize,
    /// Whether as many come out at every step: scores of tokens.
    pub is_per_step: bool,
    /// Names of the classes; empty when the outputs are none.
    pub classes: Vec<String>,
    /// How a signal is cut into samples, when the network reads them in turn as one series.
    pub stream: Option<Stream>,
    /// What was done to the data before they went in.
    pub preprocessing: Value,
    /// How it was trained.
    pub training: Value,
    /// Everything else that the config says.
    pub other: Map<String, Value>,
}

/// How a signal of one channel is cut into windows, which the network reads one after the other: its recurrent layers go on
/// from window to window ([`Network::stream`](crate::Network::stream)). A sample is `context + window` steps of one value,
/// signals are in -1..=1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// New values of each window.
    pub window: usize,
    /// The last values of the window before, which stand in front of them; zeros before the first.
    pub context: usize,
    /// Values a second.
    pub rate: u32,
}

impl Stream {
    /// The windows of a signal, `[windows, context + window]`; the last one is filled up with zeros.
    pub fn windows(&self, signal: &[f32]) -> Vec<f32> {
        let count = signal.len().div_ceil(self.window.max(1));
        let mut padded = vec![0.0; self.context + count * self.window];
        padded[self.context..][..signal.len()].copy_from_slice(signal);
        let windows = (0..count).flat_map(|at| &padded[at * self.window..][..self.context + self.window]);
        windows.copied().collect()
    }
}

impl ModelConfig {
    /// The config of a network that is made now.
    ///
    /// # Errors
    /// When a name of a layer is no name, or given twice.
    pub fn new(description: &Description, input: Shape, outputs: usize, classes: Vec<String>) -> Result<Self> {
        Ok(Self {
            description: description.named()?,
            input,
            outputs,
            is_per_step: false,
            classes,
            stream: None,
            preprocessing: Value::Null,
            training: Value::Null,
            other: Map::new(),
        })
    }

    /// The plan of the network.
    ///
    /// # Errors
    /// When the layers do not fit each other or the data.
    pub fn resolve(&self) -> Result<Vec<Node>> {
        resolve_for(&self.description, &self.input, self.outputs, self.is_per_step)
    }

    /// Reads the config that a header carries.
    ///
    /// # Errors
    /// When there is none, or it is not one of this crate's.
    pub fn of(header: &Header) -> Result<Self> {
        let Some(config) = header.config()? else {
            return Err(Error::input(
                "the checkpoint has no config, so nothing says which network its weights belong to",
            )
            .hint("--model NAME with --init CHECKPOINT trains on from bare weights"));
        };
        Self::from_map(config)
    }

    /// Reads a config from its text.
    ///
    /// # Errors
    /// When it is no JSON, or not a config of this crate.
    pub fn from_json(text: &str) -> Result<Self> {
        let config: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| Error::input(format!("the config is no JSON object: {e}")))?;
        Self::from_map(config)
    }

    fn from_map(mut config: Map<String, Value>) -> Result<Self> {
        let place = |e: Error| e.within("config");
        match config.remove("model_type") {
            Some(Value::String(name)) if name == MODEL_TYPE => {}
            Some(other) => {
                return Err(place(
                    Error::input(format!("model_type is {other}; dlopt runs \"{MODEL_TYPE}\""))
                        .hint("networks made by `dlopt train` are sequential"),
                ));
            }
            None => return Err(place(Error::input(format!("it has no model_type; dlopt runs \"{MODEL_TYPE}\"")))),
        }
        match config.remove("schema").as_ref().and_then(Value::as_u64) {
            Some(SCHEMA) => {}
            found => {
                let found = found.map_or_else(|| "none".to_owned(), |schema| schema.to_string());
                return Err(place(
                    Error::input(format!("its schema is {found}, this dlopt reads {SCHEMA}"))
                        .hint("use the version of dlopt that wrote it, or a newer one"),
                ));
            }
        }
        let mut table = Map::new();
        for key in ["summary", "source", "init", "layers"] {
            if let Some(value) = config.remove(key) {
                table.insert(key.to_owned(), value);
            }
        }
        let description = Description::from_value(Value::Object(table)).map_err(place)?;
        let mut taken = |key: &str| config.remove(key).unwrap_or(Value::Null);
        let wrong = |key: &str, e: serde_json::Error| place(Error::input(format!("`{key}`: {e}")));
        let input: Shape = serde_json::from_value(taken("input")).map_err(|e| wrong("input", e))?;
        let outputs: usize = serde_json::from_value(taken("outputs")).map_err(|e| wrong("outputs", e))?;
        let is_per_step: Option<bool> = serde_json::from_value(taken("per_step")).map_err(|e| wrong("per_step", e))?;
        let is_per_step = is_per_step.unwrap_or_default();
        let classes: Option<Vec<String>> = serde_json::from_value(taken("classes")).map_err(|e| wrong("classes", e))?;
        let classes = classes.unwrap_or_default();
        let stream: Option<Stream> = serde_json::from_value(taken("stream")).map_err(|e| wrong("stream", e))?;
        if let Some(stream) = stream {
            let sample = stream.context.saturating_add(stream.window);
            if stream.window == 0 || input != (Shape::Series { time: sample, features: 1 }) {
                return Err(place(Error::input(format!(
                    "`stream` has windows of {} values and {} before them, and a sample is {}",
                    stream.window,
                    stream.context,
                    input.describe()
                ))));
            }
        }
        let (preprocessing, training) = (taken("preprocessing"), taken("training"));
        let is_binary = outputs == 1 && classes.len() == 2;
        if !classes.is_empty() && classes.len() != outputs && !is_binary {
            return Err(place(Error::input(format!("it names {} classes for {outputs} outputs", classes.len()))));
        }
        Ok(Self { description, input, outputs, is_per_step, classes, stream, preprocessing, training, other: config })
    }

    /// Its text, the same for equal configs.
    pub fn to_json(&self) -> String {
        let mut config = Map::new();
        let mut put = |key: &str, value: Value| {
            if !value.is_null() {
                config.insert(key.to_owned(), value);
            }
        };
        put("model_type", MODEL_TYPE.into());
        put("schema", SCHEMA.into());
        if let Ok(Value::Object(description)) = serde_json::to_value(&self.description) {
            for (key, value) in description {
                put(&key, value);
            }
        }
        put("input", serde_json::to_value(&self.input).unwrap_or_default());
        put("outputs", self.outputs.into());
        if self.is_per_step {
            put("per_step", true.into());
        }
        if !self.classes.is_empty() {
            put("classes", self.classes.clone().into());
        }
        put("stream", serde_json::to_value(self.stream).unwrap_or_default());
        put("preprocessing", self.preprocessing.clone());
        put("training", self.training.clone());
        for (key, value) in &self.other {
            put(key, value.clone());
        }
        Value::Object(config).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::PRESETS;

    #[test]
    fn every_preset_survives_write_and_read() {
        for preset in PRESETS {
            let input = Shape::Image { height: 28, width: 29, channels: 3 };
            let mut config = ModelConfig::new(&preset.description(), input, 2, vec!["a".into(), "b\"".into()]).unwrap();
            config.preprocessing = serde_json::json!({ "scale": 255.0, "mean": [0.25, 1e-7, 0.1] });
            config.other.insert("quantization_config".into(), serde_json::json!({ "bits": 4 }));
            let text = config.to_json();
            let back = ModelConfig::from_json(&text).unwrap();
            assert_eq!(back, config, "{}", preset.name);
            assert_eq!(back.to_json(), text);
        }
    }

    #[test]
    fn every_option_is_spelled_out() {
        let description = Description::from_toml(
            "layers = [{ type = \"flatten\" }, { type = \"dense\", units = \"classes\" }, { type = \"batch_norm\" }]",
        )
        .unwrap();
        let config = ModelConfig::new(&description, Shape::Vector { features: 3 }, 2, Vec::new()).unwrap();
        let text = config.to_json();
        for part in [
            r#""model_type":"sequential""#,
            r#""init":"glorot""#,
            r#"{"name":"flatten","type":"flatten"}"#,
            r#"{"name":"fc","type":"dense","units":"classes","bias":true}"#,
            r#"{"name":"bn1","type":"batch_norm","epsilon":0.00001,"momentum":0.1}"#,
            r#""input":{"vector":{"features":3}},"outputs":2"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_is_no_config_is_refused_with_a_reason() {
        let refused = |text: &str| ModelConfig::from_json(text).unwrap_err().message().to_owned();
        assert!(refused("[]").contains("no JSON object"));
        assert!(refused(r#"{"model_type":"bert"}"#).contains(r#"model_type is "bert""#));
        assert!(refused(r#"{"model_type":"sequential","schema":7}"#).contains("schema is 7"));
        assert!(refused(r#"{"model_type":"sequential","schema":1}"#).contains("needs `layers`"));
        let rest = r#""layers":[{"type":"flatten"}],"input":{"vector":{"features":3}}"#;
        assert!(refused(&format!(r#"{{"model_type":"sequential","schema":1,{rest}}}"#)).contains("`outputs`"));
        let text = format!(r#"{{"model_type":"sequential","schema":1,{rest},"outputs":3,"classes":["a"]}}"#);
        assert!(refused(&text).contains("1 classes for 3 outputs"));
        let error = ModelConfig::of(&Header::default()).unwrap_err();
        assert!(error.message().contains("no config"), "{error}");
    }

    #[test]
    fn a_stream_is_cut_into_windows_with_what_was_before() {
        let stream = Stream { window: 3, context: 2, rate: 8000 };
        let windows = stream.windows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(windows, [0.0, 0.0, 1.0, 2.0, 3.0, 2.0, 3.0, 4.0, 5.0, 6.0, 5.0, 6.0, 7.0, 0.0, 0.0]);
        assert_eq!(stream.windows(&[]), [0.0; 0]);
        let description = Description::from_toml("layers = [{ type = \"flatten\" }]").unwrap();
        let mut config = ModelConfig::new(&description, Shape::Series { time: 5, features: 1 }, 5, Vec::new()).unwrap();
        config.stream = Some(stream);
        let text = config.to_json();
        assert!(text.contains(r#""stream":{"window":3,"context":2,"rate":8000}"#), "{text}");
        assert_eq!(ModelConfig::from_json(&text).unwrap(), config);
        for wrong in [
            text.replace("\"window\":3", "\"window\":4"),
            text.replace("\"context\":2", "\"context\":18446744073709551615"),
        ] {
            let message = ModelConfig::from_json(&wrong).unwrap_err().message().to_owned();
            assert!(message.contains("a sample is a series of 5 steps of 1"), "{message}");
        }
    }
}
