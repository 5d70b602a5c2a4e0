//! From a description and the shape of a sample to a plan: every size, name and parameter decided.

use std::collections::HashSet;

use dlopt_checkpoint::{Error, Result};

use crate::description::{Description, Initialization, Layer, LayerType, Padding, RecurrentStack, Residual, Units};
use crate::plan::{
    Activation, Direction, FlattenOrder, Init, Node, Op, Parameter, PoolKind, RecurrentKind, Role, Shape,
};

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
    let nodes = resolve_open(description, input, outputs)?;
    match nodes.last().map(|node| &node.output) {
        Some(Shape::Vector { features }) if *features == outputs => Ok(nodes),
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
            LayerType::Embedding(embedding) => self.embedding(name, embedding.vocabulary, embedding.size)?,
            LayerType::Rnn(layer) => self.recurrent(name, RecurrentKind::Rnn, layer)?,
            LayerType::Lstm(layer) => self.recurrent(name, RecurrentKind::Lstm, layer)?,
            LayerType::Gru(layer) => self.recurrent(name, RecurrentKind::Gru, layer)?,
            LayerType::Residual(residual) => self.residual(name, residual)?,
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
        if channels % groups != 0 || filters % groups != 0 {
            return Err(Error::input(format!(
                "{groups} groups do not divide the {channels} channels that go in and the {filters} that come out"
            )));
        }
        let (padding, [out_height, out_width]) = window.slide([height, width])?;
        let [rows, columns] = window.kernel;
        let inputs = channels / groups;
        let taps = rows * columns;
        let shape = match window.axes {
            1 => vec![filters, inputs, columns],
            _ => vec![filters, inputs, rows, columns],
        };
        let init = self.weight_init(inputs * taps, filters / groups * taps);
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

/// A window that slides over a picture.
struct Window<'a> {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: &'a Padding,
    /// 2 for pictures, 1 for series.
    axes: usize,
}

impl Window<'_> {
    /// Zeros at the top, bottom, left, right, and how many windows fit into `size` rows and columns.
    fn slide(&self, size: [usize; 2]) -> Result<([usize; 4], [usize; 2])> {
        for axis in 0..2 {
            extent("kernel", self.kernel[axis])?;
            extent("stride", self.stride[axis])?;
            extent("dilation", self.dilation[axis])?;
        }
        let mut sides = [0; 4];
        match self.padding {
            Padding::Valid => {}
            Padding::Same => {
                for axis in 0..2 {
                    let wanted = size[axis].div_ceil(self.stride[axis]);
                    let covered = (wanted - 1) * self.stride[axis] + self.reach(axis);
                    let zeros = covered.saturating_sub(size[axis]);
                    sides[2 * axis] = zeros / 2;
                    sides[2 * axis + 1] = zeros - zeros / 2;
                }
            }
            Padding::All(cells) => {
                let rows = if self.axes == 2 { *cells } else { 0 };
                sides = [rows, rows, *cells, *cells];
            }
            Padding::Sides(list) => match (self.axes, list.as_slice()) {
                (2, &[top, bottom, left, right]) => sides = [top, bottom, left, right],
                (2, &[rows, columns]) => sides = [rows, rows, columns, columns],
                (1, &[before, after]) => sides = [0, 0, before, after],
                (axes, list) => {
                    let wanted =
                        if axes == 2 { "[rows, columns] or [top, bottom, left, right]" } else { "[before, after]" };
                    return Err(Error::input(format!("`padding` lists {} numbers; it is {wanted}", list.len())));
                }
            },
        }
        if let Some(cells) = sides.iter().find(|cells| **cells > MAX_EXTENT) {
            return Err(Error::input(format!("`padding` of {cells} is too large")));
        }
        let mut fits = [0; 2];
        for axis in 0..2 {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            let padded = size[axis] + sides[2 * axis] + sides[2 * axis + 1];
            let reach = self.reach(axis);
            if reach > padded {
                let way = match (self.axes, axis) {
                    (1, _) => "steps",
                    (_, 0) => "rows",
                    _ => "columns",
                };
                let spread = if reach > kernel { format!(", spread over {reach}") } else { String::new() };
                let zeros =
                    if padded > size[axis] { format!(" with padding, {} without", size[axis]) } else { String::new() };
                return Err(Error::input(format!(
                    "a window of {kernel} {way}{spread} does not fit the {padded} {way} that reach it{zeros}: nothing would come out"
                ))
                .hint("use padding = \"same\", a smaller kernel, or fewer layers that shrink; or larger inputs"));
            }
            fits[axis] = (padded - reach) / stride + 1;
        }
        Ok((sides, fits))
    }

    /// Cells from the first tap to the last.
    fn reach(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel[axis].saturating_sub(1)).saturating_add(1)
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
mod tests {
    use super::*;
    use crate::plan::parameters;
    use crate::presets::{PRESETS, Preset};
    use dlopt_checkpoint::{Dtype, LayerKind, Model, TensorInfo};
    use proptest::prelude::*;

