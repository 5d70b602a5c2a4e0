//! What a network is and costs, before its first step: layers, shapes, parameters, multiply-adds, memory.

use std::fmt::Write;

use dlopt_checkpoint::{Error, Result};
use serde::Serialize;

use crate::config::ModelConfig;
use crate::plan::{Activation, Direction, Node, Op, PadKind, PoolKind, RecurrentKind, Role, Shape};

/// Bytes of an `f32`.
const VALUE_BYTES: u64 = 4;

/// The facts of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// What it is, if its description says.
    pub about: Option<String>,
    /// A sample that goes in.
    pub input: String,
    /// Its layers; activations are part of the layer before them.
    pub layers: Vec<LayerSummary>,
    /// Trained values.
    pub parameters: u64,
    /// Running statistics.
    pub running_statistics: u64,
    /// Multiply-adds of products, forward, for one sample.
    pub multiply_adds: u64,
    /// Samples in a batch.
    pub batch: usize,
    /// Weights and running statistics.
    pub weight_bytes: u64,
    /// Gradients of the weights.
    pub gradient_bytes: u64,
    /// What the optimiser keeps for each weight.
    pub optimizer_bytes: u64,
    /// What a batch leaves behind for the way back, about.
    pub activation_bytes: u64,
}

/// One line of a summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerSummary {
    /// Its name in the checkpoint.
    pub name: String,
    /// What it is, with what matters of its options.
    pub what: String,
    /// What comes out for a sample.
    pub output: String,
    /// Trained values.
    pub parameters: u64,
    /// Multiply-adds for a sample.
    pub multiply_adds: u64,
    /// Residual blocks it lies in.
    pub depth: usize,
}

impl Summary {
    /// The facts of a plan, trained in batches of `batch` with `moments` values kept for each weight (Adam: 2).
    ///
    /// # Errors
    /// When `batch` is 0.
    pub fn of(config: &ModelConfig, nodes: &[Node], batch: usize, moments: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::usage("a batch of 0 samples").hint("--batch 32"));
        }
        let mut layers = Vec::new();
        add_lines(nodes, 0, &mut layers);
        let parameters = crate::plan::parameters(nodes);
        let count = |is_trained: bool| -> u64 {
            parameters.iter().filter(|p| p.is_trained == is_trained).map(|p| p.len() as u64).sum()
        };
        let (trained, running) = (count(true), count(false));
        let input = nodes.first().map_or(0, |node| node.input.len() as u64);
        let kept = input.saturating_add(kept_values(nodes));
        Ok(Self {
            about: config.description.summary.clone(),
            input: size(&config.input),
            multiply_adds: layers.iter().filter(|l| l.depth == 0).map(|l| l.multiply_adds).sum(),
            layers,
            parameters: trained,
            running_statistics: running,
            batch,
            weight_bytes: VALUE_BYTES * (trained + running),
            gradient_bytes: VALUE_BYTES * trained,
            optimizer_bytes: VALUE_BYTES * trained * moments as u64,
            activation_bytes: kept.saturating_mul(batch as u64).saturating_mul(VALUE_BYTES),
        })
    }

    /// The same for people: a table, then the sums.
    pub fn text(&self) -> String {
        let rows: Vec<[String; 4]> = self
            .layers
            .iter()
            .map(|l| {
                let name = format!("{}{}  {}", "  ".repeat(l.depth), l.name, l.what);
                let or_nothing = |value: u64| if value == 0 { String::new() } else { grouped(value) };
                [name, l.output.clone(), or_nothing(l.parameters), or_nothing(l.multiply_adds)]
            })
            .collect();
        let head = ["layer", "output", "parameters", "multiply-adds"].map(str::to_owned);
        let width =
            |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths = [width(0), width(1), width(2), width(3)];
        let mut text = String::new();
        let mut put = |line: &str| {
            text.push_str(line.trim_end());
            text.push('\n');
        };
        if let Some(about) = &self.about {
            put(about);
        }
        for row in [&head].into_iter().chain(&rows) {
            let [name, output, parameters, adds] = row;
            let [a, b, c, d] = widths;
            put(&format!("{name:<a$}  {output:<b$}  {parameters:>c$}  {adds:>d$}"));
        }
        let mut sums = format!(
            "input {}: {} parameters, {} multiply-adds a sample",
            self.input,
            grouped(self.parameters),
            grouped(self.multiply_adds)
        );
        if self.running_statistics > 0 {
            let _ = write!(sums, ", {} running statistics", grouped(self.running_statistics));
        }
        put(&sums);
        put(&format!(
            "memory: weights {}, gradients {}, optimiser {}, activations of a batch of {} about {}",
            bytes(self.weight_bytes),
            bytes(self.gradient_bytes),
            bytes(self.optimizer_bytes),
            self.batch,
            bytes(self.activation_bytes)
        ));
        text
    }
}

