//! From a description and the shape of a sample to a plan: every size, name and parameter decided.

mod pad;
mod seq2seq;
mod window;

use std::collections::HashSet;

use dlopt_checkpoint::{Error, Result};

use crate::description::{Description, Initialization, Layer, LayerType, RecurrentStack, Residual, Units};
use crate::plan::{
    Activation, Direction, FlattenOrder, Init, Node, Op, Parameter, PoolKind, RecurrentKind, Role, Shape,
};

use window::Window;

/// Largest extent that an option may give.
const MAX_EXTENT: usize = 1 << 24;
/// Most values that one parameter, or one sample between two layers, may hold.
const MAX_VALUES: u128 = 1 << 36;

/// Resolves a description for samples of the shape `input` and `outputs` classes or targets.
///
/// # Errors
/// When a layer does not take what reaches it, shrinks it below 1, or has options out of range (the layer and the sizes
/// are named), or when what comes out is not `outputs` values.
pub fn resolve(description: &Description, input: &Shape, outputs: usize) -> Result<Vec<Node>> {
    resolve_for(description, input, outputs, false)
}

/// The same; with `is_per_step` for as many outputs at every step.
pub(crate) fn resolve_for(
    description: &Description,
    input: &Shape,
    outputs: usize,
    is_per_step: bool,
) -> Result<Vec<Node>> {
    let nodes = resolve_open(description, input, outputs)?;
    match nodes.last().map(|node| &node.output) {
        Some(Shape::Vector { features }) if *features == outputs && !is_per_step => Ok(nodes),
        Some(Shape::Series { features, .. }) if *features == outputs && is_per_step => Ok(nodes),
        other if is_per_step => Err(Error::input(format!(
            "the network ends in {}; the data want {outputs} values at every step",
            other.unwrap_or(input).describe()
        ))
        .hint("recurrent layers with return_sequences = true, then { type = \"dense\", units = \"classes\" }")),
        other => Err(Error::input(format!(
            "the network ends in {}; the data want {outputs} values a sample",
            other.unwrap_or(input).describe()
        ))
        .hint("end it with { type = \"dense\", units = \"classes\" }; recurrent layers before it without return_sequences")),
    }
}

/// The same without asking what comes out.
pub(crate) fn resolve_open(description: &Description, input: &Shape, outputs: usize) -> Result<Vec<Node>> {
    let description = description.named()?;
    if description.layers.is_empty() {
        return Err(Error::input("the description has no layers")
            .hint("add at least { type = \"dense\", units = \"classes\" }"));
    }
    if values(input).is_none_or(|values| values == 0) {
        return Err(Error::input(format!("{} cannot be a sample", input.describe())));
    }
    let mut builder =
        Builder { init: description.init, outputs, shape: input.clone(), flattened: None, nodes: Vec::new() };
    for layer in &description.layers {
        builder.add(layer)?;
    }
    builder.refuse_flattened("the end of the network")?;
    refuse_equal_names(&builder.nodes)?;
    Ok(builder.nodes)
}

/// Names of parameters must be unique in a checkpoint, and names of nodes in reports.
fn refuse_equal_names(nodes: &[Node]) -> Result<()> {
    fn collect<'a>(nodes: &'a [Node], seen: &mut HashSet<&'a str>) -> Result<()> {
        for node in nodes {
            let names = std::iter::once(node.name.as_str()).chain(node.parameters.iter().map(|p| p.name.as_str()));
            for name in names {
                if !seen.insert(name) {
                    return Err(Error::input(format!("the name `{name}` would stand twice"))
                        .hint("give one of the layers another name"));
                }
            }
            if let Op::Residual { body, shortcut } = &node.op {
                collect(body, seen)?;
                collect(shortcut, seen)?;
            }
        }
        Ok(())
    }
    collect(nodes, &mut HashSet::new())
}

/// Walks a list of layers; one for each residual branch.
struct Builder {
    init: Initialization,
    outputs: usize,
    /// What comes out of the last node.
    shape: Shape,
    /// The picture behind a vector whose stored order is channel, row, column.
    flattened: Option<[usize; 3]>,
    nodes: Vec<Node>,
}