    fn picture(height: usize, width: usize, channels: usize) -> Shape {
        Shape::Image { height, width, channels }
    }

    fn preset(name: &str, input: Shape, outputs: usize) -> Vec<Node> {
        resolve(&Preset::named(name).unwrap().description(), &input, outputs).unwrap()
    }

    fn layers(text: &str, input: Shape, outputs: usize) -> Result<Vec<Node>> {
        resolve(&Description::from_toml(&format!("layers = [{text}]")).unwrap(), &input, outputs)
    }

    fn trained(nodes: &[Node]) -> usize {
        parameters(nodes).iter().filter(|p| p.is_trained).map(|p| p.len()).sum()
    }

    #[test]
    fn the_seed_network_has_its_known_shapes() {
        let nodes = preset("cnn", picture(28, 28, 1), 10);
        let shapes: Vec<(&str, Shape)> = nodes.iter().map(|n| (n.name.as_str(), n.output.clone())).collect();
        let vector = |features| Shape::Vector { features };
        assert_eq!(
            shapes,
            [
                ("conv1", picture(26, 26, 32)),
                ("conv1.relu", picture(26, 26, 32)),
                ("pool1", picture(13, 13, 32)),
                ("conv2", picture(11, 11, 64)),
                ("conv2.relu", picture(11, 11, 64)),
                ("pool2", picture(5, 5, 64)),
                ("flatten", vector(1600)),
                ("fc1", vector(64)),
                ("fc1.relu", vector(64)),
                ("fc2", vector(10)),
            ]
        );
        let names: Vec<(&str, &[usize])> =
            parameters(&nodes).into_iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
        assert_eq!(
            names,
            [
                ("conv1.weight", &[32, 1, 3, 3][..]),
                ("conv1.bias", &[32]),
                ("conv2.weight", &[64, 32, 3, 3]),
                ("conv2.bias", &[64]),
                ("fc1.weight", &[64, 1600]),
                ("fc1.bias", &[64]),
                ("fc2.weight", &[10, 64]),
                ("fc2.bias", &[10]),
            ]
        );
        assert_eq!(trained(&nodes), 121_930);
        assert_eq!(parameters(&nodes)[4].role, Role::DenseWeight { flattened: Some([5, 5, 64]) });
        assert_eq!(parameters(&nodes)[6].role, Role::DenseWeight { flattened: None });
    }

    #[test]
    fn presets_have_the_sizes_of_their_papers() {
        assert_eq!(trained(&preset("lenet5", picture(28, 28, 1), 10)), 61_706);
        assert_eq!(trained(&preset("lenet300", picture(28, 28, 1), 10)), 266_610);
        // 0.27 million, with the three extra tensors of each of two shortcuts: 269,722 + 2,752.
        assert_eq!(trained(&preset("resnet20", picture(32, 32, 3), 10)), 272_474);
        // 4 gates, 28 inputs and 128 states, two biases; 128 to 10.
        assert_eq!(
            trained(&preset("lstm", Shape::Series { time: 28, features: 28 }, 10)),
            4 * 128 * (28 + 128 + 2) + 1290
        );
        assert_eq!(trained(&preset("gru", picture(28, 14, 2), 10)), 3 * 128 * (28 + 128 + 2) + 1290);
        assert_eq!(trained(&preset("mlp", Shape::Vector { features: 13 }, 3)), 13 * 128 + 128 + 128 * 64 + 64 + 195);
        let mobile = preset("mobilenet", picture(28, 28, 1), 10);
        assert_eq!(mobile[mobile.len() - 2].input, picture(7, 7, 256));
        let residual = preset("resnet20", picture(28, 28, 1), 10);
        assert_eq!(residual[residual.len() - 2].input, picture(7, 7, 64));
    }

    #[test]
    fn every_preset_takes_some_kind_of_sample() {
        let samples = [
            picture(28, 28, 1),
            picture(32, 31, 3),
            Shape::Series { time: 29, features: 12 },
            Shape::Vector { features: 4 },
        ];
        for preset in PRESETS {
            let taken = samples.iter().filter(|s| resolve(&preset.description(), s, 3).is_ok()).count();
            assert!(taken >= 1, "{}", preset.name);
            assert!(preset.description().summary.is_some(), "{}", preset.name);
        }
    }