/// Adds a line for each layer; returns the multiply-adds of all of them.
fn add_lines(nodes: &[Node], depth: usize, lines: &mut Vec<LayerSummary>) -> u64 {
    let mut total = 0_u64;
    let mut rest = nodes;
    while let Some((node, behind)) = rest.split_first() {
        rest = behind;
        let mut what = describe(node);
        let mut output = &node.output;
        // `conv1.relu` belongs to `conv1`.
        while let Some((next, behind)) = rest.split_first() {
            let Op::Activation(function) = next.op else { break };
            if next.name != format!("{}.{}", node.name, function.name()) {
                break;
            }
            let _ = write!(what, ", {}", function.name());
            output = &next.output;
            rest = behind;
        }
        let at = lines.len();
        lines.push(LayerSummary {
            name: node.name.clone(),
            what,
            output: size(output),
            parameters: node.parameters.iter().filter(|p| p.is_trained).map(|p| p.len() as u64).sum(),
            multiply_adds: multiply_adds(node),
            depth,
        });
        if let Op::Residual { body, shortcut } = &node.op {
            let inner = add_lines(body, depth + 1, lines).saturating_add(add_lines(shortcut, depth + 1, lines));
            lines[at].multiply_adds = inner;
            lines[at].parameters = lines[at + 1..].iter().filter(|l| l.depth == depth + 1).map(|l| l.parameters).sum();
        }
        total = total.saturating_add(lines[at].multiply_adds);
    }
    total
}

fn describe(node: &Node) -> String {
    let by = |[rows, columns]: [usize; 2]| match node.input {
        Shape::Series { .. } => columns.to_string(),
        _ => format!("{rows} x {columns}"),
    };
    match &node.op {
        Op::Convolution { kernel, stride, groups, .. } => {
            let kind = if *groups > 1 && *groups == node.input.features() { "depthwise" } else { "convolution" };
            let stride = if *stride == [1, 1] { String::new() } else { format!(", stride {}", by(*stride)) };
            format!("{kind} {}{stride}", by(*kernel))
        }
        Op::Pool { kind, kernel, .. } => {
            let kind = match kind {
                PoolKind::Max => "maximum",
                PoolKind::Average => "average",
            };
            match node.output {
                Shape::Vector { .. } => format!("{kind} of all"),
                _ => format!("{kind} of {}", by(*kernel)),
            }
        }
        Op::BatchNorm { .. } => "batch norm".to_owned(),
        Op::LayerNorm { .. } => "layer norm".to_owned(),
        Op::Dense => "dense".to_owned(),
        Op::Flatten { .. } => "flatten".to_owned(),
        Op::Dropout { rate } => format!("dropout {rate}"),
        Op::Activation(Activation::Softmax) => "softmax".to_owned(),
        Op::Activation(function) => function.name().to_owned(),
        Op::Embedding { vocabulary } => format!("embedding of {vocabulary}"),
        Op::Recurrent { kind, direction, .. } => {
            let kind = match kind {
                RecurrentKind::Rnn => "rnn",
                RecurrentKind::Lstm => "lstm",
                RecurrentKind::Gru => "gru",
            };
            if *direction == Direction::Both { format!("{kind}, both ways") } else { kind.to_owned() }
        }
        Op::Seq2seq(plan) => {
            let cell = if plan.kind == RecurrentKind::Lstm { "lstm" } else { "gru" };
            let attention = if plan.has_attention { " with attention" } else { "" };
            format!("{cell} encoder and decoder{attention}, {} tokens to {}", plan.vocabulary, plan.outputs)
        }
        Op::Pad { kind, before, after } => {
            let kind = match kind {
                PadKind::Zeros => "zeros",
                PadKind::Reflect => "reflection",
                PadKind::Edge => "edge",
            };
            format!("{kind}, {before} before and {after} after")
        }
        Op::Magnitude => "magnitude".to_owned(),
        Op::Residual { shortcut, .. } if shortcut.is_empty() => "residual".to_owned(),
        Op::Residual { .. } => "residual, with shortcut".to_owned(),
    }
}