impl Builder {
    fn add(&mut self, layer: &Layer) -> Result<()> {
        let name = layer.name.as_deref().expect("`Description::named` names every layer");
        self.layer(name, &layer.kind).map_err(|e| e.within(format!("layer `{name}` ({})", layer.kind.label())))
    }

    fn layer(&mut self, name: &str, kind: &LayerType) -> Result<()> {
        match kind {
            LayerType::Conv2d(conv) => {
                let window = Window {
                    kernel: conv.kernel.0,
                    stride: conv.stride.0,
                    dilation: conv.dilation.0,
                    padding: &conv.padding,
                    axes: 2,
                };
                let filters = self.units(conv.filters, "filters")?;
                self.convolution(name, &window, filters, conv.groups, conv.bias)?;
                self.activation_of(name, conv.activation);
            }
            LayerType::DepthwiseConv2d(conv) => {
                let window = Window {
                    kernel: conv.kernel.0,
                    stride: conv.stride.0,
                    dilation: conv.dilation.0,
                    padding: &conv.padding,
                    axes: 2,
                };
                let channels = self.shape.features();
                let filters = channels * extent("multiplier", conv.multiplier)?;
                self.convolution(name, &window, filters, channels, conv.bias)?;
                self.activation_of(name, conv.activation);
            }
            LayerType::Conv1d(conv) => {
                let window = Window {
                    kernel: [1, conv.kernel],
                    stride: [1, conv.stride],
                    dilation: [1, conv.dilation],
                    padding: &conv.padding,
                    axes: 1,
                };
                let filters = self.units(conv.filters, "filters")?;
                self.convolution(name, &window, filters, conv.groups, conv.bias)?;
                self.activation_of(name, conv.activation);
            }
            LayerType::MaxPool2d(pool) | LayerType::AvgPool2d(pool) => {
                let stride = pool.stride.unwrap_or(pool.size).0;
                let kind = if matches!(kind, LayerType::MaxPool2d(_)) { PoolKind::Max } else { PoolKind::Average };
                let window = Window { kernel: pool.size.0, stride, dilation: [1, 1], padding: &pool.padding, axes: 2 };
                self.pool(name, kind, &window)?;
            }
            LayerType::MaxPool1d(pool) | LayerType::AvgPool1d(pool) => {
                let stride = [1, pool.stride.unwrap_or(pool.size)];
                let kind = if matches!(kind, LayerType::MaxPool1d(_)) { PoolKind::Max } else { PoolKind::Average };
                let window =
                    Window { kernel: [1, pool.size], stride, dilation: [1, 1], padding: &pool.padding, axes: 1 };
                self.pool(name, kind, &window)?;
            }
            LayerType::GlobalAvgPool(_) => self.global_pool(name, PoolKind::Average)?,
            LayerType::GlobalMaxPool(_) => self.global_pool(name, PoolKind::Max)?,
            LayerType::BatchNorm(norm) => {
                let epsilon = positive("epsilon", norm.epsilon)?;
                if !(0.0..=1.0).contains(&norm.momentum) {
                    return Err(Error::input(format!("`momentum` is {}; it is a share, 0..1", norm.momentum))
                        .hint("Keras's momentum m is 1 - m here"));
                }
                self.norm(name, Op::BatchNorm { epsilon, momentum: norm.momentum as f32 })?;
                self.activation_of(name, norm.activation);
            }
            LayerType::LayerNorm(norm) => {
                let epsilon = positive("epsilon", norm.epsilon)?;
                self.norm(name, Op::LayerNorm { epsilon })?;
                self.activation_of(name, norm.activation);
            }
            LayerType::Dense(dense) => {
                let units = self.units(dense.units, "units")?;
                self.dense(name, units, dense.bias)?;
                self.activation_of(name, dense.activation);
            }
            LayerType::Flatten(flatten) => self.flatten(name, flatten.order)?,
            LayerType::Dropout(dropout) => {
                let rate = share("rate", dropout.rate)?;
                self.push(name, Op::Dropout { rate }, self.shape.clone(), Vec::new());
            }
            LayerType::Activation(layer) => {
                self.push(name, Op::Activation(layer.function), self.shape.clone(), Vec::new());
            }
            LayerType::Embedding(embedding) => {
                let vocabulary = given("vocabulary", embedding.vocabulary)?;
                self.embedding(name, vocabulary, embedding.size)?;
            }
            LayerType::Rnn(layer) => self.recurrent(name, RecurrentKind::Rnn, layer)?,
            LayerType::Lstm(layer) => self.recurrent(name, RecurrentKind::Lstm, layer)?,
            LayerType::Gru(layer) => self.recurrent(name, RecurrentKind::Gru, layer)?,
            LayerType::Pad1d(layer) => self.pad(name, layer)?,
            LayerType::Magnitude(_) => self.magnitude(name)?,
            LayerType::Residual(residual) => self.residual(name, residual)?,
            LayerType::Seq2seq(layer) => self.seq2seq(name, layer)?,
        }
        match values(&self.shape) {
            Some(_) => Ok(()),
            None => Err(Error::input(format!("{} is too large", self.shape.describe()))),
        }
    }

