//! The layers that a description can name, with their options and defaults.
//!
//! Defaults are Keras's, but for those of the norms, which are PyTorch's: `epsilon = 1e-5`, and 0.1 of each batch in the
//! running statistics of a batch norm (Keras: 1e-3 and 0.01, too slow for a few epochs on small data). All of them are
//! written into a checkpoint's config in full, so a later change of a default changes no saved network.

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::values::{Extents, Padding, Units};
use super::{Layer, read};
use crate::plan::{Activation, FlattenOrder, PadKind};

/// Declares the types of layers once: their names in a description, their options.
macro_rules! layers {
    ($(#[doc = $summary:literal] $name:literal => $variant:ident($options:ident),)*) => {
        /// What a layer is, with its options.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "type")]
        pub enum LayerType {
            $(#[doc = $summary] #[serde(rename = $name)] $variant($options),)*
        }

        /// The types a description can name.
        pub const LAYER_TYPES: &[&str] = &[$($name),*];

        impl LayerType {
            /// Its name in a description.
            pub fn label(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// The names a description can use, each with what the layer does.
            pub fn summaries() -> impl Iterator<Item = (&'static str, &'static str)> {
                [$(($name, $summary)),*].into_iter().map(|(name, text)| (name, text.trim().trim_end_matches('.')))
            }

            pub(super) fn read(name: &str, options: Map<String, Value>) -> Result<Self> {
                match name {
                    $($name => read::options(options).map(Self::$variant),)*
                    _ => Err(read::unknown("type", name, LAYER_TYPES)),
                }
            }
        }
    };
}

layers! {
    /// Convolution of pictures.
    "conv2d" => Conv2d(Conv2d),
    /// Convolution of each channel by itself.
    "depthwise_conv2d" => DepthwiseConv2d(DepthwiseConv2d),
    /// Convolution of series over time.
    "conv1d" => Conv1d(Conv1d),
    /// The largest value of each window of a picture.
    "max_pool2d" => MaxPool2d(Pool2d),
    /// The mean of each window of a picture, cells outside of it not counted.
    "avg_pool2d" => AvgPool2d(Pool2d),
    /// The largest value of each window of a series.
    "max_pool1d" => MaxPool1d(Pool1d),
    /// The mean of each window of a series, steps outside of it not counted.
    "avg_pool1d" => AvgPool1d(Pool1d),
    /// The mean of each channel or feature.
    "global_avg_pool" => GlobalAvgPool(GlobalPool),
    /// The largest value of each channel or feature.
    "global_max_pool" => GlobalMaxPool(GlobalPool),
    /// Normalises each channel or feature over the batch.
    "batch_norm" => BatchNorm(BatchNorm),
    /// Normalises the channels or features of each place.
    "layer_norm" => LayerNorm(LayerNorm),
    /// `y = x W + b`.
    "dense" => Dense(Dense),
    /// A picture or series as one vector.
    "flatten" => Flatten(Flatten),
    /// Zeroes values while training.
    "dropout" => Dropout(Dropout),
    /// An element-wise function.
    "activation" => Activation(ActivationLayer),
    /// Token numbers to vectors.
    "embedding" => Embedding(Embedding),
    /// Simple recurrent layers.
    "rnn" => Rnn(RecurrentStack),
    /// Long short-term memory.
    "lstm" => Lstm(RecurrentStack),
    /// Gated recurrent units, the reset gate after the product.
    "gru" => Gru(RecurrentStack),
    /// More steps before and after a series.
    "pad1d" => Pad1d(Pad1d),
    /// The magnitude of complex features: the first half real parts, the second half imaginary ones.
    "magnitude" => Magnitude(Magnitude),
    /// Layers whose result is added to what went in.
    "residual" => Residual(Residual),
    /// Tokens to other tokens: an encoder, a decoder, attention between them.
    "seq2seq" => Seq2seq(Seq2seq),
}

/// Options of `conv2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv2d {
    /// Channels that come out.
    pub filters: Units,
    /// Rows and columns of the kernel.
    pub kernel: Extents,
    /// Steps; 1.
    #[serde(default)]
    pub stride: Extents,
    /// Zeros around the picture; none.
    #[serde(default = "valid")]
    pub padding: Padding,
    /// Distance between taps; 1.
    #[serde(default)]
    pub dilation: Extents,
    /// Groups of channels that do not mix; 1.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether a bias is added; yes.
    #[serde(default = "yes")]
    pub bias: bool,
    /// A function that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// Options of `depthwise_conv2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DepthwiseConv2d {
    /// Rows and columns of the kernel.
    pub kernel: Extents,
    /// Channels that come out for each that goes in; 1.
    #[serde(default = "one")]
    pub multiplier: usize,
    /// Steps; 1.
    #[serde(default)]
    pub stride: Extents,
    /// Zeros around the picture; none.
    #[serde(default = "valid")]
    pub padding: Padding,
    /// Distance between taps; 1.
    #[serde(default)]
    pub dilation: Extents,
    /// Whether a bias is added; yes.
    #[serde(default = "yes")]
    pub bias: bool,
    /// A function that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// Options of `conv1d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv1d {
    /// Features that come out.
    pub filters: Units,
    /// Steps of the kernel.
    pub kernel: usize,
    /// Steps between windows; 1.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros before and after; none.
    #[serde(default = "valid")]
    pub padding: Padding,
    /// Distance between taps; 1.
    #[serde(default = "one")]
    pub dilation: usize,
    /// Groups of features that do not mix; 1.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether a bias is added; yes.
    #[serde(default = "yes")]
    pub bias: bool,
    /// A function that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// Options of `max_pool2d` and `avg_pool2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool2d {
    /// Rows and columns of a window; 2.
    #[serde(default = "two_by_two")]
    pub size: Extents,
    /// Steps; the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Extents>,
    /// Cells around the picture that count for nothing; none.
    #[serde(default = "valid")]
    pub padding: Padding,
}

/// Options of `max_pool1d` and `avg_pool1d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool1d {
    /// Steps of a window; 2.
    #[serde(default = "two")]
    pub size: usize,
    /// Steps between windows; the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Steps before and after that count for nothing; none.
    #[serde(default = "valid")]
    pub padding: Padding,
}

/// `global_avg_pool` and `global_max_pool` have no options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GlobalPool {}

/// Options of `batch_norm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Added to the variance; 1e-5.
    #[serde(default = "small")]
    pub epsilon: f64,
    /// Share of each batch in the running statistics, 0..1; 0.1 (Keras writes 1 minus it).
    #[serde(default = "tenth")]
    pub momentum: f64,
    /// A function that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// Options of `layer_norm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerNorm {
    /// Added to the variance; 1e-5.
    #[serde(default = "small")]
    pub epsilon: f64,
    /// A function that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// Options of `dense`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    /// Values that come out.
    pub units: Units,
    /// Whether a bias is added; yes.
    #[serde(default = "yes")]
    pub bias: bool,
    /// A function that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// Options of `flatten`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flatten {
    /// The order of values that the next dense layer's stored weight expects. Pictures: channels first, as PyTorch has
    /// them; series: channels last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<FlattenOrder>,
}

