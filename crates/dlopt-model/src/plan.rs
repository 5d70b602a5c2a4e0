//! The plan of a network: every layer with its shapes and parameters, and nothing left to decide.
//!
//! A description (`description.rs`) says what a user wrote; resolving it against the shape of a sample gives a list of
//! [`Node`]s. Counts, summaries, weight names, the CPU network and the candle network all read this one list.

use serde::{Deserialize, Serialize};

/// The shape of one sample between two layers, without the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A picture, stored `[y, x, channel]`.
    Image {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Channels.
        channels: usize,
    },
    /// A series, stored `[time, feature]`; samples may be shorter than `time`.
    Series {
        /// Most time steps.
        time: usize,
        /// Values a step.
        features: usize,
    },
    /// Plain values.
    Vector {
        /// How many.
        features: usize,
    },
    /// Token numbers, stored as floats `[time]`.
    Tokens {
        /// Most tokens.
        time: usize,
    },
}

impl Shape {
    /// What it is, with its extents, for people.
    pub fn describe(&self) -> String {
        match *self {
            Self::Image { height, width, channels } => format!("a picture of {height} x {width} x {channels}"),
            Self::Series { time, features } => format!("a series of {time} steps of {features}"),
            Self::Vector { features } => format!("{features} plain values"),
            Self::Tokens { time } => format!("{time} tokens"),
        }
    }

    /// Values of one sample.
    pub fn len(&self) -> usize {
        match *self {
            Self::Image { height, width, channels } => height * width * channels,
            Self::Series { time, features } => time * features,
            Self::Vector { features } => features,
            Self::Tokens { time } => time,
        }
    }

    /// Whether a sample holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The extent that norms and element-wise parameters run over: channels or features.
    pub fn features(&self) -> usize {
        match *self {
            Self::Image { channels, .. } => channels,
            Self::Series { features, .. } | Self::Vector { features } => features,
            Self::Tokens { .. } => 1,
        }
    }
}

/// One layer, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Module name, dots between levels: `conv1`, `layer1.0`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// A sample that goes in.
    pub input: Shape,
    /// A sample that comes out.
    pub output: Shape,
    /// Its parameters and running statistics, in the order the operation expects (see [`Role`]).
    pub parameters: Vec<Parameter>,
}

impl Node {
    /// How many valid steps come out for samples of `lengths` valid steps: windows over a series see fewer, or more with
    /// padding, as if each series ended where it does; at least one.
    pub fn steps_of(&self, lengths: &[u32]) -> Vec<u32> {
        if let Op::Pad { before, after, .. } = self.op {
            return lengths.iter().map(|&length| length + (before + after) as u32).collect();
        }
        let (kernel, stride, dilation, padding) = match self.op {
            Op::Convolution { kernel, stride, dilation, padding, .. } => (kernel, stride, dilation, padding),
            Op::Pool { kernel, stride, padding, .. } => (kernel, stride, [1, 1], padding),
            _ => return lengths.to_vec(),
        };
        let Shape::Series { time, .. } = self.output else { return lengths.to_vec() };
        let reach = dilation[1] * (kernel[1] - 1) + 1;
        let fits = |length: u32| {
            let padded = length as usize + padding[2] + padding[3];
            padded.checked_sub(reach).map_or(1, |rest| (rest / stride[1] + 1).clamp(1, time)) as u32
        };
        lengths.iter().map(|&length| fits(length)).collect()
    }
}

