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
    ActivationLayer, BatchNorm, Conv1d, Conv2d, Dense, DepthwiseConv2d, Dropout, Embedding, Flatten, GlobalPool,
    LAYER_TYPES, LayerNorm, LayerType, Pool1d, Pool2d, RecurrentStack, Residual,
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
mod tests {
    use super::*;
    use crate::presets::PRESETS;
    use proptest::prelude::*;

    fn refused(text: &str) -> (String, String) {
        let error = Description::from_toml(text).unwrap_err();
        (error.message().to_owned(), error.what_to_try().unwrap_or_default().to_owned())
    }

    #[test]
    fn every_option_has_its_default() {
        let conv = Description::from_toml("layers = [{ type = \"conv2d\", filters = 4, kernel = [3, 5] }]").unwrap();
        let LayerType::Conv2d(conv) = &conv.layers[0].kind else { panic!("not a convolution") };
        assert_eq!((conv.filters, conv.kernel), (Units::Count(4), Extents([3, 5])));
        assert_eq!((conv.stride, conv.dilation, conv.groups), (Extents([1, 1]), Extents([1, 1]), 1));
        assert_eq!((&conv.padding, conv.bias, conv.activation), (&Padding::Valid, true, None));
    }

    #[test]
    fn both_ways_of_writing_a_list_are_read() {
        let short = "layers = [{ type = \"dropout\", rate = 0.5 }]";
        let long = "[[layers]]\ntype = \"dropout\"\nrate = 0.5\n";
        assert_eq!(Description::from_toml(short).unwrap(), Description::from_toml(long).unwrap());
    }

    #[test]
    fn unknown_words_are_refused_with_the_nearest() {
        let (message, hint) = refused("layers = [{ type = \"conv2\", filters = 3 }]");
        assert_eq!(message, "layer 1 (conv2): unknown type `conv2`");
        assert!(hint.starts_with("did you mean `conv2d`?"), "{hint}");
        let (message, hint) = refused("layers = [{ type = \"conv2d\", name = \"stem\", filters = 3, kernal = 3 }]");
        assert_eq!(message, "layer `stem` (conv2d): unknown option `kernal`");
        assert!(hint.starts_with("did you mean `kernel`?"), "{hint}");
        assert!(refused("layers = [{ type = \"linear\", units = 3 }]").1.starts_with("did you mean `dense`?"));
        assert!(refused("layers = [{ type = \"dense\", out_features = 3 }]").1.starts_with("did you mean `units`?"));
        let (message, hint) = refused("layrs = []");
        assert_eq!(message, "unknown key `layrs`");
        assert!(hint.starts_with("did you mean `layers`?"), "{hint}");
        let (message, hint) = refused("layers = [{ type = \"global_avg_pool\", size = 3 }]");
        assert!(message.ends_with("unknown option `size`") && hint == "there is no option", "{message}, {hint}");
    }