    fn push(&mut self, name: &str, op: Op, output: Shape, parameters: Vec<Parameter>) {
        let input = std::mem::replace(&mut self.shape, output.clone());
        self.nodes.push(Node { name: name.to_owned(), op, input, output, parameters });
    }

    fn activation_of(&mut self, name: &str, activation: Option<Activation>) {
        if let Some(function) = activation {
            let shape = self.shape.clone();
            self.push(&format!("{name}.{}", function.name()), Op::Activation(function), shape, Vec::new());
        }
    }

    fn units(&self, units: Units, option: &str) -> Result<usize> {
        match units {
            Units::Count(count) => extent(option, count),
            Units::Classes => Ok(self.outputs),
        }
    }

    /// The picture a window slides over; a series is a picture of one row.
    fn picture(&self, axes: usize) -> Result<[usize; 3]> {
        match (axes, &self.shape) {
            (2, &Shape::Image { height, width, channels }) => Ok([height, width, channels]),
            (1, &Shape::Series { time, features }) => Ok([1, time, features]),
            (2, other) => Err(Error::input(format!("takes pictures; {} reaches it", other.describe()))
                .hint("for series use conv1d, max_pool1d and the like; for plain values the model `mlp`")),
            (_, other) => Err(Error::input(format!("takes series; {} reaches it", other.describe()))
                .hint("for pictures use conv2d, max_pool2d and the like; for tokens put an embedding first")),
        }
    }