/// Options of `dropout`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    /// Share of values dropped, at least 0 and less than 1.
    pub rate: f64,
}

/// Options of `activation`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationLayer {
    /// Which.
    pub function: Activation,
}

/// Options of `embedding`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// Tokens it knows: numbers below this; those of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// Values a token becomes.
    pub size: usize,
}

/// Options of `rnn`, `lstm` and `gru`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecurrentStack {
    /// Units, for each direction.
    pub hidden: usize,
    /// Layers, one on the other; 1.
    #[serde(default = "one")]
    pub layers: usize,
    /// Whether another one reads from the end, its outputs beside; no.
    #[serde(default)]
    pub bidirectional: bool,
    /// Whether all steps come out, or the state after the last; the last.
    #[serde(default)]
    pub return_sequences: bool,
    /// Share of values dropped between two layers; 0.
    #[serde(default)]
    pub dropout: f64,
}

/// Options of `pad1d`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pad1d {
    /// Steps before the series; 0.
    #[serde(default)]
    pub left: usize,
    /// Steps after it; 0.
    #[serde(default)]
    pub right: usize,
    /// What they hold: `zeros`, the series mirrored (`reflect`), or its first and last step (`edge`); zeros.
    #[serde(default)]
    pub mode: PadKind,
}

/// `magnitude` has no options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Magnitude {}