    #[test]
    fn errors_inside_a_block_say_where() {
        let text =
            "layers = [{ type = \"residual\", body = [{ type = \"flatten\" }, { type = \"dense\", unit = 3 }] }]";
        let (message, hint) = refused(text);
        assert_eq!(message, "layer 1 (residual), body, layer 2 (dense): unknown option `unit`");
        assert!(hint.contains("`units`"), "{hint}");
        assert!(refused("layers = [{ type = \"residual\" }]").0.contains("`body` is missing"));
        assert!(refused("layers = [{ type = \"dense\", units = 3, body = [] }]").0.contains("only `residual` has"));
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused_by_name() {
        let conv = |rest: &str| refused(&format!("layers = [{{ type = \"conv2d\", filters = 3, {rest} }}]")).0;
        assert!(
            conv("kernel = \"3\"").contains("option `kernel`: invalid type: string \"3\", expected a whole number")
        );
        assert!(conv("kernel = [3, 3, 3]").contains("option `kernel`"));
        assert!(conv("kernel = -3").contains("option `kernel`"));
        assert!(conv("stride = 2").contains("option `kernel` is missing"));
        assert!(conv("kernel = 3, padding = \"smae\"").contains("option `padding`"));
        assert!(conv("kernel = 3, bias = 1").contains("option `bias`"));
        assert!(conv("kernel = 3, activation = \"rleu\"").contains("option `activation`"));
        assert!(refused("layers = [{ type = \"dense\", units = \"class\" }]").0.contains("option `units`"));
        assert!(refused("layers = [{ units = 3 }]").0.contains("has no `type`"));
        assert!(refused("layers = [3]").0.contains("found a number"));
        assert!(refused("layers = {}").0.contains("`layers` is a list"));
        assert!(refused("init = \"best\"\nlayers = []").0.contains("glorot, he"));
        assert!(refused("layers = [\n  { type = }\n]").0.starts_with("line 2: "));
    }

    #[test]
    fn layers_are_named_as_pytorch_users_would() {
        let text = r#"layers = [
            { type = "conv2d", filters = 4, kernel = 3 },
            { type = "conv2d", name = "conv2", filters = 4, kernel = 3 },
            { type = "depthwise_conv2d", kernel = 3 },
            { type = "residual", body = [
                { type = "conv2d", filters = 4, kernel = 1 }, { type = "batch_norm" },
                { type = "residual", body = [{ type = "conv2d", filters = 4, kernel = 1 }] },
            ], shortcut = [{ type = "conv2d", filters = 4, kernel = 1 }, { type = "batch_norm" }] },
            { type = "flatten" },
            { type = "dense", units = "classes" },
        ]"#;
        let named = Description::from_toml(text).unwrap().named().unwrap();
        let names = |layers: &[Layer]| layers.iter().map(|l| l.name.clone().unwrap()).collect::<Vec<_>>();
        assert_eq!(names(&named.layers), ["conv1", "conv2", "conv3", "block1", "flatten", "fc"]);
        let LayerType::Residual(block) = &named.layers[3].kind else { panic!("not a block") };
        assert_eq!(names(&block.body), ["block1.conv1", "block1.bn1", "block1.block1"]);
        assert_eq!(names(&block.shortcut), ["block1.downsample.0", "block1.downsample.1"]);
        assert_eq!(named.named().unwrap(), named, "names once given stay");
    }

    #[test]
    fn names_that_are_none_or_stand_twice_are_refused() {
        let named = |a: &str, b: &str| {
            let text =
                format!("layers = [{{ type = \"flatten\", name = {a:?} }}, {{ type = \"flatten\", name = {b:?} }}]");
            Description::from_toml(&text).unwrap().named()
        };
        assert!(named("a", "b-2.c_3").is_ok());
        assert!(named("a", "a").unwrap_err().message().contains("two layers are named `a`"));
        for bad in ["", ".", "a.", "a b", "ä", "a/b"] {
            assert!(named("x", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_type_is_read_and_written_the_same() {
        for preset in PRESETS {
            let description = preset.description();
            let value = serde_json::to_value(&description).unwrap();
            assert_eq!(Description::from_value(value).unwrap(), description, "{}", preset.name);
        }
        for label in LAYER_TYPES {
            let required = match *label {
                "conv2d" | "conv1d" => "filters = 3, kernel = 2, padding = [1, 2]",
                "depthwise_conv2d" => "kernel = [2, 3], padding = \"same\", activation = \"gelu\"",
                "dense" => "units = \"classes\"",
                "dropout" => "rate = 0.25",
                "activation" => "function = \"hard_swish\"",
                "embedding" => "vocabulary = 9, size = 4",
                "rnn" | "lstm" | "gru" => "hidden = 3, layers = 2, bidirectional = true, dropout = 0.1",
                "residual" => "body = [{ type = \"flatten\", order = \"channels_last\" }], activation = \"relu\"",
                _ => "",
            };
            let comma = if required.is_empty() { "" } else { ", " };
            let description =
                Description::from_toml(&format!("layers = [{{ type = \"{label}\"{comma}{required} }}]")).unwrap();
            assert_eq!(description.layers[0].kind.label(), *label);
            let value = serde_json::to_value(&description).unwrap();
            assert_eq!(Description::from_value(value).unwrap(), description, "{label}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[a-z0-9_=\\[\\]{}\", .\n-]{0,120}") {
            let _ = Description::from_toml(&text);
        }
    }
}