    fn convolution(
        &mut self,
        name: &str,
        window: &Window<'_>,
        filters: usize,
        groups: usize,
        has_bias: bool,
    ) -> Result<()> {
        let [height, width, channels] = self.picture(window.axes)?;
        let groups = extent("groups", groups)?;
        if !channels.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
            return Err(Error::input(format!(
                "{groups} groups do not divide the {channels} channels that go in and the {filters} that come out"
            )));
        }
        let (padding, [out_height, out_width]) = window.slide([height, width])?;
        let [rows, columns] = window.kernel;
        let inputs = channels / groups;
        // What overflows here is refused with the parameter below.
        let taps = rows.saturating_mul(columns);
        let shape = match window.axes {
            1 => vec![filters, inputs, columns],
            _ => vec![filters, inputs, rows, columns],
        };
        let init = self.weight_init(inputs.saturating_mul(taps), (filters / groups).saturating_mul(taps));
        let mut parameters = vec![parameter(name, "weight", shape, Role::ConvolutionWeight, init)?];
        if has_bias {
            parameters.push(parameter(name, "bias", vec![filters], Role::Bias, Init::Zeros)?);
        }
        let op = Op::Convolution {
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            padding,
            groups,
        };
        self.push(name, op, picture_shape(window.axes, out_height, out_width, filters), parameters);
        Ok(())
    }

    fn pool(&mut self, name: &str, kind: PoolKind, window: &Window<'_>) -> Result<()> {
        let [height, width, channels] = self.picture(window.axes)?;
        let (padding, [out_height, out_width]) = window.slide([height, width])?;
        let [top, bottom, left, right] = padding;
        if top.max(bottom) >= window.kernel[0] || left.max(right) >= window.kernel[1] {
            return Err(Error::input(format!(
                "padding {padding:?} is as wide as the window {:?}, so a window would hold nothing",
                window.kernel
            )));
        }
        let op = Op::Pool { kind, kernel: window.kernel, stride: window.stride, padding };
        self.push(name, op, picture_shape(window.axes, out_height, out_width, channels), Vec::new());
        Ok(())
    }

    fn global_pool(&mut self, name: &str, kind: PoolKind) -> Result<()> {
        let [height, width, channels] = match self.shape {
            Shape::Image { height, width, channels } => [height, width, channels],
            Shape::Series { time, features } => [1, time, features],
            ref other => {
                return Err(Error::input(format!("takes pictures or series; {} reaches it", other.describe())));
            }
        };
        let op = Op::Pool { kind, kernel: [height, width], stride: [height, width], padding: [0; 4] };
        self.push(name, op, Shape::Vector { features: channels }, Vec::new());
        Ok(())
    }

    fn norm(&mut self, name: &str, op: Op) -> Result<()> {
        self.refuse_tokens()?;
        self.refuse_flattened("a norm")?;
        let shape = vec![self.shape.features()];
        let mut parameters = vec![
            parameter(name, "weight", shape.clone(), Role::Scale, Init::Ones)?,
            parameter(name, "bias", shape.clone(), Role::Shift, Init::Zeros)?,
        ];
        if matches!(op, Op::BatchNorm { .. }) {
            let statistics =
                [("running_mean", Role::RunningMean, Init::Zeros), ("running_var", Role::RunningVariance, Init::Ones)];
            for (own, role, init) in statistics {
                let running = parameter(name, own, shape.clone(), role, init)?;
                parameters.push(Parameter { is_trained: false, ..running });
            }
        }
        self.push(name, op, self.shape.clone(), parameters);
        Ok(())
    }

    fn dense(&mut self, name: &str, units: usize, has_bias: bool) -> Result<()> {
        let (inputs, output) = match self.shape {
            Shape::Vector { features } => (features, Shape::Vector { features: units }),
            Shape::Series { time, features } => (features, Shape::Series { time, features: units }),
            ref other => {
                return Err(Error::input(format!("takes plain values or series; {} reaches it", other.describe())).hint(
                    "put { type = \"flatten\" } or { type = \"global_avg_pool\" } before it, for tokens an embedding",
                ));
            }
        };
        let role = Role::DenseWeight { flattened: self.flattened.take() };
        let mut parameters =
            vec![parameter(name, "weight", vec![units, inputs], role, self.weight_init(inputs, units))?];
        if has_bias {
            parameters.push(parameter(name, "bias", vec![units], Role::Bias, Init::Zeros)?);
        }
        self.push(name, Op::Dense, output, parameters);
        Ok(())
    }

    fn flatten(&mut self, name: &str, order: Option<FlattenOrder>) -> Result<()> {
        self.refuse_tokens()?;
        let (picture, default) = match self.shape {
            Shape::Image { height, width, channels } => ([height, width, channels], FlattenOrder::ChannelsFirst),
            Shape::Series { time, features } => ([1, time, features], FlattenOrder::ChannelsLast),
            ref other => ([1, 1, other.len()], FlattenOrder::ChannelsLast),
        };
        let order = order.unwrap_or(default);
        let [height, width, channels] = picture;
        // With one channel or one place both orders are the same.
        if order == FlattenOrder::ChannelsFirst && channels > 1 && height * width > 1 {
            self.flattened = Some(picture);
        }
        let features = values(&self.shape).ok_or_else(|| Error::input("the sample is too large"))?;
        self.push(name, Op::Flatten { order }, Shape::Vector { features }, Vec::new());
        Ok(())
    }

    fn embedding(&mut self, name: &str, vocabulary: usize, size: usize) -> Result<()> {
        let Shape::Tokens { time } = self.shape else {
            return Err(Error::input(format!("takes tokens; {} reaches it", self.shape.describe())));
        };
        let (vocabulary, size) = (extent("vocabulary", vocabulary)?, extent("size", size)?);
        let table = parameter(name, "weight", vec![vocabulary, size], Role::Table, Init::Uniform { bound: 0.05 })?;
        self.push(name, Op::Embedding { vocabulary }, Shape::Series { time, features: size }, vec![table]);
        Ok(())
    }

    fn recurrent(&mut self, name: &str, kind: RecurrentKind, layer: &RecurrentStack) -> Result<()> {
        let hidden = extent("hidden", layer.hidden)?;
        let layers = extent("layers", layer.layers)?;
        let dropout = share("dropout", layer.dropout)?;
        match self.shape {
            Shape::Series { .. } => {}
            // The rows of a picture are steps; nothing moves in memory.
            Shape::Image { height, width, channels } => {
                self.shape = Shape::Series { time: height, features: width * channels };
            }
            ref other => {
                return Err(Error::input(format!("takes series; {} reaches it", other.describe()))
                    .hint("for tokens put an embedding first; for plain values use the model `mlp`"));
            }
        }
        let (direction, ends) = match layer.bidirectional {
            true => (Direction::Both, 2),
            false => (Direction::Forward, 1),
        };
        for level in 0..layers {
            let Shape::Series { time, features } = self.shape else {
                return Err(Error::input("only the last of stacked layers returns the last state"));
            };
            let own = if layers == 1 { name.to_owned() } else { format!("{name}.l{level}") };
            let returns_sequence = layer.return_sequences || level + 1 < layers;
            let mut parameters = Vec::with_capacity(4 * ends);
            for suffix in ["", "_reverse"].iter().take(ends) {
                parameters.extend(recurrent_parameters(name, &format!("l{level}{suffix}"), kind, features, hidden)?);
            }
            let output = match returns_sequence {
                true => Shape::Series { time, features: ends * hidden },
                false => Shape::Vector { features: ends * hidden },
            };
            self.push(&own, Op::Recurrent { kind, hidden, direction, returns_sequence }, output, parameters);
            if dropout > 0.0 && level + 1 < layers {
                self.push(
                    &format!("{name}.dropout{level}"),
                    Op::Dropout { rate: dropout },
                    self.shape.clone(),
                    Vec::new(),
                );
            }
        }
        Ok(())
    }

    fn residual(&mut self, name: &str, residual: &Residual) -> Result<()> {
        self.refuse_tokens()?;
        self.refuse_flattened("a residual block")?;
        if residual.body.is_empty() {
            return Err(Error::input("`body` holds no layers"));
        }
        let branch = |layers: &[Layer]| {
            let mut builder = Self {
                init: self.init,
                outputs: self.outputs,
                shape: self.shape.clone(),
                flattened: None,
                nodes: Vec::new(),
            };
            for layer in layers {
                builder.add(layer)?;
            }
            builder.refuse_flattened("the end of a residual block")?;
            Ok::<_, Error>((builder.nodes, builder.shape))
        };
        let (body, output) = branch(&residual.body)?;
        let (shortcut, other) = branch(&residual.shortcut)?;
        if output != other {
            return Err(Error::input(format!(
                "its body gives {}, its shortcut {}: they cannot be added",
                output.describe(),
                other.describe()
            ))
            .hint("a shortcut with a conv2d of kernel 1 and the body's stride and filters makes them equal"));
        }
        self.push(name, Op::Residual { body, shortcut }, output, Vec::new());
        self.activation_of(name, residual.activation);
        Ok(())
    }

    fn weight_init(&self, fan_in: usize, fan_out: usize) -> Init {
        match self.init {
            Initialization::Glorot => Init::GlorotUniform { fan_in, fan_out },
            Initialization::He => Init::HeNormal { fan_in },
        }
    }

    fn refuse_tokens(&self) -> Result<()> {
        match self.shape {
            Shape::Tokens { .. } => Err(Error::input("tokens reach it").hint("put an embedding first")),
            _ => Ok(()),
        }
    }

    /// Only a dense layer knows how to take values whose stored order is another than the one in memory.
    fn refuse_flattened(&self, place: &str) -> Result<()> {
        match self.flattened {
            None => Ok(()),
            Some([height, width, channels]) => Err(Error::input(format!(
                "a picture of {height} x {width} x {channels} flattened with its channels first reaches {place}; only \
                 a dense layer takes it, with dropout and activations between"
            ))
            .hint("flatten with order = \"channels_last\", or put the layer before the flatten")),
        }
    }
}

