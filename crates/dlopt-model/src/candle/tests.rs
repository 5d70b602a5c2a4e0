//! Against PyTorch's values (`fixtures/layers`, with the script that made them) and against the CPU kernels.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlopt_checkpoint::{Checkpoint, Tensors};
use dlopt_kernels::nn::Team;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::description::Description;
use crate::init::initial_values;
use crate::layout::NamedTensor;
use crate::network::Network;
use crate::presets::Preset;
use crate::resolve::{resolve, resolve_open};

/// A golden file: a case, and its tensors as they lie in dlopt's memory.
struct Case {
    nodes: Vec<Node>,
    layout: FlatLayout,
    mode: Mode,
    lengths: Option<Vec<u32>>,
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
}

fn golden_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layers");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .filter(|path| Checkpoint::open(path).unwrap().header.metadata.contains_key("case"))
        .collect();
    files.sort();
    files
}

impl Case {
    fn read(path: &Path) -> Self {
        let checkpoint = Checkpoint::open(path).unwrap();
        let case: serde_json::Value = serde_json::from_str(&checkpoint.header.metadata["case"]).unwrap();
        let description = Description::from_value(serde_json::json!({ "layers": case["layers"] })).unwrap();
        let input: Shape = serde_json::from_value(case["input"].clone()).unwrap();
        let nodes = resolve_open(&description, &input, 1).unwrap();
        let mut tensors = HashMap::new();
        let mut lengths = None;
        for (index, info) in checkpoint.header.tensors.iter().enumerate() {
            let mut bytes = vec![0; info.bytes() as usize];
            checkpoint.read(index, 0, &mut bytes).unwrap();
            if info.name == "lengths" {
                lengths = Some(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect());
                continue;
            }
            let values: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            tensors.insert(info.name.clone(), (info.shape.clone(), values));
        }
        let mode = if case["mode"] == "training" { Mode::Training { key: 1 } } else { Mode::Inference };
        Self { layout: FlatLayout::of(&nodes), nodes, mode, lengths, tensors }
    }

    /// A tensor of samples; pictures from `[n, c, h, w]`.
    fn samples(&self, name: &str) -> Option<Vec<f32>> {
        let (shape, values) = self.tensors.get(name)?;
        let &[n, c, h, w] = shape.as_slice() else { return Some(values.clone()) };
        let mut out = Vec::with_capacity(values.len());
        for sample in 0..n {
            for place in 0..h * w {
                out.extend((0..c).map(|channel| values[(sample * c + channel) * h * w + place]));
            }
        }
        Some(out)
    }

    fn weights(&self) -> (Vec<f32>, Vec<f32>) {
        self.layout.from_checkpoint(|t| Ok(self.tensors[&format!("parameter.{}", t.name)].1.clone())).unwrap()
    }
}

/// The largest difference over the largest wanted value.
fn distance(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let largest = wanted.iter().fold(1e-3_f32, |most, value| most.max(value.abs()));
    let far =
        found.iter().zip(wanted).fold(0.0_f32, |most, (a, b)| if (a - b).abs() <= most { most } else { (a - b).abs() });
    far / largest
}

#[test]
fn every_layer_gives_pytorchs_values_and_gradients() {
    // PyTorch's are of double precision; sums of a few dozen f32 products differ by less.
    const TOLERANCE: f32 = 1e-5;
    let files = golden_files();
    assert!(files.len() > 60, "found {}", files.len());
    for path in files {
        let case = Case::read(&path);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let close = |what: &str, found: &[f32], wanted: &[f32]| {
            let far = distance(found, wanted);
            assert!(far < TOLERANCE, "{name}: {what} is {far} away");
        };
        let (weights, mut buffers) = case.weights();
        let mut network = CandleNetwork::new(&case.nodes, &case.layout, &[], Device::Cpu).unwrap();
        network.load(&weights).unwrap();
        let input = case.samples("input").unwrap();
        let output = network.forward(&mut buffers, &input, case.lengths.as_deref(), case.mode).unwrap();
        close("output", &output, &case.samples("output").unwrap());
        if case.mode == Mode::Inference {
            continue;
        }
        for NamedTensor { name, values, .. } in case.layout.buffers_to_checkpoint(&buffers) {
            close(&name, &values, &case.tensors[&format!("after.{name}")].1);
        }
        let mut gradients = vec![0.0; case.layout.params_len];
        let upstream = case.samples("upstream").unwrap();
        let of_input = network.backward(&upstream, &mut gradients, true).unwrap();
        for NamedTensor { name, values, .. } in case.layout.params_to_checkpoint(&gradients) {
            let wanted = &case.tensors[&format!("gradient.{name}")].1;
            // Two biases that are kept as one have one gradient, written as the first one's.
            let from = if name.contains(".bias_hh") { values.iter().position(|v| *v != 0.0) } else { Some(0) };
            if let Some(from) = from {
                close(&name, &values[from..], &wanted[from..]);
            }
        }
        if let Some(wanted) = case.samples("gradient.input") {
            close("gradient of the input", &of_input.unwrap(), &wanted);
        }
    }
}