/// What a layer computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution of images (`[1, time]` pictures for series). Parameters: weight, then bias if any.
    Convolution {
        /// Rows and columns of the kernel.
        kernel: [usize; 2],
        /// Steps.
        stride: [usize; 2],
        /// Distance between taps.
        dilation: [usize; 2],
        /// Zeros at the top, bottom, left, right.
        padding: [usize; 4],
        /// Groups of channels that do not mix; `groups == inputs` is depthwise.
        groups: usize,
    },
    /// Maximum or average of windows; the size of the picture for global pooling. No parameters.
    Pool {
        /// Which.
        kind: PoolKind,
        /// Rows and columns of a window.
        kernel: [usize; 2],
        /// Steps.
        stride: [usize; 2],
        /// Cells outside the picture at the top, bottom, left, right: never the maximum, not counted in averages.
        padding: [usize; 4],
    },
    /// Batch normalisation over channels or features. Parameters: scale, shift, running mean, running variance.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
        /// Share of the batch in the new running statistics (PyTorch's momentum; Keras's is 1 minus it).
        momentum: f32,
    },
    /// Layer normalisation over the last extent. Parameters: scale, shift.
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `y = x W + b` on vectors, or at every step of a series. Parameters: weight, then bias if any.
    Dense,
    /// An image or series as one vector. No parameters.
    Flatten {
        /// The order of values that the *next dense layer's stored weight* expects.
        order: FlattenOrder,
    },
    /// Zeroes values while training. No parameters.
    Dropout {
        /// Share of values dropped, 0..1.
        rate: f32,
    },
    /// An element-wise function (softmax: over the last extent). No parameters.
    Activation(Activation),
    /// Rows of a table. Parameter: the table.
    Embedding {
        /// Rows.
        vocabulary: usize,
    },
    /// One recurrent layer. Parameters for each direction: weight_ih, weight_hh, bias_ih, bias_hh.
    Recurrent {
        /// The cell.
        kind: RecurrentKind,
        /// Hidden units.
        hidden: usize,
        /// Which way it reads.
        direction: Direction,
        /// Whether all steps come out, or the state after the last valid one.
        returns_sequence: bool,
    },
    /// An encoder and a decoder. Parameters: the encoder's table and recurrent four, the decoder's, attention's weight and
    /// bias if it has one, the last layer's weight and bias.
    Seq2seq(Translation),
    /// More steps before and after a series. No parameters.
    Pad {
        /// What they hold.
        kind: PadKind,
        /// Steps before.
        before: usize,
        /// Steps after.
        after: usize,
    },
    /// `sqrt(a² + b²)` of the first and the second half of the features. No parameters.
    Magnitude,
    /// `body(x) + shortcut(x)`; an empty shortcut is `x` itself. Parameters: none of its own.
    Residual {
        /// The long way.
        body: Vec<Node>,
        /// The short way.
        shortcut: Vec<Node>,
    },
}

/// An encoder and a decoder, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Translation {
    /// The cell of both sides.
    pub kind: RecurrentKind,
    /// Values a token becomes.
    pub embedding: usize,
    /// Units of the state.
    pub hidden: usize,
    /// Whether the decoder looks back at all that was read.
    pub has_attention: bool,
    /// Share of values dropped while training.
    pub dropout: f32,
    /// Tokens that can go in.
    pub vocabulary: usize,
    /// Tokens that can come out.
    pub outputs: usize,
    /// Tokens that come out at most, the end included.
    pub steps: usize,
    /// The token before the first.
    pub start: u32,
    /// The token after the last.
    pub end: u32,
}

/// What a window is reduced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Its largest value; the first of equals.
    Max,
    /// Its mean over the cells inside the picture.
    Average,
}

/// What stands before and after a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadKind {
    /// Zeros.
    #[default]
    Zeros,
    /// The series mirrored at its first and last step, which are not repeated (PyTorch's and NumPy's `reflect`).
    Reflect,
    /// Its first and its last step.
    Edge,
}

impl PadKind {
    /// The step of a series of `len` steps that stands at `at`, counted from its first one; nothing for a zero.
    pub(crate) fn step(self, at: isize, len: usize) -> Option<usize> {
        let last = len.max(1) as isize - 1;
        let found = match self {
            _ if (0..=last).contains(&at) => at,
            Self::Zeros => return None,
            Self::Edge => at.clamp(0, last),
            // There and back again, as often as it takes.
            Self::Reflect => last - (at.rem_euclid(2 * last.max(1)) - last).abs(),
        };
        Some(found.max(0) as usize)
    }
}

/// The order in which a stored dense weight expects a flattened picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlattenOrder {
    /// Channel, row, column: PyTorch's, and dlopt's own.
    ChannelsFirst,
    /// Row, column, channel: Keras's.
    ChannelsLast,
}

/// Cells of recurrent layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecurrentKind {
    /// `h = tanh(W x + U h + b)`.
    Rnn,
    /// Long short-term memory, gates i f g o.
    Lstm,
    /// Gated recurrent unit, gates r z n, the reset gate after the product (PyTorch, Keras's `reset_after`).
    Gru,
}