fn picture_shape(axes: usize, height: usize, width: usize, channels: usize) -> Shape {
    match axes {
        1 => Shape::Series { time: width, features: channels },
        _ => Shape::Image { height, width, channels },
    }
}

/// The four parameters of one direction, as PyTorch names them.
fn recurrent_parameters(
    name: &str,
    suffix: &str,
    kind: RecurrentKind,
    inputs: usize,
    hidden: usize,
) -> Result<[Parameter; 4]> {
    let gates = kind.gates();
    let rows = gates * hidden;
    let bias = match kind {
        RecurrentKind::Lstm => Init::ForgetOnes { hidden },
        _ => Init::Zeros,
    };
    let of = |own: &str, shape, role, init| parameter(name, &format!("{own}_{suffix}"), shape, role, init);
    Ok([
        of(
            "weight_ih",
            vec![rows, inputs],
            Role::RecurrentInput,
            Init::GlorotUniform { fan_in: inputs, fan_out: rows },
        )?,
        of("weight_hh", vec![rows, hidden], Role::RecurrentHidden, Init::Orthogonal)?,
        of("bias_ih", vec![rows], Role::RecurrentInputBias, bias)?,
        of("bias_hh", vec![rows], Role::RecurrentHiddenBias, Init::Zeros)?,
    ])
}

