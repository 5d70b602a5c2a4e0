//! What a user writes about a network: a list of layers with options, sizes of the data left open.
//!
//! TOML in a file, JSON in a checkpoint's config, the same words in both:
//! ```toml
//! layers = [
//!     { type = "conv2d", filters = 32, kernel = 3, activation = "relu" },
//!     { type = "flatten" },
//!     { type = "dense", units = "classes" },
//! ]
//! ```
//! [`resolve`](crate::resolve) turns it into a plan for one shape of sample.

mod layers;
mod names;
mod read;
mod values;

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use layers::{
    ActivationLayer, Attention, BatchNorm, Conv1d, Conv2d, Dense, DepthwiseConv2d, Dropout, Embedding, Flatten,
    GlobalPool, LAYER_TYPES, LayerNorm, LayerType, Magnitude, Pad1d, Pool1d, Pool2d, RecurrentStack, Residual, Seq2seq,
    SequenceCell,
};
pub use values::{Extents, Padding, Units};

pub(crate) use read::nearest;

/// A network as its user describes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Description {
    /// What it is, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Where it comes from: author, year.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How its weights start.
    pub init: Initialization,
    /// Its layers, in the order they run.
    pub layers: Vec<Layer>,
}

/// One layer of a description.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// Its name in the checkpoint; given by [`Description::named`] where the user says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is, with its options.
    #[serde(flatten)]
    pub kind: LayerType,
}

/// What data of tokens say about a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Tokens that go in are below this.
    pub vocabulary: Option<usize>,
    /// The sequences that come out, if there are any.
    pub answers: Option<Answers>,
}

/// Sequences of tokens that are to come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Tokens of the longest one, its end included.
    pub steps: usize,
    /// The token before the first.
    pub start: u32,
    /// The token after the last.
    pub end: u32,
}

impl Tokens {
    fn fill(&self, layers: &mut [Layer]) {
        for layer in layers {
            match &mut layer.kind {
                LayerType::Embedding(own) => own.vocabulary = own.vocabulary.or(self.vocabulary),
                LayerType::Seq2seq(own) => {
                    own.vocabulary = own.vocabulary.or(self.vocabulary);
                    own.steps = own.steps.or(self.answers.map(|answers| answers.steps));
                    own.start = own.start.or(self.answers.map(|answers| answers.start));
                    own.end = own.end.or(self.answers.map(|answers| answers.end));
                }
                LayerType::Residual(own) => {
                    self.fill(&mut own.body);
                    self.fill(&mut own.shortcut);
                }
                _ => {}
            }
        }
    }
}

/// How the weights of convolutions and dense layers start; the same for every layer of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initialization {
    /// Uniform, after the fans of both sides (Glorot and Bengio, 2010): Keras's default.
    #[default]
    Glorot,
    /// Normal, after the inputs alone (He et al., 2015, arXiv:1502.01852): for deep networks with ReLU.
    He,
}

impl Initialization {
    /// The names that `--init` takes.
    pub const NAMES: [&str; 2] = ["glorot", "he"];

    /// The way of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "glorot" => Some(Self::Glorot),
            "he" => Some(Self::He),
            _ => None,
        }
    }
}

impl Description {
    /// Reads a TOML text.
    ///
    /// # Errors
    /// When the text is no TOML, or a type or option is unknown (with the nearest name), missing, or of the wrong kind.
    pub fn from_toml(text: &str) -> Result<Self> {
        let value: Value = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let place = line.map_or_else(String::new, |line| format!("line {line}: "));
            Error::input(format!("{place}{}", e.message().replace('\n', "; ")))
                .hint("a description is TOML: layers = [{ type = \"dense\", units = \"classes\" }]")
        })?;
        Self::from_value(value)
    }

    /// Reads the value of a config's keys `init` and `layers`.
    ///
    /// # Errors
    /// As [`Self::from_toml`].
    pub fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Object(table) => Self::from_table(table),
            other => Err(Error::input(format!("a description is a table with `layers`, found {}", read::kind(&other)))),
        }
    }

    fn from_table(mut table: Map<String, Value>) -> Result<Self> {
        read::refuse_unknown(&table, &["summary", "source", "init", "layers"], "key")?;
        let layers = table
            .remove("layers")
            .ok_or_else(|| Error::input("a description needs `layers`, the list of its layers"))?;
        let init = match table.remove("init") {
            None => Initialization::default(),
            Some(value) => {
                let name = value.as_str().unwrap_or_default();
                Initialization::named(name).ok_or_else(|| {
                    Error::input(format!("`init` is {value}; it is one of {}", Initialization::NAMES.join(", ")))
                })?
            }
        };
        let mut text = |key: &str| match table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Error::input(format!("`{key}` is a text, found {}", read::kind(&other)))),
        };
        Ok(Self { summary: text("summary")?, source: text("source")?, init, layers: read::layers(layers, "")? })
    }

    /// The same network with what the data say of tokens where the user says nothing.
    pub fn with_tokens(&self, tokens: &Tokens) -> Self {
        let mut filled = self.clone();
        tokens.fill(&mut filled.layers);
        filled
    }

    /// The same network with a name for every layer, those within residual blocks included.
    ///
    /// Names follow PyTorch's habits: `conv1`, `bn1`, `fc1` counted from one; `lstm`, `embedding`, `flatten` and a lone
    /// dense layer, `fc`, without a number; layers of a residual block under its name, `block1.conv1`, those of its
    /// shortcut `block1.downsample.0`.
    ///
    /// # Errors
    /// When a given name is empty, holds odd characters, or is given twice.
    pub fn named(&self) -> Result<Self> {
        let mut named = self.clone();
        names::fill(&mut named.layers)?;
        Ok(named)
    }
}

#[cfg(test)]
mod tests;