/// Both implementations on the same batch: outputs, running statistics, gradients.
fn compare(nodes: &[Node], samples: usize, lengths: Option<&[u32]>, tolerance: f32) {
    let layout = FlatLayout::of(nodes);
    let (weights, buffers) = initial_values(nodes, &layout, 5).unwrap();
    let mut draws = ChaCha8Rng::seed_from_u64(9);
    let mut values = |count: usize| -> Vec<f32> { (0..count).map(|_| draws.random::<f32>() * 2.0 - 1.0).collect() };
    let input = values(samples * nodes[0].input.len());
    let upstream = values(samples * nodes[nodes.len() - 1].output.len());
    let mode = Mode::Training { key: 3 };

    let mut reference = CandleNetwork::new(nodes, &layout, &[], Device::Cpu).unwrap();
    reference.load(&weights).unwrap();
    let mut wanted_buffers = buffers.clone();
    let wanted = reference.forward(&mut wanted_buffers, &input, lengths, mode).unwrap();
    let mut wanted_gradients = vec![0.0; layout.params_len];
    let wanted_input = reference.backward(&upstream, &mut wanted_gradients, true).unwrap().unwrap();

    let mut network = Network::new(nodes, &layout, &[], Arc::new(Team::new(2)));
    network.load(&weights, true);
    let mut found_buffers = buffers;
    let found = network.forward(&weights, &mut found_buffers, &input, lengths, mode);
    let mut gradients = vec![0.0; layout.params_len];
    let found_input = network.backward(&weights, upstream, &mut gradients, true).unwrap();

    assert!(distance(&found, &wanted) < tolerance, "outputs are {} away", distance(&found, &wanted));
    assert!(distance(&found_buffers, &wanted_buffers) < tolerance);
    for tensor in layout.tensors().iter().filter(|t| t.is_trained) {
        let far = distance(&gradients[tensor.range.clone()], &wanted_gradients[tensor.range.clone()]);
        assert!(far < tolerance, "the gradient of {} is {far} away", tensor.name);
    }
    let far = distance(&found_input, &wanted_input);
    assert!(far < tolerance, "the gradient of the input is {far} away");
}

#[test]
fn presets_agree_with_the_kernels() {
    let image = |height, width, channels| Shape::Image { height, width, channels };
    let cases = [
        ("cnn", image(13, 15, 1), 11),
        ("cnn", image(28, 28, 3), 3),
        ("lenet5", image(16, 17, 1), 9),
        ("lenet300", image(5, 7, 2), 11),
        ("mlp", Shape::Vector { features: 13 }, 17),
        ("linear", image(5, 7, 2), 11),
        ("lstm", Shape::Series { time: 5, features: 7 }, 9),
        ("gru", image(6, 5, 2), 9),
        ("resnet20", image(12, 11, 3), 9),
        ("mobilenet", image(11, 12, 1), 9),
    ];
    for (name, input, samples) in cases {
        println!("{name}");
        let preset = Preset::named(name).unwrap();
        let nodes = resolve(&preset.description(), &input, 5).unwrap();
        let is_deep = nodes.len() > 20;
        // A value at the kink of a ReLU may fall to either side, and a deep network's gradients feel one.
        compare(&nodes, samples, None, if is_deep { 0.1 } else { 2e-5 });
        if is_deep {
            let smooth = Description::from_toml(&preset.text.replace("\"relu\"", "\"silu\"")).unwrap();
            // Norms over some hundred values multiply what rounding leaves, layer by layer.
            compare(&resolve(&smooth, &input, 5).unwrap(), samples, None, 5e-4);
        }
    }
}