impl RecurrentKind {
    /// Products a step needs for each unit: rows of its weights are `gates * hidden`.
    pub fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
}

/// Which way a recurrent layer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first step.
    Forward,
    /// Both; outputs side by side, forward first.
    Both,
}

/// Element-wise functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names of the field")]
pub enum Activation {
    Relu,
    Relu6,
    LeakyRelu,
    Elu,
    Gelu,
    Silu,
    HardSwish,
    Sigmoid,
    Tanh,
    Softmax,
}

impl Activation {
    /// Its name in a description.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::LeakyRelu => "leaky_relu",
            Self::Elu => "elu",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::HardSwish => "hard_swish",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Softmax => "softmax",
        }
    }
}

/// A tensor of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name in a checkpoint: PyTorch's, `conv1.weight`.
    pub name: String,
    /// Shape in a checkpoint: PyTorch's, `[out, in, kh, kw]`.
    pub shape: Vec<usize>,
    /// What it is to its layer.
    pub role: Role,
    /// How it starts.
    pub init: Init,
    /// Whether gradients change it; running statistics are not trained.
    pub is_trained: bool,
}

impl Parameter {
    /// Values it holds.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All parameters of a plan: those of a node, then, if it is a residual block, of its body, then of its shortcut.
pub fn parameters(nodes: &[Node]) -> Vec<&Parameter> {
    let mut all = Vec::new();
    for node in nodes {
        all.extend(&node.parameters);
        if let Op::Residual { body, shortcut } = &node.op {
            all.extend(parameters(body));
            all.extend(parameters(shortcut));
        }
    }
    all
}

/// Tokens that a plan's embeddings know, if it has any: inputs must be numbers below this.
pub fn vocabulary(nodes: &[Node]) -> Option<usize> {
    let own = |node: &Node| match &node.op {
        Op::Embedding { vocabulary } => Some(*vocabulary),
        Op::Seq2seq(plan) => Some(plan.vocabulary),
        Op::Residual { body, shortcut } => vocabulary(body).into_iter().chain(vocabulary(shortcut)).min(),
        _ => None,
    };
    nodes.iter().filter_map(own).min()
}

/// What a tensor is to its layer. Decides the layout in memory (see `layout.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Convolution `[out, in / groups, kh, kw]` (or `[out, in, k]`), in memory `[kh, kw, in / groups, out]`.
    ConvolutionWeight,
    /// Dense `[out, in]`, in memory `[in, out]`; after a flattened picture the inputs are in the order y, x, channel.
    DenseWeight {
        /// `[height, width, channels]` of the picture flattened before it, if the stored order is channel, y, x.
        flattened: Option<[usize; 3]>,
    },
    /// Recurrent `[gates * hidden, in]`, in memory as the kernels want it, together with the three that follow it.
    RecurrentInput,
    /// Recurrent `[gates * hidden, hidden]`.
    RecurrentHidden,
    /// Bias that is added to the inputs' product.
    RecurrentInputBias,
    /// Bias that is added to the hidden state's product.
    RecurrentHiddenBias,
    /// A table `[vocabulary, size]`, in memory the same.
    Table,
    /// A bias, in memory the same.
    Bias,
    /// A norm's scale.
    Scale,
    /// A norm's shift.
    Shift,
    /// A batch norm's running mean.
    RunningMean,
    /// A batch norm's running variance.
    RunningVariance,
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// Glorot and Bengio (2010), uniform: `+-sqrt(6 / (fan_in + fan_out))`. Keras's default.
    GlorotUniform {
        /// Inputs of an output.
        fan_in: usize,
        /// Outputs of an input.
        fan_out: usize,
    },
    /// He et al. (2015), normal: deviation `sqrt(2 / fan_in)`.
    HeNormal {
        /// Inputs of an output.
        fan_in: usize,
    },
    /// Uniform in `+-bound`.
    Uniform {
        /// The largest value.
        bound: f32,
    },
    /// Orthonormal columns, `W^T W = I` (recurrent weights `[gates * hidden, hidden]`; Saxe et al., 2014). Keras's default.
    Orthogonal,
    /// Zeros, with ones for the forget gate of an LSTM (Jozefowicz et al., 2015). Keras's default.
    ForgetOnes {
        /// Hidden units.
        hidden: usize,
    },
}