/// A trained parameter, if its size is one a machine can hold.
fn parameter(module: &str, own: &str, shape: Vec<usize>, role: Role, init: Init) -> Result<Parameter> {
    match count(&shape) {
        Some(_) => Ok(Parameter { name: format!("{module}.{own}"), shape, role, init, is_trained: true }),
        None => Err(Error::input(format!("`{own}` of shape {shape:?} is too large"))),
    }
}

/// An option that data of tokens give where the user does not.
fn given<T>(option: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| {
        Error::input(format!("option `{option}` is missing")).hint("data of tokens give it; here it must be said")
    })
}

/// An option that is an extent.
fn extent(option: &str, value: usize) -> Result<usize> {
    match value {
        0 => Err(Error::input(format!("`{option}` is 0; it is at least 1"))),
        1..=MAX_EXTENT => Ok(value),
        _ => Err(Error::input(format!("`{option}` is {value}; it is at most {MAX_EXTENT}"))),
    }
}

/// An option that is a share below one.
fn share(option: &str, value: f64) -> Result<f32> {
    match (0.0..1.0).contains(&value) && (value as f32) < 1.0 {
        true => Ok(value as f32),
        false => Err(Error::input(format!("`{option}` is {value}; it is at least 0 and less than 1"))),
    }
}

/// An option that is a small positive number.
fn positive(option: &str, value: f64) -> Result<f32> {
    let narrow = value as f32;
    match narrow.is_finite() && narrow > 0.0 {
        true => Ok(narrow),
        false => Err(Error::input(format!("`{option}` is {value}; it is more than 0"))),
    }
}

/// Values of a sample, if a machine can hold them.
fn values(shape: &Shape) -> Option<usize> {
    match *shape {
        Shape::Image { height, width, channels } => count(&[height, width, channels]),
        Shape::Series { time, features } => count(&[time, features]),
        Shape::Vector { features } => count(&[features]),
        Shape::Tokens { time } => count(&[time]),
    }
}

fn count(extents: &[usize]) -> Option<usize> {
    let all = extents.iter().try_fold(1_u128, |all, &extent| all.checked_mul(extent as u128))?;
    (all <= MAX_VALUES).then(|| usize::try_from(all).ok())?
}

#[cfg(test)]
mod tests;
