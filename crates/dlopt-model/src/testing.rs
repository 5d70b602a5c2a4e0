//! Networks for tests of what becomes of them: small, with weights that no layer starts with.

use std::sync::Arc;

use dlopt_kernels::nn::Team;
use dlopt_prune::{Group, Member};

use crate::config::ModelConfig;
use crate::description::{Answers, Description, Tokens};
use crate::init::initial_values;
use crate::layout::{FlatLayout, NamedTensor};
use crate::network::{DecoderInputs, Mode, Network};
use crate::plan::Shape;
use crate::presets::Preset;
use crate::weights::Loaded;

/// A network with weights and statistics that no layer starts with.
pub(crate) fn network(description: &Description, input: Shape, outputs: usize, is_per_step: bool) -> Loaded {
    let mut config = ModelConfig::new(description, input, outputs, Vec::new()).unwrap();
    config.is_per_step = is_per_step;
    let nodes = config.resolve().unwrap();
    let layout = FlatLayout::of(&nodes);
    let (mut params, mut buffers) = initial_values(&nodes, &layout, 3).unwrap();
    params.iter_mut().enumerate().for_each(|(i, value)| *value += 0.05 * (i as f32 * 0.7).sin());
    buffers.iter_mut().enumerate().for_each(|(i, value)| *value += 0.3 * (i as f32 * 0.9).sin());
    Loaded { config, nodes, layout, params, buffers }
}

/// A preset for data that are small.
pub(crate) fn preset(name: &str) -> Loaded {
    let description = Preset::named(name).unwrap().description();
    let tokens = Tokens { vocabulary: Some(13), answers: Some(Answers { steps: 6, start: 0, end: 1 }) };
    let input = match name {
        "cnn" | "resnet20" | "mobilenet" => Shape::Image { height: 11, width: 12, channels: 3 },
        "lenet5" => Shape::Image { height: 28, width: 28, channels: 1 },
        "textcnn" | "textgru" | "charlstm" | "seq2seq" => Shape::Tokens { time: 7 },
        _ => Shape::Series { time: 6, features: 5 },
    };
    let is_per_step = matches!(name, "seq2seq" | "charlstm");
    network(&description.with_tokens(&tokens), input, 9, is_per_step)
}

pub(crate) fn described(layers: &str, input: Shape) -> Loaded {
    network(&Description::from_toml(&format!("layers = [{layers}]")).unwrap(), input, 4, false)
}

/// What a network puts out for three samples, two of them shorter where samples are series.
pub(crate) fn outputs(own: &Loaded) -> Vec<f32> {
    let mut network = Network::new(&own.nodes, &own.layout, &[], Arc::new(Team::new(2)));
    network.load(&own.params, false);
    let len = own.config.input.len();
    let inputs: Vec<f32> = match own.config.input {
        Shape::Tokens { .. } => (0..3 * len).map(|i| (i * 5 % 13) as f32).collect(),
        _ => (0..3 * len).map(|i| (i as f32 * 0.37).sin()).collect(),
    };
    let lengths = match own.config.input {
        Shape::Tokens { time } | Shape::Series { time, .. } => Some([time as u32, 5, 3]),
        _ => None,
    };
    let tokens: Vec<u32> = (0..3 * 6).map(|i| i * 4 % 9).collect();
    let decoder = Some(DecoderInputs { tokens: &tokens, lengths: &[6, 2, 4] });
    let lengths = lengths.as_ref().map(|lengths| &lengths[..]);
    network.forward_taught(&own.params, &mut own.buffers.clone(), &inputs, lengths, decoder, Mode::Inference)
}

pub(crate) fn assert_close(a: &[f32], b: &[f32], place: &str) {
    assert_eq!(a.len(), b.len(), "{place}");
    // Sums are the same but for zeros, which lie elsewhere in the lanes.
    let far = a.iter().zip(b).fold(0.0_f32, |far, (a, b)| far.max((a - b).abs()));
    let size = a.iter().fold(1.0_f32, |size, a| size.max(a.abs()));
    assert!(far < 1e-5 * size, "{place}: {far} of {size}");
    assert!(a.iter().any(|value| value.abs() > 1e-3), "{place}: nothing comes out");
}

/// Sets the slices of a channel to zero.
pub(crate) fn clear(tensor: &mut NamedTensor, member: &Member, group: &Group, channel: usize) {
    let shape = tensor.shape.clone();
    let (rows, inner): (usize, usize) = (shape[0], shape[member.axis + 1..].iter().product());
    let outer: usize = shape[..member.axis].iter().product();
    for row in 0..outer {
        // Of a grouped convolution only the rows that read the channel's run.
        if member.blocks > 1 && row / (rows / member.blocks) != channel / (group.channels / member.blocks) {
            continue;
        }
        for place in member.of(channel) {
            tensor.values[(row * shape[member.axis] + place) * inner..][..inner].fill(0.0);
        }
    }
}