    #[test]
    fn prune_and_quantize_take_layers_for_what_they_are() {
        let kind = |nodes: &[Node], name: &str| {
            let all = parameters(nodes);
            let own = all.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("{name}"));
            Model::default().layer(&TensorInfo::new(name, Dtype::F32, own.shape.clone())).kind
        };
        let cnn = preset("cnn", picture(28, 28, 1), 10);
        assert_eq!(kind(&cnn, "conv1.weight"), LayerKind::Convolution);
        assert_eq!(kind(&cnn, "fc1.weight"), LayerKind::Linear);
        assert_eq!(kind(&cnn, "fc2.weight"), LayerKind::Linear);
        assert_eq!(kind(&cnn, "fc2.bias"), LayerKind::Bias);
        let residual = preset("resnet20", picture(28, 28, 1), 10);
        assert_eq!(kind(&residual, "layer2.0.conv1.weight"), LayerKind::Convolution);
        assert_eq!(kind(&residual, "layer2.0.downsample.0.weight"), LayerKind::Convolution);
        assert_eq!(kind(&residual, "layer2.0.bn1.weight"), LayerKind::Norm);
        assert_eq!(kind(&residual, "layer2.0.bn1.running_var"), LayerKind::Norm);
        assert_eq!(kind(&residual, "fc.weight"), LayerKind::Head);
        let mobile = preset("mobilenet", picture(28, 28, 1), 10);
        assert_eq!(kind(&mobile, "conv2.weight"), LayerKind::Convolution);
        let lstm = preset("lstm", picture(28, 28, 1), 10);
        assert_eq!(kind(&lstm, "lstm.weight_hh_l0"), LayerKind::Recurrent);
        assert_eq!(kind(&lstm, "lstm.bias_ih_l0"), LayerKind::Bias);
        assert_eq!(kind(&lstm, "fc.weight"), LayerKind::Head);
        let text = "{ type = \"embedding\", vocabulary = 9, size = 5 }, { type = \"conv1d\", filters = 3, kernel = 2 }, \
                    { type = \"global_max_pool\" }, { type = \"dense\", units = \"classes\" }";
        let words = layers(text, Shape::Tokens { time: 7 }, 2).unwrap();
        assert_eq!(kind(&words, "embedding.weight"), LayerKind::Embedding);
        assert_eq!(kind(&words, "conv1.weight"), LayerKind::Convolution);
    }

    #[test]
    fn stacked_layers_have_pytorchs_names() {
        let text = "{ type = \"gru\", hidden = 3, layers = 2, bidirectional = true, dropout = 0.2 }, { type = \"dense\", units = \"classes\" }";
        let nodes = layers(text, Shape::Series { time: 5, features: 4 }, 2).unwrap();
        let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["gru.l0", "gru.dropout0", "gru.l1", "fc"]);
        let own: Vec<(&str, &[usize])> =
            nodes[2].parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
        assert_eq!(own[0], ("gru.weight_ih_l1", &[9, 6][..]));
        assert_eq!(own[5], ("gru.weight_hh_l1_reverse", &[9, 3][..]));
        assert_eq!(nodes[0].output, Shape::Series { time: 5, features: 6 });
        assert_eq!(nodes[2].output, Shape::Vector { features: 6 });
    }

    #[test]
    fn same_padding_halves_with_the_odd_cell_behind() {
        let conv = |size: usize, kernel: usize, stride: usize| {
            let text = format!(
                "{{ type = \"conv2d\", filters = 2, kernel = {kernel}, stride = {stride}, padding = \"same\" }}, \
                 {{ type = \"global_avg_pool\" }}"
            );
            let nodes = layers(&text, picture(size, size, 3), 2).unwrap();
            let Op::Convolution { padding, .. } = nodes[0].op else { panic!("not a convolution") };
            (padding, nodes[0].output.clone())
        };
        // Keras: 7 with stride 2 gives 4; 28 with kernel 3 and stride 2 pads one cell, at the end.
        assert_eq!(conv(7, 3, 1), ([1, 1, 1, 1], picture(7, 7, 2)));
        assert_eq!(conv(7, 3, 2), ([1, 1, 1, 1], picture(4, 4, 2)));
        assert_eq!(conv(28, 3, 2), ([0, 1, 0, 1], picture(14, 14, 2)));
        assert_eq!(conv(5, 4, 1), ([1, 2, 1, 2], picture(5, 5, 2)));
        assert_eq!(conv(5, 1, 3), ([0, 0, 0, 0], picture(2, 2, 2)));
    }

    #[test]
    fn shrinking_below_one_names_the_layer_and_the_sizes() {
        let error = resolve(&Preset::named("cnn").unwrap().description(), &picture(8, 8, 1), 10).unwrap_err();
        assert_eq!(
            error.message(),
            "layer `pool2` (max_pool2d): a window of 2 rows does not fit the 1 rows that reach it: nothing would come out"
        );
        let text = "{ type = \"conv1d\", filters = 2, kernel = 3, dilation = 4, padding = [1, 0] }";
        let error = layers(text, Shape::Series { time: 7, features: 2 }, 2).unwrap_err();
        assert_eq!(
            error.message(),
            "layer `conv1` (conv1d): a window of 3 steps, spread over 9 does not fit the 8 steps that reach it with \
             padding, 7 without: nothing would come out"
        );
    }

    #[test]
    fn layers_refuse_what_they_do_not_take() {
        let refused = |text: &str, input: Shape| layers(text, input, 2).unwrap_err().message().to_owned();
        let vector = Shape::Vector { features: 4 };
        assert!(
            refused("{ type = \"conv2d\", filters = 2, kernel = 3 }", vector.clone())
                .contains("takes pictures; 4 plain")
        );
        assert!(
            refused("{ type = \"dense\", units = 2 }", picture(3, 4, 5)).contains("a picture of 3 x 4 x 5 reaches it")
        );
        assert!(refused("{ type = \"lstm\", hidden = 2 }", vector.clone()).contains("takes series"));
        assert!(refused("{ type = \"embedding\", vocabulary = 3, size = 2 }", vector.clone()).contains("takes tokens"));
        assert!(refused("{ type = \"batch_norm\" }", Shape::Tokens { time: 3 }).contains("tokens reach it"));
        assert!(
            refused("{ type = \"dense\", units = 3 }", vector.clone())
                .contains("ends in 3 plain values; the data want 2")
        );
        assert!(refused("{ type = \"dense\", units = 0 }", vector.clone()).contains("`units` is 0"));
        assert!(refused("{ type = \"dense\", units = 99999999999 }", vector.clone()).contains("at most"));
        assert!(refused("{ type = \"dropout\", rate = 1.0 }", vector.clone()).contains("less than 1"));
        assert!(refused("{ type = \"batch_norm\", momentum = 1.5 }", vector.clone()).contains("a share"));
        assert!(refused("{ type = \"batch_norm\", epsilon = 0 }", vector).contains("more than 0"));
        assert!(
            refused("{ type = \"conv2d\", filters = 4, kernel = 1, groups = 3 }", picture(2, 2, 6))
                .contains("3 groups")
        );
        assert!(
            refused("{ type = \"max_pool2d\", size = 2, padding = 2 }", picture(6, 6, 1))
                .contains("as wide as the window")
        );
        let wide = "{ type = \"conv2d\", filters = 16777216, kernel = 16777216, padding = 16777216 }";
        assert!(refused(wide, picture(9, 9, 9)).contains("too large"));
        let uneven = "{ type = \"residual\", body = [{ type = \"conv2d\", filters = 5, kernel = 3 }] }";
        assert!(
            refused(uneven, picture(7, 7, 5))
                .contains("its body gives a picture of 5 x 5 x 5, its shortcut a picture of 7")
        );
        let norm = "{ type = \"flatten\" }, { type = \"batch_norm\" }, { type = \"dense\", units = 2 }";
        assert!(refused(norm, picture(3, 3, 2)).contains("channels first reaches a norm"));
        assert!(
            layers(
                &norm.replace("{ type = \"flatten\" }", "{ type = \"flatten\", order = \"channels_last\" }"),
                picture(3, 3, 2),
                2
            )
            .is_ok()
        );
        assert!(refused("{ type = \"flatten\" }", picture(1, 2, 0)).contains("cannot be a sample"));
        assert!(resolve(&Description::default(), &picture(1, 1, 1), 1).unwrap_err().message().contains("no layers"));
    }

    proptest! {
        #[test]
        fn windows_cover_what_they_say(size in 1_usize..40, kernel in 1_usize..7, stride in 1_usize..5, dilation in 1_usize..4, before in 0_usize..4, after in 0_usize..4) {
            let padding = Padding::Sides(vec![before, after]);
            let window = Window { kernel: [1, kernel], stride: [1, stride], dilation: [1, dilation], padding: &padding, axes: 1 };
            let reach = dilation * (kernel - 1) + 1;
            match window.slide([1, size]) {
                Ok((_, [1, fits])) => {
                    prop_assert!((fits - 1) * stride + reach <= size + before + after);
                    prop_assert!(fits * stride + reach > size + before + after);
                }
                Ok(other) => prop_assert!(false, "{other:?}"),
                Err(_) => prop_assert!(reach > size + before + after),
            }
        }

        #[test]
        fn any_sample_is_resolved_or_refused(height in 0_usize..40, width in 0_usize..40, channels in 0_usize..5, outputs in 1_usize..9) {
            for preset in PRESETS {
                for input in [picture(height, width, channels), Shape::Series { time: height, features: width }, Shape::Vector { features: width }, Shape::Tokens { time: height }] {
                    if let Ok(nodes) = resolve(&preset.description(), &input, outputs) {
                        prop_assert_eq!(&nodes[nodes.len() - 1].output, &Shape::Vector { features: outputs });
                    }
                }
            }
        }
    }
}