#[test]
fn series_of_uneven_lengths_agree_with_the_kernels() {
    for cell in ["rnn", "lstm", "gru"] {
        let text = format!(
            "layers = [{{ type = \"{cell}\", hidden = 5, layers = 2, bidirectional = true, return_sequences = true }},
             {{ type = \"layer_norm\", activation = \"gelu\" }}, {{ type = \"{cell}\", hidden = 3 }},
             {{ type = \"dense\", units = \"classes\" }}]"
        );
        let nodes =
            resolve(&Description::from_toml(&text).unwrap(), &Shape::Series { time: 7, features: 3 }, 4).unwrap();
        compare(&nodes, 5, Some(&[7, 1, 4, 6, 2]), 2e-5);
    }
}

#[test]
fn windows_shorten_series_for_the_kernels_as_well() {
    let text = "layers = [{ type = \"conv1d\", filters = 4, kernel = 2, activation = \"tanh\" },
         { type = \"residual\", body = [{ type = \"conv1d\", filters = 4, kernel = 3, padding = 1 }] },
         { type = \"gru\", hidden = 3, return_sequences = true }, { type = \"avg_pool1d\", size = 2 },
         { type = \"lstm\", hidden = 5, bidirectional = true }, { type = \"dense\", units = \"classes\" }]";
    let nodes = resolve(&Description::from_toml(text).unwrap(), &Shape::Series { time: 9, features: 3 }, 4).unwrap();
    compare(&nodes, 5, Some(&[9, 1, 4, 6, 2]), 2e-5);
}

#[test]
fn the_first_of_equal_values_gets_the_gradient() {
    let text = "layers = [{ type = \"max_pool2d\", size = 2 }]";
    let nodes =
        resolve_open(&Description::from_toml(text).unwrap(), &Shape::Image { height: 2, width: 2, channels: 1 }, 1)
            .unwrap();
    let mut network = CandleNetwork::new(&nodes, &FlatLayout::of(&nodes), &[], Device::Cpu).unwrap();
    for (input, wanted) in [([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]), ([2.0, 5.0, 5.0, 5.0], [0.0, 1.0, 0.0, 0.0])]
    {
        network.forward(&mut [], &input, None, Mode::Training { key: 0 }).unwrap();
        assert_eq!(network.backward(&[1.0], &mut [], true).unwrap().unwrap(), wanted);
    }
}

#[test]
fn dropout_scales_what_it_keeps_and_frozen_layers_get_no_gradient() {
    let text = "layers = [{ type = \"dense\", units = 3 }, { type = \"dropout\", rate = 0.4 }, { type = \"dense\", units = 2 }]";
    let nodes = resolve(&Description::from_toml(text).unwrap(), &Shape::Vector { features: 4 }, 2).unwrap();
    let layout = FlatLayout::of(&nodes);
    let (weights, _) = initial_values(&nodes, &layout, 1).unwrap();
    let mut network = CandleNetwork::new(&nodes, &layout, &[true, false, false], Device::Cpu).unwrap();
    network.load(&weights).unwrap();
    let input = vec![1.0; 400];
    let first = network.forward(&mut [], &input, None, Mode::Training { key: 1 }).unwrap();
    assert_eq!(first, network.forward(&mut [], &input, None, Mode::Training { key: 1 }).unwrap());
    assert_ne!(first, network.forward(&mut [], &input, None, Mode::Training { key: 2 }).unwrap());
    let mut gradients = vec![0.0; layout.params_len];
    network.backward(&[1.0; 200], &mut gradients, false).unwrap();
    let frozen = layout.nodes[0].trained.iter().map(|r| r.end).max().unwrap();
    assert!(gradients[..frozen].iter().all(|g| *g == 0.0));
    assert!(gradients[frozen..].iter().any(|g| *g != 0.0));
}

#[test]
fn devices_that_are_not_there_are_refused() {
    assert!(device("cpu").is_ok());
    assert!(device("tpu").unwrap_err().message().contains("no device `tpu`"));
    assert!(device("cuda:x").is_err());
    if !cfg!(feature = "cuda") {
        let error = device("cuda").unwrap_err();
        assert!(error.message().contains("built without"), "{error}");
        assert_eq!(error.what_to_try(), Some("cargo build --release --features cuda"));
    }
}

#[test]
fn tokens_outside_the_table_are_refused() {
    let text = "layers = [{ type = \"embedding\", vocabulary = 5, size = 2 }]";
    let nodes = resolve_open(&Description::from_toml(text).unwrap(), &Shape::Tokens { time: 2 }, 1).unwrap();
    let mut network = CandleNetwork::new(&nodes, &FlatLayout::of(&nodes), &[], Device::Cpu).unwrap();
    for bad in [5.0, -1.0, f32::NAN] {
        let error = network.forward(&mut [], &[4.0, bad], None, Mode::Inference).unwrap_err();
        assert!(error.message().contains("layer `embedding`: token"), "{error}");
    }
}

#[test]
fn an_encoder_and_decoder_is_refused() {
    use crate::description::{Answers, Tokens};
    let tokens = Tokens { vocabulary: Some(8), answers: Some(Answers { steps: 4, start: 1, end: 2 }) };
    let description = Preset::named("seq2seq").unwrap().description().with_tokens(&tokens);
    let nodes = resolve_open(&description, &Shape::Tokens { time: 3 }, 8).unwrap();
    let layout = FlatLayout::of(&nodes);
    let error = CandleNetwork::new(&nodes, &layout, &[false], Device::Cpu).err().unwrap();
    assert!(error.message().contains("layer `seq2seq`: an encoder and decoder runs on the CPU alone"), "{error}");
}