/// Multiply-adds of a node's products for one sample.
pub(crate) fn multiply_adds(node: &Node) -> u64 {
    let weights = |from: usize| -> u64 { node.parameters.iter().skip(from).take(1).map(|p| p.len() as u64).sum() };
    let places = (node.output.len() / node.output.features().max(1)) as u64;
    match &node.op {
        Op::Convolution { .. } | Op::Dense => weights(0).saturating_mul(places),
        Op::Recurrent { .. } => {
            let steps = (node.input.len() / node.input.features().max(1)) as u64;
            let all: u64 = node.parameters.iter().filter(|p| p.shape.len() == 2).map(|p| p.len() as u64).sum();
            all.saturating_mul(steps)
        }
        Op::Seq2seq(plan) => {
            let matrices: Vec<u64> = node
                .parameters
                .iter()
                .filter(|p| p.shape.len() == 2 && p.role != Role::Table)
                .map(|p| p.len() as u64)
                .collect();
            let (encoder, decoder) = matrices.split_at(2);
            let sums = |matrices: &[u64], steps: usize| matrices.iter().sum::<u64>().saturating_mul(steps as u64);
            // Once for the scores, once for what they weigh.
            let looks = match plan.has_attention {
                true => sums(&[2 * plan.hidden as u64], node.input.len()).saturating_mul(plan.steps as u64),
                false => 0,
            };
            sums(encoder, node.input.len()).saturating_add(sums(decoder, plan.steps)).saturating_add(looks)
        }
        _ => 0,
    }
}

/// Values that the way back needs of one sample: what comes out of each layer, but for those that run in passing.
fn kept_values(nodes: &[Node]) -> u64 {
    let mut total = 0_u64;
    let mut rest = nodes;
    while let Some((node, behind)) = rest.split_first() {
        rest = behind;
        let own = match &node.op {
            Op::Flatten { .. } => 0,
            // The gates of every step, the cell and the state.
            Op::Recurrent { kind, hidden, direction, .. } => {
                let steps = node.input.len() / node.input.features().max(1);
                let ways = if *direction == Direction::Both { 2 } else { 1 };
                (steps * hidden * ways * (kind.gates() + 2)) as u64
            }
            Op::Seq2seq(plan) => {
                let step = (plan.embedding + plan.hidden * (plan.kind.gates() + 3)) as u64;
                let steps = (node.input.len() + plan.steps) as u64;
                steps.saturating_mul(step).saturating_add(node.output.len() as u64)
            }
            Op::Residual { body, shortcut } => kept_values(body) + kept_values(shortcut) + node.output.len() as u64,
            _ => node.output.len() as u64,
        };
        let has_relu = rest.first().is_some_and(|n| n.op == Op::Activation(Activation::Relu));
        let small_pool = Op::Pool { kind: PoolKind::Max, kernel: [2, 2], stride: [2, 2], padding: [0; 4] };
        let does_relu = has_relu
            && matches!(node.op, Op::Convolution { .. } | Op::Dense | Op::BatchNorm { .. } | Op::Residual { .. });
        let does_pool =
            does_relu && matches!(node.op, Op::Convolution { .. }) && rest.get(1).is_some_and(|n| n.op == small_pool);
        let own = if does_pool { rest[1].output.len() as u64 } else { own };
        rest = &rest[usize::from(does_relu) + usize::from(does_pool)..];
        total = total.saturating_add(own);
    }
    total
}