/// Options of `residual`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Residual {
    /// The long way.
    #[serde(skip_deserializing)]
    pub body: Vec<Layer>,
    /// The short way; what went in, as it is.
    #[serde(skip_deserializing)]
    pub shortcut: Vec<Layer>,
    /// A function that follows the sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// Options of `seq2seq`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seq2seq {
    /// Values a token becomes, on both sides; 256.
    #[serde(default = "page")]
    pub embedding: usize,
    /// The recurrent layer of both sides; `gru`.
    #[serde(default)]
    pub cell: SequenceCell,
    /// Units of its state; 256.
    #[serde(default = "page")]
    pub hidden: usize,
    /// What the decoder sees of the encoder beside its last state; nothing.
    #[serde(default)]
    pub attention: Attention,
    /// Share of the embeddings' values, and of those that reach the last layer, dropped while training; 0.
    #[serde(default)]
    pub dropout: f64,
    /// Tokens that can go in: numbers below this; those of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// Tokens that come out at most, the end included; those of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// The token before the first; that of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
    /// The token after the last; that of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
}

/// The recurrent layers that a `seq2seq` can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SequenceCell {
    /// Gated recurrent units.
    #[default]
    Gru,
    /// Long short-term memory.
    Lstm,
}

/// How a decoder looks back at what was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// It does not.
    #[default]
    None,
    /// By the product of its state with each of the encoder's (Luong et al., 2015).
    Dot,
}

impl Layer {
    /// Reads a layer's table; `place` says where it stands.
    pub(super) fn read(value: Value, place: &str) -> Result<Self> {
        let Value::Object(mut table) = value else {
            return Err(Error::input(format!("{place} is a table with `type`, found {}", read::kind(&value))));
        };
        let name = match table.remove("name") {
            None => None,
            Some(Value::String(name)) => Some(name),
            Some(other) => {
                return Err(Error::input(format!("{place}: `name` is a text, found {}", read::kind(&other))));
            }
        };
        let label = match table.remove("type") {
            Some(Value::String(label)) => label,
            Some(other) => {
                return Err(Error::input(format!("{place}: `type` is a text, found {}", read::kind(&other))));
            }
            None => {
                return Err(
                    Error::input(format!("{place} has no `type`")).hint(format!("one of {}", LAYER_TYPES.join(", ")))
                );
            }
        };
        let place = match &name {
            Some(name) => format!("layer `{name}` ({label})"),
            None => format!("{place} ({label})"),
        };
        let mut nested = |key: &str| match (label.as_str(), table.remove(key)) {
            (_, None) => Ok(None),
            ("residual", Some(layers)) => read::layers(layers, &format!("{place}, {key}, ")).map(Some),
            (_, Some(_)) => Err(Error::input(format!("{place}: only `residual` has a `{key}`"))),
        };
        let (body, shortcut) = (nested("body")?, nested("shortcut")?);
        let mut kind = LayerType::read(&label, table).map_err(|e| e.within(&place))?;
        if let LayerType::Residual(residual) = &mut kind {
            residual.body =
                body.ok_or_else(|| Error::input(format!("{place}: option `body` is missing, the list of its layers")))?;
            residual.shortcut = shortcut.unwrap_or_default();
        }
        Ok(Self { name, kind })
    }
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn page() -> usize {
    256
}

fn two() -> usize {
    2
}

fn two_by_two() -> Extents {
    Extents([2, 2])
}

fn valid() -> Padding {
    Padding::Valid
}

fn small() -> f64 {
    1e-5
}

fn tenth() -> f64 {
    0.1
}