fn size(shape: &Shape) -> String {
    match *shape {
        Shape::Image { height, width, channels } => format!("{height} x {width} x {channels}"),
        Shape::Series { time, features } => format!("{time} steps x {features}"),
        Shape::Vector { features } => features.to_string(),
        Shape::Tokens { time } => format!("{time} tokens"),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(value: u64) -> String {
    match value {
        0..10_000 => format!("{value} bytes"),
        10_000..10_000_000 => format!("{:.1} kB", value as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", value as f64 / 1e6),
        _ => format!("{:.1} GB", value as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::Preset;

    fn summary(preset: &str, input: Shape, batch: usize) -> Summary {
        let config = ModelConfig::new(&Preset::named(preset).unwrap().description(), input, 10, Vec::new()).unwrap();
        Summary::of(&config, &config.resolve().unwrap(), batch, 2).unwrap()
    }

    #[test]
    fn the_seed_network_costs_what_it_costs() {
        let summary = summary("cnn", Shape::Image { height: 28, width: 28, channels: 1 }, 32);
        assert_eq!(summary.parameters, 121_930);
        // 26² of 9 x 32, 11² of 9 x 32 x 64, 1600 x 64, 64 x 10.
        assert_eq!(summary.multiply_adds, 676 * 288 + 121 * 18_432 + 102_400 + 640);
        assert_eq!(summary.weight_bytes, 4 * 121_930);
        assert_eq!(summary.optimizer_bytes, 8 * 121_930);
        // The input, what the two pools leave, and the two dense layers.
        assert_eq!(summary.activation_bytes, 4 * 32 * (784 + 13 * 13 * 32 + 5 * 5 * 64 + 64 + 10));
        let text = summary.text();
        let line = |start: &str| {
            text.lines().find(|l| l.starts_with(start)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("conv2"), "conv2 convolution 3 x 3, relu 11 x 11 x 64 18,496 2,230,272");
        assert_eq!(line("fc2"), "fc2 dense 10 650 640");
        assert_eq!(line("pool2"), "pool2 maximum of 2 x 2 5 x 5 x 64");
        assert_eq!(line("input"), "input 28 x 28 x 1: 121,930 parameters, 2,528,000 multiply-adds a sample");
        assert_eq!(
            line("memory"),
            "memory: weights 487.7 kB, gradients 487.7 kB, optimiser 975.4 kB, activations of a batch of 32 about 1006.8 kB"
        );
    }

    #[test]
    fn blocks_sum_their_layers_up() {
        let summary = summary("resnet20", Shape::Image { height: 32, width: 32, channels: 3 }, 1);
        // He et al. give 41 million for 32 x 32, first and last layer and all blocks; projections add little.
        assert!((40_500_000..42_000_000).contains(&summary.multiply_adds), "{}", summary.multiply_adds);
        let of_layers: u64 = summary.layers.iter().filter(|l| l.depth == 0).map(|l| l.parameters).sum();
        assert_eq!((of_layers, summary.parameters), (272_474, 272_474));
        assert_eq!(summary.running_statistics, 2 * (7 * 16 + 7 * 32 + 7 * 64));
    }

    #[test]
    fn recurrent_layers_multiply_every_step() {
        let summary = summary("lstm", Shape::Series { time: 28, features: 28 }, 3);
        assert_eq!(summary.multiply_adds, 28 * 512 * (28 + 128) + 1280);
        assert!(Summary::of(&dense(), &[], 0, 2).is_err());
    }

    #[test]
    fn both_sides_of_a_translation_multiply_their_own_steps() {
        use crate::description::{Answers, Tokens};
        let tokens = Tokens { vocabulary: Some(29), answers: Some(Answers { steps: 20, start: 2, end: 3 }) };
        let description = Preset::named("seq2seq").unwrap().description().with_tokens(&tokens);
        let config = ModelConfig::new(&description, Shape::Tokens { time: 29 }, 74, Vec::new()).unwrap();
        let nodes = crate::resolve::resolve_for(&description, &config.input, 74, true).unwrap();
        let summary = Summary::of(&config, &nodes, 32, 2).unwrap();
        let (gru, attention, output) = (768 * 512, 256 * 512, 256 * 74);
        let looks = 2 * 29 * 20 * 256;
        assert_eq!(summary.multiply_adds, 29 * gru + 20 * (gru + attention + output) + looks);
        let tables = (29 + 74) * 256;
        assert_eq!(summary.parameters, 2 * (gru + 1536) + tables + attention + 256 + output + 74);
        assert!(
            summary.text().contains("gru encoder and decoder with attention, 29 tokens to 74"),
            "{}",
            summary.text()
        );
    }

    fn dense() -> ModelConfig {
        ModelConfig::new(&Preset::named("mlp").unwrap().description(), Shape::Vector { features: 3 }, 2, Vec::new())
            .unwrap()
    }
}
